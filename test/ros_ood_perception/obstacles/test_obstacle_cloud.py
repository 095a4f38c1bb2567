from __future__ import annotations

import numpy as np
import pytest

from ros_ood_perception.obstacles.point_cloud import POINT, POINT_FIELDS, SPACING_M, free_points, obstacle_points
from ros_ood_perception.obstacles.regions import Box, Region
from ros_ood_perception.obstacles.tracks import Obstacle

REGION = Region(0.9, 0.95, 100, Box(0, 0, 10, 10), ((0.0, 9.5), (9.0, 9.5)), False)


def test_the_fields_describe_the_bytes() -> None:
    assert [(field.name, field.offset, field.datatype) for field in POINT_FIELDS] == [
        ("x", 0, 7),
        ("y", 4, 7),
        ("z", 8, 7),
        ("intensity", 12, 7),
        ("id", 16, 6),
    ]
    assert POINT.itemsize == 20


def test_an_obstacles_line_has_no_gap_and_keeps_its_corners() -> None:
    corners = ((10.0, 1.0, 0.0), (10.0, -0.95, 0.0), (11.0, -2.0, 0.0))
    points = obstacle_points([Obstacle(7, 3, 0.2, REGION, corners, 10.0)], height_m=0.3)
    places = np.stack([points["x"], points["y"], points["z"]], axis=1)
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() <= SPACING_M + 1e-6
    for corner in corners:
        assert np.abs(places - (*corner[:2], 0.3)).max(axis=1).min() < 1e-6
    assert set(points["id"].tolist()) == {7}
    assert points["intensity"].tolist() == pytest.approx([0.9] * len(points))


def test_an_obstacle_of_one_point_is_one_point_and_one_without_a_place_is_none() -> None:
    one = Obstacle(1, 1, 0.0, REGION, ((5.0, 0.0, 0.0),), 5.0)
    assert obstacle_points([one, Obstacle(2, 1, 0.0, REGION)], 0.0)["x"].tolist() == [5.0]
    assert obstacle_points([], 0.0).tobytes() == b""


def test_free_points_have_the_id_of_no_obstacle() -> None:
    points = free_points(np.array([(3.0, 1.0, -0.1)]), 0.3)
    assert points[0].item() == pytest.approx((3.0, 1.0, 0.2, 0.0, 0))
    assert points.tobytes() == np.array([3.0, 1.0, 0.2, 0.0], "<f4").tobytes() + bytes(4)


def test_a_number_that_does_not_fit_is_not_free_grounds() -> None:
    ids = [
        int(obstacle_points([Obstacle(number, 1, 0.0, REGION, ((5.0, 0.0, 0.0),), 5.0)], 0.0)["id"][0])
        for number in (1, 2**32 - 1, 2**32, 2**32 + 1)
    ]
    assert ids == [1, 2**32 - 1, 1, 2]
