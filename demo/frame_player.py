"""Publish frames as a camera would, in a process of its own."""

from __future__ import annotations

import argparse
import array
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest

from ros_ood_perception.messages.stamps import NANOSECONDS_PER_SECOND
from ros_ood_perception.number_arguments import real
from ros_ood_perception.recordings.frame_source import FrameSourceError, SourceFrame, open_frames
from ros_ood_perception.replay.inputs import open_input

CAMERA_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
DISCOVERY_SETTLES_S = 1.0
RESULT_TIMEOUT_S = 60.0


def to_image(frame: SourceFrame, stamp_ns: int) -> Image:
    """The frame as a message, fields as they are: what is wrong with it stays wrong."""
    message = Image()
    message.header.stamp = _time(stamp_ns)
    message.header.frame_id = frame.frame_id
    message.height, message.width = frame.height, frame.width
    message.encoding, message.step = frame.encoding, frame.step
    data = array.array("B")
    data.frombytes(frame.data.data.cast("B"))
    message.data = data
    return message


def to_camera_info(info: Any) -> CameraInfo:
    """A calibration as a bag holds it, as a message to publish."""
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


def _time(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // NANOSECONDS_PER_SECOND, nanosec=stamp_ns % NANOSECONDS_PER_SECOND)


class Calibration:
    """Publishes the camera's calibration, under the stamp of each frame.

    Args:
        info: as the bag holds it.
    """

    def __init__(self, node: Node, topic: str, info: Any, frame_id: str) -> None:
        self._message = to_camera_info(info)
        self._message.header.frame_id = frame_id
        self._publisher = node.create_publisher(CameraInfo, topic, CAMERA_QOS)

    def publish(self, stamp_ns: int) -> None:
        """Once."""
        self._message.header.stamp = _time(stamp_ns)
        self._publisher.publish(self._message)


def result_counter(node: Node, topic: str) -> Callable[[], int]:
    """Counts the images on a topic; the function that is given back says how many have come, and lets them come."""
    count = 0

    def on_result(_: bytes) -> None:
        nonlocal count
        count += 1

    node.create_subscription(Image, topic, on_result, CAMERA_QOS, raw=True)

    def counted() -> int:
        rclpy.spin_once(node, timeout_sec=0.01)
        return count

    return counted


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="frame_player", description=__doc__)
    parser.add_argument("frames", type=Path, help="folder of images or rosbag2 bag")
    parser.add_argument("--topic", help="image topic of the bag")
    parser.add_argument("--publish-to", default="/camera/image_raw", help="topic to publish on")
    parser.add_argument("--info-to", help="topic to publish the calibration on that the bag has beside --topic")
    rate = real(0.0, 1000.0, above=True)
    parser.add_argument("--rate", type=rate, help="frames per second (default: 10, or as the bag was recorded)")
    parser.add_argument("--paced-by", help="topic of results: a frame is sent when the last one's result has come")
    parser.add_argument("--record", type=Path, required=True, help="JSON lines: a line for each frame sent")
    parser.add_argument("--wait", type=real(0.0, 1e6), default=20.0, help="seconds to wait for a subscriber")
    options = parser.parse_args()
    try:
        source = open_frames(options.frames, options.topic)
    except FrameSourceError as error:
        print(f"frame_player: {error}", file=sys.stderr)
        return 2
    rclpy.init()
    node = Node("frame_player")
    publisher = node.create_publisher(Image, options.publish_to, CAMERA_QOS)
    calibration = None
    if options.info_to:
        info = open_input(options.frames, [options.topic], options.rate or 10.0).first_infos[0]
        calibration = Calibration(node, options.info_to, info, next(iter(source)).frame_id)
    results = result_counter(node, options.paced_by) if options.paced_by else None
    deadline = time.monotonic() + options.wait
    while not publisher.get_subscription_count():
        if time.monotonic() > deadline:
            print(f"frame_player: nobody subscribed to {options.publish_to} in {options.wait:.0f} s", file=sys.stderr)
            return 3
        time.sleep(0.05)
    # The other side learns of this publisher a little later than this side of it.
    settled = time.monotonic() + DISCOVERY_SETTLES_S
    while time.monotonic() < settled:
        if calibration is not None:
            # The node shall know the camera when the first frame comes.
            calibration.publish(0)
        time.sleep(0.1)
    started = time.monotonic()
    first_time_ns: int | None = None
    without_result = 0
    with options.record.open("w", encoding="utf-8") as record:
        for index, frame in enumerate(source):
            if options.rate is None and frame.time_ns is not None:
                first_time_ns = frame.time_ns if first_time_ns is None else first_time_ns
                due = started + (frame.time_ns - first_time_ns) / 1e9
            else:
                due = started + index / (options.rate or 10.0)
            if results is not None:
                given_up = time.monotonic() + RESULT_TIMEOUT_S
                while results() < index - without_result and time.monotonic() < given_up:
                    pass
                without_result += results() < index - without_result
                # What was lost by waiting is not made up for: the pace stays at most the recorded one.
                started += max(time.monotonic() - due, 0.0)
            time.sleep(max(due - time.monotonic(), 0.0))
            stamp_ns = time.time_ns() if frame.stamp_ns is None else frame.stamp_ns
            message = to_image(frame, stamp_ns)
            if calibration is not None:
                calibration.publish(stamp_ns)
            sent_at_ns = time.monotonic_ns()
            publisher.publish(message)
            json.dump({"name": frame.name, "stamp_ns": stamp_ns, "sent_at_ns": sent_at_ns}, record)
            record.write("\n")
    publisher.wait_for_all_acked(Duration(seconds=5))
    # A best-effort reader acknowledges nothing: leave it the time to read the last frame.
    time.sleep(0.5)
    node.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
