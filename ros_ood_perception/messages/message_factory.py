"""How messages are made where it must not matter whose classes they are: rclpy's in the node, those of `rosbags` in a
replay. What is in a message is said once, and is the same in both."""

from __future__ import annotations

from typing import Any, Protocol


class NewMessage(Protocol):
    """Makes a message of the type `PACKAGE/msg/NAME`. Fields that are not given have the value zero, or are empty.

    Arrays of numbers are given as `array.array`: rclpy takes it as it is, and checks a list or an ndarray item by item.
    """

    def __call__(self, type_name: str, /, **fields: Any) -> Any: ...
