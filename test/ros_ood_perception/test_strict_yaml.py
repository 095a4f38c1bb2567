from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ros_ood_perception.strict_yaml import SchemaError, read_yaml


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0


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
        ("name: a\nnmae: b", r"file\.yaml: unknown key\(s\) nmae"),
        ("name: a\ninner: {rat: 1}", r"unknown key\(s\) rat"),
        ("sizes: [1, 2]", "'name' is missing"),
        ("name: 3", "'name' is 3 "),
        ("name: a\nsizes: [1, x]", "sizes"),
        ("name: a\ninner: {rate: fast}", "could not convert string to float: 'fast'"),
        ("name: a\ninner: {rate: true}", "expected a number, found True"),
        ("- name", "expected a mapping"),
        ("name: [", "not a readable YAML file"),
    ],
)
def test_errors_name_the_file_and_the_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        read(tmp_path, text)
