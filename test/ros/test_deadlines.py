"""What is overdue and what is stuck, on a clock of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ros_ood_perception.inference.engine import EngineError, EngineOutput
from ros_ood_perception.inference.failure_policy import FailurePolicy
from ros_ood_perception.node.engine_supervisor import EngineSupervisor, InferenceDeadlineError
from ros_ood_perception.node.health.deadlines import SHORTEST_INFERENCE_S, InferenceDeadline, Watch, grace_s
from ros_ood_perception.node.health.watchdog import AbandonedError, Watchdog

pytestmark = pytest.mark.alone

IMAGES = np.zeros((1, 2, 2, 3), np.uint8)


def test_the_deadline_follows_what_this_engine_takes_and_what_the_user_says() -> None:
    deadline = InferenceDeadline()
    assert deadline.seconds == SHORTEST_INFERENCE_S
    deadline.add(2.0)
    assert deadline.seconds == 40.0
    deadline.restart()
    for _ in range(200):
        deadline.add(0.01)
    assert deadline.seconds == SHORTEST_INFERENCE_S
    # One in fifty is slow: the 99th percentile, not the mean.
    for number in range(1000):
        deadline.add(1.0 if number % 50 == 0 else 0.01)
    assert deadline.seconds == 20.0
    fixed = InferenceDeadline(0.7)
    fixed.add(100.0)
    assert fixed.seconds == 0.7


def test_a_call_is_overdue_after_its_deadline_and_stuck_after_its_grace_and_each_call_begins_anew() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0])

    def after(seconds: float) -> tuple[bool, bool]:
        for _ in range(round(seconds * 10)):
            now[0] += 0.1
            seen = watch.look()
        return seen.overdue, seen.stuck

    with watch.at("a frame", lambda: 2.0, "its camera"):
        watch.look()
        assert after(1.9) == (False, False)
        with watch.at("inference", lambda: 2.0) as work:
            assert work.subject == "its camera"
            watch.look()
            assert after(1.9) == (False, False)
            assert after(0.3) == (True, False)
            assert after(grace_s(2.0)) == (True, True)
        watch.look()
        assert after(1.9) == (False, False)
    assert watch.look().work is None


def test_a_process_that_was_stopped_for_an_hour_has_not_hung_for_an_hour() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0])
    with watch.at("inference", lambda: 5.0):
        watch.look()
        now[0] += 3600
        assert not watch.look().overdue


class Hangs:
    """An engine whose run ends when the test says so."""

    name = "first"

    def __init__(self, raises: bool) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.raises = raises
        self.cancelled = 0

    def run(self, images: Any) -> EngineOutput:
        self.begun.set()
        self.go_on.wait(60)
        if self.raises:
            raise EngineError("stopped")
        return EngineOutput(images[..., 0], images[..., 0].astype(np.float32))

    def cancel(self) -> None:
        self.cancelled += 1

    def close(self) -> None:
        pass


@pytest.mark.parametrize("raises", [False, True])
def test_an_overdue_run_has_failed_once_however_it_ends(raises: bool) -> None:
    engine = Hangs(raises)
    log: list[str] = []
    supervisor = EngineSupervisor(
        lambda name: engine, "first", ("first",), FailurePolicy(first_retry_s=0.0), log.append
    )
    supervisor.open()
    errors: list[Exception] = []

    def use() -> None:
        try:
            supervisor.run(IMAGES)
        except EngineError as error:
            errors.append(error)
            supervisor.report_failure(error)

    thread = threading.Thread(target=use)
    thread.start()
    assert engine.begun.wait(60)
    work = supervisor.watch.work
    assert work is not None
    supervisor.expire(work)
    supervisor.expire(work)
    assert (supervisor.failures, supervisor.is_open, engine.cancelled) == (1, False, 1)
    engine.go_on.set()
    thread.join(60)
    assert [type(error) for error in errors] == [InferenceDeadlineError]
    assert (supervisor.failures, supervisor.is_open) == (1, False)
    # The next engine is not to blame for what the last one did.
    engine.raises = False
    supervisor.expire(work)
    supervisor.run(IMAGES)
    assert (supervisor.failures, supervisor.is_open, engine.cancelled) == (1, True, 1)


def test_a_call_that_does_not_come_back_is_told_once_and_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    silences: list[float] = []
    expired: list[str] = []
    watchdog = Watchdog(log.append, silences.append)
    watchdog.on_overdue(lambda work: expired.append(work.what))
    never: Callable[[], bool] = threading.Event().wait

    def hang() -> None:
        with watchdog.watch.at("closing the engine", lambda: 0.2):
            never()

    looked: list[float] = []
    with pytest.raises(AbandonedError, match="closing the engine has not come back"):
        watchdog.call(hang, lambda seen: looked.append(seen.age_s))
    assert (log, expired) == (["closing the engine takes longer than 0.2 s"], ["closing the engine"])
    assert watchdog.stuck
    assert watchdog.abandoned
    assert len(looked) > 5
    assert min(silences) > 0.2 + grace_s(0.2)


def test_who_leaves_waits_for_no_engine_that_is_being_opened_and_a_moment_for_a_frame() -> None:
    watchdog = Watchdog(lambda text: None)
    watchdog.leave()

    def hang() -> None:
        with watchdog.watch.at("opening", lambda: 3600.0):
            threading.Event().wait()

    with pytest.raises(AbandonedError):
        watchdog.call(hang, lambda seen: None, until_leaving=True)
    assert watchdog.abandoned
    assert not watchdog.stuck
    assert Watchdog(lambda text: None).call(lambda: 7, lambda seen: None) == 7
