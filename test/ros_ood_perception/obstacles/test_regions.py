from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.obstacles.regions import (
    FOOT_BAND,
    FOOT_COLUMNS,
    Box,
    RegionFinder,
    RegionSettings,
    read_ego_mask,
)

ROAD, BUILDING, CAR = 3, 1, 8
EVERYTHING = RegionSettings(hysteresis=1.0, min_area=0.0)


def frame(
    score: NDArray[np.float32], size: tuple[int, int] | None = None, semantic: NDArray[np.uint8] | None = None
) -> FramePerception:
    semantic = np.full(score.shape, ROAD, np.uint8) if semantic is None else semantic
    return FramePerception(size or score.shape, semantic, score, 0.5)  # type: ignore[arg-type]


def blocks(*places: tuple[slice, slice], value: float = 1.0) -> NDArray[np.float32]:
    score = np.zeros((60, 80), np.float32)
    for place in places:
        score[place] = value
    return score


def test_two_separate_regions_are_two_and_the_larger_comes_first() -> None:
    small, large = (slice(10, 14), slice(10, 14)), (slice(30, 40), slice(50, 60))
    regions = RegionFinder(EVERYTHING)(frame(blocks(small, large)))
    assert [region.box for region in regions] == [Box(50, 30, 10, 10), Box(10, 10, 4, 4)]
    assert [region.area for region in regions] == [100, 16]


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    regions = RegionFinder(EVERYTHING)(frame(blocks((slice(5, 7), slice(5, 7)), (slice(7, 9), slice(7, 9)))))
    assert [region.box for region in regions] == [Box(5, 5, 4, 4)]


def test_a_region_below_the_minimum_area_is_dropped() -> None:
    score = blocks((slice(10, 14), slice(10, 14)), (slice(30, 40), slice(50, 60)))
    assert len(RegionFinder(RegionSettings(1.0, min_area=16 / 4800))(frame(score))) == 2
    assert len(RegionFinder(RegionSettings(1.0, min_area=17 / 4800))(frame(score))) == 1


def test_only_so_many_regions_are_kept_and_these_are_the_largest() -> None:
    score = blocks(*[(slice(10, 12 + i), slice(10 * i, 10 * i + 5)) for i in range(6)])
    regions = RegionFinder(RegionSettings(1.0, 0.0, max_regions=2))(frame(score))
    assert [region.box.height for region in regions] == [7, 6]


def test_a_region_grows_over_weak_pixels_from_a_strong_one_and_weak_ones_alone_are_none() -> None:
    score = blocks((slice(10, 20), slice(10, 20)), (slice(40, 50), slice(40, 50)), value=0.45)
    score[12, 12] = 0.5
    regions = RegionFinder(RegionSettings(hysteresis=0.8, min_area=0.0))(frame(score))
    assert [region.box for region in regions] == [Box(10, 10, 10, 10)]
    assert regions[0].peak_score == 0.5
    assert regions[0].score == pytest.approx((99 * 0.45 + 0.5) / 100)
    assert [region.area for region in RegionFinder(EVERYTHING)(frame(score))] == [1]


def test_scores_near_1_are_not_rounded_before_the_threshold_sees_them() -> None:
    score = np.full((4, 4), np.nextafter(np.float32(0.9999), np.float32(0)), np.float32)
    result = FramePerception((4, 4), np.zeros((4, 4), np.uint8), score, 0.9999)
    assert RegionFinder(EVERYTHING)(result) == ()
    score[1, 1] = 0.9999
    assert len(RegionFinder(EVERYTHING)(result)) == 1


def test_a_region_with_its_foot_far_from_drivable_ground_is_dropped() -> None:
    semantic = np.full((60, 80), BUILDING, np.uint8)
    semantic[40:] = ROAD
    on_road = (slice(30, 45), slice(10, 20))  # stands on the road, its upper half before a building
    just_above = (slice(30, 37), slice(40, 50))
    far_above = (slice(10, 20), slice(60, 70))
    result = frame(blocks(on_road, just_above, far_above), semantic=semantic)
    for surroundings, expected in ((0.0, [10]), (2.4 / 60, [10]), (3 / 60, [10, 40]), (1.0, [10, 60, 40])):
        settings = RegionSettings(1.0, 0.0, drivable_ids=frozenset({ROAD}), surroundings=surroundings)
        assert [region.box.x for region in RegionFinder(settings)(result)] == expected, surroundings


