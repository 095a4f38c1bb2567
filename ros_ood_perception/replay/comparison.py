"""Two runs over one recording, frame by frame: what changed, how much, where most, and whether that is too much."""

from __future__ import annotations

import argparse
import heapq
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.json_files import JsonFileError, json_text, read_json
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.messages.overlay import semantic_picture
from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.messages.topics import camera_topic
from ros_ood_perception.number_arguments import real, whole
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.recordings.results import (
    DetectedBox,
    FrameKey,
    ResultFrame,
    mask_keys,
    result_frames,
    result_topics,
)
from ros_ood_perception.replay.camera_replay import colour_image
from ros_ood_perception.replay.inputs import Input, InputFrame
from ros_ood_perception.replay.state import SUMMARY_FILE

COMPARISON_FILE = "comparison.json"
WORST_FOLDER = "worst"
WORST_FRAMES = 5
TITLE_HEIGHT = 20
"""Pixels, above each part of a picture."""
SAME_OBSTACLE_IOU = 0.3
MAX_UNMATCHED = 64
"""So many frames of one run may wait for those of the other, which come in nearly the same order; then the oldest is
given up."""

MOST_COUNTED = 10**12

UNKNOWN_FROM_DIGESTS = (
    "which frames differ, where and by how much cannot be told; for that, give the folder or the bag of the other run"
)


class ComparisonError(PerceptionError, ValueError):
    """The two runs cannot be compared. The message says why, and what to give."""


@dataclass(frozen=True)
class Limits:
    """What a change may be at most; None: anything. Names and meanings as in the command line."""

    min_class_agreement: float | None = None
    min_class_iou: float | None = None
    min_anomaly_iou: float | None = None
    max_score_difference: float | None = None
    max_obstacles_gained: int | None = None
    max_obstacles_lost: int | None = None
    max_frames_missing: int | None = None

    HELP: ClassVar[dict[str, str]] = {
        "min_class_agreement": "share of pixels with the same class, over all frames",
        "min_class_iou": "IoU of the two runs' pixels of a class, of the class where it is lowest",
        "min_anomaly_iou": "IoU of the two runs' anomaly masks, over all frames",
        "max_score_difference": "mean absolute difference of the anomaly score",
        "max_obstacles_gained": "boxes of this run without one in the other, summed over frames",
        "max_obstacles_lost": "boxes of the other run without one in this",
        "max_frames_missing": "frames of one run that the other does not have, or has without their semantic mask",
    }

    @classmethod
    def add_options(cls, parser: argparse._ActionsContainer) -> None:
        """Add `--min-class-agreement` and so on."""
        for name, text in cls.HELP.items():
            counted = "obstacles" in name or "frames" in name
            kind: Callable[[str], float] = whole(0, MOST_COUNTED) if counted else real(0.0, 1.0)
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                type=kind,
                metavar="X",
                help=f"{'least' if name.startswith('min') else 'most'}: {text}",
            )

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Limits:
        """What `add_options` has parsed."""
        limits = cls(**{f.name: getattr(options, f.name) for f in fields(cls)})
        if options.compare is None and limits != cls():
            raise ComparisonError("a limit is given, but no --compare")
        return limits

    def broken(self, figures: dict[str, Any]) -> list[str]:
        """A sentence for each limit that the figures do not meet."""
        found = []
        for limit in fields(self):
            allowed, figure = getattr(self, limit.name), figures.get(limit.name[4:])
            if allowed is None:
                continue
            if figure is None:
                found.append(f"--{limit.name.replace('_', '-')} {allowed:g} cannot be checked: there is no such figure")
            elif not (figure >= allowed if limit.name.startswith("min_") else figure <= allowed):
                found.append(f"--{limit.name.replace('_', '-')} is {allowed:g}, and it is {figure:.6g}")
        return found


