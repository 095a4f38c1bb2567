"""YAML files into frozen dataclasses: every key known, every type right, every error with the file and the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import dacite
import yaml

Dataclass = TypeVar("Dataclass")


class SchemaError(ValueError):
    """A file that does not say what its schema wants. The message names the file, the field and the remedy."""


def _to_float(value: Any) -> float:
    # YAML 1.1 reads 1e-3 (no dot) as a string and 1 as an integer; both are meant as numbers here.
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"expected a number, found {value!r}")
    return float(value)


def from_mapping(data: Any, schema: type[Dataclass], source: str) -> Dataclass:
    """Build a dataclass from plain data.

    Args:
        data: what a YAML or JSON file held.
        schema: a dataclass; nested dataclasses, tuples, optionals and literals are followed.
        source: what to call the data in errors, usually the file's path.

    Raises:
        SchemaError: unknown key, missing key, wrong type, or a value that the dataclass itself refuses.
    """
    if not isinstance(data, dict):
        raise SchemaError(f"{source}: expected a mapping at the top level, found {type(data).__name__}")
    try:
        return dacite.from_dict(schema, data, dacite.Config(strict=True, cast=[tuple], type_hooks={float: _to_float}))
    except dacite.UnexpectedDataError as error:
        known = ", ".join(sorted(getattr(schema, "__dataclass_fields__", {})))
        raise SchemaError(
            f"{source}: unknown key(s) {', '.join(sorted(map(str, error.keys)))} "
            f"(the keys at the top level are: {known})"
        ) from error
    except dacite.MissingValueError as error:
        raise SchemaError(f"{source}: the field '{error.field_path}' is missing and has no default") from error
    except dacite.WrongTypeError as error:
        raise SchemaError(
            f"{source}: the field '{error.field_path}' is {error.value!r} ({type(error.value).__name__}), "
            f"which is not of the type {error.field_type}"
        ) from error
    except (dacite.DaciteError, TypeError, ValueError) as error:
        raise SchemaError(f"{source}: {error}") from error


def read_yaml(path: Path | str, schema: type[Dataclass]) -> Dataclass:
    """Read one YAML file as `schema`.

    Raises:
        FileNotFoundError: no such file.
        SchemaError: not YAML, or not what the schema wants.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path}: not a readable YAML file: {error}") from error
    return from_mapping(data, schema, str(path))
