"""Publish frames as a camera would, in a process of its own."""

from __future__ import annotations

import argparse
import array
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest

from demo.live.topics import COMPRESSED
from demo.played_frames import RATE_HZ, PlayedFrames, open_frames
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.messages.stamps import NANOSECONDS_PER_SECOND, stamp_ns
from ros_ood_perception.number_arguments import real
from ros_ood_perception.recordings.bag import Bag

CAMERA_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
DISCOVERY_S = 1.0
"""The subscriber learns of the publisher a little later than the publisher of it."""
RESULT_TIMEOUT_S = 60.0
POSE_QOS = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)


def to_image(recorded: Any, time_ns: int) -> Image:
    """A recorded image as a message to publish. Its fields are copied unchecked: a malformed image stays malformed."""
    message = Image()
    message.header.stamp = _time(time_ns)
    message.header.frame_id = recorded.header.frame_id
    message.height, message.width = recorded.height, recorded.width
    message.encoding, message.step = recorded.encoding, recorded.step
    message.is_bigendian = int(recorded.is_bigendian)
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(recorded.data, np.uint8).data.cast("B"))
    message.data = data
    return message


def to_compressed_image(recorded: Any, time_ns: int) -> CompressedImage:
    """A recorded compressed image as a message to publish, its bytes unchanged."""
    message = CompressedImage()
    message.header.stamp = _time(time_ns)
    message.header.frame_id = recorded.header.frame_id
    message.format = recorded.format
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(recorded.data, np.uint8).data.cast("B"))
    message.data = data
    return message


def to_camera_info(info: Any) -> CameraInfo:
    """A recorded calibration as a message to publish."""
    message = CameraInfo()
    for name in ("height", "width", "distortion_model", "binning_x", "binning_y"):
        setattr(message, name, getattr(info, name))
    for name in ("d", "k", "r", "p"):
        setattr(message, name, [float(value) for value in getattr(info, name)])
    roi = info.roi
    message.roi = RegionOfInterest(
        x_offset=roi.x_offset, y_offset=roi.y_offset, height=roi.height, width=roi.width, do_rectify=roi.do_rectify
    )
    return message


def to_odometry(recorded: Any) -> Odometry:
    """A recorded pose of the vehicle as a message to publish. Velocities and covariances are left out."""
    message = Odometry()
    message.header.stamp = _time(stamp_ns(recorded.header.stamp))
    message.header.frame_id, message.child_frame_id = recorded.header.frame_id, recorded.child_frame_id
    place, turn = recorded.pose.pose.position, recorded.pose.pose.orientation
    to_place, to_turn = message.pose.pose.position, message.pose.pose.orientation
    to_place.x, to_place.y, to_place.z = place.x, place.y, place.z
    to_turn.x, to_turn.y, to_turn.z, to_turn.w = turn.x, turn.y, turn.z, turn.w
    return message


def _time(time_ns: int) -> Time:
    sec, nanosec = divmod(time_ns, NANOSECONDS_PER_SECOND)
    return Time(sec=sec, nanosec=nanosec)


class Calibration:
    """Publishes the camera's calibration with the stamp of each frame.

    Args:
        info: as it was recorded.
    """

    def __init__(self, node: Node, topic: str, info: Any, frame_id: str) -> None:
        self._message = to_camera_info(info)
        self._message.header.frame_id = frame_id
        self._publisher = node.create_publisher(CameraInfo, topic, CAMERA_QOS)

    def publish(self, time_ns: int) -> None:
        """Publish it once."""
        self._message.header.stamp = _time(time_ns)
        self._publisher.publish(self._message)


def result_counter(node: Node, topic: str) -> Callable[[], int]:
    """Counts the images on a topic. The returned function spins the node for a moment and returns the count."""
    count = 0

    def on_result(_: bytes) -> None:
        nonlocal count
        count += 1

    node.create_subscription(Image, topic, on_result, CAMERA_QOS, raw=True)

    def counted() -> int:
        rclpy.spin_once(node, timeout_sec=0.01)
        return count

    return counted


class Poses:
    """Publishes the odometry of a bag under its topic: before each frame up to the first pose at or after its stamp.

    Args:
        path: of the bag.
        topic: of its odometry.
    """

    def __init__(self, node: Node, path: Path, topic: str) -> None:
        self._publisher = node.create_publisher(Odometry, topic, POSE_QOS)
        bag = Bag(path)
        self._left = (bag.deserialize(message) for message in bag.messages([topic]))
        self._next: Odometry | None = to_odometry(next(self._left))
        self._sent_ns = -1

    def publish_first(self) -> None:
        """Publish the first pose. A subscriber takes it for one, however often it comes."""
        if self._next is not None:
            self._publisher.publish(self._next)

    def publish(self, time_ns: int) -> None:
        """Publish the next poses, for a frame with this stamp."""
        while self._next is not None and self._sent_ns < time_ns:
            self._publisher.publish(self._next)
            self._sent_ns = stamp_ns(self._next.header.stamp)
            recorded = next(self._left, None)
            self._next = None if recorded is None else to_odometry(recorded)


