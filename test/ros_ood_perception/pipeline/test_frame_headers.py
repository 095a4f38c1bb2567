"""What the headers of a camera's frames say about its results."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from ros_ood_perception.pipeline.frame_headers import MAX_FRAME_IDS, FrameHeaders


@pytest.mark.parametrize(
    ("stamps", "zero", "unordered"),
    [
        ((1, 2, 3), 0, 0),
        ((5, 4, 3), 0, 2),
        ((7, 7, 7), 0, 2),
        ((0, 0, 0), 3, 0),
        ((0, 5, 0, 6), 2, 0),
        ((5, 0, 4), 1, 0),
    ],
)
def test_stamps_that_are_zero_go_back_or_repeat_are_counted_also_after_a_restart(
    stamps: Sequence[int], zero: int, unordered: int
) -> None:
    headers = FrameHeaders()
    for stamp_ns in stamps:
        headers.add(stamp_ns, "camera")
        state = json.loads(json.dumps(headers.state()))
        headers = FrameHeaders()
        headers.restore(state)
    assert (headers.count, headers.zero_stamps, headers.unordered_stamps) == (len(stamps), zero, unordered)
    assert bool(headers.zero_stamp_problem("/front")) == bool(zero)
    problem = headers.unordered_stamp_problem("/front")
    assert (
        problem.startswith(f"{unordered} of {len(stamps)} frames of /front have a stamp") if unordered else not problem
    )


def test_frame_ids_are_kept_once_each_and_only_some_of_many() -> None:
    headers = FrameHeaders()
    for number in range(3 * MAX_FRAME_IDS):
        headers.add(number + 1, f"camera_{number // 2}")
    assert headers.frame_ids == [f"camera_{number}" for number in range(MAX_FRAME_IDS)]
