"""ROS 2 parameter files, read as `rcl_yaml_param_parser` reads them for a node.

Its rules are not those of YAML. `yes`, `on` and `y` are bools, `2e-4` is a number, `010` is 8, `1_000` and `~` are
texts, a list has values of one type. What it reads in a way that no writer means is refused here, with the line and the
remedy: a name that is there twice, an empty group, names beside `ros__parameters`, a parameter without a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ros_ood_perception.files.strict_yaml import LONGEST_NUMBER, SchemaError, shown, yaml_contents
from ros_ood_perception.shown_text import printable

Value = str | int | float | bool | list[str] | list[int] | list[float] | list[bool]
PARAMETERS_KEY = "ros__parameters"
DEEPEST = 16
"""Levels of a file. The node's own parameters need four."""
MOST_VALUES = 10_000
"""Of one list."""

_TRUE = frozenset(["Y", "y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"])
_FALSE = frozenset(["N", "n", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"])
_NULL = frozenset(["~", "null", "Null", "NULL"])
_TEXT_TAG = "tag:yaml.org,2002:str"
_WHITESPACE = " \t\n\v\f\r"
_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(r"[+-]?0[xX]([0-9a-fA-F]+(\.[0-9a-fA-F]*)?|\.[0-9a-fA-F]+)([pP][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(inf|infinity|nan(\([A-Za-z0-9_]*\))?)", re.IGNORECASE)
_NOT_FINITE_OF_YAML = re.compile(r"[+-]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_SMALLEST_NORMAL = 2.0**-1022
_LEVEL = re.compile(r"\*\*?|[A-Za-z_][A-Za-z0-9_]*")


class UnquotedNull(str):
    """A text that YAML reads as null. `rcl_yaml_param_parser` reads it as the text itself."""

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """The parameters that a file has for the nodes of one name.

    Attributes:
        name: such as `/**` or `/car/perception_node`, with a slash at the beginning.
        values: by name, `region.min_area`. An empty list has no type.
    """

    name: str
    values: dict[str, Value] = field(default_factory=dict)

    def matches(self, node: str) -> bool:
        """Whether the section applies to a node, `/car/perception_node`.

        `*` stands for one level and `**` for any number of levels.

        >>> Section("/**/perception_node").matches("/car/perception_node")
        True
        >>> Section("/perception_node").matches("/car/perception_node")
        False
        """
        levels = {"**": r"(/\w+)*", "*": r"/\w+"}
        pattern = "".join(levels.get(level, f"/{level}") for level in self.name.split("/")[1:])
        return re.fullmatch(pattern, node, re.ASCII) is not None


def read_sections(file: Path) -> tuple[Section, ...]:
    """The sections of a parameter file, in its order. Where several apply to a node, the last value counts.

    Raises:
        OSError: it cannot be read.
        SchemaError: see `yaml_contents` and `parse_sections`.
    """
    return parse_sections(yaml_contents(file), str(file))


def parse_sections(contents: bytes, source: str) -> tuple[Section, ...]:
    """The sections of a parameter file's contents.

    Args:
        source: name of the file in errors.

    Raises:
        SchemaError: it cannot be read, or would not be read as it is meant. The message names file, line and remedy.

    >>> parse_sections(b"/**: {ros__parameters: {region: {min_area: 2e-4}}}", "a.yaml")
    (Section(name='/**', values={'region.min_area': 0.0002}),)
    """
    sections: list[Section] = []
    try:
        for document in _documents(contents):
            sections += _sections_of(document, "", 0)
        _check_once(sections)
    except _NotReadError as error:
        raise SchemaError(f"{source}{error}") from error
    return tuple(sections)


def parse_value(text: str, source: str) -> Value:
    """A value as it is written behind `-p name:=`.

    Raises:
        SchemaError: it is none.

    >>> parse_value("[front, rear]", "-p cameras")
    ['front', 'rear']
    """
    try:
        documents = list(_documents(text.encode(errors="surrogatepass")))
        if len(documents) != 1:
            raise _NotReadError(0, "there is no value; write '' for an empty text")
        return _value(documents[0], "the value")
    except _NotReadError as error:
        raise SchemaError(f"{source}: {error.explanation}") from error


def scalar_value(text: str, quoted: bool = False) -> str | int | float | bool:
    """A single value by the rules of `rcl_yaml_param_parser`.

    Args:
        quoted: it stands in quotes, or has the tag `!!str`.

    >>> [scalar_value(text) for text in ("2e-4", "20", "1_000", "010", "on", ".inf")]
    [0.0002, 20, '1_000', 8, True, inf]
    """
    if quoted:
        return text
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text in _NULL:
        return UnquotedNull(text)
    number = _number(text.lstrip(_WHITESPACE))
    return text if number is None else number


def _number(text: str) -> int | float | None:
    """As strtoll with base 0 reads it, or else strtod; None where both refuse it."""
    # Python's time for an integer grows with the square of its length; a longer one does not fit in 64 bits.
    if len(text) <= LONGEST_NUMBER and _INTEGER.fullmatch(text):
        digits = text.lstrip("+-")
        octal = len(digits) > 1 and digits[1] not in "xX" and digits[0] == "0"
        whole = (-1 if text[0] == "-" else 1) * int(digits, 8 if octal else 0)
        if -(2**63) <= whole < 2**63:
            return whole
    if _NOT_FINITE.fullmatch(text) or _NOT_FINITE_OF_YAML.fullmatch(text):
        return float(text.replace(".", "").partition("(")[0])
    if _DECIMAL.fullmatch(text):
        value, zero = float(text), not re.search("[1-9]", text.lower().partition("e")[0])
    elif _HEXADECIMAL.fullmatch(text):
        try:
            value, zero = (
                float.fromhex(text),
                not re.search("[1-9a-f]", text.lower().partition("x")[2].partition("p")[0]),
            )
        except OverflowError:
            return None
    else:
        return None
    # What is too large or too small for a double stays a text.
    return value if zero or _SMALLEST_NORMAL <= abs(value) < float("inf") else None


class _NotReadError(Exception):
    """With the line, from 1; 0: none."""

    def __init__(self, line: int, explanation: str) -> None:
        self.line, self.explanation = line, explanation
        super().__init__(line, explanation)

    def __str__(self) -> str:
        return f": line {self.line}: {self.explanation}" if self.line else f": {self.explanation}"


@dataclass(frozen=True)
class _Node:
    """Content of a document: a scalar's text, a list, or a mapping of names to nodes, and where it stands.

    `tagged` is whether it has the tag `!!str`.
    """

    content: str | list[_Node] | dict[str, _Node]
    line: int
    quoted: bool = False
    tagged: bool = False


def _documents(contents: bytes) -> Iterator[_Node]:
    try:
        # The pure Python parser, which every installation has: the same file is read the same way everywhere.
        events = yaml.parse(contents, yaml.SafeLoader)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if event.version not in (None, (1, 1)):
                    raise _NotReadError(1, "ROS 2 reads YAML 1.1 only; remove the line %YAML")
            elif isinstance(event, yaml.NodeEvent):
                yield _node(event, events, 0)
    except _NotReadError:
        raise
    except Exception as error:  # PyYAML raises many kinds: for bytes that are not UTF-8, or escapes of no character
        # The error quotes the file.
        quoted = "\n".join(printable(line) for line in str(error).split("\n"))
        raise _NotReadError(0, f"not a readable YAML file: {quoted}") from error


def _node(event: Any, events: Iterator[Any], depth: int, in_brackets: bool = False) -> _Node:
    line: int = event.start_mark.line + 1
    if depth > DEEPEST:
        raise _NotReadError(line, f"more than {DEEPEST} levels; no parameter has so many")
    if isinstance(event, yaml.AliasEvent):
        raise _NotReadError(
            line, f"aliases (*{printable(str(event.anchor), 40)}) are not supported; write the value out"
        )
    if isinstance(event, yaml.ScalarEvent):
        if "\0" in event.value:
            raise _NotReadError(line, f"{shown(event.value)} holds a zero byte; remove it")
        if in_brackets and not event.style and ":" in event.value:
            raise _NotReadError(
                line,
                f"{shown(event.value)} has a colon within brackets, which not every ROS 2 reads; write it in quotes",
            )
        return _Node(event.value, line, event.style in ("'", '"'), event.tag == _TEXT_TAG)
    if isinstance(event, yaml.SequenceStartEvent):
        items: list[_Node] = []
        while not isinstance(inner := next(events), yaml.SequenceEndEvent):
            items.append(_node(inner, events, depth + 1, bool(event.flow_style)))
            if len(items) > MOST_VALUES:
                raise _NotReadError(line, f"a list has more than {MOST_VALUES} values; shorten it")
        return _Node(items, line)
    return _mapping(line, events, depth, bool(event.flow_style))


def _mapping(line: int, events: Iterator[Any], depth: int, in_brackets: bool) -> _Node:
    found: dict[str, _Node] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _node(event, events, depth + 1, in_brackets)
        if not isinstance(key.content, str) or not key.content:
            raise _NotReadError(key.line, "a name is empty or not a text; write NAME: VALUE")
        if key.content == "<<" and not key.quoted:
            raise _NotReadError(key.line, "merge keys (<<) are not supported; write the keys out")
        if key.content in found:
            raise _NotReadError(key.line, f"the key {shown(key.content)} is there twice; keep one")
        found[key.content] = _node(next(events), events, depth + 1, in_brackets)
    return _Node(found, line)


def _sections_of(node: _Node, prefix: str, depth: int) -> Iterator[Section]:
    """The sections in a mapping. Namespaces can be levels of the file."""
    if not isinstance(node.content, dict):
        raise _NotReadError(
            node.line, f"{_named(prefix)} is no mapping; it must contain /**: {PARAMETERS_KEY}: and the parameters"
        )
    if prefix and not node.content:
        raise _NotReadError(node.line, f"{_named(prefix)} is empty; it must contain {PARAMETERS_KEY}:")
    for key, content in node.content.items():
        if key.startswith(PARAMETERS_KEY):
            if key != PARAMETERS_KEY or not prefix:
                raise _NotReadError(content.line, f"{shown(key)} must be {PARAMETERS_KEY}, below the name of a node")
            if len(node.content) > 1:
                others = next(name for name in node.content if name != key)
                raise _NotReadError(
                    content.line,
                    f"{_named(prefix)} has {shown(others)} beside {PARAMETERS_KEY}, which ROS 2 reads as another "
                    "section or not at all; write it below a name of its own",
                )
            yield _section(prefix, content)
        else:
            yield from _sections_of(content, f"{prefix}/{key}" if prefix else f"/{key.removeprefix('/')}", depth + 1)


def _section(name: str, node: _Node) -> Section:
    wrong = next((level for level in name.split("/")[1:] if not _LEVEL.fullmatch(level)), None)
    if wrong is not None:
        raise _NotReadError(
            node.line,
            f"{_named(name)} is no name of a node; each level must be *, **, or letters, digits and underscores, with "
            "one slash before it",
        )
    if not isinstance(node.content, dict):
        raise _NotReadError(node.line, f"{PARAMETERS_KEY} of {_named(name)} is no mapping; write NAME: VALUE below it")
    return Section(name, dict(_parameters(node.content, "")))


def _parameters(values: dict[str, _Node], prefix: str) -> Iterator[tuple[str, Value]]:
    """Groups become prefixes. A name can be written with or without its group, once."""
    seen: set[str] = set()
    for key, node in values.items():
        name = f"{prefix}{key}"
        if isinstance(node.content, dict):
            if not node.content:
                raise _NotReadError(node.line, f"the group '{printable(name, 200)}' is empty; remove it")
            inner = list(_parameters(node.content, f"{name}."))
        else:
            inner = [(name, _value(node, f"parameter '{printable(name, 200)}'"))]
        for found, value in inner:
            if found in seen:
                raise _NotReadError(node.line, f"parameter '{printable(found, 200)}' is there twice; keep one")
            seen.add(found)
            yield found, value


def _value(node: _Node, named: str) -> Value:
    if isinstance(node.content, str):
        if not node.content and not node.quoted:
            raise _NotReadError(node.line, f"{named} has no value; write one, '' for an empty text, or remove the name")
        return scalar_value(node.content, node.quoted or node.tagged)
    if isinstance(node.content, dict):
        raise _NotReadError(node.line, f"{named} is a mapping; it must be a single value or a list")
    items: list[Any] = []
    for item in node.content:
        if not isinstance(item.content, str):
            raise _NotReadError(item.line, f"{named} holds a list or a mapping; a list must hold single values")
        items.append(_value(item, f"an item of {named}"))
        if _kind(items[-1]) is not _kind(items[0]):
            raise _NotReadError(
                item.line,
                f"{named} holds {_described(items[0])} and {_described(items[-1])}; ROS 2 needs a list of one type: "
                "write numbers all with a decimal point (1.0) or all without, and texts in quotes",
            )
    return items


def _kind(value: Any) -> type:
    return str if isinstance(value, str) else type(value)


def _described(value: Any) -> str:
    names = {str: "a string", bool: "a bool", int: "an integer", float: "a double"}
    return f"{shown(value)} ({names[_kind(value)]})"


def _named(section: str) -> str:
    return f"the section '{printable(section, 200)}'" if section else "the file"


def _check_once(sections: list[Section]) -> None:
    names = [section.name for section in sections]
    for name in names:
        if names.count(name) > 1:
            raise _NotReadError(0, f"{_named(name)} is there twice; write its parameters in one place")
