"""A declaration says all that a reader needs, and no other file names a parameter that is not declared."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ros_ood_perception.parameters.declarations import DECLARATIONS, Declaration
from ros_ood_perception.parameters.settings import fixed_settings, live_settings

ROOT = Path(__file__).resolve().parents[3]
DECLARED = {declaration.name: declaration for declaration in DECLARATIONS}
UNITS = {"_s": "s", "_ms": "ms", "_m": "m", "_deg": "degrees", "_hz": "Hz", "_pixels": "pixels"}
GROUPED = re.compile(r"\b(?:region|persistence|ground|mounting)\.(?!py\b)[a-z][a-z_]*[a-z]\b")
OF_EVERY_NODE = {"use_sim_time", "qos_overrides"}


class WatchedValues(dict[str, Any]):
    """The parameters' values; counts how often each was read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.reads: Counter[str] = Counter()

    def __getitem__(self, name: str) -> Any:
        self.reads[name] += 1
        return super().__getitem__(name)


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=lambda declaration: declaration.name)
def test_a_description_is_whole_sentences_and_names_the_unit(declaration: Declaration) -> None:
    text = declaration.full_description
    assert re.match(r"[A-Z`].*\.$", text), text
    assert "\n" not in text
    # Alone: it does not go on from another one's, and a sentence has about 20 words.
    assert not re.match(r"(And|Then|See|That|Those|It|Likewise)\b", text)
    sentences = re.split(r"(?<=[.:]) ", declaration.description)
    assert sum(len(sentence.split()) for sentence in sentences) / len(sentences) <= 20, text
    ending = re.search(r"_(s|ms|m|deg|hz|pixels)$", declaration.name)
    if ending:
        assert declaration.unit == UNITS[ending[0]]
    if declaration.unit:
        assert f"Unit: {declaration.unit}." in text
        assert declaration.bounds is not None


def test_every_default_is_within_its_own_bounds_and_choices() -> None:
    assert len(DECLARED) == len(DECLARATIONS)
    for declaration in DECLARATIONS:
        default = declaration.default_value
        for value in default if isinstance(default, tuple) else (default,):
            if declaration.bounds is not None:
                low, high = declaration.bounds
                assert isinstance(value, (int, float)), declaration.name
                assert low <= value <= high, declaration.name
            assert not declaration.one_of or value in declaration.one_of, declaration.name


def test_the_settings_read_every_parameter_and_no_other() -> None:
    values = WatchedValues({declaration.name: declaration.default_value for declaration in DECLARATIONS})
    values["bundle"] = "models/camvid_small"
    fixed_settings(values)
    live_settings(values)
    assert set(values.reads) == set(DECLARED)
    # Once to check it against its bounds, and again to use it. The node itself uses autostart, before it is configured.
    assert {name for name, reads in values.reads.items() if reads == 1} == {"autostart"}


def test_pages_name_only_parameters_that_are_declared() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    blocks = 0
    for page in pages:
        text = page.read_text()
        named = set(re.findall(rf"`({GROUPED.pattern})(?:[:=` ]|:=)", text))
        named |= set(re.findall(r"-p '?([a-z_.]+):=", text))
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
            parameters = yaml.safe_load(block)
            if isinstance(parameters, dict) and "/**" in parameters:
                blocks += 1
                named |= set(parameters["/**"]["ros__parameters"])
        assert named - OF_EVERY_NODE <= set(DECLARED), page
    assert blocks


def test_code_names_only_parameters_that_are_declared() -> None:
    files = [path for folder in ("ros_ood_perception", "launch", "demo", "benchmark") for path in python_files(folder)]
    assert len(files) > 100
    for file in files:
        named = {name for text in strings(ast.parse(file.read_text())) for name in GROUPED.findall(text)}
        assert named <= set(DECLARED), file


def test_launch_files_set_only_parameters_that_are_declared() -> None:
    [node] = [
        call
        for call in ast.walk(ast.parse((ROOT / "launch" / "perception.launch.py").read_text()))
        if isinstance(call, ast.FunctionDef) and call.name == "_start"
    ]
    named: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.keyword) and part.arg == "parameters":
            named |= {
                str(key.value)
                for d in ast.walk(part)
                if isinstance(d, ast.Dict)
                for key in d.keys
                if isinstance(key, ast.Constant)
            }
        elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and part.target.id == "parameters":
            named |= set(strings(part.value)) if part.value else set()
        elif isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name) and part.value.id == "parameters":
            named |= set(strings(part.slice))
    assert {"bundle", "engine", "cameras", "autostart"} <= named
    assert named - OF_EVERY_NODE <= set(DECLARED)


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def strings(tree: ast.AST) -> Iterator[str]:
    """The texts in a file, without the Python of examples in docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"^\s*(>>>|\.\.\.).*$", "", node.value, flags=re.MULTILINE)
