"""Which objects are found and which obstacles are false: on masks and places that can be worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ros_ood_perception.recordings.results import DetectedBox
from training.metrics.obstacles.findings import Findings
from training.metrics.obstacles.judging import JudgedFrame, Rule, can_be_judged, judge
from training.metrics.obstacles.measure import frame_spans
from training.metrics.obstacles.published import PublishedFrame, PublishedObstacle, obstacle_regions
from training.metrics.obstacles.truth import PixelArea, TrueFrame, TrueObject, footprint_range_m, outside_m

CAMERA = (1.5, 0.0)
SIZE = (48, 64)
PIXELS = (slice(20, 30), slice(30, 40))
"""The tyre's pixels: 100."""


def area(rows: slice, columns: slice) -> PixelArea:
    mask = np.zeros(SIZE, np.bool_)
    mask[rows, columns] = True
    return PixelArea.of_mask(mask)


def tyre(
    x: float = 20.0, y: float = 0.0, number: str = "1", pixels: PixelArea | None = None, **other: Any
) -> TrueObject:
    """A square of 0.6 m around a place."""
    footprint = np.array([(x + u, y + v) for u, v in ((-0.3, -0.3), (-0.3, 0.3), (0.3, 0.3), (0.3, -0.3))])
    facts = {"footprint": footprint, "range_m": footprint_range_m(footprint, CAMERA), "height_m": 0.3, **other}
    return TrueObject(number, "tyre", pixels or area(*PIXELS), **facts)


def line(x: float, y: float = 0.0) -> np.ndarray:
    """Points of an obstacle 0.4 m wide."""
    return np.array([[x, y - 0.2], [x, y], [x, y + 0.2]])


def obstacle(
    number: str, rows: slice, columns: slice, places: np.ndarray | None, score: float = 0.9
) -> PublishedObstacle:
    box = DetectedBox(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start, number, score)
    return PublishedObstacle(number, score, box, places)


def published(*obstacles: PublishedObstacle, mask: np.ndarray | None = None, has_places: bool = True) -> PublishedFrame:
    """A frame whose mask is set in the obstacles' boxes, unless it is given."""
    if mask is None:
        mask = np.zeros(SIZE, np.bool_)
        for one in obstacles:
            mask[round(one.box.y) : round(one.box.y + one.box.height), round(one.box.x) :][
                :, : round(one.box.width)
            ] = True
    return PublishedFrame("/node/", 0, 0, 0, None, mask, obstacles, has_places)


def judged(frame: PublishedFrame, *objects: TrueObject) -> JudgedFrame:
    return judge(frame, TrueFrame(objects), CAMERA, Rule())


def test_an_object_is_found_when_its_pixels_are_marked_and_an_obstacle_stands_there() -> None:
    frame = published(obstacle("7", slice(20, 24), slice(30, 40), line(19.5), score=0.7))
    result = judged(frame, tyre())
    [found] = result.objects
    assert found.marked == pytest.approx(0.4)
    assert (found.found_by, found.score) == (("7",), 0.7)
    # The footprint begins at 19.7 m.
    assert found.errors_m == (pytest.approx(0.2, abs=1e-5),)
    assert result.verdicts == {"7": "found"}


def test_an_obstacle_beside_an_object_that_no_pixel_marks_finds_nothing_and_is_false() -> None:
    """The place alone fits: so were a tyre and a mattress once counted as found."""
    frame = published(obstacle("7", slice(31, 36), slice(30, 40), line(19.7)))
    result = judged(frame, tyre())
    assert [(known.marked, known.touched, known.found) for known in result.objects] == [(0.0, False, False)]
    assert result.verdicts == {"7": "false"}


@pytest.mark.parametrize(("columns", "found"), [(2, True), (1, False)])
def test_a_fifth_of_the_pixels_must_be_marked(columns: int, found: bool) -> None:
    frame = published(obstacle("7", slice(20, 30), slice(30, 30 + columns), line(19.7)))
    result = judged(frame, tyre())
    assert result.objects[0].found is found
    # It is on the object all the same, so it is not false.
    assert result.verdicts == {"7": "found" if found else "on_object"}


