from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_ood_perception.node.frames.accounting import MAX_PUBLISHERS, FrameAccounting
from ros_ood_perception.pipeline.fates import RECEIVED_FATES


def total(accounting: FrameAccounting) -> tuple[int, int]:
    counts = accounting.snapshot().as_dict()
    return counts.pop("sent"), sum(counts.values())


@given(st.lists(st.one_of(st.integers(-3, 5), st.sampled_from(RECEIVED_FATES))))
def test_the_sum_holds_after_every_step(steps: list[int | str]) -> None:
    accounting = FrameAccounting()
    number = sent_before = 0
    for step in steps:
        if isinstance(step, int) and step > 0:
            number += step
            accounting.receive(b"camera", number)
        elif isinstance(step, int):
            accounting.lose(-step)
        elif accounting.snapshot().in_progress:
            accounting.count(step)
        sent, parts = total(accounting)
        assert sent == parts
        assert sent >= sent_before
        sent_before = sent
        losses = accounting.losses()
        assert accounting.snapshot().lost_in_transport == losses.by_middleware + losses.overwritten
        assert min(losses.by_middleware, losses.overwritten) >= 0


@given(st.lists(st.tuples(st.sampled_from(["came", "overwritten", "lost"]), st.booleans())))
def test_every_frame_is_counted_once_in_whatever_order_reports_and_gaps_come(frames: list[tuple[str, bool]]) -> None:
    """The publisher's frames in their order: how each ended, and whether the report of a loss comes late."""
    accounting = FrameAccounting()
    accounting.receive(b"camera", 0)
    late = 0
    for number, (fate, comes_late) in enumerate([*frames, ("came", False)], start=1):
        if fate == "lost" and comes_late:
            late += 1
        elif fate == "lost":
            accounting.lose(1)
        elif fate == "came":
            accounting.receive(b"camera", number)
            if late:
                accounting.lose(late)
            late = 0
    fates = [fate for fate, _ in frames]
    losses = accounting.losses()
    assert accounting.snapshot().sent == len(frames) + 2
    assert (losses.by_middleware, losses.overwritten) == (fates.count("lost"), fates.count("overwritten"))


def test_losses_before_the_first_and_after_the_last_frame_of_a_publisher_are_counted() -> None:
    accounting = FrameAccounting()
    accounting.lose(114)
    assert (accounting.snapshot().sent, accounting.snapshot().lost_in_transport) == (114, 114)
    accounting.receive(b"a", 115)
    accounting.receive(b"a", 118)
    accounting.lose(1)
    accounting.lose(6)
    # The gap of two holds one report; the other report of that gap has not come, and six are later.
    losses = accounting.losses()
    assert (losses.by_middleware, losses.overwritten, accounting.snapshot().sent) == (121, 0, 123)
    accounting.receive(b"b", 1)
    accounting.receive(b"b", 3)
    assert (accounting.losses().overwritten, accounting.snapshot().sent) == (1, 126)


def test_reports_are_not_counted_twice_where_two_publishers_share_the_topic() -> None:
    accounting = FrameAccounting()
    for publisher in (b"a", b"b"):
        accounting.receive(publisher, 1)
    accounting.lose(5)  # of b
    accounting.receive(b"a", 2)
    accounting.receive(b"b", 7)
    assert accounting.snapshot().sent == 2 + 5 + 2


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
        FrameAccounting().count("vanished")


def test_a_publisher_that_restarts_for_ever_fills_no_memory() -> None:
    accounting = FrameAccounting()
    for start in range(3 * MAX_PUBLISHERS):
        accounting.receive(str(start).encode(), 1)
    assert len(accounting._last_number) == MAX_PUBLISHERS
    # The one that spoke last is still known.
    accounting.receive(str(3 * MAX_PUBLISHERS - 1).encode(), 3)
    assert accounting.snapshot().lost_in_transport == 1
