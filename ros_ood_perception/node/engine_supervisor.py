"""Keeps one engine open. When it fails, opens it again, opens the next engine, or gives up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.inference.engine import CancellableEngine, EngineError, EngineOutput, InferenceEngine
from ros_ood_perception.inference.failure_policy import FailurePolicy
from ros_ood_perception.inference.opening import OPENING_S
from ros_ood_perception.node.health.deadlines import CLOSING_S, InferenceDeadline, Watch, Work


class EngineUnavailableError(EngineError):
    """No engine is open at the moment. The failure that closed it has been reported."""


class InferenceDeadlineError(EngineError):
    """An inference passed its deadline. The engine failed, whatever its result. The failure has been counted."""


class EngineSupervisor:
    """An `InferenceEngine` that closes after a failure and opens again on a later run.

    One thread at a time may use it. Any thread may read `name`, `failures`, `reopened` and `given_up`, and call
    `expire`.

    Args:
        open_engine: opens an engine by its name and runs it once. Raises `EngineError`, or any error of a driver.
        name: name of the first engine.
        order: names of all engines. After too many failures the next one in this order is tried.
        policy: what to do after a failure.
        log: called with a line for every change.
        clock: seconds, monotonic.
        watch: holds each call of the engine, with its deadline.
        deadline: the deadline of one inference.
        opening_s: deadline for opening an engine, seconds.

    Attributes:
        name: name of the engine that runs, or that ran last.
        failures: number of failed runs and failed attempts to open, since the supervisor was made.
        reopened: how often an engine was opened again after a failure.
        given_up: no engine is tried any more until `open` is called.
    """

    def __init__(
        self,
        open_engine: Callable[[str], InferenceEngine],
        name: str,
        order: Sequence[str],
        policy: FailurePolicy,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        watch: Watch | None = None,
        deadline: InferenceDeadline | None = None,
        opening_s: float = OPENING_S,
    ) -> None:
        self.watch = watch or Watch()
        self.deadline = deadline or InferenceDeadline()
        self._opening_s = opening_s
        self._run_lock = threading.Lock()
        self._running: Work | None = None
        self._overdue = False
        self._open_by_name = open_engine
        self._asked_for = self._wanted = name
        self._order = list(order)
        self._policy = policy
        self._log = log
        self._clock = clock
        self._engine: InferenceEngine | None = None
        self._in_a_row = 0
        self._retry_at = 0.0
        self.name = name
        self.failures = 0
        self.reopened = 0
        self.given_up = False

    @property
    def is_open(self) -> bool:
        """Whether an engine is open for the next run."""
        return self._engine is not None and not self._overdue

    def _open_engine(self, name: str) -> InferenceEngine:
        with self.watch.at(f"opening the engine '{name}'", lambda: self._opening_s):
            self.deadline.restart()
            return self._open_by_name(name)

    def open(self) -> None:
        """Open the wanted engine, unless one is open.

        Raises:
            EngineError: it cannot be opened.
        """
        if self._engine is None:
            self._engine = self._open_first_or_last() if self.given_up else self._open_engine(self._wanted)
            # From here on `auto` means the engine that it chose. Chosen again after each failure, it would leave a GPU
            # that is busy for a moment for good, and without a log line.
            self.name = self._wanted = self._engine.name
        self._in_a_row = 0
        self.given_up = False

    def _open_first_or_last(self) -> InferenceEngine:
        """Open the engine that was first asked for; where that fails, the last one of the fallback."""
        if self._asked_for != self._wanted:
            try:
                return self._open_engine(self._asked_for)
            except Exception as error:  # see _open_again
                self._log(f"the engine '{self._asked_for}' cannot be opened ({error}); next: '{self._wanted}'")
        return self._open_engine(self._wanted)

    def close(self) -> None:
        """Close the engine. One that fails to close is dropped all the same, and the log says so."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        try:
            with self.watch.at(f"closing the engine '{self.name}'", lambda: CLOSING_S):
                engine.close()
        except BaseException as error:  # after a GPU fault every call fails, also those that free memory
            self._log(f"engine '{self.name}' could not be closed ({error}); it may keep some of its memory")

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See `InferenceEngine.run`. Opens the engine first if its pause is over.

        Raises:
            EngineUnavailableError: no engine is open. If opening has just failed, `given_up` may be true now.
            EngineError: the engine failed; report it with `report_failure`.
            InferenceDeadlineError: the inference passed its deadline, and `expire` has counted that.
        """
        if self._engine is None:
            self._open_again()
        engine = self._engine
        assert engine is not None
        with self.watch.at(f"inference on the engine '{self.name}'", self.deadline_s) as work:
            self._running = work
            started = self._clock()
            try:
                output = engine.run(images)
            except BaseException as error:
                if self._ends_overdue():
                    raise self._late(work) from error
                if isinstance(error, EngineError):
                    raise
                # Drivers and libraries raise errors of their own, and some of them are no Exception (panics of Rust,
                # SystemExit). The engine has failed then, and the thread that runs it must go on.
                raise EngineError(f"the engine '{self.name}' raised {type(error).__name__}: {error}") from error
            if self._ends_overdue():
                raise self._late(work)
        self.deadline.add(self._clock() - started)
        return output

    def deadline_s(self) -> float:
        """The current deadline of one inference, seconds."""
        return self.deadline.seconds

    def _ends_overdue(self) -> bool:
        with self._run_lock:
            self._running = None
            overdue, self._overdue = self._overdue, False
            return overdue

    def _late(self, work: Work) -> InferenceDeadlineError:
        return InferenceDeadlineError(f"{work.what} took longer than its deadline of {work.limit_s():.3g} s")

    def expire(self, work: Work) -> None:
        """Count the engine as failed because an inference passed its deadline, and cancel the run if that is possible.

        Args:
            work: the overdue call of `watch`. It is ignored if it has ended in the meantime, or is no inference.
        """
        with self._run_lock:
            if self._running is not work or self._overdue:
                return
            self._overdue = True
            self.failures += 1
            engine = self._engine
        if isinstance(engine, CancellableEngine):
            engine.cancel()

    def _open_again(self) -> None:
        if self.given_up:
            raise EngineUnavailableError(f"the engine '{self.name}' was given up")
        left_s = self._retry_at - self._clock()
        if left_s > 0:
            raise EngineUnavailableError(f"the engine '{self._wanted}' is closed; it is opened again in {left_s:.1f} s")
        try:
            self._engine = self._open_engine(self._wanted)
        except BaseException as error:  # as in `run`; uncounted, opening would be tried again for every frame
            self.report_failure(error)
            raise EngineUnavailableError(f"the engine '{self._wanted}' cannot be opened again: {error}") from error
        self.name = self._engine.name
        self.reopened += 1
        self._log(f"engine '{self.name}' is open again")

    def report_success(self) -> None:
        """Reset the count of consecutive failures, after a good result."""
        self._in_a_row = 0

    def report_failure(self, error: BaseException) -> None:
        """Close the engine after a failed run or an impossible result, and continue as the policy says."""
        self.close()
        if not isinstance(error, InferenceDeadlineError):
            self.failures += 1
        self._in_a_row += 1
        pause_s = min(self._policy.first_retry_s * 2.0 ** (self._in_a_row - 1), self._policy.longest_retry_s)
        self._retry_at = self._clock() + pause_s
        if self._in_a_row < self._policy.max_failures or self._policy.after_failures == "retry":
            self._log(
                f"engine '{self._wanted}' failed ({error}), {self._in_a_row} times in a row; it is opened again in "
                f"{pause_s:g} s"
            )
            return
        # `auto` is not in the order; then the name of the engine that ran is.
        failed = self._wanted if self._wanted in self._order else self.name
        rest = self._order[self._order.index(failed) + 1 :] if failed in self._order else []
        if self._policy.after_failures == "fallback" and rest:
            self._wanted = rest[0]
            self._in_a_row = 0
            self._retry_at = self._clock()
            self._log(f"engine '{failed}' failed {self._policy.max_failures} times in a row; next: '{self._wanted}'")
            return
        self.given_up = True
        why = "no engine is left to fall back to" if self._policy.after_failures == "fallback" else "as configured"
        self._log(f"engine '{self._wanted}' failed {self._in_a_row} times in a row ({error}): given up, {why}")
