from __future__ import annotations

import json
import math
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection
from ros_ood_perception.obstacles.regions import RegionFinder, RegionSettings
from ros_ood_perception.obstacles.tracks import Obstacle, ObstacleDetector, PersistenceSettings

FRAME_NS = 100_000_000
FINDER = RegionFinder(RegionSettings(hysteresis=1.0, min_area=0.0))
AT_ONCE = PersistenceSettings(seen_frames=1, of_frames=1)
CAMERA = CameraModel(540, 960, 500, 500, 480, 270)


def frame(*lefts: int, size: int = 10, top: int = 30) -> FramePerception:
    """Square regions at these columns of a 60 x 200 frame."""
    score = np.zeros((60, 200), np.float32)
    for left in lefts:
        score[top : top + size, left : left + size] = 1
    return FramePerception((60, 200), np.zeros((60, 200), np.uint8), score, 0.5)


def ids(detector: ObstacleDetector, frames: Sequence[FramePerception], start: int = 0) -> list[list[int]]:
    return [[o.id for o in detector(result, (start + i) * FRAME_NS)] for i, result in enumerate(frames)]


def test_a_region_is_an_obstacle_once_it_was_seen_in_k_of_n_frames() -> None:
    detector = ObstacleDetector(FINDER, PersistenceSettings(3, 5))
    seen, unseen = frame(50), frame()
    assert ids(detector, [seen, unseen, seen, unseen, seen]) == [[], [], [], [], [1]]
    # Of the last five, it was seen in the third to last, in the last, and in this one; and then in the first and this.
    assert ids(detector, [seen, unseen, unseen, unseen, seen], start=5) == [[1], [], [], [], []]


def test_what_is_not_in_the_frame_is_no_obstacle_of_it() -> None:
    detector = ObstacleDetector(FINDER, PersistenceSettings(1, 3))
    assert ids(detector, [frame(50), frame(), frame(50)]) == [[1], [], [1]]


def test_a_region_unseen_for_n_frames_comes_back_as_another() -> None:
    detector = ObstacleDetector(FINDER, PersistenceSettings(1, 3))
    assert ids(detector, [frame(50), frame(), frame(), frame(50)]) == [[1], [], [], [1]]
    detector = ObstacleDetector(FINDER, PersistenceSettings(1, 3))
    assert ids(detector, [frame(50), frame(), frame(), frame(), frame(50)]) == [[1], [], [], [], [2]]


def test_ids_follow_two_regions_that_move_and_ages_grow() -> None:
    detector = ObstacleDetector(FINDER, AT_ONCE)
    for i in range(10):
        found = detector(frame(20 + 6 * i, 150 - 6 * i), i * FRAME_NS)
        assert {o.id: o.region.box.x for o in found} == {1: 20 + 6 * i, 2: 150 - 6 * i}
        assert {o.age_frames for o in found} == {i + 1}
        assert [o.age_s for o in found] == pytest.approx([i / 10] * 2)


def test_a_region_that_appears_out_of_reach_is_another_one() -> None:
    detector = ObstacleDetector(FINDER, AT_ONCE)
    assert ids(detector, [frame(50), frame(64), frame(80)]) == [[1], [1], [2]]


def test_two_regions_that_become_one_keep_the_id_of_the_better_match() -> None:
    detector = ObstacleDetector(FINDER, AT_ONCE)
    assert ids(detector, [frame(50, 62), frame(50, 56)]) == [[1, 2], [1]]


@pytest.mark.parametrize(("gap_ns", "expected"), [(900_000_000, 1), (1_100_000_000, 2), (-1, 2)])
def test_after_a_long_gap_or_a_stamp_that_goes_back_everything_is_new(gap_ns: int, expected: int) -> None:
    detector = ObstacleDetector(FINDER, AT_ONCE)
    detector(frame(50), 10 * FRAME_NS)
    [obstacle] = detector(frame(50), 10 * FRAME_NS + gap_ns)
    assert obstacle.id == expected
    assert obstacle.age_s >= 0


def test_persistence_starts_anew_when_a_bag_loops() -> None:
    detector = ObstacleDetector(FINDER, PersistenceSettings(2, 2))
    assert ids(detector, [frame(50), frame(50)], start=100) == [[], [1]]
    assert ids(detector, [frame(50), frame(50)], start=0) == [[], [2]]


def test_frames_too_far_apart_for_any_obstacle_are_told_from_a_single_pause() -> None:
    detector = ObstacleDetector(FINDER, PersistenceSettings(2, 3, max_gap_s=1.0))

    def gaps(*stamps_s: float) -> list[float | None]:
        found = []
        for stamp_s in stamps_s:
            detector(frame(50), round(stamp_s * 1e9))
            found.append(detector.too_far_apart_s)
        return found

    # A pause, and a bag that begins again, after frames enough.
    assert gaps(1.0, 1.5, 9.0, 9.5, 2.0, 2.5) == [None] * 6
    # Every frame by itself, until one comes soon after another.
    assert gaps(9.0, 10.5, 12.5, 13.0, 13.5) == [None, 1.5, 2.0, None, None]
    assert gaps(20.0, 30.0) == [None, 10.0]
    # A replay that goes on knows it, too.
    resumed = ObstacleDetector(FINDER, PersistenceSettings(2, 3, max_gap_s=1.0))
    resumed.restore(json.loads(json.dumps(detector.state())))
    resumed(frame(50), 30_500_000_000)
    assert (detector.too_far_apart_s, resumed.too_far_apart_s) == (10.0, None)
    assert "10.00 s apart" in detector.too_far_apart
    assert not resumed.too_far_apart
    detector.configure(FINDER, PersistenceSettings(1, 1, max_gap_s=1.0))
    assert gaps(40.0, 50.0) == [None, None]


