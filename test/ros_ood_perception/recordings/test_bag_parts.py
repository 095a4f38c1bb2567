"""Which files of a folder are a bag: its parts, missing and repeated ones, and those that are compressed."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import cv2
import pytest
from backports import zstd
from mcap_parts import frame_numbers
from recorded_drive import image, picture, write_bag, write_drive, write_ros1_drive
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from ros_ood_perception.recordings.bag import Bag, BagError
from ros_ood_perception.recordings.bag_parts import missing_parts
from ros_ood_perception.recordings.image_sequence import ImageSequenceError
from ros_ood_perception.recordings.opening import open_recording
from ros_ood_perception.replay.inputs import BagInput, open_input

CAMERA = "/front/image_raw"
FRAMES = 6


def frames(bag: Path) -> list[int]:
    """The numbers of the frames that are read; nothing may be damaged."""
    found = open_recording(bag)
    assert isinstance(found, Bag)
    numbers = frame_numbers(found.messages([CAMERA]))
    assert found.damage == []
    return numbers


def file_of(folder: Path) -> Path:
    (file,) = (file for file in folder.iterdir() if file.name != "metadata.yaml")
    return file


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp("drive") / "drive", FRAMES, size=(24, 32))


def split(folder: Path, names: list[str]) -> Path:
    """A recording in parts of two frames, without metadata.yaml."""
    folder.mkdir()
    for number, name in enumerate(names):
        listed = [image(n, picture(n, 24, 32)) if n // 2 == number else None for n in range(2 * len(names))]
        made = write_bag(folder.with_name(f"{folder.name}_made_{number}"), {CAMERA: listed})
        shutil.move(file_of(made), folder / name)
    return folder


# -- parts -------------------------------------------------------------------------------------------------------------


def test_a_split_recording_without_metadata_is_read_and_a_missing_part_is_named(tmp_path: Path) -> None:
    folder = split(tmp_path / "drive", ["drive_0.mcap", "drive_1.mcap", "drive_2.mcap"])
    assert frames(folder) == list(range(6))
    assert Bag(folder).notes == []
    (folder / "drive_1.mcap").unlink()
    bag = Bag(folder)
    assert frame_numbers(bag.messages([CAMERA])) == [0, 1, 4, 5]
    assert bag.damage == ["drive/drive_N: the parts with N = 1 are missing; put them into the folder"]


def test_parts_from_the_middle_of_a_recording_are_read_and_that_is_named(tmp_path: Path) -> None:
    folder = split(tmp_path / "drive", ["drive_9.mcap", "drive_10.mcap"])
    assert frames(folder) == list(range(4))
    assert Bag(folder).notes == [
        "drive_N: the first part has N = 9; latched topics such as /tf_static are often in part 0"
    ]


@pytest.mark.parametrize(
    ("stems", "damage", "notes"),
    [
        (["drive"], 0, 0),
        (["drive_7"], 0, 0),
        (["rosbag2_2024_05_01-10_00_00_0", "rosbag2_2024_05_01-10_00_00_1"], 0, 0),
        (["drive_2024-05-01-10-00-00_0", "drive_2024-05-01-10-01-00_1", "drive_2024-05-01-10-02-00_2"], 0, 0),
        (["drive_2024-05-01-10-00-00_0", "drive_2024-05-01-10-02-00_2"], 1, 0),
        (["drive_20240501", "drive_20240503"], 0, 1),
        (["drive_2023", "drive_2027"], 0, 1),
        (["a_0", "b_0"], 0, 1),
    ],
)
def test_only_numbers_of_parts_are_taken_for_numbers_of_parts(stems: list[str], damage: int, notes: int) -> None:
    found = missing_parts(stems)
    assert (len(found[0]), len(found[1])) == (damage, notes), found


def test_an_empty_last_part_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    folder = split(tmp_path / "drive", ["drive_0.mcap", "drive_1.mcap"])
    for contents in (b"", bytes(10_000)):
        (folder / "drive_2.mcap").write_bytes(contents)
        bag = Bag(folder)
        assert frame_numbers(bag.messages([CAMERA])) == [0, 1, 2, 3]
        assert bag.damage[0].startswith("drive_2.mcap: nothing in it can be read")


def test_a_message_that_two_files_hold_is_read_once(drive: Path, tmp_path: Path) -> None:
    """A bag that was converted or repaired in its own folder."""
    sqlite = write_drive(tmp_path / "sqlite", FRAMES, StoragePlugin.SQLITE3, (24, 32))
    (tmp_path / "both").mkdir()
    shutil.copy(file_of(drive), tmp_path / "both" / "drive.mcap")
    shutil.copy(file_of(sqlite), tmp_path / "both" / "drive.db3")
    bag = Bag(tmp_path / "both")
    assert frame_numbers(bag.messages(bag.types)) == sorted([0, *range(FRAMES), *range(FRAMES)])
    assert bag.damage == []
    assert f"{FRAMES} messages on {CAMERA} are in two files; they are read once" in bag.notes


def test_equal_messages_of_one_file_are_all_read(tmp_path: Path) -> None:
    assert frames(write_bag(tmp_path / "bag", {CAMERA: [image(0), image(0)]})) == [0, 1]
    (tmp_path / "twice").mkdir()
    for name in ("a.mcap", "b.mcap"):
        shutil.copy(file_of(tmp_path / "bag"), tmp_path / "twice" / name)
    assert frames(tmp_path / "twice") == [0, 1]


# -- ROS 1 -------------------------------------------------------------------------------------------------------------


def test_the_parts_of_a_ros_1_recording_in_a_folder_are_one_recording(tmp_path: Path) -> None:
    write_ros1_drive(tmp_path / "drive_2024-05-01-10-00-00_0.bag", 3)
    write_ros1_drive(tmp_path / "drive_2024-05-01-10-01-00_1.bag", 2, first=3)
    bag = Bag(tmp_path)
    assert bag.is_ros1
    assert frame_numbers(bag.messages([CAMERA])) == [0, 1, 2, 3, 4]
    assert (bag.damage, bag.notes) == ([], [])
    assert BagInput(Bag(tmp_path), []).frame_count == 5


def test_the_last_part_of_a_killed_ros_1_recorder_is_read_and_named(tmp_path: Path) -> None:
    write_ros1_drive(tmp_path / "drive_0.bag", 3)
    write_ros1_drive(tmp_path / "made.bag", 2, first=3)
    data = bytearray((tmp_path / "made.bag").read_bytes())
    place = data.index(b"index_pos=") + len(b"index_pos=")
    data[place : place + 8] = bytes(8)
    (tmp_path / "made.bag").unlink()
    (tmp_path / "drive_1.bag.active").write_bytes(data)
    for path, numbers in ((tmp_path, [0, 1, 2, 3, 4]), (tmp_path / "drive_1.bag.active", [3, 4])):
        bag = open_recording(path)
        assert isinstance(bag, Bag)
        assert frame_numbers(bag.messages([CAMERA])) == numbers
        assert bag.damage == ["drive_1.bag.active: it was not finished: its recorder was killed"]


def test_an_encrypted_ros_1_bag_is_refused_with_the_remedy(tmp_path: Path) -> None:
    data = write_ros1_drive(tmp_path / "drive.bag", 2).read_bytes()
    # The header of the bag has the field as rosbag writes it, at the cost of the padding behind.
    begin = len(b"#ROSBAG V2.0\n")
    (size,) = struct.unpack_from("<I", data, begin)
    field = b"encryptor=rosbag/AesCbcEncryptor"
    fields = data[begin + 4 : begin + 4 + size] + struct.pack("<I", len(field)) + field
    rest = data[begin + 4 + size :]
    (padding,) = struct.unpack_from("<I", rest)
    rest = struct.pack("<I", padding - len(field) - 4) + rest[4 + len(field) + 4 :]
    (tmp_path / "drive.bag").write_bytes(data[:begin] + struct.pack("<I", len(fields)) + fields + rest)
    with pytest.raises(BagError, match=r"decrypt it first \(rosbag decrypt\)"):
        Bag(tmp_path / "drive.bag")


def test_the_copy_that_rosbag_reindex_leaves_is_not_read_a_second_time(tmp_path: Path) -> None:
    write_ros1_drive(tmp_path / "drive.bag", 3)
    shutil.copy(tmp_path / "drive.bag", tmp_path / "drive.orig.bag")
    bag = Bag(tmp_path)
    assert frame_numbers(bag.messages([CAMERA])) == [0, 1, 2]
    assert "3 messages on /front/image_raw are in two files; they are read once" in bag.notes


def test_a_ros_1_bag_beside_a_ros_2_bag_is_left_out_and_named(drive: Path, tmp_path: Path) -> None:
    shutil.copytree(drive, tmp_path / "bag")
    write_ros1_drive(tmp_path / "bag" / "old.bag", 3)
    assert frames(tmp_path / "bag") == list(range(FRAMES))
    assert Bag(tmp_path / "bag").notes == ["left out, as they are ROS 1 bags beside those of ROS 2: old.bag"]


# -- compressed files, names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_a_compressed_bag_needs_no_metadata(storage: StoragePlugin, mode: CompressionMode, tmp_path: Path) -> None:
    folder = write_drive(tmp_path / "bag", FRAMES, storage, (24, 32), mode)
    assert frames(folder) == list(range(FRAMES))
    (folder / "metadata.yaml").unlink()
    assert frames(folder) == list(range(FRAMES))
    assert frames(file_of(folder)) == list(range(FRAMES))


@pytest.mark.parametrize("name", ["drive.mcap.zst", "DRIVE.MCAP", "drive.mcap.active"])
def test_other_spellings_of_an_ending_are_read(name: str, drive: Path, tmp_path: Path) -> None:
    data = file_of(drive).read_bytes()
    (tmp_path / name).write_bytes(zstd.compress(data) if name.endswith(".zst") else data)
    assert frames(tmp_path) == list(range(FRAMES))
    assert frames(tmp_path / name) == list(range(FRAMES))


def test_a_ros_1_bag_compressed_as_a_whole_is_read(tmp_path: Path) -> None:
    write_ros1_drive(tmp_path / "drive.bag", 3)
    (tmp_path / "drive.bag.zst").write_bytes(zstd.compress((tmp_path / "drive.bag").read_bytes()))
    assert frames(tmp_path) == [0, 1, 2]
    assert Bag(tmp_path).notes == []  # the same file twice
    (tmp_path / "drive.bag").unlink()
    assert frames(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("ending", [".lz4", ".gz", ".bz2", ".xz", ".zip"])
def test_a_compression_that_is_not_read_is_named_with_the_remedy(ending: str, drive: Path, tmp_path: Path) -> None:
    (tmp_path / f"drive_0.db3{ending}").write_bytes(b"packed")
    for path in (tmp_path, tmp_path / f"drive_0.db3{ending}"):
        with pytest.raises(BagError, match=r"drive_0.*decompress it first"):
            open_recording(path)
    shutil.copy(file_of(drive), tmp_path / "drive_1.mcap")
    bag = Bag(tmp_path)
    assert frame_numbers(bag.messages([CAMERA])) == list(range(FRAMES))
    assert "decompress it first" in bag.damage[0]


def test_a_folder_of_bags_and_the_metadata_alone_are_refused_with_the_remedy(drive: Path, tmp_path: Path) -> None:
    for name in ("monday", "tuesday"):
        shutil.copytree(drive, tmp_path / name)
    with pytest.raises(BagError, match=r"give one of them \(monday, tuesday\)"):
        open_recording(tmp_path)
    with pytest.raises(BagError, match=r"only lists the files of a bag; give its folder"):
        open_recording(drive / "metadata.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageSequenceError, match="no bag"):
        open_recording(tmp_path / "empty")


def test_a_folder_of_images_has_no_notes(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    assert open_input(tmp_path, [], 10.0).notes == []


# -- folders, and files that are no recording ------------------------------------------------------------------------


def _pictures(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(cv2.imencode(".png", picture(0))[1].tobytes())
    return folder


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (("preview.png", "images/1.png", "images/2.png"), "images"),
        (("1.png", "front/1.png", "rear/1.png"), "front, rear"),
        (("images/1.png", "night/1.png"), "night"),
        (("images/1.png", "bag/drive_0.mcap"), "bag"),
        (("images/1.png", "labels/1.png", "masks/1.png", ".thumbs/1.png", "labels_masks/1.png", "instances/1.png"), ""),
        (("1.png", "2.png"), ""),
    ],
)
def test_frames_beside_those_that_are_read_are_noted(there: tuple[str, ...], said: str, tmp_path: Path) -> None:
    notes = open_input(_pictures(tmp_path / "drive", *there), [], 10.0).notes
    assert len(notes) == bool(said)
    assert all(f"not read are {said}; give one" in note for note in notes)


def test_a_video_beside_images_is_noted_and_videos_alone_are_named(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "card", "DCIM1.png")
    (folder / "GOPR1.MP4").write_bytes(b"a video")
    assert "not read are GOPR1.MP4" in open_input(folder, [], 10.0).notes[0]
    (folder / "DCIM1.png").unlink()
    with pytest.raises(ImageSequenceError, match=r"no images in it .*; give one of: GOPR1\.MP4"):
        open_recording(folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("frame.png", "is a single image; give its folder"),
        ("scan.TIFF", "is a single image; give its folder"),
        ("dashcam.ts", r"is no recording; .*a video ends in \.mp4.*ffmpeg -i FILE out\.mp4"),
        ("clip", r"is no recording; .*a video ends in"),
        ("drive.db3.lz4", "decompress it first"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_what_to_give(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(BagError, match=f"{name}: {said}" if "first" not in said else said):
        open_recording(tmp_path / name)
