"""The parameters' values as typed settings, checked against each other. Errors name the parameter."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.description import WHERE_BUNDLES_ARE, BundleDescription, OperatingPoint
from ros_ood_perception.camera.calibration.calibration_file import read_calibration_file
from ros_ood_perception.camera.calibration.camera_info import CameraError, CameraInfoMessage
from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.files.strict_yaml import shown
from ros_ood_perception.inference.engine import GpuOptions
from ros_ood_perception.inference.failure_policy import FailurePolicy
from ros_ood_perception.inference.opening import OPENING_S, OPENING_WITH_BUILD_S
from ros_ood_perception.messages.results import OutputSettings
from ros_ood_perception.messages.topics import STATE_TOPIC, camera_topic
from ros_ood_perception.obstacles.camera_geometry import GroundLimits
from ros_ood_perception.obstacles.evidence import EvidenceSettings
from ros_ood_perception.obstacles.ground import CameraPose
from ros_ood_perception.obstacles.ground_map import GridSettings
from ros_ood_perception.obstacles.motion import MotionSettings
from ros_ood_perception.obstacles.regions import RegionSettings, read_ego_mask
from ros_ood_perception.obstacles.tracks import PersistenceSettings
from ros_ood_perception.parameters.declarations import DECLARATIONS
from ros_ood_perception.parameters.in_force import HELD, InForce, in_force
from ros_ood_perception.parameters.values import ParameterError as ParameterError
from ros_ood_perception.parameters.values import range_problem
from ros_ood_perception.pipeline.camera_pipeline import CameraSetup, PipelineSettings
from ros_ood_perception.shown_text import error_line

CAMERA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
FULL_TOPIC = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")
TOPIC_WORDS = frozenset({"input", "output", "debug"})
MOST_CAMERAS = 64
LONGEST_PATH = 4095
"""Characters; Linux allows no more bytes."""
LONGEST_TOPIC = 200
"""Characters; DDS allows little more."""
MOUNTING_FIELDS = ("height_m", "pitch_deg", "roll_deg", "yaw_deg", "forward_m", "left_m")
CAMERA_PARAMETERS = (
    *(f"mounting.{field}" for field in MOUNTING_FIELDS),
    *("region.ego_mask", "calibration.camera_info_topic", "calibration.file"),
)
"""Lists with one value for all cameras, or one for each camera in the order of `cameras`."""

_DEFAULTS: Mapping[str, Any] = {declaration.name: declaration.default_value for declaration in DECLARATIONS}


@dataclass(frozen=True)
class FixedSettings:
    """The settings that are read at configure and hold until cleanup. Fields are named as in `declarations`.

    Attributes:
        num_threads: of the CPU engine; 0: every CPU that the process may use.
        max_input_height: of the bundle's further input sizes, pixels; 0: all are used.
        inference_deadline_s: s; 0: derived from measured inferences.
        opening_deadline_s: s, above 0.
        mountings: pose of each camera in the vehicle's frame; None: from tf2.
        ego_masks: (H, W) bool of each camera, see `read_ego_mask`; None: the camera does not see the own vehicle.
        camera_info_topics: full name of the topic of each camera's calibration; "": the usual one; None: `calibrations`
            has it.
        calibrations: of each camera's file; None: from a topic.
    """

    bundle: Path
    bundle_public_key: str
    engine: str
    num_threads: int
    max_input_height: int
    gpu: GpuOptions
    cameras: tuple[str, ...]
    image_transport: str
    max_image_pixels: int
    failure_policy: FailurePolicy
    inference_deadline_s: float
    opening_deadline_s: float
    base_frame: str
    rectified_images: bool
    motion: MotionSettings
    grid: GridSettings
    mountings: tuple[CameraPose | None, ...]
    ego_masks: tuple[NDArray[np.bool_] | None, ...]
    camera_info_topics: tuple[str | None, ...]
    calibrations: tuple[CameraInfoMessage | None, ...]

    @property
    def doubts(self) -> tuple[str, ...]:
        """Warnings about settings that are possible and are hardly meant."""
        known = [pose for pose in self.mountings if pose is not None]
        if len(known) < 2 or len(set(known)) == len(known):
            return ()
        return (
            f"parameters 'mounting.*' give several of the cameras {', '.join(self.cameras)} one pose, so what a camera "
            "sees behind the vehicle is placed ahead; give a value for each, in the order of 'cameras' (yaw_deg 180 "
            "looks back), or leave mounting.height_m at 0 to take the poses of /tf_static",
        )

    def camera_setup(self, number: int) -> CameraSetup:
        """What is fixed for one of `cameras`, by its number."""
        return CameraSetup(
            ego_mask=self.ego_masks[number],
            mounting=self.mountings[number],
            calibration=self.calibrations[number],
            rectified_images=self.rectified_images,
            grid=self.grid,
        )


EVERY_REGION = "*"
"""The only value of `region.drivable_classes` that is no class: every region counts, whatever the bundle marks."""


@dataclass(frozen=True)
class LiveSettings:
    """The settings that can change while the node is active. A frame is processed with one of these from start to end.

    Attributes:
        anomaly_threshold: in [0, 1]; None: the operating point's.
        outputs: keys of `OUTPUT_TOPICS`.
        sleep_without_subscribers: frames are not used while no output has a subscriber.
        max_rate_hz: frames per second of each camera; 0: no limit.
        max_frame_age_ms: 0: no limit.
        given: values of the parameters that an operating point may hold (`in_force.HELD`), by name. The bundle decides
            whether those at their default are in force.
    """

    operating_point: str
    anomaly_threshold: float | None
    outputs: frozenset[str]
    sleep_without_subscribers: bool
    score_encoding: str
    max_frame_age_ms: float
    max_rate_hz: float
    stale_after_s: float
    diagnostics_period_s: float
    ground_z_m: float
    point_height_m: float
    given: Mapping[str, Any]

    def output_settings(self, base_frame: str) -> OutputSettings:
        """How results are written into messages."""
        return OutputSettings(self.score_encoding, self.point_height_m, base_frame)

    def point(self, description: BundleDescription) -> OperatingPoint:
        """The operating point in use with this bundle.

        A bundle without any, such as an imported one before its calibration, runs with `anomaly_threshold` where that
        is set. The point is then named `none` and holds no settings.

        Raises:
            BundleError: no such operating point.
        """
        if self.anomaly_threshold is not None and not description.operating_points and not self.operating_point:
            return OperatingPoint("none", self.anomaly_threshold, "the parameter anomaly_threshold", "")
        return description.operating_point(self.operating_point)

    def in_force(self, description: BundleDescription) -> InForce:
        """The settings of obstacles with this bundle, and where each comes from.

        Raises:
            BundleError: no such operating point.
            ParameterError: it holds a setting that the node cannot have.
        """
        return in_force(self.given, self.point(description))

    def pipeline_settings(self, description: BundleDescription) -> PipelineSettings:
        """What a camera's pipeline does with this bundle.

        Raises:
            BundleError: no such operating point.
            ParameterError: the bundle has no class of a given name, or its operating point holds settings that cannot
                work, alone or with the parameters.
        """
        point = self.point(description)
        values = self.in_force(description).values
        try:
            region, persistence = _region_and_persistence(values)
            evidence = _evidence(values)
            if self.max_rate_hz > 0:
                _check_rate(self.max_rate_hz, self.stale_after_s, persistence)
        except ParameterError as error:
            raise ParameterError(f"with the settings of the operating point '{point.name}': {error}") from error
        names = _drivable_names(values, description)
        if names:
            ids = {c.name: c.id for c in description.classes}
            region = replace(region, drivable_ids=frozenset(ids[name] for name in names))
        return PipelineSettings(
            anomaly_threshold=self.threshold(description),
            region=region,
            persistence=persistence,
            evidence=evidence,
            ground=GroundLimits(values["ground.max_range_m"], self.ground_z_m),
        )

    def drivable_names(self, description: BundleDescription) -> tuple[str, ...]:
        """Names of the drivable classes: the given ones, or those that the bundle marks. Empty: every region counts.

        Raises:
            BundleError: no such operating point.
            ParameterError: the bundle has no class of a given name.
        """
        return _drivable_names(self.in_force(description).values, description)

    def threshold(self, description: BundleDescription) -> float:
        """The threshold with this bundle, in [0, 1].

        Raises:
            BundleError: no such operating point.
        """
        # Looked up in any case: a name that the bundle lacks would be an error only once the threshold is taken back.
        of_point = self.point(description).threshold
        return of_point if self.anomaly_threshold is None else self.anomaly_threshold

    def without_effect(self, names: Collection[str], description: BundleDescription) -> str:
        """What these settings leave without effect of some parameters, and what is in force instead; may be empty.

        Args:
            names: of parameters, `region.surroundings`.

        Raises:
            BundleError, ParameterError: as `drivable_names`.
        """
        found = []
        if "operating_point" in names and self.anomaly_threshold is not None:
            found.append(
                "operating_point has no effect on the threshold while anomaly_threshold is "
                f"{self.anomaly_threshold:g}, which is in force; set anomaly_threshold to -1 to use that of the "
                "operating point"
            )
        for name in ("region.surroundings", "region.standing", "region.hidden_foot"):
            if name in names and not self.drivable_names(description):
                found.append(f"{name} has no effect without drivable classes; set region.drivable_classes")
        if "score_encoding" in names and "anomaly_score" not in self.outputs:
            found.append("score_encoding has no effect while outputs does not hold anomaly_score")
        return "; ".join(found)


def _drivable_names(values: Mapping[str, Any], description: BundleDescription) -> tuple[str, ...]:
    wanted = tuple(name for name in values["region.drivable_classes"] if name)
    names = [c.name for c in description.classes]
    if not wanted:
        return tuple(names[number] for number in description.drivable_ids)
    if wanted == (EVERY_REGION,):
        return ()
    for name in wanted:
        if name not in names:
            raise ParameterError(
                f"parameter 'region.drivable_classes' holds '{name}'; the bundle has {', '.join(names)}. "
                f"['{EVERY_REGION}'] counts every region"
            )
    return wanted


def _check_values(values: Mapping[str, Any], live: bool) -> None:
    for declaration in DECLARATIONS:
        if declaration.live != live:
            continue
        problem = range_problem(declaration, values[declaration.name])
        if problem:
            raise ParameterError(problem)


def fixed_settings(values: Mapping[str, Any]) -> FixedSettings:
    """The settings that are read at configure.

    Args:
        values: of all parameters, by name.

    Raises:
        ParameterError: a value that the node cannot work with.
    """
    _check_values(values, live=False)
    if not values["bundle"]:
        raise ParameterError(f"parameter 'bundle' is empty; give the folder of a model bundle. {WHERE_BUNDLES_ARE}")
    cameras = camera_names(values)
    calibrations = _calibrations(values, cameras)
    return FixedSettings(
        bundle=parameter_path("bundle", values["bundle"]),
        bundle_public_key=values["bundle_public_key"],
        engine=values["engine"],
        num_threads=values["num_threads"],
        max_input_height=values["max_input_height"],
        gpu=GpuOptions(
            precision=values["precision"],
            image_size=(values["engine_image_height"], values["engine_image_width"]),
            build=values["engine_build"],
            cache=parameter_path("engine_cache", values["engine_cache"]) if values["engine_cache"] else None,
        ),
        cameras=cameras,
        image_transport=values["image_transport"],
        max_image_pixels=values["max_image_pixels"],
        failure_policy=FailurePolicy(
            max_failures=values["max_engine_failures"],
            after_failures=values["after_engine_failures"],
            first_retry_s=values["engine_retry_s"],
        ),
        inference_deadline_s=values["inference_deadline_s"],
        opening_deadline_s=values["engine_opening_deadline_s"]
        or (OPENING_WITH_BUILD_S if values["engine_build"] else OPENING_S),
        base_frame=values["ground.base_frame"],
        rectified_images=values["ground.rectified_images"],
        motion=_motion(values),
        grid=_grid(values),
        mountings=_mountings(values, cameras),
        ego_masks=_ego_masks(values, cameras),
        camera_info_topics=_camera_info_topics(values, cameras, calibrations),
        calibrations=calibrations,
    )


def _motion(values: Mapping[str, Any]) -> MotionSettings:
    topic, frame = values["ground.odometry_topic"], values["ground.fixed_frame"]
    if topic and (len(topic) > LONGEST_TOPIC or not FULL_TOPIC.fullmatch(topic)):
        raise ParameterError(
            f"parameter 'ground.odometry_topic' is {shown(topic)}; it must be the full name of a topic, such as "
            "/odometry"
        )
    if topic and frame:
        raise ParameterError(
            f"parameter 'ground.odometry_topic' is '{topic}', and 'ground.fixed_frame' is {shown(frame)}: both tell "
            "where the vehicle is; clear one of them"
        )
    if frame and frame.removeprefix("/") == values["ground.base_frame"].removeprefix("/"):
        raise ParameterError(
            f"parameter 'ground.fixed_frame' is {shown(frame)}, which is the vehicle's own frame (ground.base_frame); "
            "give the frame in which the vehicle moves, such as odom"
        )
    return MotionSettings(topic, frame, values["ground.motion_wait_s"], values["ground.max_speed_mps"])


def _evidence(values: Mapping[str, Any]) -> EvidenceSettings:
    names = [field.name for field in fields(EvidenceSettings)]
    try:
        return EvidenceSettings(**{name: values[f"evidence.{name}"] for name in names})
    except ValueError as error:
        raise ParameterError(f"parameters 'evidence.': {error}") from error


def _grid(values: Mapping[str, Any]) -> GridSettings:
    try:
        return GridSettings(
            resolution_m=values["ground.grid_resolution_m"],
            from_x_m=values["ground.grid_from_x_m"],
            to_x_m=values["ground.grid_to_x_m"],
            from_y_m=values["ground.grid_from_y_m"],
            to_y_m=values["ground.grid_to_y_m"],
        )
    except ValueError as error:
        raise ParameterError(f"parameters 'ground.grid_...': {error}") from error


def value_of_each(values: Mapping[str, Any], name: str, cameras: tuple[str, ...]) -> list[Any]:
    """The value of one of `CAMERA_PARAMETERS` for each camera.

    Raises:
        ParameterError: it has neither one value nor as many as there are cameras.
    """
    found = list(values[name])
    if not found:
        raise ParameterError(f"parameter '{name}' is an empty list; write [{_DEFAULTS[name][0]!r}], as by default")
    if len(found) not in (1, len(cameras)):
        raise ParameterError(
            f"parameter '{name}' has {len(found)} values; it must have one for each of the {len(cameras)} cameras, or "
            "one for all"
        )
    return found * len(cameras) if len(found) == 1 else found


def parameter_path(name: str, value: str) -> Path:
    """The path that a parameter gives, with `~` for the home folder.

    Raises:
        ParameterError: it is no path.
    """
    # A path cannot contain a zero byte, and OpenCV crashes on a lone surrogate.
    if len(value) > LONGEST_PATH or any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        raise ParameterError(f"parameter '{name}' is {shown(value)}, which is not a path")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ParameterError(f"parameter '{name}' is '{value}': {error}; give the folder's absolute path") from error


def _mountings(values: Mapping[str, Any], cameras: tuple[str, ...]) -> tuple[CameraPose | None, ...]:
    columns = [value_of_each(values, f"mounting.{field}", cameras) for field in MOUNTING_FIELDS]
    return tuple(CameraPose.from_mounting(*row) if row[0] > 0 else None for row in zip(*columns, strict=True))


def _ego_masks(values: Mapping[str, Any], cameras: tuple[str, ...]) -> tuple[NDArray[np.bool_] | None, ...]:
    try:
        return tuple(
            read_ego_mask(parameter_path("region.ego_mask", path)) if path else None
            for path in value_of_each(values, "region.ego_mask", cameras)
        )
    except ParameterError:
        raise
    except ValueError as error:
        raise ParameterError(f"parameter 'region.ego_mask': {error}") from error


def _calibrations(values: Mapping[str, Any], cameras: tuple[str, ...]) -> tuple[CameraInfoMessage | None, ...]:
    rectified = values["ground.rectified_images"]

    def read(value: str) -> CameraInfoMessage | None:
        if not value:
            return None
        path = parameter_path("calibration.file", value)
        try:
            found = read_calibration_file(path)
        except (CameraError, OSError) as error:
            raise ParameterError(f"parameter 'calibration.file': {error_line(error)}") from error
        try:
            # Whether it is of the images' size is known with the first image.
            CameraModel.from_camera_info(found, (found.height, found.width), rectified)
        except CameraError as error:
            raise ParameterError(f"parameter 'calibration.file': {path}: {error}") from error
        return found

    return tuple(read(value) for value in value_of_each(values, "calibration.file", cameras))


def _camera_info_topics(
    values: Mapping[str, Any], cameras: tuple[str, ...], calibrations: tuple[CameraInfoMessage | None, ...]
) -> tuple[str | None, ...]:
    name = "calibration.camera_info_topic"
    topics = value_of_each(values, name, cameras)
    for topic, calibration in zip(topics, calibrations, strict=True):
        if topic and (len(topic) > LONGEST_TOPIC or not FULL_TOPIC.fullmatch(topic)):
            raise ParameterError(
                f"parameter '{name}' is {shown(topic)}; it must be the full name of a topic, such as /front/camera_info"
            )
        if topic and topics.count(topic) > 1:
            raise ParameterError(
                f"parameter '{name}' gives '{topic}' to several cameras, and each has its own lens; give a topic for "
                "each"
            )
        if topic and calibration is not None:
            raise ParameterError(
                f"parameter '{name}' is '{topic}', and 'calibration.file' gives that camera a calibration as well; "
                "clear one of them"
            )
    return tuple(None if known else topic for topic, known in zip(topics, calibrations, strict=True))


def camera_names(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in the parameter `cameras`; a single empty one for a camera without a name.

    Raises:
        ParameterError: a name cannot be a level of a topic, stands there twice, or there are too many.
    """
    names = list(values["cameras"])
    if names in ([], [""]):
        return ("",)
    if len(names) > MOST_CAMERAS:
        raise ParameterError(f"parameter 'cameras' holds {len(names)} names; at most {MOST_CAMERAS} are allowed")
    for name in names:
        if not CAMERA_NAME.fullmatch(name) or name in TOPIC_WORDS:
            raise ParameterError(
                f"parameter 'cameras' holds {shown(name)}, which cannot be a level of a topic such as "
                f"{camera_topic('front_left', STATE_TOPIC)}; use letters, digits and single underscores, and none of "
                f"{', '.join(sorted(TOPIC_WORDS))}"
            )
        if names.count(name) > 1:
            raise ParameterError(f"parameter 'cameras' holds '{name}' more than once")
    return tuple(names)


