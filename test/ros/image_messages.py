"""Arrays to sensor_msgs/Image, as rclpy has it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ros_ood_perception.messages.results import image_message
from ros_ood_perception.node.middleware.message_classes import new_message


def to_message(image: NDArray[Any], encoding: str, header: Header) -> Image:
    """An array as a message with the given header.

    Args:
        image: (H, W) or (H, W, C) uint8 or float32.
        encoding: what the array holds (`mono8`, `rgb8`, `32FC1`).
    """
    return image_message(new_message, np.asarray(image), encoding, header)
