"""Which settings find the unknown objects of drives whose truth is known: what the rate of false obstacles costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ros_ood_perception.messages.stamps import stamp_ns
from ros_ood_perception.obstacles.tracks import Obstacle
from ros_ood_perception.parameters.settings import FixedSettings
from ros_ood_perception.pipeline.camera_pipeline import FrameResult, PipelineSettings
from ros_ood_perception.recordings.results import DetectedBox
from ros_ood_perception.replay.cameras import CameraTopics
from ros_ood_perception.replay.inputs import InputFrame
from training.calibrate_obstacles.choosing import SECONDS_PER_HOUR, Found
from training.calibrate_obstacles.detectors import CameraTrials
from training.metrics.obstacles.findings import Findings, share_marked
from training.metrics.obstacles.judging import Rule, can_be_judged, judge
from training.metrics.obstacles.measure import frame_spans
from training.metrics.obstacles.published import PublishedFrame, PublishedObstacle
from training.metrics.obstacles.truth import ObstacleTruth


class ObjectsFound:
    """A `ResultObserver` that judges the obstacles of many settings, as `training.evaluate_obstacles` judges a replay.

    Args:
        settings: of node and replay.
        fixed: of the drive, with its cameras.
        truth: of the drive.
        each_frame: every frame stands for itself.

    Attributes:
        findings: of each setting.
    """

    def __init__(
        self, settings: Sequence[PipelineSettings], fixed: FixedSettings, truth: ObstacleTruth, each_frame: bool
    ) -> None:
        self._trials = {
            name: CameraTrials(settings, mask, each_frame)
            for name, mask in zip(fixed.cameras, fixed.ego_masks, strict=True)
        }
        self._settings, self._truth, self._rule = settings, truth, Rule()
        self._seen: set[tuple[str, int]] = set()
        self._judged: set[tuple[str, int]] = set()
        self.findings = [Findings() for _ in settings]

    def __call__(self, camera: CameraTopics, frame: InputFrame, result: FrameResult) -> None:
        """See `ResultObserver`."""
        stamp = stamp_ns(frame.message.header.stamp)
        perception = result.perception
        true = self._truth.frame(camera.name, stamp, perception.frame_size)
        for number, obstacles in self._trials[camera.name](result, stamp):
            if true is None or (camera.name, stamp) in self._seen:
                continue
            threshold = np.float32(self._settings[number].anomaly_threshold)
            published = PublishedFrame(
                camera=camera.name,
                stamp_ns=stamp,
                occurrence=0,
                time_ns=frame.time_ns,
                classes=None,
                mask=perception.anomaly_score >= threshold,
                obstacles=tuple(_published(obstacle) for obstacle in obstacles),
                has_places=result.ground is not None,
            )
            if can_be_judged(published, true):
                judged = judge(published, true, self._truth.camera_xy(camera.name), self._rule)
                self.findings[number].add(camera.name, stamp, judged)
                self._judged.add((camera.name, stamp))
        self._seen.add((camera.name, stamp))

    @property
    def hours(self) -> float:
        """Of the frames that were judged, summed over the cameras; as `evaluate_obstacles` counts them."""
        seconds = 0.0
        for name in self._trials:
            stamps = sorted(stamp for camera, stamp in self._seen if camera == name)
            seconds += sum(lasting for stamp, lasting in frame_spans(stamps) if (name, stamp) in self._judged)
        return seconds / SECONDS_PER_HOUR


def objects_found(drives: Sequence[Sequence[Findings]], amount: float) -> list[Found]:
    """What each setting found on all drives.

    Args:
        drives: the findings of each setting, for each drive.
        amount: hours of all drives; where frames stand for themselves, their number.
    """
    found = []
    for findings in zip(*drives, strict=True):
        records = [record for drive in findings for record in drive.objects.values()]
        sightings = [sighting for record in records for sighting in record.sightings]
        in_frames = sum(sighting.judged.found for sighting in sightings)
        share = in_frames / len(sightings) if sightings else 0.0
        objects = sum(bool(record.found_in) for record in records)
        false = sum(len(drive.false) for drive in findings)
        found.append(Found(len(records), objects, share, share_marked(sightings), false, amount))
    return found


def _published(obstacle: Obstacle) -> PublishedObstacle:
    box, region = obstacle.region.box, obstacle.region
    places = np.array(obstacle.ground_points, np.float64)[:, :2] if obstacle.ground_points else None
    detected = DetectedBox(box.x, box.y, box.width, box.height, str(obstacle.id), region.score)
    return PublishedObstacle(detected.id, region.score, detected, places)
