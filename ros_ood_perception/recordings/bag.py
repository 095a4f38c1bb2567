"""Reads one bag, complete or damaged: rosbag2 in MCAP or SQLite3, or ROS 1.

`McapFile`, `SqliteFile` and `Ros1File` read the files; `rosbags` gives the classes of the messages. The content is
compared with what the bag announces. `damage` names everything that is lost or contradictory.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.messages.stamps import NANOSECONDS_PER_SECOND
from ros_ood_perception.recordings.announcements import compare
from ros_ood_perception.recordings.bag_files import (
    BAG_ENDINGS,
    STORAGE_ENDINGS,
    bag_ending,
    bag_files,
    is_bag_name,
    unread_compression,
)
from ros_ood_perception.recordings.bag_parts import FileMessage, listed, without_copies
from ros_ood_perception.recordings.decompression import ZSTD_MAGIC, DecompressionError, decompressed
from ros_ood_perception.recordings.definitions import BagTypes
from ros_ood_perception.recordings.mcap.file import McapFile
from ros_ood_perception.recordings.ros1.file import Ros1File
from ros_ood_perception.recordings.sqlite.file import SqliteFile

__all__ = ["BAG_ENDINGS", "STORAGE_ENDINGS", "Bag", "BagError", "BagMessage"]

MAX_TIME_NS = (1 << 31) * NANOSECONDS_PER_SECOND
"""ROS has 31 bits for seconds, which end in January 2038."""
MAX_MESSAGE_BYTES = 1 << 28
MAX_SENTENCES = 100
"""Largest number of sentences of damage that are kept; further ones are only counted."""

StorageFile = McapFile | SqliteFile | Ros1File


class BagError(PerceptionError, ValueError):
    """Nothing can be read from the path. The message names it and says why and what to do."""


@dataclass(frozen=True)
class BagMessage:
    """One message.

    Attributes:
        time_ns: when it was recorded, nanoseconds, from 0 to `MAX_TIME_NS`.
        raw: the serialised message.
    """

    topic: str
    type_name: str
    time_ns: int
    raw: bytes = field(repr=False)


class Bag:
    """A bag that can be read any number of times. Nothing is written into it or beside it.

    Args:
        path: the bag's folder, or a `.mcap`, `.db3` or (ROS 1) `.bag` file; see `bag_files` for other endings.

    Attributes:
        types: topic to message type.
        announced: topic to message type, of the topics that only the metadata has.
        counts: topic to number of messages.
        left_out: topic to serialisation format, of topics whose messages are not ROS 2 messages.

    Raises:
        BagError: nothing can be read.

    >>> import tempfile
    >>> from ros_ood_perception.files.output_folder import OutputFolder
    >>> from ros_ood_perception.messages.stamps import stamp_message
    >>> from ros_ood_perception.recordings.message_types import message_types
    >>> from ros_ood_perception.recordings.split_bag import SplitBag
    >>> types = message_types()
    >>> folder = tempfile.TemporaryDirectory()
    >>> written = SplitBag(OutputFolder.claim(Path(folder.name), "example"), "bag", types.typestore)
    >>> written.add_topic("/clock", "builtin_interfaces/msg/Time")
    >>> for second in (1, 2):
    ...     written.write("/clock", second * 10**9, types.serialized(stamp_message(types, second * 10**9)))
    >>> written.close_file()
    'bag_0.mcap'
    >>> bag = Bag(Path(folder.name) / "bag")
    >>> bag.types, bag.counts, bag.damage
    ({'/clock': 'builtin_interfaces/msg/Time'}, {'/clock': 2}, [])
    >>> [bag.deserialize(message).sec for message in bag.messages(["/clock"])]
    [1, 2]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._damage: dict[str, None] = {}
        self._unnamed = 0
        if path.is_file() and not is_bag_name(path.name):
            problem = unread_compression(path.name) or (
                f"is not a bag; a bag is a folder or a file that ends in {', '.join(BAG_ENDINGS)}"
            )
            raise BagError(f"{path}: {problem}")
        try:
            found = bag_files(path)
        except OSError as error:
            raise BagError(f"{path}: cannot be read as a bag ({_said(error)})") from error
        if not found.paths and not found.damage and found.metadata is None:
            raise BagError(f"{path}: no bag in it; a bag's folder holds {' or '.join(STORAGE_ENDINGS)} files")
        found.unpack()
        self._unpacked = found  # owns the folder with the decompressed files
        self._notes = list(found.notes)
        self._copies: Counter[str] = Counter()
        self._name_damage(f"{path.name}/{text}" if path.is_dir() else text for text in found.damage)
        self._files = self._opened(found.paths)
        listing = [f"{path.name}/{text}" for text in found.listing]
        if not self._files and (found.paths or found.damage or listing):
            said = "; ".join([*self.damage, *listing]) or "it has no files"
            raise BagError(f"{path}: cannot be read as a bag ({_printable(said)})")
        for file in self._files:
            self._name_damage(f"{file.path.name}: {text}" for text in file.damage)
        self.is_ros1 = bool(self._files) and all(isinstance(file, Ros1File) for file in self._files)
        self.left_out = {topic: why for file in self._files for topic, why in file.left_out.items()}
        self._topics = [topic for file in self._files for topic in file.topics]
        self.counts: dict[str, int] = Counter()
        for file in self._files:
            self.counts.update(file.counts)
        self.counts = dict(self.counts)
        self.types = self._chosen_types()
        self._types = BagTypes(self._topics, self.is_ros1)
        compared = compare(found.metadata, self._files, self.types, self.left_out)
        self.announced = compared.only_announced
        self._name_damage(compared.damage)
        # Renamed files are no damage, if every message is there.
        self._name_damage([] if compared.complete else listing)
        self._notes += compared.notes + (listing if compared.complete else [])

    @property
    def damage(self) -> list[str]:
        """A sentence for each thing that cannot be read or is contradictory.

        It is complete once `messages` has ended. Before, it holds what opening found."""
        more = [f"{self._unnamed} more faults of this kind"] if self._unnamed else []
        return [*self._damage, *more]

    @property
    def notes(self) -> list[str]:
        """What a reader should know, and is no damage. Complete once `messages` has ended, like `damage`."""
        notes = list(self._notes)
        if self.left_out:
            others = listed([f"{topic} ({why})" for topic, why in sorted(self.left_out.items())])
            notes.append(f"topics whose messages are not those of ROS 2 are left out: {others}")
        notes += [
            f"{self._copies[topic]} messages on {topic} are in two files; they are read once"
            for topic in sorted(self._copies)
        ]
        return [_printable(note) for note in notes]

    def _name_damage(self, sentences: Collection[str] | Iterator[str]) -> None:
        for text in sentences:
            sentence = _printable(text)
            if len(self._damage) < MAX_SENTENCES or sentence in self._damage:
                self._damage[sentence] = None
            else:
                self._unnamed += 1

    # -- opening -------------------------------------------------------------------------------------------------

    def _opened(self, paths: list[Path]) -> list[StorageFile]:
        found: list[StorageFile] = []
        for path in paths:
            try:
                file = _open(path)
                if not file.topics and not file.left_out and file.damage:
                    raise ValueError("; ".join(file.damage))
            except (OSError, ValueError) as error:
                self._name_damage([f"{path.name}: nothing in it can be read ({_said(error)})"])
                continue
            found.append(file)
        return found

    def _chosen_types(self) -> dict[str, str]:
        """Topic to type; the most frequent one where files disagree."""
        found: dict[str, Counter[str]] = {}
        for topic in self._topics:
            found.setdefault(topic.name, Counter())[topic.type_name] += 1
        for name, kinds in found.items():
            if len(kinds) > 1:
                self._name_damage([f"{name}: has several types ({', '.join(sorted(kinds))}); only one of them is read"])
        return {name: kinds.most_common(1)[0][0] for name, kinds in found.items()}

    # -- reading -------------------------------------------------------------------------------------------------

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """The messages of these topics in the order of their times; equal times in the order of the files.

        Args:
            start_ns: first time, nanoseconds; None: from the beginning.
            stop_ns: messages from this time on are left out, nanoseconds; None: none is.
        """
        wanted = {topic for topic in topics if topic in self.types}
        unfit: Counter[str] = Counter()
        copies: Counter[str] = Counter()
        streams = [self._of_file(number, wanted, start_ns, stop_ns) for number in range(len(self._files))]
        # With only the time as the key, the merge keeps the order of the files.
        merged = streams[0] if len(streams) == 1 else without_copies(heapq.merge(*streams, key=itemgetter(0)), copies)
        for time_ns, topic, raw, _ in merged:
            if topic is None:
                continue
            if not 0 <= time_ns < MAX_TIME_NS:
                unfit[topic] += 1
                continue
            if raw.startswith(ZSTD_MAGIC):  # no serialised message begins with it
                try:
                    raw = decompressed(raw, "zstd", MAX_MESSAGE_BYTES)
                except DecompressionError as error:
                    self._name_damage([f"{self.path.name}: a message on {topic} is left out: {error}"])
                    continue
            yield BagMessage(topic, self.types[topic], time_ns, raw)
        self._copies |= copies
        self._name_damage(
            f"{self.path.name}: {count} messages on {topic} have a time that ROS cannot hold (before 1970 or after "
            "January 2038)"
            for topic, count in sorted(unfit.items())
        )

    def _of_file(
        self, number: int, wanted: Collection[str], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[FileMessage]:
        file = self._files[number]
        topics = {topic: self.types[topic] for topic in wanted}
        if not any(topics.get(topic.name) == topic.type_name for topic in file.topics):
            return
        # The merge takes the first item of each file at once; this one needs no open file.
        yield file.start_ns, None, b"", number
        damage: list[str] = []
        last_ns = None
        try:
            for message in file.messages(topics, start_ns, stop_ns, damage):
                last_ns = message[0]
                yield (*message, number)
        except (OSError, ValueError, MemoryError) as error:
            where = "the beginning" if last_ns is None else f"the message of {last_ns / 1e9:.3f} s"
            damage.append(f"reading stopped after {where} ({_said(error)})")
        finally:
            self._name_damage(f"{file.path.name}: {text}" for text in damage)

    def deserialize(self, message: BagMessage) -> Any:
        """The message in the classes of `rosbags`. It is always read as the known type, whatever the bag defines.

        Raises:
            BagError: the bytes are not such a message, or the bag defines the type differently.
        """
        problem = self._types.problem(message.type_name)
        where = f"{self.path.name}: a message on {message.topic} cannot be read as {message.type_name}"
        if problem:
            raise BagError(f"{where}: {problem}")
        try:
            if self.is_ros1:
                return self._types.known.deserialize_ros1(message.raw, message.type_name)
            return self._types.known.deserialize_cdr(message.raw, message.type_name)
        except Exception as error:  # damaged bytes cause errors of any kind
            raise BagError(f"{where} ({_said(error)})") from error

    @cached_property
    def _copying(self) -> tuple[Any, set[str]]:
        return self._types.copy_typestore()

    @property
    def typestore(self) -> Any:
        """A typestore of `rosbags` for writing copies: the known types, and the bag's own types."""
        return self._copying[0]

    @property
    def copyable(self) -> dict[str, str]:
        """Topic to type, of topics that can be copied into another ROS 2 bag."""
        if self.is_ros1:
            # ROS 1 serialises differently, and some messages have other fields.
            return {}
        return {topic: kind for topic, kind in self.types.items() if kind in self._copying[1]}


def _open(path: Path) -> StorageFile:
    ending = bag_ending(path.name)
    if ending == ".mcap":
        return McapFile(path)
    return SqliteFile(path) if ending == ".db3" else Ros1File(path)


def _printable(text: str) -> str:
    """Names of topics come from strangers: control characters and line breaks are escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
