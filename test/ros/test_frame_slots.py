from __future__ import annotations

import itertools
import threading

from hypothesis import given
from hypothesis import strategies as st

from ros_ood_perception.node.frames.slots import FrameSlots


class ManualClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_newer_frame_replaces_an_unread_one_of_its_own_camera_only() -> None:
    slots: FrameSlots[str] = FrameSlots(2)
    assert slots.put(0, "a1") is None
    assert slots.put(1, "b1") is None
    assert slots.put(0, "a2") == "a1"
    assert [slots.take(), slots.take()] == [(0, "a2"), (1, "b1")]


@given(st.integers(2, 5), st.lists(st.integers(0, 4), max_size=60))
def test_no_camera_waits_for_more_turns_than_there_are_others(cameras: int, arrivals: list[int]) -> None:
    slots: FrameSlots[int] = FrameSlots(cameras)
    waited = [0] * cameras
    waiting = [False] * cameras
    for camera in (number % cameras for number in arrivals):
        # Camera 0 is always there again at once, as one that is much faster than the others.
        for ready in {0, camera}:
            slots.put(ready, ready)
            waiting[ready] = True
        taken = slots.take()
        assert taken is not None
        waiting[taken[0]] = False
        waited = [waited[i] + 1 if waiting[i] else 0 for i in range(cameras)]
        assert max(waited) < cameras


def test_closed_slots_give_what_is_left_and_then_none() -> None:
    slots: FrameSlots[int] = FrameSlots(2)
    slots.limit_rate(0.001)
    for number in range(2):
        slots.put(0, number)
        assert number == 1 or slots.take() == (0, 0)
    slots.put(1, 9)
    slots.close()
    assert sorted([slots.take() or (), slots.take() or ()]) == [(0, 1), (1, 9)]
    assert slots.take() is None


def test_closing_wakes_a_waiting_reader() -> None:
    slots: FrameSlots[int] = FrameSlots(1)
    taken: list[object] = []
    reader = threading.Thread(target=lambda: taken.append(slots.take()))
    reader.start()
    slots.close()
    reader.join(5)
    assert taken == [None]


def test_a_rate_limit_takes_the_newest_frame_at_that_rate_on_average() -> None:
    clock = ManualClock()
    slots: FrameSlots[int] = FrameSlots(1, clock)
    slots.limit_rate(10.0)
    taken, replaced = [], 0
    for number in range(300):  # 30 Hz for 10 s
        clock.now = 100.0 + number / 30
        replaced += slots.put(0, number) is not None
        if clock.now >= slots._due[0]:
            found = slots.take()
            assert found is not None
            taken.append(found[1])
    assert 98 <= len(taken) <= 101
    assert len(taken) + replaced in (299, 300)
    assert all(later - earlier == 3 for earlier, later in itertools.pairwise(taken))
