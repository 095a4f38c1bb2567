from __future__ import annotations

import array
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from raw_scenes import BLUE, BRIGHT, COLUMNS_BLUE, COLUMNS_GREY, COLUMNS_RED, DARK, HEIGHT, RED, message, scene

from ros_ood_perception.camera.raw_encodings import ENCODINGS, VIEWED
from ros_ood_perception.camera.raw_image import MalformedImageError, PlainImage, check_image, to_array, to_colour

GREY = ("mono8", "mono16", "8UC1")
DEEP = sorted(name for name in ENCODINGS if "16" in name)
OF_ROS = (
    *("rgb8", "rgba8", "rgb16", "rgba16", "bgr8", "bgra8", "bgr16", "bgra16", "mono8", "mono16"),
    *(f"bayer_{mosaic}{bits}" for mosaic in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)),
    *("uyvy", "yuv422", "yuyv", "yuv422_yuy2", "nv21", "nv24"),
)
"""The encodings of colour and grey in sensor_msgs/image_encodings.hpp."""
EXACT_TO = {"bayer": 1, "yu": 3, "uy": 3, "nv": 3}
"""Largest difference to the scene after rounding to bytes and back, by the beginning of the name; else 0."""


def read(image: PlainImage, order: str = "rgb") -> NDArray[np.uint8]:
    """As node and replay read it."""
    check_image(image)
    return to_colour(image, order)


