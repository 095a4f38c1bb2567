"""JSON files, written atomically and read with limits: they may be damaged, or written by a stranger."""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.atomic_files import naming, write_file
from ros_ood_perception.shown_text import printable

LARGEST_BYTES = 1 << 26
"""Far more than any file of ours has."""
_SEAL = "contents_sha256"


class JsonFileError(PerceptionError, ValueError):
    """A file that cannot be read as JSON. The message names it and says why."""


def json_text(data: Any, indent: int | None = 1) -> str:
    """Data as the text of a JSON file. NaN and infinity, which JSON lacks, become null.

    >>> json_text({"value": float("nan")}, indent=None)
    '{"value": null}\\n'
    """
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
    """Write a JSON file, see `write_file`.

    Raises:
        OSError: it cannot be written, with the path.
    """
    write_file(path, json_text(data, indent))


def read_json(path: Path, strict: bool = False) -> Any:
    """Plain data of a JSON file.

    Args:
        strict: NaN, infinity and keys that are there twice are errors. Of such keys the last one counts otherwise.

    Raises:
        OSError: it cannot be read, with the path.
        JsonFileError: not a file, not JSON, nested too deep, or larger than `LARGEST_BYTES`.
    """
    with naming(path):
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise JsonFileError(f"{path}: is not a file")
        if found.st_size > LARGEST_BYTES:
            raise JsonFileError(f"{path}: has {found.st_size} bytes; at most {LARGEST_BYTES} are read")
        contents = path.read_bytes()
    try:
        text = contents.decode("utf-8")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number) if strict else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JsonFileError(f"{path}: is not JSON ({error})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {printable(repr(twice), 80)} is there twice; keep one")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON; write a finite number, or null")


def sealed_text(data: Mapping[str, Any]) -> str:
    """Data as the text of a file with their SHA-256, so that a changed byte is noticed."""
    return json.dumps({**data, _SEAL: _digest(data)}, indent=1) + "\n"


def unsealed(path: Path, data: Any) -> dict[str, Any]:
    """The data that `sealed_text` was given.

    Raises:
        JsonFileError: the SHA-256 is wrong or missing.
    """
    if not isinstance(data, dict) or data.get(_SEAL) != _digest(rest := {k: v for k, v in data.items() if k != _SEAL}):
        raise JsonFileError(f"{path}: is damaged: its contents do not match their SHA-256")
    return rest


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
