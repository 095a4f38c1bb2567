"""Bags that were cut or overwritten: every message that is lost is accounted for by a sentence."""

from __future__ import annotations

import random
import shutil
import zlib
from pathlib import Path

import lz4.frame
import mcap_parts as parts
import numpy as np
import pytest
from backports import zstd
from recorded_drive import START_NS, STEP_NS, picture, write_drive, write_ros1_drive
from rosbags.rosbag2 import StoragePlugin

from ros_ood_perception.recordings.bag import Bag, BagError

FRAMES = 24
SIZE = (192, 256)
TOPIC = "/front/image_raw"


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bags")
    return {
        "mcap": write_drive(folder / "mcap", FRAMES, size=SIZE),
        "sqlite": write_drive(folder / "sqlite", FRAMES, StoragePlugin.SQLITE3, SIZE),
        "ros1": write_ros1_drive(folder / "ros1.bag", FRAMES),
    }


def file_of(bag: Path) -> Path:
    if bag.is_file():
        return bag
    (file,) = [f for f in bag.iterdir() if f.suffix in (".mcap", ".db3")]
    return file


def images(bag: Bag) -> tuple[list[np.ndarray], int]:
    """The images that can be read, and how many messages are no images."""
    found, broken = [], 0
    for message in bag.messages([TOPIC]):
        try:
            found.append(np.asarray(bag.deserialize(message).data).reshape(-1))
        except BagError:
            broken += 1
    return found, broken


@pytest.mark.parametrize("storage", ["mcap", "sqlite", "ros1"])
@pytest.mark.parametrize("seed", range(12))
def test_after_random_bytes_in_a_random_place_nothing_is_missing_without_a_word(
    storage: str, seed: int, bags: dict[str, Path], tmp_path: Path
) -> None:
    copied = tmp_path / bags[storage].name
    (shutil.copy if bags[storage].is_file() else shutil.copytree)(bags[storage], copied)
    file = file_of(copied)
    data = bytearray(file.read_bytes())
    place = random.Random(seed).randrange(len(data))
    data[place : place + 64] = random.Random(seed + 1000).randbytes(64)
    file.write_bytes(data)
    try:
        bag = Bag(copied)
    except BagError as error:
        assert storage == "ros1"
        assert "cannot be read as a bag" in str(error)  # noqa: PT017
        return
    found, broken = images(bag)
    assert len(found) + broken == FRAMES or bag.damage


@pytest.mark.parametrize("storage", ["mcap", "sqlite"])
@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.85])
def test_of_a_cut_bag_every_whole_message_is_read(
    storage: str, share: float, bags: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(bags[storage], tmp_path / "bag")
    file = file_of(tmp_path / "bag")
    kept = int(file.stat().st_size * share)
    with file.open("r+b") as stream:
        stream.truncate(kept)
    bag = Bag(tmp_path / "bag")
    found, broken = images(bag)
    message_bytes = SIZE[0] * SIZE[1] * 3
    assert kept // message_bytes - 2 <= len(found) + broken <= kept // message_bytes + 1
    assert bag.damage
    for number, pixels in enumerate(found[:-1]):
        np.testing.assert_array_equal(pixels, picture(number, *SIZE).reshape(-1))


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_of_a_compressed_chunk_that_is_cut_every_whole_message_is_read(compression: str, tmp_path: Path) -> None:
    """A power cut: the last chunk is not finished, and nothing follows."""
    noise = np.random.default_rng(0)
    one = parts.image(0, 200, 200)
    listed = [parts.message(START_NS + number * STEP_NS, one[:-100_000] + noise.bytes(100_000)) for number in range(10)]
    contents = b"".join(listed)
    packed = {"zstd": zstd.compress, "lz4": lz4.frame.compress}[compression](contents)
    made = parts.chunk(contents, START_NS, START_NS + 9 * STEP_NS, compression, packed, crc=zlib.crc32(contents))
    whole = parts.mcap(parts.schema() + parts.channel() + made)
    begin = whole.index(made)
    for share in (0.2, 0.5, 0.95):
        (tmp_path / "a.mcap").write_bytes(whole[: begin + int(len(made) * share)])
        bag = Bag(tmp_path / "a.mcap")
        numbers = parts.frame_numbers(bag.messages([parts.TOPIC]))
        assert numbers == list(range(len(numbers)))
        assert 10 * share - 3 < len(numbers) <= 10 * share
        said = "\n".join(bag.damage)
        assert "a record goes beyond the end of the file" in said
        assert "breaks off" in said


def test_a_file_that_is_no_bag_or_empty_is_named(tmp_path: Path) -> None:
    for name, contents in (("a.mcap", b"no bag"), ("b.mcap", b""), ("c.db3", b"no bag"), ("d.bag", b"no bag")):
        (tmp_path / name).write_bytes(contents)
        with pytest.raises(BagError, match=rf"{name}: cannot be read as a bag"):
            Bag(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BagError, match="no bag in it"):
        Bag(tmp_path / "folder")
