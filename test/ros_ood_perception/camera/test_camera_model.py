from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from ros_ood_perception.camera.calibration.camera_info import CameraError
from ros_ood_perception.camera.camera_model import CameraModel

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


PRISM = (*RATIONAL, 0.001, -0.002, 0.003, -0.001)


@pytest.mark.parametrize("coefficients", [(), BARREL[:4], BARREL, RATIONAL, PRISM, (*PRISM, 0.02, -0.03)])
def test_a_perspective_camera_is_opencvs(coefficients: tuple[float, ...]) -> None:
    camera = model("plumb_bob" if len(coefficients) <= 5 else "rational_polynomial", coefficients)
    x, y = np.random.default_rng(0).uniform(-0.4, 0.4, (2, 200))
    points = np.stack([x, y, np.ones(200)], axis=1)
    matrix = np.array([[1000.0, 0, 960], [0, 1010, 540], [0, 0, 1]])
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(coefficients))
    np.testing.assert_allclose(camera.pixels(points * 3), expected.reshape(-1, 2), atol=1e-9)


def test_a_pixel_that_is_no_number_has_no_ray_and_the_others_have_theirs() -> None:
    camera, good = model("plumb_bob", BARREL), [(100.0, 200.0), (1700.0, 900.0)]
    rays = camera.rays([good[0], (math.nan, 3.0), (5.0, math.inf), good[1]])
    assert np.isnan(rays[1:3]).all()
    np.testing.assert_allclose(rays[[0, 3]], camera.rays(good), atol=1e-12)
    assert camera.rays(np.zeros((0, 2))).shape == (0, 3)


@pytest.mark.parametrize("coefficients", [(), FISHEYE])
def test_the_fisheye_is_opencvs(coefficients: tuple[float, ...]) -> None:
    camera = model("equidistant", coefficients)
    points = np.random.default_rng(0).normal(size=(200, 3)) * (1, 1, 0) + (0, 0, 1)
    matrix = np.array([[1000.0, 0, 960], [0, 1010, 540], [0, 0, 1]])
    expected, _ = cv2.fisheye.projectPoints(
        points[:, None], np.zeros(3), np.zeros(3), matrix, np.array(coefficients or (0.0,) * 4)
    )
    np.testing.assert_allclose(camera.pixels(points), expected.reshape(-1, 2), atol=1e-6)


@pytest.mark.parametrize("coefficients", [(), FISHEYE, (-0.3, 0.0, 0.0, 0.0)])
def test_the_inverse_of_a_fisheye_is_exact_and_no_ray_depends_on_the_others(coefficients: tuple[float, ...]) -> None:
    camera = model("equidistant", coefficients)
    pixels = np.stack(np.meshgrid(np.arange(0, 1920, 60.0), np.arange(0, 1080, 45.0)), axis=-1).reshape(-1, 2)
    rays = camera.rays(pixels)
    known = np.isfinite(rays[:, 0])
    assert known.any()
    np.testing.assert_allclose(camera.pixels(rays[known]), pixels[known], atol=1e-9)
    for number in range(0, len(pixels), 50):
        np.testing.assert_array_equal(camera.rays(pixels[number]), rays[number : number + 1])


@pytest.mark.parametrize(
    ("coefficients", "radius"),
    [
        ((0.05432877190148903, 0.07261874862926601, 0.0016193641467605697, -0.006082651111348744), 1.754),
        ((0.08818622820672292, 0.17648261949351657, 0.10241115784131694, -0.027831717254507088), 1.9358),
    ],
)
def test_a_fisheye_is_inverted_where_newtons_steps_go_back_and_forth(
    coefficients: tuple[float, ...], radius: float
) -> None:
    pixels = np.stack([960 + 1000 * np.linspace(radius, radius + 0.001, 1001), np.full(1001, 540)], axis=1)
    camera = model("equidistant", coefficients)
    np.testing.assert_allclose(camera.pixels(camera.rays(pixels)), pixels, atol=1e-9)


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
    full = CameraModel.from_camera_info(skewed(), (1080, 1920))
    cut = skewed(binning_x=2, binning_y=4, roi={"x_offset": 200, "y_offset": 100, "width": 800, "height": 400})
    part = CameraModel.from_camera_info(cut, (100, 400))
    np.testing.assert_allclose(part.rays([(30, 20)]), full.rays([(30 * 2 + 200, 20 * 4 + 100)]), atol=1e-9)


@pytest.mark.parametrize("count", [0, 4, 5, 8])
@pytest.mark.parametrize(
    "name",
    ["", "plumb_bob", "rational_polynomial", "none", "None", "pinhole", "radtan", "kannala_brandt", "Plumb Bob", "ucm"],
)
def test_coefficients_of_zero_mean_no_distortion_whatever_the_name(name: str, count: int) -> None:
    camera = CameraModel.from_camera_info(camera_info(d=np.zeros(count), distortion_model=name), (1080, 1920))
    np.testing.assert_allclose(camera.pixels([(0.5, 0.2, 1)]), [(1460, 742)])


