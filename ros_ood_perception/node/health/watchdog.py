"""Deadlines for calls of the engine. A process with a call that does not return ends itself.

Engines can hang, and Python cannot end a thread in a driver's code. The process does not continue beside that thread.
It may hold the GPU, cores, memory and locks of the middleware, and the results of another engine could not be trusted.
A new process starts in a known state.
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.node.health.deadlines import SHORTEST_INFERENCE_S, Seen, Watch, Work, grace_s

Result = TypeVar("Result")

LOOK_PERIOD_S = 0.1
LEAVING_PATIENCE_S = 3.0
"""Seconds that a call may continue after the process was asked to end, within 8 s. Then the call is cancelled."""
LEAVING_GRACE_S = 2.0
"""Seconds that a cancelled call may take to return. After that it counts as stuck."""
SILENCE_TIMES = 2.0
SHORTEST_SILENCE_S = 5.0


def _silence_s(limit_s: float) -> float:
    return SILENCE_TIMES * (limit_s + grace_s(limit_s))


class AbandonedError(EngineError):
    """A call did not return, or is no longer waited for. Its thread is left behind, so the process must end."""


class Watchdog:
    """Looks at `watch`. The executor's thread calls `look` every `LOOK_PERIOD_S`, and while it waits for a call.

    Args:
        log: called with a line about an overdue call.
        alive: called at each look with the longest time until the next one, seconds. Native code that keeps Python's
            lock stops all Python threads, this one too. So something outside of Python must notice that.

    Attributes:
        usual_limit_s: gives the deadline assumed for a call that starts between two looks, seconds.
        stuck: a sentence about the call that did not return, after which the process must end; else empty.
        abandoned: a thread was left behind, so the process must end without waiting for it.
    """

    def __init__(self, log: Callable[[str], None], alive: Callable[[float], None] = lambda silence_s: None) -> None:
        self.watch = Watch()
        self.usual_limit_s: Callable[[], float] = lambda: SHORTEST_INFERENCE_S
        self.stuck = ""
        self.abandoned = False
        self._log = log
        self._alive = alive
        self._expire: Callable[[Work], None] = lambda work: None
        self._reported: Work | None = None
        self._leaving_since: float | None = None
        self._thread: threading.Thread | None = None
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def _run_calls(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call

    def close(self) -> None:
        """End the thread that runs the calls, if it is not stuck."""
        self._calls.put(None)

    def on_overdue(self, expire: Callable[[Work], None]) -> None:
        """Set the function that is called once for each call that passes its deadline."""
        self._expire = expire

    def lose(self, error: BaseException) -> None:
        """Let the process end, because the calling thread ends by an error and nothing replaces it."""
        traceback.print_exception(error)
        name = threading.current_thread().name
        self.stuck = f"the {name} thread ended by an error ({error!r}): this process ends"

    def leave(self) -> None:
        """Note that the process is to end. Calls with `until_leaving` are left; others get `LEAVING_PATIENCE_S`."""
        self._leaving_since = time.monotonic()

    def look(self) -> Seen:
        """Look at the current call, and handle it if it is overdue or stuck."""
        seen = self.watch.look()
        self._alive(max(_silence_s(seen.limit_s), _silence_s(self.usual_limit_s()), SHORTEST_SILENCE_S))
        if seen.work is None:
            return seen
        leaving_s = 0.0 if self._leaving_since is None else time.monotonic() - self._leaving_since
        if seen.overdue or leaving_s > LEAVING_PATIENCE_S:
            self._say(seen, seen.work)
        if (seen.stuck or leaving_s > LEAVING_PATIENCE_S + LEAVING_GRACE_S) and not self.stuck:
            self.stuck = (
                f"{seen.work.what} has not come back after {seen.age_s:.1f} s, at a deadline of {seen.limit_s:.3g} s, "
                "and its thread cannot be freed: this process ends, its stacks follow"
            )
            self.abandoned = True
        return seen

    def _say(self, seen: Seen, work: Work) -> None:
        if self._reported is work:
            return
        self._reported = work
        self._log(
            f"{work.what} takes longer than {seen.limit_s:.3g} s" if seen.overdue else f"{work.what} is cut short"
        )
        self._expire(work)

    def wait(self, ended: threading.Event, meanwhile: Callable[[Seen], None], until_leaving: bool = False) -> None:
        """Wait for the thread that runs a call, and look at the call meanwhile.

        Args:
            ended: set by the thread.
            meanwhile: called between the looks, with the last one.
            until_leaving: stop waiting once the process is to end.

        Raises:
            AbandonedError: the thread is stuck, or left unfinished.
        """
        while not ended.wait(LOOK_PERIOD_S):
            seen = self.look()
            meanwhile(seen)
            if self.stuck:
                raise AbandonedError(self.stuck)
            if until_leaving and self._leaving_since is not None:
                self.abandoned = True
                raise AbandonedError("the process is to end")

    def call(
        self, function: Callable[[], Result], meanwhile: Callable[[Seen], None], until_leaving: bool = False
    ) -> Result:
        """Call a function on the thread that runs the calls, and wait as `wait` does. Its errors are raised here."""
        ended = threading.Event()
        results: list[Result] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(function())
            except BaseException as error:  # raised again in the thread that waits
                errors.append(error)
            finally:
                ended.set()

        # One thread for all calls: with each new thread the engine would allocate more memory.
        if self._thread is None:
            self._thread = threading.Thread(target=self._run_calls, name="engine calls", daemon=True)
            self._thread.start()
        self._calls.put(run)
        self.wait(ended, meanwhile, until_leaving)
        if errors:
            raise errors[0]
        return results[0]
