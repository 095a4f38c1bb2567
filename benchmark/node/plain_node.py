"""A node as most are written, to compare with: cv_bridge in and out, all work in the subscription's callback, depth 10.

    python -m benchmark.node.plain_node --name NAME --bundle FOLDER --cameras NAME ... --outputs semantic/mask ...
      [--transport raw] [--threads N]

It runs the same engine and finds the same obstacles. It checks nothing, and counts nothing.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from cv_bridge import CvBridge
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.messages.obstacles import ground_header, point_cloud
from ros_ood_perception.node.middleware.message_classes import new_message
from ros_ood_perception.obstacles.ground import CameraPose
from ros_ood_perception.obstacles.point_cloud import obstacle_points
from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.parameters.settings import live_settings
from ros_ood_perception.pipeline.camera_pipeline import CameraPipeline, CameraSetup

OUTPUTS = ("semantic/mask", "anomaly/mask", "anomaly/score", "anomaly/obstacles")
DEPTH = 10
MOUNTING = CameraPose.from_mounting(1.5)
POINT_HEIGHT_M = 0.5


class PlainNode(Node):
    """One subscription and its publishers for each camera."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options.name)
        self._bridge = CvBridge()
        bundle = read_bundle(options.bundle)
        self._order = bundle.description.input.colour_order
        engine = open_engine(bundle, "onnxruntime", options.threads)
        kind, suffix = (Image, "") if options.transport == "raw" else (CompressedImage, "/compressed")
        self._outputs: dict[str, dict[str, Any]] = {}
        self._pipelines: dict[str, CameraPipeline] = {}
        defaults = live_settings({declared.name: declared.default_value for declared in DECLARATIONS})
        settings = defaults.pipeline_settings(bundle.description)
        for camera in options.cameras:
            own = f"/{options.name}/{camera}"
            self._pipelines[camera] = CameraPipeline(
                engine,
                len(bundle.description.classes),
                bundle.description.input,
                settings,
                CameraSetup(mounting=MOUNTING),
            )
            self._outputs[camera] = {
                output: self.create_publisher(
                    PointCloud2 if output == "anomaly/obstacles" else Image, f"{own}/output/{output}", DEPTH
                )
                for output in options.outputs
            }
            self.create_subscription(CameraInfo, f"{own}/camera_info", self._pipelines[camera].set_camera_info, DEPTH)
            self.create_subscription(kind, f"{own}/image_raw{suffix}", partial(self._on_image, camera), DEPTH)

    def _on_image(self, camera: str, message: Image | CompressedImage) -> None:
        wanted = f"{self._order}8"
        if isinstance(message, Image):
            image = self._bridge.imgmsg_to_cv2(message, desired_encoding=wanted)
        else:
            image = self._bridge.compressed_imgmsg_to_cv2(message, desired_encoding=wanted)
        stamp = message.header.stamp
        stamp_ns = stamp.sec * 10**9 + stamp.nanosec
        result = self._pipelines[camera](np.asarray(image), stamp_ns, message.header.frame_id)
        seen = result.perception
        height, width = seen.frame_size
        mask = cv2.resize(seen.engine_semantic, (width, height), interpolation=cv2.INTER_NEAREST)
        score = cv2.resize(seen.engine_anomaly_score, (width, height))
        pictures = {
            "semantic/mask": mask,
            "anomaly/mask": np.where(score >= seen.anomaly_threshold, 255, 0).astype(np.uint8),
            "anomaly/score": (score * 255).astype(np.uint8),
        }
        for output, publisher in self._outputs[camera].items():
            if output == "anomaly/obstacles":
                header = ground_header(new_message, stamp, "base_link")
                publisher.publish(point_cloud(new_message, obstacle_points(result.obstacles, POINT_HEIGHT_M), header))
            else:
                # Older versions of cv_bridge take no header.
                picture = self._bridge.cv2_to_imgmsg(pictures[output], "mono8")
                picture.header = message.header
                publisher.publish(picture)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cameras", nargs="+", required=True)
    parser.add_argument("--outputs", nargs="+", choices=OUTPUTS, required=True)
    parser.add_argument("--transport", choices=("raw", "jpeg", "png"), default="raw")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    rclpy.init(args=[])
    node = PlainNode(options)
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


if __name__ == "__main__":
    main()