def test_a_region_stands_on_the_road_by_the_share_of_its_foot_there() -> None:
    semantic = np.full((60, 80), BUILDING, np.uint8)
    semantic[40:, :40] = ROAD
    whole = (slice(30, 45), slice(10, 20))
    half = (slice(30, 45), slice(30, 50))
    corner = (slice(10, 45), slice(38, 78))
    for standing, expected in ((0.0, [10, 30]), (0.45, [10, 30]), (0.6, [10]), (1.0, [10])):
        settings = RegionSettings(1.0, 0.0, drivable_ids=frozenset({ROAD}), surroundings=0.0, standing=standing)
        result = frame(blocks(whole, half), semantic=semantic)
        assert sorted(region.box.x for region in RegionFinder(settings)(result)) == expected, standing
    for standing, expected in ((0.0, [38]), (0.2, [])):
        settings = RegionSettings(1.0, 0.0, drivable_ids=frozenset({ROAD}), surroundings=0.0, standing=standing)
        found = RegionFinder(settings)(frame(blocks(corner), semantic=semantic))
        assert [region.box.x for region in found] == expected, standing


def test_a_region_whose_lower_part_has_a_known_class_stands_where_the_ground_begins() -> None:
    semantic = np.full((60, 80), ROAD, np.uint8)
    semantic[:20] = BUILDING
    semantic[30:36, 10:30] = CAR  # the lower part of a thing, to the network
    semantic[33:36, 20:30] = ROAD
    result = frame(blocks((slice(10, 30), slice(10, 30))), semantic=semantic)
    own = RegionSettings(1.0, 0.0, drivable_ids=frozenset({ROAD}), surroundings=0.0, standing=0.9)
    # It ends above the road: by 6 rows on the left, by 3 on the right. It is 20 rows high.
    for hidden_foot, stands in ((0.0, False), (5.4 / 20, False), (6 / 20, True), (1.0, True)):
        found = RegionFinder(replace(own, hidden_foot=hidden_foot))(result)
        assert bool(found) == stands, hidden_foot
    [region] = found
    assert region.box == Box(10, 10, 20, 20)
    feet = dict(region.foot_points)
    assert (feet[10], feet[29]) == (35.5, 32.5)
    # Without ground in reach below half of it, the foot of that half stays.
    semantic[32:36, 20:30] = ROAD
    [half] = RegionFinder(replace(own, standing=0.5, hidden_foot=3 / 20))(result)
    assert (dict(half.foot_points)[10], dict(half.foot_points)[29]) == (29.5, 31.5)
    # Drivable ground under the ego mask is not seen.
    bonnet = np.zeros((60, 80), bool)
    bonnet[32:] = True
    assert RegionFinder(replace(own, hidden_foot=1.0), bonnet)(result) == ()


def test_a_foot_with_the_ground_directly_below_or_that_is_cut_is_the_same_with_a_hidden_foot() -> None:
    semantic = np.full((60, 80), ROAD, np.uint8)
    semantic[50:, :40] = CAR  # in reach, but below the road
    result = frame(blocks((slice(10, 30), slice(10, 30)), (slice(20, 60), slice(50, 60))), semantic=semantic)
    settings = RegionSettings(1.0, 0.0, drivable_ids=frozenset({ROAD}), surroundings=0.0, standing=1.0)
    assert len(RegionFinder(settings)(result)) == 2
    assert RegionFinder(replace(settings, hidden_foot=1.0))(result) == RegionFinder(settings)(result)


def test_a_point_that_is_moved_far_takes_the_others_along_up_to_the_band_of_the_foot() -> None:
    semantic = np.full((60, 80), ROAD, np.uint8)
    semantic[30:45, 28:30] = CAR
    result = frame(blocks((slice(10, 30), slice(10, 30))), semantic=semantic)
    settings = RegionSettings(1.0, 0.0, drivable_ids=frozenset({ROAD}), surroundings=0.0, hidden_foot=1.0)
    [region] = RegionFinder(settings)(result)
    assert (dict(region.foot_points)[10], dict(region.foot_points)[29]) == (44.5 - FOOT_BAND * 20, 44.5)


