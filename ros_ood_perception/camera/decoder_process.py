"""A process that decodes images and videos of strangers, and may die of them: the second line behind `image_bytes`.

It gets bytes, or the path of a video, and gives pixels, through shared memory. Its memory and its processor time are
limited. Where it dies, the image that it died of is malformed, and the next one is given to a new process.

    from ros_ood_perception.camera.decoder_process import DecoderProcess

    with DecoderProcess() as decoder:
        pixels = decoder.colour(path.read_bytes(), max_pixels=1920 * 1080)

Costs a frame: see docs/images.md and `python -m benchmark.image_decoding`.
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
from ros_ood_perception.camera.raw_image import DEFAULT_MAX_PIXELS, MalformedImageError

ANSWER_SECONDS = 300.0
"""For one image on a machine that does something else; a process that waits for nothing takes no processor time."""
START_SECONDS = 120.0
SERVICE = Path(__file__).with_name("decoder_service.py")

Answer = TypeVar("Answer")


class DecoderStartError(OSError):
    """No decoder process could be started."""


class DecoderProcess:
    """Decodes in another process; begins one when the first image comes and after each death. Safe to use in threads.

    Args:
        max_pixels: of the largest image; a request with a larger limit begins a larger process.
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
            MalformedImageError: as there, or the process died of the image, or took too long.
            DecoderStartError: there is no process, and none can be started.
        """
        return self._decoded("colour", data, max_pixels, list(kinds))

    def labels(self, data: bytes, max_pixels: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """(H, W) uint8 or uint16; see `image_decoder.decode_labels`.

        Raises:
            MalformedImageError, DecoderStartError: as for `colour`.
        """
        return self._decoded("labels", data, max_pixels, [])

    def open_video(self, path: Path, max_pixels: int) -> int:
        """Open a video, and close the one before; for one user of this process at a time.

        Returns:
            How many frames it declares; 0 where it does not say.

        Raises:
            MalformedImageError: it cannot be opened, its frames are too large, or the process died of it.
            DecoderStartError: as for `colour`.
        """
        with self._lock:
            request = {"do": "open video", "path": os.fspath(path.absolute()), "max_pixels": max_pixels}
            return self._asked(self._running(max_pixels), request, lambda answer: int(answer["frames"]))

    def video_frame(self) -> tuple[float, NDArray[np.uint8]] | None:
        """The next frame of the open video: its time in ms, and (H, W, 3) uint8 BGR; None after the last.

        Raises:
            MalformedImageError: the process died of it; then no video is open.
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
            # What it says is not trusted either, for it has read the image.
            self.close()
            raise MalformedImageError("killed its decoder", f"its decoder gave no sense ({error!r})") from error
        raise MalformedImageError(str(answer["kind"]), str(answer["problem"]))

    def _running(self, max_pixels: int) -> _Child:
        child = self._child
        if child is not None and child.is_of_this_process() and child.max_pixels >= max_pixels:
            return child
        # After a fork the process is the parent's: it answers nobody else.
        if child is not None:
            child.end()
        self._max_pixels = max(self._max_pixels, max_pixels)
        self._child = _Child(self._max_pixels)
        return self._child


class _DiedError(Exception):
    """What became of the process; the message goes on after "its decoder"."""


class _Child:
    """One process, and the memory that is shared with it."""

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self._owner = os.getpid()
        size = max_bytes(max_pixels)
        descriptor = os.memfd_create("decoder", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            os.ftruncate(descriptor, size)
            # Memory that the other side makes smaller would kill this one.
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self.memory = mmap.mmap(descriptor, size)
            handed = (other.fileno(), descriptor)
            self.process = subprocess.Popen(
                # As a file: -m would look for modules in the working directory, which may be a stranger's folder.
                [sys.executable, str(SERVICE), *map(str, (*handed, size, max_pixels))],
                pass_fds=handed,
                stdin=subprocess.DEVNULL,
                # What decoders write is not for whoever sends images to fill a log with.
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
        """The answer to one request.

        Raises:
            _DiedError: there is none.
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
        """A copy of the pixels that an answer tells of.

        Raises:
            ValueError, KeyError, TypeError: it makes no sense.
        """
        shape = tuple(int(side) for side in answer["shape"])
        kind: np.dtype[Any] = np.dtype({"uint8": np.uint8, "uint16": np.uint16}[answer["dtype"]])
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if min(shape) < 1 or size > len(self.memory):
            raise ValueError(f"it says that it has decoded {shape}")
        return np.frombuffer(self.memory, kind, size // kind.itemsize).reshape(shape).copy()

    def end(self) -> None:
        self._socket.close()
        # A copy of an array may still look into it.
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
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        # One image at a time, each by one thread.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        # An arena for each thread of a video's decoder would reserve more than the process may have.
        "MALLOC_ARENA_MAX": "2",
        # Memory of an image's size is kept for the next one, and not fetched from the kernel page by page each time.
        "MALLOC_MMAP_THRESHOLD_": str(1 << 28),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 29),
        # A video that is a list of addresses is not to be fetched.
        "OPENCV_FFMPEG_CAPTURE_OPTIONS": "protocol_whitelist;file",
    }


_shared: DecoderProcess | None = None


def shared_decoder() -> DecoderProcess:
    """The one of this process, for whoever reads images now and then. It ends with the process."""
    global _shared
    if _shared is None:
        _shared = DecoderProcess()
    return _shared
