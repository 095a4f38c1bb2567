"""Files that a stranger may have written: only regular files are read, and no more of them than was asked for.

A named pipe would block for ever, a device has no end, and opening a device can start what it stands for.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType

from ros_ood_perception.errors import PerceptionError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}
_WINDOW_BYTES = 1 << 13


class NotPlainError(PerceptionError, OSError):
    """A path that is not a regular file, or a file that is too large. The message names it and the remedy.

    Attributes:
        path: of the file.
        problem: the message without the path.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem

    def __reduce__(self) -> tuple[type[NotPlainError], tuple[Path, str]]:
        """For pickle, which passes `args` to the constructor otherwise: the message alone."""
        return type(self), (self.path, self.problem)


def check_plain(path: Path) -> None:
    """Check that a path is a regular file, or a symbolic link to one, without opening it.

    Raises:
        OSError: it does not exist, or must not be read.
        NotPlainError: it is not a regular file.
    """
    _check_regular(path, os.stat(path))


def read_plain_file(path: Path, most_bytes: int, folder: int | None = None) -> bytes:
    """The contents of a regular file. Symbolic links are followed: `colcon build --symlink-install` makes them.

    Args:
        most_bytes: a larger file is refused before it is read.
        folder: descriptor of the folder that holds `path`, which is then a bare name. Symbolic links in it are not
            followed, and a file that other users can write to is refused.

    Raises:
        OSError: it does not exist, or cannot be read.
        NotPlainError: it is not a regular file, is larger than `most_bytes`, or changed while it was read.
    """
    file, status = _opened(path, folder)
    try:
        if folder is not None and others_can_write(status):
            raise NotPlainError(path, "other users can write to it, or it is theirs; take it back (chown, chmod go-w)")
        if status.st_size > most_bytes:
            raise NotPlainError(path, f"has {status.st_size} bytes; at most {most_bytes} are read")
        return _whole(path, file, status.st_size)
    finally:
        os.close(file)


def others_can_write(status: os.stat_result) -> bool:
    """Whether any user but this one and root can write to a file or folder."""
    return status.st_uid not in (os.geteuid(), 0) or bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


class PlainFile:
    """A regular file for reading at any position. It is read, not mapped: a bad sector is an error, not a signal.

    Attributes:
        size: bytes, when it was opened.

    Raises:
        OSError: it does not exist, or cannot be read.
        NotPlainError: it is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        self._file, status = _opened(path)
        self.size = status.st_size
        self._window = b""
        self._window_begin = 0

    def __enter__(self) -> PlainFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def read(self, position: int, size: int) -> bytes:
        """`size` bytes from `position` on; fewer only at the end of the file."""
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
        """As `read`, for a few bytes: the bytes that follow are read ahead."""
        begin = position - self._window_begin
        if begin < 0 or begin + size > len(self._window):
            self._window, self._window_begin, begin = self.read(position, max(size, _WINDOW_BYTES)), position, 0
        return self._window[begin : begin + size]


def _opened(path: Path, folder: int | None = None) -> tuple[int, os.stat_result]:
    """Descriptor and status of a regular file; opening never blocks. See `read_plain_file` for `folder` and errors."""
    follow = folder is None
    # Checked before it is opened, as opening a device can have an effect; and after, as it can be another file by then.
    _check_regular(path, os.stat(path, dir_fd=folder, follow_symlinks=follow))
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    file = os.open(path, flags, dir_fd=folder)
    try:
        status = os.fstat(file)
        _check_regular(path, status)
    except OSError:
        os.close(file)
        raise
    return file, status


def _check_regular(path: Path, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise NotPlainError(path, f"is {_KINDS.get(kind, 'not a file')}; put a regular file there")


def _whole(path: Path, file: int, size: int) -> bytes:
    parts, there = [], 0
    # One byte more than expected shows that the file grew.
    while there <= size:
        part = os.read(file, size + 1 - there)
        if not part:
            break
        parts.append(part)
        there += len(part)
    if there != size:
        raise NotPlainError(path, f"its size was {size} bytes, {there} were read; was it being written? Try again")
    return parts[0] if len(parts) == 1 else b"".join(parts)
