"""The FROC curve and its intervals, on drives whose counts can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.metrics.obstacles import froc as module
from training.metrics.obstacles.findings import FalseSighting, ObjectRecord, Sighting
from training.metrics.obstacles.froc import froc
from training.metrics.obstacles.judging import JudgedObject
from training.metrics.obstacles.measure import MeasuredDrive
from training.metrics.obstacles.truth import TrueObject

SECOND_NS = 10**9


def drive(
    objects: list[float | None], false: dict[int, list[float]], seconds: int = 60, camera: str = ""
) -> MeasuredDrive:
    """Objects with the score at which they are found; false obstacles: second of the first frame to its scores."""
    made = MeasuredDrive()
    for number, score in enumerate(objects):
        truth = TrueObject(str(number), "tyre")
        found = () if score is None else ("1",)
        seen = JudgedObject(truth, 1.0, True, True, found_by=found, score=score)
        record = ObjectRecord(camera, str(number), "tyre", None, [Sighting(0, 100, seen)])
        made.findings.objects[camera, str(number)] = record
    for number, (second, scores) in enumerate(false.items()):
        made.findings.false[camera, str(number)] = [
            FalseSighting((second + later) * SECOND_NS, score) for later, score in enumerate(scores)
        ]
    made.spans[camera] = [(second * SECOND_NS, 1.0) for second in range(seconds)]
    return made


def test_the_curve_has_a_point_for_each_score() -> None:
    # Three objects of four are found; the false obstacle of second 5 has its highest score in its second frame.
    found = froc([drive([0.9, 0.5, 0.3, None], {5: [0.4, 0.6], 30: [0.2]}, seconds=120)])
    points = [
        (p["threshold"], p["share_found"], pytest.approx(p["false_obstacles_per_minute"])) for p in found["points"]
    ]
    assert points == [
        (None, 0.0, 0.0),
        (0.9, 0.25, 0.0),
        (0.6, 0.25, 0.5),
        (0.5, 0.5, 0.5),
        (0.3, 0.75, 0.5),
        (0.2, 0.75, 1.0),
    ]
    at = {row["false_obstacles_per_minute"]: (row["threshold"], row["share_found"]) for row in found["at_rates"]}
    # 0.3 a minute would be 0.6 in two minutes: none.
    assert at == {0.1: (0.9, 0.25), 0.3: (0.9, 0.25), **dict.fromkeys((1.0, 3.0, 10.0, 30.0, 100.0), (0.2, 0.75))}


def test_a_false_obstacle_above_all_objects_leaves_nothing_at_a_low_rate() -> None:
    found = froc([drive([0.5], {3: [0.8]})])
    at = {row["false_obstacles_per_minute"]: (row["threshold"], row["share_found"]) for row in found["at_rates"]}
    assert at[0.3] == (None, 0.0)
    assert at[1.0] == (0.5, 1.0)


def test_one_drive_is_resampled_by_objects_and_stretches() -> None:
    found = froc([drive([0.5] * 5 + [None] * 5, {second: [0.4] for second in range(0, 60, 6)}, seconds=60)])
    assert found["resampled"] == "10 objects; 10 stretches of 6 s"
    last = found["points"][-1]
    assert (last["share_found"], last["false_obstacles_per_minute"]) == (0.5, pytest.approx(10.0))
    # Binomial(10, 1/2) / 10 lies in 0.2 to 0.8 in 97.9 % of the draws.
    assert last["share_found_interval"] == pytest.approx([0.2, 0.8])
    # Each stretch has one false obstacle: no spread.
    assert last["false_obstacles_per_minute_interval"] == pytest.approx([10.0, 10.0])


def test_false_obstacles_in_one_stretch_have_a_wide_interval() -> None:
    [last] = froc([drive([0.5, None], {0: [0.4], 1: [0.4], 2: [0.4]}, seconds=60)])["points"][-1:]
    assert last["false_obstacles_per_minute"] == pytest.approx(3.0)
    low, high = last["false_obstacles_per_minute_interval"]
    # The stretch is drawn 0 to 4 times of 10, at 2.5 and 97.5 %: Binomial(10, 1/10) has P(>= 4) = 1.3 %.
    assert low == 0.0
    assert high == pytest.approx(9.0)


def test_several_drives_are_resampled_as_wholes() -> None:
    # All objects of one drive are found, none of the other, so a drive is all or nothing.
    drives = [drive([0.9, 0.9], {}), drive([None, None], {1: [0.5], 2: [0.5], 3: [0.5], 4: [0.5]})]
    found = froc(drives)
    assert found["resampled"] == "2 drives"
    last = found["points"][-1]
    assert (last["share_found"], last["false_obstacles_per_minute"]) == (0.5, pytest.approx(2.0))
    assert last["share_found_interval"] == pytest.approx([0.0, 1.0])
    assert last["false_obstacles_per_minute_interval"] == pytest.approx([0.0, 4.0])


def test_the_intervals_are_those_of_the_beta_and_poisson_of_many_units() -> None:
    """40 of 80 objects found, and 60 false obstacles at random in 20 minutes: intervals of the textbook."""
    seconds = np.random.default_rng(3).choice(1200, 60, replace=False)
    found = froc([drive([0.5] * 40 + [None] * 40, {int(s): [0.4] for s in seconds}, seconds=1200)])
    last = found["points"][-1]
    assert last["share_found_interval"] == pytest.approx([0.39, 0.61], abs=0.02)
    assert last["false_obstacles_per_minute"] == pytest.approx(3.0)
    # 60 of a Poisson process: 3 +- 1.96 sqrt(60) / 20 = 2.24 to 3.76.
    assert last["false_obstacles_per_minute_interval"] == pytest.approx([2.24, 3.76], abs=0.35)


def test_without_objects_or_with_one_unit_nothing_is_made_up() -> None:
    found = froc([drive([], {1: [0.5]})])
    assert [point["share_found"] for point in found["points"]] == [None, None]
    assert all(row["share_found"] is None for row in found["at_rates"])
    [one] = froc([drive([0.5], {})])["points"][-1:]
    assert (one["share_found"], one["share_found_interval"]) == (1.0, None)
    still = froc([drive([0.5], {}, seconds=0)])
    assert still["points"][-1]["false_obstacles_per_minute"] is None


def test_two_cameras_count_twice_the_time() -> None:
    both = drive([0.5], {0: [0.4]}, camera="front")
    both.spans["rear"] = both.spans["front"]
    last = froc([both])["points"][-1]
    assert last["false_obstacles_per_minute"] == pytest.approx(0.5)


def test_a_long_curve_keeps_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_POINTS", 5)
    points = froc([drive([0.01 * number for number in range(1, 61)], {})])["points"]
    assert [point["threshold"] for point in points][1::4] == [pytest.approx(0.6), pytest.approx(0.01)]
    assert len(points) == 6
    assert points[-1]["share_found"] == 1.0
