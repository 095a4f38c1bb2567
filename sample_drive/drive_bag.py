"""Writes a drive as a rosbag2 bag (MCAP): image, camera_info, transforms and the truth, at the frames' stamps, and
odometry at its own rate."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.files.atomic_files import naming, sync_file
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.messages.results import image_message
from ros_ood_perception.messages.stamps import stamp_message
from ros_ood_perception.obstacles.ground import CameraPose
from ros_ood_perception.replay.cameras import TRUTH_PREFIX
from sample_drive.drive import SampleDrive
from sample_drive.frame_folder import PROGRAM, frame_facts
from sample_drive.ground_truth import DriveFrame

CAMERA_FRAME = "camera_optical_frame"
BASE_FRAME = "base_link"
GROUND_FRAME = "base_footprint"
MAP_FRAME = "map"
ODOMETRY_FRAME = "odom"
ODOMETRY_RATE_HZ = 50.0
IMAGE_TOPIC = "/camera/image_raw"
INFO_TOPIC = "/camera/camera_info"
ODOMETRY_TOPIC = "/odometry"
LABELS_TOPIC = f"{TRUTH_PREFIX}labels"
ANOMALY_TOPIC = f"{TRUTH_PREFIX}anomaly"
TRUTH_TOPIC = f"{TRUTH_PREFIX}frame"
TOPICS = {
    IMAGE_TOPIC: "sensor_msgs/msg/Image",
    INFO_TOPIC: "sensor_msgs/msg/CameraInfo",
    ODOMETRY_TOPIC: "nav_msgs/msg/Odometry",
    "/tf": "tf2_msgs/msg/TFMessage",
    "/tf_static": "tf2_msgs/msg/TFMessage",
    LABELS_TOPIC: "sensor_msgs/msg/Image",
    ANOMALY_TOPIC: "sensor_msgs/msg/Image",
    TRUTH_TOPIC: "std_msgs/msg/String",
}


class DriveBag:
    """Writes the frames of one drive to a new bag. A context manager; the bag is readable even after an error.

    `/tf` holds `map` -> `base_footprint` (on the ground below the vehicle) -> `base_link` (the body, which bounces a
    little), `/tf_static` holds `base_link` -> the camera: the mounting that a team would have calibrated. `/odometry`
    is the true pose of `base_footprint` since the first frame, without noise and drift: better than any wheel encoder.

    Raises:
        FileExistsError: the path exists already.
        OutputFolderError: its folder is another program's.
    """

    def __init__(self, path: Path, drive: SampleDrive) -> None:
        # Imported here: writing image folders needs no bag library.
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore

        from ros_ood_perception.recordings.message_types import MessageTypes

        if path.exists():
            raise FileExistsError(f"{path}: exists already; give another folder, or remove it")
        self._path = path
        output = OutputFolder.join(path.parent, PROGRAM)
        output.add(*(f"{path.name}/{file}" for file in (f"{path.name}.mcap", "metadata.yaml")))
        self._drive = drive
        # The same bytes with every distribution.
        self._new = MessageTypes(get_typestore(Stores.LATEST))
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._connections: dict[str, Any] = {}
        self._poses = 0
        self._last_stamp_ns = 0

    def __enter__(self) -> DriveBag:
        from ros_ood_perception.recordings.split_bag import offered_qos

        with naming(self._path):
            self._writer.open()
        for topic, kind in TOPICS.items():
            qos = (offered_qos(latched=True),) if topic == "/tf_static" else ()
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._new.typestore, offered_qos_profiles=qos
            )
        return self

    def __exit__(self, *_: object) -> None:
        # The pose after the last frame.
        if self._last_stamp_ns and self._pose_stamp_ns(self._poses - 1) < self._last_stamp_ns:
            self._put_odometry()
        with naming(self._path):
            self._writer.close()
            for name in (f"{self._path.name}.mcap", "metadata.yaml"):
                sync_file(self._path / name)

    def write(self, frame: DriveFrame) -> None:
        """Write a frame with its stamp, after the odometry up to then."""
        stamp = self._last_stamp_ns = frame.stamp_ns
        while self._pose_stamp_ns(self._poses) <= stamp:
            self._put_odometry()
        if frame.index == 0:
            mounting = self._drive.mounting
            self._put("/tf_static", stamp, self._transforms(stamp, [(BASE_FRAME, CAMERA_FRAME, mounting)]))
        heading = frame.vehicle.heading
        cosine, sine = float(np.cos(heading)), float(np.sin(heading))
        vehicle = CameraPose(
            (cosine, -sine, 0.0, sine, cosine, 0.0, 0.0, 0.0, 1.0), (frame.vehicle.x, frame.vehicle.y, 0.0)
        )
        body = _relative(frame.camera_pose, self._drive.mounting)
        self._put(
            "/tf",
            stamp,
            self._transforms(stamp, [(MAP_FRAME, GROUND_FRAME, vehicle), (GROUND_FRAME, BASE_FRAME, body)]),
        )
        self._put(INFO_TOPIC, stamp, self._camera_info(frame.camera, stamp))
        self._put(IMAGE_TOPIC, stamp, self._image(frame.image, "rgb8", stamp))
        self._put(LABELS_TOPIC, stamp, self._image(frame.labels, "mono8", stamp))
        self._put(ANOMALY_TOPIC, stamp, self._image(frame.anomaly.astype(np.uint8) * np.uint8(255), "mono8", stamp))
        truth = json.dumps(frame_facts(frame, str(stamp)), separators=(",", ":"))
        self._put(TRUTH_TOPIC, stamp, self._new("std_msgs/msg/String", data=truth))

    def _put(self, topic: str, stamp_ns: int, message: Any) -> None:
        with naming(self._path):
            self._writer.write(self._connections[topic], stamp_ns, self._new.serialized(message))

    def _pose_stamp_ns(self, number: int) -> int:
        return self._drive.stamp_ns(number / ODOMETRY_RATE_HZ)

    def _put_odometry(self) -> None:
        """Write the next pose of the odometry."""
        stamp, seconds = self._pose_stamp_ns(self._poses), self._poses / ODOMETRY_RATE_HZ
        self._poses += 1
        first, now = self._drive.vehicle(0.0), self._drive.vehicle(seconds)
        cosine, sine = math.cos(first.heading), math.sin(first.heading)
        east, north, turn = now.x - first.x, now.y - first.y, now.heading - first.heading
        position = self._new("geometry_msgs/msg/Point", x=cosine * east + sine * north, y=cosine * north - sine * east)
        rotation = self._new("geometry_msgs/msg/Quaternion", z=math.sin(turn / 2), w=math.cos(turn / 2))
        pose = self._new("geometry_msgs/msg/Pose", position=position, orientation=rotation)
        speed = self._new("geometry_msgs/msg/Vector3", x=now.speed_mps)
        message = self._new(
            "nav_msgs/msg/Odometry",
            header=self._header(stamp, ODOMETRY_FRAME),
            child_frame_id=GROUND_FRAME,
            pose=self._new("geometry_msgs/msg/PoseWithCovariance", pose=pose),
            twist=self._new(
                "geometry_msgs/msg/TwistWithCovariance", twist=self._new("geometry_msgs/msg/Twist", linear=speed)
            ),
        )
        self._put(ODOMETRY_TOPIC, stamp, message)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        return self._new("std_msgs/msg/Header", stamp=stamp_message(self._new, stamp_ns), frame_id=frame_id)

    def _image(self, pixels: NDArray[np.uint8], encoding: str, stamp_ns: int) -> Any:
        return image_message(self._new, pixels, encoding, self._header(stamp_ns, CAMERA_FRAME))

    def _camera_info(self, camera: CameraModel, stamp_ns: int) -> Any:
        fx, fy, cx, cy = camera.focal_x, camera.focal_y, camera.centre_x, camera.centre_y
        return self._new(
            "sensor_msgs/msg/CameraInfo",
            header=self._header(stamp_ns, CAMERA_FRAME),
            height=camera.height,
            width=camera.width,
            distortion_model=camera.distortion_model,
            d=np.array(camera.coefficients or (0.0,) * 5, np.float64),
            k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1], np.float64),
            r=np.eye(3).ravel(),
            p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0], np.float64),
        )

    def _transforms(self, stamp_ns: int, links: list[tuple[str, str, CameraPose]]) -> Any:
        transforms = []
        for parent, child, pose in links:
            x, y, z, w = _quaternion(np.reshape(pose.rotation, (3, 3)))
            px, py, pz = pose.translation
            transform = self._new(
                "geometry_msgs/msg/Transform",
                translation=self._new("geometry_msgs/msg/Vector3", x=px, y=py, z=pz),
                rotation=self._new("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
            )
            header = self._header(stamp_ns, parent)
            transforms.append(
                self._new(
                    "geometry_msgs/msg/TransformStamped", header=header, child_frame_id=child, transform=transform
                )
            )
        return self._new("tf2_msgs/msg/TFMessage", transforms=transforms)


def _relative(camera: CameraPose, mounting: CameraPose) -> CameraPose:
    """Pose of the body in the ground frame, from the camera's poses in the ground frame and on the body."""
    turn = np.reshape(camera.rotation, (3, 3)) @ np.reshape(mounting.rotation, (3, 3)).T
    x, y, z = (np.array(camera.translation) - turn @ np.array(mounting.translation)).tolist()
    return CameraPose(tuple(turn.ravel().tolist()), (x, y, z))


def _quaternion(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """x, y, z, w of a rotation: the main eigenvector of Bar-Itzhack's symmetric matrix (doi 10.2514/2.4654)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    symmetric = np.array(
        [
            [a - e - i, d + b, g + c, h - f],
            [d + b, e - a - i, h + f, c - g],
            [g + c, h + f, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    x, y, z, w = np.linalg.eigh(symmetric)[1][:, -1].tolist()
    sign = -1.0 if w < 0 else 1.0
    return x * sign, y * sign, z * sign, w * sign
