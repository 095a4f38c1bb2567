from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ros_ood_perception.files.natural_order import natural_key


def test_numbers_in_names_count_as_numbers() -> None:
    frames = [f"frame{number}.png" for number in range(1, 101)]
    assert sorted(sorted(frames), key=natural_key) == frames
    drives = [f"drive{drive}_frame{frame}" for drive in (2, 10) for frame in (3, 20)]
    assert sorted(sorted(drives), key=natural_key) == drives
    assert sorted(["a.png", "a0.png", "a-1.png"], key=natural_key) == sorted(["a.png", "a0.png", "a-1.png"])


def test_fractions_of_seconds_are_no_numbers_of_their_own() -> None:
    times = ["1700000000.05.png", "1700000000.25.png", "1700000000.5.png", "1700000001.1.png"]
    assert sorted([times[2], times[3], times[0], times[1]], key=natural_key) == times
    assert sorted(["v1.10.png", "v1.9.png"], key=natural_key) == ["v1.9.png", "v1.10.png"]


@given(st.lists(st.tuples(st.integers(0, 9999), st.sampled_from("_-.aZ0 "), st.integers(0, 99)), max_size=8))
def test_names_with_zeros_in_front_keep_their_order(parts: list[tuple[int, str, int]]) -> None:
    names = [f"{first:04d}{between}{second:02d}.png" for first, between, second in parts]
    same_shape = [name for name in names if not name[4].isdigit()]
    assert sorted(same_shape, key=natural_key) == sorted(same_shape)
