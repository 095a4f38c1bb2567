"""The NVIDIA driver through ctypes: finds a GPU, and gives memory, a stream, graphs and events on it.

The driver's library (`libcuda.so.1`) is on every machine with a GPU. So no CUDA toolkit, torch or Python binding needs
to be installed. The prototypes are those of cuda.h, which the tests check.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.inference.engine import EngineError

LIBRARY = "libcuda.so.1"

# CUdevice is an int, CUdeviceptr a 64-bit integer, every other handle a pointer.
PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_ulonglong), c_size_t),
    "cuMemFree_v2": (c_ulonglong,),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_ulonglong, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_ulonglong, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGraphDestroy": (c_void_p,),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuEventDestroy_v2": (c_void_p,),
}
"""Argument types of each function that is called. All of them return a CUresult."""

COMPUTE_CAPABILITY_MAJOR = 75
COMPUTE_CAPABILITY_MINOR = 76
STREAM_NON_BLOCKING = 1
CAPTURE_MODE_THREAD_LOCAL = 1


@dataclass(frozen=True)
class Gpu:
    """The first GPU that this process may use.

    Attributes:
        compute_capability: such as (8, 7).
        memory_bytes: all memory, in use or not.
        driver_version: the newest CUDA that the driver can run, such as (12, 6).
    """

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    driver_version: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} ({self.compute_capability[0]}.{self.compute_capability[1]})"


class _Library:
    """`libcuda` with its prototypes. A failed call raises `EngineError` with the driver's message."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise EngineError(f"no NVIDIA driver ({error})") from error
        for name, arguments in PROTOTYPES.items():
            function = getattr(self._library, name, None)
            if function is None:
                raise EngineError(f"the NVIDIA driver is too old: it has no {name}; 470 or later is needed")
            function.argtypes, function.restype = arguments, c_int

    def __call__(self, name: str, *arguments: Any) -> None:
        result = getattr(self._library, name)(*arguments)
        if result:
            text = c_char_p()
            self._library.cuGetErrorString(result, byref(text))
            said = (text.value or b"an unknown error").decode()
            raise EngineError(f"the NVIDIA driver says '{said}' ({result}) to {name}")


def find_gpu() -> Gpu:
    """The first GPU that the driver gives this process.

    Raises:
        EngineError: no driver, no GPU, or the driver does not work.
    """
    return _gpu(_Library())


