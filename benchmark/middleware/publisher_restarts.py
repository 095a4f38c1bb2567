"""Memory that a restarting publisher leaves behind in a subscriber of plain rclpy.

    python -m benchmark.middleware.publisher_restarts [--minutes 5] [--every 2] [--events]

One node with three image subscriptions, none of this project's code; a camera process that is killed and started again.
The slope of the memory of the subscriber's process (RssAnon, least squares after the first minute) in KB per restart is
what the middleware keeps: the node's own soak (`python -m benchmark.soak`) cannot come below it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ros_ood_perception.launching.transport_environment import local_graph_environment
from ros_ood_perception.number_arguments import real
from ros_ood_perception.parent_process import ends_with_this_process

SETTLED_AFTER_S = 60.0


def own_memory_kb() -> float:
    """RssAnon of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


def camera() -> subprocess.Popen[bytes]:
    """A process that publishes one image a second."""
    command = [sys.executable, "-m", "benchmark.camera_process", "--topic", "/camera/image_raw"]
    return subprocess.Popen(
        ends_with_this_process([*command, "--rate", "1", "--size", "480", "640"]), stdout=subprocess.DEVNULL
    )


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=real(0.0, 1e6, above=True), default=5.0)
    parser.add_argument(
        "--every", type=real(0.0, 1e6, above=True), default=2.0, metavar="S", help="seconds between two restarts"
    )
    parser.add_argument("--events", action="store_true", help="subscribe with QoS event callbacks, as the node does")
    options = parser.parse_args()
    if options.every <= 0 or 60 * options.minutes < SETTLED_AFTER_S + 3 * options.every:
        parser.error("--every must be positive, and --minutes leave three restarts or more after the first minute")
    os.environ.update(local_graph_environment(os.environ))  # before rclpy starts here and in the children
    import rclpy
    from rclpy.event_handler import SubscriptionEventCallbacks
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node("bare_subscriber")
    heard = 0

    def on_image(_image: Image) -> None:
        nonlocal heard
        heard += 1

    for topic in ("/camera/image_raw", "/camera_1/image_raw", "/camera_2/image_raw"):
        callbacks = None
        if options.events:
            callbacks = SubscriptionEventCallbacks(message_lost=lambda _: None, matched=lambda _: None)
        node.create_subscription(Image, topic, on_image, qos_profile_sensor_data, event_callbacks=callbacks)
    restarts: list[float] = []
    memory: list[float] = []
    running, count, started = camera(), 0, time.monotonic()
    next_restart = started + options.every
    try:
        while (now := time.monotonic()) - started < 60 * options.minutes:
            rclpy.spin_once(node, timeout_sec=0.1)
            if now >= next_restart:
                next_restart += options.every
                running.kill()
                running.wait()
                running = camera()
                count += 1
                if now - started >= SETTLED_AFTER_S:
                    restarts.append(count)
                    memory.append(own_memory_kb())
    finally:
        running.kill()
        running.wait()
        node.destroy_node()
        rclpy.shutdown()
    slope = np.polyfit(restarts, memory, 1)[0]
    print(
        f"{count} restarts, {heard} images: {memory[0]:.0f} KB after the first minute, {memory[-1]:.0f} KB at the end, "
        f"{slope:.1f} KB a restart"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
