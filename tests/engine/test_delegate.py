"""The delegate's log: adapter, refused operators, WebGPU's errors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from panns_litert.engine import read_delegate_log

# What the delegate printed with Mesa 25.0 (llvmpipe), with Mesa 22.3 and without a driver.
ADAPTER = (
    "I0000 00:00:1.2 3 environment.cc:532] Selected adapter: llvmpipe (LLVM 15.0.6, 256 bits), arch=software, "
    "vendor=mesa, backend=Vulkan, adapterType=CPU / Software\n"
)
REFUSED = (
    "ERROR: Following operations are not supported by GPU delegate:\n"
    "GATHER_ND: Operation is not supported.\n"
    "PAD: Invalid paddings tensor shape: expected 4x2 or 3x2, got 2x2\n"
    "31 operations will run on the GPU, and the remaining 29 operations will run on the CPU.\n"
)
VALIDATION = (
    "E0000 00:00:1.2 3 environment.cc:105] Validation error: Binding size (150994944) of [Buffer (unlabeled)] is "
    "larger than the maximum storage buffer binding size (134217728).\n - While validating entries[1]\n"
)
NO_DRIVER = (
    "Warning: vkCreateInstance: Found no drivers!\n"
    "ERROR: [delegate_webgpu.cc:359] Failed to initialize WebGPU environment: INTERNAL: No adapters found\n"
)
OLD_DRIVER = (
    "Warning: Vulkan shaderUniform*ArrayDynamicIndexing required.\n - While initializing adapter\n"
    "ERROR: [delegate_webgpu.cc:359] Failed to initialize WebGPU environment: INTERNAL: No adapters found\n"
)


def test_the_delegate_s_log() -> None:
    log = read_delegate_log(f"INFO: something\n{ADAPTER}{REFUSED}{VALIDATION}")
    assert log.adapter is not None
    assert log.adapter.startswith("llvmpipe (LLVM 15.0.6, 256 bits), arch=software")
    assert log.software
    assert log.driver_problem is None
    assert [(r.op, r.reason) for r in log.refused] == [
        ("GATHER_ND", "Operation is not supported."),
        ("PAD", "Invalid paddings tensor shape: expected 4x2 or 3x2, got 2x2"),
    ]
    assert len(log.validation_errors) == 1
    assert "larger than the maximum storage buffer binding size" in log.validation_errors[0]

    assert read_delegate_log(NO_DRIVER).driver_problem == "there is no Vulkan driver"
    old = read_delegate_log(OLD_DRIVER).driver_problem
    assert old is not None
    assert "too old" in old
    assert "shaderUniform*ArrayDynamicIndexing" in old
    hardware = read_delegate_log(
        "environment.cc:532] Selected adapter: Mali-G715, vendor=arm, adapterType=Integrated GPU"
    )
    assert hardware.adapter is not None
    assert not hardware.software


@given(text=st.text(), pieces=st.lists(st.sampled_from([ADAPTER, REFUSED, VALIDATION, NO_DRIVER, OLD_DRIVER])))
def test_any_log_can_be_read(text: str, pieces: list[str]) -> None:
    log = read_delegate_log(text + "".join(pieces) + text)
    if ADAPTER in pieces:
        assert log.adapter
    if REFUSED in pieces:
        assert log.refused
    if VALIDATION in pieces:
        assert log.validation_errors
