"""Engine: runs a .tflite file on the CPU or on the GPU delegate, and reads the file's graph and the delegate's log.

It may import only the layers below it: `strict`, `atomic` and `errors`.
"""

from panns_litert.engine.about import AUDIO_PROPERTIES, METADATA_ENTRY, AboutModel, read_about
from panns_litert.engine.delegate import (
    DRIVER_REMEDY,
    DelegateLog,
    RefusedOp,
    gpu_only,
    read_delegate_log,
    vulkan_drivers,
)
from panns_litert.engine.engine import (
    ENGINES,
    FLOAT16_MAX,
    CpuEngine,
    Engine,
    GpuEngine,
    Inputs,
    Outputs,
    available_cores,
    unusable,
)
from panns_litert.engine.graph import Graph, read_graph, read_model
from panns_litert.engine.native_log import NativeLog, native_log
from panns_litert.engine.rewrite import buffer_data, pack, with_names

__all__ = [
    "AUDIO_PROPERTIES",
    "DRIVER_REMEDY",
    "ENGINES",
    "FLOAT16_MAX",
    "METADATA_ENTRY",
    "AboutModel",
    "CpuEngine",
    "DelegateLog",
    "Engine",
    "GpuEngine",
    "Graph",
    "Inputs",
    "NativeLog",
    "Outputs",
    "RefusedOp",
    "available_cores",
    "buffer_data",
    "gpu_only",
    "native_log",
    "pack",
    "read_about",
    "read_delegate_log",
    "read_graph",
    "read_model",
    "unusable",
    "vulkan_drivers",
    "with_names",
]
