"""The frames of a set and their scores, kept on disk for a second pass."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.files.atomic_files import naming


@dataclass(frozen=True)
class TownFrame:
    """score (H, W) float32 in [0, 1], semantic (H, W) uint8 predicted ids, labels (H, W) uint8 true ids or 255."""

    score: NDArray[np.float32]
    semantic: NDArray[np.uint8]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class ScoredFrame:
    """A frame with its scores.

    Attributes:
        value: (H, W) float16, `submitted` scores.
        anomaly: (H, W) uint8: 0 inlier, 1 anomaly, 255 unknown.
        town: the input of open-mIoU; None in a set without towns.
    """

    name: str
    value: NDArray[np.float16]
    anomaly: NDArray[np.uint8]
    town: TownFrame | None


class ScoredFrames:
    """Frames in a temporary folder: 3 bytes a pixel, 9 more for a set of two towns. Iteration reads them in order."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ros_ood_perception_scores_")
        self._names: list[str] = []

    def add(self, frame: ScoredFrame) -> None:
        """Keep one more frame."""
        kept: dict[str, Any] = {"value": frame.value, "anomaly": frame.anomaly}
        if frame.town is not None:
            kept |= {"score": frame.town.score, "semantic": frame.town.semantic, "labels": frame.town.labels}
        file = self._file(len(self._names))
        with naming(file):
            np.savez(file, **kept)
        self._names.append(frame.name)

    def __iter__(self) -> Iterator[ScoredFrame]:
        for number, name in enumerate(self._names):
            with np.load(self._file(number)) as kept:
                town = TownFrame(kept["score"], kept["semantic"], kept["labels"]) if "score" in kept else None
                yield ScoredFrame(name, kept["value"], kept["anomaly"], town)

    def close(self) -> None:
        """Delete all frames."""
        self._folder.cleanup()

    def _file(self, number: int) -> Path:
        return Path(self._folder.name) / f"{number}.npz"
