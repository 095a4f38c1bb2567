"""CPU time of obstacles and ground, for the engine's resolutions and usual numbers of regions.

python -m benchmark.obstacles        # one thread, as in the node's inference thread
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np

from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.number_arguments import whole
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection
from ros_ood_perception.obstacles.ground_map import GroundMap
from ros_ood_perception.obstacles.point_cloud import obstacle_points
from ros_ood_perception.obstacles.regions import RegionFinder, RegionSettings
from ros_ood_perception.obstacles.tracks import ObstacleDetector

FRAME = (1080, 1920)
ENGINE_SIZES = ((384, 512), (480, 640), (512, 1024), (1024, 2048), FRAME)
REGIONS = (0, 3, 30)
ROAD = 3
THRESHOLD = 0.5
CAMERA = CameraModel(*FRAME, 1000, 1000, 960, 540, "plumb_bob", (-0.25, 0.08, 0.0, 0.0, -0.005))


def frame(size: tuple[int, int], regions: int, seed: int) -> FramePerception:
    """Regions of high score on a road, with noise below the threshold everywhere."""
    random = np.random.default_rng(seed)
    score = random.uniform(0, 0.3, size).astype(np.float32)
    rows, columns = size
    for _ in range(regions):
        centre = (int(random.integers(0, columns)), int(random.integers(rows // 2, rows)))
        axes = (columns // 40, rows // 30)
        cv2.ellipse(score, centre, axes, 0, 0, 360, float(random.uniform(0.6, 1)), -1)
    return FramePerception(FRAME, np.full(size, ROAD, np.uint8), score, THRESHOLD)


def median_ms(function: Callable[[int], object], repeats: int) -> float:
    """Median duration of calls with 0, 1, 2, ..., milliseconds."""
    durations = []
    for i in range(repeats):
        begun = time.perf_counter()
        function(i)
        durations.append((time.perf_counter() - begun) * 1e3)
    return float(np.median(durations))


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=whole(1, 10**6), default=50)
    repeats = parser.parse_args(arguments).repeats
    cv2.setNumThreads(1)
    ground = GroundProjection(CAMERA, CameraPose.from_mounting(1.5, 5.0))
    drivable = frozenset({ROAD})
    print("frames of 1920x1080, median ms, one thread")
    print("engine      regions  obstacles on the ground  and as a cloud  grid  free edge  anomaly mask at 1080p")
    for size in ENGINE_SIZES:
        ground_map = GroundMap(ground, size, drivable, 0.8)
        for regions in REGIONS:
            results = [frame(size, regions, seed) for seed in range(5)]
            finder = RegionFinder(RegionSettings(drivable_ids=drivable))
            detector = ObstacleDetector(finder)
            # The stamps of 10 Hz.
            detect = median_ms(lambda i: detector(results[i % 5], i * 10**8, ground), repeats)  # noqa: B023
            obstacles = ObstacleDetector(finder)(results[0], 0, ground)
            cloud = median_ms(lambda _: obstacle_points(obstacles, 0.3), repeats)  # noqa: B023
            grid = median_ms(lambda i: ground_map.grid(results[i % 5], obstacles), repeats)  # noqa: B023
            edge = median_ms(lambda i: ground_map.free_edge(results[i % 5]), repeats)  # noqa: B023
            mask = median_ms(lambda i: frame_mask(results[i % 5]), repeats)  # noqa: B023
            print(
                f"{size[1]:>4}x{size[0]:<6} {regions:>7}  {detect:>23.1f}  {detect + cloud:>14.1f}  {grid:>4.1f}  "
                f"{edge:>9.1f}  {mask:>21.1f}"
            )
    return 0


def frame_mask(result: FramePerception) -> object:
    """Compute the anomaly mask at the frame's size: the cost of working at that size, without any region."""
    fresh = FramePerception(
        result.frame_size, result.engine_semantic, result.engine_anomaly_score, result.anomaly_threshold
    )
    return fresh.anomaly_mask


if __name__ == "__main__":
    sys.exit(main())