def test_marked_pixels_that_are_no_obstacle_find_nothing() -> None:
    mask = np.zeros(SIZE, np.bool_)
    mask[PIXELS] = True
    [known] = judged(published(mask=mask), tyre()).objects
    assert (known.marked, known.is_marked, known.touched, known.found) == (1.0, True, False, False)


@pytest.mark.parametrize(
    ("places", "found"),
    [
        (line(20.0), True),
        (line(22.4), True),  # 14.8 % too far
        (line(22.6), False),
        (line(17.3), True),
        (line(16.9), False),
        (line(20.0, 0.7), True),  # half a degree beside it
        (line(20.0, 1.2), False),
        # Wide: what counts is where it stands in the object's direction.
        (np.stack([np.full(80, 20.0), np.linspace(-4, 4, 80)], axis=1), True),
        (np.stack([np.full(40, 20.0), np.linspace(1.5, 4, 40)], axis=1), False),
    ],
)
def test_the_place_must_fit_in_direction_and_range(places: np.ndarray, found: bool) -> None:
    result = judged(published(obstacle("1", *PIXELS, places)), tyre())
    assert result.objects[0].found is found
    assert result.objects[0].touched
    assert result.verdicts == {"1": "found" if found else "on_object"}


def test_behind_the_vehicle_no_direction_wraps_around() -> None:
    behind = tyre(-20.0)
    assert judged(published(obstacle("1", *PIXELS, line(-20.0))), behind).objects[0].found
    for place in (line(-20.0, 5.0), line(20.0)):
        assert not judged(published(obstacle("1", *PIXELS, place)), behind).objects[0].found


def test_several_obstacles_on_one_object_are_one_find_and_none_is_false() -> None:
    frame = published(
        obstacle("1", slice(20, 24), slice(30, 40), line(19.7), score=0.5),
        obstacle("2", slice(26, 30), slice(30, 40), line(19.7), score=0.8),
    )
    result = judged(frame, tyre())
    [found] = result.objects
    assert (found.found_by, found.score, len(found.errors_m)) == (("1", "2"), 0.8, 2)
    findings = Findings()
    findings.add("", 0, result)
    summary = findings.summary(seconds=60)
    assert (summary["objects"], summary["found"], summary["false_obstacles"]) == (1, 1, 0)


def test_an_object_that_is_small_or_far_is_not_asked_for_and_its_obstacle_is_not_false() -> None:
    small = tyre(pixels=area(slice(20, 25), slice(30, 40)))  # 50 pixels
    assert small.pixels is not None
    far = tyre(60.0)
    for known in (small, far):
        result = judged(published(obstacle("3", slice(20, 25), slice(30, 40), line(20.0))), known)
        assert result.objects == ()
        assert result.verdicts == {"3": "on_object"}


def test_an_obstacle_that_is_not_in_the_point_cloud_neither_finds_nor_is_false() -> None:
    inside = obstacle("1", *PIXELS, None)
    beside = obstacle("2", slice(0, 5), slice(0, 5), None)
    result = judged(published(inside, beside), tyre())
    assert not result.objects[0].found
    assert result.verdicts == {"1": "unplaced", "2": "unplaced"}
    # Without a point cloud in the frame, the picture decides.
    result = judged(published(inside, beside, has_places=False), tyre())
    assert result.objects[0].found
    assert result.objects[0].errors_m == ()
    assert result.verdicts == {"1": "found", "2": "false"}


def test_an_object_with_a_box_only_is_found_without_a_place() -> None:
    boxed = TrueObject("1", "pallet", area(*PIXELS))
    result = judged(published(obstacle("1", *PIXELS, line(3.0))), boxed)
    assert result.objects[0].found
    assert result.objects[0].errors_m == ()