class Pace:
    """When each frame is due.

    Args:
        rate_hz: frames a second; None: as they were recorded.
        results: number of results so far; None: results are not waited for.
    """

    def __init__(self, rate_hz: float | None, results: Callable[[], int] | None) -> None:
        self._rate_hz, self._results = rate_hz, results
        self._started = time.monotonic()
        self._first_time_ns: int | None = None
        self._without_result = 0

    def wait(self, index: int, time_ns: int) -> None:
        """Sleep until a frame is due.

        Args:
            index: number of the frame, from 0.
            time_ns: when it was recorded, nanoseconds.
        """
        if self._rate_hz is None:
            self._first_time_ns = time_ns if self._first_time_ns is None else self._first_time_ns
            due = self._started + (time_ns - self._first_time_ns) / 1e9
        else:
            due = self._started + index / self._rate_hz
        if self._results is not None:
            self._wait_for_result(self._results, index)
            # Time lost by waiting is not made up for: the pace is at most the recorded one.
            self._started += max(time.monotonic() - due, 0.0)
        time.sleep(max(due - time.monotonic(), 0.0))

    def _wait_for_result(self, results: Callable[[], int], index: int) -> None:
        """Of the frame before."""
        deadline = time.monotonic() + RESULT_TIMEOUT_S
        while results() < index - self._without_result and time.monotonic() < deadline:
            pass
        self._without_result += results() < index - self._without_result


def make_parser() -> argparse.ArgumentParser:
    """The options of the player."""
    parser = argparse.ArgumentParser(prog="frame_player", description=__doc__)
    parser.add_argument("frames", type=Path, help="folder of images or rosbag2 bag")
    parser.add_argument("--topic", help="image topic of the bag")
    parser.add_argument("--publish-to", default="/camera/image_raw", help="topic to publish on")
    parser.add_argument("--odometry", help="topic of the bag's odometry, published under the same name")
    parser.add_argument("--info-to", help="topic to publish the calibration on that the bag has beside --topic")
    rate = real(0.0, 1000.0, above=True)
    parser.add_argument(
        "--rate", type=rate, help=f"frames per second (default: {RATE_HZ:g}, or as the bag was recorded)"
    )
    parser.add_argument("--paced-by", help="topic of results: a frame is sent after the result of the one before")
    parser.add_argument("--record", type=Path, required=True, help="JSON lines: a line for each frame sent")
    parser.add_argument("--wait", type=real(0.0, 1e6), default=20.0, help="seconds to wait for a subscriber")
    return parser


def main() -> int:
    """Command line; returns the exit code: 0 success, 2 bad input, 3 no subscriber."""
    options = make_parser().parse_args()
    try:
        frames = open_frames(options.frames, options.topic)
    except PerceptionError as error:
        print(f"frame_player: {error}", file=sys.stderr)
        return 2
    rclpy.init()
    node = Node("frame_player")
    kind, topic = Image, options.publish_to
    if frames.compressed:
        # As image_transport names it.
        kind, topic = CompressedImage, f"{options.publish_to}{COMPRESSED}"
    publisher = node.create_publisher(kind, topic, CAMERA_QOS)
    calibration = None
    if options.info_to:
        frame_id = next(iter(frames)).message.header.frame_id
        calibration = Calibration(node, options.info_to, frames.source.first_infos[0], frame_id)
    poses = Poses(node, options.frames, options.odometry) if options.odometry else None
    results = result_counter(node, options.paced_by) if options.paced_by else None
    if not _wait_for_subscriber(publisher, options.wait):
        print(f"frame_player: no subscriber of {topic} within {options.wait:.0f} s", file=sys.stderr)
        return 3
    ready = time.monotonic() + DISCOVERY_S
    while time.monotonic() < ready:
        if calibration is not None:
            # The node has the calibration before the first frame.
            calibration.publish(0)
        if poses is not None:
            poses.publish_first()
        time.sleep(0.1)
    with options.record.open("w", encoding="utf-8") as record:
        _send(frames, publisher, calibration, poses, Pace(options.rate, results), record)
    publisher.wait_for_all_acked(Duration(seconds=5))
    # A best-effort subscriber acknowledges nothing and needs time to read the last frame.
    time.sleep(0.5)
    node.destroy_node()
    rclpy.shutdown()
    return 0


def _wait_for_subscriber(publisher: Any, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not publisher.get_subscription_count():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _send(
    frames: PlayedFrames,
    publisher: Any,
    calibration: Calibration | None,
    poses: Poses | None,
    pace: Pace,
    record: IO[str],
) -> None:
    """Publish every frame. Those of a bag keep their stamps; those of files get the time of publishing."""
    for index, frame in enumerate(frames):
        pace.wait(index, frame.time_ns)
        time_ns = time.time_ns() if frames.topic is None else stamp_ns(frame.message.header.stamp)
        message = (to_compressed_image if frames.compressed else to_image)(frame.message, time_ns)
        if calibration is not None:
            calibration.publish(time_ns)
        if poses is not None:
            poses.publish(time_ns)
        sent_at_ns = time.monotonic_ns()
        publisher.publish(message)
        json.dump({"name": frame.name, "stamp_ns": time_ns, "sent_at_ns": sent_at_ns}, record)
        record.write("\n")


if __name__ == "__main__":
    sys.exit(main())
