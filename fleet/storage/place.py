"""A file or folder by path or URI: local, or in an object store through `pyarrow.fs` or `fsspec`."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.atomic_files import replacing, write_file
from ros_ood_perception.shown_text import error_line, printable

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
COPIED_AT_A_TIME = 1 << 22
"""Bytes of a file that are in memory while it is copied."""


class PlaceError(PerceptionError, ValueError):
    """A path or URI that cannot be used. The message names it and says what to give."""


@dataclass(frozen=True)
class Place:
    """A file or folder, which need not exist.

    Attributes:
        name: path or URI, as it is shown; a local one is an absolute path.
        path: within `filesystem`.
    """

    name: str
    path: str
    filesystem: Any = field(repr=False, compare=False)

    @property
    def local(self) -> Path | None:
        """Its path on this machine; None if it lies elsewhere."""
        return Path(self.path) if isinstance(self.filesystem, fs.LocalFileSystem) else None

    def child(self, *names: str) -> Place:
        """A file or folder below this folder."""
        return Place(
            "/".join((self.name.rstrip("/"), *names)), "/".join((self.path.rstrip("/"), *names)), self.filesystem
        )

    def size(self) -> int | None:
        """Bytes of a file, or of all files of a folder; None: there is neither.

        Raises:
            OSError: it cannot be read.
        """
        info = self.filesystem.get_file_info(self.path)
        if info.type == fs.FileType.NotFound:
            return None
        if info.is_file:
            return int(info.size)
        return sum(
            below.size
            for below in self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=True))
            if below.is_file
        )

    def entries(self) -> dict[str, bool]:
        """Names in a folder, sorted, without hidden ones, each with whether it is a folder; empty if it is none.

        Raises:
            OSError: it cannot be read.
        """
        infos = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        found = {info.base_name: info.type == fs.FileType.Directory for info in infos}
        return {name: found[name] for name in sorted(found) if not name.startswith(".")}

    def is_folder(self) -> bool:
        """Whether it is a folder.

        Raises:
            OSError: it cannot be read.
        """
        return bool(self.filesystem.get_file_info(self.path).type == fs.FileType.Directory)

    def is_file(self) -> bool:
        """Whether it is a file.

        Raises:
            OSError: it cannot be read.
        """
        return bool(self.filesystem.get_file_info(self.path).is_file)

    def read(self) -> bytes:
        """The contents of a file.

        Raises:
            OSError: it cannot be read.
        """
        with self.filesystem.open_input_stream(self.path) as stream:
            return bytes(stream.read())

    def write(self, contents: bytes) -> None:
        """Replace a file: afterwards it holds the old contents or all of the new ones. Its folder is made.

        Raises:
            OSError: it cannot be written.
        """
        local = self.local
        if local is not None:
            local.parent.mkdir(parents=True, exist_ok=True)
            write_file(local, contents)
            return
        self.filesystem.create_dir(self.path.rpartition("/")[0], recursive=True)
        # An object appears whole when its stream is closed.
        with self.filesystem.open_output_stream(self.path) as stream:
            stream.write(contents)

    def put(self, file: Path) -> None:
        """As `write`, with the contents of a local file, which need not fit into memory.

        Raises:
            OSError: it cannot be read or written.
        """
        local = self.local
        if local is not None:
            local.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, replacing(local) as copy:
                shutil.copyfileobj(source, copy, COPIED_AT_A_TIME)
            return
        self.filesystem.create_dir(self.path.rpartition("/")[0], recursive=True)
        with file.open("rb") as source, self.filesystem.open_output_stream(self.path) as stream:
            while block := source.read(COPIED_AT_A_TIME):
                stream.write(block)

    def delete_file(self) -> None:
        """Delete a file, if it is there.

        Raises:
            OSError: it cannot be deleted.
        """
        if self.is_file():
            self.filesystem.delete_file(self.path)

    def delete_folder(self) -> None:
        """Delete a folder with what is in it, if it is there.

        Raises:
            OSError: it cannot be deleted.
        """
        if self.is_folder():
            self.filesystem.delete_dir(self.path)

    def fetch(self, folder: Path) -> Path:
        """Copy the file or folder into a local folder.

        Returns:
            The copy, which has the same name.

        Raises:
            OSError: it cannot be read, or the copy not written.
        """
        target = folder / Path(self.path).name
        if self.is_folder():
            selector = fs.FileSelector(self.path, recursive=True)
            for info in self.filesystem.get_file_info(selector):
                if info.is_file:
                    self._copy(info.path, target / Path(info.path).relative_to(self.path))
        else:
            self._copy(self.path, target)
        return target

    def _copy(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.filesystem.open_input_stream(path) as source, target.open("wb") as copy:
            while block := source.read(COPIED_AT_A_TIME):
                copy.write(block)


def open_place(given: str) -> Place:
    """The place of a path or URI.

    `file://`, `s3://`, `gs://`, `hdfs://` and `abfs://` go through `pyarrow.fs`; any other through `fsspec`, with the
    package that it asks for (`az://`: adlfs).

    Raises:
        PlaceError: the scheme is unknown, or its package is not installed.

    >>> open_place("/drives/monday").local
    PosixPath('/drives/monday')
    >>> open_place("file:///drives/monday").name
    '/drives/monday'
    """
    scheme = _URI.match(given)
    try:
        if scheme is None:
            path = str(Path(given).expanduser().absolute())
            return Place(path, path, fs.LocalFileSystem())
        if scheme[1] == "file":
            path = str(Path(fs.FileSystem.from_uri(given)[1]))
            return Place(path, path, fs.LocalFileSystem())
        if scheme[1] in ("s3", "gs", "gcs", "hdfs", "abfs", "abfss"):
            filesystem, path = fs.FileSystem.from_uri(given.rstrip("/"))
        else:
            import fsspec

            other, path = fsspec.core.url_to_fs(given.rstrip("/"))
            filesystem = fs.PyFileSystem(fs.FSSpecHandler(other))
    except (pa.ArrowException, ImportError, ValueError, OSError) as error:
        raise PlaceError(
            f"{printable(given)}: cannot be opened ({error_line(error)}); give a local path, or a URI such as "
            "s3://BUCKET/FOLDER whose package is installed on every machine"
        ) from error
    return Place(given.rstrip("/"), path, filesystem)


@contextmanager
def on_this_machine(place: Place, scratch: Path) -> Iterator[Path]:
    """A local path of a recording: its own, or that of a copy that is deleted afterwards.

    Args:
        scratch: a local folder for the copy.

    Raises:
        PlaceError: it does not exist.
        OSError: it cannot be copied, such as onto a full disk.
    """
    local = place.local
    if local is not None:
        yield local
        return
    if place.size() is None:
        raise PlaceError(f"{place.name}: no such file or folder")
    yield place.fetch(scratch)
