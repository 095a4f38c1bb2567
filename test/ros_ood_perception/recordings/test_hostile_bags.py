"""Bags that are meant to fill memory, to hang, to run code or to reach other files: each is refused or named."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import lz4.frame
import mcap_parts as parts
import pytest
from backports import zstd
from mcap_parts import TOPIC, channel, chunk, frame_numbers, images, mcap, schema
from recorded_drive import START_NS, STEP_NS, write_drive, write_ros1_drive
from rosbags.rosbag2 import StoragePlugin

from ros_ood_perception.recordings.bag import Bag, BagError
from ros_ood_perception.recordings.bag_files import bag_files
from ros_ood_perception.recordings.decompression import DecompressionError, decompressed

MOST_SECONDS = 5.0
_READER = """
import json, resource, sys, time
from pathlib import Path
from ros_ood_perception.recordings.bag import Bag, BagError
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for path in sys.argv[1:]:
    started = time.process_time()
    try:
        bag = Bag(Path(path))
        count = sum(1 for _ in bag.messages(bag.types))
        said = {"messages": count, "damage": bag.damage}
    except BagError as error:
        said = {"messages": 0, "damage": [str(error)]}
    print(json.dumps({**said, "seconds": time.process_time() - started}), flush=True)
"""


def read(*paths: Path) -> list[dict[str, Any]]:
    """What came of reading each, in a process with a gigabyte of address space."""
    command = [sys.executable, "-c", _READER, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(paths)
    assert all(one["seconds"] < MOST_SECONDS for one in found)
    return found


def _zeros(size: int) -> bytes:
    compressor = zstd.ZstdCompressor()
    block = bytes(1 << 24)
    packed = b"".join(compressor.compress(block) for _ in range(size >> 24))
    return bytes(packed + compressor.flush())


def test_chunks_that_decompress_to_gigabytes_are_left_out_and_the_rest_is_given(tmp_path: Path) -> None:
    good = chunk(b"".join(images(range(3))), START_NS, START_NS + 2 * STEP_NS)
    later = START_NS + 9 * STEP_NS
    zeros = _zeros(1 << 28)
    lz4_zeros = lz4.frame.compress(bytes(1 << 26))
    tiny = b"".join(b"\x80" + bytes(8) for _ in range(1 << 20)) * 2  # two million records that are nothing
    bombs = {
        "said": chunk(b"", later, later, "zstd", zeros, 6 << 30),
        "not said": chunk(b"", later, later, "zstd", zeros, 1 << 20),
        "lz4": chunk(b"", later, later, "lz4", lz4_zeros, 1 << 20),
        "2^63": chunk(b"", later, later, "zstd", zeros[:100], 1 << 63),
        "many": chunk(b"", later, later, "zstd", zeros, 1 << 28) * 40,
        "records": chunk(b"", later, later, "zstd", zstd.compress(tiny), len(tiny)),
        "xz": chunk(b"", later, later, "xz", bytes(10), 1 << 20),
    }
    for name, bomb in bombs.items():
        last = chunk(b"".join(images([20])), START_NS + 20 * STEP_NS, START_NS + 20 * STEP_NS)
        data = good + bomb + (b"" if name == "many" else last)
        (tmp_path / f"{name}.mcap").write_bytes(mcap(schema() + channel() + data))
        assert (tmp_path / f"{name}.mcap").stat().st_size < 8 << 20
    for name, found in zip(bombs, read(*(tmp_path / f"{name}.mcap" for name in bombs)), strict=True):
        assert found["messages"] == (3 if name == "many" else 4), name
        assert found["damage"], name


def test_chunks_that_all_overlap_in_time_are_not_all_kept_in_memory(tmp_path: Path) -> None:
    contents = parts.message(START_NS, bytes(35 << 20)) + parts.message(START_NS + 10**9, bytes(35 << 20))
    many = chunk(b"", START_NS, START_NS + 10**9, "zstd", zstd.compress(contents), len(contents)) * 4
    (tmp_path / "a.mcap").write_bytes(mcap(schema() + channel() + many))
    (found,) = read(tmp_path / "a.mcap")
    assert found["messages"] == 8
    assert "overlap in time" in found["damage"][0]


@pytest.mark.parametrize("compression", ["zstd", "lz4", "bz2"])
def test_no_more_is_decompressed_than_was_asked_for(compression: str) -> None:
    import bz2

    data = bytes(range(256)) * 1000
    packed = {"zstd": zstd.compress, "lz4": lz4.frame.compress, "bz2": bz2.compress}[compression](data)
    assert decompressed(packed, compression, len(data)) == data
    for wrong, most in ((packed, len(data) - 1), (packed[:-9], len(data)), (packed[3:], len(data)), (b"", 100)):
        with pytest.raises(DecompressionError):
            decompressed(wrong, compression, most)


def test_a_compressed_file_and_compressed_messages_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ros_ood_perception.recordings.decompression.FREE_FILE_BYTES", 1 << 24)
    whole = mcap(schema() + channel() + b"".join(images(range(3))))
    (tmp_path / "a.mcap.zstd").write_bytes(zstd.compress(whole + bytes(1 << 26)))
    bag = Bag(tmp_path / "a.mcap.zstd")
    assert "decompress to more than" in bag.damage[0]
    assert frame_numbers(bag.messages([TOPIC])) == [0, 1, 2]
    bomb = parts.message(START_NS + 7 * STEP_NS, _zeros(1 << 29))
    (tmp_path / "b.mcap").write_bytes(mcap(schema() + channel() + b"".join(images(range(2))) + bomb))
    bag = Bag(tmp_path / "b.mcap")
    assert frame_numbers(bag.messages([TOPIC])) == [0, 1]
    assert "is left out: it decompresses to more than" in bag.damage[0]


def test_a_chunk_of_a_ros_1_bag_is_bounded(tmp_path: Path) -> None:
    path = write_ros1_drive(tmp_path / "a.bag", 3)
    data = path.read_bytes()
    assert data.count(b"compression=none") == 1
    for name, place, value in (
        ("lz4", data.index(b"compression=none"), b"compression=lz4 "),
        ("size", data.index(b"size="), b"size=\xff\xff\xff\xff"),
    ):
        (tmp_path / f"{name}.bag").write_bytes(data[:place] + value + data[place + len(value) :])
    found = read(tmp_path / "lz4.bag", tmp_path / "size.bag")
    assert all(one["messages"] == 0 and one["damage"] for one in found)


# -- metadata.yaml ---------------------------------------------------------------------------------------------------


def test_metadata_that_is_a_bomb_is_not_read_and_the_files_are(tmp_path: Path) -> None:
    merge = "a: &a {k: 1}\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    merge += "rosbag2_bagfile_information: {<<: *j}\n"
    texts: dict[str, str | bytes] = {
        "merge": merge,
        "deep": "[" * 200_000,
        "deep blocks": "- " * 200_000 + "a",
        "large": "# " + "x" * (5 << 20),
        "number": "a: " + "9" * 1_000_000,
        "tag": "!!python/object/apply:os.system ['touch pwned']",
        "bytes": b"\xff\xfe\x00",
    }
    paths = []
    for name, text in texts.items():
        bag = tmp_path / name
        bag.mkdir()
        (bag / "bag_0.mcap").write_bytes(mcap(schema() + channel() + b"".join(images(range(3)))))
        (bag / "metadata.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        paths.append(bag)
    for name, found in zip(texts, read(*paths), strict=True):
        assert found["messages"] == 3, name
        assert "metadata.yaml cannot be used" in found["damage"][0], name


def test_metadata_that_leads_elsewhere_reaches_no_other_file(tmp_path: Path) -> None:
    bag, other = tmp_path / "bag", tmp_path / "other.mcap"
    bag.mkdir()
    whole = mcap(schema() + channel() + b"".join(images(range(3))))
    other.write_bytes(whole)
    (bag / "bag_0.mcap").write_bytes(whole)
    os.mkfifo(bag / "fifo.mcap")
    (bag / "device.mcap").symlink_to("/dev/zero")
    (bag / "folder.mcap").mkdir()
    (bag / "text.txt").write_text("no bag")
    (bag / "link.mcap").symlink_to(bag / "bag_0.mcap")
    listed = [
        "bag_0.mcap",
        "fifo.mcap",
        "device.mcap",
        "folder.mcap",
        "text.txt",
        "../other.mcap",
        str(other),
        "/dev/zero",
    ]
    (bag / "metadata.yaml").write_text(
        json.dumps({"rosbag2_bagfile_information": {"relative_file_paths": listed, "topics_with_message_count": []}})
    )
    assert [path.name for path in bag_files(bag).paths] == ["bag_0.mcap", "link.mcap"]
    said = "\n".join([*bag_files(bag).damage, *bag_files(bag).listing])
    for name in ("fifo.mcap is a named pipe", "device.mcap is a device", "folder.mcap is a folder"):
        assert name in said
    for name in ("text.txt ends in none of", "'other.mcap', which is not there", "'zero', which is not there"):
        assert name in said
    (bag / "metadata.yaml").unlink()
    os.mkfifo(bag / "metadata.yaml")
    (found,) = read(bag)
    assert found["messages"] == 3  # the link is the same file
    os.mkfifo(tmp_path / "alone.mcap")
    with pytest.raises(BagError, match=r"alone\.mcap: is a named pipe"):
        Bag(tmp_path / "alone.mcap")


# -- definitions and topics ------------------------------------------------------------------------------------------


def test_definitions_run_nothing_and_end(tmp_path: Path) -> None:
    evil = f"import os; os.system('touch {tmp_path}/pwned')"
    nested = (
        "".join(f"{'=' * 80}\nMSG: a/T{n}\na/T{n + 1}[1000] x\n" for n in range(50))
        + "=" * 80
        + "\nMSG: a/T50\nint8 x\n"
    )
    image = parts.definition()
    definitions = {
        "bomb": image.replace("string encoding", "string[30000000] encoding", 1),
        "nested": nested,
        "recursive": "a/B x\n" + "=" * 80 + "\nMSG: a/B\na/B y\n",
        "constant": f'string X=\'"""+{evil}+"""\'\n{image}',
        "long": "uint8 x\n" * 200_000,
        "quotes": "string X='\n" * 20_000,
    }
    paths = []
    for name, text in definitions.items():
        data = schema(written=text) + schema(2, f'a"""\n{evil}\n"""/msg/B', text) + channel() + channel(2, "/b", 2)
        paths.append(tmp_path / f"{name}.mcap")
        paths[-1].write_bytes(mcap(data + b"".join(images(range(2)))))
    reader = _READER.replace(
        "count = sum(", "bag.copyable; [_tried(bag, m) for m in bag.messages(bag.types)]; count = sum("
    )
    reader = reader.replace(
        "import json,",
        "def _tried(bag, message):\n    try: bag.deserialize(message)\n    except Exception: pass\nimport json,",
    )
    done = subprocess.run(
        [sys.executable, "-c", reader, *map(str, paths)], capture_output=True, text=True, check=False, timeout=120
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(paths), done.stderr[-2000:]
    for name, one in zip(definitions, found, strict=True):
        assert one["messages"] == 2, name
        assert one["seconds"] < MOST_SECONDS, name
    assert not (tmp_path / "pwned").exists()


def test_65000_topics_are_read_in_seconds(tmp_path: Path) -> None:
    topics = b"".join(channel(number, f"/c{number}/image_raw") for number in range(2, 65_000))
    (tmp_path / "a.mcap").write_bytes(mcap(schema() + channel() + topics + b"".join(images(range(5)))))
    (found,) = read(tmp_path / "a.mcap")
    assert found["messages"] == 5
    assert found["damage"] == []


# -- SQLite ----------------------------------------------------------------------------------------------------------


def _database(path: Path, *statements: str) -> Path:
    folder = write_drive(path.with_suffix(""), 4, StoragePlugin.SQLITE3, (24, 32))
    (file,) = folder.glob("*.db3")
    with sqlite3.connect(file) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    file.replace(path)
    return path


_MESSAGES = "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB"


@pytest.mark.parametrize(
    "statements",
    [
        ("ALTER TABLE messages RENAME TO m", "CREATE VIEW messages AS SELECT * FROM m"),
        ("DROP TABLE messages", f"{_MESSAGES} AS (zeroblob(900000000)))"),
        ("DROP TABLE messages", "CREATE VIRTUAL TABLE messages USING fts5(id, topic_id, timestamp, data)"),
        ("DROP TABLE messages", "CREATE TABLE messages(id TEXT, topic_id INTEGER, timestamp INTEGER, data BLOB)"),
        ("DROP TABLE messages", f"{_MESSAGES}) WITHOUT ROWID"),
        ("DROP TABLE messages", "CREATE TABLE messages(id, topic_id, timestamp, data, PRIMARY KEY(id, topic_id))"),
        ("ALTER TABLE topics RENAME TO t", "CREATE VIEW topics AS SELECT * FROM t"),
    ],
    ids=["view", "generated", "virtual", "no row number", "without rowid", "two keys", "view of topics"],
)
def test_tables_that_are_not_plain_are_refused(statements: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(BagError, match="cannot be read as a bag"):
        Bag(_database(tmp_path / "a.db3", *statements))


def test_triggers_and_other_views_are_never_run(tmp_path: Path) -> None:
    path = _database(
        tmp_path / "a.db3",
        "CREATE VIEW bomb AS SELECT * FROM messages a, messages b, messages c, messages d, messages e",
        "CREATE TRIGGER t AFTER INSERT ON messages BEGIN SELECT load_extension('x'); END",
    )
    bag = Bag(path)
    assert sum(1 for _ in bag.messages(bag.types)) == 9
    assert bag.damage == []


def test_a_damaged_page_and_a_row_number_without_end_come_to_an_end(tmp_path: Path) -> None:
    far = "INSERT INTO messages SELECT {n}, topic_id, timestamp + {n} % 1000, data FROM messages WHERE id = 2"
    path = _database(tmp_path / "a.db3", *(far.format(n=n) for n in (2**40, 2**40 + 1, 2**62)))
    whole = Bag(path)
    assert sum(1 for _ in whole.messages(whole.types)) == 12
    data = bytearray(path.read_bytes())
    leaves = [
        place for place in range(4096, len(data), 4096) if data[place] == 13 and data[place + 3 : place + 5] != b"\0\0"
    ]
    paths = []
    for number, place in enumerate(leaves):
        changed = bytearray(data)
        changed[place] = 0
        paths.append(tmp_path / f"{number}.db3")
        paths[-1].write_bytes(changed)
    for found in read(*paths):
        assert found["messages"] == 12 or found["damage"]
    assert any(0 < found["messages"] < 12 for found in read(*paths))


def test_a_journal_that_names_another_file_deletes_nothing(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("keep me")
    path = _database(tmp_path / "a.db3")
    name = str(precious).encode()
    trailer = (
        struct.pack(">I", 0) + name + struct.pack(">II", len(name), sum(name)) + b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
    )
    path.with_name("a.db3-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(4088) + trailer)
    bag = Bag(path)
    assert sum(1 for _ in bag.messages(bag.types)) == 9
    assert "a.db3-journal beside it was not applied" in bag.damage[0]
    assert precious.read_text() == "keep me"
