from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from ros_ood_perception.camera.camera_model import CameraError, CameraModel

TYPES = get_typestore(Stores.ROS2_JAZZY).types
BARREL = (-0.25, 0.08, 0.001, -0.001, -0.005)
RATIONAL = (2.0, 0.5, 0.0005, 0.0005, 0.02, 2.3, 0.9, 0.1)
FISHEYE = (0.02, -0.01, 0.003, -0.001)
MODELS = [
    ("plumb_bob", ()),
    ("plumb_bob", BARREL[:4]),
    ("plumb_bob", BARREL),
    ("rational_polynomial", RATIONAL),
    ("equidistant", FISHEYE),
]


def camera_info(**fields: Any) -> Any:
    """A calibrated 1920x1080 camera, as `rosbags` reads it from a bag."""
    roi = TYPES["sensor_msgs/msg/RegionOfInterest"]
    region = dict.fromkeys(("x_offset", "y_offset", "height", "width"), 0) | {"do_rectify": False}
    region |= fields.pop("roi", {})
    values = {
        "header": None,
        "height": 1080,
        "width": 1920,
        "distortion_model": "plumb_bob",
        "d": np.array(BARREL),
        "k": np.array([1000.0, 0, 960, 0, 1010, 540, 0, 0, 1]),
        "r": np.eye(3).ravel(),
        "p": np.array([900.0, 0, 950, 0, 0, 905, 530, 0, 0, 0, 1, 0]),
        "binning_x": 0,
        "binning_y": 0,
        **fields,
    }
    return TYPES["sensor_msgs/msg/CameraInfo"](roi=roi(**region), **values)


def model(distortion: str, coefficients: tuple[float, ...]) -> CameraModel:
    return CameraModel(1080, 1920, 1000, 1010, 960, 540, distortion, coefficients)


@pytest.mark.parametrize(("distortion", "coefficients"), MODELS)
def test_rays_go_back_to_the_pixels_that_they_come_from(distortion: str, coefficients: tuple[float, ...]) -> None:
    camera = model(distortion, coefficients)
    pixels = np.stack(np.meshgrid(np.arange(0, 1920, 60.0), np.arange(0, 1080, 45.0)), axis=-1).reshape(-1, 2)
    rays = camera.rays(pixels)
    known = np.isfinite(rays[:, 0])
    assert known.mean() > 0.95
    np.testing.assert_allclose(np.linalg.norm(rays[known], axis=1), 1)
    np.testing.assert_allclose(camera.pixels(rays[known] * 7), pixels[known], atol=0.05)


@pytest.mark.parametrize("coefficients", [(), FISHEYE])
def test_the_fisheye_is_opencvs(coefficients: tuple[float, ...]) -> None:
    camera = model("equidistant", coefficients)
    points = np.random.default_rng(0).normal(size=(200, 3)) * (1, 1, 0) + (0, 0, 1)
    matrix = np.array([[1000.0, 0, 960], [0, 1010, 540], [0, 0, 1]])
    expected, _ = cv2.fisheye.projectPoints(
        points[:, None], np.zeros(3), np.zeros(3), matrix, np.array(coefficients or (0.0,) * 4)
    )
    np.testing.assert_allclose(camera.pixels(points), expected.reshape(-1, 2), atol=1e-6)


def test_a_fisheye_sees_beyond_90_degrees() -> None:
    camera = CameraModel(1080, 1920, 500, 500, 960, 540, "equidistant")
    angle = math.radians(100)
    ray = camera.rays([(960 + 500 * angle, 540)])[0]
    np.testing.assert_allclose(ray, (math.sin(angle), 0, math.cos(angle)), atol=1e-12)


def test_pixels_outside_the_field_of_view_of_the_distortion_have_no_ray() -> None:
    camera = model("plumb_bob", (-0.3, 0.0, 0.0, 0.0))
    # The radius of the picture, tangent (1 - 0.3 tangent^2), is largest at tangent 1.054, where it is 0.703.
    rays = camera.rays([(960 + 690, 540), (960 + 710, 540), (960 + 5000, 540)])
    assert np.isfinite(rays[:, 0]).tolist() == [True, False, False]
    assert np.isnan(camera.pixels([(1.1, 0, 1)])).all()  # would fold back into the picture
    assert np.isfinite(camera.pixels([(1.0, 0, 1)])).all()


def test_what_is_behind_the_camera_has_no_pixel() -> None:
    assert np.isnan(model("plumb_bob", ()).pixels([(0, 0, -1), (1, 0, 0)])).all()


def test_camera_info_gives_raw_images_k_and_d_and_rectified_ones_p() -> None:
    raw = CameraModel.from_camera_info(camera_info(), (1080, 1920))
    assert raw == CameraModel(1080, 1920, 1000, 1010, 960, 540, "plumb_bob", BARREL)
    rectified = CameraModel.from_camera_info(camera_info(), (1080, 1920), rectified=True)
    assert rectified == CameraModel(1080, 1920, 900, 905, 950, 530)


