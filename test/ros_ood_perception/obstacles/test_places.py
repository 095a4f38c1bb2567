"""Many places at once are what one place at a time is, by the formulas as matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.obstacles.evidence import EvidenceSettings
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection
from ros_ood_perception.obstacles.matching import sides
from ros_ood_perception.obstacles.motion import PlanarPose
from ros_ood_perception.obstacles.places import Places, measured_places, updated, walked
from ros_ood_perception.obstacles.regions import Box, Region
from ros_ood_perception.obstacles.standing import standings

number = st.floats(-30, 30)
variance = st.floats(0.01, 9)
place = st.builds(
    lambda x, y, xx, yy, share: (x, y, xx, share * math.sqrt(xx * yy), yy),
    *[number] * 2,
    *[variance] * 2,
    st.floats(-0.9, 0.9),
)
pairs = st.lists(st.tuples(place, place), min_size=1, max_size=5)


def matrix(found: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance."""
    x, y, xx, xy, yy = found
    return np.array([x, y]), np.array([[xx, xy], [xy, yy]])


@given(pairs)
def test_the_difference_is_mahalanobis_and_the_combination_a_kalman_update(pairs: list[tuple]) -> None:
    first, second = (Places(np.array(places).T) for places in zip(*pairs, strict=True))
    distances, determinants = first.differences(second)
    combined = first.combined(second).columns.T
    for n, (own, other) in enumerate(pairs):
        (mean, covariance), (other_mean, other_covariance) = matrix(own), matrix(other)
        total, apart = covariance + other_covariance, other_mean - mean
        gain = covariance @ np.linalg.inv(total)
        assert distances[n] == pytest.approx(apart @ np.linalg.inv(total) @ apart, rel=1e-6, abs=1e-9)
        assert determinants[n] == pytest.approx(np.linalg.det(total))
        found_mean, found_covariance = matrix(tuple(combined[n]))
        np.testing.assert_allclose(found_mean, mean + gain @ apart, atol=1e-6)
        np.testing.assert_allclose(found_covariance, covariance - gain @ covariance, atol=1e-6)


@given(st.lists(place, min_size=1, max_size=5), number, number, st.floats(-7, 7))
def test_a_place_turns_and_moves_with_the_vehicle(places: list[tuple], x: float, y: float, yaw: float) -> None:
    found = Places(np.array(places).T).in_fixed_frame(PlanarPose(x, y, yaw)).columns.T
    turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
    for there, here in zip(found, places, strict=True):
        (mean, covariance), (found_mean, found_covariance) = matrix(here), matrix(tuple(there))
        np.testing.assert_allclose(found_mean, turn @ mean + (x, y), atol=1e-9)
        np.testing.assert_allclose(found_covariance, turn @ covariance @ turn.T, atol=1e-9)


def test_a_place_that_neither_hypothesis_explains_starts_both_again_and_says_nothing() -> None:
    def places(x_static: float, x_sliding: float) -> Places:
        columns = np.zeros((5, 2, 3))
        columns[0, 0], columns[0, 1] = [x_static, 0, 0], [x_sliding, 0, 0]
        columns[2] = columns[4] = 1.0
        return Places(columns)

    # Of the first one is far off under both hypotheses, of the others both agree.
    after, evidence = updated(places(0, 0), measured := places(50, 60))
    np.testing.assert_array_equal(after.columns[:, :, 0], measured.columns[:, :, 0])
    np.testing.assert_allclose(after.columns[2, :, 1:], 0.5)
    assert evidence[0] == pytest.approx(0)
    # Where only standing explains it, both go on.
    after, evidence = updated(places(0, 0), places(1, 60))
    assert after.columns[0, :, 0].tolist() == [0.5, 30]
    assert evidence[0] > 0.5 > evidence[1]


def test_the_error_of_a_place_grows_with_its_range_and_that_of_a_slow_object_with_time() -> None:
    settings = EvidenceSettings(object_speed_mps=3.0)
    np.testing.assert_allclose(walked(np.array([0, 10**8, 2 * 10**9, -(10**9)]), settings), [0, 0.09, 36, 0])
    ground = GroundProjection(CameraModel(480, 640, 560, 560, 320, 240), CameraPose.from_mounting(1.45, 3.5))
    regions = [
        Region(0.9, 0.9, 100, Box(310, round(v) - 20, 20, 20), ((float(u), float(v)),), False)
        for [(u, v)] in (ground.pixels([(x, 0.0, 0.0)]) for x in (8.0, 16.0, 32.0))
    ]
    standing = standings(regions, ground)
    boxes = sides(region.box for region in regions)
    found = measured_places(boxes, standing.range_m, standing.bearing_rad, ground, settings)
    x, y, along, _, across = found.columns
    np.testing.assert_allclose(x, [8, 16, 32])
    np.testing.assert_allclose(y, 0, atol=1e-9)
    # With the square of the range, and with the range.
    np.testing.assert_allclose(np.sqrt(along[1:] / along[:-1]), 4, rtol=0.05)
    np.testing.assert_allclose(np.sqrt(across[1:] / across[:-1]), 2, rtol=0.05)
