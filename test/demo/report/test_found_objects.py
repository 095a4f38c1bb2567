"""Which obstacle is which object: by direction and range, on places that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from demo.report.found_objects import FoundObject, JudgedFrame, Visibility, find_objects
from sample_drive.ground_truth import TrueObstacle

CAMERA = (1.5, 0.0)
EVERYTHING = Visibility(min_pixels=60, max_range_m=40)


def tyre(x: float, y: float = 0.0, number: int = 1, pixels: int = 500) -> TrueObstacle:
    """A square of 0.6 m around a place."""
    footprint = tuple((x + u, y + v) for u, v in ((-0.3, -0.3), (-0.3, 0.3), (0.3, 0.3), (0.3, -0.3)))
    range_m = math.hypot(x - 0.3 - CAMERA[0], max(abs(y) - 0.3, 0))
    return TrueObstacle(number, "tyre", (x, y, 0.0), footprint, 0.3, range_m, pixels)


def line(x: float, y: float = 0.0) -> np.ndarray:
    """Points of an obstacle 0.4 m wide."""
    return np.array([[x, y - 0.2], [x, y], [x, y + 0.2]])


def test_an_object_is_found_when_an_obstacle_is_first_where_it_is() -> None:
    frames = [
        JudgedFrame((tyre(50.0),), {}),
        JudgedFrame((tyre(36.0),), {}),
        JudgedFrame((tyre(28.0),), {7: line(26.7)}),
        JudgedFrame((tyre(20.0),), {7: line(19.7), 8: line(19.7, 6.0)}),
    ]
    findings = find_objects(frames, CAMERA, EVERYTHING)
    [found] = findings.objects
    assert (found.in_view, found.found) == ([1, 2, 3], [2, 3])
    assert found.first_in_view_m == pytest.approx(34.2)
    assert found.first_found_m == pytest.approx(26.2)
    assert found.errors_m == [pytest.approx(1.0), pytest.approx(0.0, abs=1e-5)]
    assert findings.matches == [{}, {}, {7: 1}, {7: 1}]
    assert findings.false_ids == {8}
    summary = findings.summary(seconds=30)
    assert (summary["objects"], summary["found"], summary["missed"]) == (1, 1, [])
    assert summary["false_obstacles_per_minute"] == 2
    assert summary["each"][0]["placement_error_m"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("place", "is_it"),
    [
        (line(20.0), True),
        (line(22.4), True),  # 14.8 % too far
        (line(22.6), False),
        (line(17.3), True),
        (line(16.9), False),
        (line(20.0, 0.7), True),  # half a degree beside it
        (line(20.0, 1.2), False),
    ],
)
def test_direction_and_range_decide(place: np.ndarray, is_it: bool) -> None:
    findings = find_objects([JudgedFrame((tyre(20.0),), {1: place})], CAMERA, EVERYTHING)
    assert findings.matches == [{1: 1} if is_it else {}]
    assert findings.false_ids == (set() if is_it else {1})


def test_a_wide_obstacle_is_only_the_object_where_it_stands_at_its_range() -> None:
    across = np.stack([np.full(80, 20.0), np.linspace(-4, 4, 80)], axis=1)
    near_at_the_left = np.stack([np.where(across[:, 1] > 1.5, 8.0, 20.0), across[:, 1]], axis=1)
    only_the_left = across[across[:, 1] > 1.5]
    for place, is_it in ((across, True), (near_at_the_left, True), (only_the_left, False)):
        findings = find_objects([JudgedFrame((tyre(20.0),), {1: place})], CAMERA, EVERYTHING)
        assert findings.matches == [{1: 1} if is_it else {}]


def test_of_two_in_line_the_nearer_in_range_is_it() -> None:
    frame = JudgedFrame((tyre(18.0, number=1), tyre(22.0, number=2)), {5: line(21.5)})
    assert find_objects([frame], CAMERA, EVERYTHING).matches == [{5: 2}]


def test_what_was_in_view_and_never_found_is_missed_and_what_never_was_is_not_asked_for() -> None:
    frames = [JudgedFrame((tyre(30.0, number=1), tyre(30.0, 5.0, number=2, pixels=10)), {})]
    summary = find_objects(frames, CAMERA, EVERYTHING).summary(seconds=10)
    assert (summary["objects"], summary["found"], summary["missed"]) == (1, 0, ["tyre 1"])
    assert summary["first_found_m"] is None
    assert summary["placement_error_m"] == {"median": None, "p95": None}


def test_an_obstacle_that_once_was_an_object_is_not_false() -> None:
    frames = [JudgedFrame((tyre(20.0),), {3: line(19.7)}), JudgedFrame((), {3: line(12.0)})]
    assert find_objects(frames, CAMERA, EVERYTHING).false_ids == set()


def test_what_is_too_far_to_be_asked_for_is_not_found_and_its_obstacle_is_not_false() -> None:
    findings = find_objects([JudgedFrame((tyre(43.0),), {3: line(40.0)})], CAMERA, EVERYTHING)
    assert findings.matches == [{3: 1}]
    assert findings.objects == []
    assert findings.false_ids == set()


def test_a_row_has_nothing_where_nothing_was_found() -> None:
    row = FoundObject(4, "sofa", 0.9, in_view=[1, 2]).as_row()
    assert (row["frames_found"], row["first_found_m"], row["placement_error_m"]) == (0, None, None)
