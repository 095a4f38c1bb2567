"""Obstacles followed in a fixed frame: what stands there gathers evidence, what slides with the vehicle does not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.obstacles.evidence import EvidenceSettings
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection
from ros_ood_perception.obstacles.motion import FrameMotion, PlanarPose
from ros_ood_perception.obstacles.regions import RegionFinder, RegionSettings
from ros_ood_perception.obstacles.tracks import Obstacle, ObstacleDetector, PersistenceSettings

GROUND = GroundProjection(CameraModel(480, 640, 560, 560, 320, 240), CameraPose.from_mounting(1.45, 3.5))
ROAD, CAR = 3, 5
FINDER = RegionFinder(RegionSettings(hysteresis=1.0, min_area=0.0, drivable_ids=frozenset({ROAD})))
THRESHOLD = 0.5
STRONG, WEAK = 0.98, 0.55
SIZE_M = (0.6, 0.5)

Seen = tuple[float, float, float]
"""x and y of an object in the vehicle's frame, metres, and its score."""


def frame(
    *objects: Seen, noise_px: float = 0.0, seed: int = 0, car_at: Sequence[tuple[float, float]] = ()
) -> FramePerception:
    """Boxes on a road; around the places `car_at` the picture shows a car."""
    random = np.random.default_rng(seed)
    score = np.zeros((480, 640), np.float32)
    semantic = np.full((480, 640), ROAD, np.uint8)
    for x, y in car_at:
        [(u, v)] = GROUND.pixels([(x, y, 0.0)])
        semantic[round(v) - 40 : round(v) + 40, round(u) - 40 : round(u) + 40] = CAR
    for x, y, value in objects:
        [(u, v)] = GROUND.pixels([(x, y, 0.0)]) + random.normal(0, noise_px, 2)
        width, height = (560 * metres / x for metres in SIZE_M)
        bottom, left = round(v) + 1, round(u - width / 2)
        score[max(bottom - round(height), 0) : bottom, max(left, 0) : left + max(round(width), 1)] = value
    return FramePerception((480, 640), semantic, score, THRESHOLD)


def drive(
    objects: Callable[[float], Sequence[Seen]],
    speed_mps: float,
    rate_hz: float,
    frames: int,
    noise_px: float = 0.0,
    seed: int = 0,
    detector: ObstacleDetector | None = None,
) -> list[tuple[Obstacle, ...]]:
    """The obstacles of each frame of a straight drive. `objects` gives what is seen at a time, seconds."""
    detector = detector or ObstacleDetector(FINDER)
    found = []
    for number in range(frames):
        seconds = number / rate_hz
        seen = frame(*objects(seconds), noise_px=noise_px, seed=1000 * seed + number)
        motion = FrameMotion(PlanarPose(100.0 + speed_mps * seconds, 50.0, 0.0))
        found.append(detector(seen, round(seconds * 1e9), GROUND, motion))
    return found


def shown(found: Sequence[tuple[Obstacle, ...]]) -> list[int]:
    """Numbers of the frames with an obstacle, from 1."""
    return [number for number, obstacles in enumerate(found, 1) if obstacles]


@pytest.mark.parametrize("rate_hz", [5, 10])
@pytest.mark.parametrize("noise_px", [0, 1])
def test_what_slides_with_the_vehicle_never_appears_although_each_step_is_within_its_error(
    rate_hz: int, noise_px: float
) -> None:
    assert shown(drive(lambda seconds: [(25, 0, STRONG)], 10, rate_hz, 4 * rate_hz, noise_px)) == []
    # A vehicle at rest cannot tell it from a thing that stands.
    assert shown(drive(lambda seconds: [(25, 0, STRONG)], 0, rate_hz, 4, noise_px)) == [3, 4]


@pytest.mark.parametrize("rate_hz", [5, 10])
@pytest.mark.parametrize(("score", "latest"), [(STRONG, 4), (WEAK, 5)])
def test_what_stands_in_the_world_appears_after_a_few_frames_and_stays(rate_hz: int, score: float, latest: int) -> None:
    for seed in range(3):
        found = drive(lambda seconds: [(38 - 10 * seconds, 0.5, score)], 10, rate_hz, 3 * rate_hz, 2.0, seed)
        first = shown(found)[0]
        assert first <= latest
        assert [[obstacle.id for obstacle in obstacles] for obstacles in found[first - 1 :]] == [[1]] * (
            3 * rate_hz - first + 1
        )
        assert found[-1][0].evidence == pytest.approx(7.7, abs=0.7)


