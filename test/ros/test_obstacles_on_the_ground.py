"""Obstacles from the real node, over DDS: a thing on the road of known place becomes points at that place."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import RELIABLE, Bench, NodeProcess
from brightness_bundle import write_brightness_bundle
from builtin_interfaces.msg import Time
from calibration_files import calibration_text
from image_messages import to_message
from nav_msgs.msg import OccupancyGrid
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.messages.topics import OBSTACLE_TOPICS
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection
from ros_ood_perception.obstacles.point_cloud import POINT

SIZE = (480, 640)
DISTORTION = (-0.2, 0.05, 0.001, -0.001, 0.0)
CAMERA = CameraModel(*SIZE, 500, 500, 320, 240, "plumb_bob", DISTORTION)
GROUND = GroundProjection(CAMERA, CameraPose.from_mounting(1.5, 8.0, forward_m=1.0))
PARAMETERS = {
    "mounting.height_m": "[1.5]",
    "mounting.pitch_deg": "[8.0]",
    "mounting.forward_m": "[1.0]",
    "region.drivable_classes": "['road']",
    "persistence.seen_frames": 2,
    "persistence.of_frames": 3,
}
TYPES = {
    "obstacles": PointCloud2,
    "free_ground": PointCloud2,
    "obstacle_markers": MarkerArray,
    "ground_grid": OccupancyGrid,
}
TYRE = (8.0, 0.7)
"""x and y of the middle of its foot."""


class Planner:
    """Publishes frames and their camera_info, and keeps what the node says of the ground."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.received: dict[str, list[Any]] = {name: [] for name in TYPES}
        for name, kind in TYPES.items():
            topic = f"/perception_node/{OBSTACLE_TOPICS[name]}"
            bench.node.create_subscription(kind, topic, self.received[name].append, RELIABLE)
        self.info = bench.node.create_publisher(CameraInfo, "/perception_node/input/camera_info", RELIABLE)
        self.sent = 0

    def send(self, picture: NDArray[np.uint8], info: CameraInfo | None) -> Time:
        self.sent += 1
        stamp = Time(sec=1000, nanosec=self.sent * 100_000_000)
        header = Header(stamp=stamp, frame_id="front_camera")
        if info is not None:
            info.header = header
            self.info.publish(info)
            # The node takes a frame with the calibration that it has.
            self.bench.spin_for(0.2)
        message: Image = to_message(picture, "rgb8", header)
        self.bench.send(message)
        self.bench.settle(self.sent)
        return stamp

    def wait_for_all(self, frames: int) -> None:
        self.bench.spin_until(
            lambda: all(len(messages) >= frames for messages in self.received.values()), f"{frames} of each output"
        )

    def points(self, name: str) -> NDArray[np.void]:
        return np.frombuffer(bytes(self.received[name][-1].data), POINT)


def calibration(**fields: Any) -> CameraInfo:
    k = np.array([500.0, 0, 320, 0, 500, 240, 0, 0, 1])
    values = {"height": SIZE[0], "width": SIZE[1], "distortion_model": "plumb_bob", "d": list(DISTORTION), "k": k}
    return CameraInfo(**{**values, **fields})


def road(tyre: tuple[float, float] | None = TYRE) -> NDArray[np.uint8]:
    """A dark road, on it a bright thing 0.6 m wide and high; the network is the brightness."""
    picture = np.full((*SIZE, 3), 40, np.uint8)
    if tyre is not None:
        x, y = tyre
        corners = GROUND.pixels([(x, y + dy, z) for dy in (-0.3, 0.3) for z in (0.0, 0.6)])
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        picture[round(top) : round(bottom) + 1, round(left) : round(right) + 1] = 230
    return picture


@pytest.fixture
def planner(bench: Bench, start_node: Callable[..., NodeProcess], tmp_path: Path) -> Planner:
    start_node(**{**PARAMETERS, "bundle": write_brightness_bundle(tmp_path / "brightness")})
    planner = Planner(bench)
    bench.bring_up()
    bench.wait_for_node(planner.info)
    bench.facts = {}
    bench.spin_until(
        lambda: all(int(bench.facts.get(f"subscribers of /perception_node/{OBSTACLE_TOPICS[n]}", "0")) for n in TYPES),
        "the node's knowledge of its subscribers",
    )
    return planner


def test_a_thing_on_the_road_becomes_points_where_it_stands_under_the_frames_stamp(planner: Planner) -> None:
    for _ in range(3):
        stamp = planner.send(road(), calibration())
    planner.wait_for_all(3)
    assert [len(cloud.data) > 0 for cloud in planner.received["obstacles"]] == [False, True, True]
    for messages in (planner.received[name] for name in ("obstacles", "free_ground", "ground_grid")):
        assert (messages[-1].header.stamp, messages[-1].header.frame_id) == (stamp, "base_link")
    points = planner.points("obstacles")
    # A pixel of the network is four of the frame, and so half a metre there.
    assert abs(float(points["x"].mean()) - TYRE[0]) < 0.4
    assert abs(float(points["y"].mean()) - TYRE[1]) < 0.1
    assert np.ptp(points["y"]) == pytest.approx(0.6, abs=0.15)
    assert set(points["z"].tolist()) == {np.float32(0.3)}
    assert set(points["id"].tolist()) == {1}
    label = next(m for m in planner.received["obstacle_markers"][-1].markers if m.ns == "label")
    assert label.text.startswith("1: ")


