"""One camera's frames to results: what the node does to a frame, and a replay does too. Knows no ROS and no thread.

An engine is anything that follows the protocol `InferenceEngine`. This one takes dark pixels for anomalies:

>>> import numpy as np
>>> from ros_ood_perception.bundle.description import InputDescription
>>> from ros_ood_perception.inference.engine import EngineOutput
>>> class Darkness:
...     name = "darkness"
...
...     def run(self, images):
...         score = 1 - images.max(axis=3).astype(np.float32) / 255
...         return EngineOutput(np.zeros(score.shape, np.uint8), score)
...
...     def close(self):
...         pass

The region persists from its second frame on, and keeps its id:

>>> settings = PipelineSettings(anomaly_threshold=0.5)
>>> pipeline = CameraPipeline(Darkness(), 1, InputDescription(60, 80), settings)
>>> image = np.full((60, 80, 3), 200, np.uint8)
>>> image[30:40, 20:50] = 0
>>> [len(pipeline(image, number * 100_000_000, "camera").obstacles) for number in range(3)]
[0, 1, 1]
>>> result = pipeline(image, 300_000_000, "camera")
>>> int(result.perception.anomaly_mask.sum()), result.obstacles[0].id, result.obstacles[0].region.box
(300, 1, Box(x=20, y=30, width=30, height=10))

Without a calibration obstacles have no place on the ground, and the warnings say so:

>>> pipeline.warnings(result, 0.3).by_kind()
{'no_place_on_the_ground': 'no camera_info is known'}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.description import InputDescription
from ros_ood_perception.camera.calibration.camera_info import CameraError, CameraInfoMessage
from ros_ood_perception.camera.plausibility import FramePlausibility
from ros_ood_perception.camera.raw_image import MalformedImageError
from ros_ood_perception.inference.engine import ImageSizeError, InferenceEngine
from ros_ood_perception.inference.perception import FramePerception, Perception
from ros_ood_perception.obstacles.camera_geometry import CameraGeometry, GroundLimits
from ros_ood_perception.obstacles.evidence import EvidenceSettings
from ros_ood_perception.obstacles.ground import CameraPose, GroundProjection
from ros_ood_perception.obstacles.ground_map import GridSettings, GroundMap
from ros_ood_perception.obstacles.motion import FrameMotion
from ros_ood_perception.obstacles.regions import RegionFinder, RegionSettings
from ros_ood_perception.obstacles.tracks import Obstacle, ObstacleDetector, PersistenceSettings

NO_PLACE = "no_place_on_the_ground"
TOO_FAR_APART = "frames_too_far_apart"
NO_MOTION = "no_motion"
NOT_CONFIGURED = (
    "not used: obstacles are followed in the picture; ground.odometry_topic or ground.fixed_frame would tell where the "
    "vehicle is"
)


@dataclass(frozen=True)
class CameraSetup:
    """What is fixed for a camera while its pipeline exists.

    Attributes:
        ego_mask: (H, W) bool of any size, True where the camera sees the own vehicle; None: nowhere.
        mounting: the camera's pose in the vehicle's frame; None: `pose_of` gives it for each frame.
        calibration: of the camera; None: `set_camera_info` gives it.
        rectified_images: the images are rectified, so P of camera_info applies, and not K and D.
        grid: cells of the ground grid.
    """

    ego_mask: NDArray[np.bool_] | None = None
    mounting: CameraPose | None = None
    calibration: CameraInfoMessage | None = None
    rectified_images: bool = False
    grid: GridSettings = field(default_factory=GridSettings)


@dataclass(frozen=True)
class PipelineSettings:
    """What may change between two frames. A frame is processed with one of these from beginning to end.

    Attributes:
        anomaly_threshold: in [0, 1]. A pixel is anomalous where its score is at least this.
        region: which regions of the score count. The ground map uses its `drivable_ids` too.
        persistence: when a region becomes an obstacle.
        evidence: the same while it has a place on the ground and the vehicle's motion is known.
        ground: which places on the ground count.
    """

    anomaly_threshold: float
    region: RegionSettings = field(default_factory=RegionSettings)
    persistence: PersistenceSettings = field(default_factory=PersistenceSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    ground: GroundLimits = field(default_factory=GroundLimits)


@dataclass(frozen=True)
class FrameResult:
    """The results of one frame.

    Attributes:
        image: the frame, (H, W, 3) uint8 in the bundle's colour order.
        perception: classes and anomaly score.
        obstacles: the largest first.
        ground: the camera over the ground; None if that is not known.
        motion: where the vehicle was; None: nothing is to tell it.
        make_ground_map: makes the `ground_map` of `ground`.
    """

    image: NDArray[np.uint8] = field(repr=False)
    perception: FramePerception
    obstacles: tuple[Obstacle, ...]
    ground: GroundProjection | None
    motion: FrameMotion | None
    make_ground_map: Callable[[GroundProjection], GroundMap] = field(repr=False, compare=False)

    @cached_property
    def ground_map(self) -> GroundMap | None:
        """Free and unknown ground; None if `ground` is None. Computed when it is first read."""
        return None if self.ground is None else self.make_ground_map(self.ground)


@dataclass(frozen=True)
class FrameWarnings:
    """Reasons to doubt a frame's results; an empty field means none.

    Attributes:
        picture: implausible images, kind to sentence; see `FramePlausibility.problems`.
        no_place: why obstacles and ground cannot be placed.
        too_far_apart: why no region can become an obstacle.
        no_motion: why it is not known where the vehicle was; empty as well if nothing is to tell it.
    """

    picture: Mapping[str, str]
    no_place: str
    too_far_apart: str
    no_motion: str

    def by_kind(self) -> dict[str, str]:
        """All reasons, kind to sentence."""
        others = {NO_PLACE: self.no_place, TOO_FAR_APART: self.too_far_apart, NO_MOTION: self.no_motion}
        return {**self.picture, **{kind: text for kind, text in others.items() if text}}


def _pose_source(
    mounting: CameraPose | None, pose_of: Callable[[str], CameraPose] | None
) -> Callable[[str], CameraPose]:
    if mounting is not None:
        return lambda frame_id: mounting
    return pose_of or _no_pose


def _no_pose(frame_id: str) -> CameraPose:
    raise CameraError(f"the pose of the camera '{frame_id[:60]}' is not known; set mounting.height_m")


class CameraPipeline:
    """Processes the frames of one camera, one after the other. It remembers earlier frames.

    The same frames with the same stamps, calibration and settings give the same results.

    Args:
        engine: opened; the caller closes it.
        num_classes: number of the bundle's classes.
        model_input: the bundle's.
        settings: used until `configure` is called.
        camera: what stays fixed.
        pose_of: gives the pose for the frame_id of an image, or raises `CameraError`. Not called if
            `camera.mounting` is given. None: without a mounting the pose is unknown.
        no_camera_info: gives the problem to report while there is no calibration.

    Raises:
        ValueError: the threshold is outside [0, 1].
    """

    def __init__(
        self,
        engine: InferenceEngine,
        num_classes: int,
        model_input: InputDescription,
        settings: PipelineSettings,
        camera: CameraSetup | None = None,
        pose_of: Callable[[str], CameraPose] | None = None,
        no_camera_info: Callable[[], str] = lambda: "no camera_info is known",
    ) -> None:
        self._camera = camera = camera or CameraSetup()
        self._settings = settings
        self._perception = Perception(engine, settings.anomaly_threshold, num_classes, model_input)
        self._detector = ObstacleDetector(
            RegionFinder(settings.region, camera.ego_mask), settings.persistence, settings.evidence
        )
        self._motion: FrameMotion | None = None
        self._plausibility = FramePlausibility(model_input.size_for, model_input.fit == "letterbox")
        self._geometry = CameraGeometry(_pose_source(camera.mounting, pose_of), camera.rectified_images, no_camera_info)
        if camera.calibration is not None:
            self._geometry.set_camera_info(camera.calibration)

    @property
    def ground_problem(self) -> str:
        """Why nothing in the last frame can be placed on the ground; empty if it can."""
        return self._geometry.problem

    @property
    def motion(self) -> str:
        """`known`, or why it is not known where the vehicle was at the last frame."""
        return NOT_CONFIGURED if self._motion is None else self._motion.problem or "known"

    def configure(self, settings: PipelineSettings) -> None:
        """Process the next frames with other settings. Tracks and ids of obstacles stay.

        Raises:
            ValueError: the threshold is outside [0, 1].
        """
        self._perception = replace(self._perception, anomaly_threshold=settings.anomaly_threshold)
        finder = RegionFinder(settings.region, self._camera.ego_mask)
        self._detector.configure(finder, settings.persistence, settings.evidence)
        self._settings = settings

    def set_camera_info(self, info: CameraInfoMessage) -> None:
        """Use this calibration from the next frame on, instead of any other. Another thread may call this."""
        self._geometry.set_camera_info(info)

    def __call__(
        self,
        image: NDArray[np.uint8],
        stamp_ns: int,
        frame_id: str,
        motion: Callable[[], FrameMotion | None] = lambda: None,
    ) -> FrameResult:
        """Process the next frame.

        Args:
            image: (H, W, 3) uint8 in the bundle's colour order, H and W at least 1.
            stamp_ns: the frame's stamp, nanoseconds.
            frame_id: frame_id of the frame's header.
            motion: gives where the vehicle was at that stamp; None: nothing is to tell it. It is called after
                inference, and may wait.

        Raises:
            EngineError: the engine failed, or returned an invalid result.
            MalformedImageError: the engine does not take frames of this size.
        """
        settings, size = self._settings, (image.shape[0], image.shape[1])
        ground = self._geometry.ground(size, frame_id, settings.ground)
        try:
            perception = self._perception(image)
        except ImageSizeError as error:
            # The fault of this camera, not of the engine that several cameras share: TensorRT 8.6 takes one size only.
            raise MalformedImageError("image size", str(error)) from error
        self._motion = motion()
        obstacles = self._detector(perception, stamp_ns, ground, self._motion)
        height, width = perception.engine_semantic.shape

        def make_ground_map(ground: GroundProjection) -> GroundMap:
            drivable_ids = settings.region.drivable_ids or frozenset()
            hysteresis, grid = settings.region.hysteresis, self._camera.grid
            ego_mask = self._camera.ego_mask
            return self._geometry.ground_map(ground, (height, width), drivable_ids, hysteresis, ego_mask, grid)

        return FrameResult(image, perception, obstacles, ground, self._motion, make_ground_map)

    def warnings(self, result: FrameResult, now_s: float) -> FrameWarnings:
        """Check the last frame. Call it once for each frame that was processed; the node does so after publishing.

        Args:
            result: the results of that frame.
            now_s: time of a monotonic clock, seconds.
        """
        return FrameWarnings(
            picture=self._plausibility.problems(result.image, now_s),
            no_place=self._geometry.problem,
            too_far_apart=self._detector.too_far_apart,
            no_motion="" if self._motion is None else self._motion.problem,
        )

    def state(self) -> dict[str, Any]:
        """What is remembered of earlier frames, as plain data (JSON)."""
        return {
            "detector": self._detector.state(),
            "plausibility": self._plausibility.state(),
            "ground": self._geometry.problem,
            "motion": None if self._motion is None else self._motion.problem,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave; other keys are ignored."""
        self._detector.restore(state["detector"])
        self._plausibility.restore(state["plausibility"])
        self._geometry.restore(state["ground"])
        problem = state["motion"]
        # Only its problem is read until the next frame.
        self._motion = None if problem is None else FrameMotion(None, problem=problem)
