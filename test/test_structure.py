"""Folders and functions stay small enough to be read. What may import what is in pyproject.toml, for lint-imports."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("ros_ood_perception", "launch", "training", "sample_drive", "demo", "fleet", "benchmark")
MOST_MODULES = 13
"""About a dozen, without `__init__.py`."""
ONE_FILE_A_DATA_SET = "training/data/sets"
MOST_LINES = 60
DRAWING = ("sample_drive/rendering/", "sample_drive/scene/", "sample_drive/ray_casting.py")
"""A picture is drawn in one go; its function may be as long as what it draws."""

FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_folder_holds_more_modules_than_can_be_taken_in_at_once() -> None:
    modules = Counter(path.parent.relative_to(ROOT).as_posix() for path in FILES if path.name != "__init__.py")
    assert len(modules) > 20
    del modules[ONE_FILE_A_DATA_SET]
    assert {folder: count for folder, count in modules.items() if count > MOST_MODULES} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_function_is_longer_than_a_screen(folder: str) -> None:
    too_long = {}
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(f"{folder}/") or name.startswith(DRAWING):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_LINES:
                    too_long[f"{name}: {node.name}"] = lines
    assert too_long == {}
