"""NPU targets: which there are, and the vendor's parts that compile and run for them, where the user installed them.

No vendor's part belongs to this project, and none is installed by it. LiteRT's wheel has the compiler plugins. A plugin
needs libraries of its vendor:

- Qualcomm: the wheel onnxruntime-qnn has QNN with the x86-64 emulator of the Hexagon NPU. Its licence is Qualcomm's own
  (Qualcomm_LICENSE.pdf in the wheel), and using it accepts that licence. So the user installs it, or nobody does.
- Intel: OpenVINO (Apache-2.0). Its device for the CPU runs through LiteRT's real dispatch library. It is no NPU: it
  proves that a file compiles whole and that the compiled file is dispatched right.
"""

from __future__ import annotations

import importlib.util
import mmap
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from panns_litert.errors import NpuError, NpuVendorError, importing, install_extra
from panns_litert.words import did_you_mean

QUALCOMM, INTEL = "Qualcomm", "IntelOpenVINO"
"""The vendors, by the names that LiteRT's plugins have."""
INTEL_CPU = "intel-cpu"
"""OpenVINO's device for the CPU."""

QUALCOMM_REMEDY = (
    "read its licence (Qualcomm_LICENSE.pdf in the wheel, which `pip download --no-deps onnxruntime-qnn` gets) and, if "
    "you accept it, `pip install onnxruntime-qnn`"
)
_QUALCOMM_LIBRARIES = ("libQnnHtp.so", "libQnnIr.so", "libQnnSaver.so", "libQnnSystem.so")
_BUILD = re.compile(rb"v2\.\d+\.\d+\.\d{6,}")  # of QNN, such as v2.51.0.260929181845


@dataclass(frozen=True, kw_only=True)
class NpuTarget:
    """What a file is compiled for.

    Attributes:
        soc: its name here: a SoC such as "SM8650", or "intel-cpu".
        vendor: name of the vendor's plugin.
        model: the SoC's name for the plugin.
        options: further options of the plugin.
        environment: variables for the plugin and the run.
    """

    soc: str
    vendor: str
    model: str
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class VendorParts:
    """The libraries that compile and run for a target.

    Attributes:
        plugin: LiteRT's compiler plugin.
        dispatch: folder of LiteRT's dispatch library; None if the vendor's emulator runs the bytecode.
        libraries: folders of the vendor's libraries.
        versions: of the parts by name.
    """

    plugin: Path
    dispatch: Path | None
    libraries: tuple[Path, ...]
    versions: dict[str, str]


def npu_socs() -> tuple[str, ...]:
    """Returns the names of all targets: Qualcomm's SoCs that LiteRT's plugin knows, then "intel-cpu"."""
    from ai_edge_litert.aot.vendors.qualcomm.target import SocModel

    return (*sorted(soc.value for soc in SocModel if soc.value != "ALL"), INTEL_CPU)


def npu_targets(socs: str | Iterable[str]) -> list[NpuTarget]:
    """Returns the targets of one or several names, each once.

    Args:
        socs: names, in any case; a text may have several with commas between. "all" means all of Qualcomm's.

    Raises:
        NpuError: there is no such target, or no name at all.

    >>> [target.soc for target in npu_targets("sm8550,SM8650")]
    ['SM8550', 'SM8650']
    """
    names = [name for text in ([socs] if isinstance(socs, str) else socs) for name in str(text).split(",")]
    known = {soc.casefold(): soc for soc in npu_socs()}
    found: dict[str, NpuTarget] = {}
    for name in names:
        key = name.strip().casefold()
        if key != "all" and key not in known:
            raise NpuError(
                f"SoC {name.strip()!r}; expected one of {', '.join(known.values())}, or all"
                f"{did_you_mean(name.strip(), known.values())}"
            )
        for soc in [soc for soc in known.values() if soc != INTEL_CPU] if key == "all" else [known[key]]:
            found[soc] = _target(soc)
    if not found:
        raise NpuError(f"no SoC; expected one of {', '.join(known.values())}, or all")
    return list(found.values())


