"""What is wrong with one parameter's value or name, as a sentence with the remedy. Values of several parameters are
checked against each other in `settings`."""

from __future__ import annotations

import sys
from typing import Any

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.strict_yaml import shown
from ros_ood_perception.parameters.declarations import DECLARATIONS, TYPE_NAMES, Declaration
from ros_ood_perception.parameters.rcl_yaml import UnquotedNull
from ros_ood_perception.shown_text import nearest, printable

OF_EVERY_NODE = ("use_sim_time", "start_type_description_service", "qos_overrides")
"""Parameters, or groups of them, that ROS 2 declares on every node."""
LONGEST_NAME = 200
"""Characters of a name in a message."""
_NAMES = {bool: "a bool", int: "an integer", float: "a double", str: "a string"}


class ParameterError(PerceptionError, ValueError):
    """A parameter has a value that the node cannot work with. The message names it."""


def type_problem(declaration: Declaration, value: Any) -> str:
    """Why a value is not of the parameter's type, as ROS 2 sees it; empty where it is.

    Args:
        value: as `rcl_yaml` reads it. An empty list has no type, and is one of any.
    """
    default = declaration.default_value
    wanted = type(default[0] if isinstance(default, tuple) else default)
    of_list = isinstance(default, tuple)
    items = value if isinstance(value, (list, tuple)) else [value]
    if isinstance(value, (list, tuple)) == of_list and all(type(item) is wanted for item in items):
        return ""
    needed = TYPE_NAMES[declaration.type]
    found = _NAMES.get(type(items[0]), "a string") if items else "a list"
    if isinstance(value, (list, tuple)) and items:
        found = f"a list of {found.split()[-1]}s"
    if isinstance(value, UnquotedNull) or any(isinstance(item, UnquotedNull) for item in items):
        found = "the text of a null, which ROS 2 does not have"
    remedy = _remedy(value, wanted, of_list)
    return f"parameter '{declaration.name}' is {shown(value)}, {found}; it must be {needed}{remedy}"


def _remedy(value: Any, wanted: type, of_list: bool) -> str:
    """What to write instead, where it can be seen; with the sign before it."""
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    if wanted is str and not all(isinstance(item, str) for item in items):
        return ": write it in quotes" if not of_list else ": write each in quotes, in brackets"
    written = [_written(item, wanted) for item in items[:4]]
    if not items or None in written:
        return ""
    texts = [text for text in written if text is not None]
    if of_list:
        return f": write [{', '.join(texts)}{', ...' if len(items) > 4 else ''}]"
    return f": write {texts[0]}" if len(items) == 1 else ""


def _written(item: Any, wanted: type) -> str | None:
    if isinstance(item, UnquotedNull):
        return "''" if wanted is str else None
    if type(item) is wanted:
        return f"'{printable(str(item), 40)}'" if wanted is str else shown(item).lower()
    if wanted is float and type(item) is int and abs(item) <= 2**53:
        return f"{item}.0"
    if wanted is int and type(item) is float and item.is_integer() and abs(item) <= 2**53:
        return str(int(item))
    return _unquoted(item, wanted) if isinstance(item, str) else None


def _unquoted(text: str, wanted: type) -> str | None:
    """A number or bool that stands in quotes, or is written as Python has it (1_000)."""
    plain = text.strip().replace("_", "")
    if not plain.isascii() or len(plain) > 32:
        return None
    if wanted is bool:
        return plain.lower() if plain.lower() in ("true", "false") else None
    try:
        return str(int(plain)) if wanted is int else str(float(plain))
    except ValueError:
        return None


def range_problem(declaration: Declaration, value: Any) -> str:
    """Why a value of the right type is out of the parameter's range or none of its choices; empty where it is not."""
    low, high = declaration.bounds or (-sys.float_info.max, sys.float_info.max)
    for item in [value] if isinstance(value, (str, int, float)) else value:
        # The ranges of rclpy do not apply to the items of a list, and they accept NaN.
        if isinstance(item, (int, float)) and not isinstance(item, bool) and not low <= item <= high:
            return f"parameter '{declaration.name}' is {shown(value)}; it must be from {low:g} to {high:g}"
        if declaration.one_of and item not in declaration.one_of:
            near = nearest(str(item), declaration.one_of)
            return (
                f"parameter '{declaration.name}' is {shown(item)}; it must be one of {', '.join(declaration.one_of)}"
                f"{near}"
            )
    return ""


def unknown_name(name: str) -> str:
    """That the node has no such parameter, with the nearest ones."""
    near = nearest(name, [declaration.name for declaration in DECLARATIONS])
    return f"the node has no parameter '{printable(name, LONGEST_NAME)}'; correct or remove it{near}"


def is_of_every_node(name: str) -> bool:
    """Whether ROS 2 itself declares the parameter."""
    return name in OF_EVERY_NODE[:2] or name.partition(".")[0] == OF_EVERY_NODE[2]
