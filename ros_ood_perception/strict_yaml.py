"""YAML files into frozen dataclasses: every key known, every type right, every error with the file and the field.

Written here because no library that does this has a rosdep key for every supported distribution, and a vehicle must be
installable with rosdep alone.
"""

from __future__ import annotations

import dataclasses
import reprlib
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

Dataclass = TypeVar("Dataclass")

LARGEST_FILE_BYTES = 1 << 20
"""Far more than any of ours has, and some seconds of reading."""


class SchemaError(ValueError):
    """A file that does not say what its schema wants. The message names the file, the field and the remedy."""


def from_mapping(data: Any, schema: type[Dataclass], source: str) -> Dataclass:
    """Build a dataclass from plain data.

    Args:
        data: what a YAML or JSON file held.
        schema: a dataclass whose fields are str, int, float, bool, Literal, tuple, list, dict, Any, dataclasses, or
            optional ones of these. A tuple is written as a list.
        source: what to call the data in errors, usually the file's path.

    Raises:
        SchemaError: unknown key, missing key, wrong type, or a value that a dataclass itself refuses.
    """
    try:
        return _dataclass(data, schema, "")
    except ValueError as error:
        raise SchemaError(f"{source}: {error}") from error


def read_yaml(path: Path | str, schema: type[Dataclass]) -> Dataclass:
    """Read one YAML file as `schema`.

    Raises:
        FileNotFoundError: no such file.
        SchemaError: not YAML, or not what the schema wants.
    """
    path = Path(path)
    return from_mapping(load_yaml(path), schema, str(path))


def load_yaml(path: Path) -> Any:
    """Plain data of a YAML file.

    Raises:
        OSError: cannot be read.
        SchemaError: not YAML, with merge keys, or larger than `LARGEST_FILE_BYTES`.
    """
    size = path.stat().st_size
    if size > LARGEST_FILE_BYTES:
        raise SchemaError(f"{path}: has {size} bytes; a YAML file of ours has at most {LARGEST_FILE_BYTES}")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: impossible dates, endless integers
        raise SchemaError(f"{path}: not a readable YAML file: {error}") from error


_short = reprlib.Repr()
_short.maxlevel = 2


def shown(value: Any) -> str:
    """What a file held, in few words, for errors.

    Not repr(): nested YAML aliases are small in memory and endless when written out.
    """
    try:
        return _short.repr(value)
    except ValueError:  # an integer of thousands of digits
        return "an endless number"


class _Loader(yaml.SafeLoader):
    """A `SafeLoader` that takes no merge keys: it copies what they name, so that some nested in 500 bytes fill memory.

    Other aliases cost nothing: they name one object.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Called for each mapping before it is made."""
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    problem="merge keys (<<) are not supported; write the keys out", problem_mark=key.start_mark
                )
        super().flatten_mapping(node)


def _dataclass(data: Any, schema: type[Dataclass], path: str) -> Dataclass:
    where = f"the field '{path}'" if path else "the file"
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be a mapping of names to values, found {shown(data)}")
    hints = get_type_hints(schema)
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
            return float(value)
        except (ValueError, OverflowError):
            pass
    elif isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        return value
    raise ValueError(f"the field '{path}' is {shown(value)}; it must be of the type {hint.__name__}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
