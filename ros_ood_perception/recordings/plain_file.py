"""Plain files of strangers: a FIFO would wait for ever, and a device has no end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType

from ros_ood_perception.errors import PerceptionError

_WINDOW_BYTES = 1 << 13


class NotPlainError(PerceptionError, OSError):
    """The path is no plain file, or does not lead to one."""


def check_plain(path: Path) -> None:
    """Links are followed: recordings are often links into a store.

    Raises:
        NotPlainError: a FIFO, a device, a socket or a folder.
        OSError: it is not there, or may not be read.
    """
    _check_mode(path.stat().st_mode, path)


def _check_mode(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        raise NotPlainError(f"{path.name} is no plain file")


class PlainFile:
    """A plain file for reading at any place. Read, not mapped: a bad sector is an error, and ends no process.

    Attributes:
        size: bytes, when it was opened.

    Raises:
        NotPlainError, OSError: see `check_plain`.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(self._file)
            _check_mode(found.st_mode, path)
        except OSError:
            os.close(self._file)
            raise
        self.size = found.st_size
        self._window = b""
        self._window_begin = 0

    def __enter__(self) -> PlainFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def read(self, position: int, size: int) -> bytes:
        """`size` bytes from `position` on, fewer only at the end of the file."""
        size = min(size, self.size - position)
        if size <= 0:
            return b""
        data = os.pread(self._file, size, position)
        if len(data) == size:
            return data
        parts = [data]
        while data and sum(map(len, parts)) < size:  # more than the system reads at once, or a file that got shorter
            data = os.pread(self._file, size - sum(map(len, parts)), position + sum(map(len, parts)))
            parts.append(data)
        return b"".join(parts)

    def near(self, position: int, size: int) -> bytes:
        """As `read`, for a few bytes: the next ones are read at the same time."""
        begin = position - self._window_begin
        if begin < 0 or begin + size > len(self._window):
            self._window, self._window_begin, begin = self.read(position, max(size, _WINDOW_BYTES)), position, 0
        return self._window[begin : begin + size]
