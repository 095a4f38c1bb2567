"""The policy, with engines that fail when told to; `test_engine_failure.py` lets a real one fail under the node."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from ros_ood_perception.inference.engine import EngineError, EngineOutput
from ros_ood_perception.inference.failure_policy import FailurePolicy
from ros_ood_perception.node.engine_supervisor import EngineSupervisor, EngineUnavailableError
from ros_ood_perception.node.frames.slots import FrameSlots
from ros_ood_perception.node.inference_loop import InferenceLoop

IMAGES = np.zeros((1, 2, 2, 3), np.uint8)


class Workshop:
    """Opens engines, and remembers what became of them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.open: list[str] = []
        self.opened: list[str] = []
        self.broken: set[str] = set()
        self.breaks_with: type[BaseException] = EngineError
        self.runs_into: BaseException | None = None
        self.closes = True
        self.log: list[str] = []

    def engine(self, name: str) -> Any:
        if name in self.broken:
            raise self.breaks_with(f"{name} is broken")
        workshop = self

        class Engine:
            def __init__(self) -> None:
                self.name = name

            def run(self, images: np.ndarray) -> EngineOutput:
                if workshop.runs_into is not None:
                    raise workshop.runs_into
                return EngineOutput(images[..., 0], images[..., 0].astype(np.float32))

            def close(self) -> None:
                workshop.open.remove(name)
                if not workshop.closes:
                    raise EngineError("an illegal memory access was encountered")

        self.open.append(name)
        self.opened.append(name)
        return Engine()

    def supervisor(self, policy: FailurePolicy, *after: str) -> EngineSupervisor:
        order = ("before", "first", *after)
        return EngineSupervisor(self.engine, "first", order, policy, self.log.append, lambda: self.now)


def test_a_failed_engine_is_closed_and_opened_again_after_pauses_that_double() -> None:
    workshop = Workshop()
    supervisor = workshop.supervisor(FailurePolicy(max_failures=99, first_retry_s=1.0, longest_retry_s=4.0))
    supervisor.open()
    for pause_s in (1.0, 2.0, 4.0, 4.0):
        supervisor.report_failure(EngineError("no"))
        assert workshop.open == []
        workshop.now += pause_s - 0.01
        with pytest.raises(EngineUnavailableError, match=r"opened again in 0\.0 s"):
            supervisor.run(IMAGES)
        workshop.now += 0.02
        supervisor.run(IMAGES)
        assert workshop.open == ["first"]
    assert (supervisor.failures, supervisor.reopened) == (4, 4)


@pytest.mark.parametrize("trouble", [RuntimeError("CUDA error"), MemoryError(), SystemExit(3), BaseException("panic")])
def test_whatever_an_engine_raises_it_is_the_engine_that_failed(trouble: BaseException) -> None:
    workshop = Workshop()
    supervisor = workshop.supervisor(FailurePolicy(max_failures=99, first_retry_s=0.0))
    supervisor.open()
    workshop.runs_into = trouble
    with pytest.raises(EngineError, match=f"the engine 'first' raised {type(trouble).__name__}") as raised:
        supervisor.run(IMAGES)
    supervisor.report_failure(raised.value)
    assert workshop.open == []
    workshop.runs_into, workshop.broken, workshop.breaks_with = None, {"first"}, type(trouble)
    with pytest.raises(EngineUnavailableError, match="cannot be opened again"):
        supervisor.run(IMAGES)
    workshop.broken = set()
    supervisor.run(IMAGES)
    assert supervisor.failures == 2


def test_a_good_run_forgives_earlier_failures() -> None:
    workshop = Workshop()
    supervisor = workshop.supervisor(FailurePolicy(max_failures=2, after_failures="inactive", first_retry_s=0.0))
    supervisor.open()
    for _ in range(5):
        supervisor.report_failure(EngineError("no"))
        supervisor.run(IMAGES)
        supervisor.report_success()
    assert not supervisor.given_up


def test_after_too_many_failures_the_next_engine_that_opens_runs() -> None:
    workshop = Workshop()
    policy = FailurePolicy(max_failures=2, after_failures="fallback", first_retry_s=0.0)
    supervisor = workshop.supervisor(policy, "second", "third")
    supervisor.open()
    workshop.broken |= {"first", "second"}
    supervisor.report_failure(EngineError("no"))
    for _ in range(3):  # the first opens no more, the second does not open twice
        with pytest.raises(EngineUnavailableError, match="cannot be opened again"):
            supervisor.run(IMAGES)
    supervisor.run(IMAGES)
    assert supervisor.name == "third"
    assert workshop.open == ["third"]


@pytest.mark.parametrize("after", ["fallback", "inactive"])
def test_without_another_engine_it_gives_up_until_it_is_opened(after: Any) -> None:
    workshop = Workshop()
    supervisor = workshop.supervisor(FailurePolicy(max_failures=1, after_failures=after))
    supervisor.open()
    supervisor.report_failure(EngineError("no"))
    workshop.now += 1e6
    with pytest.raises(EngineUnavailableError, match="given up"):
        supervisor.run(IMAGES)
    assert supervisor.given_up
    supervisor.open()
    supervisor.run(IMAGES)
    assert not supervisor.given_up


