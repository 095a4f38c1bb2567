"""How long a call of the engine may take, and who looks at the clock."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SHORTEST_INFERENCE_S = 5.0
TIMES_P99 = 20.0
KEPT_RUNS = 1000
LOOKED_AT_EVERY = 50
CLOSING_S = 10.0
LONGEST_STEP_S = 1.0
"""A look counts at most so much: a process that was stopped (SIGSTOP, a debugger) did not hang meanwhile."""


class InferenceDeadline:
    """The longest that one inference may take.

    One thread adds, others may read `seconds`. Without a value of the user's it is `TIMES_P99` times the 99th
    percentile of the last `KEPT_RUNS` inferences on the engine that is open, the one after it was opened among them,
    and at least `SHORTEST_INFERENCE_S`.

    Args:
        fixed_s: of the user; 0: measured.
    """

    def __init__(self, fixed_s: float = 0.0) -> None:
        self._fixed_s = fixed_s
        self._runs_s: deque[float] = deque(maxlen=KEPT_RUNS)
        self._added = 0
        self.seconds = fixed_s or SHORTEST_INFERENCE_S
        """As things are now."""

    def restart(self) -> None:
        """Another engine: what an earlier one took says nothing about it."""
        self._runs_s.clear()
        self._added = 0

    def add(self, run_s: float) -> None:
        """An inference ended well, after so many seconds."""
        self._runs_s.append(run_s)
        # Not at each frame: the deadline is generous, and a thousand numbers are sorted for it.
        if self._added % LOOKED_AT_EVERY == 0 and not self._fixed_s:
            runs = sorted(self._runs_s)
            self.seconds = max(SHORTEST_INFERENCE_S, TIMES_P99 * runs[(len(runs) * 99) // 100])
        self._added += 1


@dataclass(frozen=True, eq=False)
class Work:
    """A call that may take only so long.

    Attributes:
        what: for messages, such as "inference on the engine 'tensorrt'".
        limit_s: gives its deadline, seconds; asked whenever somebody looks.
        subject: what it is done for, such as a frame.
    """

    what: str
    limit_s: Callable[[], float]
    subject: object = None


@dataclass(frozen=True)
class Seen:
    """A look at a call: how long it has been going on, of what is allowed; no work means that nothing goes on."""

    work: Work | None
    age_s: float
    limit_s: float

    @property
    def overdue(self) -> bool:
        """It has passed its deadline."""
        return self.work is not None and self.age_s > self.limit_s

    @property
    def stuck(self) -> bool:
        """It has not come back after its deadline either."""
        return self.work is not None and self.age_s > self.limit_s + grace_s(self.limit_s)


def grace_s(limit_s: float) -> float:
    """How long a call that is overdue has to come back, seconds: as long as its deadline, but 1 to 5."""
    return min(max(limit_s, 1.0), 5.0)


class Watch:
    """What one thread is at, for another one that looks at it again and again.

    To begin and to end work costs a microsecond each, and no lock: the looks keep the time.

    Attributes:
        work: what goes on now; None: nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.work: Work | None = None
        self._seen: Work | None = None
        self._looked_at = 0.0
        self._age_s = 0.0

    @contextmanager
    def at(self, what: str, limit_s: Callable[[], float], subject: object = None) -> Iterator[Work]:
        """Until the end of the block the thread is at this; work in work has a deadline of its own, and its subject."""
        before = self.work
        self.work = work = Work(what, limit_s, subject if subject is not None or before is None else before.subject)
        try:
            yield work
        finally:
            self.work = before

    def look(self) -> Seen:
        """How things are; of one thread only."""
        now, work = self._clock(), self.work
        if work is not self._seen:
            self._seen, self._age_s = work, 0.0
        elif work is not None:
            self._age_s += min(now - self._looked_at, LONGEST_STEP_S)
        self._looked_at = now
        return Seen(work, self._age_s, work.limit_s() if work is not None else 0.0)
