"""Files that are there whole or not at all, also after a power cut; and errors of writing that name the file.

Every file of ours that another run reads is written by one of these functions. What cannot write straight into them (a
library that wants a path, or its own file) writes into memory, or within `naming`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+\.part")


def write_file(path: Path, contents: bytes | str, sync: bool = True) -> None:
    """Replace a file: afterwards it holds the old contents or all of the new ones. Text is written as UTF-8.

    Args:
        sync: False for one of many files that count only with a last one, before which `sync_all` is called.

    Raises:
        OSError: it cannot be written, with the path; nothing is left beside it.
    """
    with replacing(path, sync) as file:
        file.write(contents.encode("utf-8") if isinstance(contents, str) else contents)


@contextlib.contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[IO[bytes]]:
    """A new file to write into, which takes the place of `path` when the block is left without an error.

    Contents and folder are on the disk (fsync) when the block has been left, unless `sync` is false.

    Raises:
        OSError: it cannot be written, with the path; nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            # Of a process with the same number that was killed.
            temporary.unlink(missing_ok=True)
            # Created anew: a link of that name would lead elsewhere.
            with temporary.open("xb") as file:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
            if sync:
                sync_folder(path.parent)
    finally:
        # Where the folder itself is no folder, there is nothing to remove.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def name_of_temporary(name: str) -> str | None:
    """The file that a temporary one of `replacing` was for; None where `name` is no such file."""
    found = _TEMPORARY.fullmatch(name)
    return found["name"] if found else None


def sync_all() -> None:
    """Have all that was written on the disk."""
    os.sync()


def sync_file(path: Path) -> None:
    """Have a file's contents on the disk.

    Raises:
        OSError: with the path.
    """
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk.

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
    """An `OSError` from within names this path: those of a write (a full disk, say) name none of their own.

    Raises:
        OSError: of the same number.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
