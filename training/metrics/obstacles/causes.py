"""What false obstacles lie on: a class, the border of two, or ground far ahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.recordings.results import DetectedBox
from training.metrics.obstacles.judging import FALSE, JudgedFrame
from training.metrics.obstacles.published import PublishedFrame
from training.metrics.obstacles.truth import ObstacleTruth, range_and_bearing

FAR_M = 25.0
"""From here on, an obstacle is far ahead, whatever it lies on: a metre is a few pixels there."""
BORDER_SHARE = 1 / 160
"""Pixels at most so far from another class, as a share of the frame's width, are a border."""

NO_PIXEL = "no pixel above the threshold"
"""Cause of an obstacle whose region is grown by the hysteresis only, or whose area another obstacle's box holds."""

ClassMap = NDArray[np.uint8]


@dataclass(frozen=True)
class FalseObstacle:
    """A false obstacle, in the frame where its region has most pixels.

    Attributes:
        camera: its name in the replay.
        id: the node's.
        frames: number of frames in which it is false.
        prefix, time_ns, stamp_ns: of the frame's topics, recording and header.
        score: mean anomaly score of its region, 0 to 1.
        box: around its region.
        pixels: of the anomaly mask that belong to it.
        range_m: of its nearest point; None: it has no place.
        cause: see `cause_of`.
    """

    camera: str
    id: str
    frames: int
    prefix: str
    time_ns: int
    stamp_ns: int
    score: float
    box: DetectedBox
    pixels: int
    range_m: float | None
    cause: str

    @property
    def image_key(self) -> tuple[str, int, int]:
        """As `recorded_images` wants it."""
        return (self.prefix, self.time_ns, self.stamp_ns)


def cause_of(region: NDArray[np.bool_], classes: ClassMap, names: Sequence[str], range_m: float | None) -> str:
    """What a region lies on.

    "far ahead" from `FAR_M` on. "border of A and B" where at least half of its pixels are a border, with the two
    commonest classes of its surroundings. Else "on A", the commonest class of its pixels.

    Args:
        region: (H, W), at least one pixel is True.
        classes: (H, W) uint8 class ids. An id that has no name is called void.
        range_m: of its nearest point; None: it has no place.

    >>> classes = np.zeros((60, 160), np.uint8)
    >>> classes[:, 80:] = 1
    >>> region = np.zeros((60, 160), np.bool_)
    >>> region[20:30, 79:82] = True
    >>> cause_of(region, classes, ("road", "car"), None)
    'border of road and car'
    >>> region[20:30, 82:100] = True
    >>> cause_of(region, classes, ("road", "car"), 12.0), cause_of(region, classes, ("road", "car"), 31.0)
    ('on car', 'far ahead (25 m and more)')
    """
    if range_m is not None and range_m >= FAR_M:
        return f"far ahead ({FAR_M:g} m and more)"
    reach = max(round(region.shape[1] * BORDER_SHARE), 1)
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    # With a margin, so that the borders near the region are those of the whole frame.
    top, left = max(int(rows[0]) - 2 * reach, 0), max(int(columns[0]) - 2 * reach, 0)
    window = np.s_[top : int(rows[-1]) + 2 * reach + 1, left : int(columns[-1]) + 2 * reach + 1]
    part, ids = region[window].view(np.uint8), np.ascontiguousarray(classes[window])
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * reach + 1, 2 * reach + 1))
    border = cv2.dilate(ids, square) != cv2.erode(ids, square)
    if 2 * int(border[part > 0].sum()) >= int(part.sum()):
        first, second = _commonest(ids[cv2.dilate(part, square) > 0], 2)
        return f"border of {' and '.join(sorted((_name(first, names), _name(second, names)), key=_order(names)))}"
    return f"on {_name(_commonest(ids[part > 0], 1)[0], names)}"


class FalseObstacles:
    """Keeps the false obstacles of a drive; a `FrameObserver`.

    Args:
        truth: of the drive. Where it has no labels, the classes are those that the network saw.
        names: of the network's classes, by id.

    Attributes:
        labelled: number of frames with false obstacles whose classes are labels.
        unlabelled: of those whose classes are the network's.
    """

    def __init__(self, truth: ObstacleTruth, names: Sequence[str]) -> None:
        self._truth, self._names = truth, names
        self._kept: dict[tuple[str, str], FalseObstacle] = {}
        self.labelled = self.unlabelled = 0

    def __call__(self, camera: str, frame: PublishedFrame, judged: JudgedFrame) -> None:
        """Take a frame."""
        verdicts = judged.verdicts
        false = [(n, o) for n, o in enumerate(frame.obstacles, 1) if verdicts[o.id] == FALSE]
        if not false:
            return
        ids, names = frame.classes, self._names
        labels = self._truth.classes(camera, frame.stamp_ns)
        if labels is not None and labels.ids.shape == frame.mask.shape:
            ids, names = labels.ids, labels.names
            self.labelled += 1
        else:
            self.unlabelled += 1
        for number, obstacle in false:
            known = self._kept.get((camera, obstacle.id))
            seen = 1 if known is None else known.frames + 1
            region = frame.regions == number
            pixels = int(region.sum())
            if known is not None and pixels <= known.pixels:
                self._kept[camera, obstacle.id] = replace(known, frames=seen)
                continue
            range_m = None
            if obstacle.places is not None:
                range_m = float(range_and_bearing(obstacle.places, self._truth.camera_xy(camera))[0].min())
            self._kept[camera, obstacle.id] = FalseObstacle(
                camera=camera,
                id=obstacle.id,
                frames=seen,
                prefix=frame.camera,
                time_ns=frame.time_ns,
                stamp_ns=frame.stamp_ns,
                score=obstacle.score,
                box=obstacle.box,
                pixels=pixels,
                range_m=range_m,
                cause=cause_of(region, ids, names, range_m) if ids is not None and pixels else NO_PIXEL,
            )

    def worst_first(self) -> list[FalseObstacle]:
        """All of them: those in most frames first, of equal ones those with the higher score."""
        return sorted(self._kept.values(), key=lambda f: (-f.frames, -f.score, f.camera, f.id))


def by_cause(found: Sequence[FalseObstacle]) -> list[dict[str, object]]:
    """Cause, number of false obstacles and of their frames, most obstacles first; plain values for JSON."""
    causes = dict.fromkeys(known.cause for known in found)
    rows: list[dict[str, object]] = []
    for cause in causes:
        own = [known for known in found if known.cause == cause]
        rows.append({"cause": cause, "false_obstacles": len(own), "frames": sum(known.frames for known in own)})
    return sorted(rows, key=lambda row: (-int(str(row["false_obstacles"])), -int(str(row["frames"]))))


def _commonest(ids: NDArray[np.uint8], most: int) -> list[int]:
    counts = np.bincount(ids.ravel(), minlength=256)
    return np.argsort(-counts, kind="stable")[:most].tolist()


def _name(number: int, names: Sequence[str]) -> str:
    return names[number] if number < len(names) else "void"


def _order(names: Sequence[str]) -> Callable[[str], int]:
    """So that a border is named one way, in the order of the class ids."""
    return lambda name: names.index(name) if name in names else len(names)
