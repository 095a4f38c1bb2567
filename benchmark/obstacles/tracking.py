"""CPU time of following 64 regions on the ground, beside following them in the picture.

python -m benchmark.obstacles.tracking         # one thread, as in the node's inference thread

The regions are found beforehand. Time is that of the thread, so other load counts little.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from dataclasses import dataclass

import cv2
import numpy as np

from benchmark.obstacles.__main__ import CAMERA, FRAME, ROAD, THRESHOLD
from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.number_arguments import whole
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection
from ros_ood_perception.obstacles.motion import FrameMotion, PlanarPose
from ros_ood_perception.obstacles.regions import Box, Region, RegionFinder, RegionSettings
from ros_ood_perception.obstacles.standing import standings
from ros_ood_perception.obstacles.tracks import ObstacleDetector

REGIONS = 64
SPEED_MPS, RATE_HZ = 5.0, 10.0
FOOT_POINTS = 17
UNSEEN = 0.1
"""Share of the objects that are missed in a frame, so that places are looked up in the picture."""
GROUND = GroundProjection(CAMERA, CameraPose.from_mounting(1.5, 5.0))


@dataclass(frozen=True)
class FoundRegions(RegionFinder):
    """Gives regions that were found before."""

    regions: tuple[Region, ...] = ()

    def __call__(self, result: FramePerception) -> tuple[Region, ...]:
        """The given regions."""
        return self.regions


def finder(random: np.random.Generator, objects: np.ndarray, along_m: float, most: int = REGIONS) -> FoundRegions:
    """The regions of a frame: objects (N, 2) of the fixed frame in view, with noise of a pixel."""
    ahead = np.concatenate([objects - (along_m, 0.0), np.zeros((len(objects), 1))], axis=1)
    # Farther away there is no place, and only the picture would be followed.
    pixels = GROUND.pixels(ahead[GROUND.range_m(ahead) < GROUND.max_range_m - 1])
    regions: list[Region] = []
    for u, v in pixels[np.isfinite(pixels).all(axis=1)]:
        if len(regions) == most or random.uniform() < UNSEEN:
            continue
        x, y = u + random.normal(), v + random.normal()
        feet = tuple((float(x + step), float(y)) for step in np.linspace(-20, 20, FOOT_POINTS))
        regions.append(Region(0.8, 0.9, 1200, Box(int(x) - 20, int(y) - 30, 40, 30), feet, False))
    return FoundRegions(RegionSettings(drivable_ids=frozenset({ROAD})), None, tuple(regions))


def following_ms(regions: int, frames: int) -> float:
    """Median milliseconds of CPU time of following that many regions on the ground."""
    cv2.setNumThreads(1)
    random = np.random.default_rng(1)
    share = regions / REGIONS
    length_m = frames / RATE_HZ * SPEED_MPS + 40
    objects = random.uniform((0, -8), (length_m, 8), (round(3 * share * length_m) + 1, 2))
    result = FramePerception(FRAME, np.full((512, 1024), ROAD, np.uint8), np.zeros((512, 1024), np.float32), THRESHOLD)
    detector, found = ObstacleDetector(), []
    for number in range(frames):
        along_m, stamp_ns = number / RATE_HZ * SPEED_MPS, round(number * 1e9 / RATE_HZ)
        detector.finder = finder(random, objects, along_m, regions)
        begun = time.thread_time()
        detector(result, stamp_ns, GROUND, FrameMotion(PlanarPose(along_m, 0.0, 0.0)))
        found.append((time.thread_time() - begun) * 1e3)
    return float(np.median(found))


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=whole(100, 10**6), default=2000)
    frames = parser.parse_args(arguments).frames
    cv2.setNumThreads(1)
    # The interpreter's collections take 10 ms, whatever runs when they come.
    gc.disable()
    random = np.random.default_rng(1)
    length_m = frames / RATE_HZ * SPEED_MPS + 40
    # About 90 of them are in view, and so all regions of a frame have a place.
    objects = random.uniform((0, -8), (length_m, 8), (round(3 * length_m), 2))
    result = FramePerception(FRAME, np.full((512, 1024), ROAD, np.uint8), np.zeros((512, 1024), np.float32), THRESHOLD)
    counts: list[int] = []
    durations: dict[str, list[float]] = {"in the picture": [], "on the ground": [], "of it, placing feet": []}
    in_picture, on_ground = ObstacleDetector(), ObstacleDetector()
    for number in range(frames):
        along_m, stamp_ns = number / RATE_HZ * SPEED_MPS, round(number * 1e9 / RATE_HZ)
        found = finder(random, objects, along_m)
        counts.append(len(found.regions))
        in_picture.finder = on_ground.finder = found
        motion = FrameMotion(PlanarPose(along_m, 0.0, 0.0))
        for name, call in (
            ("in the picture", lambda: in_picture(result, stamp_ns, GROUND)),  # noqa: B023
            ("on the ground", lambda: on_ground(result, stamp_ns, GROUND, motion)),  # noqa: B023
            ("of it, placing feet", lambda: standings(found.regions, GROUND)),  # noqa: B023
        ):
            begun = time.thread_time()
            call()
            durations[name].append((time.thread_time() - begun) * 1e3)
    print(f"{np.mean(counts):.0f} regions a frame, {len(on_ground.state()['tracks'])} tracks at the end")
    print("followed              median ms  p99 ms")
    for name, values in durations.items():
        print(f"{name:<20} {np.median(values):>10.2f} {np.percentile(values, 99):>7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
