"""Poses of the vehicle over time, from a source that is not trusted."""

from __future__ import annotations

import math

import pytest

from ros_ood_perception.obstacles.motion import FrameMotion, PlanarPose, PoseHistory

MS = 1_000_000


def turned(yaw: float) -> tuple[float, float, float, float]:
    return (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))


def history(*samples: tuple[int, float], late_ms: int = 0) -> PoseHistory:
    """Poses at these stamps, ms, and this x, metres. They come as late as this."""
    found = PoseHistory("/odometry", wait_s=0.1, max_speed_mps=60)
    for stamp_ms, x in samples:
        found.add(stamp_ms * MS, (x, 0.0, 0.0), turned(0), (stamp_ms + late_ms) * MS)
    return found


def look(known: PoseHistory, stamp_ms: int, now_ms: int = 10**6, received_ms: int | None = None) -> FrameMotion | None:
    return known.look(stamp_ms * MS, (stamp_ms if received_ms is None else received_ms) * MS, now_ms * MS)


def test_a_pose_is_interpolated_in_place_and_by_the_smaller_angle() -> None:
    known = PoseHistory("/odometry")
    known.add(0, (1.0, 2.0, 9.0), turned(3.0), 0)
    known.add(40 * MS, (2.0, 4.0, 9.0), turned(-3.0), 40 * MS)
    found = look(known, 10)
    assert found is not None
    assert found.pose is not None
    assert (found.pose.x, found.pose.y) == (1.25, 2.5)
    assert found.pose.yaw == pytest.approx(3.0 + (2 * math.pi - 6.0) / 4)


def test_the_pose_does_not_depend_on_what_came_later_or_on_when_it_is_asked_for() -> None:
    early, late = history((0, 0.0), (20, 1.0)), history((0, 0.0), (20, 1.0), (40, 5.0))
    assert look(early, 10, now_ms=20) == look(late, 10, now_ms=500) == FrameMotion(PlanarPose(0.5, 0, 0))
    assert look(late, 20) == FrameMotion(PlanarPose(1.0, 0, 0))


def test_a_frame_waits_for_the_pose_after_it_for_a_bounded_time() -> None:
    known = history((0, 0.0), (20, 1.0))
    assert look(known, 30, now_ms=129) is None
    given_up = look(known, 30, now_ms=130)
    assert given_up is not None
    assert given_up.pose is None
    assert "within ground.motion_wait_s (0.1 s)" in given_up.problem
    # One that comes too late is not used, however late it is asked for.
    known.add(40 * MS, (2.0, 0.0, 0.0), turned(0), arrived_ns=131 * MS)
    assert look(known, 30, now_ms=140) == given_up
    assert look(known, 30, received_ms=31) == FrameMotion(PlanarPose(1.5, 0, 0))


def test_where_nothing_comes_no_frame_waits() -> None:
    for known in (history(), history((0, 0.0))):
        found = look(known, 5500, now_ms=5500)
        assert found is not None
        assert found.problem == "nothing comes on /odometry"


def test_the_first_poses_and_a_hole_between_poses_give_no_pose() -> None:
    known = history((1000, 0.0), (2500, 1.0))
    for stamp_ms, problem in ((900, "the first pose"), (2000, "1.50 s apart")):
        found = look(known, stamp_ms, received_ms=2500)
        assert found is not None
        assert found.pose is None
        assert problem in found.problem


@pytest.mark.parametrize(
    ("stamp_ms", "place", "quaternion", "kind", "sentence"),
    [
        (40, (math.nan, 0.0, 0.0), turned(0), "pose unusable", "position"),
        (40, (0.0, 1e300, 0.0), turned(0), "pose unusable", "position"),
        (40, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), "pose unusable", "length 0"),
        (40, (0.0, 0.0, 0.0), (math.nan, 0.0, 0.0, 1.0), "pose unusable", "quaternion"),
        (10, (1.0, 0.0, 0.0), turned(0), "pose stamp went back", "0.010 s back"),
        (40, (9.0, 0.0, 0.0), turned(0), "pose jumped", "moved 8.00 m in 0.020 s"),
    ],
)
def test_a_pose_that_cannot_be_is_refused_with_a_sentence_and_begins_a_new_epoch(
    stamp_ms: int,
    place: tuple[float, float, float],
    quaternion: tuple[float, float, float, float],
    kind: str,
    sentence: str,
) -> None:
    known = history((0, 0.0), (20, 1.0))
    found = known.add(stamp_ms * MS, place, quaternion, 40 * MS)
    assert found[0] == kind
    assert sentence in found[1]
    assert known.refused == {kind: 1}
    next_x = 9.4 if kind == "pose jumped" else 1.4
    assert known.add(60 * MS, (next_x, 0.0, 0.0), turned(0), 60 * MS) == ("", "")
    after = look(known, 60)
    assert after == FrameMotion(PlanarPose(next_x, 0, 0), epoch=1)
    # Nothing is interpolated over the place where it happened.
    between = look(known, 30)
    assert between is not None
    assert (between.pose is None) == (kind != "pose stamp went back")


def test_a_pose_that_is_published_twice_counts_once() -> None:
    known = history((0, 0.0), (20, 1.0), (20, 1.0), (40, 2.0))
    assert look(known, 30) == FrameMotion(PlanarPose(1.5, 0, 0))
    assert not known.refused


def test_only_the_last_poses_are_kept() -> None:
    known = history(*((number, 0.01 * number) for number in range(10_000)))
    found = look(known, 9_500)
    assert found == FrameMotion(PlanarPose(95.0, 0, 0))
    assert look(known, 10, received_ms=9_000) != FrameMotion(PlanarPose(0.1, 0, 0))
