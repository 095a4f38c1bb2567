"""Replays a recording, or a span of its time, by the machinery of `replay`, and writes rows."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from fleet.mine.recording.frame_rows import FrameRows, RowWriter
from fleet.mine.recording.parts import PartPlan, SpanResult, begin_from, cuts
from fleet.mine.recording.positions import Positions, read_positions
from fleet.mine.settings import MineSettings
from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.camera.calibration.camera_info import CameraInfoMessage
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.parameters.parameter_file import of_recording, parameter_values
from ros_ood_perception.parameters.settings import fixed_settings, live_settings
from ros_ood_perception.pipeline.camera_pipeline import FrameResult
from ros_ood_perception.replay.camera_replay import CameraReplay
from ros_ood_perception.replay.command_line.opening import Opened, open_all
from ros_ood_perception.replay.command_line.options import make_parser
from ros_ood_perception.replay.command_line.summary import summarise
from ros_ood_perception.replay.engine_pool import EnginePool
from ros_ood_perception.replay.inputs import InputFrame
from ros_ood_perception.replay.run import Replay
from ros_ood_perception.replay.state import make_room

ONLY_FOR_DOUBTS = "obstacle_detections"
"""The output that is made where none is asked for: a small one of obstacles, so that warnings about them count."""
CHECKED_EVERY = 20
"""Frames between two looks at the memory in use."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class TooMuchMemoryError(PerceptionError, RuntimeError):
    """A recording needs more memory than a worker may have. The message says what to do."""


@dataclass(frozen=True)
class OpenedRecording:
    """A recording that is checked and ready to be replayed.

    Attributes:
        path: local.
        options: of `replay`, which opened it.
    """

    path: Path
    options: argparse.Namespace
    opened: Opened


