"""Small valid bags of every format, for `benchmark.fuzzing.recordings`."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

START_NS = 1_700_000_000_000_000_000
MAGIC = b"\x89MCAP0\r\n"
TOPICS = {1: ("/front/image_raw", "sensor_msgs/msg/Image"), 2: ("/front/camera_info", "sensor_msgs/msg/CameraInfo")}


@dataclass(frozen=True)
class Seed:
    """An unchanged bag.

    Attributes:
        files: name to contents.
        changed: name of the file that is changed.
        summed: whether a checksum covers the messages.
        last_part: begin of the part that holds only an index, a summary or a log.
    """

    name: str
    files: dict[str, bytes]
    changed: str
    summed: bool
    last_part: int


def serialised(number: int) -> tuple[bytes, bytes]:
    """A small image, and a calibration."""
    from ros_ood_perception.recordings.message_types import message_types

    types = message_types()
    stamp = types("builtin_interfaces/msg/Time", sec=1_700_000_000, nanosec=number)
    header = types("std_msgs/msg/Header", stamp=stamp, frame_id="camera")
    pixels = random.Random(number).randbytes(4 * 6 * 3)
    image = types(
        TOPICS[1][1], header=header, height=4, width=6, encoding="bgr8", step=18, data=memoryview(pixels).cast("B")
    )
    import numpy as np

    image.data = np.frombuffer(pixels, np.uint8)
    return types.serialized(image), types.serialized(types(TOPICS[2][1], header=header, height=4, width=6))


def messages(count: int) -> list[tuple[int, int, bytes]]:
    """Channel, time and bytes of test messages."""
    found = []
    for number in range(count):
        for channel, raw in zip(TOPICS, serialised(number), strict=True):
            found.append((channel, START_NS + number * 100_000_000 + channel, raw))
    return found


def _text(value: bytes | str) -> bytes:
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<I", len(value)) + value


def _record(operation: int, body: bytes) -> bytes:
    return struct.pack("<BQ", operation, len(body)) + body


def mcap(
    listed: list[tuple[int, int, bytes]],
    compression: str = "",
    per_chunk: int = 6,
    index: bool = True,
    crc: bool = True,
) -> bytes:
    """An MCAP file with all optional parts, unless they are turned off."""
    from ros_ood_perception.recordings.message_types import message_types

    store = message_types().typestore
    definitions = b""
    for number, (topic, kind) in TOPICS.items():
        text = store.generate_msgdef(kind, ros_version=2)[0]
        definitions += _record(3, struct.pack("<H", number) + _text(kind) + _text("ros2msg") + _text(text))
        definitions += _record(4, struct.pack("<HH", number, number) + _text(topic) + _text("cdr") + _text(b""))
    out = MAGIC + _record(1, _text("ros2") + _text("fuzz"))
    indexes, chunks = b"", 0
    if not per_chunk:
        out += definitions
        for channel, time_ns, raw in listed:
            out += _record(5, struct.pack("<HIQQ", channel, 0, time_ns, time_ns) + raw)
    for first in range(0, len(listed), per_chunk or len(listed)):
        if not per_chunk:
            break
        contents, places = (definitions if first == 0 else b""), dict[int, list[tuple[int, int]]]()
        part = listed[first : first + per_chunk]
        for channel, time_ns, raw in part:
            places.setdefault(channel, []).append((time_ns, len(contents)))
            contents += _record(5, struct.pack("<HIQQ", channel, 0, time_ns, time_ns) + raw)
        times = [time_ns for _, time_ns, _ in part]
        packed = _compressed(contents, compression)
        begin = len(out)
        said = struct.pack("<QQQI", min(times), max(times), len(contents), zlib.crc32(contents) if crc else 0)
        out += _record(6, said + _text(compression) + struct.pack("<Q", len(packed)) + packed)
        end, offsets = len(out), b""
        for channel, entries in places.items() if index else ():
            offsets += struct.pack("<HQ", channel, len(out))
            pairs = b"".join(struct.pack("<QQ", *entry) for entry in entries)
            out += _record(7, struct.pack("<H", channel) + _text(pairs))
        chunks += 1
        indexes += _record(
            8,
            struct.pack("<QQQQ", min(times), max(times), begin, end - begin)
            + _text(offsets)
            + struct.pack("<Q", len(out) - end)
            + _text(compression)
            + struct.pack("<QQ", len(packed), len(contents)),
        )
    out += _record(15, struct.pack("<I", 0 if per_chunk else zlib.crc32(out)))
    start = len(out)
    counts = Counter(channel for channel, _, _ in listed)
    times = [time_ns for _, time_ns, _ in listed]
    said = struct.pack("<QHIIIIQQ", len(listed), 2, 2, 0, 0, chunks, min(times), max(times))
    said += _text(b"".join(struct.pack("<HQ", *pair) for pair in sorted(counts.items())))
    summary = definitions + (indexes if index or per_chunk else b"") + _record(11, said)
    footer = struct.pack("<BQQQ", 2, 20, start, 0)
    return out + summary + footer + struct.pack("<I", zlib.crc32(summary + footer)) + MAGIC


def _compressed(data: bytes, compression: str) -> bytes:
    if compression == "zstd":
        from backports import zstd

        return bytes(zstd.compress(data))
    if compression == "lz4":
        import lz4.frame

        return bytes(lz4.frame.compress(data))
    return data


def _written(listed: list[tuple[int, int, bytes]], storage: str, folder: Path) -> Path:
    """A bag as `rosbags` writes it."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    from ros_ood_perception.recordings.message_types import message_types

    path = folder / storage
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections = {
            number: writer.add_connection(topic, kind, typestore=message_types().typestore)
            for number, (topic, kind) in TOPICS.items()
        }
        for channel, time_ns, raw in listed:
            writer.write(connections[channel], time_ns, raw)
    return path


