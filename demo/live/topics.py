"""Names in the graph of the live part."""

from __future__ import annotations

from ros_ood_perception.messages.topics import OUTPUT_TOPICS

INPUT_TOPIC = "/camera/image_raw"
COMPRESSED = "/compressed"
"""Ending of the topic of compressed frames, as in image_transport."""
INFO_TOPIC = "/camera/camera_info"
NODE = "/perception_node"
IMAGE_TOPICS = {name: f"{NODE}/{OUTPUT_TOPICS[name]}" for name in ("semantic_mask", "anomaly_mask", "anomaly_score")}
"""Output name to topic, of the images that are recorded and compared."""
OBSTACLES_TOPIC = f"{NODE}/{OUTPUT_TOPICS['obstacles']}"
