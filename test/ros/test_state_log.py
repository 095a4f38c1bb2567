"""What a camera's changes write into the log, and how often. See `test_changes_in_log.py` for a real node."""

from __future__ import annotations

import pytest

from ros_ood_perception.node.health.change_log import MOST_LINES, PERIOD_S, ChangeLog
from ros_ood_perception.node.health.health import FRAMES_LOST, CameraHealth, CameraPulse
from ros_ood_perception.node.health.logged_kinds import QUIET_S, LoggedKinds
from ros_ood_perception.node.health.state_log import StateLog

STALE_S = 2.0


class Lines:
    """A logger that keeps its lines, and a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []

    def clock(self) -> float:
        return self.now

    def info(self, message: str) -> None:
        self.lines.append(f"INFO {message}")

    def warning(self, message: str) -> None:
        self.lines.append(f"WARN {message}")

    def error(self, message: str) -> None:
        self.lines.append(f"ERROR {message}")

    def new(self) -> list[str]:
        """The lines since the last call."""
        lines, self.lines = self.lines, []
        return lines


@pytest.fixture
def log() -> Lines:
    return Lines()


def test_each_change_of_the_state_is_one_line_with_the_time_that_the_last_one_lasted(log: Lines) -> None:
    states, pulse = StateLog(log, "camera: ", log.clock), CameraPulse()

    def at(now: float) -> list[str]:
        log.now = now
        states.see(pulse.health(now, STALE_S), STALE_S)
        return log.new()

    pulse.activate(0.0)
    assert at(0.0) == at(1.9) == []
    assert at(2.1) == ["WARN camera: waiting: no frame for 2 s"]
    assert at(10.0) == []
    pulse.received(10.0)
    pulse.published(10.1, {})
    assert at(10.1) == ["INFO camera: active after 10.1 s 'waiting'"]
    assert at(12.2) == ["ERROR camera: stale after 2.1 s 'active': no frame for 2 s"]
    assert at(14.0) == []
    pulse.received(14.5)
    pulse.refused("rejected", "malformed frames (zero size)")
    assert at(14.6) == ["ERROR camera: rejected after 2.4 s 'stale': malformed frames (zero size)"]
    pulse.refused("failed", "a frame failed (EngineError)")
    assert at(14.7) == ["ERROR camera: failed after 0.1 s 'rejected': a frame failed (EngineError)"]
    pulse.received(15.0)
    pulse.published(15.0, {})
    assert at(15.0) == ["INFO camera: active after 0.3 s 'failed'"]
    pulse.received(15.1)
    pulse.slept(15.1)
    assert at(15.1) == [
        "INFO camera: asleep after 0.1 s 'active': no output has a subscriber, and sleep_without_subscribers is set"
    ]
    # The node logs its transitions itself.
    pulse.deactivate()
    assert at(16.0) == []
    pulse.activate(20.0)
    assert at(20.1) == []
    pulse.received(20.2)
    pulse.published(20.3, {})
    assert at(20.3) == ["INFO camera: active"]


def test_warnings_are_logged_when_they_begin_and_end_and_not_while_there_are_no_results(log: Lines) -> None:
    states = StateLog(log, "", log.clock)

    def see(state: str, **warnings: str) -> list[str]:
        states.see(CameraHealth(state, implausible=warnings), STALE_S)  # type: ignore[arg-type]
        return [line for line in log.new() if "active" not in line and "stale" not in line]

    assert see("active") == []
    assert see("active", black="dark") == ["WARN black: dark"]
    assert see("active", black="darker") == []
    assert see("stale", frames_lost="many") == ["WARN frames_lost: many"]
    assert see("stale") == [f"INFO no longer: {FRAMES_LOST}"]
    assert see("active", black="dark") == []
    assert see("active") == ["INFO no longer: black"]


def test_what_flaps_writes_ten_lines_a_minute_and_its_last_state_is_logged(log: Lines) -> None:
    changes = ChangeLog(log, "", log.clock)
    written: list[float] = []
    for number in range(600):
        log.now = number / 2
        changes.add("error" if number % 2 else "info", f"change {number}")
        written += [log.now] * len(log.new())
    for start in range(300):
        assert sum(start <= time < start + PERIOD_S for time in written) <= MOST_LINES
    assert len(written) >= 5 * MOST_LINES
    log.now += PERIOD_S
    changes.flush()
    (last,) = log.new()
    assert last.startswith("ERROR change 599")
    changes.flush()
    assert log.new() == []
    changes.add("warning", "rare")
    assert log.new() == ["WARN rare"]


def test_the_number_of_lines_left_out_is_said(log: Lines) -> None:
    changes = ChangeLog(log, "camera: ", log.clock)
    for number in range(MOST_LINES + 5):
        changes.add("info", f"change {number}")
    assert log.new() == [f"INFO camera: change {number}" for number in range(MOST_LINES)]
    log.now = PERIOD_S
    changes.flush()
    assert log.new() == [
        f"INFO camera: change {MOST_LINES + 4} (4 lines before this one were left out: at most 10 such lines are "
        "logged in 60 s)"
    ]


def test_a_kind_that_comes_back_after_a_quiet_minute_is_logged_again(log: Lines) -> None:
    kinds = LoggedKinds(log.error, "", log.clock)
    for log.now in (0.0, 30.0, 60.0, 119.0):
        kinds.add("too old", "a frame is old")
    assert len(log.new()) == 1
    log.now += QUIET_S + 1
    kinds.add("too old", "a frame is old")
    assert log.new() == ["ERROR a frame is old (again after 61 s; 4 before, counted in /diagnostics as 'too old')"]
    assert kinds.counts() == {"too old": 5}
