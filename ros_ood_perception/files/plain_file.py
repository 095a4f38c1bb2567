"""Reads a file that a stranger may have put there: an ordinary one, of a bounded size, whole, and once."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ros_ood_perception.errors import PerceptionError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


class NotPlainError(PerceptionError, ValueError):
    """What is there is no ordinary file, or too large. The message names it, with the remedy."""


def read_plain_file(path: Path, most_bytes: int, folder: int | None = None) -> bytes:
    """The contents of an ordinary file.

    A symbolic link to one counts (`colcon build --symlink-install` makes them). What is opened is never waited for:
    a named pipe or a device in the file's place is refused, not read.

    Args:
        most_bytes: a larger file is refused before it is read.
        folder: descriptor of a folder of the user's own that `path`, a bare name then, is in: no link is followed
            there, and a file that others can write to is refused.

    Raises:
        OSError: there is none, or it cannot be read.
        NotPlainError: it is no ordinary file, larger than `most_bytes`, or it changed while it was read.
    """
    follow = folder is None
    # Asked before it is opened as well: to open a device can start what it stands for.
    _refuse_special(path, os.stat(path, dir_fd=folder, follow_symlinks=follow))
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    with os.fdopen(os.open(path, flags, dir_fd=folder), "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        _refuse_special(path, status)
        if not follow and others_can_write(status):
            raise NotPlainError(
                f"{path}: other users can write to it, or it is theirs; take it back (chown, chmod go-w)"
            )
        if status.st_size > most_bytes:
            raise NotPlainError(f"{path}: has {status.st_size} bytes; at most {most_bytes} are read")
        return _whole(path, file.fileno(), status.st_size)


def others_can_write(status: os.stat_result) -> bool:
    """Whether somebody beside this user and root can write to a file or folder."""
    return status.st_uid not in (os.geteuid(), 0) or bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _whole(path: Path, file: int, size: int) -> bytes:
    parts, there = [], 0
    # One byte more than there should be shows that it grew.
    while there <= size:
        part = os.read(file, size + 1 - there)
        if not part:
            break
        parts.append(part)
        there += len(part)
    if there != size:
        raise NotPlainError(f"{path}: its size is {size} bytes and {there} came; was it being written? Try again")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _refuse_special(path: Path, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise NotPlainError(f"{path}: is {_KINDS.get(kind, 'no file')}; put an ordinary file there")
