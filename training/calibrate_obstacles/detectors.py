"""Many detectors on the same frames, one for each setting, each with its own memory of earlier frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.obstacles.regions import Region, RegionFinder, RegionSettings
from ros_ood_perception.obstacles.tracks import Obstacle, ObstacleDetector
from ros_ood_perception.pipeline.camera_pipeline import FrameResult, PipelineSettings


class SharedFinder(RegionFinder):
    """A `RegionFinder` whose regions several detectors use: those of a frame are found once."""

    _frame: FramePerception | None = None
    _regions: tuple[Region, ...] = ()

    def __call__(self, result: FramePerception) -> tuple[Region, ...]:
        """See `RegionFinder`."""
        if self._frame is not result:
            self.set(result, super().__call__(result))
        return self._regions

    def set(self, frame: FramePerception, regions: tuple[Region, ...]) -> None:
        """Give the regions of a frame."""
        self._frame, self._regions = frame, regions


@dataclass(frozen=True)
class SharingFinder(RegionFinder):
    """Gives a detector the regions of a `SharedFinder`, whose settings are the same but for the smallest size."""

    shared: SharedFinder = field(default_factory=SharedFinder)

    def __call__(self, result: FramePerception) -> tuple[Region, ...]:
        """See `RegionFinder`."""
        return self.shared(result)


@dataclass
class Trial:
    """One setting of one camera.

    Attributes:
        number: of the setting.
        of_any_area: the region settings without the smallest area.
        finder: of the regions, whatever size they have on the ground.
    """

    number: int
    threshold: float
    of_any_area: RegionSettings
    finder: SharedFinder
    detector: ObstacleDetector


class CameraTrials:
    """All settings of one camera.

    Args:
        settings: of node and replay, in the order of their numbers.
        ego_mask: of the camera.
        each_frame: every frame stands for itself.
    """

    def __init__(
        self, settings: Sequence[PipelineSettings], ego_mask: NDArray[np.bool_] | None, each_frame: bool
    ) -> None:
        finders: dict[tuple[float, RegionSettings], SharedFinder] = {}
        self._each_frame = each_frame
        self._trials: list[Trial] = []
        for number, one in enumerate(settings):
            # The smallest size on the ground is applied by the detector.
            of_any_size = replace(one.region, min_size_m=0.0)
            key = (one.anomaly_threshold, of_any_size)
            finder = finders.setdefault(key, SharedFinder(of_any_size, ego_mask))
            detector = ObstacleDetector(SharingFinder(one.region, ego_mask, finder), one.persistence, one.evidence)
            of_any_area = replace(of_any_size, min_area=0.0)
            self._trials.append(Trial(number, one.anomaly_threshold, of_any_area, finder, detector))
        # A frame without a region of one size has none of a larger one: the smallest comes first.
        self._trials.sort(key=lambda trial: (trial.threshold, trial.finder.settings.min_area))

    def drop(self, is_needless: Callable[[int], bool]) -> None:
        """Play settings no further, by their number."""
        self._trials = [trial for trial in self._trials if not is_needless(trial.number)]

    def __call__(self, result: FrameResult, stamp_ns: int) -> Iterator[tuple[int, tuple[Obstacle, ...]]]:
        """Number of each setting and its obstacles in the next frame."""
        perception = result.perception
        highest = float(perception.engine_anomaly_score.max())
        frame = replace(perception, anomaly_threshold=1.0)
        without: set[RegionSettings] = set()
        for trial in self._trials:
            if trial.threshold != frame.anomaly_threshold:
                frame, without = replace(perception, anomaly_threshold=trial.threshold), set()
            if np.float32(trial.threshold) > highest or trial.of_any_area in without:
                trial.finder.set(frame, ())
            elif not trial.finder(frame):
                without.add(trial.of_any_area)
            if self._each_frame:
                trial.detector.reset()
            yield trial.number, trial.detector(frame, stamp_ns, result.ground, result.motion)
