from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ros_ood_perception.camera.calibration.camera_info import CameraError
from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection

DISTORTIONS = [
    ("plumb_bob", ()),
    ("plumb_bob", (-0.25, 0.08, 0.001, -0.001, -0.005)),
    ("rational_polynomial", (2.0, 0.5, 0.0005, 0.0005, 0.02, 2.3, 0.9, 0.1)),
    ("equidistant", (0.02, -0.01, 0.003, -0.001)),
]


def perspective(coefficients: tuple[float, ...], points: np.ndarray) -> np.ndarray:
    """Brown's and the rational model at z = 1, written out from OpenCV's documentation."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*coefficients, *[0.0] * 8)[:8]
    x, y = points.T
    square = x * x + y * y
    radial = (1 + k1 * square + k2 * square**2 + k3 * square**3) / (1 + k4 * square + k5 * square**2 + k6 * square**3)
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=1,
    )


def equidistant(coefficients: tuple[float, ...], points: np.ndarray) -> np.ndarray:
    """Kannala and Brandt at z = 1."""
    radius = np.linalg.norm(points, axis=1)
    angle = np.arctan(radius)
    k1, k2, k3, k4 = coefficients
    bent = angle * (1 + k1 * angle**2 + k2 * angle**4 + k3 * angle**6 + k4 * angle**8)
    return points * (bent / radius)[:, None]


def view(
    places: np.ndarray, height_m: float, pitch_deg: float, distortion: str, coefficients: tuple[float, ...]
) -> np.ndarray:
    """Where a camera over x = 0, y = 0 sees places on the ground, from first principles: (N, 2) pixels."""
    pitch = math.radians(pitch_deg)
    right, down, ahead = -places[:, 1], np.full(len(places), height_m), places[:, 0]
    depth = ahead * math.cos(pitch) + down * math.sin(pitch)
    lower = down * math.cos(pitch) - ahead * math.sin(pitch)
    assert (depth > 0).all()
    points = np.stack([right / depth, lower / depth], axis=1)
    bend = equidistant if distortion == "equidistant" else perspective
    return bend(coefficients, points) * 1000 + (960, 540)


@pytest.mark.parametrize("height_m", [0.4, 1.5, 2.8])
@pytest.mark.parametrize("pitch_deg", [-2.0, 8.0, 20.0])
@pytest.mark.parametrize(("distortion", "coefficients"), DISTORTIONS)
def test_ideal_foot_points_are_placed_within_2_percent_of_their_range_up_to_40_m(
    height_m: float, pitch_deg: float, distortion: str, coefficients: tuple[float, ...]
) -> None:
    x, y = np.meshgrid(np.linspace(3, 39.5, 30), np.linspace(-8, 8, 17))
    places = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    places = places[np.hypot(places[:, 0], places[:, 1]) < 40]
    pixels = view(places, height_m, pitch_deg, distortion, coefficients)
    seen = ((pixels >= 0) & (pixels <= (1919, 1079))).all(axis=1)
    assert seen.sum() > 250
    ground = GroundProjection(
        CameraModel(1080, 1920, 1000, 1000, 960, 540, distortion, coefficients),
        CameraPose.from_mounting(height_m, pitch_deg),
    )
    found = ground.place(pixels[seen])
    error = np.linalg.norm(found - places[seen], axis=1) / np.hypot(*places[seen, :2].T)
    assert error.max() < 0.02
    np.testing.assert_allclose(ground.pixels(places[seen]), pixels[seen], atol=1e-6)


def plain(**mounting: float) -> GroundProjection:
    return GroundProjection(
        CameraModel(1080, 1920, 1000, 1000, 960, 540), CameraPose.from_mounting(**{"height_m": 1.5} | mounting)
    )


def test_rays_above_the_horizon_and_places_too_far_are_not_placed() -> None:
    # Level camera, 1.5 m high, 1000 pixels of focal length: 37.5 pixels below the horizon is 40 m.
    places = plain().place([(960, 300), (960, 540), (960, 541), (960, 540 + 37.4), (960, 540 + 37.6), (960, 1079)])
    assert np.isfinite(places[:, 0]).tolist() == [False, False, False, False, True, True]
    np.testing.assert_allclose(places[4], (1500 / 37.6, 0, 0), atol=1e-9)


@pytest.mark.parametrize(
    ("mounting", "pixel", "expected"),
    [
        ({}, (960 + 500, 540 + 500), (3, -1.5, 0)),  # right in the picture is -y
        ({"pitch_deg": 45}, (960, 540), (1.5, 0, 0)),  # positive pitch looks down
        ({"pitch_deg": 45, "yaw_deg": 90}, (960, 540), (0, 1.5, 0)),  # positive yaw looks left
        ({"roll_deg": 90}, (960 + 500, 540), (3, 0, 0)),  # positive roll lowers the camera's right side
        ({"forward_m": 2, "left_m": -1, "pitch_deg": 45}, (960, 540), (3.5, -1, 0)),
    ],
)
def test_angles_and_offsets_of_the_mounting_are_those_of_rep_103(
    mounting: dict[str, float], pixel: tuple[float, float], expected: tuple[float, float, float]
) -> None:
    np.testing.assert_allclose(plain(**mounting).place([pixel]), [expected], atol=1e-9)


def test_the_pose_of_tf_and_that_of_the_mounting_are_one() -> None:
    # tf2 for a level camera looking ahead: the usual body to optical rotation.
    found = CameraPose.from_transform((1.0, 0.2, 1.5), (-0.5, 0.5, -0.5, 0.5))
    expected = CameraPose.from_mounting(1.5, forward_m=1.0, left_m=0.2)
    np.testing.assert_allclose(found.rotation, expected.rotation, atol=1e-12)
    assert found.translation == expected.translation


def test_a_base_link_above_the_ground_is_taken_into_account() -> None:
    camera = CameraModel(1080, 1920, 1000, 1000, 960, 540)
    ground = GroundProjection(camera, CameraPose.from_mounting(1.2), ground_z_m=-0.3)
    np.testing.assert_allclose(ground.place([(960, 690)]), [(10, 0, -0.3)], atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plain(height_m=0.0), "the camera is 0.0 m over the ground"),
        (lambda: plain(height_m=-1.0), "must be above it"),
        (lambda: plain(height_m=math.nan), "not finite"),
        (lambda: plain(pitch_deg=math.inf), "not finite"),
        (lambda: CameraPose.from_transform((0, 0, 1), (0, 0, 0, 0)), "a quaternion has length 1"),
        (lambda: CameraPose.from_transform((0, 0, 1), (0, 0, 0, math.nan)), "a quaternion has length 1"),
        (lambda: CameraPose.from_transform((0, math.inf, 1), (0, 0, 0, 1)), "not finite"),
        (lambda: GroundProjection(plain().camera, plain().pose, max_range_m=0), "the largest range is 0 m"),
        (lambda: GroundProjection(plain().camera, plain().pose, max_range_m=math.nan), "the largest range is nan m"),
        (lambda: GroundProjection(plain().camera, plain().pose, ground_z_m=math.nan), "must be above it"),
    ],
)
def test_a_pose_that_cannot_be_right_is_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(CameraError, match=message):
        make()


angles = st.floats(-180, 180)


@given(
    height_m=st.floats(0.1, 5),
    pitch_deg=angles,
    roll_deg=angles,
    yaw_deg=angles,
    distortion=st.sampled_from(DISTORTIONS),
    pixel=st.tuples(st.floats(0, 1919), st.floats(0, 1079)),
)
def test_every_place_is_on_the_ground_within_range_and_seen_where_it_came_from(
    height_m: float,
    pitch_deg: float,
    roll_deg: float,
    yaw_deg: float,
    distortion: tuple[str, tuple[float, ...]],
    pixel: tuple[float, float],
) -> None:
    ground = GroundProjection(
        CameraModel(1080, 1920, 700, 700, 960, 540, *distortion),
        CameraPose.from_mounting(height_m, pitch_deg, roll_deg, yaw_deg, 1.0, -0.3),
        max_range_m=60,
    )
    place = ground.place([pixel])
    assume(np.isfinite(place).all())
    assert place[0, 2] == 0
    assert float(ground.range_m(place)[0]) <= 60
    np.testing.assert_allclose(ground.pixels(place), [pixel], atol=0.06)


@given(turn=st.tuples(*[st.floats(-1, 1)] * 4), pixel=st.tuples(st.floats(0, 1919), st.floats(0, 1079)))
def test_a_ray_that_does_not_go_down_is_never_placed(
    turn: tuple[float, float, float, float], pixel: tuple[float, float]
) -> None:
    length = float(np.linalg.norm(turn))
    assume(length > 0.1)
    pose = CameraPose.from_transform((0, 0, 1.5), [value / length for value in turn])
    camera = CameraModel(1080, 1920, 1000, 1000, 960, 540)
    ray = np.reshape(pose.rotation, (3, 3)) @ camera.rays([pixel])[0]
    placed = bool(np.isfinite(GroundProjection(camera, pose, 40).place([pixel])[0, 0]))
    # 1.5 m of height over 40 m of range is the slope of the farthest ray.
    slope = -ray[2] / max(float(np.hypot(ray[0], ray[1])), 1e-12)
    assume(abs(slope - 1.5 / 40) > 1e-9)
    assert placed == (slope > 1.5 / 40)


@given(
    height=st.floats(0.1, 5),
    angles=st.tuples(st.floats(-80, 80), st.floats(-179, 179), st.floats(-179, 179)),
    place=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
)
def test_a_pose_as_a_mounting_gives_the_pose_again(
    height: float, angles: tuple[float, float, float], place: tuple[float, float]
) -> None:
    pose = CameraPose.from_mounting(height, *angles, *place)
    again = CameraPose.from_mounting(**pose.as_mounting())
    assert again.translation == pose.translation
    assert np.allclose(again.rotation, pose.rotation, atol=1e-9)