def test_after_giving_up_it_begins_again_with_what_was_asked_for() -> None:
    workshop = Workshop()
    supervisor = workshop.supervisor(
        FailurePolicy(max_failures=1, after_failures="fallback", first_retry_s=0.0), "second"
    )
    supervisor.open()
    supervisor.report_failure(EngineError("no"))
    supervisor.run(IMAGES)
    assert supervisor.name == "second"
    supervisor.report_failure(EngineError("no"))
    assert supervisor.given_up
    supervisor.open()
    assert supervisor.name == "first"
    for name in ("first", "second"):
        supervisor.report_failure(EngineError("no"))
        if name == "first":
            supervisor.run(IMAGES)
    assert supervisor.given_up
    # What was asked for is lost: better the last one that it fell back to than none.
    workshop.broken.add("first")
    supervisor.open()
    assert supervisor.name == "second"


@pytest.mark.parametrize("after", ["retry", "inactive", "fallback"])
def test_what_auto_chose_is_what_is_opened_again(after: Any) -> None:
    workshop = Workshop()

    def choose(name: str) -> Any:
        return workshop.engine("first" if name == "auto" and "first" not in workshop.broken else name)

    policy = FailurePolicy(max_failures=3, after_failures=after, first_retry_s=0.0)
    supervisor = EngineSupervisor(choose, "auto", ("first", "second"), policy, workshop.log.append, lambda: 0.0)
    supervisor.open()
    # A GPU that is busy for a moment is not given up for an engine that is slower.
    workshop.broken.add("first")
    supervisor.report_failure(EngineError("no"))
    with pytest.raises(EngineUnavailableError, match="the engine 'first' cannot be opened again"):
        supervisor.run(IMAGES)
    workshop.broken.clear()
    supervisor.run(IMAGES)
    assert supervisor.name == "first"


def test_retry_never_gives_up() -> None:
    workshop = Workshop()
    supervisor = workshop.supervisor(FailurePolicy(max_failures=1, after_failures="retry", first_retry_s=0.0))
    supervisor.open()
    for _ in range(50):
        supervisor.report_failure(EngineError("no"))
    supervisor.run(IMAGES)


def test_an_engine_that_cannot_be_closed_is_counted_let_go_and_followed_by_the_next() -> None:
    workshop = Workshop()
    workshop.closes = False
    supervisor = workshop.supervisor(FailurePolicy(max_failures=2, first_retry_s=0.0), "second")
    supervisor.open()
    for _ in range(2):
        supervisor.run(IMAGES)
        supervisor.report_failure(EngineError("no"))
    supervisor.run(IMAGES)
    assert (supervisor.name, supervisor.failures, workshop.open) == ("second", 2, ["second"])
    assert sum("'first' could not be closed (an illegal memory access" in line for line in workshop.log) == 2
    supervisor.close()
    assert workshop.open == []


def test_whatever_keeps_an_engine_from_opening_counts_and_is_waited_for() -> None:
    workshop = Workshop()
    supervisor = workshop.supervisor(FailurePolicy(max_failures=3, first_retry_s=1.0), "second")
    supervisor.open()
    workshop.broken, workshop.breaks_with = {"first"}, RuntimeError
    supervisor.report_failure(EngineError("no"))
    for pause_s in (1.0, 2.0):
        with pytest.raises(EngineUnavailableError, match="is opened again in"):
            supervisor.run(IMAGES)
        workshop.now += pause_s
        with pytest.raises(EngineUnavailableError, match="cannot be opened again: first is broken"):
            supervisor.run(IMAGES)
    supervisor.run(IMAGES)
    assert (supervisor.name, supervisor.failures) == ("second", 3)


class OnlyCamera:
    """Stands in for a camera: runs the engine, and tells what became of each frame."""

    def __init__(self, supervisor: EngineSupervisor) -> None:
        self.supervisor = supervisor
        self.fates: list[str] = []

    def use(self, frame: Any, live: Any) -> bool:
        try:
            self.supervisor.run(IMAGES)
        except EngineError as error:
            self.fates.append(type(error).__name__)
            raise
        self.fates.append("published")
        return True


@pytest.mark.parametrize("after", ["fallback", "inactive"])
@pytest.mark.parametrize("breaks_with", [EngineError, RuntimeError])
def test_the_loop_says_once_that_an_engine_that_no_longer_opens_is_given_up(
    after: Any, breaks_with: type[Exception]
) -> None:
    workshop = Workshop()
    supervisor = workshop.supervisor(FailurePolicy(max_failures=3, after_failures=after, first_retry_s=0.0))
    supervisor.open()
    workshop.closes, workshop.breaks_with = False, breaks_with
    workshop.broken = {"first"}
    supervisor.report_failure(EngineError("the run that failed"))
    camera: Any = OnlyCamera(supervisor)
    slots: FrameSlots[Any] = FrameSlots(1)
    given_up: list[list[str]] = []
    live: Any = None
    broken: list[BaseException] = []
    loop = InferenceLoop(
        [camera],
        slots,
        supervisor,
        lambda: live,
        lambda: given_up.append(list(camera.fates)),
        broken.append,
    )
    loop.start()
    for number in range(5):
        slots.put(0, number)
        deadline = time.monotonic() + 60
        while len(camera.fates) <= number and time.monotonic() < deadline:
            time.sleep(0.001)
    loop.finish()
    assert camera.fates == ["EngineUnavailableError"] * 5
    assert given_up == [["EngineUnavailableError"] * 2]
    assert broken == []
