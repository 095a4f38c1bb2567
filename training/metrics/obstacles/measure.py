"""Measures a replay's obstacles against the truth of its drive."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ros_ood_perception.recordings.bag import Bag
from training.metrics.obstacles.findings import SECONDS_PER_NANOSECOND, Findings
from training.metrics.obstacles.judging import JudgedFrame, Rule, can_be_judged, judge
from training.metrics.obstacles.published import PublishedFrame, published_frames
from training.metrics.obstacles.truth import ObstacleTruth, ObstacleTruthError

PAUSE = 3.0
"""A gap between two frames that is more than so many times the median gap is a pause in the recording."""


@dataclass
class MeasuredDrive:
    """A drive and what was found on it.

    Attributes:
        findings: the judgements added up.
        frames: camera and stamp to the judgement of each frame that was measured.
        spans: of these, camera to the stamp and the seconds that the frame lasts.
        seconds: time that was measured, summed over the cameras.
        without_truth: number of frames of the replay that the truth says nothing about.
        without_places: number of frames that could not be judged for want of a point cloud.
        repeated: number of further frames with a stamp that came before; they are not measured.
        damage: a sentence for each message that cannot be read.
    """

    findings: Findings = field(default_factory=Findings)
    frames: dict[tuple[str, int], JudgedFrame] = field(default_factory=dict)
    spans: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    without_truth: int = 0
    without_places: int = 0
    repeated: int = 0
    damage: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """See the class."""
        # Rounded to the resolution of stamps, so that 150 frames of 0.2 s are 30 s.
        return round(math.fsum(seconds for spans in self.spans.values() for _, seconds in spans), 9)


FrameObserver = Callable[[str, PublishedFrame, JudgedFrame], None]
"""Sees the camera's name, the results and the judgement of each frame that is measured."""


def measure_drive(
    bag: Bag, names: Mapping[str, str], truth: ObstacleTruth, rule: Rule, observe: FrameObserver | None = None
) -> MeasuredDrive:
    """Judge every frame of a replay that the truth knows.

    Args:
        bag: of the replay.
        names: prefix of a camera's topics to its name in the replay.
        truth: of the drive.
        rule: when an object is in view and when it is found.
        observe: sees the frames in the order in which they become complete.

    Raises:
        BagError: the bag holds no results.
        ObstacleTruthError: it lacks an output, the truth does not fit a frame, or it fits none.
    """
    drive = MeasuredDrive()
    stamps: dict[str, list[int]] = {}
    judged: list[tuple[str, int, JudgedFrame]] = []
    for frame in published_frames(bag, drive.damage):
        camera = names.get(frame.camera, frame.camera)
        if frame.occurrence:
            drive.repeated += 1
            continue
        stamps.setdefault(camera, []).append(frame.stamp_ns)
        found = _judged(drive, frame, camera, truth, rule)
        if found is not None:
            if observe is not None:
                observe(camera, frame, found)
            judged.append((camera, frame.stamp_ns, found))
    # Frames of a bag become complete in another order where a message is missing.
    for camera, stamp_ns, found in sorted(judged, key=lambda item: (item[0], item[1])):
        drive.findings.add(camera, stamp_ns, found)
        drive.frames[camera, stamp_ns] = found
    if not drive.frames:
        raise ObstacleTruthError(_nothing_fits(drive, truth, stamps, bag.path))
    for camera, own in stamps.items():
        drive.spans[camera] = [
            (stamp, seconds) for stamp, seconds in frame_spans(own) if (camera, stamp) in drive.frames
        ]
    drive.damage += [text for text in bag.damage if text not in drive.damage]
    return drive


def _judged(
    drive: MeasuredDrive, frame: PublishedFrame, camera: str, truth: ObstacleTruth, rule: Rule
) -> JudgedFrame | None:
    true = truth.frame(camera, frame.stamp_ns, (frame.mask.shape[0], frame.mask.shape[1]))
    if true is None:
        drive.without_truth += 1
        return None
    if not can_be_judged(frame, true):
        drive.without_places += 1
        return None
    return judge(frame, true, truth.camera_xy(camera), rule)


def frame_spans(stamps: Sequence[int]) -> list[tuple[int, float]]:
    """Stamp and seconds of each frame of a camera, in the order of time.

    A frame lasts until the next one. The last frame lasts for the median gap, and so does one before a pause: a gap of
    more than `PAUSE` times the median.

    >>> frame_spans([0, 200_000_000, 400_000_000, 9_000_000_000])
    [(0, 0.2), (200000000, 0.2), (400000000, 0.2), (9000000000, 0.2)]
    """
    ordered = sorted(stamps)
    gaps = [later - earlier for earlier, later in itertools.pairwise(ordered)]
    median = statistics.median(gaps) if gaps else 0
    lasting = [gap if gap <= PAUSE * median else median for gap in gaps] + [median]
    return [(stamp, gap * SECONDS_PER_NANOSECOND) for stamp, gap in zip(ordered, lasting, strict=False)]


def _nothing_fits(drive: MeasuredDrive, truth: ObstacleTruth, stamps: Mapping[str, Sequence[int]], bag: Path) -> str:
    if drive.without_places:
        return (
            f"{truth.path}: has objects with a place only, and {bag} has no obstacles on the ground; give the objects "
            "a box, or replay with the camera's calibration and pose"
        )
    there = [
        f"{len(own)} frames of {camera or 'its camera'} from stamp {min(own)} on" for camera, own in stamps.items()
    ]
    return (
        f"{truth.path}: none of its {truth.frame_count()} frames has the camera and the stamp of a frame of the "
        f"replay; {bag} has {', '.join(there) or 'no frame that can be read'}"
    )
