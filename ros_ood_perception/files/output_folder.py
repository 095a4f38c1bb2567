"""The output folder of a command: apart from its inputs, and with a list of the files written.

Only files on that list are deleted or replaced. A folder that holds anything else is refused unchanged.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.atomic_files import name_of_temporary, naming, write_file
from ros_ood_perception.shown_text import printable

LIST_FILE = ".ros_ood_perception_files"
_FIRST_LINE = "ros_ood_perception 1 "
MOST_NAMED = 5
"""Number of foreign files that an error names."""


class OutputFolderError(PerceptionError, ValueError):
    """Writing to the folder could do harm. The message names what would be lost, and what to give instead."""


def check_apart(option: str, output: Path, inputs: Mapping[str, Path | None]) -> None:
    """Refuse an output that is an input, holds one, or lies in one. Nothing is written or deleted.

    Paths are compared with their symbolic links resolved, also those of every file in an input folder. Hard links and
    bind mounts are found by device and inode number.

    Args:
        option: that gave `output`, for errors.
        output: a folder or file that will be written; it need not exist.
        inputs: option to a folder or file that is read; None is skipped.

    Raises:
        OutputFolderError: they overlap.
        OSError: a folder cannot be read.
    """
    target = _resolved(option, output)
    ours = {number for path in (target, *_below(target)) if (number := _number(path)) is not None}
    for name, given in inputs.items():
        if given is None:
            continue
        read = _resolved(name, given)
        relation = _relation(target, read)
        if relation is None and _number(target) is not None and _number(target) in map(_number, read.parents):
            relation = "holds"
        if relation is None and _number(read) in map(_number, target.parents) and read.is_dir():
            relation = "lies in"
        if relation is None and _number(read) in ours:
            relation = "is, or holds,"
        if relation is not None:
            raise _overlap(option, output, relation, name, given)
        for path in _below(given):
            # Only links and mounts lead out of a folder that was compared above.
            led = _relation(target, _resolved(name, path)) if path.is_symlink() else None
            if led is None and _number(path) in ours:
                led = "holds"
            if led is not None:
                raise _overlap(option, output, led, name, path)


def _overlap(option: str, output: Path, relation: str, name: str, given: Path) -> OutputFolderError:
    return OutputFolderError(
        f"{option} {printable(str(output))} {relation} what is read ({name}: {printable(str(given))}) and would be "
        f"written over it; give another {option}"
    )


def _relation(target: Path, read: Path) -> str | None:
    if target == read:
        return "is"
    if target in read.parents:
        return "holds"
    return "lies in" if read in target.parents else None


def _resolved(option: str, path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, or characters that no path has
        raise OutputFolderError(f"{option} {printable(str(path))} is not a path ({error})") from error


def _number(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _below(folder: Path) -> Iterator[Path]:
    """Files and folders below a folder, links not followed; nothing for a file."""

    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=fail if folder.is_dir() else None):
        for name in (*folders, *files):
            yield Path(place) / name


class OutputFolder:
    """A folder and the list of the files that a command has written into it.

    The list is a file with a name in each line, which is added before its file is created. Files without a name in it
    are foreign, and so are all links, mounts and special files.
    """

    def __init__(self, path: Path, program: str) -> None:
        self.path = path
        self.program = program
        self._names: set[str] = set()

    @property
    def _list(self) -> Path:
        return self.path / LIST_FILE

    @classmethod
    def claim(cls, path: Path, program: str, option: str = "--out") -> OutputFolder:
        """Take a new or empty folder, or one that an earlier run of the program wrote, which is emptied.

        Raises:
            OutputFolderError: it holds something else; nothing has been changed.
            OSError: with the path.
        """
        folder = cls(path, program)
        if os.path.lexists(path) and not path.is_dir():
            raise OutputFolderError(f"{option} {printable(str(path))} is not a folder; give another {option}")
        if path.is_dir() and any(path.iterdir()):
            folder.read(option)
            folder.clear(option)
        folder._begin()
        return folder

    @classmethod
    def reopen(cls, path: Path, program: str, option: str = "--out") -> OutputFolder:
        """Take a folder that an earlier run of the program wrote, with its files, to continue in it.

        Raises:
            OutputFolderError: the program has not written it, or a link has replaced one of its files.
        """
        folder = cls(path, program)
        folder.read(option)
        linked = [name for name in sorted(folder._names) if _is_link(path / name, path)]
        if linked:
            raise OutputFolderError(
                f"{path / linked[0]}: a link has replaced a file of this program; give another {option}"
            )
        return folder

    @classmethod
    def join(cls, path: Path, program: str, names: Iterable[str] = (), option: str = "--out") -> OutputFolder:
        """Take a folder that may hold anything, to write some files into it.

        Args:
            names: of the files that will be written or replaced.

        Raises:
            OutputFolderError: it holds another program's list, or a file with one of the names that is not on the list.
            OSError: with the path.
        """
        folder = cls(path, program)
        listed = os.path.lexists(path / LIST_FILE)
        if listed:
            folder.read(option)
        folder._check_replaceable(names, option)
        if not listed:
            folder._begin()
        return folder

    def _begin(self) -> None:
        with naming(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_file(self._list, f"{_FIRST_LINE}{self.program}\n")

    def read(self, option: str = "--out", of_any_program: bool = False) -> None:
        """Read the list.

        Raises:
            OutputFolderError: it does not exist, or is another program's.
        """
        shown = printable(str(self.path))
        try:
            if not stat.S_ISREG(self._list.lstat().st_mode):
                raise OSError(f"{LIST_FILE} is not a file")
            lines = self._list.read_text("utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise OutputFolderError(
                f"{option} {shown} is not empty and was not written by {self.program} (there is no {LIST_FILE}); give "
                f"another folder with {option}, or empty this one yourself"
            ) from error
        if of_any_program and lines[0].startswith(_FIRST_LINE):
            self.program = lines[0].removeprefix(_FIRST_LINE)
        if lines[0] != f"{_FIRST_LINE}{self.program}":
            raise OutputFolderError(
                f"{option} {shown} was not written by {self.program}; give another folder with {option}"
            )
        # The last line has no line break if the process died while writing it; that file was never created.
        for line in lines[1:-1]:
            with contextlib.suppress(ValueError):
                name = json.loads(line)
                if isinstance(name, str) and is_plain(name):
                    self._names.add(name)

    def names(self, below: str = "") -> list[str]:
        """The names on the list that begin with `below`, sorted."""
        return sorted(name for name in self._names if name.startswith(below))

    def add(self, *names: str) -> None:
        """Put names on the list, before their files are created.

        Args:
            names: relative paths with `/`. A name that ends in `/` is a folder with a list of its own.

        Raises:
            OSError: with the path.
        """
        new = [name for name in names if name not in self._names]
        assert all(map(is_plain, new)), new
        if not new:
            return
        with naming(self._list), self._list.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(name)}\n" for name in new)
        self._names.update(new)

    def write(self, name: str, contents: bytes | str) -> Path:
        """Write a file of the folder, see `write_file`; returns its path.

        Raises:
            OSError: with the path.
        """
        self.add(name)
        path = self.path / name
        with naming(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, contents)
        return path

    def _check_replaceable(self, names: Iterable[str], option: str) -> None:
        there = [name for name in names if name not in self._names and os.path.lexists(self.path / name)]
        if there:
            raise OutputFolderError(
                f"{option} {printable(str(self.path))} holds {_listed(there)}, which {self.program} did not write and "
                f"would replace; give another folder with {option}"
            )

    def foreign(self) -> list[str]:
        """Relative paths of what lies in the folder and is not on the list."""
        above = {LIST_FILE}
        for name in self._names:
            parts = name.rstrip("/").split("/")
            above |= {"/".join(parts[:length]) for length in range(1, len(parts))}
        found = []
        for place, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                path = Path(place) / name
                relative = path.relative_to(self.path).as_posix()
                mode = path.lstat().st_mode
                if stat.S_ISDIR(mode) and not os.path.ismount(path):
                    if f"{relative}/" in self._names:
                        # It has its own list.
                        folders.remove(name)
                        found += self._foreign_of(relative)
                    elif relative not in above:
                        folders.remove(name)
                        found.append(f"{relative}/")
                elif not stat.S_ISREG(mode) or not self._is_own(relative):
                    found.append(relative)
                    if name in folders:
                        folders.remove(name)
        return sorted(found)

    def _foreign_of(self, relative: str) -> list[str]:
        inner = OutputFolder(self.path / relative, "")
        try:
            inner.read(of_any_program=True)
        except OutputFolderError:
            return [f"{relative}/"] if any(inner.path.iterdir()) else []
        return [f"{relative}/{name}" for name in inner.foreign()]

    def _is_own(self, relative: str) -> bool:
        folder, _, name = relative.rpartition("/")
        target = name_of_temporary(name)
        if target is not None and (target == LIST_FILE or f"{folder}/{target}".lstrip("/") in self._names):
            return True
        return relative in self._names or relative == LIST_FILE

    def clear(self, option: str = "--out") -> None:
        """Delete the files on the list, the folders that are empty then, and last the list.

        Raises:
            OutputFolderError: there are other files; nothing has been deleted.
            OSError: with the path.
        """
        foreign = self.foreign()
        if foreign:
            raise OutputFolderError(
                f"{option} {printable(str(self.path))} holds what {self.program} did not write: {_listed(foreign)}; "
                f"move it away, or give another folder with {option}"
            )
        self.delete(name for name in self._names if not name.endswith("/"))
        for name in self._names:
            if name.endswith("/") and (self.path / name).is_dir():
                inner = OutputFolder(self.path / name, "")
                with contextlib.suppress(OutputFolderError):
                    inner.read(option, of_any_program=True)
                    inner.clear(option)
                _remove_if_empty(self.path / name)
        for place, _, files in os.walk(self.path, topdown=False):
            for file in files:
                if name_of_temporary(file) is not None:
                    Path(place, file).unlink(missing_ok=True)
            if Path(place) != self.path:
                _remove_if_empty(Path(place))
        self._list.unlink(missing_ok=True)
        self._names.clear()

    def remove(self, option: str = "--out") -> None:
        """`clear`, and delete the folder itself."""
        self.clear(option)
        with naming(self.path):
            self.path.rmdir()

    def delete(self, names: Iterable[str]) -> None:
        """Delete files that are on the list, which keeps their names. Missing files are skipped.

        Raises:
            OSError: with the path.
        """
        for name in names:
            assert name in self._names, name
            (self.path / name).unlink(missing_ok=True)

    def delete_folder(self, name: str) -> None:
        """Delete the listed files below a folder, and the folders that are empty then.

        Raises:
            OSError: with the path.
        """
        self.delete(self.names(f"{name}/"))
        for place, _, _ in os.walk(self.path / name, topdown=False):
            _remove_if_empty(Path(place))


def is_plain(name: str) -> bool:
    """Whether a relative name stays in its folder: without `..` and empty levels, and not absolute.

    >>> is_plain("bag/bag_0.mcap"), is_plain("../other")
    (True, False)
    """
    levels = name.removesuffix("/").split("/")
    return "\0" not in name and all(level not in ("", ".", "..") for level in levels)


def _is_link(path: Path, root: Path) -> bool:
    """Whether a path or a folder above it, below `root`, is a link."""
    return any(place.is_symlink() for place in (path, *path.parents) if root in place.parents)


def _remove_if_empty(folder: Path) -> None:
    # A file that was put there a moment ago stays.
    with contextlib.suppress(OSError):
        folder.rmdir()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(printable(name, 200) for name in names[:MOST_NAMED]) + more
