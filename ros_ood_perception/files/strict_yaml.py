"""YAML files into frozen dataclasses: unknown keys and wrong types are errors that name the file and the field.

No library that does this has a rosdep key on every supported distribution, and a vehicle must be installable with
rosdep alone.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import reprlib
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.plain_file import NotPlainError, read_plain_file

Dataclass = TypeVar("Dataclass")

LARGEST_FILE_BYTES = 1 << 16
"""Far more than any file of ours has; parsing takes three seconds at most."""
LONGEST_NUMBER = 64
"""Characters. Python and YAML take time that grows with the square of a number's length."""
MOST_ITEMS = 10_000
"""Of one list."""


class SchemaError(PerceptionError, ValueError):
    """A file that does not match its schema. The message names the file, the field and the remedy."""


def from_mapping(data: Any, schema: type[Dataclass], source: str) -> Dataclass:
    """Build a dataclass from plain data.

    Args:
        data: the content of a YAML or JSON file.
        schema: a dataclass whose fields are str, int, float, bool, Literal, tuple, list, dict, Any, dataclasses, or
            optional ones of these. A tuple is written as a list.
        source: name of the data in errors, usually the file's path.

    Raises:
        SchemaError: unknown key, missing key, wrong type, or a value that the dataclass itself refuses.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Camera:
    ...     name: str
    ...     rate_hz: float = 10.0
    >>> from_mapping({"name": "front"}, Camera, "camera.yaml")
    Camera(name='front', rate_hz=10.0)
    >>> from_mapping({"name": "front", "rate": 5}, Camera, "camera.yaml")
    Traceback (most recent call last):
    ros_ood_perception.files.strict_yaml.SchemaError: camera.yaml: unknown key(s) rate; the file can have name, rate_hz
    """
    try:
        return _dataclass(data, schema, "")
    except ValueError as error:
        raise SchemaError(f"{source}: {error}") from error


def read_yaml(path: Path | str, schema: type[Dataclass]) -> Dataclass:
    """Read one YAML file as `schema`.

    Raises:
        FileNotFoundError: no such file.
        SchemaError: not YAML, or it does not match the schema.
    """
    path = Path(path)
    return from_mapping(load_yaml(path), schema, str(path))


def load_yaml(path: Path) -> Any:
    """Plain data of a YAML file.

    Raises:
        OSError: it cannot be read.
        SchemaError: see `yaml_contents` and `parse_yaml`.
    """
    return parse_yaml(yaml_contents(path), str(path))


def yaml_contents(path: Path) -> bytes:
    """The bytes of a YAML file.

    Raises:
        OSError: it cannot be read.
        SchemaError: not a regular file, or larger than `LARGEST_FILE_BYTES`.
    """
    try:
        return read_plain_file(path, LARGEST_FILE_BYTES)
    except NotPlainError as error:
        raise SchemaError(str(error)) from error


def parse_yaml(contents: bytes, source: str) -> Any:
    """Plain data of a YAML document. Each key is there once, and every number is finite.

    Args:
        source: name of the document in errors, usually the file's path.

    Raises:
        SchemaError: not YAML, a duplicate key, an alias or merge key, or a number that is infinite or too long.

    >>> parse_yaml(b"classes: [road, sky]", "a.yaml")
    {'classes': ['road', 'sky']}
    """
    try:
        return yaml.load(contents.decode(), _Loader)
    except Exception as error:  # PyYAML raises many kinds: for bytes that are not UTF-8, impossible dates and tags
        # The error quotes the file: control characters are escaped.
        quoted = "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in str(error))
        raise SchemaError(f"{source}: not a readable YAML file: {quoted}") from error


_short = reprlib.Repr()
_short.maxlevel = 2


def shown(value: Any) -> str:
    """A value of a file, shortened for errors.

    Not repr(): nested YAML aliases are small in memory and endless when written out.
    """
    try:
        return _short.repr(value)
    except ValueError:  # an integer of thousands of digits
        return "an endless number"