def test_free_ground_ends_before_the_thing_and_goes_on_when_it_is_gone(planner: Planner) -> None:
    for _ in range(2):
        planner.send(road(), calibration())
    planner.wait_for_all(2)

    def reach() -> float:
        points = planner.points("free_ground")
        bearing = np.arctan2(points["y"], points["x"] - 1.0)
        towards = np.abs(bearing - np.arctan2(TYRE[1], TYRE[0] - 1.0)) < 0.02
        assert towards.sum() > 2
        return float(points["x"][towards].max())

    assert 6.5 < reach() < 8.2
    grid = planner.received["ground_grid"][-1]
    cells = np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)
    row, column = int((TYRE[1] + 10) / 0.2), int(TYRE[0] / 0.2)
    assert (cells[row - 2 : row + 3, column - 3 : column + 3] == 100).any()
    assert cells[row, column - 10] == 0
    assert cells[row, column + 10] == -1  # hidden behind it
    planner.send(road(tyre=None), calibration())
    planner.wait_for_all(3)
    assert reach() > 30
    assert len(planner.points("obstacles")) == 0


def test_without_a_calibration_nothing_is_said_of_the_ground_and_diagnostics_say_why(planner: Planner) -> None:
    for info, why in (
        (None, "nothing has come on /perception_node/input/camera_info"),
        (CameraInfo(height=SIZE[0], width=SIZE[1]), "the camera is not calibrated"),
        (calibration(width=1280, height=960), "camera_info is of 1280x960 images"),
        (calibration(d=[1e8, 0.0, 0.0, 0.0, 0.0]), "no pixel of the image shows ground within 40 m"),
    ):
        planner.send(road(), info)
        planner.send(road(), info)
        planner.bench.spin_until(lambda: why in planner.bench.facts.get("ground", ""), f"'{why}' in the diagnostics")  # noqa: B023
    assert all(not messages for messages in planner.received.values())
    planner.send(road(), calibration())
    planner.wait_for_all(1)


def test_cameras_have_their_calibrations_from_another_topic_and_from_a_file(
    bench: Bench, start_node: Callable[..., NodeProcess], brightness_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "rear.yaml").write_text(calibration_text(calibration()))
    start_node(
        cameras=("front", "rear"),
        bundle=brightness_bundle,
        **PARAMETERS,
        calibration__camera_info_topic="['/lens', '']",
        calibration__file=f"['', '{tmp_path / 'rear.yaml'}']",
    )
    assert bench.transition("configure")
    assert bench.transition("activate")
    images = {name: bench.node.create_publisher(Image, f"/{name}/image_raw", RELIABLE) for name in ("front", "rear")}
    lens = bench.node.create_publisher(CameraInfo, "/lens", RELIABLE)
    bench.wait_for_node(lens, *images.values())
    # The file is all that this camera listens to.
    assert bench.node.count_subscribers("/perception_node/rear/input/camera_info") == 0
    missing = "nothing has come on /lens; remap /lens, or set calibration.camera_info_topic or calibration.file"
    for number, front in enumerate((missing, "known")):
        if number:
            lens.publish(calibration())
            bench.spin_for(0.2)
        stamp = Time(sec=1000, nanosec=number * 100_000_000)
        for publisher in images.values():
            publisher.publish(to_message(road(), "rgb8", Header(stamp=stamp, frame_id="camera")))
        for name, ground in (("front", front), ("rear", "known")):
            bench.spin_until(lambda: bench.facts_of(name).get("ground") == ground, f"{name}: {ground}")  # noqa: B023


def test_the_clock_of_a_looping_bag_begins_a_new_obstacle(planner: Planner) -> None:
    for _ in range(2):
        planner.send(road(), calibration())
    planner.wait_for_all(2)
    assert set(planner.points("obstacles")["id"].tolist()) == {1}
    time.sleep(0.1)
    header = Header(stamp=Time(sec=900), frame_id="front_camera")
    planner.bench.send(to_message(road(), "rgb8", header))
    planner.wait_for_all(3)
    assert len(planner.points("obstacles")) == 0
    planner.bench.send(to_message(road(), "rgb8", Header(stamp=Time(sec=900, nanosec=10**8), frame_id="front_camera")))
    planner.wait_for_all(4)
    assert set(planner.points("obstacles")["id"].tolist()) == {2}
