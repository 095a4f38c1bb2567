"""Replay a recording, and measure the results against labels with the metrics of `training.evaluate`.

    python -m training.evaluate_replay BAG --bundle models/mine --out out/replay --labels FOLDER

It takes the options of `ros2 run ros_ood_perception replay` and writes the same files, and `OUT/metrics.json`. The
vehicle's package has no metrics. So this command wraps its replay, and measures every result before it is rounded.

FOLDER holds `labels/` (PNG, class ids of the bundle; 255 and the first id above the classes are void), `labels_masks/`
(PNG, 0 inlier, 1 anomaly, 255 void), or both. With several cameras, FOLDER/CAMERA holds them. A file has the name of
its frame: the name of the image file, or the stamp in nanoseconds. Frames without labels are replayed but not measured.
The calibration error is missing, because a replay has no class probabilities. Torch is not needed.

With --obstacles FILE the obstacles are measured as well, by `training.evaluate_obstacles`.
"""

from __future__ import annotations

import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.json_files import json_text
from ros_ood_perception.files.output_folder import OutputFolder, check_apart
from ros_ood_perception.pipeline.camera_pipeline import FrameResult
from ros_ood_perception.replay.cameras import CameraTopics
from ros_ood_perception.replay.command_line.main import main as replay_main
from ros_ood_perception.replay.command_line.opening import Opened
from ros_ood_perception.replay.command_line.options import make_parser
from ros_ood_perception.replay.inputs import InputFrame
from ros_ood_perception.replay.run import ResultObserver
from ros_ood_perception.replay.state import PROGRAM, ReplayError
from ros_ood_perception.shown_text import error_line
from training.data.label_set import IGNORE
from training.data.labelled_frames import ANOMALY, INLIER, BrokenFrameError, LabelledFrame, label_file, read_label_map
from training.evaluation.obstacle_tables import print_obstacles, unmeasured
from training.evaluation.set_evaluation import SetEvaluation
from training.evaluation.tables import print_tables, say
from training.metrics.obstacles.judging import Rule
from training.metrics.obstacles.published import NEEDED
from training.metrics.obstacles.replayed import TruthOfReplay, measured_replays
from training.metrics.obstacles.truth import ObstacleTruth
from training.metrics.obstacles.truth_file import open_truth

CLASS_FOLDER, ANOMALY_FOLDER = "labels", "labels_masks"
METRICS_FILE = "metrics.json"


