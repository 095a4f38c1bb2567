"""Record image, point cloud and diagnostics topics to an MCAP bag as they arrive, until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosbags.rosbag2 import StoragePlugin, Writer
from sensor_msgs.msg import Image, PointCloud2

from ros_ood_perception.recordings.message_types import typestore_of_this_distribution
from ros_ood_perception.recordings.split_bag import offered_qos

DEPTH = 100
DRAIN_S = 0.5
TYPES: dict[str, type[Any]] = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/PointCloud2": PointCloud2,
    "diagnostic_msgs/msg/DiagnosticArray": DiagnosticArray,
}


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="output_recorder", description=__doc__)
    parser.add_argument("bag", type=Path, help="folder of the new bag")
    parser.add_argument("topics", nargs="+", metavar="TOPIC:TYPE", help=f"TYPE is one of {', '.join(TYPES)}")
    parser.add_argument("--arrivals", type=Path, required=True, help="JSON lines: a topic and a monotonic time each")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node("output_recorder")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    typestore = typestore_of_this_distribution()
    recorded = 0
    qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)
    with (
        Writer(options.bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer,
        options.arrivals.open("w", encoding="utf-8") as arrivals,
    ):

        def record(topic: str, connection: Any, serialized: bytes) -> None:
            nonlocal recorded
            recorded += 1
            json.dump({"topic": topic, "arrived_at_ns": time.monotonic_ns()}, arrivals)
            arrivals.write("\n")
            writer.write(connection, time.time_ns(), serialized)

        for argument in options.topics:
            topic, _, type_name = argument.rpartition(":")
            connection = writer.add_connection(
                topic, type_name, typestore=typestore, offered_qos_profiles=(offered_qos(False, DEPTH),)
            )
            node.create_subscription(
                TYPES[type_name],
                topic,
                # Serialised messages go into the bag unchanged.
                lambda serialized, topic=topic, connection=connection: record(topic, connection, serialized),
                qos,
                raw=True,
            )
        # Messages that arrived before the signal can still wait in a queue.
        quiet_since = time.monotonic()
        while not stop.is_set() or time.monotonic() - quiet_since < DRAIN_S:
            before = recorded
            executor.spin_once(timeout_sec=0.1)
            if recorded > before:
                quiet_since = time.monotonic()
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