@pytest.mark.parametrize("name", ["equidistant", "fisheye"])
def test_a_fisheye_without_distortion_is_still_a_fisheye(name: str) -> None:
    camera = CameraModel.from_camera_info(camera_info(d=np.zeros(4), distortion_model=name), (1080, 1920))
    np.testing.assert_allclose(camera.pixels([(math.tan(0.5), 0, 1)]), [(960 + 1000 * 0.5, 540)])


SPREAD = np.stack(np.meshgrid(np.arange(200, 1800, 160.0), np.arange(100, 1080, 140.0)), axis=-1).reshape(-1, 2)
THIN_PRISM = (0.002, 0.0, -0.001, 0.0)
TILT = (0.01, -0.02)


@pytest.mark.parametrize(
    ("name", "coefficients"),
    [
        ("plumb_bob", BARREL[:4]),
        ("plumb_bob", BARREL),
        ("plumb_bob", (*BARREL, 0, 0, 0)),
        ("plumb_bob", (*BARREL, *(0,) * 7)),
        ("plumb_bob", (*BARREL, *(0,) * 9)),
        ("plumb_bob", (0, 0, 0.001, 0)),
        ("plumb_bob", RATIONAL),
        ("plumb_bob", (*RATIONAL, *THIN_PRISM)),
        ("rational_polynomial", BARREL),
        ("rational_polynomial", (*BARREL, 0)),
        ("rational_polynomial", RATIONAL),
        ("rational_polynomial", (*RATIONAL, *THIN_PRISM)),
        ("rational_polynomial", (*RATIONAL, *THIN_PRISM, *TILT)),
        ("rational_polynomial", (*RATIONAL, *(0,) * 6)),
        ("radtan", BARREL[:4]),
        ("Plumb Bob", BARREL),
        ("PLUMB-BOB", BARREL),
        ("", BARREL),
    ],
)
def test_perspective_coefficients_are_read_in_opencvs_order(name: str, coefficients: tuple[float, ...]) -> None:
    info = camera_info(distortion_model=name, d=np.array(coefficients))
    rays = CameraModel.from_camera_info(info, (1080, 1920)).rays(SPREAD)
    # OpenCV takes vectors of these lengths only.
    length = next(
        length for length in (4, 5, 8, 12, 14) if length >= len(coefficients) or not any(coefficients[length:])
    )
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 500, 1e-9)
    vector = np.array(coefficients[:length], np.float64)
    expected = cv2.undistortPointsIter(SPREAD[:, None], info.k.reshape(3, 3), vector, None, None, criteria).reshape(
        -1, 2
    )
    np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["equidistant", "fisheye", "kannala_brandt", "Kannala Brandt4"])
@pytest.mark.parametrize("zeros", [0, 1, 4])
def test_fisheye_coefficients_are_opencvs(name: str, zeros: int) -> None:
    info = camera_info(distortion_model=name, d=np.array((*FISHEYE, *(0,) * zeros)))
    rays = CameraModel.from_camera_info(info, (1080, 1920)).rays(SPREAD)
    expected = cv2.fisheye.undistortPoints(SPREAD[:, None], info.k.reshape(3, 3), np.array(FISHEYE)).reshape(-1, 2)
    np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], expected, atol=1e-5)


SKEW = 7.5


def skewed(**fields: Any) -> Any:
    return camera_info(k=np.array([1000.0, SKEW, 960, 0, 1010, 540, 0, 0, 1]), **fields)


@pytest.mark.parametrize("coefficients", [(), BARREL, RATIONAL])
def test_the_skew_of_a_perspective_camera_is_that_of_k(coefficients: tuple[float, ...]) -> None:
    """OpenCV's projection leaves it out. Here it distorts, and K is applied by hand."""
    camera = CameraModel.from_camera_info(skewed(d=np.array(coefficients)), (1080, 1920))
    points = np.array([(0.3, -0.2, 1), (-0.5, 0.4, 1), (0, 0, 1), (0.1, 0.45, 1)])
    bent, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), np.array(coefficients, np.float64))
    x, y = bent.reshape(-1, 2).T
    expected = np.stack([1000 * x + SKEW * y + 960, 1010 * y + 540], axis=1)
    np.testing.assert_allclose(camera.pixels(points), expected, atol=1e-9)
    rays = camera.rays(expected)
    np.testing.assert_allclose(rays / rays[:, 2:], points, atol=2e-5)


def test_the_skew_without_distortion_is_undone_by_the_inverse_of_k() -> None:
    info = skewed(d=np.zeros(5))
    rays = CameraModel.from_camera_info(info, (1080, 1920)).rays(SPREAD)
    expected = np.concatenate([SPREAD, np.ones((len(SPREAD), 1))], axis=1) @ np.linalg.inv(info.k.reshape(3, 3)).T
    np.testing.assert_allclose(rays / rays[:, 2:], expected, atol=1e-12)


