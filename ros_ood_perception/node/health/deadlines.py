"""How long a call of the engine may take, and how long the current one has taken."""

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
"""The most that one look adds to a call's age. So time in which the process was stopped (SIGSTOP) hardly counts."""


class InferenceDeadline:
    """The longest time that one inference may take. One thread calls `add`, others may read `seconds`.

    Without a fixed value it is `TIMES_P99` times the 99th percentile of the last `KEPT_RUNS` inferences, and at least
    `SHORTEST_INFERENCE_S`. These are the inferences since the engine was opened, its first run included.

    Args:
        fixed_s: deadline that the user has set, seconds; 0: computed from the inferences.
    """

    def __init__(self, fixed_s: float = 0.0) -> None:
        self._fixed_s = fixed_s
        self._runs_s: deque[float] = deque(maxlen=KEPT_RUNS)
        self._added = 0
        self.seconds = fixed_s or SHORTEST_INFERENCE_S
        """The current deadline."""

    def restart(self) -> None:
        """Forget the inferences of an earlier engine."""
        self._runs_s.clear()
        self._added = 0

    def add(self, run_s: float) -> None:
        """Add the duration of a good inference, seconds."""
        self._runs_s.append(run_s)
        # Not for each frame: it sorts a thousand numbers, and the deadline is generous.
        if self._added % LOOKED_AT_EVERY == 0 and not self._fixed_s:
            runs = sorted(self._runs_s)
            self.seconds = max(SHORTEST_INFERENCE_S, TIMES_P99 * runs[(len(runs) * 99) // 100])
        self._added += 1


@dataclass(frozen=True, eq=False)
class Work:
    """A call with a deadline.

    Attributes:
        what: its name in messages, such as "inference on the engine 'tensorrt'".
        limit_s: gives the deadline, seconds. Called at every look.
        subject: what the call is for, such as a frame.
    """

    what: str
    limit_s: Callable[[], float]
    subject: object = None


@dataclass(frozen=True)
class Seen:
    """The current call at one look: its age and its deadline, seconds. `work` is None if there is no call."""

    work: Work | None
    age_s: float
    limit_s: float

    @property
    def overdue(self) -> bool:
        """Whether it passed its deadline."""
        return self.work is not None and self.age_s > self.limit_s

    @property
    def stuck(self) -> bool:
        """Whether it did not return within the grace period after its deadline."""
        return self.work is not None and self.age_s > self.limit_s + grace_s(self.limit_s)


def grace_s(limit_s: float) -> float:
    """The grace period of an overdue call, seconds: as long as its deadline, but 1 to 5."""
    return min(max(limit_s, 1.0), 5.0)


class Watch:
    """The current call of one thread, for another thread that looks at it periodically.

    Beginning and ending a call take no lock and a microsecond each, because only `look` reads the clock.

    Attributes:
        work: the current call; None: there is none.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.work: Work | None = None
        self._seen: Work | None = None
        self._looked_at = 0.0
        self._age_s = 0.0

    @contextmanager
    def at(self, what: str, limit_s: Callable[[], float], subject: object = None) -> Iterator[Work]:
        """Make this the current call until the end of the block.

        A nested call has its own deadline. Without a subject of its own it has that of the outer call.
        """
        before = self.work
        self.work = work = Work(what, limit_s, subject if subject is not None or before is None else before.subject)
        try:
            yield work
        finally:
            self.work = before

    def look(self) -> Seen:
        """Look at the current call. Only one thread may do so."""
        now, work = self._clock(), self.work
        if work is not self._seen:
            self._seen, self._age_s = work, 0.0
        elif work is not None:
            self._age_s += min(now - self._looked_at, LONGEST_STEP_S)
        self._looked_at = now
        return Seen(work, self._age_s, work.limit_s() if work is not None else 0.0)