def _check_rate(max_rate_hz: float, stale_after_s: float, persistence: PersistenceSettings) -> None:
    """Refuse a rate at which a camera would be stale, or all regions forgotten, between two frames."""
    period_s = 1.0 / max_rate_hz
    if period_s >= stale_after_s:
        raise ParameterError(
            f"parameter 'max_rate_hz' is {max_rate_hz:g}, a frame every {period_s:g} s, and 'stale_after_s' is "
            f"{stale_after_s:g}: the camera would be stale between two results; raise stale_after_s above "
            f"{period_s:g} or max_rate_hz above {1 / stale_after_s:g}"
        )
    if persistence.seen_frames > 1 and period_s >= persistence.max_gap_s:
        raise ParameterError(
            f"parameter 'max_rate_hz' is {max_rate_hz:g}, a frame every {period_s:g} s, and 'persistence.max_gap_s' is "
            f"{persistence.max_gap_s:g}: earlier frames would be forgotten before the next one, and no obstacle found; "
            f"raise persistence.max_gap_s above {period_s:g} or max_rate_hz above {1 / persistence.max_gap_s:g}, or "
            "set persistence.seen_frames to 1"
        )


def _region_and_persistence(values: Mapping[str, Any]) -> tuple[RegionSettings, PersistenceSettings]:
    try:
        return (
            RegionSettings(
                hysteresis=values["region.hysteresis"],
                min_area=values["region.min_area"],
                min_size_m=values["region.min_size_m"],
                max_regions=values["region.max_regions"],
                surroundings=values["region.surroundings"],
                standing=values["region.standing"],
                hidden_foot=values["region.hidden_foot"],
            ),
            PersistenceSettings(
                seen_frames=values["persistence.seen_frames"],
                of_frames=values["persistence.of_frames"],
                max_gap_s=values["persistence.max_gap_s"],
                reach=values["persistence.reach"],
            ),
        )
    except ValueError as error:
        raise ParameterError(f"parameters 'region.' and 'persistence.': {error}") from error


