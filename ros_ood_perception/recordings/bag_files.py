"""Finds the files of a bag: regular files in its folder, as `metadata.yaml` lists them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from ros_ood_perception.files.plain_file import NotPlainError, PlainFile, check_plain
from ros_ood_perception.recordings.bag_metadata import METADATA, BagMetadata, MetadataError, read_metadata
from ros_ood_perception.recordings.decompression import DecompressionError, decompress_file

STORAGE_ENDINGS = (".mcap", ".db3")
BAG_ENDINGS = (*STORAGE_ENDINGS, ".bag")
COMPRESSED_ENDING = ".zstd"
BAG_FOLDER = "bag"
"""The folder of the bag within the output folder of a replay, a demo run or a rendered drive."""


@dataclass
class BagFiles:
    """The files of a bag.

    Attributes:
        metadata: None if it is missing or unusable.
        paths: paths of the files, in recorded order.
        damage: files that are missing, or not as `metadata.yaml` lists them.
    """

    metadata: BagMetadata | None
    paths: list[Path]
    damage: list[str] = field(default_factory=list)
    _unpacked: tempfile.TemporaryDirectory[str] | None = None

    def unpack(self) -> None:
        """Decompress files that are compressed as a whole, into a temporary folder that is deleted with this object."""
        for number, path in enumerate(self.paths):
            if path.suffix != COMPRESSED_ENDING:
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


def is_bag_name(name: str) -> bool:
    """Whether a file with this name belongs to a bag.

    >>> is_bag_name("drive_0.mcap"), is_bag_name("drive_0.db3.zstd"), is_bag_name("drive.mp4")
    (True, True, False)
    """
    return name.removesuffix(COMPRESSED_ENDING).endswith(STORAGE_ENDINGS) or name.endswith(".bag")


def holds_bag(folder: Path) -> bool:
    """Whether a path is the folder of a bag."""
    return (folder / METADATA).exists() or any(is_bag_name(name) for name in _names(folder))


def bag_files(path: Path) -> BagFiles:
    """The files of a bag's folder, or the single file.

    Raises:
        OSError: the path cannot be read.
    """
    if not path.is_dir():
        check_plain(path)
        return BagFiles(None, [path])
    damage: list[str] = []
    metadata = None
    try:
        metadata = read_metadata(path)
    except MetadataError as error:
        damage.append(f"{METADATA} cannot be used: {error}; the files are read without it")
    names = _names(path)
    there = [name for name in names if is_bag_name(name)]
    if any(not name.endswith(".bag") for name in there):
        there = [name for name in there if not name.endswith(".bag")]
    # In the order of rosbag2's numbers: name_9 before name_10.
    there.sort(key=lambda name: (len(name.split(".")[0]), name))
    listed = list(dict.fromkeys(metadata.files)) if metadata is not None else []
    used = [name for name in listed if name in names]
    damage += [f"{METADATA} lists {name[:60]!r}, which is not there" for name in listed if name not in names]
    for name in there:
        # A player leaves the decompressed file beside the compressed one.
        if name in used or _twin(name) in used:
            continue
        if metadata is not None:
            damage.append(f"{METADATA} does not list {name}; it is read as well")
        used.append(name)
    paths = []
    for name in used:
        if not is_bag_name(name):
            damage.append(f"{name} ends in none of {', '.join(BAG_ENDINGS)}; it is left out")
            continue
        try:
            check_plain(path / name)
            paths.append(path / name)
        except NotPlainError as error:
            damage.append(f"{name} {error.problem}; it is left out")
        except OSError as error:
            damage.append(f"{error}; it is left out")
    return BagFiles(metadata, paths, damage)


def _names(folder: Path) -> list[str]:
    """Names of the files, without hidden ones: macOS puts a file `._NAME` beside each file."""
    return [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")] if folder.is_dir() else []


def _twin(name: str) -> str:
    return name.removesuffix(COMPRESSED_ENDING) if name.endswith(COMPRESSED_ENDING) else f"{name}{COMPRESSED_ENDING}"
