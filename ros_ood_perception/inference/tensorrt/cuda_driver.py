"""The NVIDIA driver through ctypes: is there a GPU, and memory, streams, graphs and events on it.

The driver's own library (`libcuda.so.1`) is on every machine with a GPU, so an engine that uses it needs no CUDA
toolkit, no torch and no binding to install. The prototypes are those of cuda.h; the tests compare them.
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
"""Arguments of each function that is called; all return a CUresult."""

COMPUTE_CAPABILITY_MAJOR = 75
COMPUTE_CAPABILITY_MINOR = 76
STREAM_NON_BLOCKING = 1
CAPTURE_MODE_THREAD_LOCAL = 1


@dataclass(frozen=True)
class Gpu:
    """The first GPU that this process may use.

    Attributes:
        compute_capability: such as (8, 7).
        memory_bytes: all of it, in use or not.
        driver_version: the newest CUDA that the driver can run, such as (12, 6).
    """

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    driver_version: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} ({self.compute_capability[0]}.{self.compute_capability[1]})"


class _Library:
    """`libcuda` with its prototypes; a call that fails raises what the driver says."""

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
    """Ask the driver for the first GPU.

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
    """The first GPU: its memory, one stream, graphs and events. One thread at a time; any thread.

    All that it gave out is given back by `close`.

    Raises:
        EngineError: no driver, no GPU, or the driver does not work.
    """

    def __init__(self) -> None:
        self._call = _Library()
        self.gpu = _gpu(self._call)
        self._device = c_int()
        self._call("cuDeviceGet", byref(self._device), 0)
        self._context = c_void_p()
        # The primary context is the one that the CUDA runtime, and so TensorRT and torch, use as well.
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), self._device)
        self._device_memory: list[int] = []
        self._host_memory: list[int] = []
        self._events: list[int] = []
        self._graphs: list[int] = []
        self.stream = 0
        try:
            self.make_current()
            stream = c_void_p()
            # Non-blocking: work of others in the process on the default stream is not waited for.
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
        """(size,) uint8 in memory that the GPU copies from and to without a detour. Not to be used after `close`."""
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
        """Wait for all that was queued."""
        self._call("cuStreamSynchronize", self.stream)

    def begin_capture(self) -> None:
        """From here on, what this thread queues is recorded, not run."""
        self._call("cuStreamBeginCapture_v2", self.stream, CAPTURE_MODE_THREAD_LOCAL)

    def end_capture(self) -> int:
        """What was recorded, ready to be launched.

        Raises:
            EngineError: something was queued that cannot be recorded. Nothing is being recorded after it either.
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
        """Queue what was recorded."""
        self._call("cuGraphLaunch", graph, self.stream)

    def destroy_graph(self, graph: int) -> None:
        """Give a graph back."""
        self._call("cuGraphExecDestroy", graph)
        self._graphs.remove(graph)

    def event(self) -> int:
        """A mark to put between queued work."""
        event = c_void_p()
        self._call("cuEventCreate", byref(event), 0)
        self._events.append(event.value or 0)
        return event.value or 0

    def record(self, event: int) -> None:
        """Queue the mark."""
        self._call("cuEventRecord", event, self.stream)

    def milliseconds_between(self, first: int, second: int) -> float:
        """Of two marks that the GPU has passed."""
        elapsed = c_float()
        self._call("cuEventElapsedTime", byref(elapsed), first, second)
        return elapsed.value

    def close(self) -> None:
        """Wait, then give everything back; what the driver refuses does not keep the rest.

        Raises:
            EngineError: the first that it refused. After a fault on the GPU that is every call.
        """
        refused: list[EngineError] = []

        def give_back(name: str, *arguments: Any) -> None:
            try:
                self._call(name, *arguments)
            except EngineError as error:
                refused.append(error)

        give_back("cuCtxSetCurrent", self._context)
        if self.stream:
            give_back("cuStreamSynchronize", self.stream)
        while self._graphs:
            give_back("cuGraphExecDestroy", self._graphs.pop())
        while self._events:
            give_back("cuEventDestroy_v2", self._events.pop())
        while self._device_memory:
            give_back("cuMemFree_v2", self._device_memory.pop())
        while self._host_memory:
            give_back("cuMemFreeHost", self._host_memory.pop())
        if self.stream:
            give_back("cuStreamDestroy_v2", self.stream)
            self.stream = 0
        give_back("cuDevicePrimaryCtxRelease_v2", self._device)
        if refused:
            raise refused[0]
