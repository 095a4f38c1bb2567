from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_ood_perception.node.frames.accounting import MAX_PUBLISHERS, FrameAccounting
from ros_ood_perception.pipeline.fates import RECEIVED_FATES


def total(accounting: FrameAccounting) -> tuple[int, int]:
    counts = accounting.snapshot().as_dict()
    return counts.pop("sent"), sum(counts.values())


@given(st.lists(st.one_of(st.integers(1, 5), st.sampled_from(RECEIVED_FATES))))
def test_the_sum_holds_after_every_step(steps: list[int | str]) -> None:
    accounting = FrameAccounting()
    number = 0
    for step in steps:
        if isinstance(step, int):
            number += step
            accounting.receive(b"camera", number)
        elif accounting.snapshot().in_progress:
            accounting.count(step)
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
        FrameAccounting().count("vanished")


def test_a_publisher_that_restarts_for_ever_fills_no_memory() -> None:
    accounting = FrameAccounting()
    for start in range(3 * MAX_PUBLISHERS):
        accounting.receive(str(start).encode(), 1)
    assert len(accounting._last_number) == MAX_PUBLISHERS
    # The one that spoke last is still known.
    accounting.receive(str(3 * MAX_PUBLISHERS - 1).encode(), 3)
    assert accounting.snapshot().lost_in_transport == 1