class _Loader(yaml.SafeLoader):
    """A `SafeLoader` without the features that make a short document endless, or different from what a reader sees.

    A few nested aliases or merge keys can expand to any size; ROS 2 reads neither in its parameter files. YAML allows a
    duplicate key, of which the last one counts.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Called for each value of the document."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                problem=f"aliases (*{event.anchor:.40}) are not supported; write the value out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Called for each mapping before it is made."""
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    problem="merge keys (<<) are not supported; write the keys out", problem_mark=key.start_mark
                )

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As `SafeLoader`, with every key once."""
        found = super().construct_mapping(node, deep=True)
        if len(found) < len(node.value):
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {shown(key)} is there twice; keep one", problem_mark=key_node.start_mark
                    )
                seen.add(key)
        return found

    def number(self, node: yaml.ScalarNode) -> int | float:
        """An integer or a finite number, written as one; not in base 60."""
        text = self.construct_scalar(node)
        whole = node.tag == "tag:yaml.org,2002:int"
        if len(text) > LONGEST_NUMBER or ":" in text:
            raise yaml.constructor.ConstructorError(
                problem=f"{shown(text)} is a number in base 60 or of more than {LONGEST_NUMBER} characters; write it "
                "shorter, or in quotes if it is a text",
                problem_mark=node.start_mark,
            )
        value = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.constructor.ConstructorError(
                problem=f"{shown(text)} is no finite number; write one", problem_mark=node.start_mark
            )
        return value


for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.number)


@functools.cache
def _type_hints(schema: type[Any]) -> dict[str, Any]:
    return get_type_hints(schema)


def _dataclass(data: Any, schema: type[Dataclass], path: str) -> Dataclass:
    where = f"the field '{path}'" if path else "the file"
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be a mapping of names to values, found {shown(data)}")
    hints = _type_hints(schema)  # type: ignore[arg-type]
    fields = {field.name: field for field in dataclasses.fields(schema)}  # type: ignore[arg-type]
    unknown = [str(key) for key in data if key not in fields]
    if unknown:
        raise ValueError(
            f"unknown key(s) {', '.join(_join(path, key) for key in unknown)}; {where} can have {', '.join(fields)}"
        )
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(data[name], hints[name], _join(path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"the field '{_join(path, name)}' is missing and has no default")
    try:
        return schema(**values)
    except ValueError as error:
        raise ValueError(f"in '{path}': {error}" if path else str(error)) from error


def _value(value: Any, hint: Any, path: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        [inner] = [argument for argument in arguments if argument is not type(None)]
        return _value(value, inner, path)
    if origin is Literal:
        if value not in arguments:
            allowed = ", ".join(map(str, arguments))
            raise ValueError(f"the field '{path}' is {shown(value)}; it must be one of {allowed}")
        return value
    if origin in (tuple, list):
        return _sequence(value, origin, arguments, path)
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"the field '{path}' must be a mapping, found {shown(value)}")
        return {
            _value(key, arguments[0], path): _value(item, arguments[1], _join(path, str(key)))
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(hint):
        return _dataclass(value, hint, path)  # type: ignore[arg-type]
    return _scalar(value, hint, path)


def _sequence(value: Any, origin: type, arguments: tuple[Any, ...], path: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"the field '{path}' must be a list, found {shown(value)}")
    if len(value) > MOST_ITEMS:
        raise ValueError(f"the field '{path}' has {len(value)} items; at most {MOST_ITEMS}")
    if origin is list or arguments[-1] is Ellipsis:
        hints = [arguments[0]] * len(value)
    elif len(value) == len(arguments):
        hints = list(arguments)
    else:
        raise ValueError(f"the field '{path}' must be a list of {len(arguments)}, found {shown(value)}")
    return origin(_value(item, hint, f"{path}[{i}]") for i, (item, hint) in enumerate(zip(value, hints, strict=True)))


def _scalar(value: Any, hint: Any, path: str) -> Any:
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            # YAML 1.1 reads 1e-3 (no dot) as a string, and 1 as an integer; both are meant as numbers here.
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
        raise ValueError(f"the field '{path}' is {shown(value)}; it must be of the type float, and finite")
    if isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        if hint is int and not -(2**63) <= value < 2**63:
            raise ValueError(f"the field '{path}' is {shown(value)}; it must fit in 64 bits")
        return value
    raise ValueError(f"the field '{path}' is {shown(value)}; it must be of the type {hint.__name__}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
