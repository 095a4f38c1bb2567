"""The smallest region in metres: far things with few pixels count, and small marks near the vehicle do not."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection
from ros_ood_perception.obstacles.motion import FrameMotion, PlanarPose
from ros_ood_perception.obstacles.regions import RegionFinder, RegionSettings
from ros_ood_perception.obstacles.standing import large_enough, standings
from ros_ood_perception.obstacles.tracks import ObstacleDetector, PersistenceSettings

GROUND = GroundProjection(CameraModel(480, 640, 560, 560, 320, 240), CameraPose.from_mounting(1.45, 3.5))
ANY_SIZE = RegionSettings(hysteresis=1.0, min_area=0.0)
AT_ONCE = PersistenceSettings(1, 1)
MOTION = FrameMotion(PlanarPose(0.0, 0.0, 0.0))

Thing = tuple[float, float, float, float]
"""x and y of its foot in the vehicle's frame, width and height, metres."""


def frame(*things: Thing, scale: int = 1) -> FramePerception:
    """Upright rectangles, as an engine shows them whose output has 1 / `scale` of the frame's rows and columns."""
    score = np.zeros((480, 640), np.float32)
    for x, y, width_m, height_m in things:
        [(u, v)] = GROUND.pixels([(x, y, 0.0)])
        width, height = round(560 * width_m / x), round(560 * height_m / x)
        bottom, left = round(v), round(u - width / 2)
        score[bottom - height : bottom, left : left + width] = 1
    score = score[::scale, ::scale]
    return FramePerception((480, 640), np.zeros(score.shape, np.uint8), score, 0.5)


def with_size(min_size_m: float) -> RegionFinder:
    return RegionFinder(replace(ANY_SIZE, min_size_m=min_size_m))


@pytest.mark.parametrize("x", [6, 12, 20, 35])
@pytest.mark.parametrize(("width_m", "height_m"), [(0.6, 0.6), (0.4, 1.6), (2.0, 0.5)])
@pytest.mark.parametrize("scale", [1, 2])
def test_the_size_of_an_upright_thing_is_the_root_of_its_area_at_any_range(
    x: float, width_m: float, height_m: float, scale: int
) -> None:
    [region] = RegionFinder(ANY_SIZE)(frame((x, 1.0, width_m, height_m), scale=scale))
    [size_m] = standings([region], GROUND).size_m
    # The foot's row, to half a pixel, is the larger part of the error: 10 % of the range at 35 m.
    assert size_m == pytest.approx((width_m * height_m) ** 0.5, rel=0.05 * scale + 0.004 * x)


def test_what_lies_flat_is_smaller_than_its_extent_on_the_ground() -> None:
    corners = [(x, y, 0.0) for x, y in ((8, 0.075), (11, 0.075), (11, -0.075), (8, -0.075))]
    score = np.zeros((480, 640), np.float32)
    cv2.fillPoly(score, [GROUND.pixels(corners).round().astype(np.int32)], 1.0)
    mark = FramePerception((480, 640), np.zeros((480, 640), np.uint8), score, 0.5)
    [size_m] = standings(RegionFinder(ANY_SIZE)(mark), GROUND).size_m
    assert size_m == pytest.approx(0.23, abs=0.02)


@pytest.mark.parametrize("motion", [None, MOTION])
def test_a_far_thing_counts_although_a_nearer_mark_with_more_pixels_does_not(motion: FrameMotion | None) -> None:
    seen = frame((30, 1.0, 0.6, 0.6), (7, -1.0, 0.2, 0.2))
    far, near = 121, 256  # pixels
    areas = [region.area for region in RegionFinder(ANY_SIZE)(seen)]
    assert areas == [near, far]
    detector = ObstacleDetector(with_size(0.4), AT_ONCE)
    for number in range(6):
        found = detector(seen, number * 10**8, GROUND, motion)
    assert [obstacle.region.area for obstacle in found] == [far]
    assert found[0].range_m == pytest.approx(30, abs=1.5)
    # No share of the picture gives that.
    by_area = ObstacleDetector(RegionFinder(replace(ANY_SIZE, min_area=200 / (480 * 640))), AT_ONCE)
    assert [obstacle.region.area for obstacle in by_area(seen, 0, GROUND)] == [near]


def test_0_is_off_and_the_default() -> None:
    assert RegionSettings().min_size_m == 0
    seen = frame((30, 1.0, 0.3, 0.3), (7, -1.0, 0.05, 0.05))
    assert len(ObstacleDetector(RegionFinder(ANY_SIZE), AT_ONCE)(seen, 0, GROUND)) == 2


def test_without_a_place_on_the_ground_only_the_share_of_the_picture_counts() -> None:
    detector = ObstacleDetector(with_size(5.0), AT_ONCE)
    seen = frame((30, 1.0, 0.6, 0.6), (7, -1.0, 0.2, 0.2))
    assert len(detector(seen, 0)) == 2
    assert detector(seen, 10**8, GROUND) == ()
    # Above the horizon, or beyond the largest range.
    score = seen.engine_anomaly_score.copy()
    score[20:30, 100:110] = 1
    [above] = detector(replace(seen, engine_anomaly_score=score), 2 * 10**8, GROUND)
    assert (above.range_m, above.region.box.y) == (None, 20)
    [beyond] = detector(seen, 3 * 10**8, replace(GROUND, max_range_m=20.0))
    assert (beyond.range_m, beyond.region.area) == (None, 121)


def test_a_region_whose_foot_is_cut_counts_at_any_size() -> None:
    score = np.zeros((480, 640), np.float32)
    score[470:, 300:310] = 1
    cut = FramePerception((480, 640), np.zeros((480, 640), np.uint8), score, 0.5)
    [obstacle] = ObstacleDetector(with_size(5.0), AT_ONCE)(cut, 0, GROUND)
    assert obstacle.region.foot_is_cut
    assert obstacle.range_m is not None


def test_regions_keep_their_order_and_their_places() -> None:
    regions = RegionFinder(ANY_SIZE)(frame((10, 2.0, 1.0, 1.0), (20, -2.0, 0.2, 0.2), (30, 0.0, 0.9, 0.9)))
    places = standings(regions, GROUND)
    kept, kept_places = large_enough(regions, places, 0.5)
    assert kept == (regions[0], regions[1])
    assert kept_places.ground_points == places.ground_points[:2]
    for name in ("range_m", "bearing_rad", "width_m", "size_m"):
        np.testing.assert_array_equal(getattr(kept_places, name), getattr(places, name)[:2])
    assert large_enough(regions, places, 0.0) == (regions, places)


def test_a_size_that_is_set_while_frames_come_holds_for_the_next_one_and_tracks_stay() -> None:
    detector = ObstacleDetector(with_size(0.0), PersistenceSettings(1, 3))
    seen = frame((20, 1.0, 0.4, 0.4))
    [before] = detector(seen, 0, GROUND)
    detector.configure(with_size(1.0), detector.persistence)
    assert detector(seen, 10**8, GROUND) == ()
    state = json.loads(json.dumps(detector.state()))
    again = ObstacleDetector(with_size(0.0), PersistenceSettings(1, 3))
    again.restore(state)
    [after] = again(seen, 2 * 10**8, GROUND)
    assert after.id == before.id