@dataclass
class _Totals:
    classes: int
    frames: int = 0
    pixels: int = 0
    agreeing: int = 0
    anomalous_both: int = 0
    anomalous_any: int = 0
    score_pixels: int = 0
    score_difference: float = 0.0
    largest_score_difference: float = 0.0
    obstacle_frames: int = 0
    gained: int = 0
    lost: int = 0
    only_here: int = 0
    only_there: int = 0
    damage: list[str] = field(default_factory=list)
    intersection: NDArray[np.int64] = field(init=False)
    union: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.intersection = np.zeros(self.classes, np.int64)
        self.union = np.zeros(self.classes, np.int64)

    def add(self, ours: ResultFrame, theirs: ResultFrame) -> float | None:
        """Count a frame; gives back how much changed in it: a share of its pixels, the larger of class and anomaly.

        None: its pictures differ in size, which is noted in `damage`, and the frame is not counted.
        """
        a, b = ours.pictures["semantic_mask"], theirs.pictures["semantic_mask"]
        sizes = {picture.shape for frame in (ours, theirs) for picture in frame.pictures.values()}
        if len(sizes) > 1:
            shown = " and ".join(f"{width}x{height}" for height, width in sorted(sizes))
            self.damage.append(f"the pictures of stamp {ours.stamp_ns} are {shown}: not of one frame")
            return None
        self.frames += 1
        equal = a == b
        agreeing = int(np.count_nonzero(equal))
        self.pixels += a.size
        self.agreeing += agreeing
        counts_a, counts_b = (np.bincount(x.ravel(), minlength=256) for x in (a, b))
        both = np.bincount(a[equal], minlength=256)
        self.intersection += both[: self.classes]
        self.union += (counts_a + counts_b - both)[: self.classes]
        change = 1 - agreeing / a.size
        if "anomaly_mask" in ours.pictures and "anomaly_mask" in theirs.pictures:
            mask_a, mask_b = ours.pictures["anomaly_mask"] > 0, theirs.pictures["anomaly_mask"] > 0
            union = int(np.count_nonzero(mask_a | mask_b))
            intersection = int(np.count_nonzero(mask_a & mask_b))
            self.anomalous_any += union
            self.anomalous_both += intersection
            change = max(change, (union - intersection) / a.size)
        if "anomaly_score" in ours.pictures and "anomaly_score" in theirs.pictures:
            difference = np.abs(_score(ours) - _score(theirs))
            self.score_pixels += difference.size
            self.score_difference += float(difference.sum(dtype=np.float64))
            self.largest_score_difference = max(self.largest_score_difference, float(difference.max()))
        if ours.obstacles is not None and theirs.obstacles is not None:
            self.obstacle_frames += 1
            matched = _matched(ours.obstacles, theirs.obstacles)
            self.gained += len(ours.obstacles) - matched
            self.lost += len(theirs.obstacles) - matched
        return change

    def figures(self, names: Sequence[str]) -> dict[str, Any]:
        """By the names of the limits, and more."""
        iou = {
            name: float(i / u)
            for name, i, u in zip(names, self.intersection.tolist(), self.union.tolist(), strict=True)
            if u
        }
        return {
            "frames": self.frames,
            "frames_missing": self.only_here + self.only_there,
            "only_here": self.only_here,
            "only_there": self.only_there,
            "class_agreement": self.agreeing / self.pixels if self.pixels else None,
            "class_iou": min(iou.values()) if iou else None,
            "iou_by_class": iou,
            "anomaly_iou": (self.anomalous_both / self.anomalous_any if self.anomalous_any else 1.0)
            if self.frames
            else None,
            "score_difference": self.score_difference / self.score_pixels if self.score_pixels else None,
            "largest_score_difference": self.largest_score_difference if self.score_pixels else None,
            "obstacles_gained": self.gained if self.obstacle_frames else None,
            "obstacles_lost": self.lost if self.obstacle_frames else None,
        }


def _score(frame: ResultFrame) -> NDArray[np.float32]:
    score = frame.pictures["anomaly_score"]
    return score.astype(np.float32) / np.float32(255) if score.dtype == np.uint8 else score


