from __future__ import annotations

import pytest

from ros_ood_perception.node.frames.timeline import FrameTimeline
from ros_ood_perception.node.health.health import CameraPulse, StageLatencies
from ros_ood_perception.node.health.logged_kinds import LoggedKinds

STALE_S = 2.0


@pytest.fixture
def pulse() -> CameraPulse:
    pulse = CameraPulse()
    pulse.activate(0.0)
    return pulse


def state(pulse: CameraPulse, now: float) -> str:
    return pulse.health(now, STALE_S).state


def test_without_a_frame_it_waits_and_when_frames_stop_it_is_stale(pulse: CameraPulse) -> None:
    assert state(pulse, 100.0) == "waiting"
    pulse.received(100.0)
    pulse.published(100.1, {})
    assert state(pulse, 101.0) == "active"
    assert pulse.health(101.0, STALE_S).valid
    assert state(pulse, 102.1) == "stale"
    pulse.received(103.0)
    pulse.published(103.1, {})
    assert state(pulse, 103.2) == "active"


def test_frames_without_results_are_stale_too(pulse: CameraPulse) -> None:
    pulse.received(1.0)
    pulse.published(1.1, {})
    pulse.received(4.0)
    assert state(pulse, 4.0) == "stale"


def test_a_camera_that_sends_nothing_is_told_from_an_engine_that_gives_nothing(pulse: CameraPulse) -> None:
    def verdict(now: float) -> tuple[str, bool]:
        health = pulse.health(now, STALE_S)
        return health.state, health.nothing_received

    assert verdict(1.0) == ("waiting", True)
    pulse.received(1.0)
    assert verdict(1.1) == ("waiting", False)
    pulse.published(1.1, {})
    assert verdict(1.2) == ("active", False)
    pulse.received(3.0)
    assert verdict(4.0) == ("stale", False)
    assert verdict(5.1) == ("stale", True)


def test_one_bad_frame_between_good_ones_is_no_state_and_only_bad_ones_are(pulse: CameraPulse) -> None:
    pulse.received(1.0)
    pulse.published(1.0, {})
    pulse.received(1.1)
    pulse.refused("rejected", "malformed frames (zero size)")
    assert state(pulse, 1.2) == "active"
    for tenth in range(12, 40):
        pulse.received(tenth / 10)
        pulse.refused("rejected", "malformed frames (zero size)")
    health = pulse.health(4.0, STALE_S)
    assert (health.state, health.reason, health.valid) == ("rejected", "malformed frames (zero size)", False)


def test_a_failed_frame_is_a_state_at_once_and_a_good_one_ends_it(pulse: CameraPulse) -> None:
    pulse.received(1.0)
    pulse.published(1.0, {})
    pulse.received(1.1)
    pulse.refused("failed", "a frame failed (EngineError)")
    assert state(pulse, 1.1) == "failed"
    # The engine is closed: a frame that never came to it changes nothing.
    pulse.received(1.15)
    pulse.refused("rejected", "malformed frames (data too short)")
    assert state(pulse, 1.15) == "failed"
    pulse.refused("rejected", "malformed frames (zero size)")
    assert pulse.health(1.15, STALE_S).reason == "a frame failed (EngineError); since then malformed frames (zero size)"
    pulse.received(1.2)
    pulse.published(1.2, {})
    assert state(pulse, 1.2) == "active"


def test_a_camera_that_sleeps_is_neither_active_nor_stale_unless_its_frames_stop(pulse: CameraPulse) -> None:
    for tenth in range(100):
        pulse.received(tenth / 10)
        pulse.slept(tenth / 10)
    health = pulse.health(10.0, STALE_S)
    assert (health.state, health.valid) == ("asleep", False)
    assert "sleep_without_subscribers" in health.message
    # The first frame after it is in inference.
    pulse.received(10.1)
    assert state(pulse, 10.2) == "asleep"
    pulse.published(10.3, {})
    assert state(pulse, 10.3) == "active"
    pulse.slept(10.4)
    assert state(pulse, 13.0) == "stale"


def test_a_camera_whose_engine_failed_stays_failed_while_it_sleeps(pulse: CameraPulse) -> None:
    pulse.received(1.0)
    pulse.refused("failed", "a frame failed (EngineError)")
    pulse.received(1.1)
    pulse.slept(1.1)
    assert state(pulse, 1.1) == "failed"


def test_a_frame_that_comes_after_a_silence_is_not_blamed_on_the_engine(pulse: CameraPulse) -> None:
    pulse.received(1.0)
    pulse.published(1.1, {})
    pulse.received(9.0)
    health = pulse.health(9.1, STALE_S)
    assert (health.state, health.no_result) == ("stale", False)
    assert health.reason == "no result for 8 s; a frame that has just come is in inference"
    for second in (10.0, 11.0):
        pulse.received(second)
    assert pulse.health(11.1, STALE_S).no_result


def test_implausible_frames_are_in_the_message(pulse: CameraPulse) -> None:
    pulse.received(1.0)
    pulse.published(1.0, {"black": "99% of the pixels are dark"})
    assert pulse.health(1.0, STALE_S).message == "active; black: 99% of the pixels are dark"


def test_rates_are_those_of_the_last_seconds(pulse: CameraPulse) -> None:
    for number in range(200):
        pulse.received(number / 20)
        if number % 4 == 0:
            pulse.published(number / 20, {})
    received, published = pulse.rates_hz(10.0)
    assert received == pytest.approx(20.0, rel=0.05)
    assert published == pytest.approx(5.0, rel=0.05)
    assert pulse.rates_hz(100.0) == (0.0, 0.0)


def test_percentiles_are_of_the_newest_samples() -> None:
    latencies = StageLatencies()
    for value in range(2000):
        latencies.add({"wait": float(value)})
    assert latencies.percentiles()["wait_ms_p50"] == pytest.approx(1499.5)


def test_a_kind_is_logged_once_and_counted_each_time() -> None:
    lines: list[str] = []
    kinds = LoggedKinds(lines.append, "camera 'left': ")
    for number in range(3):
        kinds.add("too old", f"a frame is {number} ms old")
    assert kinds.counts() == {"too old": 3}
    assert lines == ["camera 'left': a frame is 0 ms old (logged once; counted in /diagnostics as 'too old')"]


def test_stamps_that_go_back_repeat_or_run_ahead_are_told_apart() -> None:
    timeline = FrameTimeline()
    second = 10**9
    first = timeline.follow(100 * second, 101 * second)
    assert (first.age_ms, first.went_back, first.repeated, first.in_future) == (1000.0, False, False, False)
    assert timeline.follow(100 * second, 101 * second).repeated
    assert timeline.follow(99 * second, 101 * second).went_back
    assert timeline.follow(102 * second, 101 * second).in_future
    timeline.restart()
    assert not timeline.follow(1 * second, 101 * second).went_back


def test_the_stamp_of_another_clock_gives_no_age() -> None:
    hour = 3600 * 10**9
    assert FrameTimeline().follow(100 * hour, 101 * hour).one_clock
    # A bag of another day, and a driver whose stamps count from its start.
    assert not FrameTimeline().follow(80 * hour, 101 * hour).one_clock
    assert not FrameTimeline().follow(10**9, 500_000 * hour).one_clock


def test_without_a_clock_no_age_is_known() -> None:
    when = FrameTimeline().follow(100, 0)
    assert (when.age_ms, when.in_future) == (None, False)