class SpanReplay:
    """Replays with one engine, which is opened once.

    Args:
        settings: of the run.
        folder: a local folder for what is written on the way.

    Attributes:
        bundle: verified.
        seen_frames: `PersistenceSettings.seen_frames`.

    Raises:
        PerceptionError: bundle, parameters or engine cannot be used.
        OSError: with the path.
    """

    def __init__(self, settings: MineSettings, folder: Path) -> None:
        self._settings, self._folder, self._out = settings, folder, folder / "replay"
        self._bundle_folder, self._parameters = folder / "bundle", folder / "parameters.yaml"
        self._bundle_folder.mkdir(parents=True, exist_ok=True)
        for name, contents in settings.bundle_files.items():
            (self._bundle_folder / name).write_bytes(contents)
        if settings.parameters is not None:
            self._parameters.write_bytes(settings.parameters)
        options = self._options(folder, folder / "none")
        given = parameter_values(options.params, options.set, options.node_name)
        whole = read_bundle(self._bundle_folder, given["bundle_public_key"])
        self.bundle: Bundle = whole.up_to(given["max_input_height"])
        values = of_recording({**given, "bundle": str(self._bundle_folder)}, [""])
        fixed = fixed_settings(values)
        self.seen_frames = live_settings(values).pipeline_settings(self.bundle.description).persistence.seen_frames
        self._pool = EnginePool(self.bundle, options.engine or fixed.engine, 1, options.threads, fixed.gpu)
        # OpenCV would use every CPU of the machine beside the other workers. Its results do not depend on it.
        cv2.setNumThreads(max(1, options.threads))

    def close(self) -> None:
        """Close the engine."""
        self._pool.close()

    def _options(self, recording: Path, out: Path) -> argparse.Namespace:
        arguments = [str(recording), "--bundle", str(self._bundle_folder), "--out", str(out), "--compression", "none"]
        if not self._settings.with_outputs:
            arguments += ["--outputs", ONLY_FOR_DOUBTS]
        if self._settings.parameters is not None:
            arguments += ["--params", str(self._parameters)]
        return make_parser().parse_args([*arguments, *self._settings.replay_options])

    def open(self, recording: Path) -> OpenedRecording:
        """Open a recording, for one replay of it or of a span.

        Raises:
            PerceptionError: it cannot be read.
        """
        # What a replay without a frame leaves would be taken for somebody else's.
        shutil.rmtree(self._out, ignore_errors=True)
        options = self._options(recording, self._out)
        return OpenedRecording(recording, options, open_all(options))

    def plan(self, recording: OpenedRecording) -> PartPlan:
        """How a recording is split; one part where it is short, or where parts may differ from the whole."""
        settings, opened = self._settings, recording.opened
        source = opened.source
        if (
            settings.part_s <= 0
            or settings.with_outputs
            or source.kind != "bag"
            or opened.plan.every > 1
            or opened.plan.start_ns is not None
            or opened.plan.stop_ns is not None
            or opened.fixed.motion.is_given
            or source.damage
        ):
            return PartPlan((), source.frame_count or 0)
        return PartPlan(cuts(source.start_ns(), source.end_ns(), settings.part_s), source.frame_count or 0)

    def replay(
        self,
        recording: OpenedRecording,
        name: str,
        writer: RowWriter,
        span: tuple[int | None, int | None] = (None, None),
        before: Sequence[dict[str, Any]] | None = None,
    ) -> SpanResult:
        """Replay a span of a recording and write the rows of its frames.

        Args:
            recording: not replayed yet.
            name: of the recording, for the rows.
            writer: takes the rows.
            span: time in the recording, nanoseconds: from the first and before the second; None: no limit.
            before: state of each camera before the first frame; None: that of a replay which begins here.

        Raises:
            PerceptionError: it cannot be replayed; the message says what to do.
            OSError: with the path.
        """
        opened = recording.opened
        if span != (None, None):
            opened = replace(opened, plan=replace(opened.plan, start_ns=span[0], stop_ns=span[1]))
        pipeline = opened.live.pipeline_settings(opened.bundle.description)
        classes = len(opened.bundle.description.classes)
        positions = read_positions(recording.path, *span) if opened.source.kind == "bag" else Positions([])
        rows = FrameRows(name, classes, pipeline.region.drivable_ids, positions, writer)
        calibrations = _Calibrations()
        output = make_room(self._out, False, True)
        run = Replay(
            opened.source,
            output,
            opened.plan,
            opened.bundle,
            opened.fixed,
            opened.live,
            self._pool,
            frame_observers=(rows, calibrations),
        )
        if before is not None:
            for camera, state in zip(run.cameras, before, strict=True):
                camera.restore(begin_from(camera.state(), state))
        begun = _states(run)
        run.run(self._memory_check(), lambda: False)
        return SpanResult(
            summary=_plain(self._summary(recording.options, opened, run)),
            before=begun,
            after=_states(run),
            calibrations=[calibrations.found.get(camera.topics.image, []) for camera in run.cameras],
            first_ns=rows.first_ns,
            last_ns=rows.last_ns,
            obstacles=rows.obstacles,
        )

    def _summary(self, options: argparse.Namespace, opened: Opened, run: Replay) -> dict[str, Any]:
        summary = summarise(options, opened, run, self._pool, True, 0.0)
        if not self._settings.with_outputs:
            summary["topics"] = {}
        # The recording has another path on each machine.
        del summary["input"]["path"], summary["plan"], summary["this_run"]
        return summary

    def _memory_check(self) -> Callable[[], None]:
        most, frames = self._settings.memory_bytes, 0

        def advance() -> None:
            nonlocal frames
            frames += 1
            if most and frames % CHECKED_EVERY == 1 and (used := _resident_bytes()) > most:
                raise TooMuchMemoryError(
                    f"its worker needs {used / 1e9:.2f} GB, more than the {most / 1e9:.2f} GB of --memory-per-task; "
                    "give more"
                )

        return advance


class _Calibrations:
    """The calibrations that each camera used. It follows `FrameObserver`."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}
        self._last: dict[str, CameraInfoMessage | None] = {}

    def __call__(self, camera: CameraReplay, frame: InputFrame, result: FrameResult | None) -> None:
        topic, info = camera.topics.image, camera.calibration
        if topic in self._last and self._last[topic] is info:
            return
        self._last[topic] = info
        digests = self.found.setdefault(topic, [])
        if (digest := _calibration_digest(info)) not in digests:
            digests.append(digest)


def _calibration_digest(info: CameraInfoMessage | None) -> str:
    if info is None:
        return ""
    names = ("height", "width", "distortion_model", "d", "k", "r", "p", "binning_x", "binning_y")
    values: list[Any] = [getattr(info, name, None) for name in names]
    plain = [value.tolist() if hasattr(value, "tolist") else value for value in values]
    region = getattr(info, "roi", None)
    return hashlib.sha256(repr((plain, None if region is None else sorted(vars(region).items()))).encode()).hexdigest()


def _states(run: Replay) -> list[dict[str, Any]]:
    return [_plain(camera.state()) for camera in run.cameras]


def _plain(data: Any) -> Any:
    """As it is read back from a file."""
    return json.loads(json.dumps(data))


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE_BYTES