def _matched(ours: Sequence[DetectedBox], theirs: Sequence[DetectedBox]) -> int:
    """How many pairs of boxes overlap by `SAME_OBSTACLE_IOU`, each box in one pair at most, the best pairs first."""
    if not ours or not theirs:
        return 0
    iou = _iou(_corners(ours)[:, None], _corners(theirs)[None])
    rows, columns = np.nonzero(iou >= SAME_OBSTACLE_IOU)
    # Of equal ones the last first: any order would do, but it must be the same on every run.
    order = np.lexsort((columns, rows, iou[rows, columns]))[::-1]
    used_a: set[int] = set()
    used_b: set[int] = set()
    for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
    return len(used_a)


def _corners(boxes: Sequence[DetectedBox]) -> NDArray[np.float64]:
    """(n, 4) left, top, right and bottom, pixels."""
    return np.array([(box.x, box.y, box.x + box.width, box.y + box.height) for box in boxes], np.float64)


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 4) and (..., 4) -> (...) in [0, 1]; the boxes have an area."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inside = np.prod(np.maximum(sides, 0.0), axis=-1)
    areas = [np.prod(box[..., 2:] - box[..., :2], axis=-1) for box in (a, b)]
    return np.asarray(inside / (areas[0] + areas[1] - inside))


def compare(
    output: OutputFolder, other: Path, source: Input, node_name: str, description: BundleDescription, limits: Limits
) -> dict[str, Any]:
    """Compare the results of a replay with others; writes `comparison.json` and pictures of the worst frames beside it.

    Args:
        output: folder of a finished replay.
        other: a bag with results, the folder of a replay, or a `summary.json`.
        source: what was replayed into `out`: the camera's images are shown beside the results.
        node_name: what the output topics in `output` begin with.

    Returns:
        What `comparison.json` holds; `damage` in it names what could not be read or compared, in either.

    Raises:
        ComparisonError, BagError: it cannot be read, or has no frame in common with this run.
        OSError: with the path.
    """
    if other.suffix == ".json":
        comparison = _compare_digests(output.path, other)
    else:
        bags = Bag(output.path / BAG_FOLDER), Bag(_bag_of(other))
        comparison = _compare_bags(*bags, output, source, node_name, description)
    comparison["other"] = str(other)
    comparison["limits_broken"] = limits.broken(comparison)
    output.write(COMPARISON_FILE, json_text(comparison))
    return comparison


def check_other(other: Path) -> None:
    """See that there is something to compare with, before a replay begins.

    Raises:
        ComparisonError, BagError: no such file, not a summary, or a bag without results.
    """
    if other.suffix == ".json":
        _summary_topics(other)
    else:
        result_topics(Bag(_bag_of(other)))


def _bag_of(other: Path) -> Path:
    folder = other / BAG_FOLDER if (other / BAG_FOLDER).is_dir() else other
    if not folder.exists():
        raise ComparisonError(
            f"--compare {other}: no such file or folder; give the --out of another replay, a bag with results, or a "
            "summary.json"
        )
    return folder


def _summary_topics(path: Path) -> dict[str, Any]:
    """Topic to SHA-256."""
    try:
        topics = read_json(path)["topics"]
        return {topic: str(facts["sha256"]) for topic, facts in topics.items()}
    except (OSError, JsonFileError, KeyError, TypeError, AttributeError) as error:
        raise ComparisonError(f"{path}: is no summary of a replay ({error})") from error


def _compare_digests(out: Path, other: Path) -> dict[str, Any]:
    theirs, ours = _summary_topics(other), _summary_topics(out / SUMMARY_FILE)
    different = sorted(topic for topic in {**ours, **theirs} if ours.get(topic) != theirs.get(topic))
    found: dict[str, Any] = {
        "damage": [],
        "different_topics": different,
        "topics_only_here": sorted({*ours} - {*theirs}),
        "topics_only_there": sorted({*theirs} - {*ours}),
    }
    if not different:
        found |= {"class_agreement": 1.0, "class_iou": 1.0, "anomaly_iou": 1.0, "score_difference": 0.0}
        found |= {"obstacles_gained": 0, "obstacles_lost": 0, "frames_missing": 0}
    return found


