"""How far the vehicle drove, from odometry or transforms of a small bag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recorded_drive import START_NS, STEP_NS, header, static_transforms, write_bag

from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.message_types import message_types
from training.metrics.obstacles.travelled import travelled
from training.metrics.obstacles.truth import ObstacleTruthError


def odometry(number: int, x: float, y: float = 0.0) -> Any:
    types = message_types()
    position = types("geometry_msgs/msg/Point", x=x, y=y, z=0.0)
    pose = types("geometry_msgs/msg/Pose", position=position, orientation=types("geometry_msgs/msg/Quaternion", w=1.0))
    return types(
        "nav_msgs/msg/Odometry",
        header=header(number, "odom"),
        child_frame_id="base_link",
        pose=types("geometry_msgs/msg/PoseWithCovariance", pose=pose),
    )


def transforms(number: int, *links: tuple[str, str, float, float]) -> Any:
    types = message_types()
    return types(
        "tf2_msgs/msg/TFMessage",
        transforms=[
            types(
                "geometry_msgs/msg/TransformStamped",
                header=header(number, parent),
                child_frame_id=child,
                transform=types(
                    "geometry_msgs/msg/Transform",
                    translation=types("geometry_msgs/msg/Vector3", x=x, y=y, z=0.0),
                    rotation=types("geometry_msgs/msg/Quaternion", w=1.0),
                ),
            )
            for parent, child, x, y in links
        ],
    )


def test_odometry_gives_the_length_of_the_way_and_not_the_distance(tmp_path: Path) -> None:
    there_and_back = [0.0, 2.0, 4.0, 2.0, 0.0]
    bag = Bag(write_bag(tmp_path / "bag", {"/odom": [odometry(n, x) for n, x in enumerate(there_and_back)]}))
    way, problem = travelled(bag, "base_link")
    assert way is not None
    assert (way.source, problem, way.metres.tolist()) == ("/odom", "", [0.0, 2.0, 4.0, 6.0, 8.0])
    assert way.between(START_NS + STEP_NS // 2, START_NS + 2 * STEP_NS) == pytest.approx(3.0)
    assert way.between(START_NS - 1, START_NS) is None
    assert way.between(START_NS, START_NS + 9 * STEP_NS) is None


def test_the_noise_of_a_vehicle_at_rest_is_no_distance_and_slow_driving_is(tmp_path: Path) -> None:
    resting = [odometry(n, 0.02 * (n % 2), 0.03 * (n % 3)) for n in range(50)]
    way, _ = travelled(Bag(write_bag(tmp_path / "rest", {"/odom": resting})), "base_link")
    assert way is not None
    assert way.metres[-1] == 0
    slow = [odometry(n, 0.03 * n) for n in range(101)]
    way, _ = travelled(Bag(write_bag(tmp_path / "slow", {"/odom": slow})), "base_link")
    assert way is not None
    assert way.metres[-1] == pytest.approx(3.0, abs=0.1)


def test_transforms_are_followed_to_odom_where_a_correction_of_the_map_is_no_driving(tmp_path: Path) -> None:
    moving = [transforms(n, ("map", "odom", 50.0 * n, 0.0), ("odom", "base_footprint", 1.0 * n, 0.0)) for n in range(5)]
    topics = {
        "/tf_static": [static_transforms(), transforms(0, ("base_footprint", "base_link", 0.0, 0.0))],
        "/tf": [None, *moving],
    }
    way, _ = travelled(Bag(write_bag(tmp_path / "bag", topics)), "base_link")
    assert way is not None
    assert way.metres[-1] == pytest.approx(4.0)


def test_without_odom_the_way_is_that_in_the_topmost_frame(tmp_path: Path) -> None:
    straight = [transforms(n, ("map", "base_link", 3.0 * n, 4.0 * n)) for n in range(3)]
    way, _ = travelled(Bag(write_bag(tmp_path / "bag", {"/tf": straight})), "base_link")
    assert way is not None
    assert way.metres.tolist() == [0.0, 5.0, 10.0]


def test_why_no_distance_is_known_is_said(tmp_path: Path) -> None:
    two = {"/a/odom": [odometry(0, 0.0), odometry(1, 1.0)], "/b/odom": [odometry(0, 0.0), odometry(1, 2.0)]}
    bag = Bag(write_bag(tmp_path / "two", two))
    way, problem = travelled(bag, "base_link")
    assert way is None
    assert "several odometries; choose with --odometry: /a/odom, /b/odom" in problem
    way, _ = travelled(bag, "base_link", "/b/odom")
    assert way is not None
    assert way.metres[-1] == 2.0
    with pytest.raises(ObstacleTruthError, match=r"has no odometry on /c; it has /a/odom, /b/odom"):
        travelled(bag, "base_link", "/c")
    bag = Bag(write_bag(tmp_path / "none", {"/tf_static": [static_transforms()]}))
    assert travelled(bag, "base_link") == (None, f"{bag.path} has no odometry and no /tf")
    bag = Bag(write_bag(tmp_path / "still", {"/tf": [transforms(0, ("map", "arm", 0.0, 0.0))]}))
    assert "gives fewer than two places" in travelled(bag, "base_link")[1]
