"""`vision_msgs/LabelInfo`: the class of each id in the masks. Knows no ROS."""

from __future__ import annotations

from typing import Any

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.messages.message_factory import NewMessage

ANOMALY_ID = 254
"""Id of anomalous pixels in `mask_with_anomaly`. No bundle has so many classes, and 255 means unlabelled."""


def label_info(new: NewMessage, description: BundleDescription, anomaly_threshold: float, header: Any) -> Any:
    """The classes of a bundle, and "anomaly", as a LabelInfo.

    `threshold` of the message is the least confidence at which a pixel's class counts. The confidence is 1 - anomaly
    score, so a pixel is anomalous below 1 - anomaly_threshold.

    Raises:
        ImportError: `new` is rclpy's, and vision_msgs is not installed.
    """
    entries = [(c.id, c.name) for c in description.classes] + [(ANOMALY_ID, "anomaly")]
    return new(
        "vision_msgs/msg/LabelInfo",
        header=header,
        class_map=[new("vision_msgs/msg/VisionClass", class_id=number, class_name=name) for number, name in entries],
        threshold=1.0 - anomaly_threshold,
    )