def _compare_bags(
    ours: Bag, theirs: Bag, output: OutputFolder, source: Input, node_name: str, description: BundleDescription
) -> dict[str, Any]:
    totals = _Totals(len(description.classes))
    worst: list[tuple[float, int, ResultFrame, ResultFrame]] = []
    damage = totals.damage
    keys = (mask_keys(ours, damage), mask_keys(theirs, damage))
    for number, (here, there) in enumerate(_pairs((ours, theirs), keys, damage)):
        change = totals.add(here, there)
        if change:
            heapq.heappush(worst, (change, -number, here, there))
            if len(worst) > WORST_FRAMES:
                heapq.heappop(worst)
    # A frame without its mask (a live node's, of which the recorder lost that message) is not among the keys.
    totals.only_here, totals.only_there = (len(found) - totals.frames for found in keys)
    if not totals.frames:
        why = damage[0] if damage else "no camera and stamp are the same"
        raise ComparisonError(f"{theirs.path}: has no frame in common with this run: {why}")
    damage += [text for bag in (ours, theirs) for text in bag.damage]
    comparison = totals.figures([known.name for known in description.classes])
    shown = sorted(worst, key=lambda item: item[:2], reverse=True)
    images = _camera_images(source, node_name, [here for _, _, here, _ in shown])
    comparison["damage"] = damage
    comparison["worst_frames"] = [
        {
            "camera": here.camera,
            "stamp_ns": here.stamp_ns,
            "changed": change,
            "picture": _picture(output, rank, image, here, there, description),
            "camera_image": image is not None,
        }
        for rank, ((change, _, here, there), image) in enumerate(zip(shown, images, strict=True), 1)
    ]
    return comparison


def _pairs(
    bags: tuple[Bag, Bag], keys: tuple[set[FrameKey], set[FrameKey]], damage: list[str]
) -> Iterator[tuple[ResultFrame, ResultFrame]]:
    """The frames that both have.

    Which those are is known from the keys, so that a frame that only one has is passed over and neither bag gets ahead
    of the other by it. Nothing is taken from the order of the stamps: several cameras do not keep it, nor does a clock
    that is set.

    Args:
        keys: of all frames of each with a semantic mask.
        damage: see `result_frames`.
    """
    # A single camera is the same one under any name.
    skipped = 1 if all(len({camera for camera, _, _ in found}) == 1 for found in keys) else 0
    shared = {key[skipped:] for key in keys[0]} & {key[skipped:] for key in keys[1]}
    frames = [
        (
            frame
            for frame in result_frames(bag, damage)
            if "semantic_mask" in frame.pictures and frame.key[skipped:] in shared
        )
        for bag in bags
    ]
    waiting: tuple[dict[Any, ResultFrame], dict[Any, ResultFrame]] = ({}, {})
    while True:
        # The side for whose frames more of the other's wait.
        side = 0 if len(waiting[0]) <= len(waiting[1]) else 1
        frame = next(frames[side], None)
        if frame is None:
            side = 1 - side
            frame = next(frames[side], None)
        if frame is None:
            return
        key = frame.key[skipped:]
        partner = waiting[1 - side].pop(key, None)
        if partner is not None:
            yield (frame, partner) if side == 0 else (partner, frame)
            continue
        waiting[side][key] = frame
        if len(waiting[side]) > MAX_UNMATCHED:
            given_up = next(iter(waiting[side]))
            del waiting[side][given_up]
            shared.discard(given_up)


def _camera_images(source: Input, node_name: str, frames: Sequence[ResultFrame]) -> list[NDArray[np.uint8] | None]:
    """What the camera saw in each frame, (H, W, 3) uint8 RGB; None where it is not found, or not for certain."""
    if not frames:
        return []
    names = [camera_topic(camera.name, "").replace("~", node_name, 1) for camera in source.cameras]
    found: dict[tuple[str, int, int], list[NDArray[np.uint8] | None]] = {
        (frame.camera, frame.time_ns, frame.stamp_ns): [] for frame in frames
    }
    times = [frame.time_ns for frame in frames]
    for item in source.items(min(times), max(times) + 1, ()):
        if not isinstance(item, InputFrame) or item.message is None:
            continue
        key = (names[item.camera], item.time_ns, stamp_ns(item.message.header.stamp))
        if key in found:
            compressed = source.cameras[item.camera].compressed
            try:
                # What has results has passed this check, with the node's own limit, before.
                found[key].append(colour_image(item.message, compressed, "rgb", sys.maxsize))
            except MalformedImageError:
                found[key].append(None)
    images = (found[frame.camera, frame.time_ns, frame.stamp_ns] for frame in frames)
    return [candidates[0] if len(candidates) == 1 else None for candidates in images]