@pytest.mark.parametrize("bonnet_rows", [0, 10])
@pytest.mark.parametrize("columns", [slice(0, 80), slice(25, 55)])
def test_a_wall_that_hides_the_road_down_to_the_lower_edge_or_the_bonnet_is_a_region_whatever_is_around_it(
    bonnet_rows: int, columns: slice
) -> None:
    bonnet = np.zeros((60, 80), bool)
    bonnet[60 - bonnet_rows :] = True
    # To the network the wall is a building, and so is what is left of the picture.
    result = frame(blocks((slice(5, 60), columns)), semantic=np.full((60, 80), BUILDING, np.uint8))
    settings = RegionSettings(1.0, 0.0, drivable_ids=frozenset({ROAD}), surroundings=0.05)
    [region] = RegionFinder(settings, bonnet)(result)
    assert region.foot_is_cut
    assert region.box == Box(columns.start, 5, columns.stop - columns.start, 55 - bonnet_rows)
    # One row above the edge its foot is in the picture, and can be judged.
    lifted = result.engine_anomaly_score.copy()
    lifted[59 - bonnet_rows :] = 0
    assert RegionFinder(settings, bonnet)(frame(lifted, semantic=result.engine_semantic)) == ()


def test_the_own_vehicle_is_no_region_and_cuts_the_foot_of_what_it_hides() -> None:
    score = blocks((slice(20, 60), slice(10, 20)), (slice(20, 30), slice(40, 50)))
    bonnet = np.zeros((120, 160), bool)
    bonnet[100:] = True
    regions = RegionFinder(EVERYTHING, bonnet)(frame(score))
    assert [region.box for region in regions] == [Box(10, 20, 10, 30), Box(40, 20, 10, 10)]
    assert [region.foot_is_cut for region in regions] == [True, False]


def test_a_region_at_the_lower_edge_says_that_its_foot_is_cut() -> None:
    [region] = RegionFinder(EVERYTHING)(frame(blocks((slice(50, 60), slice(10, 20)))))
    assert region.foot_is_cut
    assert max(v for _, v in region.foot_points) == 59.5


def test_boxes_and_foot_points_are_the_frames_whatever_the_engines_size() -> None:
    score = blocks((slice(30, 40), slice(50, 60)))
    [region] = RegionFinder(EVERYTHING)(frame(score, size=(180, 160)))
    assert region.box == Box(100, 90, 20, 30)
    assert region.area == 600
    # The centres of columns 50 and 59, twice as wide; the edge between rows 39 and 40, 3 times as high.
    assert (region.foot_points[0][0], region.foot_points[-1][0]) == (100.5, 118.5)
    assert {v for _, v in region.foot_points} == {119.5}


@pytest.mark.parametrize("width", [962, 1001, 1283])
def test_a_box_ends_within_the_frame(width: int) -> None:
    score = np.zeros((360, 480), np.float32)
    score[300:, 300:] = 1.0
    [region] = RegionFinder(EVERYTHING)(frame(score, size=(width, width)))
    assert region.box.x + region.box.width == width
    assert region.box.y + region.box.height == width


