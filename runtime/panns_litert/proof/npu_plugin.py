"""LiteRT's compiler plugins: compile a .tflite ahead of time, and say what they took and what they refused.

The command of LiteRT's wheel is run directly, because its Python wrapper (`ai_edge_litert.aot`) drops the log of a
compilation that succeeds, and only the log has the reasons of a refusal.
"""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panns_litert.engine import read_model
from panns_litert.errors import NpuError
from panns_litert.proof.npu_targets import QUALCOMM, NpuTarget, VendorParts
from panns_litert.strict import printable

NO_REASON = "the plugin gives no reason"
_DISPATCH = b"DISPATCH_OP"

_PARTITIONED = re.compile(
    r"Partitioned subgraph<\d+>, selected (\d+) ops, from a total of (\d+) ops\. resulted in (\d+) partitions"
)
_UNLOADED = re.compile(r"Could not load shared library \S+: (.*)")
_API = re.compile(r"Qnn library version (\S+) is used\. The version LiteRT using is (\S+)\.")
# Qualcomm: what QNN's validator said of a node, then which operator of the file that is.
_REFUSED = re.compile(
    r"(?:QNN op validation failed: '(?P<node>[^']*)'(?P<tensors>.*?))?"
    r"LiteRT Op #(?P<index>\d+) '(?P<op>[^']*)' \(code=\d+\) is not supported",
    re.S,
)
_DTYPE = re.compile(r"dtype=(?:QNN_DATATYPE_)?(\w+)")
_VALIDATOR = re.compile(r"<E> (.*)")
# Intel: the operators are named by their code in the flatbuffer.
_REFUSED_CODE = re.compile(r"op type (\d+) is not supported")
_ARCHITECTURE = re.compile(r"for architecture (\d+)")
_NOT_COMPILED = re.compile(r'"([^"]*_LiteRt_OpId_(\d+))" generated: (.*)')


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Operators that a plugin refuses for one reason.

    Attributes:
        op: kind of the operators, such as CONV_2D.
        operators: their indices in the file; empty if the plugin does not say which.
        count: how many there are.
        reason: why, in the plugin's words.
    """

    op: str
    operators: tuple[int, ...]
    count: int
    reason: str

    def __str__(self) -> str:
        return f"{self.count} × {self.op}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class PluginResult:
    """What a plugin made of a file.

    Attributes:
        operators: number of operators that the plugin counted; 0 if it did not come so far.
        taken: how many of them it took.
        partitions: into how many parts.
        refused: the others.
        errors: why it wrote no file; empty if it did.
        unloaded: why the plugin itself could not be loaded; None if it was.
        architecture: the NPU's architecture, such as "v75"; None if the plugin does not say.
        api: QNN's version that the plugin was built for, and the one found; None if the plugin does not say.
    """

    operators: int
    taken: int
    partitions: int
    refused: tuple[Refusal, ...]
    errors: tuple[str, ...]
    unloaded: str | None
    architecture: str | None
    api: str | None


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """An ahead-of-time compiled file.

    Attributes:
        vendor, soc: the target, in the plugin's words.
        name: name of the first part's bytecode.
        bytecode: of the first part.
        partitions: number of parts that are compiled.
        left: kinds of the operators that are not compiled.
        inputs, outputs: names and shapes, of the signature.
        tensors: name of the tensor of every input and output, by which the bytecode knows it.
    """

    vendor: str
    soc: str
    name: str
    bytecode: bytes
    partitions: int
    left: tuple[str, ...]
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    tensors: dict[str, str]

    @property
    def whole(self) -> bool:
        """Whether the whole graph is one part."""
        return self.partitions == 1 and not self.left


def compile_file(model: Path, target: NpuTarget, parts: VendorParts, out: Path, folder: Path) -> PluginResult:
    """Runs the plugin on a file. Crashes of the plugin are results; nothing is raised for them.

    Args:
        model: a .tflite.
        target: what to compile for.
        parts: the libraries.
        out: the compiled file; not there if the plugin wrote none.
        folder: for the plugin's output and links.
    """
    from ai_edge_litert.aot.core.common import get_resource

    command = [
        str(get_resource(Path("tools/apply_plugin_main"))),
        "--cmd=apply",
        f"--model={model}",
        f"--o={out}",
        f"--soc_manufacturer={target.vendor}",
        f"--soc_model={target.model}",
        f"--libs={parts.plugin.parent}",
        *target.options,
    ]
    libraries = [*parts.libraries, parts.plugin.parents[3]]
    if target.vendor == QUALCOMM:
        # The plugin is linked with QNN's library for the low-power NPU, too, which onnxruntime-qnn lacks. It is not
        # called for the Hexagon NPU, so any of QNN's libraries under its name satisfies the loader.
        (folder / "libQnnLpai.so").symlink_to(parts.libraries[0] / "libQnnSystem.so")
        libraries.append(folder)
    search = os.pathsep.join([*map(str, libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
    log, vendor_log = folder / "plugin.log", folder / "vendor.log"
    # Two files: QNN writes to stdout through a buffer, which would cut LiteRT's lines in two.
    with log.open("wb") as stderr, vendor_log.open("wb") as stdout:
        code = subprocess.run(
            command, env=os.environ | {"LD_LIBRARY_PATH": search}, stdout=stdout, stderr=stderr, check=False
        ).returncode
    written = out.is_file() and out.stat().st_size > 0
    if code != 0 or not written:
        out.unlink(missing_ok=True)
        written = False
    return read_plugin_log(
        log.read_text(encoding="utf-8", errors="replace"),
        vendor_log.read_text(encoding="utf-8", errors="replace"),
        code=code,
        ops=operator_names(model),
        left=read_compiled(out).left if written else None,
    )


def read_plugin_log(
    log: str, vendor_log: str, *, code: int, ops: Sequence[str], left: Iterable[str] | None
) -> PluginResult:
    """Extracts what a plugin said.

    Args:
        log: what LiteRT's command wrote to stderr.
        vendor_log: what it wrote to stdout: the vendor's own messages.
        code: exit status of the command; negative if a signal ended it.
        ops: kinds of the operators of the file.
        left: kinds of the operators that the compiled file still has; None if there is no file.
    """
    selected = [tuple(map(int, found)) for found in _PARTITIONED.findall(log)]
    api = _API.search(log)
    architectures = _ARCHITECTURE.findall(vendor_log)
    unloaded = _UNLOADED.search(log)
    return PluginResult(
        operators=sum(total for _, total, _ in selected),
        taken=sum(taken for taken, _, _ in selected),
        partitions=sum(parts for _, _, parts in selected),
        refused=tuple(_refusals(log, vendor_log, ops, left)),
        errors=() if left is not None or unloaded else (_failure(log, vendor_log, code, ops),),
        unloaded=unloaded[1].strip() if unloaded else None,
        architecture=f"v{architectures[-1]}" if architectures else None,
        api=f"{api[2]}, used with {api[1]}" if api else None,
    )


def _refusals(log: str, vendor_log: str, ops: Sequence[str], left: Iterable[str] | None) -> list[Refusal]:
    said: dict[str, list[str]] = {}  # what QNN's validator said, by node
    for message in _VALIDATOR.findall(vendor_log):
        for node in re.findall(r"'([^']*)'", message):
            said.setdefault(node, []).append(re.sub(rf" in the node '{re.escape(node)}'", "", message).strip())
    found: dict[tuple[str, str], list[int]] = {}
    for match in _REFUSED.finditer(log):
        index = int(match["index"])
        op = ops[index] if index < len(ops) else match["op"]
        reason = "the plugin has no such operator"
        if match["node"] is not None:
            before, _, after = (match["tensors"] or "").partition("Outputs:")
            types = f"{', '.join(_DTYPE.findall(before))} to {', '.join(_DTYPE.findall(after))}"
            first = next(iter(said.get(match["node"], ())), "the vendor's validator refuses it")
            reason = f"{first.rstrip('.')} ({types})"
        found.setdefault((op, reason), []).append(index)
    for number in dict.fromkeys(map(int, _REFUSED_CODE.findall(log))):
        op = builtin_name(number)
        found[op, "the plugin has no such operator"] = [i for i, name in enumerate(ops) if name == op]
    refused = [
        Refusal(op=op, operators=tuple(indices), count=len(indices), reason=reason)
        for (op, reason), indices in found.items()
    ]
    for op, count in (Counter(left or ()) - Counter({op: len(indices) for (op, _), indices in found.items()})).items():
        refused.append(Refusal(op=op, operators=(), count=count, reason=NO_REASON))
    return refused


def _failure(log: str, vendor_log: str, code: int, ops: Sequence[str]) -> str:
    """Returns why the plugin wrote no file."""
    if code < 0:
        return f"the compiler plugin crashed with {signal.Signals(-code).name}"
    if (selected := _PARTITIONED.findall(log)) and not any(int(taken) for taken, _, _ in selected):
        return "the plugin took no operator, and wrote no file"
    if found := _NOT_COMPILED.search(vendor_log):
        index = int(found[2])
        return f"the vendor's compiler failed at #{index} {ops[index] if index < len(ops) else ''}: {found[3].strip()}"
    errors = [line for line in vendor_log.splitlines() if "<E>" in line]
    errors = [line.partition("<E>")[2].strip() for line in errors] or [
        line.partition("ERROR:")[2].strip() for line in log.splitlines() if line.startswith("ERROR:")
    ]
    return f"the plugin wrote no file: {errors[-1] if errors else NO_REASON}"


def operator_names(path: Path) -> list[str]:
    """Returns the kinds of the operators of a .tflite, such as CONV_2D, in the file's order."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(read_model(path), 0)
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    names = [builtin_name(max(code.BuiltinCode(), code.DeprecatedBuiltinCode())) for code in codes]
    return [names[graph.Operators(i).OpcodeIndex()] for i in range(graph.OperatorsLength())]