@pytest.mark.parametrize(("speed_mps", "across_mps"), [(0, 2), (8, 2), (8, 5)])
def test_an_animal_that_crosses_the_road_appears(speed_mps: float, across_mps: float) -> None:
    found = drive(
        lambda seconds: [(25 - speed_mps * seconds, -3 + across_mps * seconds, STRONG)], speed_mps, 10, 12, 1.0
    )
    assert shown(found)[0] <= 7
    assert {obstacle.id for obstacles in found for obstacle in obstacles} == {1}
    assert found[-1]


def test_what_slid_with_the_vehicle_and_stops_appears() -> None:
    # A vehicle ahead, unknown to the network, that brakes.
    found = drive(lambda seconds: [(20 - 10 * max(seconds - 1, 0), 0, STRONG)], 10, 10, 22)
    assert shown(found)[0] in range(12, 20)


def test_an_id_is_kept_through_missed_frames_and_behind_a_car_and_not_where_the_road_is_seen_empty() -> None:
    def ids_around(missed: int, car_at: Sequence[tuple[float, float]], speed_mps: float = 0.0) -> list[int]:
        detector, there = ObstacleDetector(FINDER), 30.0
        for number in range(13 + missed):
            x = there - speed_mps * number / 10
            hidden = 8 <= number < 8 + missed
            seen = frame(car_at=[(x, 0)] if car_at else []) if hidden else frame((x, 0, STRONG))
            pose = PlanarPose(speed_mps * number / 10, 0, 0)
            found = detector(seen, number * 10**8, GROUND, FrameMotion(pose))
        return [obstacle.id for obstacle in found]

    assert ids_around(missed=2, car_at=[]) == [1]
    # While the vehicle moves, its place was confirmed, and it is followed where the picture has moved on.
    assert ids_around(missed=4, car_at=[], speed_mps=8) == [1]
    assert ids_around(missed=15, car_at=[(20, 0)], speed_mps=8) == [1]
    assert ids_around(missed=15, car_at=[]) == [2]


def test_a_turn_of_the_vehicle_is_taken_out() -> None:
    detector = ObstacleDetector(FINDER)
    for number in range(8):
        yaw = math.radians(3 * number)
        place = np.array([18.0, 0.0]) @ PlanarPose(0, 0, yaw).rotation
        [*found] = detector(
            frame((*place.tolist(), STRONG)), number * 10**8, GROUND, FrameMotion(PlanarPose(7, -2, yaw))
        )
    assert [obstacle.id for obstacle in found] == [1]
    assert found[0].evidence is not None
    assert found[0].evidence > 5


def test_a_new_epoch_of_the_motion_forgets_and_ids_continue() -> None:
    detector, seen = ObstacleDetector(FINDER), frame((15, 0, STRONG))
    motions = [FrameMotion(PlanarPose(0, 0, 0), epoch) for epoch in (0, 0, 0, 0, 1, 1, 1)]
    # A frame whose pose is not known says nothing of the epoch.
    motions.insert(3, FrameMotion(None, problem="it came too late"))
    found = [detector(seen, number * 10**8, GROUND, motion) for number, motion in enumerate(motions)]
    assert [[obstacle.id for obstacle in obstacles] for obstacles in found] == [[], [], [1], [1], [1], [], [], [2]]


def test_a_frame_without_motion_counts_frames_as_without_any_odometry() -> None:
    detector, counting, seen = ObstacleDetector(FINDER), ObstacleDetector(FINDER), frame((15, 0, STRONG))
    motions = [None, FrameMotion(None, 0, "nothing comes")]
    for number in range(4):
        expected = counting(seen, number * 10**8, GROUND)
        assert detector(seen, number * 10**8, GROUND, motions[number % 2]) == expected
        assert len(expected) == (number >= 1)
    [obstacle] = expected
    assert obstacle.evidence is None


