"""From the counts of all settings to the operating point for a rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Literal

from training.calibrate_obstacles.candidates import COARSE, THRESHOLDS, Candidate
from training.calibrate_obstacles.counting import DriveCounts
from training.calibrate_obstacles.poisson import poisson_bound, poisson_interval

SECONDS_PER_HOUR = 3600.0
MOST_ABOVE = 0.1
"""Share of known pixels that may reach a threshold. At lower ones the frame is one region, and one obstacle for the
whole drive: few false obstacles, of no use."""
COARSE_RAISED = 4
"""Coarse thresholds above its own up to which a setting is tried on the drives with objects: 1.6 in log-odds."""
EACH = {"hour": "an hour", "frame": "a frame"}


@dataclass(frozen=True)
class Exposure:
    """How much was measured.

    Attributes:
        per: what rates count: obstacles an `hour`, or a `frame`.
        hours: summed over drives and cameras; 0 where frames stand for themselves.
        frames: likewise.
    """

    per: Literal["hour", "frame"]
    hours: float
    frames: int

    @property
    def amount(self) -> float:
        """Of what rates count."""
        return self.hours if self.per == "hour" else self.frames

    def most(self, rate: float) -> int:
        """The most false obstacles that keep a rate."""
        return _most(rate, self.amount)

    def rates(self, count: int) -> tuple[float, tuple[float, float], float]:
        """The rate of a count, its 95 % interval, and what it is at most with 95 % confidence."""
        low, high = poisson_interval(count)
        return count / self.amount, (low / self.amount, high / self.amount), poisson_bound(count) / self.amount

    def too_little_for(self, rate: float) -> str:
        """Why so much cannot support a rate, with the remedy; empty if it can."""
        lowest = poisson_bound(0) / self.amount
        if lowest <= rate:
            return ""
        if self.per == "frame":
            return (
                f"{self.frames} frames without a false obstacle show at most {shown_rate(lowest)} a frame (95 %); "
                f"{rate:g} a frame needs {math.ceil(poisson_bound(0) / rate)} frames"
            )
        return (
            f"{shown_hours(self.hours)} without a false obstacle show at most {shown_rate(lowest)} an hour (95 %); "
            f"{rate:g} an hour needs {shown_hours(poisson_bound(0) / rate)}: give more drives, or ask for "
            f"{math.ceil(lowest)} or more"
        )


def shown_rate(rate: float) -> str:
    """A rate for a reader.

    >>> shown_rate(0.0312), shown_rate(8.99), shown_rate(1797.4)
    ('0.031', '9', '1797')
    """
    return f"{rate:.2g}" if rate < 99.5 else f"{rate:.0f}"


def shown_hours(hours: float) -> str:
    """`20 minutes`, `2.5 hours`.

    >>> shown_hours(1 / 3), shown_hours(2.5)
    ('20 minutes', '2.5 hours')
    """
    if hours < 1 / 60:
        return f"{hours * SECONDS_PER_HOUR:.3g} seconds"
    return f"{hours * 60:.3g} minutes" if hours < 1.5 else f"{hours:.3g} hours"


def _most(rate: float, amount: float) -> int:
    # A sum of spans is not exact in its last digits.
    return math.floor(rate * amount * (1 + 1e-9))


Try = tuple[int, int]
"""A candidate and a threshold, by their numbers."""


def coarse_tries(candidates: int) -> list[Try]:
    """Every `COARSE`-th threshold of so many candidates, the highest one too."""
    return [(number, threshold) for number in range(candidates) for threshold in range(0, len(THRESHOLDS), COARSE)]


@dataclass(frozen=True)
class Found:
    """Unknown objects that a setting found on the drives with objects.

    Attributes:
        objects: in view.
        found: of these.
        frames_found: share of the frames in view in which the object is found, 0 to 1.
        frames_marked: share in which the mask marks it, of the frames in which its pixels are known, 0 to 1; None: they
            are known in none.
        false_obstacles: false ones on these drives, once by their ids.
        amount: of what rates count, on these drives: hours, or frames.
    """

    objects: int
    found: int
    frames_found: float
    frames_marked: float | None
    false_obstacles: int = 0
    amount: float = 0.0

    @property
    def share(self) -> float:
        """Share of the objects found."""
        return self.found / self.objects if self.objects else 0.0

    @property
    def false_rate(self) -> float:
        """False obstacles an hour, or a frame, on these drives."""
        return self.false_obstacles / self.amount if self.amount else 0.0

    def keeps(self, rate: float) -> bool:
        """Whether there are no more false obstacles on these drives than the rate allows: on short ones none."""
        return self.false_obstacles <= _most(rate, self.amount)


@dataclass(frozen=True)
class Choice:
    """A candidate with the lowest threshold that keeps a rate, or the highest tried on the drives with objects."""

    candidate: int
    threshold: int
    count: int
    found: Found | None = None


@dataclass(frozen=True)
class Round:
    """What was counted beside each other, in one pass over the drives.

    Attributes:
        drives: of which each has the counts of all tries, in their order.
    """

    tries: Sequence[Try]
    drives: Sequence[DriveCounts]


@dataclass(frozen=True)
class Counts:
    """The counts of all drives.

    Attributes:
        rounds: first the coarse thresholds of all candidates, then maybe finer ones; each on the same drives.
    """

    candidates: Sequence[Candidate]
    rounds: Sequence[Round]

    @property
    def drives(self) -> Sequence[DriveCounts]:
        """The counts of the first round."""
        return self.rounds[0].drives

    @cached_property
    def _places(self) -> dict[Try, tuple[int, int]]:
        """Round and place of each try."""
        return {key: (r, place) for r, one in enumerate(self.rounds) for place, key in enumerate(one.tries)}

    def tried(self, candidate: int) -> list[int]:
        """Numbers of the thresholds that were tried with a candidate, ascending."""
        return sorted(threshold for number, threshold in self._places if number == candidate)

    def of_drive(self, drive: int, candidate: int, threshold: int) -> int | None:
        """False obstacles of a try on a drive; None: more than its limit."""
        number, place = self._places[candidate, threshold]
        return self.rounds[number].drives[drive].counts[place]

    def total(self, candidate: int, threshold: int) -> int | None:
        """False obstacles of a try on all drives; None: more than the limit of one."""
        counts = [self.of_drive(drive, candidate, threshold) for drive in range(len(self.drives))]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def share_above(self, threshold: int) -> float:
        """Share of the drives' pixels at or above a threshold."""
        return sum(drive.above[threshold] for drive in self.drives) / max(sum(d.pixels for d in self.drives), 1)

    def lowest_threshold(self, candidate: int, most: int) -> int | None:
        """Number of the lowest threshold with at most so many false obstacles, at it and at all higher ones tried.

        Not of the lowest of all: towards low thresholds regions merge, and there are fewer again. None that more than
        `MOST_ABOVE` of the pixels reach is taken.

        Returns:
            None if even the highest threshold has more.
        """
        found = None
        for threshold in reversed(self.tried(candidate)):
            count = self.total(candidate, threshold)
            if count is None or count > most or self.share_above(threshold) > MOST_ABOVE:
                break
            found = threshold
        return found

    def from_choice(self, choice: Choice) -> list[Try]:
        """The tries of a setting on the drives with objects, ascending: its choice, and higher thresholds.

        These are the fine ones up to the next coarse one, and that and some coarse ones.
        """
        higher = [threshold for threshold in self.tried(choice.candidate) if threshold >= choice.threshold]
        coarse = [threshold for threshold in higher[1:] if threshold % COARSE == 0][:COARSE_RAISED]
        fine = [threshold for threshold in higher if not coarse or threshold < coarse[0]]
        return [(choice.candidate, threshold) for threshold in (*fine, *coarse)]

    def raised(self, choice: Choice, rate: float, found: Mapping[Try, Found]) -> Choice:
        """The choice at the lowest of these thresholds that keeps the rate on the drives with objects.

        It keeps it at all higher ones tried as well. If none does, the highest is taken.

        Args:
            found: what each of `from_choice` found.
        """
        tries = self.from_choice(choice)
        keeping = list(takewhile(lambda key: found[key].keeps(rate), reversed(tries)))
        best = keeping[-1] if keeping else tries[-1]
        return Choice(*best, self.total(*best) or 0, found[best])

    def finer(self, most: Sequence[int]) -> list[Try]:
        """The thresholds between the lowest that keeps one of these counts and the next lower one, of each candidate.

        They are not tried yet, if only coarse ones are. Without any that keeps a count, there is nothing below it.
        """
        found: set[Try] = set()
        for number in range(len(self.candidates)):
            for count in most:
                lowest = self.lowest_threshold(number, count)
                if lowest is not None:
                    found |= {(number, threshold) for threshold in range(max(lowest - COARSE + 1, 0), lowest)}
        return sorted(found)


def ranked(choices: Sequence[Choice], rate: float) -> list[Choice]:
    """The choices, the most sensitive first, and after them those that miss the rate on the drives with objects.

    The most sensitive one finds most objects; of equals, it finds them in most frames, or has the lowest threshold,
    which most known pixels reach. Of those that miss the rate, the one with the fewest false obstacles comes first.
    """

    def order(choice: Choice) -> tuple[int, float, float, int]:
        if choice.found is None:
            return 0, 0.0, 0.0, choice.threshold
        missed = 0 if choice.found.keeps(rate) else choice.found.false_obstacles
        return missed, -choice.found.share, -choice.found.frames_found, choice.threshold

    return sorted(choices, key=order)
