"""Obstacles and ground as messages: for Nav2's obstacle layers, RViz, and consumers of detections and grids.

    obstacles = detector(result, stamp_ns, ground)                   # one `ObstacleDetector` per camera
    cloud = point_cloud(obstacle_points(obstacles, height_m), ground_header(header.stamp, "base_link"))
    free = point_cloud(free_points(ground_map.free_edge(result), height_m), ground_header(header.stamp, "base_link"))
    marks = markers(obstacles, ground_header(header.stamp, "base_link"))
    boxes = detections(obstacles, header)                            # in the picture, so under the frame's own header
    grid = occupancy_grid(ground_map.grid(result, obstacles), ground_map.grid_settings, ground_header(...))

Every one of them is published for every frame, with obstacles or without: an obstacle layer keeps the last cloud that
it got, and would go on marking what is no longer there.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, Vector3
from nav_msgs.msg import MapMetaData, OccupancyGrid
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from ros_ood_perception.ground_map import GridSettings
from ros_ood_perception.obstacle_cloud import POINT, POINT_FIELDS
from ros_ood_perception.obstacles import Obstacle

OBSTACLE_TOPICS = {
    "obstacles": "output/anomaly/obstacles",
    "obstacle_markers": "output/anomaly/obstacle_markers",
    "obstacle_detections": "output/anomaly/detections",
    "free_ground": "output/ground/free",
    "ground_grid": "output/ground/grid",
}
"""Name, as in the parameter `outputs`, to topic below `~/` or `~/CAMERA/`."""

ORANGE = ColorRGBA(r=1.0, g=0.55, b=0.0, a=1.0)
MARKER_LIFETIME_S = 1
"""RViz drops them so long after the last frame: what is shown is never older."""
MARKER_HEIGHT_M = 1.0
LINE_WIDTH_M = 0.1
TEXT_HEIGHT_M = 0.4
CLASS_ID = "anomaly"


def ground_header(stamp: Time, base_frame: str) -> Header:
    """The header of what is in the vehicle's frame: the stamp of the camera's frame."""
    return Header(stamp=stamp, frame_id=base_frame)


def point_cloud(points: NDArray[np.void], header: Header) -> PointCloud2:
    """Points (N,) `POINT` as an unorganised cloud: x, y, z, intensity float32 and id uint32."""
    data = array.array("B")
    data.frombytes(points.tobytes())
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=[PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=1) for f in POINT_FIELDS],
        is_bigendian=False,
        point_step=POINT.itemsize,
        row_step=POINT.itemsize * len(points),
        data=data,
        is_dense=True,
    )


def markers(obstacles: Sequence[Obstacle], header: Header) -> MarkerArray:
    """For RViz: of each obstacle with a place, the line on which it stands, a post at its middle, and its label.

    The first marker deletes those of the frame before.
    """
    found = [Marker(header=header, action=Marker.DELETEALL)]
    for obstacle in obstacles:
        if obstacle.position is None:
            continue
        x, y, z = obstacle.position
        line = _marker(header, obstacle, "foot", Marker.LINE_STRIP, Vector3(x=LINE_WIDTH_M))
        line.points = [Point(x=px, y=py, z=pz) for px, py, pz in obstacle.ground_points]
        post = _marker(
            header,
            obstacle,
            "post",
            Marker.CYLINDER,
            Vector3(x=2 * LINE_WIDTH_M, y=2 * LINE_WIDTH_M, z=MARKER_HEIGHT_M),
        )
        post.pose.position = Point(x=x, y=y, z=z + MARKER_HEIGHT_M / 2)
        label = _marker(header, obstacle, "label", Marker.TEXT_VIEW_FACING, Vector3(z=TEXT_HEIGHT_M))
        label.pose.position = Point(x=x, y=y, z=z + MARKER_HEIGHT_M + TEXT_HEIGHT_M)
        label.text = (
            f"{obstacle.id}: {obstacle.range_m:.1f} m, score {obstacle.region.score:.2f}, {obstacle.age_s:.1f} s"
        )
        # A line of one point is an error to RViz.
        found += [line, post, label] if len(line.points) > 1 else [post, label]
    return MarkerArray(markers=found)


def _marker(header: Header, obstacle: Obstacle, namespace: str, kind: int, scale: Vector3) -> Marker:
    return Marker(
        header=header,
        ns=namespace,
        id=obstacle.id % 2**31,
        type=kind,
        action=Marker.ADD,
        scale=scale,
        color=ORANGE,
        lifetime=Duration(sec=MARKER_LIFETIME_S),
    )


def detections_type() -> type[Any] | None:
    """vision_msgs/Detection2DArray, or None where vision_msgs is not installed."""
    try:
        from vision_msgs.msg import Detection2DArray
    except ImportError:
        return None
    return Detection2DArray  # type: ignore[no-any-return]


def detections(obstacles: Sequence[Obstacle], header: Header) -> Any:
    """vision_msgs/Detection2DArray: box, mean score and id of each obstacle, in the picture.

    The hypothesis has the class_id "anomaly" and no pose: poses would have to be in the camera's frame, and places are
    in the vehicle's.

    Args:
        header: of the camera's frame.

    Raises:
        ImportError: vision_msgs is not installed.
    """
    from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose

    found = []
    for obstacle in obstacles:
        box = obstacle.region.box
        bounds = BoundingBox2D(size_x=float(box.width), size_y=float(box.height))
        # In these coordinates the centre of the top left pixel is (0, 0).
        bounds.center.position.x = box.x + (box.width - 1) / 2
        bounds.center.position.y = box.y + (box.height - 1) / 2
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = CLASS_ID
        hypothesis.hypothesis.score = obstacle.region.score
        found.append(Detection2D(header=header, results=[hypothesis], bbox=bounds, id=str(obstacle.id)))
    return Detection2DArray(header=header, detections=found)


def occupancy_grid(cells: NDArray[np.int8], grid: GridSettings, header: Header) -> OccupancyGrid:
    """Cells (height, width) int8 of `grid` (0 free, 100 anomalous, -1 unknown) as a grid in the vehicle's frame."""
    data = array.array("b")
    data.frombytes(np.ascontiguousarray(cells).tobytes())
    return OccupancyGrid(
        header=header,
        info=MapMetaData(
            map_load_time=header.stamp,
            resolution=grid.resolution_m,
            width=grid.width,
            height=grid.height,
            origin=Pose(position=Point(x=grid.from_x_m, y=grid.from_y_m)),
        ),
        data=data,
    )