def test_a_region_without_a_place_counts_frames_while_the_vehicle_moves() -> None:
    score = np.zeros((480, 640), np.float32)
    score[150:180, 300:340] = STRONG  # above the horizon
    seen = FramePerception((480, 640), np.full((480, 640), ROAD, np.uint8), score, THRESHOLD)
    detector = ObstacleDetector(FINDER)
    found = [detector(seen, number * 10**8, GROUND, FrameMotion(PlanarPose(number, 0, 0))) for number in range(4)]
    assert [len(obstacles) for obstacles in found] == [0, 1, 1, 1]


def test_a_restored_tracker_goes_on_as_if_it_had_not_been_interrupted_and_stays_bounded() -> None:
    random = np.random.default_rng(7)
    detector, resumed = ObstacleDetector(FINDER), ObstacleDetector(FINDER)
    for number in range(25):
        objects = [(float(x), float(y), STRONG) for x, y in random.uniform((6, -3), (38, 3), (12, 2))]
        seen, motion = frame(*objects), FrameMotion(PlanarPose(number * 0.8, 0, 0))
        expected = detector(seen, number * 10**8, GROUND, motion)
        assert resumed(seen, number * 10**8, GROUND, motion) == expected
        text = json.dumps(detector.state(), allow_nan=False)
        assert json.dumps(resumed.state()) == text
        resumed = ObstacleDetector(FINDER)
        resumed.restore(json.loads(text))
    assert 12 <= len(detector.state()["tracks"]) < 12 * 25


@pytest.mark.parametrize("motion_is_known", [True, False])
def test_a_negative_weak_sighting_asks_for_more_than_the_threshold(motion_is_known: bool) -> None:
    """The mask shows both; the score 0.55 is 0.1 of the way from the threshold to 1, and 0.98 nearly all of it."""

    def shown_in(scores: Sequence[float], weak_sighting: float) -> list[int]:
        settings = EvidenceSettings(appears_at=5.0, weak_sighting=weak_sighting, strong_sighting=2.0)
        detector = ObstacleDetector(FINDER, PersistenceSettings(2, 3), settings)
        found = []
        for number, score in enumerate(scores):
            motion = FrameMotion(PlanarPose(0.8 * number, 0.0, 0.0)) if motion_is_known else None
            seen = frame((20 - 0.8 * number, 0.0, score))
            assert seen.anomaly_mask.any()
            found.append(detector(seen, number * 10**8, GROUND, motion))
        return shown(found)

    assert shown_in([WEAK] * 12, 0.0)[0] >= 2
    assert shown_in([WEAK] * 12, -0.6) == []
    assert shown_in([STRONG] * 4, -0.6) == ([3, 4] if motion_is_known else [2, 3, 4])
    # Evidence is a sum, so strong frames outweigh weak ones. Where frames are counted, the weak ones do not count.
    mixed = [*[STRONG] * 4, WEAK, WEAK, STRONG, STRONG]
    assert shown_in(mixed, -0.6) == ([3, 4, 5, 6, 7, 8] if motion_is_known else [2, 3, 4, 5, 8])


@pytest.mark.parametrize(("high_share", "is_shown"), [(0.02, False), (0.9, True)])
def test_a_few_high_pixels_speak_less_for_an_object_than_many(high_share: float, is_shown: bool) -> None:
    settings = EvidenceSettings(appears_at=5.0, weak_sighting=-2.5, strong_sighting=2.0)
    detector, found = ObstacleDetector(FINDER, PersistenceSettings(2, 3), settings), []
    for number in range(8):
        seen = frame((20 - 0.8 * number, 0.0, WEAK))
        marked = np.flatnonzero(seen.engine_anomaly_score)
        seen.engine_anomaly_score.flat[marked[: max(1, int(high_share * len(marked)))]] = 1.0
        found.append(detector(seen, number * 10**8, GROUND, FrameMotion(PlanarPose(0.8 * number, 0.0, 0.0))))
    assert bool(shown(found)) == is_shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"vanishes_at": 3.4},
        {"appears_at": math.nan},
        {"weak_sighting": 2.0},
        {"weak_sighting": -math.inf},
        {"weak_sighting": -2.0, "strong_sighting": -1.0},
        {"miss": -1.0},
        {"foot_error": 0.0},
        {"max_unseen_s": math.nan},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EvidenceSettings(**wrong)