def _target(soc: str) -> NpuTarget:
    if soc != INTEL_CPU:
        return NpuTarget(soc=soc, vendor=QUALCOMM, model=soc)
    return NpuTarget(
        soc=soc,
        vendor=INTEL,
        model="PTL",  # the plugin wants one of Intel's NPUs; the backend decides
        options=("--intel_openvino_graph_backends=cpu",),
        # A CPU with bfloat16 would compute in it, whatever precision the plugin's options ask for.
        environment={"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    )


def vendor_parts(target: NpuTarget, *, run: bool = True) -> VendorParts:
    """Finds the parts that a target needs, where the user installed them.

    Args:
        target: the target.
        run: whether the bytecode shall be run, too, which may need more parts.

    Raises:
        NpuVendorError: a part is missing or of another version than LiteRT's plugin needs.
        MissingDependencyError: a package of the extra `npu` is missing.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise NpuVendorError(
            f"{sys.platform} on {platform.machine()}; LiteRT's compiler plugins and the vendors' emulators are for "
            "Linux on x86-64"
        )
    return _qualcomm(run) if target.vendor == QUALCOMM else _intel()


def _qualcomm(run: bool) -> VendorParts:
    folder = _package("onnxruntime_qnn")
    if folder is None:
        raise NpuVendorError(
            f"no emulator of Qualcomm's NPU: the package onnxruntime-qnn is not installed; {QUALCOMM_REMEDY}"
        )
    if missing := [name for name in _QUALCOMM_LIBRARIES if not (folder / name).is_file()]:
        raise NpuVendorError(f"{folder} lacks {', '.join(missing)}; expected onnxruntime-qnn for Linux on x86-64")
    versions = _versions("ai-edge-litert", "onnxruntime-qnn") | {"QNN": qnn_build(folder / "libQnnHtp.so") or "unknown"}
    if run:
        with importing("onnx", extra="npu", purpose="the check on the emulator needs"):
            import onnx  # noqa: F401
        if _package("onnxruntime") is None:
            raise NpuVendorError("onnxruntime-qnn is installed without onnxruntime; `pip install onnxruntime`")
        versions |= _versions("onnxruntime")
    libraries = (folder, folder.with_name("onnxruntime_qnn.libs"))
    plugin = _litert("qualcomm/compiler/libLiteRtCompilerPlugin_Qualcomm.so")
    return VendorParts(plugin=plugin, dispatch=None, libraries=libraries, versions=versions)


def _intel() -> VendorParts:
    plugin = _litert("intel_openvino/compiler/libLiteRtCompilerPlugin_IntelOpenvino.so")
    needed = re.search(rb"libopenvino\.so\.(\d{2})(\d)(\d)\b", plugin.read_bytes())
    folder = _package("openvino")
    if folder is None:
        raise NpuVendorError(f"OpenVINO is not installed; {install_extra('npu')}")
    versions = _versions("ai-edge-litert", "openvino")
    if needed and not (folder / "libs" / needed[0].decode()).is_file():
        wanted = f"20{needed[1].decode()}.{needed[2].decode()}.{needed[3].decode()}"
        raise NpuVendorError(
            f"OpenVINO {versions['openvino']}; the plugin of ai-edge-litert {versions['ai-edge-litert']} needs "
            f"{wanted}: `pip install openvino=={wanted}`"
        )
    return VendorParts(
        plugin=plugin,
        dispatch=_litert("intel_openvino/dispatch/libLiteRtDispatch_IntelOpenvino.so").parent,
        libraries=(folder / "libs",),
        versions=versions,
    )


def qnn_build(path: Path) -> str | None:
    """Returns the build of QNN that a library or a bytecode names, such as v2.51.0.260929181845; None if none."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = _BUILD.search(content)
        return found[0].decode() if found else None


def _package(name: str) -> Path | None:
    """Returns the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _litert(path: str) -> Path:
    from ai_edge_litert.aot.core.common import get_resource

    try:
        return Path(get_resource(Path("vendors") / path))
    except FileNotFoundError as error:
        raise NpuVendorError(f"ai-edge-litert without {path}; expected the wheel for Linux on x86-64") from error


def _versions(*names: str) -> dict[str, str]:
    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return "unknown"

    return {name: version(name) for name in names}