def test_a_raw_pixel_and_its_rectified_one_have_one_ray_in_a_stereo_camera() -> None:
    turn = cv2.Rodrigues(np.array([0.02, -0.05, 0.01]))[0]
    info = camera_info(r=turn.ravel())
    pixels = np.array([(100.0, 900.0), (960, 540), (1800, 700)])
    moved = cv2.undistortPointsIter(
        pixels[:, None],
        info.k.reshape(3, 3),
        info.d,
        turn,
        info.p.reshape(3, 4)[:, :3],
        (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 500, 1e-9),
    ).reshape(-1, 2)
    raw = CameraModel.from_camera_info(info, (1080, 1920)).rays(pixels)
    rectified = CameraModel.from_camera_info(info, (1080, 1920), rectified=True).rays(moved)
    np.testing.assert_allclose(raw, rectified, atol=1e-6)


def test_binning_and_region_of_interest_do_not_change_where_a_pixel_looks() -> None:
    full = CameraModel.from_camera_info(camera_info(), (1080, 1920))
    cut = camera_info(binning_x=2, binning_y=4, roi={"x_offset": 200, "y_offset": 100, "width": 800, "height": 400})
    part = CameraModel.from_camera_info(cut, (100, 400))
    np.testing.assert_allclose(part.rays([(30, 20)]), full.rays([(30 * 2 + 200, 20 * 4 + 100)]), atol=1e-9)


@pytest.mark.parametrize("name", ["", "plumb_bob"])
def test_no_coefficients_mean_no_distortion(name: str) -> None:
    camera = CameraModel.from_camera_info(camera_info(d=np.zeros(0), distortion_model=name), (1080, 1920))
    np.testing.assert_allclose(camera.pixels([(0.5, 0.2, 1)]), [(1460, 742)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": np.zeros(9)}, "K of camera_info is .* not calibrated"),
        ({"k": np.full(9, np.nan)}, "K of camera_info is .* not calibrated"),
        ({"k": np.array([1000.0, 0, np.inf, 0, 1000, 540, 0, 0, 1])}, "K of camera_info is .* not calibrated"),
        ({"k": np.array([1000.0, 5, 960, 0, 1000, 540, 0, 0, 1])}, r"must be \[fx 0 cx, 0 fy cy, 0 0 1\]"),
        ({"k": np.array([1000.0, 0, 960, 0, 1000, 540, 0, 0, 2])}, r"must be \[fx 0 cx, 0 fy cy, 0 0 1\]"),
        ({"k": np.zeros(4)}, "K of camera_info has 4 numbers; it must have 9"),
        ({"d": np.array([np.nan] * 5)}, "not finite"),
        ({"d": np.zeros(3)}, "D has 3 coefficients; plumb_bob has 4 or 5"),
        ({"distortion_model": "ucm"}, "distortion_model is 'ucm'; known are plumb_bob"),
        ({"r": np.full(9, 0.5)}, "must be a 3 x 3 rotation"),
        ({"r": np.array([np.nan] * 9)}, "not finite"),
        ({"height": 0, "width": 0}, "is of 0x0 images"),
        ({"width": 1280, "height": 720}, "is of 1280x720 images .* the image is 1920x1080"),
        ({"binning_x": 2, "binning_y": 2}, "is of 960x540 images"),
        ({"binning_x": 4_000_000_000}, "is of 0x1080 images"),
    ],
)
def test_a_camera_info_that_cannot_be_right_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(CameraError, match=message):
        CameraModel.from_camera_info(camera_info(**fields), (1080, 1920))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"p": np.zeros(12)}, "P of camera_info is .* not calibrated"),
        ({"roi": {"do_rectify": True}}, "do_rectify of camera_info is set"),
    ],
)
def test_a_camera_info_of_rectified_images_that_cannot_be_right_is_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(CameraError, match=message):
        CameraModel.from_camera_info(camera_info(**fields), (1080, 1920), rectified=True)


any_number = st.floats(allow_nan=True, allow_infinity=True, width=64)


@example(k=[1.0, 0, 0, 0, 5.4e-298, 0, 0, 0, 0], d=[], name="plumb_bob")  # a focal length whose tangents overflow
@given(
    k=st.lists(any_number, min_size=9, max_size=9),
    d=st.lists(any_number, max_size=15),
    name=st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", "fisheye", "", "x"]),
)
def test_any_camera_info_is_refused_or_gives_unit_rays_that_come_back(
    k: list[float], d: list[float], name: str
) -> None:
    k = [*k[:1], 0.0, k[2], 0.0, *k[4:6], 0.0, 0.0, 1.0]
    info = camera_info(k=np.array(k), d=np.array(d), distortion_model=name)
    try:
        camera = CameraModel.from_camera_info(info, (1080, 1920))
    except CameraError:
        return
    pixels = np.array([(0.0, 0.0), (960, 540), (1919, 1079)])
    with np.errstate(all="ignore"):
        rays = camera.rays(pixels)
    known = np.isfinite(rays).all(axis=1)
    assert np.isnan(rays[~known]).any(axis=1).all()
    np.testing.assert_allclose(np.linalg.norm(rays[known], axis=1), 1, atol=1e-9)


@given(
    strength=st.floats(-0.15, 0.3),  # below, the corner of the pixels lies beyond the fold
    pixel=st.tuples(st.floats(200, 1700), st.floats(100, 1000)),
    distance=st.floats(0.1, 1000),
)
def test_any_mild_distortion_is_inverted(strength: float, pixel: tuple[float, float], distance: float) -> None:
    camera = model("plumb_bob", (strength, 0.0, 0.001, -0.002, 0.0))
    np.testing.assert_allclose(camera.pixels(camera.rays([pixel]) * distance), [pixel], atol=0.05)
