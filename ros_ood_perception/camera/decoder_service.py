"""The program of a decoder process: answers requests until the other side closes the socket. See `decoder_process`."""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.decoder_limits import (
    MEMORY_BYTES,
    MEMORY_BYTES_A_PIXEL,
    MESSAGE_BYTES,
    PROCESSOR_SECONDS,
)
from ros_ood_perception.camera.image_bytes import check_image_bytes
from ros_ood_perception.camera.image_decoder import colour_of, decode_labels
from ros_ood_perception.camera.raw_image import MalformedImageError, check_not_too_large

VIDEO_SIGNATURE_BYTES = 16


def serve(socket_fd: int, memory_fd: int, memory_bytes: int, max_pixels: int) -> None:
    """Answer requests on a socket. Image bytes and pixels are in the shared memory."""
    # The other side ends this process by closing the socket, also after a signal to the whole process group.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    cv2.setNumThreads(1)
    own = socket.socket(fileno=socket_fd)
    memory = mmap.mmap(memory_fd, memory_bytes)
    limit_memory(max_pixels)
    service = _Service(memory)
    own.sendall(b"ready")
    while request := own.recv(MESSAGE_BYTES):
        # Of processor time, so that no image is malformed on a busy machine. The signal ends the process.
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
        answer = service.answer(json.loads(request))
        signal.setitimer(signal.ITIMER_PROF, 0)
        own.sendall(json.dumps(answer).encode())


def limit_memory(max_pixels: int) -> None:
    """Limit the memory of this process to what images of `max_pixels` need on top of now, and write no core dump."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES + MEMORY_BYTES_A_PIXEL * max_pixels
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Service:
    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._video: cv2.VideoCapture | None = None
        self._video_pixels = 0

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request. A problem with the image is an answer too."""
        try:
            if request["do"] == "open video":
                return self._open_video(Path(request["path"]), request["max_pixels"])
            if request["do"] == "video frame":
                return self._video_frame()
            data = self._memory[: request["size"]]
            if request["do"] == "labels":
                return self._written(decode_labels(data, request["max_pixels"]))
            return self._written(colour_of(check_image_bytes(data, request["max_pixels"], request["kinds"])))
        except MalformedImageError as error:
            return {"kind": error.kind, "problem": str(error)}
        except MemoryError:
            return {"kind": "image too large", "problem": "its decoder needs more memory than it may have"}

    def _written(self, pixels: NDArray[Any]) -> dict[str, Any]:
        place = np.frombuffer(self._memory, pixels.dtype, pixels.size).reshape(pixels.shape)
        np.copyto(place, pixels)
        return {"shape": pixels.shape, "dtype": str(pixels.dtype)}

    def _open_video(self, path: Path, max_pixels: int) -> dict[str, Any]:
        self._video = None
        with path.open("rb") as file:
            if not _is_video(file.read(VIDEO_SIGNATURE_BYTES)):
                raise MalformedImageError("not a video", "does not begin as an MP4, MOV, AVI, MKV, WebM or MPEG file")
        capture = cv2.VideoCapture(str(path))
        # Not turned by metadata, as for every other source.
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        if not capture.isOpened():
            raise MalformedImageError("corrupt data", "cannot be decoded as a video")
        width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        check_not_too_large(height, width, max_pixels)
        self._video, self._video_pixels = capture, max_pixels
        frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return {"frames": int(frames) if 0 < frames < 2**53 else 0}

    def _video_frame(self) -> dict[str, Any]:
        if self._video is None:
            return {"end": True}
        read, image = self._video.read()
        if not read:
            self._video = None
            return {"end": True}
        check_not_too_large(image.shape[0], image.shape[1], self._video_pixels)
        return {**self._written(image), "time_ms": self._video.get(cv2.CAP_PROP_POS_MSEC)}


def _is_video(begin: bytes) -> bool:
    """Whether a file begins like a video container. FFmpeg would also open a list of addresses or files."""
    return (
        begin[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
        or (begin[:4] == b"RIFF" and begin[8:12] == b"AVI ")
        or begin.startswith((b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"\x47"))
    )


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
