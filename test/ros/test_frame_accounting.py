from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_ood_perception.node.frame_accounting import FATES, FrameAccounting
from ros_ood_perception.node.latest_frame import LatestFrame


def total(accounting: FrameAccounting) -> tuple[int, int]:
    counts = accounting.snapshot().as_dict()
    return counts.pop("sent"), sum(counts.values())


@given(st.lists(st.one_of(st.integers(1, 5), st.sampled_from(FATES))))
def test_the_sum_holds_after_every_step(steps: list[int | str]) -> None:
    accounting = FrameAccounting()
    number = 0
    for step in steps:
        if isinstance(step, int):
            number += step
            accounting.receive(b"camera", number)
        elif accounting.snapshot().in_progress:
            accounting.settle(step)
        sent, parts = total(accounting)
        assert sent == parts


def test_gaps_in_a_publishers_numbering_are_losses() -> None:
    accounting = FrameAccounting()
    for number in (5, 6, 9):
        accounting.receive(b"a", number)
    accounting.receive(b"b", 100)
    snapshot = accounting.snapshot()
    assert (snapshot.sent, snapshot.lost_in_transport, snapshot.in_progress) == (6, 2, 4)


def test_what_is_sent_while_nobody_listens_is_not_lost() -> None:
    accounting = FrameAccounting()
    accounting.receive(b"a", 1)
    accounting.forget_publishers()
    accounting.receive(b"a", 50)
    assert accounting.snapshot().lost_in_transport == 0


def test_a_middleware_without_numbers_counts_no_losses() -> None:
    accounting = FrameAccounting()
    accounting.receive(b"", None)
    accounting.receive(b"", None)
    assert accounting.snapshot().sent == 2


def test_an_unknown_fate_is_refused() -> None:
    with pytest.raises(KeyError):
        FrameAccounting().settle("vanished")


def test_a_newer_frame_replaces_an_unread_one() -> None:
    slot: LatestFrame[int] = LatestFrame()
    assert slot.put(1) is None
    assert slot.put(2) == 1
    assert slot.take() == 2


def test_a_closed_slot_gives_what_is_left_and_then_none() -> None:
    slot: LatestFrame[int] = LatestFrame()
    slot.put(1)
    slot.close()
    assert slot.take() == 1
    assert slot.take() is None


def test_closing_wakes_a_waiting_reader() -> None:
    slot: LatestFrame[int] = LatestFrame()
    taken: list[int | None] = []
    reader = threading.Thread(target=lambda: taken.append(slot.take()))
    reader.start()
    slot.close()
    reader.join(5)
    assert taken == [None]
