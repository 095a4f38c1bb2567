from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import hostile_images as hostile
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage

from ros_ood_perception.camera.compressed_image import check_compressed, decode
from ros_ood_perception.camera.image_formats.jpeg import Jpeg
from ros_ood_perception.camera.raw_image import MalformedImageError

MAX_PIXELS = 2000 * 1000
GOOD = np.full((120, 160, 3), (10, 200, 90), np.uint8)


def encoded(extension: str, options: tuple[int, ...] = (), image: Any = GOOD) -> bytes:
    return cv2.imencode(extension, image, options)[1].tobytes()


def message(data: bytes, declared: str = "jpeg") -> CompressedImage:
    return CompressedImage(format=declared, data=data)


def read(data: bytes, declared: str = "jpeg") -> np.ndarray:
    compressed = message(data, declared)
    check_compressed(compressed, MAX_PIXELS)
    return decode(compressed, "rgb")


def kind_of(data: bytes, declared: str = "jpeg") -> str:
    with pytest.raises(MalformedImageError) as caught:
        read(data, declared)
    return caught.value.kind


@pytest.mark.parametrize(
    ("extension", "options"),
    [
        (".png", ()),
        (".jpg", ()),
        (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        (".jpg", (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)),
    ],
)
@pytest.mark.parametrize("grey", [False, True])
def test_a_good_image_is_read_in_the_models_colours(extension: str, options: tuple[int, ...], grey: bool) -> None:
    image = GOOD[..., 0] if grey else GOOD
    expected = np.broadcast_to(GOOD[..., :1], GOOD.shape) if grey else GOOD[..., ::-1]
    found = read(encoded(extension, options, image), "bgr8; jpeg compressed bgr8")
    assert found.shape == GOOD.shape
    assert np.abs(found.astype(int) - expected).max() <= 3


def test_a_jpeg_padded_with_zeros_is_read() -> None:
    assert read(encoded(".jpg") + bytes(64)).shape == GOOD.shape


def test_an_orientation_in_the_metadata_turns_nothing() -> None:
    exif = (
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
    )
    jpeg = encoded(".jpg")
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    # Without our flag OpenCV does turn it, so the metadata is what it should be.
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (160, 120, 3)
    assert read(turned).shape == GOOD.shape


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_cut_image_is_refused_wherever_it_is_cut(extension: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(extension)
    for end in range(len(data) - 1, 0, -max(1, len(data) // 97)):
        assert kind_of(data[:end]) in ("data too short", "not a JPEG or PNG", "corrupt data")
    # libpng and libjpeg would each write a line a message: the log of a vehicle is not for its publishers to fill.
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(100), b"\x00" * 5000])
def test_what_is_not_a_jpeg_or_png_is_refused(data: bytes) -> None:
    assert kind_of(data) in ("not a JPEG or PNG", "data too short")


def test_a_declared_size_above_the_limit_is_refused_before_anything_is_decoded() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = zlib.compress(bytes(10**7))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bomb) + chunk(b"IEND", b"")
    assert kind_of(png) == "image too large"
    jpeg = bytearray(encoded(".jpg"))
    position = jpeg.index(b"\xff\xc0")
    jpeg[position + 5 : position + 9] = b"\xff\xff\xff\xff"
    assert kind_of(bytes(jpeg)) == "image too large"


def test_more_bytes_than_the_largest_image_needs_are_refused() -> None:
    assert kind_of(b"\xff\xd8" + bytes(8 * MAX_PIXELS + 2**20)) == "image too large"


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    jpeg = encoded(".jpg")
    scans = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 5000
    assert kind_of(jpeg[:-2] + scans + jpeg[-2:]) == "image too large"


def test_a_wrong_crc_is_refused() -> None:
    png = bytearray(encoded(".png"))
    png[len(png) // 2] ^= 1
    assert kind_of(bytes(png)) == "corrupt data"


@pytest.mark.parametrize(
    "declared", ["16UC1; compressedDepth png", "mono16; png compressed ", "32FC1; compressedDepth"]
)
def test_depth_images_are_refused(declared: str) -> None:
    assert kind_of(encoded(".png"), declared) == "encoding of no colour camera"


@pytest.mark.parametrize(
    ("extension", "declared"),
    [
        (".jpg", "bayer_rggb8; jpeg compressed "),
        (".jpg", "bayer_grbg8; jpeg compressed mono8"),
        (".png", "bayer_bggr16; png compressed "),
    ],
)
def test_a_compressed_bayer_mosaic_is_refused_with_the_remedy_and_not_taken_for_a_grey_image(
    extension: str, declared: str
) -> None:
    mosaic = encoded(extension, image=GOOD[..., 1])
    assert kind_of(mosaic, declared) == "compressed Bayer mosaic"
    with pytest.raises(MalformedImageError, match=r"image_proc's image_color/compressed.*image_transport to raw"):
        read(mosaic, declared)


def test_a_stamp_before_1970_is_refused() -> None:
    compressed = message(encoded(".jpg"))
    compressed.header.stamp.sec = -1
    with pytest.raises(MalformedImageError, match="stamp has -1 s"):
        check_compressed(compressed, MAX_PIXELS)


@pytest.mark.parametrize("name", [*hostile.ANIMATIONS, *hostile.FLOODS])
def test_of_a_hostile_png_only_its_still_picture_is_decoded(name: str) -> None:
    data = {**hostile.ANIMATIONS, **hostile.FLOODS}[name]
    assert np.array_equal(read(data, "png"), hostile.STILL[..., ::-1])


@pytest.mark.parametrize("trailing", [b"\r\n", b"--frame", b"\xff\xd8\xff", bytes(range(1, 97))])
def test_what_follows_the_end_of_a_jpeg_is_not_read(trailing: bytes) -> None:
    assert np.array_equal(read(encoded(".jpg") + trailing), read(encoded(".jpg")))


def test_a_jpeg_whose_decoder_would_read_another_header_is_refused() -> None:
    """A decoder skips `FF 00` byte by byte, so that a frame header in what a length claims would be read."""
    large = encoded(".jpg", image=np.zeros((2000, 2000, 3), np.uint8))
    small = encoded(".jpg")
    assert kind_of(large) == "image too large"
    hidden = large[:2] + b"\xff\x00" + struct.pack(">H", len(large)) + large[2:-2] + small[2:]
    assert cv2.imdecode(np.frombuffer(hidden, np.uint8), cv2.IMREAD_COLOR).shape == (2000, 2000, 3)
    assert kind_of(hidden) == "corrupt data"


def test_an_image_of_another_size_than_was_checked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Jpeg, "rebuilt", lambda self: encoded(".jpg", image=GOOD[:16, :16]))
    compressed = message(encoded(".jpg"))
    with pytest.raises(MalformedImageError, match="says that it is 160x120, and is 16x16"):
        decode(compressed, "rgb")
