"""Small bags for the tests of recordings and replays, written with `rosbags`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from ros_ood_perception.recordings.message_types import message_types

START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000
IMAGE = "sensor_msgs/msg/Image"
BUNDLES = Path(__file__).resolve().parents[2] / "models"
BUNDLE = ("--bundle", str(BUNDLES / "camvid_small"))
"""Options of a replay."""


def picture(number: int, height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR with edges, the same for the same number."""
    generator = np.random.default_rng(number)
    coarse = generator.integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


def header(number: int, frame_id: str = "camera_optical") -> Any:
    types = message_types()
    time_ns = START_NS + number * STEP_NS
    stamp = types("builtin_interfaces/msg/Time", sec=time_ns // 10**9, nanosec=time_ns % 10**9)
    return types("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def image(number: int, pixels: NDArray[np.uint8] | None = None) -> Any:
    """A bgr8 image with the stamp of a frame's number."""
    pixels = picture(number) if pixels is None else pixels
    return message_types()(
        IMAGE,
        header=header(number),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding="bgr8",
        step=pixels.shape[1] * 3,
        data=np.ascontiguousarray(pixels).reshape(-1),
    )


def camera_info(number: int, height: int = 96, width: int = 128) -> Any:
    matrix = np.array([100.0, 0, width / 2, 0, 100.0, height / 2, 0, 0, 1])
    projection = np.array([100.0, 0, width / 2, 0, 0, 100.0, height / 2, 0, 0, 0, 1, 0])
    return message_types()(
        "sensor_msgs/msg/CameraInfo",
        header=header(number),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=matrix,
        r=np.eye(3).ravel(),
        p=projection,
    )


def static_transforms() -> Any:
    """The camera 1.5 m over base_link, looking forward, by way of a frame between."""
    types = message_types()

    def transform(parent: str, child: str, z: float, quaternion: Sequence[float]) -> Any:
        x, y, qz, w = quaternion
        return types(
            "geometry_msgs/msg/TransformStamped",
            header=types("std_msgs/msg/Header", frame_id=parent),
            child_frame_id=child,
            transform=types(
                "geometry_msgs/msg/Transform",
                translation=types("geometry_msgs/msg/Vector3", z=z),
                rotation=types("geometry_msgs/msg/Quaternion", x=x, y=y, z=qz, w=w),
            ),
        )

    return types(
        "tf2_msgs/msg/TFMessage",
        transforms=[
            transform("base_link", "mast", 1.5, (0.0, 0.0, 0.0, 1.0)),
            transform("mast", "camera_optical", 0.0, (-0.5, 0.5, -0.5, 0.5)),
        ],
    )


def write_bag(
    path: Path,
    topics: Mapping[str, Sequence[Any]],
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """A bag whose topics' messages are `STEP_NS` apart, those of number 0 first, in the order of `topics`. None: there
    is no message at that time."""
    types = message_types()
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections = {
            topic: writer.add_connection(topic, first.__msgtype__, typestore=types.typestore)
            for topic, messages in topics.items()
            if (first := next((message for message in messages if message is not None), None)) is not None
        }
        for number in range(max((len(messages) for messages in topics.values()), default=0)):
            for topic, messages in topics.items():
                if number < len(messages) and messages[number] is not None:
                    raw = types.serialized(messages[number])
                    writer.write(connections[topic], START_NS + number * STEP_NS, raw)
    return path


def write_drive(
    path: Path,
    frames: int = 12,
    storage: StoragePlugin = StoragePlugin.MCAP,
    size: tuple[int, int] = (96, 128),
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """One camera with calibration and pose."""
    return write_bag(
        path,
        {
            "/tf_static": [static_transforms()],
            "/front/camera_info": [camera_info(number, *size) for number in range(frames)],
            "/front/image_raw": [image(number, picture(number, *size)) for number in range(frames)],
        },
        storage,
        compression,
    )


def write_ros1_drive(path: Path, frames: int, first: int = 0) -> Path:
    """The images and calibrations of `write_drive` as a ROS 1 bag, from the frame `first` on."""
    store = get_typestore(Stores.ROS1_NOETIC)
    time, head, info = (
        store.types[f"{name}"]
        for name in ("builtin_interfaces/msg/Time", "std_msgs/msg/Header", "sensor_msgs/msg/CameraInfo")
    )
    with Ros1Writer(path) as writer:
        connections = {
            topic: writer.add_connection(topic, kind, typestore=store)
            for topic, kind in (("/front/camera_info", info.__msgtype__), ("/front/image_raw", IMAGE))
        }
        for number in range(first, first + frames):
            time_ns = START_NS + number * STEP_NS
            stamp = head(number, time(time_ns // 10**9, time_ns % 10**9), "camera_optical")
            calibration, frame = camera_info(number), image(number)
            roi = store.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
            for topic, message in (
                (
                    "/front/camera_info",
                    info(
                        stamp,
                        96,
                        128,
                        "plumb_bob",
                        calibration.d,
                        calibration.k,
                        calibration.r,
                        calibration.p,
                        0,
                        0,
                        roi,
                    ),
                ),
                (
                    "/front/image_raw",
                    store.types[IMAGE](stamp, 96, 128, "bgr8", 0, frame.step, frame.data),
                ),
            ):
                writer.write(connections[topic], time_ns, store.serialize_ros1(message, message.__msgtype__))
    return path
