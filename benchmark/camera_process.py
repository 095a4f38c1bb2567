"""A camera in its own process: publishes frames at a rate until it is stopped, then prints their number.

    python -m benchmark.camera_process --topic /front/image_raw --rate 10 [--size 480 640] [--compressed jpeg]

Prints `ready` once there is a subscriber, and `sent N` at the end (SIGTERM, SIGINT).
"""

from __future__ import annotations

import argparse
import array
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from ros_ood_perception.number_arguments import real, whole

DISTINCT_FRAMES = 20
DISCOVERY_SETTLES_S = 0.5


def pictures(size: tuple[int, int], seed: int | None = None, folder: Path | None = None) -> list[NDArray[np.uint8]]:
    """(H, W, 3) uint8 BGR frames: of coarse noise, all different and the same for the same seed, or of a folder.

    Args:
        folder: of images, which are spread over it and resized; None: noise.

    Raises:
        ValueError: the folder holds no image.
    """
    if folder is not None:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
        if not paths:
            raise ValueError(f"{folder} holds no image (.jpg, .png, .webp); give a folder of frames")
        chosen = paths[:: max(1, len(paths) // DISTINCT_FRAMES)][:DISTINCT_FRAMES]
        return [np.asarray(cv2.resize(cv2.imread(str(path)), size[::-1]), np.uint8) for path in chosen]
    generator = np.random.default_rng(seed)
    coarse = (generator.integers(0, 180, (size[0] // 8, size[1] // 8, 3), np.uint8) for _ in range(DISTINCT_FRAMES))
    return [np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8) for image in coarse]


def messages(
    size: tuple[int, int], compressed: str | None, seed: int | None = None, folder: Path | None = None
) -> list[Image | CompressedImage]:
    """`pictures` as bgr8 messages without stamp and frame_id."""
    found: list[Image | CompressedImage] = []
    for image in pictures(size, seed, folder):
        if compressed:
            data = cv2.imencode(f".{compressed}", image)[1].tobytes()
            found.append(CompressedImage(format=f"bgr8; {compressed} compressed bgr8", data=data))
        else:
            pixels = array.array("B")
            pixels.frombytes(image.data.cast("B"))
            found.append(Image(height=size[0], width=size[1], encoding="bgr8", step=size[1] * 3, data=pixels))
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rate", type=real(0.0, 1e6, above=True), default=10.0, help="frames a second")
    parser.add_argument("--size", type=whole(1, 10**6), nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--compressed", choices=("jpeg", "png"))
    parser.add_argument("--best-effort", action="store_true", help="as most drivers; the default is reliable")
    options = parser.parse_args()
    stopped = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node("camera_" + options.topic.strip("/").replace("/", "_"))
    reliability = ReliabilityPolicy.BEST_EFFORT if options.best_effort else ReliabilityPolicy.RELIABLE
    kind = CompressedImage if options.compressed else Image
    publisher = node.create_publisher(kind, options.topic, QoSProfile(depth=5, reliability=reliability))
    frames = messages(tuple(options.size), options.compressed)
    while not publisher.get_subscription_count() and not stopped:
        time.sleep(0.02)
    # The subscriber learns of the publisher a little later than the publisher of it.
    time.sleep(DISCOVERY_SETTLES_S)
    print("ready", flush=True)
    sent, due = 0, time.monotonic()
    while not stopped:
        message = frames[sent % len(frames)]
        message.header.stamp = node.get_clock().now().to_msg()
        message.header.frame_id = options.topic.split("/")[1]
        publisher.publish(message)
        sent += 1
        due += 1.0 / options.rate
        time.sleep(max(0.0, due - time.monotonic()))
    # Messages under way arrive before the publisher is gone.
    time.sleep(DISCOVERY_SETTLES_S)
    print(f"sent {sent}", flush=True)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
