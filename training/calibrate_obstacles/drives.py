"""The drives: found below the given paths, opened as a replay opens them, and played."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.natural_order import natural_key
from ros_ood_perception.parameters.parameter_file import of_recording
from ros_ood_perception.parameters.settings import FixedSettings, LiveSettings, fixed_settings
from ros_ood_perception.pipeline.fates import FAILED, MALFORMED
from ros_ood_perception.recordings.bag_files import BAG_FOLDER, holds_bag, is_bag_name
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.replay.camera_replay import CameraReplay
from ros_ood_perception.replay.engine_pool import EnginePool
from ros_ood_perception.replay.inputs import BagInput, Input, InputInfo, open_input
from ros_ood_perception.replay.read_ahead import ReadAhead, ReadyFrame
from ros_ood_perception.replay.run import ResultObserver
from ros_ood_perception.replay.state import file_digest
from sample_drive.drive_truth import is_drive, read_truth

IMAGES = "images"
NODE_NAME = "/perception_node"


class DriveError(PerceptionError, ValueError):
    """A drive that cannot be used. The message names it, and what to do."""


@dataclass(frozen=True)
class OpenDrive:
    """A drive that can be played.

    Attributes:
        path: of its recording.
        name: for records.
        source: its frames.
        fixed: settings of its cameras.
    """

    path: Path
    name: str
    source: Input
    fixed: FixedSettings

    def hours(self) -> float:
        """From its first frame to its last, summed over the cameras; pauses included."""
        return (self.source.end_ns() - self.source.start_ns()) / 3.6e12 * len(self.source.cameras)

    def digest(self) -> str:
        """SHA-256 over the names and digests of its files.

        Raises:
            OSError: with the path.
        """
        if self.path.is_file():
            return file_digest(self.path)
        files = sorted(file for file in self.path.rglob("*") if file.is_file())
        lines = [f"{file.relative_to(self.path).as_posix()} {file_digest(file)}\n" for file in files]
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def recordings_below(path: Path) -> list[Path]:
    """The recordings that a path holds: itself, a sample drive's, or those in its folders.

    Raises:
        DriveError: a sample drive with unknown objects, on which obstacles are no false ones.
    """
    if is_drive(path):
        if any(read_truth(path).obstacles.values()):
            raise DriveError(
                f"{path}: has unknown objects on it, so an obstacle need not be false; render it with --no-unknown, or "
                "give it to --objects"
            )
        return [path / BAG_FOLDER]
    if not path.is_dir() or holds_bag(path):
        return [path]
    found = []
    for child in sorted(path.iterdir(), key=lambda entry: natural_key(entry.name)):
        if is_drive(child):
            found += recordings_below(child)
        elif holds_bag(child) if child.is_dir() else is_bag_name(child.name):
            found.append(child)
    images = path / IMAGES
    return found or [images if images.is_dir() else path]


def open_drive(path: Path, values: Mapping[str, Any], bundle: Bundle, rate_hz: float) -> OpenDrive:
    """Open a drive with the user's parameters.

    Args:
        values: of all parameters, by name.
        rate_hz: frames a second of a folder of images.

    Raises:
        PerceptionError: it cannot be read, or the parameters do not fit it.
        OSError: with the path.
    """
    source = open_input(path, (), rate_hz)
    own = of_recording(values, [camera.name for camera in source.cameras]) | {"bundle": str(bundle.folder)}
    fixed = fixed_settings(own)
    source.use_calibrations(fixed.camera_info_topics)
    source.use_motion(fixed.motion, fixed.base_frame)
    source.limit_images(fixed.max_image_pixels)
    name = path.parent.name if path.name in (BAG_FOLDER, IMAGES) else path.name
    return OpenDrive(path, name or str(path), source, fixed)


def has_times(drive: OpenDrive) -> bool:
    """Whether its frames come at times of their own: those of a bag or a video, and not of a folder of images."""
    return isinstance(drive.source, BagInput) or drive.source.kind == "video"


def play(
    drive: OpenDrive,
    bundle: Bundle,
    live: LiveSettings,
    pool: EnginePool,
    every: int,
    observe: ResultObserver,
    advance: Callable[[], None],
) -> tuple[list[str], list[str]]:
    """Play a drive as a replay does, without writing results.

    Args:
        live: gives the results that `observe` sees; their obstacles are of no use here.
        every: the first and then every `every`-th frame of each camera is used.
        advance: called for each frame of the drive.

    Returns:
        Sentences about frames that could not be used, and about what makes the results other than expected.
    """
    source, types = drive.source, message_types()
    cameras = [
        CameraReplay(
            topics,
            number,
            drive.fixed,
            live,
            bundle.description,
            pool,
            source.transforms,
            types,
            (),
            NODE_NAME,
            source.why_no_calibration(number),
        )
        for number, topics in enumerate(source.cameras)
    ]
    for number, info in source.first_infos.items():
        cameras[number].set_camera_info(info)
    order, pixels = bundle.description.input.colour_order, drive.fixed.max_image_pixels
    with ReadAhead(source.items(None, None, ()), source.cameras, pool, order, pixels, every, 0) as ready:
        for item, _ in ready:
            if isinstance(item, InputInfo):
                cameras[item.camera].set_camera_info(item.info)
            elif isinstance(item, ReadyFrame):
                _use(item, cameras[item.frame.camera], observe)
                advance()
    return _problems(drive, cameras), [*drive.source.notes, *_notes(cameras)]


def _use(item: ReadyFrame, camera: CameraReplay, observe: ResultObserver) -> None:
    if item.left_out:
        camera.leave_out()
    elif item.image is None or item.result is None:
        camera.count(MALFORMED, item.problem)
    else:
        result = camera.use(item.frame, item.image, item.result)
        if result is not None:
            observe(camera.topics, item.frame, result)


def _problems(drive: OpenDrive, cameras: Sequence[CameraReplay]) -> list[str]:
    found = [f"damaged: {text}" for text in drive.source.damage]
    for camera in cameras:
        for fate in (MALFORMED, FAILED):
            if camera.accounting[fate]:
                found.append(f"{camera.topics.image}: {camera.accounting[fate]} frames {fate}")
        found += camera.problems
        if camera.too_far_apart["frames"]:
            found.append(
                f"{camera.topics.image}: after {camera.too_far_apart['frames']} of {camera.headers.count} frames no "
                f"obstacle can be found, false ones neither: {camera.too_far_apart['problem']}"
            )
    return found


def _notes(cameras: Sequence[CameraReplay]) -> list[str]:
    found = []
    for camera in cameras:
        if camera.no_place["frames"]:
            found.append(
                f"{camera.topics.image}: in {camera.no_place['frames']} of {camera.headers.count} frames obstacles "
                f"count wherever they are, as nothing can be placed on the ground: {camera.no_place['problem']}"
            )
        if camera.no_motion["frames"]:
            found.append(
                f"{camera.topics.image}: in {camera.no_motion['frames']} of {camera.headers.count} frames it is not "
                f"known where the vehicle was: {camera.no_motion['problem']}"
            )
        headers = (camera.headers.zero_stamp_problem, camera.headers.unordered_stamp_problem)
        found += [text for problem in headers if (text := problem(camera.topics.image))]
    return found
