"""Exports a torch network to a float32 .tflite, and casts the weights of such a file to float16."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from panns_litert.atomic import replacing
from panns_litert.engine import native_log
from panns_litert.errors import ConversionError, MissingDependencyError, ResultsError, install_extra
from panns_litert.interrupt import insisting

SIGNATURE = "tag"

_QUANTIZERS = ("ai-edge-quantizer", "litert-quantizer")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def export_fp32(network: nn.Module, inputs: dict[str, Tensor], path: Path, *, log: Path) -> None:
    """Converts a network with litert-torch.

    The file has one signature. It has the names of `inputs`, and as outputs the keys of the dict that the network
    returns, in their order. Tensors are named after their modules ("features.3.block.0.1;…"). The same network and
    shapes give the same bytes.

    Args:
        network: in eval mode, returning a dict of tensors.
        inputs: example inputs by name. Their shapes become static.
        path: the .tflite to write.
        log: file for the converter's output.

    Raises:
        ConversionError: the converter failed. The message names the log.
        ResultsError: the file cannot be written.
    """
    with captured(log, f"litert-torch cannot convert {type(network).__name__}"), _short_names():
        import litert_torch  # slow to import; only a conversion needs it

        data = litert_torch.signature(SIGNATURE, network, sample_kwargs=inputs).convert().model_content()
    write(path, data)
    del data
    gc.collect()  # frees the converter's copies of the weights before the next stage makes its own


def quantizer_package() -> str:
    """Returns "ai-edge-quantizer", or "litert-quantizer" if only that is installed.

    litert-quantizer 0.11 is ai-edge-quantizer 0.10 under its new name. litert-torch 0.10 requires the old one, which is
    therefore taken where both are installed.

    Raises:
        MissingDependencyError: neither is installed.
    """
    for name in _QUANTIZERS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            metadata.version(name)
            return name
    raise MissingDependencyError(
        f"neither {' nor '.join(_QUANTIZERS)} is installed; expected one of them: {install_extra('convert')}"
    )


def quantizer_module(name: str) -> Any:
    """Imports a module of the quantizer, such as "qtyping"; see `quantizer_package`."""
    return importlib.import_module(f"{quantizer_package().replace('-', '_')}.{name}")


def cast_fp16(source: Path, path: Path, *, keep: str | None = None, log: Path) -> None:
    """Stores weights as float16 (ai-edge-quantizer, FLOAT_CASTING). Inputs and outputs stay float32.

    Args:
        source: the float32 .tflite.
        path: the .tflite to write.
        keep: regular expression of tensor names. Operators whose outputs match keep float32 weights.
        log: file for the converter's output.

    Raises:
        ConversionError: the converter failed. The message names the log.
        ResultsError: the file cannot be written.
    """
    with captured(log, f"{quantizer_package()} cannot convert {source.name}"):
        qtyping, quantizer = quantizer_module("qtyping"), quantizer_module("quantizer")
        work = quantizer.Quantizer(str(source))
        work.update_quantization_recipe(
            regex=".*",
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            op_config=float16_weights(),
            algorithm_key=quantizer.AlgorithmName.FLOAT_CASTING,
        )
        if keep is not None:
            work.update_quantization_recipe(
                regex=keep,
                operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
                algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE,
            )
        data = work.quantize().quantized_model
    write(path, data)
    del work, data
    gc.collect()


def write(path: Path, data: Any) -> None:
    """Writes a .tflite atomically.

    Only Python may write it. On a full disk, litert-torch's own writer ends the process without a message, and that of
    ai-edge-quantizer maps the file into memory, where a write that fails ends the process with SIGBUS.

    Raises:
        ResultsError: the file cannot be written, such as on a full disk.
    """
    with replacing(path) as file:
        file.write(data)


@contextmanager
def _short_names() -> Iterator[None]:
    """Makes litert-torch name tensors by their modules' paths, not by the classes of all enclosing modules.

    litert-torch 0.10 writes "package.module.Class_attribute/package.module.Class_attribute/…" once for every fused
    operator. That is an eighth of mn04's int8 file, and there is no option to change it.
    """
    from litert_torch.backend import debuginfo

    original = debuginfo.build_mlir_debuginfo

    def path_of(node: Any) -> str | None:
        stack = getattr(node, "meta", {}).get("nn_module_stack")
        if not stack:
            return original(node)  # type: ignore[no-any-return]
        path, kind = [*stack.values()][-1]
        kind = kind if isinstance(kind, str) else kind.__qualname__
        return f"{path or kind.rpartition('.')[2]};"

    debuginfo.build_mlir_debuginfo = path_of
    try:
        yield
    finally:
        debuginfo.build_mlir_debuginfo = original


def float16_weights() -> Any:
    """Returns ai-edge-quantizer's configuration of an operator with float16 weights and float32 arithmetic."""
    qtyping = quantizer_module("qtyping")
    return qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
        compute_precision=qtyping.ComputePrecision.FLOAT,
    )


@contextmanager
def captured(log: Path, problem: str) -> Iterator[None]:
    """Redirects the converter's output to the log, and raises any exception as a ConversionError.

    A full disk is a ResultsError instead: its cause is not in the log, which may be empty for the same reason.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    handlers = logging.root.handlers[:]
    try:
        with native_log(log), warnings.catch_warnings(), insisting():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # the converter may raise any type; the log has the details
        reason = (str(error).splitlines() or [""])[0][:200]
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise ResultsError(f"{problem}: {error.strerror}; free some space on the disk of {log.parent}") from error
        raise ConversionError(f"{problem}: {type(error).__name__}: {reason}; see {log}") from error
    finally:
        logging.root.handlers[:] = handlers  # a converter may have set up logging, to the log that is closed now
