"""Image files of strangers, whoever reads them: folder, mask, ego mask, truth or training set; and videos."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
from pathlib import Path
from types import SimpleNamespace

import cv2
import hostile_images as hostile
import numpy as np
import pytest
from hostile_images import STILL

from benchmark.fuzzing.image_corpus import png_file
from ros_ood_perception.camera.compressed_image import check_compressed, decode
from ros_ood_perception.camera.decoder_process import shared_decoder
from ros_ood_perception.camera.image_bytes import CAMERA_KINDS, kind_of
from ros_ood_perception.camera.image_file import (
    MAX_FILE_PIXELS,
    ImageFileError,
    check_image_file,
    images_in,
    read_image_file,
    read_label_file,
)
from ros_ood_perception.obstacles.regions import read_ego_mask
from ros_ood_perception.recordings.image_sequence import ImageSequenceError, open_sequence
from sample_drive.drive_truth import DriveTruth, DriveTruthError
from training.data.labelled_frames import BrokenFrameError, read_image, read_label_map

ROOT = Path(__file__).resolve().parents[3]

ATTACKS = {
    "animation": (hostile.ANIMATIONS["frame larger than the canvas"], True),
    "texts": (hostile.FLOODS["zTXt"], True),
    "5 GB": (hostile.declared(40000, 40000), False),
    "excess": (hostile.excess(), False),
    "scans": (hostile.jpeg_with(before_end=hostile.of_kind(0xDA) * 5000), False),
}


@pytest.fixture(scope="module")
def attacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attacks")
    for name, (data, _) in ATTACKS.items():
        (folder / f"{name}.png").write_bytes(data)
    return folder


# -- every reader ----------------------------------------------------------------------------------------------------


def test_a_folder_of_attacks_gives_what_is_an_image_and_names_the_rest(attacks: Path) -> None:
    source = open_sequence(attacks)
    frames = {frame.name: frame for frame in source}
    assert sorted(frames) == ["animation.png", "texts.png"]
    for frame in frames.values():
        assert np.array_equal(frame.data.reshape(STILL.shape), STILL)
    assert [Path(problem.split(": ")[0]).stem for problem in source.unreadable] == ["5 GB", "excess", "scans"]


@pytest.mark.parametrize("name", ATTACKS)
def test_masks_ego_masks_truth_and_training_images_are_read_like_any_image(attacks: Path, name: str) -> None:
    path, is_image = attacks / f"{name}.png", ATTACKS[name][1]
    if is_image:
        assert np.array_equal(read_image(path), STILL[..., ::-1])
        assert read_ego_mask(path).shape == STILL.shape[:2]
    else:
        with pytest.raises(BrokenFrameError, match="not a decodable image"):
            read_image(path)
        with pytest.raises(ValueError, match="the ego mask cannot be read"):
            read_ego_mask(path)
    with pytest.raises(BrokenFrameError, match=rf"{name}\.png: "):
        read_label_map(path)
    folder = attacks / f"drive {name}" / "labels_masks"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(path.read_bytes())
    with pytest.raises(DriveTruthError, match="render the drive again"):
        DriveTruth(folder.parent, {}, (0.0, 0.0)).anomaly(1)


def test_an_animated_mask_is_its_still_picture(tmp_path: Path) -> None:
    mask = (np.arange(256).reshape(16, 16) % 2).astype(np.uint8)
    still = cv2.imencode(".png", mask)[1].tobytes()
    header, pixels = still[8:33], still[33:-12]
    harm = [hostile.animation(2), hostile.frame_control(0, 64, 64)]
    data = still[:8] + header + b"".join(hostile.png_chunk(*chunk) for chunk in harm) + pixels + still[-12:]
    path = tmp_path / "labels_masks" / "1.png"
    path.parent.mkdir()
    path.write_bytes(data)
    assert np.array_equal(read_label_map(path), mask)
    assert np.array_equal(read_ego_mask(path), mask == 1)
    found = DriveTruth(tmp_path, {}, (0.0, 0.0)).anomaly(1)
    assert found is not None
    assert np.array_equal(found, mask)
    assert DriveTruth(tmp_path, {}, (0.0, 0.0)).anomaly(2) is None


# -- one meaning -----------------------------------------------------------------------------------------------------


def test_every_reader_gives_the_pixels_that_a_camera_would_have_sent(tmp_path: Path) -> None:
    deep = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    grey = np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, 2)
    exif = hostile.segment(0xE1, hostile.EXIF_WITH_ORIENTATION)
    wide = np.concatenate([STILL, STILL], 1)
    turned = hostile.jpeg(wide)[:2] + exif + hostile.jpeg(wide)[2:]
    tiff = bytearray(cv2.imencode(".tiff", wide, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes())
    place = tiff.index(struct.pack("<HHI", 259, 3, 1))  # compression: none, which nobody needs to be told
    tiff[place : place + 12] = struct.pack("<HHIHH", 274, 3, 1, 6, 0)
    alpha = np.dstack([STILL, np.arange(256, dtype=np.uint8).reshape(16, 16)])
    cases = {
        "turned.jpg": (turned, cv2.imdecode(np.frombuffer(hostile.jpeg(wide), np.uint8), cv2.IMREAD_COLOR)),
        "turned.tiff": (bytes(tiff), wide),
        "deep.png": (cv2.imencode(".png", deep)[1].tobytes(), grey),
        "deep.tiff": (cv2.imencode(".tiff", deep)[1].tobytes(), grey),
        "deep_colour.png": (cv2.imencode(".png", STILL.astype(np.uint16) * 257)[1].tobytes(), STILL),
        "deep_colour.tiff": (cv2.imencode(".tiff", STILL.astype(np.uint16) * 257)[1].tobytes(), STILL),
        "alpha.png": (cv2.imencode(".png", alpha)[1].tobytes(), STILL),
        "alpha.webp": (cv2.imencode(".webp", alpha, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes(), None),
        "see_through.png": (png_file([hostile.IHDR, (b"tRNS", bytes(6)), hostile.IDAT, hostile.IEND]), STILL),
        "a.bmp": (cv2.imencode(".bmp", STILL)[1].tobytes(), STILL),
        "wrong_ending.jpg": (png_file([hostile.IHDR, hostile.IDAT, hostile.IEND]), STILL),
    }
    for name, (data, _) in cases.items():
        (tmp_path / name).write_bytes(data)
    frames = {frame.name: frame.data.reshape(frame.height, frame.width, 3) for frame in open_sequence(tmp_path)}
    assert sorted(frames) == sorted(cases)
    for name, (_, expected) in cases.items():
        if expected is not None:
            assert np.array_equal(frames[name], expected), name
        assert np.array_equal(read_image(tmp_path / name)[..., ::-1], frames[name]), name
        data = (tmp_path / name).read_bytes()
        if kind_of(data) in CAMERA_KINDS:
            header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0))
            message = SimpleNamespace(header=header, format="jpeg", data=data)
            check_compressed(message, MAX_FILE_PIXELS)
            assert np.array_equal(decode(message, "bgr"), frames[name]), name


def test_one_module_decodes_images() -> None:
    """Another call of a decoder would read files in its own way."""
    decoders = re.compile(
        r"\b(imread|imdecode|imreadmulti|imdecodemulti|VideoCapture|Image\.open|read_file|decode_image|decode_jpeg|decode_png)\("
    )
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("ros_ood_perception", "training", "sample_drive", "demo", "launch")
        for path in (ROOT / folder).rglob("*.py")
        if decoders.search(path.read_text("utf-8"))
    }
    # TIFF files of floating point hold scores, and no pictures.
    scores = {"training/evaluation/score_files.py"}
    assert found - scores == {
        "ros_ood_perception/camera/image_decoder.py",
        "ros_ood_perception/camera/decoder_service.py",
    }


# -- which files of a folder -----------------------------------------------------------------------------------------


def test_a_folder_gives_its_pictures_in_natural_order_and_nothing_that_lies_beside_them(tmp_path: Path) -> None:
    names = [f"frame{number}.png" for number in range(1, 13)]
    for name in [*names, "last.PNG", "last.JPG"]:
        (tmp_path / name).write_bytes(hostile.jpeg())
    beside = ["._frame1.png", ".DS_Store", ".hidden.png", "Thumbs.db", "desktop.ini", "frame1.xmp", "frame1.png.xmp"]
    for name in [*beside, "frame1.json", "notes.txt"]:
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    for folder in ("__MACOSX", "folder.png"):
        (tmp_path / folder).mkdir()
    source = open_sequence(tmp_path)
    assert [frame.name for frame in source] == [*names, "last.JPG", "last.PNG"]
    assert source.unreadable == []
    assert [path.name for path in images_in(tmp_path)] == [*names, "last.JPG", "last.PNG"]


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.heic", b"\x00\x00\x00\x20ftypheic", "a HEIC"),
        ("a.gif", b"GIF89a" + bytes(20), "a GIF"),
        ("a.pgm", b"P5\n1 1\n255\n\x00", "a PNM"),
        ("a.tif", b"II+\x00\x08\x00\x00\x00", "a BigTIFF"),
        ("a.jpeg", b"<!DOCTYPE html><html>", "a web page: fetch the image again"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ],
)
def test_a_picture_of_a_kind_that_is_not_read_is_named(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(data)
    (tmp_path / "good.jfif").write_bytes(hostile.jpeg())
    source = open_sequence(tmp_path)
    assert [frame.name for frame in source] == ["good.jfif"]
    assert len(source.unreadable) == 1
    assert f"{name}: begins as none of JPEG, PNG, WebP, BMP, TIFF does ({kind}" in source.unreadable[0]


def test_pictures_with_rarer_endings_are_read_or_named_and_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    readable = ["a.apng", "b.dib", "c.jpe", "d.jps", "e.mpo"]
    for name in readable:
        (tmp_path / name).write_bytes(hostile.jpeg())
    (tmp_path / "empty.jpg").write_bytes(b"")
    unread = ["a.arw", "a.cr2", "a.dng", "a.nef", "a.psd", "a.tga"]
    for name in unread:
        (tmp_path / name).write_bytes(b"something")
    source = open_sequence(tmp_path)
    assert [frame.name for frame in source] == readable
    assert f"{tmp_path / 'empty.jpg'}: is empty; fetch it again" in source.unreadable
    assert len(source.unreadable) == len(unread) + 1


# -- no one meaning --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("measured.tiff", hostile.MEASURED_TIFF, "sample format of the TIFF is 3"),
        ("cut.tiff", cv2.imencode(".tiff", STILL)[1].tobytes()[:60], "the TIFF ends in its directory"),
        ("huge.tiff", hostile.tiff((256, 2**31), (257, 2**31)), "more than"),
        ("twice.tiff", hostile.tiff((256, 16), (257, 16), (256, 2**20)), "has the entry 256 twice"),
        ("printed.tiff", hostile.tiff((256, 16), (257, 16), (262, 5)), "photometric interpretation of the TIFF is 5"),
        ("raw.dng", hostile.tiff((254, 1), (256, 16), (257, 16)), "is a preview of another one"),
        ("old.tiff", hostile.tiff((255, 2), (256, 16), (257, 16)), "is a preview of another one"),
        ("moving.webp", hostile.MOVING_WEBP, "is an animation"),
        ("cut.webp", cv2.imencode(".webp", STILL)[1].tobytes()[:40], "the WebP ends in"),
        ("packed.bmp", hostile.bmp(16, 8, 1), "compression 1"),
        ("cut.bmp", cv2.imencode(".bmp", STILL)[1].tobytes()[:-1], "its 16 rows need"),
        ("high.bmp", hostile.bmp(-(2**31), 24, 0), "rows need"),
        ("moving.gif", b"GIF89a" + bytes(100), "it must be JPEG, PNG, WebP, BMP or TIFF"),
        ("empty.png", b"", "begins with nothing"),
    ],
)
def test_what_has_no_one_meaning_is_refused_by_name(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageFileError, match=rf"{name}: .*{message}"):
        read_image_file(tmp_path / name)


def test_a_label_file_that_is_no_png_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(hostile.jpeg(STILL[..., 0]))
    with pytest.raises(BrokenFrameError, match=r"a\.png: this file is a JPEG; a label file must be PNG"):
        read_label_map(tmp_path / "a.png")
    cv2.imwrite(str(tmp_path / "b.png"), np.full((4, 4), 300, np.uint16))
    assert read_label_file(tmp_path / "b.png").max() == 300
    with pytest.raises(BrokenFrameError, match=r"b\.png: label value 300; ids are 0 to 255"):
        read_label_map(tmp_path / "b.png")


# -- what is no plain file -------------------------------------------------------------------------------------------


def test_what_is_no_plain_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zeros.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    with (tmp_path / "huge.png").open("wb") as file:
        file.write(hostile.jpeg())
        file.truncate(1 << 40)
    for name, message in (
        ("pipe", "is a named pipe"),
        ("zeros", "is a device"),
        ("folder", "is a folder"),
        ("gone", "No such file"),
        ("none", "No such file"),
        ("huge", f"has {1 << 40} bytes"),
    ):
        with pytest.raises(ImageFileError, match=rf"{name}\.png: .*({message})"):
            read_image_file(tmp_path / f"{name}.png")
        if name != "huge":
            with pytest.raises(ImageFileError, match=rf"{name}\.png"):
                check_image_file(tmp_path / f"{name}.png")
    (tmp_path / "good.jpg").write_bytes(hostile.jpeg())
    source = open_sequence(tmp_path)
    assert [frame.name for frame in source] == ["good.jpg"]
    assert sorted(Path(problem.split(": ")[0]).name for problem in source.unreadable) == [
        *("gone.png", "huge.png", "pipe.png", "zeros.png")
    ]


def test_the_limit_of_a_folder_is_asked_before_an_image_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(hostile.jpeg())
    source = open_sequence(tmp_path)
    assert source.max_image_pixels == MAX_FILE_PIXELS
    source.max_image_pixels = 255
    assert not list(source)
    assert "is 16x16, more than 255 pixels" in source.unreadable[0]


# -- video -----------------------------------------------------------------------------------------------------------


def write_video(path: Path, frames: int = 5) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
    for number in range(frames):
        writer.write(np.full((32, 32, 3), 40 * number, np.uint8))
    writer.release()


def test_a_video_is_not_turned_by_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 32))
    for number in range(3):
        writer.write(np.full((32, 64, 3), 40 * number, np.uint8))
    writer.release()
    data = path.read_bytes()
    upright = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    place = data.index(upright, data.index(b"tkhd"))
    path.write_bytes(data[:place] + turned + data[place + len(turned) :])
    turning = cv2.VideoCapture(str(path))
    turning.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    assert turning.read()[1].shape == (64, 32, 3)
    assert {(frame.height, frame.width) for frame in open_sequence(path)} == {(32, 64)}


def test_a_list_of_addresses_is_no_video_and_is_not_fetched(tmp_path: Path) -> None:
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1.0)

        def listen() -> None:
            with contextlib.suppress(TimeoutError):
                asked.append(server.accept())

        thread = threading.Thread(target=listen)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        lists = {
            "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n",
            "files.mkv": "ffconcat version 1.0\nfile a.avi\n",
        }
        write_video(tmp_path / "a.avi")
        for name, text in lists.items():
            (tmp_path / name).write_text(text)
            with pytest.raises(ImageSequenceError, match=rf"{name}: .*does not begin as"):
                open_sequence(tmp_path / name)
        thread.join()
    assert not asked


def test_a_video_whose_decoder_dies_ends_there_and_says_so(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi")
    source = open_sequence(tmp_path / "a.avi")
    taken = []
    for frame in source:
        taken.append(int(frame.data.mean()))
        if len(taken) == 2:
            (child,) = children()
            os.kill(child, 9)
    assert len(taken) == 2
    assert source.unreadable == [
        f"{tmp_path / 'a.avi'}: 3 of 5 frames, from #2 on (its decoder was killed by SIGKILL; a new one takes the next)"
    ]
    assert len(list(source)) == 5
    assert source.unreadable == []
    assert children() == []


def test_a_video_with_frames_above_the_limit_is_refused_before_they_are_decoded(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi")
    source = open_sequence(tmp_path / "a.avi")
    source.max_image_pixels = 1000
    assert list(source) == []
    assert "is 32x32, more than 1000 pixels" in source.unreadable[0]


def children() -> list[int]:
    """Decoder processes of videos; the one for images that all tests share is not among them."""
    own = Path(f"/proc/{os.getpid()}/task")
    found = {int(pid) for task in own.iterdir() for pid in (task / "children").read_text().split()}
    return [
        pid
        for pid in found - {shared_decoder().pid}
        if b"camera/decoder_service.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
