"""The topics of a camera: its inputs, and its outputs by name."""

from __future__ import annotations

OBSTACLE_TOPICS = {
    "obstacles": "output/anomaly/obstacles",
    "obstacle_markers": "output/anomaly/obstacle_markers",
    "obstacle_detections": "output/anomaly/detections",
    "free_ground": "output/ground/free",
    "ground_grid": "output/ground/grid",
}

OUTPUT_TOPICS = {
    "semantic_mask": "output/semantic/mask",
    "semantic_mask_with_anomaly": "output/semantic/mask_with_anomaly",
    "semantic_confidence": "output/semantic/confidence",
    "label_info": "output/semantic/label_info",
    "anomaly_mask": "output/anomaly/mask",
    "anomaly_score": "output/anomaly/score",
    **OBSTACLE_TOPICS,
    "overlay": "debug/overlay",
    "anomaly_heat_map": "debug/anomaly_heat_map",
}
"""Name (as in the parameter `outputs`) to topic below `~/` or `~/CAMERA/`."""

ON_THE_GROUND = frozenset(OBSTACLE_TOPICS) - {"obstacle_detections"}
"""Outputs in the vehicle's frame. They are left out while the camera's place over the ground is not known."""

OF_OBSTACLES = frozenset(OBSTACLE_TOPICS) - {"free_ground", "ground_grid"}
"""Outputs of regions that persist. They are empty until one does."""

CAMERA_INFO_TOPIC = "input/camera_info"
STATE_TOPIC = "output/state"
INPUT_TOPICS = {"raw": "input/image", "compressed": "input/image/compressed"}
"""By image_transport."""


def camera_topic(camera: str, topic: str) -> str:
    """The private topic of a camera. A camera without a name has no level of its own."""
    return f"~/{camera}/{topic}" if camera else f"~/{topic}"