def _ros1(listed: list[tuple[int, int, bytes]], folder: Path) -> dict[str, bytes]:
    """Compression to a ROS 1 bag. The content of the messages does not matter."""
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    found = {}
    for compression in (None, Writer.CompressionFormat.BZ2, Writer.CompressionFormat.LZ4):
        name = "none" if compression is None else compression.name.lower()
        path = folder / f"{name}.bag"
        writer = Writer(path)
        if compression is not None:
            writer.set_compression(compression)
        with writer:
            writer.chunk_threshold = 1500
            connections = {
                number: writer.add_connection(topic, kind, typestore=get_typestore(Stores.ROS1_NOETIC))
                for number, (topic, kind) in TOPICS.items()
            }
            for channel, time_ns, raw in listed:
                writer.write(connections[channel], time_ns, raw)
        found[name] = path.read_bytes()
    return found


def _with_log(database: Path, listed: list[tuple[int, int, bytes]], folder: Path) -> dict[str, bytes]:
    """A database and its write-ahead log, as a killed recorder leaves them."""
    path = folder / "log.db3"
    shutil.copyfile(database, path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    for channel, time_ns, raw in listed:
        connection.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", (channel, time_ns, raw))
    found = {"bag.db3": path.read_bytes(), "bag.db3-wal": path.with_name("log.db3-wal").read_bytes()}
    connection.close()
    return found


def seeds(kind: str, folder: Path) -> list[Seed]:
    """The unchanged bags of a kind."""
    listed = messages(12)
    if kind == "mcap":
        found = []
        for name, options in {
            "zstd": {"compression": "zstd"},
            "lz4": {"compression": "lz4"},
            "uncompressed": {},
            "no_message_index": {"index": False},
            "unsummed": {"crc": False},
            "loose": {"per_chunk": 0},
        }.items():
            data = mcap(listed, **options)  # type: ignore[arg-type]
            summed = name != "unsummed"
            (start,) = struct.unpack_from("<Q", data, len(data) - 28)
            found.append(Seed(name, {"bag.mcap": data}, "bag.mcap", summed, start))
        (file,) = _written(listed, "mcap", folder).glob("*.mcap")
        data = file.read_bytes()
        (start,) = struct.unpack_from("<Q", data, len(data) - 28)
        return [*found, Seed("rosbags", {"bag.mcap": data}, "bag.mcap", False, start)]
    if kind == "ros1":
        return [
            Seed(name, {"bag.bag": data}, "bag.bag", name == "bz2", len(data) * 3 // 4)
            for name, data in _ros1(listed, folder).items()
        ]
    path = _written(listed, "mcap" if kind == "metadata" else "sqlite", folder)
    files = {file.name: file.read_bytes() for file in path.iterdir()}
    if kind == "metadata":
        metadata = files["metadata.yaml"]
        return [Seed("metadata", files, "metadata.yaml", True, metadata.index(b"topics_with_message_count"))]
    (database,) = path.glob("*.db3")
    data = database.read_bytes()
    with_metadata = {**files, "sqlite.db3": data}
    log = _with_log(database, [(c, t + 10**10, raw) for c, t, raw in listed], folder)
    return [
        Seed("file", {"bag.db3": data}, "bag.db3", False, len(data) // 2),
        Seed("folder", with_metadata, "sqlite.db3", False, 0),
        Seed("log", log, "bag.db3-wal", False, 0),
    ]
