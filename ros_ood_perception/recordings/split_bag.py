"""Write a rosbag2 bag of MCAP files, one after the other: whatever happens, every file but the last is whole, with its
index, and the folder is a bag that can be played."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from ros_ood_perception.recordings.bag import Bag

METADATA = "metadata.yaml"
INFORMATION = "rosbag2_bagfile_information"
# libyaml's where PyYAML has it: ten times as fast, and a bag of many files has much metadata.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_NEVER = QosTime(sec=2147483647, nsec=4294967295)


def offered_qos(latched: bool, depth: int = 10) -> Qos:
    """Reliable, as what a player publishes with; `latched` is transient local."""
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
    """SHA-256 of each topic, over time, length and bytes of every message in order. How a bag is split, compressed or
    indexed does not matter."""

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}
        self.counts: dict[str, int] = {}

    def add(self, topic: str, time_ns: int, raw: bytes) -> None:
        """The next message of a topic."""
        found = self._hashes.setdefault(topic, hashlib.sha256())
        found.update(time_ns.to_bytes(8, "little", signed=True) + len(raw).to_bytes(8, "little"))
        found.update(raw)
        self.counts[topic] = self.counts.get(topic, 0) + 1

    def hex(self) -> dict[str, str]:
        """By topic, in the order of their names."""
        return {topic: self._hashes[topic].hexdigest() for topic in sorted(self._hashes)}


def topic_digests(bag: Bag) -> TopicDigests:
    """The digests of what a bag holds."""
    digests = TopicDigests()
    for message in bag.messages(bag.types):
        digests.add(message.topic, message.time_ns, message.raw)
    return digests


class SplitBag:
    """A bag that grows file by file. `close_file` ends one; what was written since is lost if the process dies.

    Args:
        folder: of the bag; made if it is not there. What is in it counts as written.
        typestore: definitions of the types.
    """

    def __init__(self, folder: Path, typestore: Any) -> None:
        self.folder = folder
        self._typestore = typestore
        self._topics: dict[str, tuple[str, bool, Any]] = {}
        self._writer: Writer | None = None
        self._connections: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self.digests = TopicDigests()

    @property
    def _unfinished(self) -> Path:
        return self.folder / ".unfinished"

    @property
    def files(self) -> list[str]:
        """Names of the whole files."""
        return [str(name) for name in self._information().get("relative_file_paths", [])]

    def keep(self, files: int) -> None:
        """Of the files that are there, keep the first `files`, and take up their digests.

        Raises:
            ValueError: there are fewer.
        """
        names = self.files
        if len(names) < files:
            raise ValueError(f"{self.folder}: has {len(names)} files; {files} were written")
        for name in names[files:]:
            (self.folder / name).unlink()
            self._part_of(name).unlink()
        self._write_metadata(names[:files])
        if files:
            self.digests = topic_digests(Bag(self.folder))

    def add_topic(self, topic: str, type_name: str, latched: bool = False, typestore: Any = None) -> None:
        """A topic that may be written to; one that never is does not appear in the bag."""
        self._topics[topic] = (type_name, latched, typestore or self._typestore)

    def write(self, topic: str, time_ns: int, raw: bytes) -> None:
        """Write a message."""
        if self._writer is None:
            number = len(self.files)
            self._unfinished.mkdir()
            path = self._unfinished / f"{self.folder.name}_{number}"
            self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
            self._connections = {}
        if topic not in self._connections:
            type_name, latched, typestore = self._topics[topic]
            self._connections[topic] = self._writer.add_connection(
                topic, type_name, typestore=typestore, offered_qos_profiles=(offered_qos(latched),)
            )
        self._writer.write(self._connections[topic], time_ns, raw)
        self.digests.add(topic, time_ns, raw)

    def close_file(self) -> None:
        """End the file that is being written, if one is, and make it a part of the bag."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.close()
        (part,) = self._unfinished.iterdir()
        (file,) = part.glob("*.mcap")
        information = _read(part / METADATA)[INFORMATION]
        _write(self._part_of(file.name), information)
        file.replace(self.folder / file.name)
        shutil.rmtree(self._unfinished)
        self._write_metadata([*self.files, file.name])

    def _part_of(self, name: str) -> Path:
        """The metadata of one file."""
        return self.folder / f".{name}.yaml"

    def _information(self) -> Mapping[str, Any]:
        path = self.folder / METADATA
        if not path.is_file():
            return {}
        return _read(path)[INFORMATION]  # type: ignore[no-any-return]

    def _write_metadata(self, names: list[str]) -> None:
        path = self.folder / METADATA
        if not names:
            path.unlink(missing_ok=True)
            return
        parts = [_read(self._part_of(name)) for name in names]
        temporary = self.folder / f".{METADATA}"
        _write(temporary, {INFORMATION: _joined(parts)})
        temporary.replace(path)


def _read(path: Path) -> Any:
    return yaml.load(path.read_text("utf-8"), _LOADER)


def _write(path: Path, data: Any) -> None:
    path.write_text(yaml.dump(data, Dumper=_DUMPER, sort_keys=False), "utf-8")


def _joined(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The metadata of a bag of several files, of the metadata of each."""
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
