"""Obstacles and ground as messages for Nav2's obstacle layers, RViz, and consumers of detections and grids.

    obstacles = detector(perception, stamp_ns, ground)               # one `ObstacleDetector` per camera
    placed = ground_header(new, header.stamp, "base_link")
    cloud = point_cloud(new, obstacle_points(obstacles, height_m), placed)
    free = point_cloud(new, free_points(ground_map.free_edge(perception), height_m), placed)
    marks = markers(new, obstacles, placed)
    boxes = detections(new, obstacles, header)                       # in the picture, so under the frame's own header
    grid = occupancy_grid(new, ground_map.grid(perception, obstacles), ground_map.grid_settings, placed)

All of them are published for every frame, with or without obstacles: an obstacle layer keeps the last cloud, and would
keep marking obstacles that are gone. `new` makes the messages, see `message_factory`.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.messages.message_factory import NewMessage
from ros_ood_perception.obstacles.ground_map import GridSettings
from ros_ood_perception.obstacles.point_cloud import POINT, POINT_FIELDS
from ros_ood_perception.obstacles.tracks import Obstacle

ORANGE = {"r": 1.0, "g": 0.55, "b": 0.0, "a": 1.0}
MARKER_LIFETIME_S = 1
"""RViz removes markers this long after the last frame."""
MARKER_HEIGHT_M = 1.0
LINE_WIDTH_M = 0.1
TEXT_HEIGHT_M = 0.4
CLASS_ID = "anomaly"

# Constants of visualization_msgs/Marker.
CYLINDER, LINE_STRIP, TEXT_VIEW_FACING = 3, 4, 9
ADD, DELETEALL = 0, 3


def ground_header(new: NewMessage, stamp: Any, base_frame: str) -> Any:
    """A header in the vehicle's frame, with the stamp of the camera's frame."""
    return new("std_msgs/msg/Header", stamp=stamp, frame_id=base_frame)


def point_cloud(new: NewMessage, points: NDArray[np.void], header: Any) -> Any:
    """Points (N,) `POINT` as an unorganised cloud: x, y, z, intensity float32 and id uint32."""
    data = array.array("B")
    data.frombytes(points.tobytes())
    return new(
        "sensor_msgs/msg/PointCloud2",
        header=header,
        height=1,
        width=len(points),
        fields=[
            new("sensor_msgs/msg/PointField", name=f.name, offset=f.offset, datatype=f.datatype, count=1)
            for f in POINT_FIELDS
        ],
        is_bigendian=False,
        point_step=POINT.itemsize,
        row_step=POINT.itemsize * len(points),
        data=data,
        is_dense=True,
    )


def markers(new: NewMessage, obstacles: Sequence[Obstacle], header: Any) -> Any:
    """For RViz: for each obstacle with a place, the line on which it stands, a post in its middle, and a label.

    The first marker deletes those of the frame before.
    """
    nowhere = new("geometry_msgs/msg/Pose", orientation=_no_rotation(new))
    found = [new("visualization_msgs/msg/Marker", header=header, action=DELETEALL, pose=nowhere)]
    for obstacle in obstacles:
        if obstacle.position is None:
            continue
        x, y, z = obstacle.position
        places = [_point(new, *place) for place in obstacle.ground_points]
        line = _marker(new, header, obstacle, "foot", LINE_STRIP, x=LINE_WIDTH_M)
        line.points = places
        post = _marker(new, header, obstacle, "post", CYLINDER, 2 * LINE_WIDTH_M, 2 * LINE_WIDTH_M, MARKER_HEIGHT_M)
        post.pose.position = _point(new, x, y, z + MARKER_HEIGHT_M / 2)
        label = _marker(new, header, obstacle, "label", TEXT_VIEW_FACING, z=TEXT_HEIGHT_M)
        label.pose.position = _point(new, x, y, z + MARKER_HEIGHT_M + TEXT_HEIGHT_M)
        label.text = (
            f"{obstacle.id}: {obstacle.range_m:.1f} m, score {obstacle.region.score:.2f}, {obstacle.age_s:.1f} s"
            + ("" if obstacle.evidence is None else f", evidence {obstacle.evidence:.1f}")
        )
        # RViz reports an error for a line of one point.
        found += [line, post, label] if len(places) > 1 else [post, label]
    return new("visualization_msgs/msg/MarkerArray", markers=found)


def _point(new: NewMessage, x: float, y: float, z: float = 0.0) -> Any:
    return new("geometry_msgs/msg/Point", x=x, y=y, z=z)


def _marker(
    new: NewMessage,
    header: Any,
    obstacle: Obstacle,
    namespace: str,
    kind: int,
    x: float = 0.0,
    y: float = 0.0,
    z: float = 0.0,
) -> Any:
    """A marker of the scale x, y, z, metres."""
    return new(
        "visualization_msgs/msg/Marker",
        header=header,
        ns=namespace,
        id=obstacle.id % 2**31,
        type=kind,
        action=ADD,
        pose=new("geometry_msgs/msg/Pose", orientation=_no_rotation(new)),
        scale=new("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
        color=new("std_msgs/msg/ColorRGBA", **ORANGE),
        lifetime=new("builtin_interfaces/msg/Duration", sec=MARKER_LIFETIME_S),
    )


def _no_rotation(new: NewMessage) -> Any:
    return new("geometry_msgs/msg/Quaternion", w=1.0)


def detections(new: NewMessage, obstacles: Sequence[Obstacle], header: Any) -> Any:
    """vision_msgs/Detection2DArray: box, mean score and id of each obstacle, in the picture.

    The hypothesis has the class_id "anomaly" and no pose: a pose would have to be in the camera's frame, but places are
    in the vehicle's frame.

    Args:
        header: of the camera's frame.

    Raises:
        ImportError: `new` is rclpy's, and vision_msgs is not installed.
    """
    found = []
    for obstacle in obstacles:
        box = obstacle.region.box
        # In these coordinates the centre of the top left pixel is (0, 0).
        centre = new("vision_msgs/msg/Point2D", x=box.x + (box.width - 1) / 2, y=box.y + (box.height - 1) / 2)
        bounds = new(
            "vision_msgs/msg/BoundingBox2D",
            center=new("vision_msgs/msg/Pose2D", position=centre),
            size_x=float(box.width),
            size_y=float(box.height),
        )
        hypothesis = new("vision_msgs/msg/ObjectHypothesis", class_id=CLASS_ID, score=obstacle.region.score)
        pose = new(
            "geometry_msgs/msg/PoseWithCovariance", pose=new("geometry_msgs/msg/Pose", orientation=_no_rotation(new))
        )
        result = new("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis=hypothesis, pose=pose)
        found.append(
            new("vision_msgs/msg/Detection2D", header=header, results=[result], bbox=bounds, id=str(obstacle.id))
        )
    return new("vision_msgs/msg/Detection2DArray", header=header, detections=found)


def occupancy_grid(new: NewMessage, cells: NDArray[np.int8], grid: GridSettings, header: Any) -> Any:
    """Cells (height, width) int8 of `grid` (0 free, 100 anomalous, -1 unknown) as a grid in the vehicle's frame."""
    data = array.array("b")
    data.frombytes(np.ascontiguousarray(cells).tobytes())
    origin = new(
        "geometry_msgs/msg/Pose", position=_point(new, grid.from_x_m, grid.from_y_m), orientation=_no_rotation(new)
    )
    return new(
        "nav_msgs/msg/OccupancyGrid",
        header=header,
        info=new(
            "nav_msgs/msg/MapMetaData",
            map_load_time=header.stamp,
            resolution=grid.resolution_m,
            width=grid.width,
            height=grid.height,
            origin=origin,
        ),
        data=data,
    )
