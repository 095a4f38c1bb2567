"""Obstacle messages against the message classes and serialisation of ROS 2, and against another reader of clouds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from nav_msgs.msg import OccupancyGrid
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.messages.obstacles import detections, ground_header, markers, occupancy_grid, point_cloud
from ros_ood_perception.node.camera_outputs import has_vision_msgs
from ros_ood_perception.node.middleware.message_classes import new_message
from ros_ood_perception.obstacles.ground_map import GridSettings
from ros_ood_perception.obstacles.point_cloud import POINT, free_points, obstacle_points
from ros_ood_perception.obstacles.regions import Box, Region
from ros_ood_perception.obstacles.tracks import Obstacle
from ros_ood_perception.recordings.message_types import message_types

STAMP = Time(sec=12, nanosec=34)
HEADER = ground_header(new_message, STAMP, "base_link")
REGION = Region(0.9, 0.95, 100, Box(10, 20, 30, 41), ((10.0, 59.5), (39.0, 59.5)), False)
PLACED = Obstacle(7, 3, 0.25, REGION, ((10.0, 0.2, 0.0), (10.0, -0.2, 0.0)), 10.0, 0.4)
UNPLACED = Obstacle(8, 3, 0.25, REGION)


def sent(message: Any) -> Any:
    """The message as a subscriber gets it."""
    return deserialize_message(serialize_message(message), type(message))


def read_as_nav2_does(cloud: PointCloud2) -> NDArray[np.float64]:
    """x, y, z as `sensor_msgs::PointCloud2ConstIterator<float>` finds them: by name, in steps of `point_step`."""
    offsets = {field.name: field.offset for field in cloud.fields}
    assert all(field.datatype == 7 and field.count == 1 for field in cloud.fields if field.name in "xyz")
    data = bytes(cloud.data)
    assert len(data) == cloud.row_step * cloud.height
    return np.array(
        [
            [
                np.frombuffer(data, ">f4" if cloud.is_bigendian else "<f4", 1, i * cloud.point_step + offsets[axis])[0]
                for axis in "xyz"
            ]
            for i in range(cloud.width * cloud.height)
        ]
    )


def test_a_cloud_arrives_with_its_stamp_its_frame_and_its_points() -> None:
    points = obstacle_points([PLACED, UNPLACED], 0.3)
    cloud = sent(point_cloud(new_message, points, HEADER))
    assert (cloud.header.stamp, cloud.header.frame_id) == (STAMP, "base_link")
    found = read_as_nav2_does(cloud)
    np.testing.assert_allclose(found[[0, -1]], [(10, 0.2, 0.3), (10, -0.2, 0.3)], atol=1e-6)
    assert len(found) == len(points) == 5


def test_a_cloud_of_nothing_is_a_cloud_with_fields() -> None:
    # Nav2 looks for x, y and z in every cloud that it transforms.
    cloud = sent(point_cloud(new_message, obstacle_points([], 0.3), HEADER))
    assert (cloud.width, cloud.height, len(cloud.data)) == (0, 1, 0)
    assert [field.name for field in cloud.fields] == list(POINT.names or ())


def test_the_cloud_is_the_same_bytes_for_rosbags() -> None:
    cloud = point_cloud(new_message, free_points(np.array([(5.0, 1.0, 0.0)]), 0.3), HEADER)
    store = get_typestore(Stores.ROS2_JAZZY)
    read = store.deserialize_cdr(bytes(serialize_message(cloud)), "sensor_msgs/msg/PointCloud2")
    assert read.data.view(POINT)[0].item() == pytest.approx((5.0, 1.0, 0.3, 0.0, 0))


def test_markers_replace_those_before_and_lie_where_the_obstacle_stands() -> None:
    message = sent(markers(new_message, [PLACED, UNPLACED], HEADER))
    assert isinstance(message, MarkerArray)
    assert message.markers[0].action == Marker.DELETEALL
    shown = {m.ns: m for m in message.markers[1:]}
    assert set(shown) == {"foot", "post", "label"}
    assert {m.id for m in shown.values()} == {7}
    assert all((m.header.frame_id, m.header.stamp) == ("base_link", STAMP) for m in shown.values())
    assert all(m.color.a == 1 and m.lifetime.sec == 1 for m in shown.values())
    assert [(p.x, p.y, p.z) for p in shown["foot"].points] == list(PLACED.ground_points)
    assert (shown["post"].pose.position.x, shown["post"].pose.position.y) == (10.0, 0.0)
    assert shown["label"].text == "7: 10.0 m, score 0.90, 0.2 s"
    assert len({(m.ns, m.id) for m in message.markers[1:]}) == len(message.markers) - 1


def test_an_obstacle_of_one_point_has_no_line() -> None:
    one = Obstacle(1, 1, 0.0, REGION, ((5.0, 0.0, 0.0),), 5.0, 0.0)
    assert [m.ns for m in markers(new_message, [one], HEADER).markers[1:]] == ["post", "label"]


def test_a_grids_rows_are_y_and_its_columns_x_from_its_origin() -> None:
    grid = GridSettings(0.5, 0.0, 2.0, -1.0, 0.5)
    cells = np.full((3, 4), -1, np.int8)
    cells[2, 1] = 100
    message = sent(occupancy_grid(new_message, cells, grid, HEADER))
    assert isinstance(message, OccupancyGrid)
    assert (message.info.width, message.info.height, message.info.resolution) == (4, 3, 0.5)
    assert (message.info.origin.position.x, message.info.origin.position.y) == (0.0, -1.0)
    assert message.info.origin.orientation.w == 1.0
    # Cell (1, 2) from the origin: x from 0.5 to 1, y from 0 to 0.5; row by row, as Nav2's static layer reads it.
    assert message.data[2 * message.info.width + 1] == 100
    assert sorted(message.data) == [-1] * 11 + [100]
    assert (message.header.stamp, message.header.frame_id) == (STAMP, "base_link")


def test_the_camera_info_of_rclpy_is_read_like_that_of_a_bag() -> None:
    info = CameraInfo(
        height=480, width=640, distortion_model="plumb_bob", d=[-0.2, 0.05, 0.0, 0.0, 0.0], r=np.eye(3).ravel()
    )
    info.k = np.array([500.0, 0, 320, 0, 500, 240, 0, 0, 1])
    camera = CameraModel.from_camera_info(sent(info), (480, 640))
    assert camera == CameraModel(480, 640, 500, 500, 320, 240, "plumb_bob", (-0.2, 0.05, 0.0, 0.0))


def test_a_camera_info_as_it_comes_uncalibrated_is_refused() -> None:
    with pytest.raises(ValueError, match="the camera is not calibrated"):
        CameraModel.from_camera_info(CameraInfo(height=480, width=640), (480, 640))


def test_detections_hold_box_score_and_id_under_the_frames_header() -> None:
    if not has_vision_msgs():
        pytest.skip("vision_msgs is not installed (it is in no Python index; it comes with a ROS 2 distribution)")
    header = Header(stamp=STAMP, frame_id="front_camera")
    message = sent(detections(new_message, [PLACED], header))
    assert message.header == header
    [found] = message.detections
    assert (found.id, found.header) == ("7", header)
    assert (found.bbox.size_x, found.bbox.size_y) == (30.0, 41.0)
    assert (found.bbox.center.position.x, found.bbox.center.position.y) == (24.5, 40.0)
    [result] = found.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("anomaly", 0.9)


def test_a_replay_writes_what_the_node_publishes() -> None:
    types = message_types()
    header = types("std_msgs/msg/Header", stamp=types("builtin_interfaces/msg/Time", sec=12, nanosec=34))
    header.frame_id = "base_link"
    points, grid = obstacle_points([PLACED, UNPLACED], 0.3), GridSettings()
    cells = np.full((grid.height, grid.width), -1, np.int8)
    cells[3, 4] = 100
    for make in (
        lambda new, header: point_cloud(new, points, header),
        lambda new, header: markers(new, [PLACED, UNPLACED], header),
        lambda new, header: occupancy_grid(new, cells, grid, header),
    ):
        message = make(types, header)
        published = bytes(serialize_message(make(new_message, HEADER)))
        # Read and written again: rclpy leaves what it finds in memory between the fields.
        read = types.typestore.deserialize_cdr(published, message.__msgtype__)
        assert types.serialized(message) == types.serialized(read)