def test_a_foot_lies_where_the_frames_own_score_falls_below_the_threshold() -> None:
    # The frame's score is bilinear between the engine's pixels: so is the foot.
    engine = cv2.GaussianBlur(blocks((slice(20, 40), slice(30, 50))), (0, 0), 1.5) * np.float32(0.9)
    result = frame(engine, size=(600, 800))
    [region] = RegionFinder(EVERYTHING)(result)
    u, v = region.foot_points[len(region.foot_points) // 2]
    column = result.anomaly_mask[:, round(u)]
    assert abs(np.flatnonzero(column)[-1] + 0.5 - v) < 0.75


def test_the_belly_of_a_car_and_the_side_of_a_tyre_do_not_stand_farther_away() -> None:
    car = np.zeros((200, 300), np.uint8)
    cv2.rectangle(car, (50, 50), (249, 120), 1, -1)
    for wheel in (90, 210):
        cv2.circle(car, (wheel, 120), 20, 1, -1)
    [region] = RegionFinder(EVERYTHING)(frame(car.astype(np.float32)))
    feet = np.array(region.foot_points)
    between = (feet[:, 0] > 95) & (feet[:, 0] < 205)
    assert between.sum() > 4
    np.testing.assert_allclose(feet[between, 1], 140.5, atol=1)
    # Its ends, and the sides of a circle, are taken to stand at most 15 % of its height higher than its lowest point.
    assert feet[:, 1].min() == pytest.approx(140.5 - 0.15 * 91)


@given(score=arrays(np.float32, (12, 16), elements=st.floats(0, 1, width=32)), hysteresis=st.floats(0.1, 1))
def test_every_region_holds_an_anomalous_pixel_and_every_anomalous_pixel_is_in_a_box(
    score: NDArray[np.float32], hysteresis: float
) -> None:
    result = frame(score)
    regions = RegionFinder(RegionSettings(hysteresis, 0.0, max_regions=1000))(result)
    covered = np.zeros(score.shape, bool)
    for region in regions:
        box = region.box
        inside = (slice(box.y, box.y + box.height), slice(box.x, box.x + box.width))
        covered[inside] = True
        assert 0.5 <= region.peak_score == pytest.approx(region.peak_score)
        assert score[inside].max() >= region.peak_score >= region.score
        assert all(box.x <= u <= box.x + box.width - 1 for u, _ in region.foot_points)
        assert all(box.y - 0.5 <= v <= box.y + box.height for _, v in region.foot_points)
    assert covered[result.anomaly_mask].all()


def plainly_found(
    score: NDArray[np.float32], hysteresis: float, ego: NDArray[np.bool_]
) -> dict[tuple[int, int], tuple[int, float, float, tuple[tuple[float, float], ...], bool]]:
    """Pixel by pixel: first pixel of each region to area, mean, peak, foot points and whether the foot is cut."""
    low = np.float32(hysteresis / (1 + hysteresis))  # the odds of 0.5 are 1
    rows = len(score)
    left_over = {(int(y), int(x)) for y, x in np.argwhere((score >= low) & ~ego)}
    found = {}
    while left_over:
        todo, own = [min(left_over)], []
        left_over.remove(todo[0])
        while todo:
            y, x = todo.pop()
            own.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left_over
            left_over -= near
            todo += near
        values = np.array([score[place] for place in sorted(own)])
        if values.max() < 0.5:
            continue
        lowest = {x: max(y for y, other in own if other == x) for x in {x for _, x in own}}
        left, width = min(lowest), len(lowest)
        length = -(-width // FOOT_COLUMNS)
        stretches = [range(left + i, min(left + i + length, left + width)) for i in range(0, width, length)]
        used = sorted({left, left + width - 1, *(max(s, key=lambda x: (lowest[x], -x)) for s in stretches)})
        edges, cut = {}, False
        for x in used:
            y = lowest[x]
            below = min(y + 1, rows - 1)
            stands = y < rows - 1 and not ego[below, x]
            cut |= not stands
            here, under = float(score[y, x]), float(score[below, x])
            edges[x] = y + ((here - low) / (here - under) if stands and under < low else 0.5)
        height = max(y for y, _ in own) - min(y for y, _ in own) + 1
        feet = []
        for u in sorted({left + round(i) for i in np.linspace(0, width - 1, FOOT_COLUMNS)}):
            # The upper envelope of all chords over this column: the convex hull by its definition.
            chords = [
                edges[a] if a == b else edges[a] + (edges[b] - edges[a]) * (u - a) / (b - a)
                for a in used
                for b in used
                if a <= u <= b
            ]
            feet.append((float(u), float(max(*chords, max(edges.values()) - FOOT_BAND * height))))
        found[min(own)] = (len(own), float(values.mean(dtype=np.float64)), float(values.max()), tuple(feet), cut)
    return found


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.05, 0.95), hysteresis=st.sampled_from([0.2, 0.8, 1.0]))
def test_regions_are_those_that_a_search_from_pixel_to_pixel_finds(seed: int, share: float, hysteresis: float) -> None:
    random = np.random.default_rng(seed)
    score = random.choice([0.11, 0.3, 0.45, 0.5, 0.77, 1.0], (9, 40)).astype(np.float32)
    score[random.random(score.shape) > share] = 0
    ego = random.random(score.shape) < 0.02
    regions = RegionFinder(RegionSettings(hysteresis, 0.0, max_regions=1000), ego)(frame(score))
    expected = list(plainly_found(score, hysteresis, ego).values())
    assert [region.area for region in regions] == sorted((area for area, *_ in expected), reverse=True)
    for region in regions:
        facts = (region.area, region.score, region.peak_score, region.foot_is_cut)
        assert any(
            facts == (area, mean, peak, cut) and np.allclose(region.foot_points, feet, rtol=0, atol=1e-9)
            for area, mean, peak, feet, cut in expected
            if len(feet) == len(region.foot_points)
        ), facts


