"""Finds recordings: given by path or URI, by a pattern, in a folder, or in a list."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet.storage.place import Place, open_place
from ros_ood_perception.camera.image_file import IMAGE_ENDINGS
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.recordings.bag_files import bag_ending
from ros_ood_perception.recordings.bag_metadata import METADATA
from ros_ood_perception.recordings.image_sequence import LABEL_FOLDERS, VIDEO_ENDINGS
from ros_ood_perception.shown_text import printable

DEEPEST = 16
"""Folders below each other that are searched."""
_PATTERN = re.compile(r"[*?\[]")


class NoRecordingError(PerceptionError, ValueError):
    """What was given names no recording. The message says what to give."""


@dataclass(frozen=True)
class Recording:
    """One recording.

    Attributes:
        name: path or URI; it identifies the recording in every table.
        bytes: its size; None: unknown.
    """

    name: str
    bytes: int | None


@dataclass
class Found:
    """What was found.

    Attributes:
        recordings: sorted by name, none twice.
        others: files in searched folders that are no recordings.
    """

    recordings: list[Recording] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def find_recordings(given: Sequence[str]) -> Found:
    """The recordings that the arguments name.

    Args:
        given: each a recording, a folder of recordings, a pattern with `*`, `?` and `[...]`, or `@FILE` with one of
            these in each line (`#` begins a comment).

    Raises:
        NoRecordingError: one of them names nothing, or a list cannot be read.
        PlaceError: see `open_place`.
        OSError: a folder cannot be read.
    """
    found: dict[str, Recording] = {}
    others: dict[str, None] = {}
    for text in _listed(given):
        exact = _PATTERN.search(text) is None
        hits = [recording for place in _matches(text) for recording in _search(place, others, is_given=exact)]
        if not hits:
            raise NoRecordingError(
                f"{printable(text)}: no recording there; give a bag, a folder of images, a video, a folder that holds "
                "such, or a pattern in quotes"
            )
        for place in hits:
            found[place.name] = Recording(place.name, place.size())
    return Found([found[name] for name in sorted(found)], list(others))


def _listed(given: Sequence[str]) -> Iterator[str]:
    for text in given:
        if not text.startswith("@"):
            yield text
            continue
        file = Path(text[1:])
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise NoRecordingError(f"{printable(text[1:])}: the list cannot be read ({error})") from error
        names = [name for line in lines if (name := line.partition(" #")[0].strip()) and not name.startswith("#")]
        if not names:
            raise NoRecordingError(f"{printable(text[1:])}: the list names no recording; write one in each line")
        yield from names


def _matches(text: str) -> Iterator[Place]:
    """The places that a path, URI or pattern names."""
    if not _PATTERN.search(text):
        place = open_place(text)
        if place.size() is not None:
            yield place
        return
    parts = text.split("/")
    first = next(number for number, part in enumerate(parts) if _PATTERN.search(part))
    level = [open_place("/".join(parts[:first]) or ("/" if text.startswith("/") else "."))]
    for part in parts[first:]:
        if not part:
            continue
        level = [
            place.child(name)
            for place in level
            if place.is_folder()
            for name in place.entries()
            if fnmatch.fnmatchcase(name, part)
        ]
    yield from level


def _search(place: Place, others: dict[str, None], is_given: bool = False, depth: int = 0) -> Iterator[Place]:
    """The recordings that a place is or holds."""
    if not place.is_folder():
        # One that was given counts whatever its name: a replay says what it lacks.
        if is_given or _is_recording_file(place.path):
            yield place
        else:
            others[place.name] = None
        return
    entries = place.entries()
    files = [name for name, is_folder in entries.items() if not is_folder]
    bags = [name for name in files if bag_ending(name)]
    if METADATA in files or _is_one_bag(Path(place.path).name, bags):
        yield place
        return
    is_labels = Path(place.path).name in LABEL_FOLDERS and not is_given
    if not bags and any(name.lower().endswith(IMAGE_ENDINGS) for name in files):
        if is_labels:
            others[place.name] = None
        else:
            yield place
        return
    for name, is_folder in entries.items():
        if not is_folder or depth < DEEPEST:
            yield from _search(place.child(name), others, depth=depth + 1)


def _is_recording_file(path: str) -> bool:
    return bool(bag_ending(Path(path).name)) or path.lower().endswith(VIDEO_ENDINGS)


def _is_one_bag(folder: str, bags: Sequence[str]) -> bool:
    """Whether all bag files are parts of one: without metadata only their names say so, FOLDER_0, FOLDER_1, ..."""
    return bool(bags) and all(re.fullmatch(re.escape(folder) + r"_\d+\..*", name) for name in bags)
