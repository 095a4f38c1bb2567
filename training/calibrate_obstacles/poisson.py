"""How sure a rate of rare events is, from their count: exact intervals of Poisson's distribution."""

from __future__ import annotations

import math
from collections.abc import Callable

CONFIDENCE = 0.95
_HALVINGS = 200


def poisson_interval(count: int) -> tuple[float, float]:
    """95 % interval of the expected number of events where `count` were seen.

    Each end leaves 2.5 % to its side (F. Garwood, Biometrika 28, 1936).

    >>> [round(end, 3) for end in poisson_interval(3)]
    [0.619, 8.767]
    """
    tail = (1 - CONFIDENCE) / 2
    low = _where(lambda mean: 1 - _at_most(count - 1, mean), tail, count) if count else 0.0
    return low, _where(lambda mean: -_at_most(count, mean), -tail, count)


def poisson_bound(count: int) -> float:
    """With 95 % confidence the expected number of events is at most this, where `count` were seen.

    >>> round(poisson_bound(0), 3)  # the "rule of three"
    2.996
    """
    return _where(lambda mean: -_at_most(count, mean), CONFIDENCE - 1, count)


def _at_most(count: int, mean: float) -> float:
    """Probability of `count` events or fewer where `mean` are expected."""
    if mean == 0:
        return 1.0
    log_mean = math.log(mean)
    return math.fsum(math.exp(k * log_mean - mean - math.lgamma(k + 1)) for k in range(count + 1))


def _where(rising: Callable[[float], float], value: float, count: int) -> float:
    """The mean at which a rising function has a value, by bisection."""
    low, high = 0.0, count + 20 * math.sqrt(count + 1)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2
