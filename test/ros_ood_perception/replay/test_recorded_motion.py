"""Where the vehicle was at each frame of a bag: from odometry or /tf, present, late, wrong and missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from recorded_drive import START_NS, STEP_NS, image, write_bag

from ros_ood_perception.obstacles.motion import MotionSettings, PlanarPose
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.replay.inputs import BagInput, InputFrame

CAMERA = "/front/image_raw"
FRAMES = 6
BETWEEN_NS = 30_000_000
"""The poses are so much before the frames."""


def header(stamp_ns: int, frame_id: str) -> Any:
    types = message_types()
    stamp = types("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return types("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def pose_stamp_ns(number: int) -> int:
    return START_NS + number * STEP_NS - BETWEEN_NS


def odometry(number: int, x: float | None = None, w: float = 1.0) -> Any:
    """A metre further with each frame."""
    types = message_types()
    pose = types(
        "geometry_msgs/msg/Pose",
        position=types("geometry_msgs/msg/Point", x=float(number) if x is None else x),
        orientation=types("geometry_msgs/msg/Quaternion", w=w),
    )
    return types(
        "nav_msgs/msg/Odometry",
        header=header(pose_stamp_ns(number), "odom"),
        child_frame_id="base_link",
        pose=types("geometry_msgs/msg/PoseWithCovariance", pose=pose),
    )


def transforms(number: int, links: Sequence[tuple[str, str, float, float]]) -> Any:
    """Parent, child, x and yaw of each."""
    types = message_types()
    return types(
        "tf2_msgs/msg/TFMessage",
        transforms=[
            types(
                "geometry_msgs/msg/TransformStamped",
                header=header(pose_stamp_ns(number), parent),
                child_frame_id=child,
                transform=types(
                    "geometry_msgs/msg/Transform",
                    translation=types("geometry_msgs/msg/Vector3", x=x),
                    rotation=types("geometry_msgs/msg/Quaternion", z=math.sin(yaw / 2), w=math.cos(yaw / 2)),
                ),
            )
            for parent, child, x, yaw in links
        ],
    )


def motions(path: Path, topics: dict[str, list[Any]], settings: MotionSettings) -> tuple[list[Any], list[str]]:
    """The motion of each frame, and the notes."""
    source = BagInput(Bag(write_bag(path, {**topics, CAMERA: [image(number) for number in range(FRAMES)]})), [])
    source.use_motion(settings, "base_link")
    frames = [item for item in source.items(None, None, ()) if isinstance(item, InputFrame)]
    assert [frame.number for frame in frames] == list(range(FRAMES))
    # They are held back for a pose, and stay the same however often they are read.
    again = [item.motion for item in source.items(None, None, ()) if isinstance(item, InputFrame)]
    assert [frame.motion for frame in frames] == again
    return again, source.notes


ODOMETRY = MotionSettings("/odometry", wait_s=0.1)


def test_a_frame_gets_the_pose_between_the_two_around_it_although_the_second_comes_later(tmp_path: Path) -> None:
    found, _ = motions(tmp_path / "bag", {"/odometry": [odometry(number) for number in range(FRAMES + 1)]}, ODOMETRY)
    assert [motion.pose.x for motion in found] == pytest.approx([number + 0.3 for number in range(FRAMES)])
    assert not any(motion.problem for motion in found)


def test_a_pose_that_comes_later_than_allowed_is_not_used(tmp_path: Path) -> None:
    topics = {"/odometry": [odometry(number) for number in range(FRAMES + 1)]}
    found, _ = motions(tmp_path / "bag", topics, MotionSettings("/odometry", wait_s=0.099))
    assert [motion.pose for motion in found] == [None] * FRAMES
    assert {motion.problem for motion in found} == {
        "no pose with a stamp at or after the frame's came on /odometry within ground.motion_wait_s (0.099 s) of the "
        "frame"
    }


def test_a_pose_that_is_no_number_begins_a_new_epoch_and_is_in_the_notes(tmp_path: Path) -> None:
    poses = [odometry(number, x=math.nan if number == 3 else None) for number in range(FRAMES + 1)]
    found, notes = motions(tmp_path / "bag", {"/odometry": poses}, ODOMETRY)
    assert [motion.pose is None for motion in found] == [False, False, True, True, False, False]
    assert [motion.epoch for motion in found if motion.pose] == [0, 0, 1, 1]
    assert any("1 times 'pose unusable': a pose on /odometry has the position" in note for note in notes)


def test_without_the_topic_every_frame_says_so_and_the_note_names_the_recorded_ones(tmp_path: Path) -> None:
    topics = {"/wheels/odometry": [odometry(number) for number in range(FRAMES)]}
    found, notes = motions(tmp_path / "bag", topics, ODOMETRY)
    assert {motion.problem for motion in found} == {"nothing comes on /odometry"}
    assert any("recorded is /wheels/odometry" in note for note in notes)
    assert motions(tmp_path / "none", topics, MotionSettings())[0] == [None] * FRAMES


def test_tf_gives_the_same_as_odometry_along_its_chain(tmp_path: Path) -> None:
    quarter = math.pi / 2
    moving = [
        transforms(number, [("odom", "body", float(number), quarter), ("body", "base_link", 2.0, -quarter)])
        for number in range(FRAMES + 1)
    ]
    found, _ = motions(tmp_path / "bag", {"/tf": moving}, MotionSettings(fixed_frame="odom"))
    assert [(m.pose.x, m.pose.y, m.pose.yaw) for m in found] == [
        pytest.approx((number + 0.3, 2.0, 0.0)) for number in range(FRAMES)
    ]
    still = {"/tf_static": [transforms(0, [("body", "base_link", 2.0, -quarter)])]}
    chain = [transforms(number, [("odom", "body", float(number), quarter)]) for number in range(FRAMES + 1)]
    again, _ = motions(tmp_path / "static", {**still, "/tf": chain}, MotionSettings(fixed_frame="odom"))
    assert [m.pose.x for m in again] == pytest.approx([m.pose.x for m in found])
    lost, _ = motions(tmp_path / "lost", {"/tf": chain}, MotionSettings(fixed_frame="odom"))
    assert {m.problem for m in lost} == {
        "no transform from 'base_link' to 'odom' on /tf and /tf_static before the frame: they end at 'base_link'"
    }
    assert PlanarPose(1, 2, quarter).of(PlanarPose(1, 0, 0)) == PlanarPose(1.0, 3.0, quarter)