def test_an_object_with_a_place_only_is_found_by_its_place() -> None:
    placed = TrueObject("1", "pallet", None, np.array([[20.0, 0.0]]), 18.5)
    frame = published(obstacle("1", *PIXELS, line(20.0)), obstacle("2", slice(0, 5), slice(0, 5), line(20.0, 5.0)))
    result = judged(frame, placed)
    [known] = result.objects
    assert (known.marked, known.touched, known.found_by) == (None, None, ("1",))
    assert result.verdicts == {"1": "found", "2": "false"}
    assert not can_be_judged(published(has_places=False), TrueFrame((placed,)))
    assert can_be_judged(published(has_places=False), TrueFrame((tyre(),)))


def test_an_area_of_the_mask_belongs_to_the_smallest_box_that_holds_most_of_it() -> None:
    mask = np.zeros((12, 30), np.bool_)
    mask[2, 1:29] = True  # a wide band
    mask[5:8, 10:13] = True  # a thing in the band's box, with a box of its own
    mask[5:8, 20:23] = True  # another one without
    mask[10, 0:4] = True  # in no box
    boxes = [DetectedBox(1, 2, 28, 6, "band"), DetectedBox(9, 5, 4, 3, "thing")]
    regions = obstacle_regions(mask, boxes)
    assert (regions[2, 1:29] == 1).all()
    assert (regions[5:8, 10:13] == 2).all()
    assert (regions[5:8, 20:23] == 1).all()
    assert not regions[10].any()
    assert not regions[~mask].any()
    # A box that holds less than half of an area does not have it.
    assert not obstacle_regions(mask, [DetectedBox(1, 2, 14, 1, "half")])[2].any()


def test_an_obstacle_counts_once_as_false_however_many_frames_it_lasts() -> None:
    findings = Findings()
    on_tyre = obstacle("1", *PIXELS, line(19.7))
    beside = obstacle("2", slice(0, 5), slice(0, 5), line(12.0, 5.0))
    drifted = obstacle("1", slice(0, 5), slice(50, 60), line(10.0, 3.0))
    for number, obstacles in enumerate([(on_tyre, beside), (on_tyre, beside), (drifted,), ()]):
        findings.add("", number * 10**9, judged(published(*obstacles), tyre()))
    summary = findings.summary(seconds=4, kilometres=0.5)
    # The obstacle that left the tyre is one as well, although it found the tyre before.
    assert summary["false_obstacles"] == 2
    assert summary["false_obstacles_per_minute"] == 30
    assert summary["false_obstacles_per_hour"] == 1800
    assert summary["false_obstacles_per_kilometre"] == 4
    assert summary["share_of_frames_with_a_false_obstacle"] == 0.75
    assert (summary["found"], summary["share_of_frames_found"]) == (1, 0.5)


def test_each_object_has_its_row() -> None:
    findings = Findings()
    for number, x in enumerate((42.0, 36.0, 28.0, 20.0, 12.0)):
        shown = (obstacle("1", *PIXELS, line(x - 0.5)),) if number in (2, 3) else ()
        marked = np.ones(SIZE, np.bool_) if number == 1 else None
        findings.add("", number * 500_000_000, judged(published(*shown, mask=marked), tyre(x)))
    summary = findings.summary(seconds=2.5)
    assert (summary["marked"], summary["first_marked_m"]) == (1, pytest.approx(34.2))
    [row] = summary["each"]
    assert row == {
        "id": "1",
        "kind": "tyre",
        "height_m": 0.3,
        "largest_pixels": 100,
        "frames_in_view": 4,
        "frames_marked": 3,
        "largest_marked": 1.0,
        "frames_touched": 2,
        "frames_found": 2,
        "ids": 1,
        "share_found": 0.5,
        "first_in_view_m": pytest.approx(34.2),
        "first_marked_m": pytest.approx(34.2),
        "first_found_m": pytest.approx(26.2),
        "seconds_until_found": pytest.approx(0.5),
        "seconds_found_before_leaving_view": pytest.approx(1.0),
        "score": 0.9,
        "placement_error_m": pytest.approx(0.2, abs=1e-5),
    }


