"""What a run published about obstacles, frame by frame, from its bag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.messages.topics import OUTPUT_TOPICS
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.results import DetectedBox, obstacle_places, result_frames, result_topics
from training.metrics.obstacles.truth import ObstacleTruthError, Places

NEEDED = ("anomaly_mask", "obstacle_detections")


@dataclass(frozen=True)
class PublishedObstacle:
    """One obstacle in one frame.

    Attributes:
        id: the node's.
        score: mean anomaly score of its region, 0 to 1.
        box: around its region.
        places: (N, 2) x, y of its points in the vehicle's frame, metres. None: it has none, so it is not in the point
            cloud that an obstacle layer reads.
    """

    id: str
    score: float
    box: DetectedBox
    places: Places | None


@dataclass(frozen=True)
class PublishedFrame:
    """The results of one frame.

    Attributes:
        camera: the prefix of the camera's topics.
        stamp_ns: of the frame, nanoseconds.
        occurrence: 0 for the first frame of the camera with this stamp.
        time_ns: when it was recorded, nanoseconds.
        classes: (H, W) uint8, the class ids; None where the bag lacks the semantic mask.
        mask: (H, W) bool, the anomaly mask.
        obstacles: all that were published, the largest first.
        has_places: whether the point cloud was published: the camera's place over the ground was known.
    """

    camera: str
    stamp_ns: int
    occurrence: int
    time_ns: int
    classes: NDArray[np.uint8] | None
    mask: NDArray[np.bool_]
    obstacles: tuple[PublishedObstacle, ...]
    has_places: bool

    @cached_property
    def regions(self) -> NDArray[np.int32]:
        """(H, W): the number of the obstacle, from 1, to which a pixel of the mask belongs; 0 elsewhere."""
        return obstacle_regions(self.mask, [obstacle.box for obstacle in self.obstacles])


def obstacle_regions(mask: NDArray[np.bool_], boxes: Sequence[DetectedBox]) -> NDArray[np.int32]:
    """Which pixels belong to which obstacle: messages have the box of a region, and not its pixels.

    An area of the mask is a set of connected pixels (8 neighbours). It belongs to the obstacle whose box holds more
    than half of its pixels; of several, to the one with the smallest box.

    Args:
        mask: (H, W).
        boxes: of the obstacles, pixels of the frame.

    Returns:
        (H, W): the number of the box, from 1; 0 where the mask is not set and on areas in no box.

    >>> mask = np.zeros((4, 9), np.bool_)
    >>> mask[1, 1:4] = mask[2, 6:8] = True
    >>> obstacle_regions(mask, [DetectedBox(1, 1, 3, 1, "7")])[1:3].tolist()
    [[0, 1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0]]
    """
    height, width = mask.shape
    count, areas, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    owner = np.zeros(count, np.int32)
    sizes = stats[:, cv2.CC_STAT_AREA]
    # The smallest box comes last, and takes what larger ones hold as well.
    for index in sorted(range(len(boxes)), key=lambda i: -boxes[i].width * boxes[i].height):
        box = boxes[index]
        left, top = max(round(box.x), 0), max(round(box.y), 0)
        right, bottom = min(round(box.x + box.width), width), min(round(box.y + box.height), height)
        inside = np.bincount(areas[top:bottom, left:right].ravel(), minlength=count)
        owner[2 * inside > sizes] = index + 1
    owner[0] = 0
    return owner[areas]


def published_frames(bag: Bag, damage: list[str]) -> Iterator[PublishedFrame]:
    """The frames of a bag with results, in the order in which they become complete.

    Args:
        damage: a sentence is added for each message that cannot be read. Its frame is left out, unless the message is
            its point cloud.

    Raises:
        BagError: the bag holds no results.
        ObstacleTruthError: it lacks the anomaly masks, or the obstacles' boxes.
    """
    check_outputs(bag)
    places = dict(obstacle_places(bag, damage))
    for frame in result_frames(bag, damage):
        mask = frame.pictures.get("anomaly_mask")
        if mask is None or frame.obstacles is None or any(box.score is None for box in frame.obstacles):
            damage.append(
                f"{bag.path}: {frame.camera}, stamp {frame.stamp_ns}: has no anomaly mask, or no detections with scores"
            )
            continue
        found = places.get(frame.key)
        obstacles = tuple(_obstacle(box, found or {}) for box in frame.obstacles)
        yield PublishedFrame(
            camera=frame.camera,
            stamp_ns=frame.stamp_ns,
            occurrence=frame.occurrence,
            time_ns=frame.time_ns,
            classes=frame.pictures.get("semantic_mask"),
            mask=mask > 0,
            obstacles=obstacles,
            has_places=found is not None,
        )


def check_outputs(bag: Bag) -> None:
    """Check that a bag has what the measurement reads.

    Raises:
        BagError: it holds no results.
        ObstacleTruthError: it lacks an output.
    """
    there = {name for _, name in result_topics(bag).values()}
    missing = [name for name in NEEDED if name not in there]
    if missing:
        topics = ", ".join(OUTPUT_TOPICS[name] for name in missing)
        raise ObstacleTruthError(
            f"{bag.path}: has no topic that ends in {topics}; replay again with {', '.join(missing)} in --outputs"
        )


def _obstacle(box: DetectedBox, places: Mapping[str, NDArray[np.float32]]) -> PublishedObstacle:
    own = places.get(box.id)
    return PublishedObstacle(
        id=box.id,
        score=box.score or 0.0,
        box=box,
        places=None if own is None or not len(own) else own[:, :2].astype(np.float64),
    )
