"""vision_msgs/LabelInfo: which class each id of the masks is. vision_msgs is not installed everywhere."""

from __future__ import annotations

from typing import Any

from builtin_interfaces.msg import Time

from ros_ood_perception.bundle import BundleDescription

ANOMALY_ID = 254
"""Id of anomalous pixels in `mask_with_anomaly`; no bundle has so many classes, and 255 means unlabelled."""


def label_info_type() -> type[Any] | None:
    """The message's class, or None where vision_msgs is not installed."""
    try:
        from vision_msgs.msg import LabelInfo
    except ImportError:
        return None
    return LabelInfo  # type: ignore[no-any-return]


def label_info(description: BundleDescription, anomaly_threshold: float, stamp: Time, frame_id: str) -> Any:
    """The classes of a bundle, and "anomaly" besides, as a LabelInfo.

    `threshold` is the least confidence at which a pixel's class counts: the confidence is 1 - anomaly score, so below
    1 - anomaly_threshold the pixel is anomalous.
    """
    from vision_msgs.msg import LabelInfo, VisionClass

    message = LabelInfo()
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    entries = [(c.id, c.name) for c in description.classes] + [(ANOMALY_ID, "anomaly")]
    message.class_map = [VisionClass(class_id=class_id, class_name=name) for class_id, name in entries]
    message.threshold = 1.0 - anomaly_threshold
    return message