def live_settings(values: Mapping[str, Any]) -> LiveSettings:
    """The settings that can change while the node is active.

    Args:
        values: of all parameters, by name.

    Raises:
        ParameterError: a value that the node cannot work with.
    """
    _check_values(values, live=True)
    threshold = values["anomaly_threshold"]
    if -1 < threshold < 0:
        raise ParameterError(
            f"parameter 'anomaly_threshold' is {threshold}; it must be in [0, 1], or -1 for the operating point's"
        )
    given = {name: values[name] for name in HELD}
    _, persistence = _region_and_persistence(given)
    _evidence(given)
    if values["max_rate_hz"] > 0:
        _check_rate(values["max_rate_hz"], values["stale_after_s"], persistence)
    return LiveSettings(
        given=given,
        ground_z_m=values["ground.z_m"],
        point_height_m=values["ground.point_height_m"],
        operating_point=values["operating_point"],
        anomaly_threshold=None if threshold == -1 else threshold,
        outputs=frozenset(values["outputs"]),
        sleep_without_subscribers=values["sleep_without_subscribers"],
        score_encoding=values["score_encoding"],
        max_frame_age_ms=values["max_frame_age_ms"],
        max_rate_hz=values["max_rate_hz"],
        stale_after_s=values["stale_after_s"],
        diagnostics_period_s=values["diagnostics_period_s"],
    )
