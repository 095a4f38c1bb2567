"""The message classes of rclpy, by the names of their types."""

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
    return message_class(type_name)(**fields)