def assert_shows_the_scene(found: NDArray[np.uint8], name: str) -> None:
    """Colours and brightness away from the edges, where a mosaic mixes its neighbours."""
    inner = slice(3, -3)
    exact = next((most for start, most in EXACT_TO.items() if name.startswith(start)), 0)
    colours = {
        RED: found[inner, COLUMNS_RED][:, inner],
        BLUE: found[inner, COLUMNS_BLUE][:, inner],
        DARK: found[: HEIGHT // 2, COLUMNS_GREY][inner, inner],
        BRIGHT: found[HEIGHT // 2 :, COLUMNS_GREY][inner, inner],
    }
    for colour, part in colours.items():
        wanted = (round(np.dot(colour, (0.299, 0.587, 0.114))),) * 3 if name in GREY else colour
        assert np.abs(part.astype(int) - wanted).max() <= exact, (name, colour, part[0, 0])


def test_every_encoding_of_colour_and_grey_that_ros_names_is_read() -> None:
    assert set(OF_ROS) <= set(ENCODINGS)
    assert set(ENCODINGS) - set(OF_ROS) == {"8UC1", "8UC3", "8UC4", "16UC3", "16UC4", "nv12"}


def test_the_page_on_inputs_names_every_encoding_that_is_read() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "inputs.md").read_text()
    table = page.split("## Cameras: encodings\n")[1].split("These count as malformed")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(ENCODINGS)


@pytest.mark.parametrize("padding", [0, 5, 16])
@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_an_encoding_shows_its_colours_with_padded_rows_as_well(name: str, padding: int) -> None:
    rgb = read(message(name, padding))
    assert rgb.shape == scene().shape
    assert_shows_the_scene(rgb, name)
    np.testing.assert_array_equal(read(message(name, padding), "bgr"), rgb[..., ::-1])


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("name", DEEP)
def test_sixteen_bits_of_the_other_byte_order_are_the_same_image(name: str, padding: int) -> None:
    big = message(name, padding, big_endian=True)
    assert not np.array_equal(big.data, message(name, padding).data)
    np.testing.assert_array_equal(read(big), read(message(name)))


def test_sixteen_bits_become_the_nearest_eight() -> None:
    values = np.arange(65536, dtype="<u2")
    image = PlainImage(message("mono8").header, 256, 256, "mono16", 512, values.view(np.uint8))
    np.testing.assert_array_equal(read(image)[..., 0].reshape(-1), np.rint(values / 257))


@pytest.mark.parametrize("name", sorted(ENCODINGS))
@pytest.mark.parametrize(
    "container",
    [bytes, memoryview, lambda data: array.array("B", data), lambda data: np.frombuffer(b"x" + data, np.uint8)[1:]],
)
def test_every_buffer_that_a_message_class_has_gives_the_same(name: str, container: Callable[[bytes], Any]) -> None:
    image = message(name, padding=3)
    expected = read(image)
    image.data = container(image.data.tobytes())  # type: ignore[union-attr]
    np.testing.assert_array_equal(read(image), expected)


@pytest.mark.parametrize("name", sorted(VIEWED))
def test_one_byte_a_channel_is_read_without_a_copy(name: str) -> None:
    image = message(name, padding=4)
    assert np.shares_memory(to_array(image), np.asarray(image.data))
    if name in ("rgb8", "bgr8"):
        assert np.shares_memory(to_colour(image, name[:3]), np.asarray(image.data))


@pytest.mark.parametrize("name", ["mono16", "rgb16", "bayer_rggb8", "bayer_grbg16", "nv24"])
def test_odd_sizes_are_read_where_no_colour_is_shared(name: str) -> None:
    rgb = np.full((7, 9, 3), (200, 30, 40), np.uint8)
    found = read(message(name, rgb=rgb)).astype(int)
    assert found.shape == (7, 9, 3)
    assert np.abs(found - read(message(name, rgb=np.tile(rgb[:1, :1], (8, 10, 1))))[1, 1]).max() <= 1


@pytest.mark.parametrize(
    ("name", "size", "sides"),
    [
        *((name, (8, 7), "width") for name in ("uyvy", "yuyv", "yuv422", "yuv422_yuy2")),
        *((name, size, "width and height") for name in ("nv12", "nv21") for size in ((8, 7), (7, 8))),
    ],
)
def test_an_odd_size_of_shared_colours_is_refused_with_the_side(name: str, size: tuple[int, int], sides: str) -> None:
    image = PlainImage(message("mono8").header, *size, name, 32, np.zeros(32 * 16, np.uint8))
    with pytest.raises(
        MalformedImageError, match=f"pixels {name}, .*: {sides} must be even; set another size"
    ) as caught:
        check_image(image)
    assert caught.value.kind == "odd size"


@pytest.mark.parametrize("size", [(2, 8), (8, 2), (1, 1)])
def test_a_mosaic_too_small_to_have_colours_is_refused(size: tuple[int, int]) -> None:
    image = PlainImage(message("mono8").header, *size, "bayer_rggb8", 8, np.zeros(64, np.uint8))
    with pytest.raises(MalformedImageError, match="width and height must be at least 3"):
        check_image(image)


@pytest.mark.parametrize("name", ["nv12", "nv21", "nv24"])
def test_planes_need_all_their_rows_and_none_between_them(name: str) -> None:
    image = message(name)
    whole = np.asarray(image.data)
    image.data = whole[:-1]
    with pytest.raises(MalformedImageError, match="the publisher sends cut images"):
        check_image(image)
    # The rest of the last page, as drivers send it.
    image.data = np.concatenate([whole, np.zeros(4095, np.uint8)])
    np.testing.assert_array_equal(read(image), read(message(name)))
    image.data = np.concatenate([whole, np.zeros(4096, np.uint8)])
    with pytest.raises(MalformedImageError, match="where the second plane begins is not known"):
        check_image(image)


@pytest.mark.parametrize(
    ("encoding", "kind", "explanation"),
    [
        ("16UC1", "encoding of no colour camera", "it holds depth in millimetres; remap ~/input/image"),
        ("32FC1", "encoding of no colour camera", "it holds depth in metres; remap ~/input/image"),
        *(
            (name, "encoding of no colour camera", "it holds measurements; remap ~/input/image")
            for name in ("8SC1", "8SC3", "16SC1", "32SC1", "32FC3", "64FC1", "64FC4", "16U", "8UC5")
        ),
        ("8UC2", "unknown encoding", "two channels have no agreed meaning; let the driver say which"),
        ("16UC2", "unknown encoding", "two channels have no agreed meaning"),
        *(
            (name, "unknown encoding", "none of ROS's names")
            for name in ("", "BGR8", "i420", "yuv420", "jpeg", "x" * 999)
        ),
    ],
)
def test_what_is_no_picture_is_refused_as_what_it_is(encoding: str, kind: str, explanation: str) -> None:
    image = PlainImage(message("mono8").header, 4, 4, encoding, 64, np.zeros(256, np.uint8))
    with pytest.raises(MalformedImageError, match=explanation) as caught:
        check_image(image)
    assert caught.value.kind == kind
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", sorted(set(ENCODINGS) - {"nv24"}))
def test_a_random_image_is_what_opencv_makes_of_it(name: str) -> None:
    """NV24 is no format of OpenCV's."""
    encoding = ENCODINGS[name]
    rows = encoding.rows(8)
    data = np.random.default_rng(3).integers(0, 256, rows * 10 * encoding.pixel_bytes, np.uint8)
    image = PlainImage(message("mono8").header, 8, 10, name, 10 * encoding.pixel_bytes, data)
    pixels = data.view(np.uint8 if encoding.depth_bytes == 1 else "<u2").reshape(rows, 10, -1)
    code = encoding.code("bgr")
    expected = pixels if code is None else cv2.cvtColor(pixels, code)
    np.testing.assert_array_equal(read(image, "bgr"), np.rint(expected / (257 if encoding.depth_bytes == 2 else 1)))


def test_the_error_passes_through_pickle() -> None:
    again = pickle.loads(pickle.dumps(MalformedImageError("size", "height is 0")))
    assert (type(again), again.kind, str(again)) == (MalformedImageError, "size", "height is 0")
