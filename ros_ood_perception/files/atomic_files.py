"""Files that are complete or absent, also after a power cut; and write errors that name the file.

Every file that another run reads is written by one of these functions. A library that needs a path or a file of its own
writes into memory, into the file of `replacing`, or into a file that `move_into_place` then publishes.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+\.part")


def write_file(path: Path, contents: bytes | str, sync: bool = True) -> None:
    """Replace a file: afterwards it holds the old contents or all of the new ones. Text is written as UTF-8.

    Args:
        sync: False for one of many files that count only with a last one, before which `sync_all` is called.

    Raises:
        OSError: it cannot be written, with the path; no temporary file is left behind.
    """
    with replacing(path, sync) as file:
        file.write(contents.encode("utf-8") if isinstance(contents, str) else contents)


@contextlib.contextmanager
def replacing(path: Path, sync: bool = True, folder: int | None = None, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A new file to write into. It replaces `path` when the block ends without an error.

    Contents and folder are on the disk (fsync) when the block has ended, unless `sync` is false. A device or a pipe,
    such as /dev/stdout and /dev/null, is never replaced: it is written to.

    Args:
        folder: descriptor of the folder to write into; `path` is then a bare name in it.
        mode: permissions of the new file, less those of the umask.

    Raises:
        OSError: it cannot be written, with the path; no temporary file is left behind.
    """
    if folder is None and _is_stream(path):
        with naming(path), path.open("wb") as stream:
            yield stream
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with naming(path):
            # Left by a killed process with the same number.
            _unlink(temporary, folder)
            # Created anew: a symbolic link with this name would lead elsewhere.
            with os.fdopen(os.open(temporary, flags, mode, dir_fd=folder), "wb") as file:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            os.replace(temporary, path, src_dir_fd=folder, dst_dir_fd=folder)
            if sync and folder is None:
                sync_folder(path.parent)
            elif sync and folder is not None:
                os.fsync(folder)
    finally:
        # The folder may not exist, or not be a folder.
        with contextlib.suppress(OSError):
            _unlink(temporary, folder)


def _is_stream(path: Path) -> bool:
    """Whether there is a character device or a pipe. Replacing it would take it away from every other program."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _unlink(path: Path, folder: int | None) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path, dir_fd=folder)


def move_into_place(source: Path, target: Path) -> None:
    """Publish a finished file under another name of the same disk; contents and name are on the disk afterwards.

    Raises:
        OSError: with the path.
    """
    sync_file(source)
    with naming(target):
        os.replace(source, target)
    sync_folder(target.parent)


def name_of_temporary(name: str) -> str | None:
    """The name of the file that a temporary file of `replacing` was for; None for any other name."""
    found = _TEMPORARY.fullmatch(name)
    return found["name"] if found else None


def sync_all() -> None:
    """Flush everything that was written to the disk."""
    os.sync()


def sync_file(path: Path) -> None:
    """Flush a file's contents to the disk.

    Raises:
        OSError: with the path.
    """
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk.

    Raises:
        OSError: with the path.
    """
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    with naming(path):
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an `OSError` of the block this path. Errors of a write, such as a full disk, name no file.

    Raises:
        OSError: with the same number.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
