"""FROC: the share of objects found over the false obstacles a minute, as the threshold on an obstacle's score moves.

The free-response ROC of detection (Bunch et al. 1977; Chakraborty 1989), with objects as targets and minutes in place
of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.obstacles.measure import MeasuredDrive

REPLICATES = 1000
INTERVAL = (0.025, 0.975)
RATES_PER_MINUTE = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""At which the share of objects found is given."""
MOST_POINTS = 1000
"""Of more different scores, so many are the curve's thresholds, evenly chosen."""
STRETCH_S, FEWEST_STRETCHES = 60.0, 10
"""One drive is resampled by stretches of a minute, or of a tenth of its time if it is shorter than ten minutes."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Units:
    """What the bootstrap resamples.

    Attributes:
        counts: (U, T) number of objects found, or of false obstacles, of each unit at each threshold.
        totals: (U,) number of objects, or minutes, of each unit.
    """

    counts: Numbers
    totals: Numbers

    def ratio(self, weights: Numbers) -> Numbers:
        """(R, T): counts over totals with these weights (R, U); NaN where the totals are 0."""
        totals = weights @ self.totals
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(totals[:, None] > 0, (weights @ self.counts) / totals[:, None], np.nan)


def froc(drives: Sequence[MeasuredDrive]) -> dict[str, Any]:
    """The curve and its 95 % intervals, as plain values for JSON.

    At a threshold, obstacles with a lower score in a frame are left out of that frame. An object is found if it still
    is in one frame, and an obstacle is false if it still is in one frame.

    Returns:
        `resampled`: what the bootstrap resamples. `points`: threshold, share of objects found, false obstacles a
        minute, and an interval of both, from the highest threshold to the lowest. `at_rates`: the share found at the
        lowest threshold with at most so many false obstacles a minute. None where there is no object or no time, for
        intervals of fewer than two units, and for a threshold above all scores.
    """
    objects = [_object_scores(drive) for drive in drives]
    false = [_false_scores(drive) for drive in drives]
    thresholds = _thresholds(np.concatenate([*objects, *false]))
    if len(drives) > 1:
        found_units = Units(_reached(objects, thresholds), np.array([len(scores) for scores in objects], np.float64))
        false_units = Units(_reached(false, thresholds), np.array([drive.seconds / 60 for drive in drives]))
        weights = _draws(len(drives), 0)
        both, resampled = (weights, weights), f"{len(drives)} drives"
    else:
        [drive] = drives
        found_units = Units(_reached([scores[None] for scores in objects[0]], thresholds), np.ones(len(objects[0])))
        false_units, stretch_s = _stretches(drive, thresholds)
        both = (_draws(len(found_units.totals), 0), _draws(len(false_units.totals), 1))
        resampled = f"{len(found_units.totals)} objects; {len(false_units.totals)} stretches of {stretch_s:.3g} s"
    share, share_draws = _with_draws(found_units, both[0])
    rate, rate_draws = _with_draws(false_units, both[1])
    points = [
        {
            "threshold": _value(threshold),
            "share_found": _value(share[index]),
            "share_found_interval": _interval(share_draws, index),
            "false_obstacles_per_minute": _value(rate[index]),
            "false_obstacles_per_minute_interval": _interval(rate_draws, index),
        }
        for index, threshold in enumerate(thresholds.tolist())
    ]
    at_rates = [_at_rate(wanted, thresholds, (share, rate), (share_draws, rate_draws)) for wanted in RATES_PER_MINUTE]
    return {"resampled": resampled, "replicates": REPLICATES, "points": points, "at_rates": at_rates}


def _object_scores(drive: MeasuredDrive) -> Numbers:
    """(O,): the highest threshold at which each object is still found; minus infinity if it never is."""
    scores = [record.score for record in drive.findings.objects.values()]
    return np.array([-np.inf if score is None else score for score in scores], np.float64)


def _false_scores(drive: MeasuredDrive) -> Numbers:
    """(F,): the highest threshold at which each false obstacle is still there."""
    return np.array([max(s.score for s in sightings) for sightings in drive.findings.false.values()], np.float64)


def _thresholds(scores: Numbers) -> Numbers:
    """(T,): from above all scores, which leaves no obstacle, to the lowest score."""
    different = np.unique(scores[np.isfinite(scores)])[::-1]
    if len(different) > MOST_POINTS:
        different = different[np.linspace(0, len(different) - 1, MOST_POINTS).round().astype(np.int64)]
    return np.concatenate([[np.inf], different])


def _reached(scores: Sequence[Numbers], thresholds: Numbers) -> Numbers:
    """(U, T): how many scores of each unit reach each threshold."""
    counts = [(own[:, None] >= thresholds).sum(axis=0) for own in scores]
    return np.array(counts, np.float64).reshape(len(scores), len(thresholds))


def _stretches(drive: MeasuredDrive, thresholds: Numbers) -> tuple[Units, float]:
    """The false obstacles of one drive by stretches of its measured time. One belongs to that of its first frame."""
    longest_s = max((sum(seconds for _, seconds in spans) for spans in drive.spans.values()), default=0.0)
    stretch_s = min(STRETCH_S, longest_s / FEWEST_STRETCHES)
    if not stretch_s:
        return Units(np.zeros((0, len(thresholds))), np.zeros(0)), 0.0
    last = max(int(longest_s / stretch_s + 1e-9), 1) - 1
    stretch_of: dict[tuple[str, int], int] = {}
    minutes: dict[int, float] = {}
    for camera, spans in drive.spans.items():
        passed = 0.0
        for stamp, seconds in spans:
            # The last stretch takes the rest, so that none is much shorter than the others.
            number = min(int(passed / stretch_s + 1e-9), last)
            stretch_of[camera, stamp] = number
            minutes[number] = minutes.get(number, 0.0) + seconds / 60
            passed += seconds
    numbers = sorted(minutes)
    counts = np.zeros((len(numbers), len(thresholds)))
    scores = _false_scores(drive)
    for score, ((camera, _), sightings) in zip(scores.tolist(), drive.findings.false.items(), strict=True):
        row = numbers.index(stretch_of[camera, sightings[0].stamp_ns])
        counts[row] += score >= thresholds
    return Units(counts, np.array([minutes[number] for number in numbers])), stretch_s


def _draws(units: int, seed: int) -> Numbers | None:
    """(R, U): how often each unit is drawn in each replicate. None with fewer than two: they have no spread."""
    if units < 2:
        return None
    return np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), REPLICATES).astype(np.float64)


def _with_draws(units: Units, weights: Numbers | None) -> tuple[Numbers, Numbers | None]:
    """(T,): counts over totals, and (R, T) of the replicates."""
    measured = units.ratio(np.ones((1, len(units.totals))))[0]
    return measured, None if weights is None else units.ratio(weights)


def _value(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None


def _interval(draws: Numbers | None, index: int) -> list[float] | None:
    return None if draws is None else _quantiles(draws[:, index])


def _quantiles(values: Numbers) -> list[float] | None:
    known = values[np.isfinite(values)]
    return [float(value) for value in np.quantile(known, INTERVAL)] if known.size else None


def _at_rate(
    wanted: float,
    thresholds: Numbers,
    measured: tuple[Numbers, Numbers],
    draws: tuple[Numbers | None, Numbers | None],
) -> dict[str, Any]:
    """The share found at the lowest threshold with at most `wanted` false obstacles a minute."""
    index = int(_lowest(measured[1][None], wanted)[0])
    interval = None
    if draws[0] is not None and draws[1] is not None:
        chosen = _lowest(draws[1], wanted)
        interval = _quantiles(np.take_along_axis(draws[0], chosen[:, None], axis=1)[:, 0])
    return {
        "false_obstacles_per_minute": wanted,
        "threshold": _value(thresholds[index]),
        "share_found": _value(measured[0][index]),
        "share_found_interval": interval,
    }


def _lowest(rates: Numbers, wanted: float) -> NDArray[np.int64]:
    """(R,): index of the lowest threshold at which the rates (R, T) are still at most `wanted`.

    Above all scores the rate is 0, and towards lower thresholds it never falls.
    """
    # A sum of spans is not exact in its last digits.
    return np.maximum((rates <= wanted * (1 + 1e-9)).sum(axis=1) - 1, 0)
