"""Decodes untrusted images and videos in a process of their own: the second line of defence behind `image_bytes`.

The process gets bytes, or the path of a video, and gives pixels, through shared memory. Its memory and processor time
are limited. Where it crashes, that image is malformed, and a new process decodes the next one.

    from ros_ood_perception.camera.decoder_process import DecoderProcess

    with DecoderProcess() as decoder:
        pixels = decoder.colour(path.read_bytes(), max_pixels=1920 * 1080)

For its cost see docs/images.md and `python -m benchmark.image_decoding`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.decoder_limits import MESSAGE_BYTES, PROCESSOR_SECONDS
from ros_ood_perception.camera.image_bytes import CAMERA_KINDS, max_bytes
from ros_ood_perception.camera.limits import DEFAULT_MAX_PIXELS
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.errors import PerceptionError

ANSWER_SECONDS = 300.0
"""Time for one image. Generous for a busy machine: the limit of processor time does not end a process that waits."""
START_SECONDS = 120.0
SERVICE = Path(__file__).with_name("decoder_service.py")

Answer = TypeVar("Answer")


class DecoderStartError(PerceptionError, OSError):
    """No decoder process could be started."""


class DecoderProcess:
    """Decodes in another process, which is started with the first image and again after each crash. Thread-safe.

    Args:
        max_pixels: of the largest image. A request with a larger limit starts a larger process.
    """

    def __init__(self, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        self._max_pixels = max_pixels
        self._lock = threading.RLock()
        self._child: _Child | None = None

    def __enter__(self) -> DecoderProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            child, self._child = self._child, None
            if child is not None:
                child.end()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._child is None else self._child.process.pid

    def colour(self, data: bytes, max_pixels: int, kinds: Collection[str] = CAMERA_KINDS) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 BGR; see `image_decoder.decode_colour`.

        Raises:
            MalformedImageError: as there, or the process crashed on the image or took too long.
            DecoderStartError: no process can be started.
        """
        return self._decoded("colour", data, max_pixels, list(kinds))

    def labels(self, data: bytes, max_pixels: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """(H, W) uint8 or uint16; see `image_decoder.decode_labels`.

        Raises:
            MalformedImageError, DecoderStartError: as for `colour`.
        """
        return self._decoded("labels", data, max_pixels, [])

    def open_video(self, path: Path, max_pixels: int) -> int:
        """Open a video, and close the one before. Only one user of this process may do so at a time.

        Returns:
            The number of frames that it declares; 0: it declares none.

        Raises:
            MalformedImageError: it cannot be opened, its frames are too large, or the process crashed on it.
            DecoderStartError: as for `colour`.
        """
        with self._lock:
            request = {"do": "open video", "path": os.fspath(path.absolute()), "max_pixels": max_pixels}
            return self._asked(self._running(max_pixels), request, lambda answer: int(answer["frames"]))

    def video_frame(self) -> tuple[float, NDArray[np.uint8]] | None:
        """The next frame of the open video: its time in ms, and (H, W, 3) uint8 BGR; None after the last one.

        Raises:
            MalformedImageError: the process crashed on it. Then no video is open.
        """
        with self._lock:
            if self._child is None:
                return None
            child = self._child
            return self._asked(
                child,
                {"do": "video frame"},
                lambda answer: None if "end" in answer else (float(answer["time_ms"]), child.pixels(answer)),
            )

    def _decoded(self, what: str, data: bytes, max_pixels: int, kinds: list[str]) -> Any:
        if len(data) > max_bytes(max_pixels):
            raise MalformedImageError(
                "image too large", f"data has {len(data)} bytes, more than {max_pixels} pixels can need"
            )
        with self._lock:
            child = self._running(max_pixels)
            child.memory[: len(data)] = data
            request = {"do": what, "size": len(data), "max_pixels": max_pixels, "kinds": kinds}
            return self._asked(child, request, child.pixels)

    def _asked(self, child: _Child, request: dict[str, Any], read: Callable[[dict[str, Any]], Answer]) -> Answer:
        try:
            answer = child.ask(request)
            if "problem" not in answer:
                return read(answer)
        except _DiedError as error:
            self.close()
            raise MalformedImageError("killed its decoder", f"its decoder {error}; a new one takes the next") from error
        except (ValueError, KeyError, TypeError) as error:
            # Its answers are not trusted either: the image may have taken it over.
            self.close()
            raise MalformedImageError("killed its decoder", f"its decoder gave no sense ({error!r})") from error
        raise MalformedImageError(str(answer["kind"]), str(answer["problem"]))

    def _running(self, max_pixels: int) -> _Child:
        child = self._child
        if child is not None and child.is_of_this_process() and child.max_pixels >= max_pixels:
            return child
        # After a fork the process belongs to the parent.
        if child is not None:
            child.end()
        self._max_pixels = max(self._max_pixels, max_pixels)
        self._child = _Child(self._max_pixels)
        return self._child


class _DiedError(Exception):
    """How the process ended. The message continues "its decoder"."""


class _Child:
    """One process and the memory that it shares with this one."""

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self._owner = os.getpid()
        size = max_bytes(max_pixels)
        descriptor = os.memfd_create("decoder", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            os.ftruncate(descriptor, size)
            # Sealed: this process would crash if the other one made the memory smaller.
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self.memory = mmap.mmap(descriptor, size)
            handed = (other.fileno(), descriptor)
            self.process = subprocess.Popen(
                # As a file: -m would search modules in the working directory, which may not be trusted.
                [sys.executable, str(SERVICE), *map(str, (*handed, size, max_pixels))],
                pass_fds=handed,
                stdin=subprocess.DEVNULL,
                # Dropped, so that images cannot fill a log with what decoders write.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
            )
        except OSError as error:
            own.close()
            raise DecoderStartError(f"no process for decoding images can be started: {error}") from error
        finally:
            other.close()
            os.close(descriptor)
        self._socket = own
        self._socket.settimeout(START_SECONDS)
        try:
            if not self._socket.recv(MESSAGE_BYTES):
                raise OSError("it ended at once")
        except OSError as error:
            self.end()
            raise DecoderStartError(
                f"the process for decoding images did not start ({error}); `{sys.executable} {SERVICE}` shows why"
            ) from error
        self._socket.settimeout(ANSWER_SECONDS)

    def is_of_this_process(self) -> bool:
        """False after a fork."""
        return self._owner == os.getpid()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            _DiedError: the process gave none.
        """
        try:
            self._socket.sendall(json.dumps(request).encode())
            answer = self._socket.recv(MESSAGE_BYTES)
        except TimeoutError:
            self.process.kill()
            self.process.wait()
            raise _DiedError(f"gave no answer for {ANSWER_SECONDS:g} s") from None
        except OSError:
            answer = b""
        if not answer:
            raise _DiedError(_cause(self.process.wait()))
        return dict(json.loads(answer))

    def pixels(self, answer: dict[str, Any]) -> NDArray[Any]:
        """A copy of the pixels that an answer describes.

        Raises:
            ValueError, KeyError, TypeError: the answer is not valid.
        """
        shape = tuple(int(side) for side in answer["shape"])
        kind: np.dtype[Any] = np.dtype({"uint8": np.uint8, "uint16": np.uint16}[answer["dtype"]])
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if min(shape) < 1 or size > len(self.memory):
            raise ValueError(f"it says that it has decoded {shape}")
        return np.frombuffer(self.memory, kind, size // kind.itemsize).reshape(shape).copy()

    def end(self) -> None:
        self._socket.close()
        # An array may still be a view of it.
        with contextlib.suppress(BufferError):
            self.memory.close()
        if not self.is_of_this_process():
            return
        try:
            self.process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _cause(code: int) -> str:
    if code >= 0:
        return f"ended with the exit code {code}"
    if code == -signal.SIGPROF:
        return f"took more than {PROCESSOR_SECONDS} s of processor time"
    return f"was killed by {signal.Signals(-code).name}"


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        # This package first: `python -c` in a checkout finds it by an empty entry, which is left out here.
        "PYTHONPATH": os.pathsep.join([str(SERVICE.parents[2]), *(path for path in sys.path if path)]),
        # One image at a time, by one thread.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        # One arena for each thread of a video's decoder would exceed the memory limit.
        "MALLOC_ARENA_MAX": "2",
        # Memory of an image's size is kept for the next image, and not taken from the kernel each time.
        "MALLOC_MMAP_THRESHOLD_": str(1 << 28),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 29),
        # A video may be a list of addresses, which must not be fetched.
        "OPENCV_FFMPEG_CAPTURE_OPTIONS": "protocol_whitelist;file",
    }


_shared: DecoderProcess | None = None


def shared_decoder() -> DecoderProcess:
    """The decoder that all of this process share. It ends with the process."""
    global _shared
    if _shared is None:
        _shared = DecoderProcess()
    return _shared