def _picture(
    output: OutputFolder,
    rank: int,
    image: NDArray[np.uint8] | None,
    here: ResultFrame,
    there: ResultFrame,
    description: BundleDescription,
) -> str:
    """The camera's image, the other run, this run, and what changed, side by side: name of the file."""
    theirs, ours = (_drawn(frame, description) for frame in (there, here))
    changed = here.pictures["semantic_mask"] != there.pictures["semantic_mask"]
    difference = np.where(changed[..., None], np.uint8(255), (ours // 4).astype(np.uint8))
    if "anomaly_mask" in here.pictures and "anomaly_mask" in there.pictures:
        a, b = here.pictures["anomaly_mask"] > 0, there.pictures["anomaly_mask"] > 0
        difference[a & ~b], difference[b & ~a] = (255, 140, 0), (0, 140, 255)
    parts = {"other run": theirs, "this run": ours, "changed": difference}
    if image is not None and image.shape == ours.shape:
        parts = {"camera": image, **parts}
    joined = np.concatenate([_titled(title, picture) for title, picture in parts.items()], axis=1)
    name = f"{WORST_FOLDER}/{rank}_{here.stamp_ns}.png"
    output.write(name, cv2.imencode(".png", cv2.cvtColor(joined, cv2.COLOR_RGB2BGR))[1].tobytes())
    return name


def _titled(title: str, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    strip = np.zeros((TITLE_HEIGHT, picture.shape[1], 3), np.uint8)
    cv2.putText(strip, title, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])


def _drawn(frame: ResultFrame, description: BundleDescription) -> NDArray[np.uint8]:
    picture = semantic_picture(frame.pictures["semantic_mask"], description.colours)
    if "anomaly_mask" in frame.pictures:
        picture[frame.pictures["anomaly_mask"] > 0] = (255, 140, 0)
    for box in frame.obstacles or ():
        corner = (round(box.x + box.width), round(box.y + box.height))
        cv2.rectangle(picture, (round(box.x), round(box.y)), corner, (255, 255, 255), 2)
    return picture


def print_comparison(comparison: dict[str, Any], say: Callable[..., None]) -> int:
    """Say what changed; returns the exit code: 1 where a limit is broken, or something could not be compared."""
    say(f"compared with {comparison['other']}:")
    if "different_topics" in comparison:
        different = comparison["different_topics"]
        say(f"  topics that differ: {', '.join(different) or 'none: the results are the same to the bit'}")
        for where, name in (("this", "topics_only_here"), ("the other", "topics_only_there")):
            if comparison[name]:
                say(f"  only in {where} run: {', '.join(comparison[name])}")
        if different:
            say(f"  a summary holds only digests: {UNKNOWN_FROM_DIGESTS}")
    else:
        for name in ("frames", "frames_missing", "class_agreement", "anomaly_iou", "score_difference"):
            value = comparison[name]
            say(f"  {name.replace('_', ' ')}: {'unknown' if value is None else f'{value:.6g}'}")
        say(f"  obstacles gained {comparison['obstacles_gained']}, lost {comparison['obstacles_lost']}")
        for name, iou in sorted(comparison["iou_by_class"].items(), key=lambda item: item[1]):
            say(f"  IoU of {name}: {iou:.4f}")
        for frame in comparison["worst_frames"]:
            say(
                f"  {frame['changed']:.2%} of the pixels changed at {frame['stamp_ns'] / 1e9:.3f} s: {frame['picture']}"
                f"{'' if frame['camera_image'] else ' (its image is not found in the input)'}"
            )
    for text in comparison["damage"]:
        say(f"damaged: {text}", style="red")
    for text in comparison["limits_broken"]:
        say(f"limit: {text}", style="red")
    return 1 if comparison["limits_broken"] or comparison["damage"] else 0
