"""Pairs of regions and tracks: the best first, each in one at most."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ros_ood_perception.obstacles.matching import best_pairs, edges, matches_in_picture, sides
from ros_ood_perception.obstacles.regions import Box

costs = st.tuples(st.integers(0, 5), st.integers(0, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([0.0, 1.0, 2.0, 3.0, np.inf]))
)
boxes = st.lists(st.builds(Box, *[st.integers(0, 20)] * 2, *[st.integers(1, 12)] * 2), max_size=6)


@given(cost=costs)
def test_the_lowest_cost_is_paired_first_and_equal_costs_go_to_the_pair_that_comes_first(cost: np.ndarray) -> None:
    left, expected = cost.copy(), []
    while np.isfinite(left).any():
        row, column = np.unravel_index(np.argmin(left), left.shape)
        expected.append((int(row), int(column)))
        left[row], left[:, column] = np.inf, np.inf
    rows, columns = np.nonzero(np.isfinite(cost))
    assert list(zip(*best_pairs(rows, columns, cost[rows, columns]), strict=True)) == expected


def overlap(first: Box, second: Box, reach: float) -> float:
    """Intersection over union of grown boxes."""

    def grown(box: Box) -> tuple[float, ...]:
        x, y = box.width * reach / 2, box.height * reach / 2
        return box.x - x, box.y - y, box.x + box.width + x, box.y + box.height + y

    a, b = grown(first), grown(second)
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


@given(regions=boxes, tracks=boxes, reach=st.sampled_from([0.0, 0.5, 2.0]))
def test_boxes_that_overlap_most_are_paired_first_and_none_that_do_not_overlap(
    regions: list[Box], tracks: list[Box], reach: float
) -> None:
    table = np.array([[overlap(region, track, reach) for track in tracks] for region in regions])
    table = table.reshape(len(regions), len(tracks))
    rows, columns = np.nonzero(table > 0)
    assert matches_in_picture(sides(regions), sides(tracks), reach) == best_pairs(rows, columns, -table[rows, columns])


def test_boxes_become_sides_and_edges_and_grow_by_half_on_each_side() -> None:
    assert sides([]).shape == (0, 4)
    assert sides([Box(10, 20, 8, 4)]).tolist() == [[10, 20, 8, 4]]
    assert edges(sides([Box(10, 20, 8, 4)])).T.tolist() == [[10, 20, 18, 24]]
    assert edges(sides([Box(10, 20, 8, 4)]), reach=0.5).T.tolist() == [[8, 19, 20, 25]]
