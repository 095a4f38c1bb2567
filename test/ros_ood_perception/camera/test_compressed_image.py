"""`format` of a CompressedImage: the bytes decide what is decoded; the format only says what is no colour camera."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import hostile_images as hostile
import numpy as np
import pytest
from hostile_images import STILL

from ros_ood_perception.camera.compressed_image import check_compressed, decode
from ros_ood_perception.camera.raw_image import MalformedImageError

MAX_PIXELS = 1000
IMAGES = {"JPEG": hostile.jpeg(), "PNG": cv2.imencode(".png", STILL)[1].tobytes()}


def message(format_: str, data: bytes) -> SimpleNamespace:
    return SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0)), format=format_, data=data)


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize(
    "format_",
    [
        *("jpeg", "png", "jpg", "JPEG", "image/jpeg", "", "webp"),
        *(
            "rgb8; jpeg compressed bgr8",
            "bgr8; png compressed",
            "mono8; jpeg compressed ",
            "rgba8; png compressed bgra8",
        ),
    ],
)
def test_jpeg_and_png_are_read_whatever_the_format_calls_them(format_: str, kind: str) -> None:
    sent = message(format_, IMAGES[kind])
    check_compressed(sent, MAX_PIXELS)
    expected = cv2.imdecode(np.frombuffer(IMAGES[kind], np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decode(sent, "bgr", MAX_PIXELS), expected)
    assert np.array_equal(decode(sent, "rgb", MAX_PIXELS), expected[..., ::-1])


@pytest.mark.parametrize(
    ("format_", "kind"),
    [
        ("16UC1; compressedDepth png", "encoding of no colour camera"),
        ("32FC1; compressedDepth rvl", "encoding of no colour camera"),
        ("mono16; png compressed ", "encoding of no colour camera"),
        ("bayer_rggb8; jpeg compressed bgr8", "compressed Bayer mosaic"),
    ],
)
def test_what_is_no_colour_picture_is_refused_by_its_format(format_: str, kind: str) -> None:
    with pytest.raises(MalformedImageError) as caught:
        check_compressed(message(format_, IMAGES["PNG"]), MAX_PIXELS)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("format_", "data", "name"),
    [
        ("webp", cv2.imencode(".webp", STILL)[1].tobytes(), "a WebP"),
        ("avif", b"\x00\x00\x00\x20ftypavif", "an AVIF"),
        ("h264", b"\x00\x00\x00\x01\x67\x42", r"an H\.264 or H\.265 stream"),
        ("jpeg", b"", "begins with nothing; it must be JPEG or PNG"),
    ],
)
def test_other_compressions_are_refused_by_name(format_: str, data: bytes, name: str) -> None:
    with pytest.raises(MalformedImageError, match=name):
        check_compressed(message(format_, data), MAX_PIXELS)
