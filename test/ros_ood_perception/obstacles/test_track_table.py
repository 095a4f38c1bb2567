"""The table of tracks: what a replay writes down of it, and what it knows of the last frames."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ros_ood_perception.obstacles.track_table import SEEN, SPEAKS_FOR, UNSEEN, TrackTable

STATE: list[dict[str, Any]] = [
    {
        "id": 3,
        "box": [10, 20, 30, 40],
        "first": 1_700_000_000_123_456_789,
        "last": 1_700_000_000_323_456_789,
        "age": 2,
        "seen": [SEEN, UNSEEN, SPEAKS_FOR],
        "evidence": [1.8, 0.1 + 0.2],
        "shown": True,
        "place": [[1.5, -2.0, 0.1, 0.01, 0.2], [12.25, 1.0, 0.3, -0.02, 0.4], 1_700_000_000_323_456_789],
    },
    {
        "id": 8,
        "box": [0, 0, 1, 1],
        "first": 1_700_000_000_323_456_789,
        "last": 1_700_000_000_323_456_789,
        "age": 1,
        "seen": [SPEAKS_FOR],
        "evidence": [0.9, 0.0],
        "shown": False,
        "place": None,
    },
]


def test_a_written_state_gives_the_same_tracks_to_the_last_digit() -> None:
    assert json.dumps(TrackTable.restored(STATE, of_frames=3).state()) == json.dumps(STATE)


def test_seen_is_known_of_as_many_frames_as_there_were_and_at_most_of_the_last_ones() -> None:
    table = TrackTable(of_frames=3)
    table.begin_frame()
    table.add([1], stamp_ns=5)
    table.see(np.array([0]), np.array([[1, 2, 3, 4]]), 5)
    seen = [table.state()[0]["seen"]]
    for _ in range(3):
        table.begin_frame()
        seen.append(table.state()[0]["seen"])
    assert seen == [[True], [True, False], [True, False, False], [False, False, False]]


@pytest.mark.parametrize(
    ("of_frames", "expected"),
    [(1, [[2], [2]]), (2, [[0, 2], [2]]), (5, [[1, 0, 2], [2]])],
)
def test_another_number_of_frames_keeps_what_is_known_of_the_last_ones(
    of_frames: int, expected: list[list[int]]
) -> None:
    table = TrackTable.restored(STATE, of_frames=3)
    table.remember(of_frames)
    assert [track["seen"] for track in table.state()] == expected
    assert [track["seen"] for track in TrackTable.restored(STATE, of_frames).state()] == expected
    table.begin_frame()
    assert [track["seen"] for track in table.state()] == [[*seen, UNSEEN][-of_frames:] for seen in expected]


def test_tracks_that_are_not_kept_are_forgotten_with_all_that_is_known_of_them() -> None:
    table = TrackTable.restored(STATE, of_frames=3)
    table.keep(np.array([False, True]))
    assert json.dumps(table.state()) == json.dumps(STATE[1:])
    assert len(table) == 1
    np.testing.assert_array_equal(table.evidence, [0.9])
