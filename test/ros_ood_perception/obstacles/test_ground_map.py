from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection
from ros_ood_perception.obstacles.ground_map import ANOMALOUS, FREE, UNKNOWN, GridSettings, GroundMap
from ros_ood_perception.obstacles.regions import RegionFinder, RegionSettings
from ros_ood_perception.obstacles.tracks import ObstacleDetector, PersistenceSettings

ROAD, BUILDING = 3, 1
GROUND = GroundProjection(CameraModel(540, 960, 500, 500, 480, 270), CameraPose.from_mounting(1.5, 5.0), 40.0)
SIZE = (270, 480)
GRID = GridSettings(0.5, 0.0, 45.0, -10.0, 10.0)


def frame(semantic: NDArray[np.uint8] | None = None, score: NDArray[np.float32] | None = None) -> FramePerception:
    return FramePerception(
        (540, 960),
        np.full(SIZE, ROAD, np.uint8) if semantic is None else semantic,
        np.zeros(SIZE, np.float32) if score is None else score,
        0.5,
    )


def ground_map(ego_mask: NDArray[np.bool_] | None = None) -> GroundMap:
    return GroundMap(GROUND, SIZE, frozenset({ROAD}), 0.8, ego_mask, GRID)


def cell(x: float, y: float) -> tuple[int, int]:
    return int((y - GRID.from_y_m) / GRID.resolution_m), int((x - GRID.from_x_m) / GRID.resolution_m)


def test_road_in_the_picture_and_in_range_is_free_and_all_else_unknown() -> None:
    cells = ground_map().grid(frame(), ())
    assert cells.shape == (40, 90)
    assert cells.dtype == np.int8
    x, y = (np.arange(90) + 0.5) * 0.5, (np.arange(40) + 0.5) * 0.5 - 10
    for row in range(40):
        for column in range(90):
            place = (x[column], y[row], 0.0)
            seen = np.isfinite(GROUND.pixels([place])).all() and np.hypot(*place[:2]) <= 40
            assert cells[row, column] == (FREE if seen else UNKNOWN), place


def test_what_is_not_drivable_is_unknown() -> None:
    semantic = np.full(SIZE, ROAD, np.uint8)
    semantic[:, :240] = BUILDING  # the left half of the picture: y > 0
    cells = ground_map().grid(frame(semantic), ())
    assert cells[cell(10, 2)] == UNKNOWN
    assert cells[cell(10, -2)] == FREE


def tyre(x: float, y: float, score: float = 1.0) -> NDArray[np.float32]:
    """A 0.6 m high thing on the road."""
    corners = [(x, y - 0.4, 0), (x, y + 0.4, 0), (x, y - 0.4, 0.6), (x, y + 0.4, 0.6)]
    pixels = GROUND.pixels(corners) / 2
    (left, top), (right, bottom) = np.floor(pixels.min(axis=0)).astype(int), np.floor(pixels.max(axis=0)).astype(int)
    found = np.zeros(SIZE, np.float32)
    found[top : bottom + 1, left : right + 1] = score
    return found


def test_an_obstacle_marks_where_it_stands_and_hides_what_is_behind() -> None:
    result = frame(score=tyre(10.0, 1.0))
    finder = RegionFinder(RegionSettings(min_area=0.0))
    obstacles = ObstacleDetector(finder, PersistenceSettings(1, 1))(result, 0, GROUND)
    cells = ground_map().grid(result, obstacles)
    marked = np.argwhere(cells == ANOMALOUS)
    assert {tuple(index) for index in marked.tolist()} <= {
        cell(x, y) for x in (9.6, 10.1) for y in (0.4, 0.6, 1.1, 1.5)
    }
    assert len(marked) >= 2
    assert cells[cell(12.0, 1.2)] == UNKNOWN  # behind it
    assert cells[cell(8.0, 1.0)] == FREE
    # Before it has persisted it is unknown, and never free.
    assert not (ground_map().grid(result, ()) == ANOMALOUS).any()
    assert ground_map().grid(result, ())[cell(10.1, 1.1)] == UNKNOWN


def test_the_free_edge_ends_before_the_obstacle_and_at_the_largest_range_beside_it() -> None:
    edge = ground_map().free_edge(frame(score=tyre(10.0, 0.0)))
    straight = edge[np.abs(edge[:, 1] / edge[:, 0]) < 0.02]
    beside = edge[np.abs(edge[:, 1] / edge[:, 0] - 0.3) < 0.02]
    assert len(straight) > 1
    # The tyre's lower edge lies between two pixels of the engine, and a pixel there is 0.5 m.
    assert np.all((straight[:, 0] > 9) & (straight[:, 0] < 10))
    assert np.all(GROUND.range_m(beside) > 33)
    assert np.all(GROUND.range_m(edge) <= 40)


def test_the_free_edge_is_that_of_every_pixel_placed_one_by_one() -> None:
    semantic = np.full(SIZE, ROAD, np.uint8)
    rng = np.random.default_rng(0)
    for column, row in enumerate(rng.integers(100, 270, SIZE[1])):
        semantic[:row, column] = BUILDING
    slanted = GroundProjection(
        CameraModel(540, 960, 500, 500, 480, 270, "plumb_bob", (-0.25, 0.08, 0.001, -0.001, -0.005)),
        CameraPose.from_mounting(1.5, 5.0, roll_deg=4.0),
    )
    found = GroundMap(slanted, SIZE, frozenset({ROAD}), 0.8, None, GRID).free_edge(frame(semantic))
    expected = []
    for column in range(SIZE[1]):
        rows = np.flatnonzero(semantic[:, column] == ROAD)
        places = slanted.place([(2 * column + 0.5, 2 * row + 1.5) for row in rows])
        placed = places[np.isfinite(places[:, 0])]
        if len(placed):
            expected.append(placed[0])
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_weak_anomaly_ends_the_free_ground_as_well() -> None:
    for score, free in ((0.43, True), (0.46, False)):  # 0.8 times the odds of 0.5 are those of 0.444
        cells = ground_map().grid(frame(score=tyre(10.0, 0.0, score)), ())
        assert (cells[cell(10.1, 0.1)] == FREE) == free


def test_free_ground_begins_above_the_own_vehicle_and_there_is_none_where_none_is_free() -> None:
    bonnet = np.zeros((54, 96), bool)
    bonnet[45:] = True
    assert len(ground_map(bonnet).free_edge(frame())) == len(ground_map().free_edge(frame())) == SIZE[1]
    at = cell(2.6, 0.1)  # on the bonnet, which ends at 3.2 m
    assert ground_map(bonnet).grid(frame(), ())[at] == UNKNOWN
    assert ground_map().grid(frame(), ())[at] == FREE
    assert len(ground_map().free_edge(frame(np.full(SIZE, BUILDING, np.uint8)))) == 0
    near = np.full(SIZE, ROAD, np.uint8)
    near[-3:] = BUILDING
    assert len(ground_map().free_edge(frame(near))) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution_m": 0.0}, "resolution_m is 0.0"),
        ({"from_x_m": 5.0, "to_x_m": 5.0}, "from 5.0 to 5.0 m in x"),
        ({"from_y_m": float("nan")}, "from nan to 10.0 m in y"),
        ({"resolution_m": 0.001}, "40000 x 20000 cells; at most 4000000"),
    ],
)
def test_a_grid_that_cannot_work_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridSettings(**settings)