def test_the_skew_of_a_fisheye_is_opencvs() -> None:
    """`cameracalibrator` leaves it free for fisheye lenses."""
    camera = CameraModel.from_camera_info(skewed(distortion_model="equidistant", d=np.array(FISHEYE)), (1080, 1920))
    points = np.array([(0.3, -0.2, 1), (-0.9, 0.4, 1), (0, 0, 1), (0.1, 0.6, 1)])
    matrix = np.array([[1000.0, 0, 960], [0, 1010, 540], [0, 0, 1]])
    expected, _ = cv2.fisheye.projectPoints(
        points[:, None], np.zeros(3), np.zeros(3), matrix, np.array(FISHEYE), alpha=SKEW / 1000
    )
    np.testing.assert_allclose(camera.pixels(points), expected.reshape(-1, 2), atol=1e-9)
    rays = camera.rays(expected.reshape(-1, 2))
    np.testing.assert_allclose(rays / rays[:, 2:], points, atol=1e-9)


def test_the_skew_of_a_rectified_image_is_that_of_p() -> None:
    p = np.array([900.0, SKEW, 950, 0, 0, 905, 530, 0, 0, 0, 1, 0])
    camera = CameraModel.from_camera_info(camera_info(p=p), (1080, 1920), rectified=True)
    np.testing.assert_allclose(camera.pixels([(0.5, 0.2, 1)]), [(900 * 0.5 + SKEW * 0.2 + 950, 905 * 0.2 + 530)])


@pytest.mark.parametrize("fields", [{"r": np.zeros(9)}, {"r": np.zeros(0)}, {"p": np.zeros(12)}, {"p": np.zeros(0)}])
def test_a_raw_image_needs_neither_r_nor_p(fields: dict[str, Any]) -> None:
    assert CameraModel.from_camera_info(camera_info(**fields), (1080, 1920)) == model("plumb_bob", BARREL)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": np.zeros(9)}, "K of camera_info is .* not calibrated"),
        ({"k": np.full(9, np.nan)}, "K of camera_info is .* not calibrated"),
        ({"k": np.array([1000.0, 0, np.inf, 0, 1000, 540, 0, 0, 1])}, "K of camera_info is .* not calibrated"),
        ({"k": np.array([1000.0, 0, 960, 5, 1000, 540, 0, 0, 1])}, r"must be \[fx skew cx, 0 fy cy, 0 0 1\]"),
        ({"k": np.array([1000.0, 0, 960, 0, 1000, 540, 0, 0, 2])}, r"must be \[fx skew cx, 0 fy cy, 0 0 1\]"),
        ({"k": np.array([1000.0, 0, 0, 0, 1000, 0, 960, 540, 1])}, r"must be \[fx skew cx, 0 fy cy, 0 0 1\]"),
        ({"k": np.array([1000.0, np.nan, 960, 0, 1000, 540, 0, 0, 1])}, "K of camera_info is .* not calibrated"),
        ({"k": np.ones(4)}, "K of camera_info has 4 numbers; it must have 9"),
        (
            {"k": np.zeros(0)},
            "K of camera_info is empty or all zero: .* not calibrated; calibrate it",
        ),
        ({"d": np.array([np.nan] * 5)}, "not finite"),
        ({"d": np.full(3, 0.1)}, "has 3 coefficients, .* is number 3; plumb_bob has 4 or 5 or 8 or 12 or 14"),
        ({"d": np.full(6, 0.1)}, "has 6 coefficients, .* is number 6; plumb_bob has 4 or 5 or 8 or 12 or 14"),
        ({"d": np.full(15, 0.1)}, "has 15 coefficients, .* is number 15"),
        (
            {"d": np.full(5, 0.1), "distortion_model": "equidistant"},
            "has 5 coefficients, .* is number 5; equidistant has 4 in OpenCV's order, and zeros may follow; correct",
        ),
        (
            {"distortion_model": "ucm"},
            "distortion_model of camera_info is 'ucm', and D is not zero; read are plumb_bob, .* give the file",
        ),
        ({"distortion_model": "none"}, "is 'none', and D is not zero"),
        ({"distortion_model": "pinhole"}, "is 'pinhole', and D is not zero"),
        ({"distortion_model": "x" * 1000}, "is 'x{40}', and D is not zero"),
        ({"r": np.full(9, 0.5)}, "must be a 3 x 3 rotation"),
        ({"r": np.array([np.nan] * 9)}, "not finite"),
        ({"height": 0, "width": 0}, "is of 0x0 images"),
        (
            {"width": 1280, "height": 720},
            "is of 1280x720 images .* the image is 1920x1080; publish .* as a file .parameter calibration.file",
        ),
        ({"roi": {"x_offset": 8, "width": 960, "height": 1080}}, "is of 960x1080 images .* roi 960x1080"),
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
        ({"p": np.zeros(12)}, "P of camera_info is empty or all zero: .* set ground.rectified_images to false"),
        ({"p": np.zeros(0)}, "P of camera_info is empty or all zero: .* set ground.rectified_images to false"),
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
    name=st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", "kannala_brandt", "", "x"]),
)
def test_any_camera_info_is_refused_or_gives_unit_rays_that_come_back(
    k: list[float], d: list[float], name: str
) -> None:
    k = [*k[:3], 0.0, *k[4:6], 0.0, 0.0, 1.0]
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
