"""Small valid bags, changed at random, and read: nothing may crash, hang, take a gigabyte, or be lost without a word.

    python -m benchmark.fuzzing.recordings --kind mcap --executions 100000 --seed 1 [--keep DIR]

Each execution changes one of some bags (bytes, lengths, whole records or pages, in a summary only, with sums made right
again), reads every message through `Bag` in a process with 1 GiB of address space, and checks that
- the process ends in no signal, and an execution takes less than 5 s;
- only `BagError` is raised;
- every message of the unchanged bag is given with its time and type, and no other, or `damage` names a fault. Where the
  file has a checksum over its messages, their bytes must be the same as well; SQLite has none.

The number of an execution and the seed make it again: `--only NUMBER`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import sqlite3
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmark.process_memory import peak_resident_bytes

KINDS = ("mcap", "sqlite", "metadata", "ros1")
MOST_ADDRESS_SPACE = 1 << 30
MOST_SECONDS = 5.0
REPORTED_EVERY = 10_000
START_NS = 1_700_000_000_000_000_000
MAGIC = b"\x89MCAP0\r\n"
TOPICS = {1: ("/front/image_raw", "sensor_msgs/msg/Image"), 2: ("/front/camera_info", "sensor_msgs/msg/CameraInfo")}


@dataclass(frozen=True)
class Seed:
    """An unchanged bag.

    Attributes:
        files: name to contents.
        changed: name of the file that is changed.
        summed: a changed byte of a message can be noticed.
        last_part: where that begins which only an index, a summary or a log depends on.
    """

    name: str
    files: dict[str, bytes]
    changed: str
    summed: bool
    last_part: int


# -- the unchanged bags --------------------------------------------------------------------------------------------


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
    """Channel, time and bytes."""
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
    """An MCAP file with all that may be left out, unless it is to be left out."""
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
    """As `rosbags` writes it."""
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
    """Bags of ROS 1, by compression. What the messages say is not looked at."""
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
    """A file and its write-ahead log, as a killed recorder leaves them."""
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


# -- changes -------------------------------------------------------------------------------------------------------


def changed(seed: Seed, generator: random.Random) -> bytes:
    """The changed file of a bag, changed a little."""
    data = bytearray(seed.files[seed.changed])
    changes = _CHANGES[seed.changed.rpartition(".")[2].partition("-")[0]]
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        data = generator.choice(changes)(data, generator, seed)
    return bytes(data)


def _flip(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    if data:
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return data


def _flip_last_part(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    begin = min(seed.last_part, max(len(data) - 1, 0))
    if data:
        data[generator.randrange(begin, len(data))] = generator.randrange(256)
    return data


def _number(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    size = generator.choice((1, 2, 4, 8))
    value = generator.choice((0, 1, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1))
    place = generator.randrange(max(1, len(data) - size))
    data[place : place + size] = (value % 256**size).to_bytes(size, generator.choice(("little", "big")))
    return data


def _cut(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    return data[: generator.randrange(len(data) + 1)]


def _block(data: bytearray, generator: random.Random) -> tuple[int, int]:
    begin = generator.randrange(len(data) + 1)
    return begin, min(len(data), begin + int(2 ** generator.uniform(0, 10)))


def _remove(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    begin, end = _block(data, generator)
    del data[begin:end]
    return data


def _duplicate(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    begin, end = _block(data, generator)
    place = generator.choice((end, generator.randrange(len(data) + 1)))
    data[place:place] = data[begin:end]
    return data


def _overwrite(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    begin, end = _block(data, generator)
    filled = generator.choice((bytes(end - begin), b"\xff" * (end - begin), generator.randbytes(end - begin)))
    data[begin:end] = filled
    return data


def _records(data: bytearray) -> list[tuple[int, int]]:
    """First and last byte of each record of an MCAP file."""
    found, position = [], len(MAGIC)
    while position + 9 <= len(data):
        end = position + 9 + int.from_bytes(data[position + 1 : position + 9], "little")
        if end > len(data):
            break
        found.append((position, end))
        position = end
    return found


def _move_record(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    found = _records(data)
    if found:
        begin, end = generator.choice(found)
        record = data[begin:end]
        if generator.random() < 0.6:
            del data[begin:end]
        place = generator.choice([begin for begin, _ in _records(data)] or [0])
        if generator.random() < 0.7:
            data[place:place] = record
    return data


def _record_field(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    """Another operation or length of a record, or another of its first fields."""
    found = _records(data)
    if found:
        begin, end = generator.choice(found)
        place = min(begin + generator.choice((0, *range(1, 9), *range(9, 60))), end - 1)
        data[place] = generator.choice((data[place] ^ 1, data[place] ^ 0x80, 0, 255, generator.randrange(256)))
    return data


def _summary_with_sum(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    """A byte of the summary, and the summary's checksum made right again."""
    if len(data) == len(seed.files[seed.changed]):
        data[generator.randrange(seed.last_part, len(data) - 12)] = generator.randrange(256)
        data[-12:-8] = struct.pack("<I", zlib.crc32(data[seed.last_part : -12]))
    return data


