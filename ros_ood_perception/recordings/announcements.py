"""Compares what a bag holds with what its metadata announces: numbers of messages, types, files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ros_ood_perception.recordings.bag_metadata import METADATA, BagMetadata, MetadataError, parse_metadata

_COPY = "its copy of the metadata"


class HeldFile(Protocol):
    """A file of a bag that has been scanned; see `ChunkedFile` and `McapFile` for the attributes."""

    path: Path
    metadata_text: str
    doubts: list[str]

    @property
    def counts(self) -> dict[str, int]: ...


@dataclass
class Comparison:
    """What the metadata says about a bag.

    Attributes:
        damage: contradictions.
        notes: what a reader should know, and is no damage.
        only_announced: topic to message type, of the topics that no file has.
        complete: every topic has as many messages as announced.
    """

    damage: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    only_announced: dict[str, str] = field(default_factory=dict)
    complete: bool = False


def compare(
    metadata: BagMetadata | None, files: Sequence[HeldFile], types: Mapping[str, str], left_out: Collection[str]
) -> Comparison:
    """Compare the content with `metadata.yaml`, or with the copies of it in the files.

    Args:
        metadata: None if the file is missing or cannot be used.
        types: topic to message type, of the files.
        left_out: topics that are not read, and so not compared.
    """
    found = Comparison()
    counts: Counter[str] = Counter(dict.fromkeys(types, 0))
    for file in files:
        counts.update(file.counts)
    source = METADATA
    if metadata is None:
        source = _COPY
        metadata = _of_copies(files, left_out, found)
    if metadata is None:
        found.notes += [f"{file.path.name}: {text}" for file in files for text in file.doubts]
        return found
    found.complete = True
    for topic in sorted((metadata.counts.keys() | counts.keys()) - {*left_out}):
        said, there = metadata.counts.get(topic, 0), counts[topic]
        if said != there:
            found.complete = False
            found.damage.append(f"{source} announces {said} messages on {topic}; there are {there}")
        kind = metadata.types.get(topic)
        if topic not in types and kind is not None:
            found.only_announced[topic] = kind
        elif there and kind not in (None, types.get(topic)):
            found.damage.append(f"{source} says that {topic} has the type {kind}, not {types.get(topic)}")
    return found


def _of_copies(files: Sequence[HeldFile], left_out: Collection[str], found: Comparison) -> BagMetadata | None:
    """What the copies of the metadata in the files announce together; None if they say nothing about these files.

    rosbag2 writes a copy when it begins a file, with too few messages, and another when it ends it, with those of all
    files so far. Other writers count those of the file alone.
    """

    def number(counts: Mapping[str, int]) -> int:
        return sum(count for topic, count in counts.items() if topic not in left_out)

    copies = [_copy(file) for file in files]
    whole = [
        copy for copy, file in zip(copies, files, strict=True) if copy and number(copy.counts) == number(file.counts)
    ]
    if files and len(whole) == len(files):
        counts: Counter[str] = Counter()
        for copy in whole:
            counts.update(copy.counts)
        return BagMetadata((), dict(counts), {topic: kind for copy in whole for topic, kind in copy.types.items()})
    there = sum(number(file.counts) for file in files)
    last = max((copy for copy in copies if copy), key=lambda copy: number(copy.counts), default=None)
    if last is None or number(last.counts) < there:
        return None
    if len(last.files) > len(files):
        found.notes.append(
            f"a copy of the metadata lists {len(last.files)} files with {number(last.counts)} messages; {len(files)} "
            f"files with {there} are read"
        )
        return None
    return last


def _copy(file: HeldFile) -> BagMetadata | None:
    try:
        return parse_metadata(file.metadata_text) if file.metadata_text else None
    except MetadataError:
        return None