def test_settings_change_while_obstacles_are_followed() -> None:
    detector = ObstacleDetector(FINDER, AT_ONCE)
    assert ids(detector, [frame(50, 100)]) == [[1, 2]]
    detector.configure(RegionFinder(RegionSettings(1.0, 0.0, max_regions=1)), PersistenceSettings(3, 5))
    assert ids(detector, [frame(50, 100)] * 3, start=1) == [[], [1], [1]]


def view_of_a_box(
    x: float, y: float, width: float, height: float, length: float, ground: GroundProjection
) -> FramePerception:
    """A box on the road (its near face at x, its middle at y, metres): the score is how much of a pixel it covers."""
    corners = [
        (x + dx, y + dy, z) for dx in (0, length) for dy in (-width / 2, width / 2) for z in np.linspace(0, height, 5)
    ]
    pixels = ground.camera.pixels(
        (np.array(corners) - ground.pose.translation) @ np.reshape(ground.pose.rotation, (3, 3))
    )
    finer = 8
    mask = np.zeros((ground.camera.height * finer, ground.camera.width * finer), np.float32)
    outline = cv2.convexHull(np.round((pixels + 0.5) * finer - 0.5).astype(np.int32))
    cv2.fillConvexPoly(mask, outline, 1.0)
    score = cv2.resize(mask, (ground.camera.width, ground.camera.height), interpolation=cv2.INTER_AREA)
    return FramePerception(score.shape, np.zeros(score.shape, np.uint8), score, 0.5)


@pytest.mark.parametrize("height_m", [1.0, 1.5, 2.5])
@pytest.mark.parametrize("pitch_deg", [0.0, 5.0, 12.0])
@pytest.mark.parametrize("x", [6.0, 12.0, 20.0])
def test_a_box_on_the_road_is_placed_at_its_near_face(height_m: float, pitch_deg: float, x: float) -> None:
    ground = GroundProjection(CAMERA, CameraPose.from_mounting(height_m, pitch_deg))
    [obstacle] = ObstacleDetector(FINDER, AT_ONCE)(view_of_a_box(x, 0.8, 0.6, 0.5, 0.3, ground), 0, ground)
    assert obstacle.position is not None
    assert obstacle.range_m is not None
    # The ground that a pixel of this camera covers there; the foot is found to half a pixel.
    pixel_m = (x * x + height_m * height_m) / (500 * height_m)
    assert abs(obstacle.position[0] - x) < 0.5 * pixel_m + 0.02
    assert abs(obstacle.position[1] - 0.8) < 0.05
    assert obstacle.width_m == pytest.approx(0.6, abs=0.1)
    assert obstacle.range_m == pytest.approx(math.hypot(x, 0.5), abs=0.5 * pixel_m + 0.02)


def test_an_obstacle_above_the_horizon_or_without_a_camera_has_no_place() -> None:
    ground = GroundProjection(CameraModel(60, 200, 100, 100, 100, 50), CameraPose.from_mounting(1.5))
    [sky] = ObstacleDetector(FINDER, AT_ONCE)(frame(50, top=20), 0, ground)
    assert (sky.ground_points, sky.position, sky.range_m, sky.width_m) == ((), None, None, None)
    [near] = ObstacleDetector(FINDER, AT_ONCE)(frame(50, top=48), 0, ground)
    assert near.range_m is not None
    [unplaced] = ObstacleDetector(FINDER, AT_ONCE)(frame(50, top=48), 0)
    assert unplaced.ground_points == ()


@given(
    scores=st.lists(arrays(np.float32, (10, 12), elements=st.sampled_from([0.0, 0.4375, 0.625, 1.0])), max_size=6),
    stamps=st.lists(st.integers(0, 10**10), min_size=6, max_size=6),
    persistence=st.sampled_from([PersistenceSettings(1, 1), PersistenceSettings(2, 3), PersistenceSettings(2, 2)]),
)
def test_the_same_frames_give_the_same_obstacles_whose_ids_differ(
    scores: list[NDArray[np.float32]], stamps: list[int], persistence: PersistenceSettings
) -> None:
    ground = GroundProjection(CameraModel(10, 12, 8, 8, 6, 3), CameraPose.from_mounting(1.5, 10.0))
    runs: list[list[tuple[Obstacle, ...]]] = []
    for _ in range(2):
        detector = ObstacleDetector(RegionFinder(RegionSettings(0.8, 0.0)), persistence)
        runs.append(
            [
                detector(FramePerception((10, 12), np.zeros((10, 12), np.uint8), score, 0.5), stamp, ground)
                for score, stamp in zip(scores, stamps, strict=False)
            ]
        )
    assert runs[0] == runs[1]
    for obstacles in runs[0]:
        assert len({obstacle.id for obstacle in obstacles}) == len(obstacles)
        for obstacle in obstacles:
            assert obstacle.age_frames >= persistence.seen_frames
            assert obstacle.age_s >= 0
            assert all(0 < x <= 40 and z == 0 for x, _, z in obstacle.ground_points)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seen_frames": 0}, "persistence is 0 of 3 frames"),
        ({"seen_frames": 4, "of_frames": 3}, "persistence is 4 of 3 frames"),
        ({"max_gap_s": float("nan")}, "max_gap_s is nan"),
        ({"reach": -1.0}, "reach is -1.0"),
    ],
)
def test_persistence_that_cannot_work_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PersistenceSettings(**settings)  # type: ignore[arg-type]
