"""Checkpoints: one file, plain tensors and plain values, replaced atomically."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

FORMAT = "ros_ood_perception.checkpoint.1"


class CheckpointError(ValueError):
    """A file that is not a checkpoint of this project, or not one that fits."""


def save_checkpoint(path: Path, contents: dict[str, Any]) -> None:
    """Write `contents` so that `path` holds either the old file or the whole new one, also when the power goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f"{path.suffix}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **contents}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint without running any code that it might hold (`weights_only`).

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not a checkpoint of this project.
    """
    path = Path(path)
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({error})") from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        found = contents.get("format") if isinstance(contents, dict) else type(contents).__name__
        raise CheckpointError(f"{path}: format is {found!r}; this version reads {FORMAT!r}")
    return contents
