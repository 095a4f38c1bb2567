"""The range of a method's scores, and the float16 values on which the official metrics are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.smiyc_scores import score_of_submitted, submitted


@dataclass(frozen=True)
class ScoreScale:
    """What is known of a score before it is measured.

    The official metrics need float16 values. A score in [0, 1] is turned into `submitted` values, which keep the order
    near 1. Scores that were stored as float16 are taken as they are, and other ranges are rounded to float16: both as
    in the harness of the benchmark.

    Attributes:
        lowest, highest: of all scores.
        half: whether every score was stored as float16.
    """

    lowest: float = 0.0
    highest: float = 1.0
    half: bool = False

    @property
    def unit(self) -> bool:
        """Whether all scores are in [0, 1]."""
        return self.lowest >= 0 and self.highest <= 1

    def value(self, score: NDArray[Any]) -> NDArray[np.float16]:
        """The values of the official metrics, any shape."""
        if self.unit and not self.half:
            return submitted(score)
        with np.errstate(over="ignore"):
            return score.astype(np.float16)

    def score(self, value: NDArray[Any] | float) -> NDArray[np.float32]:
        """The score of a value, as exact as float16."""
        return score_of_submitted(value) if self.unit and not self.half else np.asarray(value, np.float32)

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of an axis that shows all scores."""
        return (0.0, 1.0) if self.unit else (self.lowest, self.highest)

    def share(self, score: NDArray[Any]) -> NDArray[np.float64]:
        """Where a score lies between the limits, 0 to 1."""
        low, high = self.limits
        return np.clip((np.asarray(score, np.float64) - low) / max(high - low, 1e-12), 0, 1)
