"""docs/bundle.md has every field of the schema, with its type and default."""

from __future__ import annotations

import dataclasses
import re
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from ros_ood_perception.bundle.description import BundleDescription

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "bundle.md").read_text()


def parts_of(schema: Any) -> list[Any]:
    """The dataclass and all that its fields hold."""
    found = [schema]
    for hint in get_type_hints(schema).values():
        for part in (hint, *get_args(hint)):
            if dataclasses.is_dataclass(part):
                found += parts_of(part)
    return found


def shown_type(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return f"{shown_type(arguments[0])} or null"
    if origin is Literal:
        return f"{', '.join(arguments[:-1])} or {arguments[-1]}"
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"list of {shown_type(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(map(shown_type, arguments))}]"
    return str(hint.__name__)


def shown_default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is dict:
        return "`{}`"
    if field.default is dataclasses.MISSING:
        return ""
    value = field.default
    text = {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))
    return f"`{list(value) if isinstance(value, tuple) else text}`"


@pytest.mark.parametrize("schema", parts_of(BundleDescription), ids=lambda schema: schema.__name__)
def test_the_page_has_the_fields_of_the_schema(schema: Any) -> None:
    section = re.split(r"^#+ ", PAGE.split(f"### {schema.__name__}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    hints = get_type_hints(schema)
    wanted = [[f"`{f.name}`", shown_type(hints[f.name]), shown_default(f)] for f in dataclasses.fields(schema)]
    assert [row[:3] for row in rows] == wanted
    assert all(row[3] for row in rows)


def test_the_page_has_no_part_that_the_schema_does_not_have() -> None:
    known = {part.__name__ for part in parts_of(BundleDescription)}
    assert sorted(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)) == sorted(known)