def _page(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    """Another page in the place of one, or one that is empty."""
    pages = len(data) // 4096
    if pages > 1:
        to, source = (4096 * generator.randrange(pages) for _ in range(2))
        data[to : to + 4096] = data[source : source + 4096] if generator.random() < 0.7 else bytes(4096)
    return data


def _page_header(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    """A byte where a page says what it is and what it holds."""
    pages = len(data) // 4096
    if pages:
        place = 4096 * generator.randrange(pages) + generator.randrange(40)
        data[place] = generator.choice((data[place] ^ 1, data[place] ^ 8, 0, 255, generator.randrange(256)))
    return data


_TOKENS = (
    b"<<: *a", b"&a ", b"*a", b"- ", b"[", b"{", b": ", b"\n", b"\t", b"'", b'"', b"|", b"!!python/object:os.system ",
    b"1e999", b".inf", b"-1", b"9" * 5000, b"null", b"../", b"/dev/zero", b"true", b"2026-13-45", b"[" * 500, b"---\n",
    b"%YAML 9\n", b"\xff\xfe",
)  # fmt: skip


def _token(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    place = generator.randrange(len(data) + 1)
    data[place : place + generator.choice((0, 1, 5))] = generator.choice(_TOKENS)
    return data


def _line(data: bytearray, generator: random.Random, seed: Seed) -> bytearray:
    lines = bytes(data).split(b"\n")
    place = generator.randrange(len(lines))
    line = lines.pop(place)
    if generator.random() < 0.6:
        lines.insert(generator.randrange(len(lines) + 1), line)
    return bytearray(b"\n".join(lines))


Change = Callable[[bytearray, random.Random, Seed], bytearray]
_ANY: tuple[Change, ...] = (_flip, _flip, _flip_last_part, _number, _cut, _remove, _duplicate, _overwrite)
_CHANGES: dict[str, tuple[Change, ...]] = {
    "mcap": (*_ANY, _move_record, _record_field, _record_field, _summary_with_sum, _summary_with_sum),
    "bag": _ANY,
    "db3": (*_ANY, _page, _page_header, _page_header),
    "yaml": (*_ANY, _token, _token, _line, _line),
}


# -- executions ----------------------------------------------------------------------------------------------------


class Executions:
    """Reads changed bags in a folder of its own."""

    def __init__(self, kind: str, seed: int, folder: Path) -> None:
        from ros_ood_perception.recordings.bag import Bag

        self._kind, self._seed, self._folder = kind, seed, folder
        scratch = folder / "seeds"
        scratch.mkdir()
        self._seeds = seeds(kind, scratch)
        self._bag = folder / "bag"
        self._expected = {}
        for one in self._seeds:
            self.write(one, one.files[one.changed])
            bag = Bag(self._bag)
            self._expected[one.name] = _read(bag, one.summed)
            if bag.damage or not self._expected[one.name]:
                raise RuntimeError(f"{one.name}: the unchanged bag is damaged: {bag.damage}")

    def write(self, seed: Seed, data: bytes) -> None:
        """Put a bag there."""
        shutil.rmtree(self._bag, ignore_errors=True)
        self._bag.mkdir()
        for name, contents in seed.files.items():
            (self._bag / name).write_bytes(data if name == seed.changed else contents)

    def __call__(self, number: int) -> str:
        """One execution: `whole`, `named`, `refused`, or what is wrong."""
        from ros_ood_perception.recordings.bag import Bag, BagError

        generator = random.Random(f"{self._kind} {self._seed} {number}")
        seed = generator.choice(self._seeds)
        data = changed(seed, generator)
        self.write(seed, data)
        try:
            bag = Bag(self._bag)
            found = _read(bag, seed.summed)
            damage = bag.damage
        except BagError:
            return "refused"
        except Exception:
            return f"error {traceback.format_exc()}"
        if damage:
            return "named"
        expected = self._expected[seed.name]
        earlier = seed.name == "log" and seed.files[seed.changed].startswith(data)
        if found == expected or earlier:
            # A log that ends between two pages is that of a recorder that was killed earlier.
            return "whole"
        return f"silent {seed.name}: {sum((expected - found).values())} lost, {sum((found - expected).values())} more"


def _read(bag: Any, summed: bool) -> Counter[Any]:
    return Counter(
        (message.topic, message.type_name, message.time_ns, message.raw if summed else b"")
        for message in bag.messages(bag.types)
    )


def _serve(kind: str, seed: int, first: int, last: int, folder: Path, pipe: Connection) -> None:
    tempfile.tempdir = str(folder)
    executions = Executions(kind, seed, folder)
    # From here on; the imports are not what is tried.
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESS_SPACE, MOST_ADDRESS_SPACE))
    pipe.send(None)
    for number in range(first, last):
        started = time.monotonic()
        pipe.send((number, executions(number), time.monotonic() - started))
    pipe.send(("peak", peak_resident_bytes() // 1024))


def fuzz(kind: str, count: int, seed: int, first: int = 0) -> dict[str, Any]:
    """Run `count` executions; what came of them.

    Returns:
        `whole`, `named`, `refused`: how many; `wrong`: number of an execution to what was wrong; `slowest_s` and
        `peak_mb`.
    """
    found: Counter[str] = Counter()
    wrong: dict[int, str] = {}
    slowest, peak, number, last = 0.0, 0, first, first + count
    context = multiprocessing.get_context("spawn")
    while number < last:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(kind, seed, number, last, Path(folder), theirs))
            process.start()
            theirs.close()
            try:
                ours.recv()
                while True:
                    if not ours.poll(MOST_SECONDS):
                        wrong[number] = f"hang: more than {MOST_SECONDS:.0f} s"
                        process.kill()
                        break
                    report = ours.recv()
                    if report[0] == "peak":
                        peak = max(peak, report[1])
                        break
                    number, outcome, seconds = report
                    slowest = max(slowest, seconds)
                    found[outcome.split()[0]] += 1
                    if outcome not in ("whole", "named", "refused"):
                        wrong[number] = outcome
                    number += 1
                    if not number % REPORTED_EVERY:
                        print(
                            f"{kind}: {number} of {last}, {dict(found)}, wrong {len(wrong)}",
                            file=sys.stderr,
                            flush=True,
                        )
            except EOFError:
                process.join()
                wrong[number] = f"crash: the process ended with {process.exitcode}"
            process.join()
            if number in wrong:
                number += 1
            elif process.exitcode and number < last:
                raise RuntimeError(f"the process ended with {process.exitcode}")
    return {
        **{name: found[name] for name in ("whole", "named", "refused")},
        "wrong": wrong,
        "slowest_s": round(slowest, 3),
        "peak_mb": peak // 1024,
    }


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first execution")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one execution, in this process")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="with --only: where the bag is put")
    options = parser.parse_args()
    if options.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            executions = Executions(options.kind, options.seed, Path(folder))
            print(executions(options.only))
            if options.keep is not None:
                shutil.copytree(Path(folder) / "bag", options.keep)
        return 0
    started = time.monotonic()
    found = fuzz(options.kind, options.executions, options.seed, options.first)
    found["seconds"] = round(time.monotonic() - started)
    print(json.dumps({"kind": options.kind, "executions": options.executions, "seed": options.seed, **found}, indent=1))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
