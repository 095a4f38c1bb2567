"""How messages are made with the classes of rclpy in the node, and with those of `rosbags` in a replay.

So the contents of a message are written in one place, and are the same in both.
"""

from __future__ import annotations

from typing import Any, Protocol


class NewMessage(Protocol):
    """Makes a message of the type `PACKAGE/msg/NAME`. Fields that are not given are zero or empty.

    Arrays of numbers are given as `array.array`: rclpy uses it as it is, but checks a list or ndarray item by item.
    """

    def __call__(self, type_name: str, /, **fields: Any) -> Any: ...
