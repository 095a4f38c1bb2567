from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from ros_ood_perception.strict_yaml import SchemaError, read_yaml


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0
    mode: Literal["up", "down"] = "up"
    limit: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"rate is {self.rate}; it must be positive")


@dataclass(frozen=True)
class Outer:
    name: str
    sizes: tuple[int, int] = (1, 2)
    inner: Inner = field(default_factory=Inner)


def read(tmp_path: Path, text: str) -> Outer:
    (tmp_path / "file.yaml").write_text(text)
    return read_yaml(tmp_path / "file.yaml", Outer)


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    outer = read(tmp_path, "name: a\nsizes: [3, 4]\ninner: {rate: 1e-3}")
    assert outer == Outer("a", (3, 4), Inner(0.001))
    assert read(tmp_path, "name: a\ninner: {rate: 2}").inner.rate == 2.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nnmae: b", r"file\.yaml: unknown key\(s\) nmae; the file can have name, sizes, inner"),
        ("name: a\ninner: {rat: 1}", r"unknown key\(s\) inner\.rat; the field 'inner' can have rate"),
        ("sizes: [1, 2]", "the field 'name' is missing"),
        ("name: 3", "the field 'name' is 3; it must be of the type str"),
        ("name: a\nsizes: [1, x]", r"the field 'sizes\[1\]' is 'x'; it must be of the type int"),
        ("name: a\nsizes: [1, true]", r"the field 'sizes\[1\]' is True"),
        ("name: a\nsizes: [1, 2, 3]", r"'sizes' must be a list of 2, found \[1, 2, 3\]"),
        ("name: a\nsizes: 4", "'sizes' must be a list, found 4"),
        ("name: a\ninner: {rate: fast}", "the field 'inner.rate' is 'fast'; it must be of the type float"),
        (f"name: a\ninner: {{rate: 1{'0' * 400}}}", "the field 'inner.rate' is 10+.*; it must be of the type float"),
        ("name: a\ninner: {rate: true}", "the field 'inner.rate' is True"),
        ("name: a\ninner: {rate: -1}", "in 'inner': rate is -1.0; it must be positive"),
        ("name: a\ninner: {mode: sideways}", "the field 'inner.mode' is 'sideways'; it must be one of up, down"),
        ("name: a\ninner: {extra: [1]}", "the field 'inner.extra' must be a mapping"),
        ("name: a\ninner: 3", "the field 'inner' must be a mapping"),
        ("- name", "the file must be a mapping"),
        ("name: [", "not a readable YAML file"),
    ],
)
def test_errors_name_the_file_and_the_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        read(tmp_path, text)


def test_optional_and_free_fields(tmp_path: Path) -> None:
    inner = read(tmp_path, "name: a\ninner: {limit: null, extra: {depths: [1, 2]}}").inner
    assert (inner.limit, inner.extra) == (None, {"depths": [1, 2]})
    assert read(tmp_path, "name: a\ninner: {limit: 3}").inner.limit == 3


def nested(first: str, link: str, levels: int) -> str:
    """Each line of nine times the line before it."""
    lines = [f"a0: &a0 {first}"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} " + link.replace("*", ", ".join([f"*a{level - 1}"] * 9)))
    return "\n".join(lines)


def test_merge_keys_are_refused_before_they_fill_memory(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"file\.yaml: .*merge keys \(<<\) are not supported(.|\n)*line 2"):
        read(tmp_path, nested("{x: 1}", "{<<: [*]}", 6))
    # a plain name is no merge key
    assert read(tmp_path, "name: a\ninner: {extra: {'<<': 1}}").inner.extra == {"<<": 1}


@pytest.mark.parametrize("field", ["  rate", "  mode", "  limit", "name", "sizes"])
@pytest.mark.parametrize(("first", "link"), [("[x]", "[*]"), ("{x: y}", "{p: [*]}")])
def test_nested_aliases_are_refused_at_once_and_in_few_words(tmp_path: Path, field: str, first: str, link: str) -> None:
    lists = "\n".join(f"    {line}" for line in nested(first, link, 30).splitlines())
    with pytest.raises(SchemaError, match=rf"'(inner\.)?{field.strip()}' (is|must be)") as caught:
        read(tmp_path, f"name: a\ninner:\n  extra:\n{lists}\n{field}: *a29")
    assert len(str(caught.value)) < 2000


def test_a_file_that_no_one_wrote_by_hand_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"file\.yaml: has 1048577 bytes; a YAML file of ours has at most 1048576"):
        read(tmp_path, "#" * (2**20 + 1))