def builtin_name(number: int) -> str:
    """Returns the name of a built-in operator."""
    from ai_edge_litert import schema_py_generated as schema

    names: dict[int, str] = {
        value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)
    }
    return names.get(number, f"operator {number}")


def read_compiled(path: Path) -> Compiled:
    """Reads an ahead-of-time compiled file.

    Raises:
        BundleError: the file is missing or not a .tflite file.
        NpuError: it is damaged, or nothing in it is compiled.
    """
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import flexbuffers

    data = read_model(path)
    try:
        return _compiled(path, data, schema, flexbuffers)
    except (struct.error, IndexError, TypeError, ValueError, AttributeError, OverflowError, KeyError) as error:
        if isinstance(error, NpuError):
            raise
        raise NpuError(f"{printable(path)}: damaged compiled file ({error}); compile it again") from error


def _compiled(path: Path, data: bytes, schema: Any, flexbuffers: Any) -> Compiled:
    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    dispatched, left = [], []
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        if code.CustomCode() == _DISPATCH:
            dispatched.append(operator)
        else:
            left.append(builtin_name(max(code.BuiltinCode(), code.DeprecatedBuiltinCode())))
    if not dispatched:
        raise NpuError(f"{printable(path)}: nothing in it is compiled; expected a file that a compiler plugin wrote")
    first = dispatched[0]
    options = flexbuffers.Loads(first.CustomOptionsAsNumpy().tobytes())
    start, size = int(options["bytecode_offset"]), int(options["bytecode_size"])
    if not (0 < start < start + size <= len(data)):
        raise NpuError(f"{printable(path)}: its bytecode goes beyond the end of the file; compile it again")
    vendor = soc = ""
    for i in range(model.MetadataLength()):
        if (entry := model.Metadata(i)).Name() == b"LiteRtStamp":
            stamp = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
            vendor, soc = [text for text in stamp.decode("ascii", errors="replace").split("\0") if text][:2]
    signature = model.SignatureDefs(0) if model.SignatureDefsLength() else None
    tensor_names: dict[str, str] = {}

    def tensors(kind: str) -> dict[str, tuple[int, ...]]:
        names = {}
        if signature is not None:
            entries = [getattr(signature, kind)(i) for i in range(getattr(signature, f"{kind}Length")())]
            names = {entry.TensorIndex(): entry.Name().decode() for entry in entries}
        indices = [getattr(first, kind)(i) for i in range(getattr(first, f"{kind}Length")())]
        found = {}
        for index in indices:
            tensor = graph.Tensors(index)
            name = names.get(index, tensor.Name().decode())
            if tensor.Type() != schema.TensorType.FLOAT32 and not left and len(dispatched) == 1:
                raise NpuError(f"{printable(path)}: {name} of the compiled graph is not float32; compile it again")
            tensor_names[name] = tensor.Name().decode()
            found[name] = tuple(tensor.Shape(i) for i in range(tensor.ShapeLength()))
        return found

    return Compiled(
        vendor=vendor,
        soc=soc,
        name=str(options["name"]),
        bytecode=data[start : start + size],
        partitions=len(dispatched),
        left=tuple(left),
        inputs=tensors("Inputs"),
        outputs=tensors("Outputs"),
        tensors=tensor_names,
    )
