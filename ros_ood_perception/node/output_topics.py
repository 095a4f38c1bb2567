"""Names and topics of what a camera's results are published as."""

from __future__ import annotations

OUTPUT_TOPICS = {
    "semantic_mask": "output/semantic/mask",
    "semantic_mask_with_anomaly": "output/semantic/mask_with_anomaly",
    "semantic_confidence": "output/semantic/confidence",
    "label_info": "output/semantic/label_info",
    "anomaly_mask": "output/anomaly/mask",
    "anomaly_score": "output/anomaly/score",
    "overlay": "debug/overlay",
}
"""Name, as in the parameter `outputs`, to topic below `~/` or `~/CAMERA/`."""

STATE_TOPIC = "output/state"
INPUT_TOPICS = {"raw": "input/image", "compressed": "input/image/compressed"}
"""By image_transport."""


def camera_topic(camera: str, topic: str) -> str:
    """The private topic of a camera; the camera without a name has no level of its own."""
    return f"~/{camera}/{topic}" if camera else f"~/{topic}"
