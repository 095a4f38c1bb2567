"""Publish frames as a camera would, in a process of its own."""

from __future__ import annotations

import argparse
import array
import json
import sys
import time
from pathlib import Path

import rclpy
from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from ros_ood_perception.recordings.frame_source import FrameSourceError, SourceFrame, open_frames

CAMERA_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
DISCOVERY_SETTLES_S = 1.0


def to_image(frame: SourceFrame, stamp_ns: int) -> Image:
    """The frame as a message, fields as they are: what is wrong with it stays wrong."""
    message = Image()
    message.header.stamp = Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)
    message.header.frame_id = frame.frame_id
    message.height, message.width = frame.height, frame.width
    message.encoding, message.step = frame.encoding, frame.step
    data = array.array("B")
    data.frombytes(frame.data.data.cast("B"))
    message.data = data
    return message


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="frame_player", description=__doc__)
    parser.add_argument("frames", type=Path, help="folder of images or rosbag2 bag")
    parser.add_argument("--topic", help="image topic of the bag")
    parser.add_argument("--publish-to", default="/camera/image_raw", help="topic to publish on")
    parser.add_argument("--rate", type=float, help="frames per second (default: 10, or as the bag was recorded)")
    parser.add_argument("--record", type=Path, required=True, help="JSON lines: a line for each frame sent")
    parser.add_argument("--wait", type=float, default=20.0, help="seconds to wait for a subscriber")
    options = parser.parse_args()
    try:
        source = open_frames(options.frames, options.topic)
    except FrameSourceError as error:
        print(f"frame_player: {error}", file=sys.stderr)
        return 2
    rclpy.init()
    node = Node("frame_player")
    publisher = node.create_publisher(Image, options.publish_to, CAMERA_QOS)
    deadline = time.monotonic() + options.wait
    while not publisher.get_subscription_count():
        if time.monotonic() > deadline:
            print(f"frame_player: nobody subscribed to {options.publish_to} in {options.wait:.0f} s", file=sys.stderr)
            return 3
        time.sleep(0.05)
    # The other side learns of this publisher a little later than this side of it.
    time.sleep(DISCOVERY_SETTLES_S)
    started = time.monotonic()
    first_time_ns: int | None = None
    with options.record.open("w", encoding="utf-8") as record:
        for index, frame in enumerate(source):
            if options.rate is None and frame.time_ns is not None:
                first_time_ns = frame.time_ns if first_time_ns is None else first_time_ns
                due = started + (frame.time_ns - first_time_ns) / 1e9
            else:
                due = started + index / (options.rate or 10.0)
            time.sleep(max(due - time.monotonic(), 0.0))
            stamp_ns = time.time_ns() if frame.stamp_ns is None else frame.stamp_ns
            message = to_image(frame, stamp_ns)
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
