"""The message classes of rclpy by type name."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any


@lru_cache(maxsize=64)
def message_class(type_name: str) -> type[Any]:
    """The class of `PACKAGE/msg/NAME`.

    Raises:
        ImportError: its package is not installed.
    """
    package, _, name = type_name.split("/")
    return getattr(import_module(f"{package}.msg"), name)  # type: ignore[no-any-return]


def new_message(type_name: str, /, **fields: Any) -> Any:
    """See `message_factory.NewMessage`."""
    message = message_class(type_name)()
    # Not through the constructor: it copies an array item by item, 15 ms for a 1080p image instead of 0.5.
    for name, value in fields.items():
        setattr(message, name, value)
    return message
