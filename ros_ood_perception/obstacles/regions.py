"""Anomaly score to connected regions: hysteresis, minimum area, region of interest, foot points. Knows no ROS."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.decoder_process import DecoderProcess
from ros_ood_perception.camera.image_file import ImageFileError, read_image_file
from ros_ood_perception.inference.perception import FramePerception

FOOT_COLUMNS = 17
"""The most foot points of a region. A car at 10 m then has one every 25 cm."""
FOOT_BAND = 0.15
"""How far above its lowest point a region's foot points may be, as a fraction of its height in the picture."""


@dataclass(frozen=True)
class RegionSettings:
    """Which regions of the anomaly score count.

    Attributes:
        hysteresis: in (0, 1]. A region starts at pixels whose score is at least the threshold, and grows over
            neighbours whose score is at least the `growth_threshold`. 1: regions of the anomaly mask.
        min_area: fraction of the frame's pixels, in [0, 1]. Smaller regions are dropped.
        min_size_m: smallest `Standings.size_m`, metres, at least 0. A smaller region is no obstacle if it has a place
            on the ground and its foot is not cut. `RegionFinder` knows no ground, so the detector applies it. 0: any
            size.
        max_regions: largest number of regions that are kept. The largest regions are kept.
        drivable_ids: class ids of drivable ground. A region counts if one of its foot points is on or near such ground,
            or if its foot is cut, so that the ground below it is not in the picture. None: every region counts.
        surroundings: largest distance that counts as near, as a fraction of the frame's height, in [0, 1].
        standing: smallest share of its foot that is on or near such ground, in [0, 1]; 0: one point is enough. The
            foot is the lowest point of each of `FOOT_COLUMNS` parts of its width, with the first and last. A border of
            far classes touches the road's end with one corner, and a thing on the road stands on it.
        hidden_foot: how far below a region such ground may begin, as a fraction of the region's height, in [0, 1]. The
            network may give the lower part of an unknown thing a known class, and then the region ends above the
            thing's foot. Each point of the foot is moved down to where the ground begins. 0: they stay.
    """

    hysteresis: float = 0.7
    min_area: float = 0.0002
    min_size_m: float = 0.0
    max_regions: int = 64
    drivable_ids: frozenset[int] | None = None
    surroundings: float = 0.05
    standing: float = 0.0
    hidden_foot: float = 0.0

    def __post_init__(self) -> None:
        # Written so that NaN is refused as well.
        if not 0 < self.hysteresis <= 1:
            raise ValueError(f"hysteresis is {self.hysteresis}; it must be in (0, 1], 1 for none")
        for name in ("min_area", "surroundings"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a fraction of the frame, in [0, 1]")
        if not 0 <= self.standing <= 1:
            raise ValueError(f"standing is {self.standing}; it is a share of a region's foot, in [0, 1]")
        if not 0 <= self.hidden_foot <= 1:
            raise ValueError(f"hidden_foot is {self.hidden_foot}; it is a fraction of a region's height, in [0, 1]")
        if not 0 <= self.min_size_m < math.inf:
            raise ValueError(f"min_size_m is {self.min_size_m}; it must be at least 0, 0 for any size")
        if self.max_regions < 1:
            raise ValueError(f"max_regions is {self.max_regions}; it must be at least 1")
        if self.drivable_ids is not None and not all(0 <= number <= 255 for number in self.drivable_ids):
            raise ValueError(f"drivable_ids are {sorted(self.drivable_ids)}; class ids are 0 to 255")


def growth_threshold(threshold: float, hysteresis: float) -> float:
    """The score from which a region grows: where the odds s / (1 - s) are `hysteresis` times those of the threshold.

    A factor on the score itself would mean something else for every network and temperature, because high scores crowd
    below 1. In odds it means much the same: between the calibrated thresholds of the shipped bundles, 0.7 times the
    odds are reached by 1.3 to 3.7 times as many known pixels. (0.8 times the score: by 30 times as many at 0.91.)

    Args:
        threshold: in [0, 1].
        hysteresis: in (0, 1]; 1 gives the threshold itself.

    >>> round(growth_threshold(0.8, 0.5), 6)  # odds of 4 to 1 become 2 to 1
    0.666667
    """
    # Without a division by 1 - threshold, which may be 0.
    return hysteresis * threshold / (1 - threshold * (1 - hysteresis))


@dataclass(frozen=True)
class Box:
    """Smallest box around a region: left, top, width, height, pixels of the frame."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Region:
    """A connected region of one frame.

    Attributes:
        score: mean anomaly score of its pixels, in [0, 1].
        peak_score: highest anomaly score of its pixels.
        area: number of pixels in the frame.
        box: smallest box around it, pixels of the frame.
        foot_points: u, v of the points on which it stands, left to right, at most `FOOT_COLUMNS`. The centre of the
            top left pixel is (0, 0). With `RegionSettings.hidden_foot` they may be below the box.
        foot_is_cut: it reaches the frame's lower edge or the ego mask, so it may stand nearer than its foot points.
    """

    score: float
    peak_score: float
    area: int
    box: Box
    foot_points: tuple[tuple[float, float], ...]
    foot_is_cut: bool

    @property
    def strength(self) -> float:
        """Mean of `peak_score` and `score`, in [0, 1]: how much the region speaks for an object.

        A false region often has a few high pixels, and an object has many.
        """
        return (self.peak_score + self.score) / 2


@dataclass(frozen=True)
class RegionFinder:
    """Finds the regions of a frame, the largest first. Deterministic.

    It works at the resolution of the engine's output, because the score has no more detail: at the frame's size it is
    interpolated linearly, and so are foot points. Boxes are exact to one pixel of the engine's output.

    Attributes:
        settings: which regions count.
        ego_mask: (H, W) bool of any size, True where the camera sees the own vehicle. No region is there. None:
            nowhere.
    """

    settings: RegionSettings = field(default_factory=RegionSettings)
    ego_mask: NDArray[np.bool_] | None = None

    def __call__(self, result: FramePerception) -> tuple[Region, ...]:
        """The regions of one frame."""
        score, settings = result.engine_anomaly_score, self.settings
        height, width = score.shape
        high = np.float32(result.anomaly_threshold)
        low = np.float32(growth_threshold(result.anomaly_threshold, settings.hysteresis))
        mask = (score >= low).view(np.uint8)
        ego = None
        if self.ego_mask is not None:
            ego = cv2.resize(self.ego_mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            mask[ego > 0] = 0
        # All algorithms find the same regions. OpenCV's default takes twice as long where most is background.
        count, labels, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(mask, 8, cv2.CV_32S, cv2.CCL_GRANA)
        if count == 1:
            return ()
        areas = stats[:, cv2.CC_STAT_AREA]
        # Most frames have few regions that are large enough, and only those cost more time.
        large = areas >= max(1.0, settings.min_area * height * width)
        large[0] = False  # the background
        if low < high:
            # Under the ego mask these labels are 0, the background.
            seeds = labels[score >= high]
            large &= np.bincount(seeds, minlength=count) > 0
        # Not by label: OpenCV's numbering depends on its threads.
        order = np.lexsort((stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP], -areas))
        regions = []
        for label in order[large[order]]:
            region = _region(int(label), labels, stats[label], result, float(low), ego, settings)
            if region is not None:
                regions.append(region)
                if len(regions) == settings.max_regions:
                    break
        return tuple(regions)


def drivable_mask(semantic: NDArray[np.uint8], drivable_ids: Collection[int]) -> NDArray[np.uint8]:
    """(h, w) uint8: 1 where the class id of `semantic` (h, w) uint8 is one of these, else 0."""
    return cv2.LUT(semantic, drivable_table(drivable_ids))


def drivable_table(drivable_ids: Collection[int]) -> NDArray[np.uint8]:
    """(256,) uint8: 1 at these class ids, else 0."""
    table = np.zeros(256, np.uint8)
    table[list(drivable_ids)] = 1
    return table


def read_ego_mask(path: Path | str) -> NDArray[np.bool_]:
    """(H, W) bool of an image that is white where the camera sees the own vehicle.

    A pixel is white if it is brighter than half of the image's brightest grey. So masks of 0 and 1, of 0 and 255, and
    masks with JPEG noise are read alike.

    Raises:
        ValueError: not a readable image, or one that is white, or black, everywhere.
    """
    try:
        # It is read once, so the process that decodes it is not kept.
        with DecoderProcess() as decoder:
            image = cv2.cvtColor(read_image_file(Path(path), decoder=decoder), cv2.COLOR_BGR2GRAY)
    except ImageFileError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ValueError(
            f"{path}: the ego mask cannot be read ({reason}); it must be an image (PNG), white on the own vehicle"
        ) from error
    mask = image > image.max() // 2
    if mask.all() or not mask.any():
        raise ValueError(
            f"{path}: the ego mask is {'white' if mask.all() else 'black'} everywhere; it must be white on the own "
            "vehicle and black elsewhere (alpha is not read, and of 16 bits only the upper 8); for a camera that does "
            "not see the vehicle, give no mask"
        )
    return mask


def _region(
    label: int,
    labels: NDArray[np.int32],
    stats: NDArray[np.int32],
    result: FramePerception,
    low: float,
    ego: NDArray[np.uint8] | None,
    settings: RegionSettings,
) -> Region | None:
    """The region of one label; None if it stands outside the region of interest."""
    left, top, width, height, area = (int(value) for value in stats)
    score = result.engine_anomaly_score
    rows, columns = score.shape
    inside = labels[top : top + height, left : left + width] == label
    # The lowest pixel of each column, from the box's top. A connected region has one in every column of its box.
    lowest = height - 1 - np.argmax(inside[::-1], axis=0)
    columns_used = _outline_columns(lowest)
    x, y = left + columns_used, top + lowest[columns_used]
    below = np.minimum(y + 1, rows - 1)
    cut = y == rows - 1
    if ego is not None:
        cut |= ego[below, x] > 0
    # The ground below a cut foot is not in the picture: a wall that hides the whole road must not be dropped.
    if not cut.any():
        # Off by default, and then of no cost in any frame.
        if settings.hidden_foot:
            hidden = _hidden_rows(result.engine_semantic, ego, x, below, round(settings.hidden_foot * height), settings)
            y, below = y + hidden, below + hidden
        if not _stands(result.engine_semantic, x, below, settings):
            return None
    # Where the linearly interpolated score falls below the low threshold, on the way to the pixel below. A foot that
    # was moved down ends halfway between its pixel and the one below.
    here, under = score[y, x].astype(np.float64), score[below, x].astype(np.float64)
    falls = ~cut & (here >= low) & (under < low)
    edge = np.where(falls, np.divide(here - low, here - under, out=np.full_like(here, 0.5), where=falls), 0.5)
    u = left + _foot_columns(width)
    v = _standing_line(u, x, y + edge, FOOT_BAND * height)
    # From the engine's pixels to the frame's. Both have the centre of their first pixel at 0.
    scale_x, scale_y = result.frame_size[1] / columns, result.frame_size[0] / rows
    values = score[top : top + height, left : left + width][inside]
    frame_left, frame_top = int(left * scale_x), int(top * scale_y)
    # Without the limits, rounding puts products like 480 * (962 / 480) beyond the frame.
    frame_right = min(math.ceil((left + width) * scale_x), result.frame_size[1])
    frame_bottom = min(math.ceil((top + height) * scale_y), result.frame_size[0])
    return Region(
        score=float(values.mean(dtype=np.float64)),
        peak_score=float(values.max()),
        area=round(area * scale_x * scale_y),
        box=Box(
            frame_left,
            frame_top,
            frame_right - frame_left,
            frame_bottom - frame_top,
        ),
        foot_points=tuple(zip(((u + 0.5) * scale_x - 0.5).tolist(), ((v + 0.5) * scale_y - 0.5).tolist(), strict=True)),
        foot_is_cut=bool(cut.any()),
    )


def _stands(semantic: NDArray[np.uint8], x: NDArray[np.int64], y: NDArray[np.int64], settings: RegionSettings) -> bool:
    """Whether enough of the pixels x, y (N,) below a foot are on or near drivable ground, where that is asked."""
    if settings.drivable_ids is None:
        return True
    near = _near_drivable(semantic, settings.drivable_ids, x, y, round(settings.surroundings * len(semantic)))
    return bool(near.any() and near.mean() >= settings.standing)


def _hidden_rows(
    semantic: NDArray[np.uint8],
    ego: NDArray[np.uint8] | None,
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    reach: int,
    settings: RegionSettings,
) -> NDArray[np.int64]:
    """(N,) Rows from each of x, y (N,) down to the first pixel of drivable ground; 0 if none is within `reach`."""
    down = np.minimum(y + np.arange(reach + 1)[:, None], len(semantic) - 1)
    drivable = drivable_table(settings.drivable_ids or ())[semantic[down, x]]
    if ego is not None:
        drivable[ego[down, x] > 0] = 0
    return drivable.argmax(axis=0)


def _near_drivable(
    semantic: NDArray[np.uint8],
    drivable_ids: Collection[int],
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    reach: int,
) -> NDArray[np.bool_]:
    """(N,) Whether a pixel with one of these ids is at most `reach` columns and rows from each of x, y (N,)."""
    # Only the part of the frame that matters: dilating the whole frame costs more than all the rest.
    top, left = max(0, int(y.min()) - reach), max(0, int(x.min()) - reach)
    part = semantic[top : int(y.max()) + reach + 1, left : int(x.max()) + reach + 1]
    drivable = drivable_mask(np.ascontiguousarray(part), drivable_ids)
    if reach:
        square = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * reach + 1, 2 * reach + 1))
        drivable = cv2.dilate(drivable, square)
    return drivable[y - top, x - left].astype(np.bool_)


def _outline_columns(lowest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the first and last of the lowest pixels (N,), and of the lowest of each of `FOOT_COLUMNS` parts."""
    length = -(-len(lowest) // FOOT_COLUMNS)
    padded = np.full(-(-len(lowest) // length) * length, -1)
    padded[: len(lowest)] = lowest
    stretches = padded.reshape(-1, length)
    found = (stretches.argmax(axis=1) + length * np.arange(len(stretches))).tolist()
    return np.array(sorted({0, *found, len(lowest) - 1}))


@lru_cache(maxsize=4096)
def _foot_columns(width: int) -> NDArray[np.float64]:
    """At most `FOOT_COLUMNS` of the columns 0 to `width` - 1, evenly spread. Not to be written to."""
    return np.unique(np.linspace(0, width - 1, FOOT_COLUMNS).round())


def _standing_line(
    u: NDArray[np.float64], x: NDArray[np.int64], v: NDArray[np.float64], band: float
) -> NDArray[np.float64]:
    """Rows (M,) at columns u (M,) where a thing stands, from the lower edge v (N,) of its picture at columns x (N,).

    Parts that hang over the ground (the underside of a car, the side of a tyre) have their lower edge in front of
    ground that is farther away. So the lower convex hull bridges gaps, and no row is more than `band` above the lowest
    one in the picture: rather too near than too far.
    """
    hull: list[tuple[int, float]] = []
    # Python's numbers: computing with NumPy scalars takes ten times as long.
    for x2, v2 in zip(x.tolist(), v.tolist(), strict=True):
        while len(hull) > 1:
            (x0, v0), (x1, v1) = hull[-2:]
            # v grows downwards: drop a point above the line from its predecessor to the new one.
            if (v1 - v0) * (x2 - x0) > (v2 - v0) * (x1 - x0):
                break
            hull.pop()
        hull.append((x2, v2))
    hull_x, hull_v = zip(*hull, strict=True)
    return np.maximum(np.interp(u, hull_x, hull_v), v.max() - band)
