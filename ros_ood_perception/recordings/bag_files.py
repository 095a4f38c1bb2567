"""Finds the files of a bag: regular files in its folder, as `metadata.yaml` lists them.

A recorder that was killed can leave `.active` at the end of a name. Files that are compressed as a whole end in `.zstd`
(rosbag2) or `.zst` (the command zstd).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from ros_ood_perception.files.plain_file import NotPlainError, PlainFile, check_plain
from ros_ood_perception.recordings.bag_metadata import METADATA, BagMetadata, MetadataError, read_metadata
from ros_ood_perception.recordings.bag_parts import listed, missing_parts
from ros_ood_perception.recordings.decompression import DecompressionError, decompress_file

STORAGE_ENDINGS = (".mcap", ".db3")
BAG_ENDINGS = (*STORAGE_ENDINGS, ".bag")
COMPRESSED_ENDINGS = (".zstd", ".zst")
UNREAD_COMPRESSIONS = (".lz4", ".gz", ".bz2", ".xz", ".zip")
UNFINISHED_ENDING = ".active"
BAG_FOLDER = "bag"
"""The folder of the bag within the output folder of a replay, a demo run or a rendered drive."""


@dataclass
class BagFiles:
    """The files of a bag.

    Attributes:
        metadata: None if it is missing or unusable.
        paths: paths of the files, in recorded order.
        damage: files that are missing or cannot be read.
        listing: how the names in `metadata.yaml` and in the folder differ. It is no damage if every announced message
            is there: somebody renamed the files.
        notes: what a reader should know, and is no damage.
    """

    metadata: BagMetadata | None
    paths: list[Path]
    damage: list[str] = field(default_factory=list)
    listing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _unpacked: tempfile.TemporaryDirectory[str] | None = None

    def unpack(self) -> None:
        """Decompress files that are compressed as a whole, into a temporary folder that is deleted with this object."""
        for number, path in enumerate(self.paths):
            if not path.name.lower().endswith(COMPRESSED_ENDINGS):
                continue
            if self._unpacked is None:
                self._unpacked = tempfile.TemporaryDirectory(prefix="ros_ood_perception_bag_")
            target = Path(self._unpacked.name) / path.stem
            try:
                with PlainFile(path) as file, path.open("rb") as opened:
                    decompress_file(opened, file.size, target)
            except (DecompressionError, OSError) as error:
                self.damage.append(f"{path.name}: {error}")
            self.paths[number] = target


def bag_ending(name: str) -> str:
    """The one of `BAG_ENDINGS` that says how a file is read; "" if its name is not that of a bag.

    >>> bag_ending("drive_0.db3.zstd"), bag_ending("DRIVE.BAG"), bag_ending("drive_3.bag.active"), bag_ending("a.mp4")
    ('.db3', '.bag', '.bag', '')
    """
    plain = _without_ending(name.lower(), *COMPRESSED_ENDINGS).removesuffix(UNFINISHED_ENDING)
    return next((ending for ending in BAG_ENDINGS if plain.endswith(ending)), "")


def is_bag_name(name: str) -> bool:
    """Whether a file with this name belongs to a bag.

    >>> is_bag_name("drive_0.mcap"), is_bag_name("drive_0.db3.zstd"), is_bag_name("drive.mp4")
    (True, True, False)
    """
    return bool(bag_ending(name))


def unread_compression(name: str) -> str:
    """What is to be done about a bag's file that is compressed in a way that is not read; "" for other names.

    >>> unread_compression("drive_0.db3.lz4")
    'is compressed in a way that is not read; decompress it first (.lz4)'
    """
    ending = next((ending for ending in UNREAD_COMPRESSIONS if name.lower().endswith(ending)), "")
    if not ending or not bag_ending(name.lower().removesuffix(ending)):
        return ""
    return f"is compressed in a way that is not read; decompress it first ({ending})"


def holds_bag(folder: Path) -> bool:
    """Whether a path is the folder of a bag."""
    return (folder / METADATA).exists() or any(
        (bag_ending(name) or unread_compression(name)) and not (folder / name).is_dir() for name in _names(folder)
    )


def bag_files(path: Path) -> BagFiles:
    """The files of a bag's folder, or the single file.

    Raises:
        OSError: the path cannot be read.
    """
    if not path.is_dir():
        check_plain(path)
        return BagFiles(None, [path])
    found = BagFiles(None, [])
    try:
        found.metadata = read_metadata(path)
    except MetadataError as error:
        found.damage.append(f"{METADATA} cannot be used: {error}; the files are read without it")
    used = _used_names(path, found)
    if found.metadata is None:
        damage, notes = missing_parts([_stem(name) for name in used])
        found.damage += damage
        found.notes += notes
    found.damage += _logs_without_file(path)
    for name in used:
        if not is_bag_name(name):
            problem = unread_compression(name) or f"ends in none of {', '.join(BAG_ENDINGS)}; it is left out"
            found.damage.append(f"{name} {problem}")
            continue
        try:
            check_plain(path / name)
            found.paths.append(path / name)
        except NotPlainError as error:
            found.damage.append(f"{name} {error.problem}; it is left out")
        except OSError as error:
            found.damage.append(f"{error}; it is left out")
    return found


def _used_names(path: Path, found: BagFiles) -> list[str]:
    """The names of the bag's files in recorded order; what is odd about them is added to `found`."""
    names = _names(path)
    there = [name for name in names if is_bag_name(name)]
    of_ros1 = sorted(name for name in there if bag_ending(name) == ".bag")
    if of_ros1 and len(of_ros1) < len(there):
        there = [name for name in there if name not in of_ros1]
        found.notes.append(f"left out, as they are ROS 1 bags beside those of ROS 2: {listed(of_ros1)}")
    # In the order of rosbag2's numbers: name_9 before name_10.
    there.sort(key=lambda name: (len(name.split(".")[0]), name))
    announced = list(dict.fromkeys(found.metadata.files)) if found.metadata is not None else []
    used = [name for name in announced if name in names]
    found.listing += [f"{METADATA} lists {name[:60]!r}, which is not there" for name in announced if name not in names]
    for name in there:
        # A player leaves the decompressed file beside the compressed one.
        if name in used or not _twins(name).isdisjoint(used):
            continue
        if found.metadata is not None:
            found.listing.append(f"{METADATA} does not list {name}; it is read as well")
        used.append(name)
    found.damage += [
        f"{name} {problem}" for name in names if name not in used and (problem := unread_compression(name))
    ]
    return used


def _logs_without_file(folder: Path) -> list[str]:
    """Write-ahead logs of SQLite whose file has another name by now: the messages in them would be missed."""
    names = set(_names(folder))
    return [
        f"{name} is the write-ahead log of {of}, which is not there; if that file was renamed, rename the log as well"
        for name in sorted(names)
        if name.endswith("-wal")
        and bag_ending(of := name.removesuffix("-wal")) == ".db3"
        and of not in names
        and (folder / name).is_file()
        and (folder / name).stat().st_size
    ]


def _names(folder: Path) -> list[str]:
    """Names of the files, without hidden ones: macOS puts a file `._NAME` beside each file."""
    return [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")] if folder.is_dir() else []


def _twins(name: str) -> set[str]:
    """The names of the same file when it is compressed, or when it is not."""
    plain = _without_ending(name, *COMPRESSED_ENDINGS)
    return {plain, *(f"{plain}{ending}" for ending in COMPRESSED_ENDINGS)} - {name}


def _stem(name: str) -> str:
    """The name without the ending that says the kind, and without those behind it."""
    return name[: name.lower().rindex(bag_ending(name))]


def _without_ending(name: str, *endings: str) -> str:
    return next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)
