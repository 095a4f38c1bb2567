"""Checkpoints: one file with plain tensors and values, replaced atomically, with a digest of its contents."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.atomic_files import naming, write_file
from ros_ood_perception.shown_text import error_line, printable

FORMAT = "ros_ood_perception.checkpoint.2"
FORMAT_WITHOUT_DIGEST = "ros_ood_perception.checkpoint.1"
MOST_VALUES = 1_000_000
"""Largest number of tensors and plain values in a checkpoint. A list that occurs twice counts twice."""


class CheckpointError(PerceptionError, ValueError):
    """A file is not a checkpoint of this project, or does not fit the run. The message names it and the remedy."""


class _Contents(dict[str, Any]):
    """The contents of a checkpoint. A missing key raises `CheckpointError`."""

    def __init__(self, path: Path, contents: dict[str, Any]) -> None:
        super().__init__(contents)
        self._path = path

    def __missing__(self, key: str) -> Any:
        raise CheckpointError(f"{self._path}: holds no '{key}'; it is not from a run of this version")


def save_checkpoint(path: Path, contents: dict[str, Any]) -> None:
    """Write a checkpoint. `path` holds either the old or the complete new file, also after a power failure.

    Raises:
        OSError: it cannot be written, with the path.
    """
    with naming(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    # In memory first: torch reports a full disk with an error without a path.
    buffer = io.BytesIO()
    held = {key: value for key, value in contents.items() if key not in ("format", "digest")}
    torch.save({"format": FORMAT, "digest": contents_digest(held), **held}, buffer)
    write_file(path, buffer.getvalue())


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint without running code that it might contain (`weights_only`).

    Checkpoints of earlier versions are accepted without a digest.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not a checkpoint of this project, or a damaged one. The returned dict raises it as well, for a
            missing key.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path}: is no file; give a checkpoint, such as best.pt of a run")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (Exception, RecursionError) as error:  # damaged bytes raise any error of zipfile, pickle and torch
        raise CheckpointError(f"{path}: not a readable checkpoint ({error_line(error)[:500]})") from error
    if not isinstance(contents, dict) or contents.get("format") not in (FORMAT, FORMAT_WITHOUT_DIGEST):
        found = contents.get("format") if isinstance(contents, dict) else type(contents).__name__
        shown = repr(found) if isinstance(found, str) else f"a {type(found).__name__}"
        raise CheckpointError(f"{path}: format is {printable(shown, 100)}; this version reads {FORMAT!r}")
    digest = contents.pop("digest", None)
    if digest is not None or contents["format"] == FORMAT:
        held = {key: value for key, value in contents.items() if key != "format"}
        try:
            same = contents_digest(held, 4 * path.stat().st_size) == digest
        except (Exception, RecursionError) as error:  # values that no checkpoint contains
            raise CheckpointError(f"{path}: is damaged ({error_line(error)[:500]})") from error
        if not same:
            raise CheckpointError(f"{path}: is damaged: its contents do not match their digest")
    return _Contents(path, contents)


@contextlib.contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """A context for using the values of a checkpoint. Errors from values that do not fit become `CheckpointError`.

    Raises:
        CheckpointError: in place of KeyError, TypeError, AttributeError, IndexError and torch's RuntimeError.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"{path}: does not hold the values that a run of this version saves ({error_line(error)})"
        ) from error
    except RuntimeError as error:
        # Subclasses are errors of this package.
        if type(error) is not RuntimeError:
            raise
        raise CheckpointError(f"{path}: is of another network ({error_line(error)})") from error


def contents_digest(contents: Any, most_bytes: int | None = None) -> str:
    """SHA-256 over keys, values and tensors, hexadecimal. It is the same for equal contents, however they are stored.

    Args:
        contents: dicts, lists and tuples of tensors and plain values.
        most_bytes: limit for all tensors together; None sets none.

    Raises:
        ValueError: another kind of value, more bytes, or more than `MOST_VALUES`.
    """
    digest = hashlib.sha256()
    stack, values, size = [contents], 0, 0
    while stack:
        value = stack.pop()
        values += 1
        if values > MOST_VALUES:
            raise ValueError(f"has more than {MOST_VALUES} values")
        if isinstance(value, torch.Tensor):
            size += value.numel() * value.element_size()
            if value.layout != torch.strided or (most_bytes is not None and size > most_bytes):
                raise ValueError("has tensors that are not in the file")
            digest.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
            plain = value.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().data)
        elif isinstance(value, dict):
            digest.update(f"dict {len(value)};".encode())
            stack += [part for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple)):
            digest.update(f"list {len(value)};".encode())
            stack += value
        elif value is None or isinstance(value, (bool, int, float, str, bytes)):
            text = repr(value)
            digest.update(f"{type(value).__name__} {len(text)} {text};".encode("utf-8", "surrogatepass"))
        else:
            raise ValueError(f"has a {type(value).__name__}, which no checkpoint of this project has")
    return digest.hexdigest()
