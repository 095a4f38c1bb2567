"""Messages without ROS, in the classes of `rosbags`; see `message_factory.NewMessage`."""

from __future__ import annotations

import array
import os
from functools import lru_cache
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

VISION_MSGS = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    "vision_msgs/msg/LabelInfo": "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n",
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y\n",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta\n",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n"
    ),
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox2D bbox\n"
        "string id\n"
    ),
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections\n",
}
"""Definitions of vision_msgs 4 (Humble and later), which `rosbags` lacks."""

_STRINGS = ("string", "wstring")


def typestore_of_this_distribution() -> Any:
    """A new typestore with the message definitions of this ROS 2 distribution (`ROS_DISTRO`) and vision_msgs.

    Without a known distribution, they are the newest. Each caller gets its own, and may register more types.
    """
    wanted = f"ros2_{os.environ.get('ROS_DISTRO', '')}"
    typestore = get_typestore(Stores(wanted) if wanted in {store.value for store in Stores} else Stores.LATEST)
    for name, definition in VISION_MSGS.items():
        if name not in typestore.fielddefs:
            typestore.register(get_types_from_msg(definition, name))
    return typestore


class MessageTypes:
    """Makes and serialises messages; an instance is a `NewMessage`.

    Args:
        typestore: a typestore of `rosbags`; None: that of this distribution.
    """

    def __init__(self, typestore: Any = None) -> None:
        self.typestore = typestore or typestore_of_this_distribution()

    def __call__(self, type_name: str, /, **fields: Any) -> Any:
        """See `message_factory.NewMessage`."""
        given = {name: _as_ndarray(value) for name, value in fields.items()}
        missing = {name: self._empty(kind) for name, kind in self._fields(type_name) if name not in given}
        return self.typestore.types[type_name](**given, **missing)

    def serialized(self, message: Any) -> bytes:
        """The message as little-endian CDR."""
        return bytes(self.typestore.serialize_cdr(message, message.__msgtype__))

    def _fields(self, type_name: str) -> Any:
        return self.typestore.fielddefs[type_name][1]

    def _empty(self, kind: Any) -> Any:
        node, detail = kind
        if node == Nodetype.NAME:
            return self(detail)
        if node == Nodetype.BASE:
            return _zero(detail[0])
        element, length = detail
        length = length if node == Nodetype.ARRAY else 0
        if element[0] == Nodetype.BASE and element[1][0] not in _STRINGS:
            return np.zeros(length, _dtype(element[1][0]))
        return [self._empty(element) for _ in range(length)]


@lru_cache(maxsize=1)
def message_types() -> MessageTypes:
    """The messages of this distribution; made once."""
    return MessageTypes()


def _zero(name: str) -> Any:
    if name in _STRINGS:
        return ""
    return False if name == "bool" else 0.0 if name.startswith("float") else 0


def _dtype(name: str) -> Any:
    return np.dtype({"octet": "uint8", "byte": "uint8", "char": "uint8"}.get(name, name))


def _as_ndarray(value: Any) -> Any:
    if isinstance(value, array.array):
        return np.frombuffer(value, value.typecode) if len(value) else np.zeros(0, value.typecode)
    return value