def test_the_same_frame_gives_the_same_regions_with_any_number_of_threads() -> None:
    score = cv2.GaussianBlur(np.random.default_rng(0).random((384, 512)).astype(np.float32), (0, 0), 3)
    result = frame(((score - score.min()) / (score.max() - score.min())) ** 3)
    threads = cv2.getNumThreads()
    try:
        found = []
        for number in (1, 4):
            cv2.setNumThreads(number)
            found.append(RegionFinder()(result))
    finally:
        cv2.setNumThreads(threads)
    assert len(found[0]) > 10
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hysteresis": 0.0}, "hysteresis is 0.0"),
        ({"hysteresis": float("nan")}, "hysteresis is nan"),
        ({"min_area": 1.5}, "min_area is 1.5; it is a fraction of the frame"),
        ({"min_size_m": -0.1}, "min_size_m is -0.1; it must be at least 0"),
        ({"min_size_m": float("nan")}, "min_size_m is nan"),
        ({"surroundings": -0.1}, "surroundings is -0.1"),
        ({"standing": 1.5}, "standing is 1.5; it is a share of a region's foot"),
        ({"max_regions": 0}, "max_regions is 0"),
        ({"drivable_ids": frozenset({300})}, "class ids are 0 to 255"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RegionSettings(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "white"), [("bonnet.png", 255), ("bonnet.png", 1), ("bonnet.jpg", 255)])
def test_an_ego_mask_is_read_as_it_is_meant(tmp_path: Path, name: str, white: int) -> None:
    picture = np.zeros((6, 8, 3), np.uint8)
    picture[4:] = white
    cv2.imwrite(str(tmp_path / name), picture, [cv2.IMWRITE_JPEG_QUALITY, 30])
    stored = cv2.imread(str(tmp_path / name), cv2.IMREAD_GRAYSCALE)
    assert stored is not None
    assert name.endswith("png") or stored[:4].any(), "compression roughens nothing here: the picture tests nothing"
    assert read_ego_mask(tmp_path / name).sum(axis=1).tolist() == [0, 0, 0, 0, 8, 8]


@pytest.mark.parametrize(
    ("picture", "colour"),
    [
        (np.zeros((6, 8), np.uint8), "black"),
        (np.full((6, 8), 255, np.uint8), "white"),
        (
            np.full((6, 8, 4), 255, np.uint8) - np.triu(np.full((6, 8), 255, np.uint8))[..., None] * [0, 0, 0, 1],
            "white",
        ),
        (np.triu(np.ones((6, 8), np.uint16)), "black"),
    ],
    ids=["black", "white", "white with alpha", "16 bits of 0 and 1"],
)
def test_an_ego_mask_that_says_nothing_is_refused(tmp_path: Path, picture: NDArray[np.uint8], colour: str) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), picture)
    with pytest.raises(ValueError, match=rf"mask\.png: the ego mask is {colour} everywhere; it must be white on"):
        read_ego_mask(tmp_path / "mask.png")


def test_what_is_no_image_is_refused_as_an_ego_mask(tmp_path: Path) -> None:
    for name in ("none.png", "text.png"):
        (tmp_path / "text.png").write_text("no image")
        with pytest.raises(ValueError, match=f"{name}: the ego mask cannot be read"):
            read_ego_mask(tmp_path / name)
