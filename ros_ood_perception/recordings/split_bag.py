"""Writes a rosbag2 bag of MCAP files, one after the other.

Whatever happens, every file but the last is complete and has its index, and the folder is a bag that can be played.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from ros_ood_perception.files.atomic_files import move_into_place, naming
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.recordings.bag import Bag, BagError

METADATA = "metadata.yaml"
INFORMATION = "rosbag2_bagfile_information"
# libyaml where it is installed: it is ten times as fast, and a bag of many files has much metadata.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_NEVER = QosTime(sec=2147483647, nsec=4294967295)


def offered_qos(latched: bool, depth: int = 10) -> Qos:
    """The QoS that a player publishes with: reliable, and transient local where `latched`."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else depth,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_NEVER,
        lifespan=_NEVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_NEVER,
        avoid_ros_namespace_conventions=False,
    )


class TopicDigests:
    """SHA-256 of each topic, over time, length and bytes of every message in order.

    The digest does not depend on how a bag is split, compressed or indexed.
    """

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}
        self.counts: dict[str, int] = {}

    def add(self, topic: str, time_ns: int, raw: bytes) -> None:
        """Add the next message of a topic."""
        found = self._hashes.setdefault(topic, hashlib.sha256())
        found.update(time_ns.to_bytes(8, "little", signed=True) + len(raw).to_bytes(8, "little"))
        found.update(raw)
        self.counts[topic] = self.counts.get(topic, 0) + 1

    def hex(self) -> dict[str, str]:
        """Topic to digest, sorted by topic."""
        return {topic: self._hashes[topic].hexdigest() for topic in sorted(self._hashes)}


def topic_digests(bag: Bag) -> TopicDigests:
    """The digests of a bag's topics."""
    digests = TopicDigests()
    for message in bag.messages(bag.types):
        digests.add(message.topic, message.time_ns, message.raw)
    return digests


def part_file(name: str) -> str:
    """Name of the file beside a file of a `SplitBag` that holds the metadata of that file."""
    return f".{name}.yaml"


