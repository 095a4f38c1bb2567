"""JSON files, written whole and read with care: what is read may be damaged, or a stranger's."""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.atomic_files import naming, write_file

LARGEST_BYTES = 1 << 26
"""Far more than any that is read here has."""
_SEAL = "contents_sha256"


class JsonFileError(PerceptionError, ValueError):
    """A file that is no JSON of ours. The message names it, and what is wrong."""


def json_text(data: Any, indent: int | None = 1) -> str:
    """Data as the text of a file. JSON has no NaN and no infinity: they are null."""
    try:
        return json.dumps(data, indent=indent, allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(_finite(data), indent=indent, allow_nan=False) + "\n"


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def write_json(path: Path, data: Any, indent: int | None = 1) -> None:
    """Replace a file, see `write_file`.

    Raises:
        OSError: it cannot be written, with the path.
    """
    write_file(path, json_text(data, indent))


def read_json(path: Path) -> Any:
    """Plain data of a JSON file.

    Raises:
        OSError: it cannot be read, with the path.
        JsonFileError: it is no file, no JSON, nested without end, or larger than `LARGEST_BYTES`.
    """
    with naming(path):
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise JsonFileError(f"{path}: is no file")
        if found.st_size > LARGEST_BYTES:
            raise JsonFileError(f"{path}: has {found.st_size} bytes; a file of ours has at most {LARGEST_BYTES}")
        contents = path.read_bytes()
    try:
        return json.loads(contents.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise JsonFileError(f"{path}: is no JSON ({error})") from error


def sealed_text(data: Mapping[str, Any]) -> str:
    """Data with their SHA-256 among them as the text of a file, so that a byte that changes is noticed."""
    return json.dumps({**data, _SEAL: _digest(data)}, indent=1) + "\n"


def unsealed(path: Path, data: Any) -> dict[str, Any]:
    """The data that `sealed_text` was given.

    Raises:
        JsonFileError: they are others.
    """
    if not isinstance(data, dict) or data.get(_SEAL) != _digest(rest := {k: v for k, v in data.items() if k != _SEAL}):
        raise JsonFileError(f"{path}: is damaged: its contents do not match their SHA-256")
    return rest


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
