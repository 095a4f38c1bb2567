"""How much the results of two runs may differ: options of the command line, and their check."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.number_arguments import real, whole

MOST_COUNTED = 10**12


class ComparisonError(PerceptionError, ValueError):
    """The two runs cannot be compared. The message says why, and what to give instead."""


@dataclass(frozen=True)
class Limits:
    """The largest allowed differences; None: not limited. Names and meanings are those of the options."""

    min_class_agreement: float | None = None
    min_class_iou: float | None = None
    min_anomaly_iou: float | None = None
    max_score_difference: float | None = None
    max_obstacles_gained: int | None = None
    max_obstacles_lost: int | None = None
    max_frames_missing: int | None = None

    HELP: ClassVar[dict[str, str]] = {
        "min_class_agreement": "share of pixels with the same class, over all frames",
        "min_class_iou": "IoU of the two runs' pixels of a class, of the class where it is lowest",
        "min_anomaly_iou": "IoU of the two runs' anomaly masks, over all frames",
        "max_score_difference": "mean absolute difference of the anomaly score",
        "max_obstacles_gained": "boxes of this run without one in the other, summed over frames",
        "max_obstacles_lost": "boxes of the other run without one in this",
        "max_frames_missing": "frames of one run that the other does not have, or has without their semantic mask",
    }

    @classmethod
    def add_options(cls, parser: argparse._ActionsContainer) -> None:
        """Add `--min-class-agreement` and so on."""
        for name, text in cls.HELP.items():
            counted = "obstacles" in name or "frames" in name
            kind: Callable[[str], float] = whole(0, MOST_COUNTED) if counted else real(0.0, 1.0)
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                type=kind,
                metavar="X",
                help=f"{'least' if name.startswith('min') else 'most'}: {text}",
            )

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Limits:
        """From options of `add_options`.

        Raises:
            ComparisonError: a limit is given without `--compare`.
        """
        limits = cls(**{f.name: getattr(options, f.name) for f in fields(cls)})
        if options.compare is None and limits != cls():
            raise ComparisonError("a limit is given without --compare; name the other run with it")
        return limits

    def broken(self, figures: dict[str, Any]) -> list[str]:
        """A sentence for each limit that the figures do not meet."""
        found = []
        for limit in fields(self):
            allowed, figure = getattr(self, limit.name), figures.get(limit.name[4:])
            if allowed is None:
                continue
            if figure is None:
                found.append(
                    f"--{limit.name.replace('_', '-')} {allowed:g} cannot be checked: the runs have no such figure"
                )
            elif not (figure >= allowed if limit.name.startswith("min_") else figure <= allowed):
                found.append(f"--{limit.name.replace('_', '-')} is {allowed:g}, but the value is {figure:.6g}")
        return found