def test_an_object_that_is_lost_and_found_again_has_two_ids() -> None:
    findings = Findings()
    for number, ids in enumerate((("1",), (), ("2",))):
        shown = [obstacle(name, *PIXELS, line(9.5)) for name in ids]
        findings.add("lost", number, judged(published(*shown), tyre(10.0)))
    findings.add("whole", 0, judged(published(obstacle("7", *PIXELS, line(9.5))), tyre(10.0)))
    summary = findings.summary(seconds=1)
    assert [row["ids"] for row in summary["each"]] == [2, 1]
    assert (summary["found"], summary["found_by_one_id"]) == (2, 1)


def test_objects_are_counted_by_kind_height_range_and_pixels() -> None:
    findings = Findings()
    near = tyre(8.0, number="1")
    far = tyre(30.0, number="2", pixels=area(slice(0, 40), slice(0, 10)), height_m=None)
    findings.add("", 0, judged(published(obstacle("1", *PIXELS, line(7.7))), near, far))
    findings.add("", 1, judged(published(), tyre(15.0, number="1"), far))
    summary = findings.summary(seconds=2)
    one = {"objects": 1, "found": 1, "frames_in_view": 2, "share_of_frames_marked": 0.5, "share_of_frames_found": 0.5}
    assert summary["by_kind"] == {
        "tyre": {
            **one,
            "objects": 2,
            "frames_in_view": 4,
            "share_of_frames_marked": 0.25,
            "share_of_frames_found": 0.25,
        }
    }
    assert summary["by_height_m"] == {"0.3 to 0.6": one}
    missed = {
        "objects": 1,
        "found": 0,
        "frames_in_view": 1,
        "share_of_frames_marked": 0.0,
        "share_of_frames_found": 0.0,
    }
    assert summary["by_range_m"] == {
        "0 to 10": {**missed, "found": 1, "share_of_frames_marked": 1.0, "share_of_frames_found": 1.0},
        "10 to 20": missed,
        "20 to 30": {**missed, "frames_in_view": 2},
    }
    assert summary["by_pixels"] == {"60 to 250": one, "250 to 1000": {**missed, "frames_in_view": 2}}


def test_nothing_in_view_gives_no_shares() -> None:
    findings = Findings()
    findings.add("", 0, judged(published()))
    summary = findings.summary(seconds=0)
    assert (summary["objects"], summary["found"], summary["missed"], summary["each"]) == (0, 0, [], [])
    assert summary["marked"] == 0
    for name in (
        "share_of_frames_found",
        "mean_share_found",
        "first_marked_m",
        "first_found_m",
        "false_obstacles_per_minute",
    ):
        assert summary[name] is None
    assert summary["placement_error_m"] == {"median": None, "p95": None}


@pytest.mark.parametrize(
    ("place", "footprint", "expected"),
    [
        ((0.0, 0.0), [(3.0, 4.0)], 5.0),
        ((0.0, 1.0), [(-2.0, 0.0), (2.0, 0.0)], 1.0),
        ((5.0, 4.0), [(-2.0, 0.0), (2.0, 0.0)], 5.0),
        ((0.5, 0.5), [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)], 0.0),
        ((2.0, 0.5), [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)], 1.0),
    ],
)
def test_the_distance_from_a_footprint(
    place: tuple[float, float], footprint: list[tuple[float, float]], expected: float
) -> None:
    assert outside_m(np.array(place), np.array(footprint)) == pytest.approx(expected, abs=1e-6)


def test_a_pause_of_the_recording_is_not_measured_time() -> None:
    steady = [number * 200_000_000 for number in range(150)]
    assert sum(seconds for _, seconds in frame_spans(steady)) == pytest.approx(30)
    later = [stamp + 3_600_000_000_000 for stamp in steady]
    assert sum(seconds for _, seconds in frame_spans(steady + later)) == pytest.approx(60)
    assert frame_spans([5]) == [(5, 0.0)]
    assert math.isclose(frame_spans([0, 100_000_000])[1][1], 0.1)
