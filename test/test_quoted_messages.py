"""The pages on operation and troubleshooting quote states, counts and messages that the node really has."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import get_args

import pytest

ROOT = Path(__file__).resolve().parents[1]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text()

FOREIGN = ("failed to send response (timeout)", "Timeout (0:00:")
"""Messages of the middleware and of Python's faulthandler."""
PLACEHOLDER = "\0"


def first_column(page: str, heading: str) -> set[str]:
    """The names in backticks in the first column of the tables below a heading."""
    section = re.split(r"^#+ ", page.split(f" {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return {name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)}


@lru_cache(maxsize=1)
def texts_of_the_code() -> list[str]:
    """Every string of the vehicle's package; what is filled in is `PLACEHOLDER`."""
    found = []
    for path in (ROOT / "ros_ood_perception").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [str(p.value) if isinstance(p, ast.Constant) else PLACEHOLDER for p in node.values]
                found.append("".join(parts))
    return found


def is_said(quote: str) -> bool:
    """Whether one string of the code has all parts of a quotation, in order; `...` and `N` stand for anything."""
    parts = [part.strip() for part in re.split(r"\.\.\.|\bN\b", quote)]
    pattern = re.compile(".*".join(re.escape(part) for part in parts if part), re.DOTALL)
    return any(pattern.search(text) for text in texts_of_the_code())


def test_the_table_of_states_has_the_states_of_a_camera() -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from ros_ood_perception.node.health.health import State

    assert first_column(OPERATIONS, "Health") == set(get_args(State))


def test_the_table_of_counts_has_the_counts_of_the_accounting() -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from ros_ood_perception.node.frames.accounting import AccountingSnapshot

    names = [field.name for field in fields(AccountingSnapshot)]
    assert first_column(OPERATIONS, "Accounting") == set(names)
    assert f"`sent = {' + '.join(names[1:])}`" in OPERATIONS


def test_every_kind_of_implausible_frame_is_one_that_the_node_tells() -> None:
    kinds = first_column(OPERATIONS, "Implausible frames")
    assert len(kinds) == 6
    assert kinds <= set(texts_of_the_code())


def test_every_message_that_troubleshooting_quotes_is_in_the_code() -> None:
    quotes = re.findall(r'"([^"\n]+)"', TROUBLESHOOTING)
    assert len(quotes) > 15
    missing = [quote for quote in quotes if not quote.startswith(FOREIGN) and not is_said(quote)]
    assert missing == []
