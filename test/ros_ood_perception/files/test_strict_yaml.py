from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from ros_ood_perception.files.strict_yaml import SchemaError, from_mapping, read_yaml


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
        (f"name: a\ninner: {{rate: 1{'0' * 400}}}", r"'10+\.\.\.0+' is a number .* of more than 64 characters"),
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
    with pytest.raises(SchemaError, match=r"file\.yaml: .*merge keys \(<<\) are not supported"):
        read(tmp_path, "name: a\ninner: {<<: {rate: 1}}")
    # a plain name is no merge key
    assert read(tmp_path, "name: a\ninner: {extra: {'<<': 1}}").inner.extra == {"<<": 1}


@pytest.mark.parametrize("levels", [2, 30])
@pytest.mark.parametrize(("first", "link"), [("[x]", "[*]"), ("{x: y}", "{p: [*]}"), ("{x: 1}", "{<<: [*]}")])
def test_aliases_are_refused_where_they_stand(tmp_path: Path, first: str, link: str, levels: int) -> None:
    # Nested thirty deep they have 9^30 parts, and whoever follows them never ends.
    with pytest.raises(SchemaError, match=r"file\.yaml: .*aliases \(\*a0\) are not supported(.|\n)*line 2") as caught:
        read(tmp_path, nested(first, link, levels))
    assert len(str(caught.value)) < 2000
    with pytest.raises(SchemaError, match=r"aliases \(\*a\)"):
        read(tmp_path, "name: &a [*a]")


@pytest.mark.parametrize(
    "text",
    [
        "name: a\nname: b",
        "name: a\ninner: {rate: 1, rate: 2}",
        "name: a\ninner: {extra: {1: a, 1.0: b}}",
        "{name: a, ? name : b}",
    ],
)
def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SchemaError, match=r"file\.yaml: .*the key .* is there twice; keep one"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "value", [".inf", "-.inf", ".nan", "1e400", "1.0e+400", "inf", "nan", "'1e400'", "1:30", "1:1:1.5", "9" * 65]
)
def test_a_number_that_is_not_finite_or_not_plain_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(SchemaError, match=r"file\.yaml: "):
        read(tmp_path, f"name: a\ninner: {{rate: {value}}}")
    with pytest.raises(SchemaError, match=r"file\.yaml: "):
        read(tmp_path, f"name: a\nsizes: [1, {value}]")


def test_numbers_in_base_60_end_at_once(tmp_path: Path) -> None:
    # A library that reads them takes time that grows with the square of their length.
    for value in ("59" + ":59" * 20_000, "1" + ":1" * 300 + ".5", f"0x{'f' * 5000}"):
        with pytest.raises(SchemaError, match=r"is a number in base 60 or of more than 64 characters"):
            read(tmp_path, f"name: a\ninner: {{limit: {value}}}")
    with pytest.raises(SchemaError, match=r"the field 'inner.limit' is 99+.*; it must fit in 64 bits"):
        read(tmp_path, f"name: a\ninner: {{limit: {'9' * 30}}}")


def test_endless_lists_are_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Listed:
        values: list[int]

    with pytest.raises(SchemaError, match="the field 'values' has 10001 items; at most 10000"):
        from_mapping({"values": [0] * 10_001}, Listed, "file")


def test_a_file_that_no_one_wrote_by_hand_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"file\.yaml: has 65537 bytes; at most 65536 are read"):
        read(tmp_path, "#" * (2**16 + 1))


def test_what_is_no_ordinary_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(SchemaError, match=r"pipe\.yaml: is a named pipe; put a regular file there"):
        read_yaml(tmp_path / "pipe.yaml", Outer)
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    with pytest.raises(SchemaError, match=r"zero\.yaml: is a device"):
        read_yaml(tmp_path / "zero.yaml", Outer)
    with pytest.raises(SchemaError, match=r"is a folder"):
        read_yaml(tmp_path, Outer)
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "nowhere.yaml", Outer)
