"""One bag, whole or damaged: rosbag2 in MCAP or SQLite3, or ROS 1. Read with `rosbags`; where that gives up, what is
left is read by `damaged_mcap` and `damaged_sqlite`, and what was lost is named."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.typesys import get_types_from_msg

from ros_ood_perception.recordings.damaged_mcap import DamagedMcap
from ros_ood_perception.recordings.damaged_sqlite import DamagedSqlite
from ros_ood_perception.recordings.message_types import typestore_of_this_distribution

STORAGE_ENDINGS = (".mcap", ".db3")
BAG_ENDINGS = (*STORAGE_ENDINGS, ".bag")


class BagError(ValueError):
    """Nothing can be read from there. The message names the path, says why, and what to do."""


@dataclass(frozen=True)
class BagMessage:
    """One message.

    Attributes:
        time_ns: when it was recorded, nanoseconds.
        raw: as it was serialised.
    """

    topic: str
    type_name: str
    time_ns: int
    raw: bytes = field(repr=False)


class Bag:
    """A bag for reading, any number of times.

    Args:
        path: the bag's folder, or a `.mcap`, `.db3` or (ROS 1) `.bag` file.

    Attributes:
        types: topic to message type.
        counts: topic to number of messages, as far as the bag says it.
        damage: what could not be read, a sentence each. What opening found is there at once, the rest when `messages`
            has come to its end.
        typestore: of `rosbags`, with the bag's own definitions.

    Raises:
        BagError: nothing can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = _files(path)
        # A rosbag2 bag whose files are compressed (.db3.zstd) has none that is read here: all() of nothing is true.
        self.is_ros1 = bool(self.files) and all(file.suffix == ".bag" for file in self.files)
        self.damage: list[str] = []
        self.types: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self.typestore = typestore_of_this_distribution()
        self._opening: list[str] = []
        self._paths = [path] if path.is_dir() and (path / "metadata.yaml").is_file() else self.files
        try:
            self._learn(self._paths)
        except Exception as error:  # readers of damaged bytes fail in every way there is
            problem = f"{path.name}: it cannot be opened as a whole ({_said(error)})"
            if path.is_dir() and self._paths != self.files and self._try_without_metadata():
                problem = f"{path.name}/metadata.yaml does not fit its files ({_said(error)}); they are read without it"
            elif self.is_ros1:
                raise BagError(f"{path}: cannot be read as a bag ({_said(error)}); try rosbag reindex") from error
            else:
                self._paths = []
                self._learn_salvaged(error)
            self._opening.append(problem)
        self.damage = list(self._opening)

    def _try_without_metadata(self) -> bool:
        try:
            self._learn(self.files)
        except Exception:  # as above; the caller goes on with what can be salvaged
            return False
        self._paths = self.files
        return True

    def _reader(self, paths: list[Path]) -> AnyReader:
        # Bags of Humble and earlier do not hold the definitions of their messages.
        return AnyReader(paths, default_typestore=typestore_of_this_distribution())

    def _learn(self, paths: list[Path]) -> None:
        with self._reader(paths) as reader:
            counts: Counter[str] = Counter()
            for connection in reader.connections:
                self.types[connection.topic] = connection.msgtype
                counts[connection.topic] += connection.msgcount
            self.counts = dict(counts)
            self.typestore = reader.typestore

    def _learn_salvaged(self, error: Exception) -> None:
        self.types, self.counts = {}, {}
        for file in self.files:
            salvaged = _salvaged(file)
            if isinstance(salvaged, DamagedMcap):
                for channel in salvaged.channels.values():
                    schema = salvaged.schemas.get(channel.schema)
                    if schema is not None:
                        self.types[channel.topic] = schema.name
                        self._register(schema.name, schema.encoding, schema.definition)
            elif salvaged is not None:
                self.types |= dict(salvaged.topics.values())
            if salvaged is not None:
                salvaged.close()
        if not self.types:
            raise BagError(f"{self.path}: cannot be read as a bag ({_said(error)}); nothing in it can be salvaged")

    def _register(self, name: str, encoding: str, definition: str) -> None:
        if encoding != "ros2msg" or name in self.typestore.fielddefs:
            return
        try:
            found = get_types_from_msg(definition, name)
            self.typestore.register({key: value for key, value in found.items() if key not in self.typestore.fielddefs})
        except Exception:  # a damaged definition: the topic's messages are then of an unknown type
            return

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """The messages of these topics, in order of time.

        Args:
            start_ns: first time, nanoseconds; None: from the beginning.
            stop_ns: first time that is no longer wanted; None: to the end.
        """
        self.damage = list(self._opening)
        wanted = {topic for topic in topics if topic in self.types}
        if not wanted:
            return
        last_ns, at_last = -1, Counter[str]()
        if self._paths:
            try:
                with self._reader(self._paths) as reader:
                    connections = [c for c in reader.connections if c.topic in wanted]
                    for connection, time_ns, raw in reader.messages(connections, start_ns, stop_ns):
                        if time_ns != last_ns:
                            last_ns, at_last = time_ns, Counter()
                        at_last[connection.topic] += 1
                        yield BagMessage(connection.topic, connection.msgtype, time_ns, bytes(raw))
                return
            except GeneratorExit:
                raise
            except Exception as error:  # as in __init__
                self.damage.append(f"{self.path.name}: reading stopped after {_seconds(last_ns)} ({_said(error)})")
        if self.is_ros1:
            self.damage.append(f"{self.path.name}: what follows is not read; rosbag reindex may recover it")
            return
        for message in self._salvaged_messages():
            inside = (start_ns is None or message.time_ns >= start_ns) and (
                stop_ns is None or message.time_ns < stop_ns
            )
            if message.topic not in wanted or not inside or message.time_ns < last_ns:
                continue
            if message.time_ns == last_ns and at_last[message.topic]:
                at_last[message.topic] -= 1
                continue
            yield message

    def _salvaged_messages(self) -> Iterator[BagMessage]:
        for file in self.files:
            salvaged = _salvaged(file)
            if salvaged is None:
                self.damage.append(f"{file.name}: nothing in it can be read")
                continue
            try:
                for topic, type_name, time_ns, raw in salvaged.messages():
                    yield BagMessage(topic, type_name, time_ns, raw)
            finally:
                self.damage += [f"{file.name}: {text}" for text in salvaged.damage]
                salvaged.close()

    def deserialize(self, message: BagMessage) -> Any:
        """The message in the classes of `rosbags`.

        Raises:
            BagError: its bytes are no such message.
        """
        try:
            if self.is_ros1:
                return self.typestore.deserialize_ros1(message.raw, message.type_name)
            return self.typestore.deserialize_cdr(message.raw, message.type_name)
        except Exception as error:  # damaged bytes fail in every way there is
            raise BagError(
                f"{self.path.name}: a message on {message.topic} cannot be read as {message.type_name} ({_said(error)})"
            ) from error


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in BAG_ENDINGS:
            raise BagError(f"{path}: is no bag; a bag is a folder or a file that ends in {', '.join(BAG_ENDINGS)}")
        return [path]
    files = sorted(file for file in path.glob("*") if file.suffix in STORAGE_ENDINGS and file.is_file())
    # The order of rosbag2's numbers: name_9 before name_10.
    files.sort(key=lambda file: (len(file.stem), file.stem))
    if not files and not (path / "metadata.yaml").is_file():
        raise BagError(f"{path}: no bag in it; a bag's folder holds {' or '.join(STORAGE_ENDINGS)} files")
    return files


def _salvaged(file: Path) -> DamagedMcap | DamagedSqlite | None:
    if file.suffix == ".mcap":
        return DamagedMcap(file)
    try:
        return DamagedSqlite(file)
    except sqlite3.DatabaseError:
        return None


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _seconds(time_ns: int) -> str:
    return "no message" if time_ns < 0 else f"the message of {time_ns / 1e9:.3f} s"