def _gpu(call: Any) -> Gpu:
    call("cuInit", 0)
    count, device, version = c_int(), c_int(), c_int()
    call("cuDeviceGetCount", byref(count))
    if count.value < 1:
        raise EngineError("the NVIDIA driver finds no GPU that this process may use (is CUDA_VISIBLE_DEVICES set?)")
    call("cuDeviceGet", byref(device), 0)
    name = ctypes.create_string_buffer(256)
    call("cuDeviceGetName", name, len(name), device)
    major, minor, memory = c_int(), c_int(), c_size_t()
    call("cuDeviceGetAttribute", byref(major), COMPUTE_CAPABILITY_MAJOR, device)
    call("cuDeviceGetAttribute", byref(minor), COMPUTE_CAPABILITY_MINOR, device)
    call("cuDeviceTotalMem_v2", byref(memory), device)
    call("cuDriverGetVersion", byref(version))
    return Gpu(
        name=name.value.decode(),
        compute_capability=(major.value, minor.value),
        memory_bytes=memory.value,
        driver_version=(version.value // 1000, version.value % 1000 // 10),
    )


class CudaDevice:
    """The first GPU: its memory, one stream, graphs and events. Any thread may use it, one at a time.

    `close` frees all that it allocated.

    Raises:
        EngineError: no driver, no GPU, or the driver does not work.
    """

    def __init__(self) -> None:
        self._call = _Library()
        self.gpu = _gpu(self._call)
        self._device = c_int()
        self._call("cuDeviceGet", byref(self._device), 0)
        self._context = c_void_p()
        # The CUDA runtime, and with it TensorRT and torch, uses the primary context too.
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), self._device)
        self._device_memory: list[int] = []
        self._host_memory: list[int] = []
        self._events: list[int] = []
        self._graphs: list[int] = []
        self.stream = 0
        try:
            self.make_current()
            stream = c_void_p()
            # Non-blocking: it does not wait for work on the default stream.
            self._call("cuStreamCreate", byref(stream), STREAM_NON_BLOCKING)
            self.stream = stream.value or 0
        except EngineError:
            self.close()
            raise

    def make_current(self) -> None:
        """Let the calling thread use the GPU. A context is current in a thread, not in a process."""
        self._call("cuCtxSetCurrent", self._context)

    def device_memory(self, size: int) -> int:
        """The address of `size` bytes on the GPU."""
        address = c_ulonglong()
        self._call("cuMemAlloc_v2", byref(address), max(size, 1))
        self._device_memory.append(address.value)
        return address.value

    def pinned_memory(self, size: int) -> NDArray[np.uint8]:
        """(size,) uint8 in pinned host memory. Must not be used after `close`."""
        address = c_void_p()
        self._call("cuMemHostAlloc", byref(address), max(size, 1), 0)
        self._host_memory.append(address.value or 0)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address.value or 0))

    def copy_to_device(self, device: int, host: NDArray[np.uint8]) -> None:
        """Queue a copy of pinned memory to the GPU."""
        self._call("cuMemcpyHtoDAsync_v2", device, host.ctypes.data, host.nbytes, self.stream)

    def copy_to_host(self, host: NDArray[np.uint8], device: int) -> None:
        """Queue a copy of the GPU's memory to pinned memory."""
        self._call("cuMemcpyDtoHAsync_v2", host.ctypes.data, device, host.nbytes, self.stream)

    def synchronise(self) -> None:
        """Wait until all queued work is done."""
        self._call("cuStreamSynchronize", self.stream)

    def begin_capture(self) -> None:
        """Record what this thread queues from now on, instead of running it."""
        self._call("cuStreamBeginCapture_v2", self.stream, CAPTURE_MODE_THREAD_LOCAL)

    def end_capture(self) -> int:
        """Stop recording. Returns the recorded graph, ready to be launched.

        Raises:
            EngineError: something was queued that cannot be recorded. Recording has stopped then too.
        """
        graph, executable = c_void_p(), c_void_p()
        self._call("cuStreamEndCapture", self.stream, byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", byref(executable), graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)
        self._graphs.append(executable.value or 0)
        return executable.value or 0

    def launch(self, graph: int) -> None:
        """Queue a recorded graph."""
        self._call("cuGraphLaunch", graph, self.stream)

    def destroy_graph(self, graph: int) -> None:
        """Free a graph."""
        self._call("cuGraphExecDestroy", graph)
        self._graphs.remove(graph)

    def event(self) -> int:
        """Create an event."""
        event = c_void_p()
        self._call("cuEventCreate", byref(event), 0)
        self._events.append(event.value or 0)
        return event.value or 0

    def record(self, event: int) -> None:
        """Queue an event."""
        self._call("cuEventRecord", event, self.stream)

    def milliseconds_between(self, first: int, second: int) -> float:
        """Time between two events that have happened."""
        elapsed = c_float()
        self._call("cuEventElapsedTime", byref(elapsed), first, second)
        return elapsed.value

    def close(self) -> None:
        """Wait for queued work, then free everything. After a failed call the others are still made.

        Raises:
            EngineError: of the first call that failed. After a GPU fault every call fails.
        """
        refused: list[EngineError] = []

        def free(name: str, *arguments: Any) -> None:
            try:
                self._call(name, *arguments)
            except EngineError as error:
                refused.append(error)

        free("cuCtxSetCurrent", self._context)
        if self.stream:
            free("cuStreamSynchronize", self.stream)
        while self._graphs:
            free("cuGraphExecDestroy", self._graphs.pop())
        while self._events:
            free("cuEventDestroy_v2", self._events.pop())
        while self._device_memory:
            free("cuMemFree_v2", self._device_memory.pop())
        while self._host_memory:
            free("cuMemFreeHost", self._host_memory.pop())
        if self.stream:
            free("cuStreamDestroy_v2", self.stream)
            self.stream = 0
        free("cuDevicePrimaryCtxRelease_v2", self._device)
        if refused:
            raise refused[0]
