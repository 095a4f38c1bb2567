"""Measures the obstacles of finished replays: the whole of `training.evaluate_obstacles` but its command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.replay.report.replay_output import ReplayOutput
from training.metrics.obstacles.causes import FalseObstacles, by_cause
from training.metrics.obstacles.findings import figures
from training.metrics.obstacles.froc import froc
from training.metrics.obstacles.judging import Rule
from training.metrics.obstacles.measure import MeasuredDrive, measure_drive
from training.metrics.obstacles.travelled import Travelled, travelled
from training.metrics.obstacles.truth import ObstacleTruth

METRES_PER_KILOMETRE = 1000.0


@dataclass(frozen=True)
class TruthOfReplay:
    """A replay to measure.

    Attributes:
        out: folder of the replay.
        truth: of its drive.
        recording: bag with the vehicle's odometry or `/tf`; None: the one that was replayed.
    """

    out: Path
    truth: ObstacleTruth
    recording: Path | None = None


@dataclass(frozen=True)
class MeasuredReplay:
    """A replay, what it was measured by, and what was found.

    Attributes:
        truth: as given.
        output: of the replay.
        drive: the judgements.
        false: the false obstacles.
    """

    truth: TruthOfReplay
    output: ReplayOutput
    drive: MeasuredDrive
    false: FalseObstacles


def measured_replays(
    replays: Sequence[TruthOfReplay], rule: Rule, odometry: str | None = None
) -> tuple[dict[str, Any], list[MeasuredReplay]]:
    """The figures of docs/measuring.md, as plain values for JSON, and the measured replays in their order.

    Args:
        replays: at least one. Each is a drive of its own for the intervals.
        rule: when an object is in view and when it is found.
        odometry: topic; None: the only one, or else `/tf`.

    Raises:
        PerceptionError: a replay cannot be read, its truth does not fit it, or the odometry is not there.
        OSError: with the path.
    """
    measured, rows, kilometres = [], [], []
    for replay in replays:
        output = ReplayOutput.read(replay.out)
        names = {camera.prefix: str(camera.facts["name"]) for camera in output.cameras}
        false = FalseObstacles(replay.truth, output.class_names)
        drive = measure_drive(output.bag, names, replay.truth, rule, false)
        driven, problem = _kilometres(drive, output, replay.recording, odometry)
        measured.append(MeasuredReplay(replay, output, drive, false))
        known_frames = replay.truth.frame_count()
        kilometres.append(driven)
        rows.append(
            {
                "replay": str(replay.out),
                "truth": str(replay.truth.path),
                "model_sha256": str(output.summary["bundle"]["model_sha256"]),
                "anomaly_threshold": output.threshold,
                "frames": drive.findings.frames,
                "seconds": drive.seconds,
                "kilometres": driven,
                "no_kilometres_because": problem,
                "frames_without_truth": drive.without_truth,
                "frames_of_the_truth_without_results": 0
                if known_frames is None
                else known_frames - drive.findings.frames,
                "frames_without_places": drive.without_places,
                "frames_with_a_repeated_stamp": drive.repeated,
                "frames_with_false_obstacles_without_labels": false.unlabelled,
                "damage": drive.damage,
            }
        )
    known = [value for value in kilometres if value is not None]
    total = math.fsum(known) if len(known) == len(replays) else None
    drives = [replay.drive for replay in measured]
    seconds = math.fsum(drive.seconds for drive in drives)
    output_figures = {
        "rule": asdict(rule),
        "drives": rows,
        **figures([drive.findings for drive in drives], seconds, total),
        "causes": by_cause([false for replay in measured for false in replay.false.worst_first()]),
        "froc": froc(drives),
    }
    return output_figures, measured


def _kilometres(
    drive: MeasuredDrive, output: ReplayOutput, recording: Path | None, odometry: str | None
) -> tuple[float | None, str]:
    """Driven in the measured time, summed over the cameras as the time is; or None and why it is not known."""
    path = recording or Path(str(output.summary["plan"]["input"]))
    try:
        bag = Bag(path)
    except (PerceptionError, OSError) as error:
        if recording is not None:
            raise
        return None, f"the replayed recording cannot be read as a bag ({error})"
    way, problem = travelled(bag, str(output.summary["plan"]["parameters"]["ground.base_frame"]), odometry)
    if way is None:
        return None, problem
    return _driven(drive, way, path)


def _driven(drive: MeasuredDrive, way: Travelled, path: Path) -> tuple[float | None, str]:
    metres = 0.0
    for spans in drive.spans.values():
        for stamp, seconds in spans:
            end = min(stamp + round(seconds * 1e9), int(way.stamps[-1]))
            part = way.between(stamp, max(end, stamp))
            if part is None:
                return None, f"{path}: {way.source} does not reach from the first to the last measured frame"
            metres += part
    return metres / METRES_PER_KILOMETRE, ""
