"""Proof: parity of a model with its reference, the checks that the GPU delegate and an NPU run the whole graph
correctly, and publishing on the Hugging Face hub what is proven.

It may import `bundle` and the layers below it.
"""

from panns_litert.child import PRINTED_LOG, run_child
from panns_litert.proof.adopt import Adopted, adopt
from panns_litert.proof.audit import FLUSH_SHARE, FP16_MAX, FP16_SMALLEST_NORMAL, TensorRange, audit_fp16
from panns_litert.proof.gpu import (
    TIMEOUT_SECONDS,
    Clips,
    GpuReport,
    compare_outputs,
    demo_inputs,
    generated_inputs,
    gpu_check,
    graph_input,
    record_gpu,
    why_not_gpu,
)
from panns_litert.proof.gpu_worker import DELEGATE_LOG, add_one_model, load_clips, save_clips
from panns_litert.proof.npu import (
    DEFAULT_SOC,
    CompiledNpu,
    NpuReport,
    compile_npu,
    npu_check,
    record_npu,
    same_outputs,
)
from panns_litert.proof.npu_plugin import Refusal
from panns_litert.proof.npu_targets import INTEL_CPU, npu_socs, npu_targets, vendor_parts
from panns_litert.proof.parity import (
    FEW_CLASSES,
    GATES,
    HELD_OUT_GATES,
    HELD_OUT_LOSSES,
    HELD_OUT_OUTPUTS,
    TAG_GATES,
    TAG_THRESHOLD,
    Gate,
    compare,
    compare_tags,
    few_as_one,
    require,
)
from panns_litert.proof.publish import Published, publish
from panns_litert.proof.selftest import self_test_check, self_test_gate

__all__ = [
    "DEFAULT_SOC",
    "DELEGATE_LOG",
    "FEW_CLASSES",
    "FLUSH_SHARE",
    "FP16_MAX",
    "FP16_SMALLEST_NORMAL",
    "GATES",
    "HELD_OUT_GATES",
    "HELD_OUT_LOSSES",
    "HELD_OUT_OUTPUTS",
    "INTEL_CPU",
    "PRINTED_LOG",
    "TAG_GATES",
    "TAG_THRESHOLD",
    "TIMEOUT_SECONDS",
    "Adopted",
    "Clips",
    "CompiledNpu",
    "Gate",
    "GpuReport",
    "NpuReport",
    "Published",
    "Refusal",
    "TensorRange",
    "add_one_model",
    "adopt",
    "audit_fp16",
    "compare",
    "compare_outputs",
    "compare_tags",
    "compile_npu",
    "demo_inputs",
    "few_as_one",
    "generated_inputs",
    "gpu_check",
    "graph_input",
    "load_clips",
    "npu_check",
    "npu_socs",
    "npu_targets",
    "publish",
    "record_gpu",
    "record_npu",
    "require",
    "run_child",
    "same_outputs",
    "save_clips",
    "self_test_check",
    "self_test_gate",
    "vendor_parts",
    "why_not_gpu",
]
