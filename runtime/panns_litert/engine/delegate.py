"""GPU delegate (LiteRT's ML Drift over WebGPU): options that allow no other accelerator, and a reader of its log.

The delegate reports only to the process's stderr. Three facts are available nowhere else: the operations that it
refuses and why, the adapter that it runs on, and WebGPU's validation errors. After such an error, a run returns zeros
and does not raise.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from typing import Any

DRIVER_REMEDY = (
    "install one: on Debian 12 `apt install -t bookworm-backports mesa-vulkan-drivers libvulkan1` (bookworm's own "
    "Mesa 22.3 is too old), on Ubuntu 24.04 or later `apt install mesa-vulkan-drivers libvulkan1`"
)


@dataclass(frozen=True, kw_only=True)
class RefusedOp:
    """An operation that the delegate refuses.

    Attributes:
        op: the operation.
        reason: why, in the delegate's words.
    """

    op: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DelegateLog:
    """What a run of the delegate printed.

    Attributes:
        adapter: the GPU, or the software that emulates one; None if there is neither.
        software: whether the adapter is a CPU instead of a GPU.
        refused: the refused operations. Several nodes with the same operation and reason are listed once.
        validation_errors: WebGPU's errors, one line each.
        driver_problem: why there is no adapter, or None.
    """

    adapter: str | None
    software: bool
    refused: tuple[RefusedOp, ...]
    validation_errors: tuple[str, ...]
    driver_problem: str | None


_ADAPTER = re.compile(r"Selected adapter: (.*)")
_REFUSED = re.compile(
    r"Following operations are not supported by GPU delegate:\n(.*?)(?:\n\d+ operations will run|\Z)", re.S
)
# The environment's callback prints WebGPU's errors of every kind.
_VALIDATION = re.compile(r"E\d{4} .*environment\.cc:\d+\] (.*)$", re.M)
_NO_ADAPTER = re.compile(r"No adapters found|Failed to initialize WebGPU environment")
_TOO_OLD = re.compile(r"^Warning: (Vulkan .* required)", re.M)


def read_delegate_log(text: str) -> DelegateLog:
    """Extracts the delegate's messages from a log."""
    adapter = found[-1].strip() if (found := _ADAPTER.findall(text)) else None
    refused: dict[RefusedOp, None] = {}
    for block in _REFUSED.findall(text):
        for line in block.splitlines():
            op, _, reason = line.partition(":")
            if op.strip():
                refused[RefusedOp(op=op.strip(), reason=reason.strip())] = None
    problem = None
    if adapter is None and _NO_ADAPTER.search(text):
        old = _TOO_OLD.search(text)
        problem = f"the Vulkan driver is too old ({old[1].rstrip('.')})" if old else "there is no Vulkan driver"
    return DelegateLog(
        adapter=adapter,
        software=adapter is not None and "adapterType=CPU" in adapter,
        refused=tuple(refused),
        validation_errors=tuple(dict.fromkeys(match.strip() for match in _VALIDATION.findall(text))),
        driver_problem=problem,
    )


def gpu_only() -> Any:
    """Returns options of CompiledModel that allow only the GPU, with float16 arithmetic.

    If the CPU is allowed, too, `is_fully_accelerated()` is True even when operations run on the CPU.
    """
    from ai_edge_litert.compiled_model import HardwareAccelerator, Options

    return Options(hardware_accelerators=HardwareAccelerator.GPU)


def vulkan_drivers() -> dict[str, str]:
    """Returns the Vulkan devices: name to driver and driver version. Empty if there is no loader or no driver.

    The delegate's log names the adapter but not its driver. Call this where a crash of a driver does no harm.
    https://registry.khronos.org/vulkan/specs/latest/man/html/VkPhysicalDeviceDriverProperties.html
    """
    try:
        vulkan = ctypes.CDLL("libvulkan.so.1")
    except OSError:
        return {}
    application = _ApplicationInfo(sType=0, apiVersion=(1 << 22) | (2 << 12))  # Vulkan 1.2
    create = _InstanceCreateInfo(sType=1, pApplicationInfo=ctypes.addressof(application))
    instance, count = ctypes.c_void_p(), ctypes.c_uint32()
    if vulkan.vkCreateInstance(ctypes.byref(create), None, ctypes.byref(instance)):
        return {}
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
    devices = (ctypes.c_void_p * count.value)()
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices)
    found = {}
    for device in devices:
        driver = _DriverProperties(sType=1000196000)
        properties = _Properties2(sType=1000059001, pNext=ctypes.addressof(driver))
        vulkan.vkGetPhysicalDeviceProperties2(ctypes.c_void_p(device), ctypes.byref(properties))
        name = bytes(properties.properties)[20:276].split(b"\0")[0].decode(errors="replace")
        found[name] = f"{driver.driverName.decode(errors='replace')} {driver.driverInfo.decode(errors='replace')}"
    vulkan.vkDestroyInstance(instance, None)
    return found


class _ApplicationInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_int), ("pNext", ctypes.c_void_p), ("pApplicationName", ctypes.c_char_p),
        ("applicationVersion", ctypes.c_uint32), ("pEngineName", ctypes.c_char_p),
        ("engineVersion", ctypes.c_uint32), ("apiVersion", ctypes.c_uint32),
    )  # fmt: skip


class _InstanceCreateInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_int), ("pNext", ctypes.c_void_p), ("flags", ctypes.c_uint32),
        ("pApplicationInfo", ctypes.c_void_p), ("enabledLayerCount", ctypes.c_uint32),
        ("ppEnabledLayerNames", ctypes.c_void_p), ("enabledExtensionCount", ctypes.c_uint32),
        ("ppEnabledExtensionNames", ctypes.c_void_p),
    )  # fmt: skip


class _DriverProperties(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_int), ("pNext", ctypes.c_void_p), ("driverID", ctypes.c_int),
        ("driverName", ctypes.c_char * 256), ("driverInfo", ctypes.c_char * 256),
        ("conformanceVersion", ctypes.c_uint8 * 4),
    )  # fmt: skip


class _Properties2(ctypes.Structure):
    # VkPhysicalDeviceProperties: five 32-bit numbers, the device's name of 256 bytes, and 548 more bytes.
    _fields_ = (("sType", ctypes.c_int), ("pNext", ctypes.c_void_p), ("properties", ctypes.c_uint8 * 2048))