class SplitBag:
    """A bag that grows file by file. `close_file` ends a file. If the process dies, what was written since is lost.

    Args:
        output: parent folder; it keeps the list of the files written here.
        name: name of the bag's folder, which is made if it is missing.
        typestore: definitions of the message types.
        compressed: compress every chunk of the files with zstd, as rosbag2's presets do. No message changes.

    Attributes:
        files: names of the whole files.
    """

    def __init__(self, output: OutputFolder, name: str, typestore: Any, compressed: bool = False) -> None:
        self.folder = output.path / name
        self.files: list[str] = []
        self._output = output
        self._typestore = typestore
        # Of chunks: every MCAP reader decompresses them, and a part of a file can still be read alone.
        self._compression = CompressionMode.STORAGE if compressed else CompressionMode.NONE
        self._topics: dict[str, tuple[str, bool, Any]] = {}
        self._parts: list[Mapping[str, Any]] = []
        self._writer: Writer | None = None
        self._connections: dict[str, Any] = {}
        with naming(self.folder):
            self.folder.mkdir(exist_ok=True)
        self.digests = TopicDigests()

    @property
    def _unfinished(self) -> Path:
        return self.folder / ".unfinished"

    def _listed(self, file: str) -> str:
        return f"{self.folder.name}/{file}"

    def keep(self, files: Sequence[str]) -> None:
        """Continue after these files with their digests. Other written files are deleted.

        Args:
            files: complete ones, in their order.

        Raises:
            OSError: with the path.
            BagError: one cannot be read.
        """
        self._output.delete_folder(self._listed(self._unfinished.name))
        # Names of files beside a file contain its name.
        others = [name for name in self._output.names(f"{self.folder.name}/") if not any(map(name.__contains__, files))]
        self._output.delete(others)
        self.files = list(files)
        self._parts = [_read(self.folder / part_file(name)) for name in files]
        self._write_metadata()
        for name in files:
            bag = Bag(self.folder / name)
            for message in bag.messages(bag.types):
                self.digests.add(message.topic, message.time_ns, message.raw)
            if bag.damage:
                raise BagError(f"{self.folder / name}: {bag.damage[0]}")

    def add_topic(self, topic: str, type_name: str, latched: bool = False, typestore: Any = None) -> None:
        """Declare a topic. It appears in the bag with its first message."""
        self._topics[topic] = (type_name, latched, typestore or self._typestore)

    def write(self, topic: str, time_ns: int, raw: bytes) -> None:
        """Write a message.

        Raises:
            OSError: with the path.
        """
        with naming(self.folder):
            if self._writer is None:
                self._writer = self._open()
            if topic not in self._connections:
                type_name, latched, typestore = self._topics[topic]
                self._connections[topic] = self._writer.add_connection(
                    topic, type_name, typestore=typestore, offered_qos_profiles=(offered_qos(latched),)
                )
            self._writer.write(self._connections[topic], time_ns, raw)
        self.digests.add(topic, time_ns, raw)

    def _open(self) -> Writer:
        name = f"{self.folder.name}_{len(self.files)}"
        unfinished = self._unfinished.name
        self._output.add(*(self._listed(f"{unfinished}/{name}/{file}") for file in (f"{name}.mcap", METADATA)))
        self._unfinished.mkdir(exist_ok=True)
        writer = Writer(self._unfinished / name, version=9, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(self._compression, CompressionFormat.ZSTD)
        writer.open()
        self._connections = {}
        return writer

    def close_file(self) -> str | None:
        """End the current file and make it a part of the bag. It is on the disk when this returns.

        Returns:
            The file's name; None if nothing was written since the last file.

        Raises:
            OSError: with the path.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return None
        name = f"{writer.path.name}.mcap"
        try:
            with naming(self.folder):
                writer.close()
                information = _read(writer.path / METADATA)[INFORMATION]
                self._output.add(self._listed(name))
                self._output.write(self._listed(part_file(name)), _text(information))
                move_into_place(writer.path / name, self.folder / name)
        except BaseException:
            self._writer = writer
            self.abandon_file()
            raise
        self._output.delete_folder(self._listed(self._unfinished.name))
        self.files.append(name)
        self._parts.append(information)
        self._write_metadata()
        return name

    def abandon_file(self) -> None:
        """Drop the current file, if there is one, after an error."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        # On a full disk, flushing its buffer fails.
        with contextlib.suppress(Exception):
            writer.storage.bio.close()  # type: ignore[union-attr]
        with contextlib.suppress(OSError):
            self._output.delete_folder(self._listed(self._unfinished.name))

    def _write_metadata(self) -> None:
        if self._parts:
            self._output.write(self._listed(METADATA), _text({INFORMATION: _joined(self._parts)}))
        else:
            self._output.add(self._listed(METADATA))
            self._output.delete([self._listed(METADATA)])


def _read(path: Path) -> Any:
    return yaml.load(path.read_text("utf-8"), _LOADER)


def _text(data: Any) -> str:
    return str(yaml.dump(data, Dumper=_DUMPER, sort_keys=False))


def _joined(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The metadata of a bag from those of its files."""
    filled = [part for part in parts if part["message_count"]]
    start = min(part["starting_time"]["nanoseconds_since_epoch"] for part in filled)
    end = max(part["starting_time"]["nanoseconds_since_epoch"] + part["duration"]["nanoseconds"] for part in filled)
    topics: dict[str, dict[str, Any]] = {}
    for part in parts:
        for topic in part["topics_with_message_count"]:
            name = topic["topic_metadata"]["name"]
            known = topics.setdefault(name, {"topic_metadata": topic["topic_metadata"], "message_count": 0})
            known["message_count"] += topic["message_count"]
    return {
        **parts[0],
        "relative_file_paths": [name for part in parts for name in part["relative_file_paths"]],
        "duration": {"nanoseconds": end - start},
        "starting_time": {"nanoseconds_since_epoch": start},
        "message_count": sum(part["message_count"] for part in parts),
        "topics_with_message_count": list(topics.values()),
        "files": [file for part in parts for file in part["files"]],
    }
