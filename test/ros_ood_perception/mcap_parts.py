"""MCAP files by hand, as odd as a test wants them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from recorded_drive import START_NS, STEP_NS

from ros_ood_perception.recordings.message_types import message_types

MAGIC = b"\x89MCAP0\r\n"
IMAGE = "sensor_msgs/msg/Image"
TOPIC = "/cam/image_raw"


def text(value: str | bytes) -> bytes:
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<I", len(value)) + value


def record(operation: int, body: bytes) -> bytes:
    return struct.pack("<BQ", operation, len(body)) + body


def definition(kind: str = IMAGE) -> str:
    return str(message_types().typestore.generate_msgdef(kind, ros_version=2)[0])


def schema(number: int = 1, kind: str = IMAGE, written: str | None = None, language: str = "ros2msg") -> bytes:
    written = definition(kind) if written is None else written
    return record(3, struct.pack("<H", number) + text(kind) + text(language) + text(written))


def channel(number: int = 1, topic: str = TOPIC, schema_number: int = 1, encoding: str = "cdr") -> bytes:
    return record(4, struct.pack("<HH", number, schema_number) + text(topic) + text(encoding) + text(b""))


def message(time_ns: int, raw: bytes, number: int = 1) -> bytes:
    return record(5, struct.pack("<HIQQ", number, 0, time_ns, time_ns) + raw)


def chunk(
    contents: bytes,
    start: int,
    end: int,
    compression: str = "",
    packed: bytes | None = None,
    size: int = -1,
    crc: int = 0,
) -> bytes:
    packed = contents if packed is None else packed
    said = struct.pack("<QQQI", start, end, len(contents) if size < 0 else size, crc)
    return record(6, said + text(compression) + struct.pack("<Q", len(packed)) + packed)


def chunk_index(start: int, end: int, position: int, length: int, size: int, compression: str = "") -> bytes:
    said = struct.pack("<QQQQ", start, end, position, length) + text(b"") + struct.pack("<Q", 0)
    return record(8, said + text(compression) + struct.pack("<QQ", size, size))


def statistics(counts: Mapping[int, int], chunks: int = 0) -> bytes:
    said = struct.pack("<QHIIIIQQ", sum(counts.values()), 1, 1, 0, 0, chunks, 0, 0)
    return record(11, said + text(b"".join(struct.pack("<HQ", *pair) for pair in counts.items())))


def mcap(data: bytes, summary: bytes = b"", profile: str = "ros2") -> bytes:
    """With its header, the end of the data, and a footer that says where the summary is."""
    begin = MAGIC + record(1, text(profile) + text("test")) + data + record(15, bytes(4))
    return begin + summary + record(2, struct.pack("<QQI", len(begin) if summary else 0, 0, 0)) + MAGIC


def data_begin(profile: str = "ros2") -> int:
    """Where the data are that `mcap` is given."""
    return len(MAGIC) + len(record(1, text(profile) + text("test")))


def image(number: int, height: int = 8, width: int = 8) -> bytes:
    """As serialised."""
    types = message_types()
    stamp_ns = START_NS + number * STEP_NS
    stamp = types("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return types.serialized(
        types(
            IMAGE,
            header=types("std_msgs/msg/Header", stamp=stamp, frame_id="camera"),
            height=height,
            width=width,
            encoding="bgr8",
            step=width * 3,
            data=np.full(height * width * 3, number, np.uint8),
        )
    )


def images(numbers: Sequence[int], number: int = 1) -> list[bytes]:
    """Message records, each at its own time."""
    return [message(START_NS + n * STEP_NS, image(n), number) for n in numbers]


def frame_numbers(messages: Any) -> list[int]:
    """Which frames came, by their times."""
    return [(message.time_ns - START_NS) // STEP_NS for message in messages]