class LabelledReplay:
    """A `ResultObserver` that measures every frame with labels.

    Args:
        folder: of the labels.

    Raises:
        ReplayError: the folder has neither `labels/` nor `labels_masks/`.
    """

    def __init__(self, folder: Path, opened: Opened) -> None:
        self._folder = folder
        self._classes = [known.name for known in opened.bundle.description.classes]
        folders = [self._of_camera(camera) for camera in opened.source.cameras]
        has = {kind: any((f / kind).is_dir() for f in folders) for kind in (CLASS_FOLDER, ANOMALY_FOLDER)}
        if not any(has.values()):
            raise ReplayError(f"{folder}: holds neither {CLASS_FOLDER}/ nor {ANOMALY_FOLDER}/ (PNG files)")
        points = opened.bundle.description.operating_points
        classes = self._classes if has[CLASS_FOLDER] else []
        self.evaluation = SetEvaluation("replay", classes, has[ANOMALY_FOLDER], points)
        self.without_labels = 0
        self.left_out: list[str] = []
        self._frame_of: dict[Path, str] = {}

    def _of_camera(self, camera: CameraTopics) -> Path:
        own = self._folder / camera.name
        return own if camera.name and own.is_dir() else self._folder

    def __call__(self, camera: CameraTopics, frame: InputFrame, result: FrameResult) -> None:
        """See `ResultObserver`."""
        image, perception = result.image, result.perception
        stamp = frame.message.header.stamp
        names = (Path(frame.name).stem, str(stamp.sec * 1_000_000_000 + stamp.nanosec))
        folder = self._of_camera(camera)
        files = {kind: _first(folder / kind, names) for kind in (CLASS_FOLDER, ANOMALY_FOLDER)}
        wanted = [
            kind
            for kind, measured in (
                (CLASS_FOLDER, bool(self.evaluation.classes)),
                (ANOMALY_FOLDER, self.evaluation.has_anomalies),
            )
            if measured
        ]
        if any(files[kind] is None for kind in wanted):
            self.without_labels += 1
            return
        try:
            self._claim([file for file in files.values() if file is not None], f"{camera.image} {frame.name}".strip())
            labels = self._labels(files[CLASS_FOLDER], perception.frame_size)
            anomaly = self._anomaly(files[ANOMALY_FOLDER], labels)
        except BrokenFrameError as error:
            say(f"not measured: {error}")
            self.left_out.append(str(error))
            return
        self.evaluation.update(
            LabelledFrame(names[1], image, labels, anomaly), perception.semantic, perception.anomaly_score, None
        )

    def _claim(self, files: Sequence[Path], frame: str) -> None:
        for file in files:
            if file in self._frame_of:
                raise BrokenFrameError(
                    f"{file}: is the label file of {self._frame_of[file]}, and fits {frame} as well; each frame needs "
                    "its own"
                )
        self._frame_of |= dict.fromkeys(files, frame)

    def _labels(self, file: Path | None, size: tuple[int, int]) -> NDArray[np.uint8]:
        if file is None:
            return np.full(size, IGNORE, np.uint8)
        raw = _read(file, size)
        void = len(self._classes)
        unknown = raw[(raw > void) & (raw != IGNORE)]
        if unknown.size:
            raise BrokenFrameError(
                f"{file}: label value {unknown.max()}; the bundle has the classes 0 to {void - 1}, and {void} and "
                f"{IGNORE} are void"
            )
        return np.where(raw == void, np.uint8(IGNORE), raw)

    def _anomaly(self, file: Path | None, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if file is None:
            return np.where(labels == IGNORE, np.uint8(IGNORE), np.uint8(INLIER))
        raw = _read(file, labels.shape)
        if not np.isin(raw, (INLIER, ANOMALY, IGNORE)).all():
            raise BrokenFrameError(f"{file}: an anomaly mask has the values {INLIER}, {ANOMALY} and {IGNORE} only")
        return raw


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    candidates = (label_file(folder / f"{name}.png") for name in names)
    return next((path for path in candidates if path.is_file()), None)


def _read(file: Path, size: tuple[int, ...]) -> NDArray[np.uint8]:
    raw = read_label_map(file)
    if raw.shape != tuple(size):
        raise BrokenFrameError(f"{file}: is {raw.shape}, and the frame is {tuple(size)} (height, width)")
    return raw


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the replay's exit code, 1 if labels or obstacles could not be used, 2 if no labels fit."""
    parser = make_parser()
    parser.prog, parser.description = "python -m training.evaluate_replay", __doc__
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.add_argument("--labels", type=Path, required=True, metavar="FOLDER", help="see above")
    parser.add_argument("--obstacles", type=Path, metavar="FILE", help="truth about the obstacles; see above")
    seen: list[tuple[LabelledReplay, Namespace, Opened, ObstacleTruth | None]] = []

    def observe(options: Namespace, opened: Opened) -> Sequence[ResultObserver]:
        if options.resume:
            raise ReplayError("--resume: frames that were replayed before would not be measured; start anew")
        check_apart("--out", options.out, {"--labels": options.labels, "--obstacles": options.obstacles})
        seen.append((LabelledReplay(options.labels, opened), options, opened, _obstacle_truth(options, opened)))
        return [seen[0][0]]

    code = replay_main(arguments, parser, observe)
    if code not in (0, 1) or not seen:
        return code
    measured, options, opened, truth = seen[0]
    if not measured.evaluation.frames:
        print(f"evaluate_replay: {options.labels}: no labels fit a frame, by name or by stamp", file=sys.stderr)
        measured.evaluation.close()
        return 2
    description = opened.bundle.description
    results = measured.evaluation.results()
    void_for_anomalies = measured.evaluation.void_for_anomalies(str(options.labels))
    measured.evaluation.close()
    results |= {"without_labels": measured.without_labels, "left_out": measured.left_out}
    if void_for_anomalies:
        results["void_for_anomalies"] = void_for_anomalies
    output: dict[str, Any] = {"bundle": description.name, "score": description.score.name, "sets": {"replay": results}}
    try:
        if truth is not None:
            output["obstacles"], _ = measured_replays([TruthOfReplay(options.out, truth)], Rule())
        OutputFolder.reopen(options.out, PROGRAM).write(METRICS_FILE, json_text(output))
    except (PerceptionError, OSError) as error:
        say(f"evaluate_replay: {error_line(error)}")
        return 2
    return max(code, _print(output, measured, void_for_anomalies))


def _obstacle_truth(options: Namespace, opened: Opened) -> ObstacleTruth | None:
    """The truth about the obstacles, if it is given. It is read before the replay, so that no replay is in vain."""
    if options.obstacles is None:
        return None
    missing = [name for name in NEEDED if name not in opened.plan.outputs]
    if missing:
        raise ReplayError(f"--obstacles: needs {', '.join(missing)} in --outputs")
    return open_truth(options.obstacles)


def _print(output: dict[str, Any], measured: LabelledReplay, void_for_anomalies: str) -> int:
    """Print the figures; returns 1 if something could not be measured, else 0."""
    print_tables(output)
    say(f"{measured.evaluation.frames} frames measured, {measured.without_labels} had no labels")
    if void_for_anomalies:
        say(f"evaluate_replay: {void_for_anomalies}")
    obstacles = output.get("obstacles")
    if obstacles is not None:
        print_obstacles(obstacles)
    return 1 if measured.left_out or void_for_anomalies or (obstacles is not None and unmeasured(obstacles)) else 0


if __name__ == "__main__":
    sys.exit(main())
