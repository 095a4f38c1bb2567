"""Choose thresholds and settings by the false obstacles that they raise an hour, on drives without unknown objects.

    python -m training.calibrate_obstacles models/mine --drives BAGS_OF_TUESDAY --params vehicle.param.yaml \\
        --false-per-hour 6 30 60 --objects out/drive --json out/obstacles.json
    python -m training.calibrate_obstacles models/mine --drives IMAGES --false-per-frame 0.1

--drives takes bags, folders of bags, sample drives (rendered with --no-unknown), videos and folders of images. Nothing
unknown may lie on them: every obstacle that the node would raise there counts as false, once by its id. The drives are
played as a replay plays them, with the parameters of --params and --set. Each frame is inferred once; all settings are
tried beside each other on its score.

For each setting the lowest threshold is taken that keeps the rate: first of every eighth of 241, then of those just
below it. So the drives are played twice. Drives with objects, if there are any, have to keep the rate too: if they do
not, a higher threshold is taken. Settings are

- with --objects DRIVE or --objects RECORDING=TRUTH.json (docs/measuring.md): a small grid of `region.hysteresis` with
  `evidence.weak_sighting`, `region.min_size_m` with `region.min_area`, and `persistence.*` with `evidence.appears_at`.
  Chosen is what finds most unknown objects there. Give drives whose results you will not report;
- without: those of the parameters, and only the threshold is chosen. A larger smallest area, or longer persistence,
  always allows a lower threshold, and nothing would show which objects it loses.

--try NAME=VALUE,VALUE tries other values. Without --objects the lowest threshold is then chosen. Settings that --params
sets are kept, because they win over an operating point.

The bundle gets an operating point `obstacles_6_per_hour`: threshold, all settings by their parameter names, drives with
digests and hours, rate and interval. Node and replay take it by name (parameter `operating_point`). It counts on frames
that the node uses: give --every if the vehicle uses fewer than were recorded. The setting is chosen on these drives, so
the rate on others will be a little higher; replay some that were not used here.

**Hours.** Without a false obstacle in T hours the rate is at most 3.0 / T an hour with 95 % confidence: 9 an hour after
20 minutes. A rate that the hours cannot support is refused, with the hours that could: 6 an hour needs 30 minutes.

**A folder of images** has no times: each frame stands for itself (persistence 1 of 1), and the rate is one a frame
(--false-per-frame). If the images are consecutive, give their --rate.

With --json, counts of finished drives are kept beside it (FILE.drives/). The same command then continues after an
interruption, and further --drives are counted alone.

Exit code: 0 done; 1 a rate was refused or missed with objects, or a drive was damaged; 2 bad input; 130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ros_ood_perception.bundle.description import OperatingPoint
from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle, write_bundle, write_description
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.json_files import write_json
from ros_ood_perception.files.output_folder import check_apart
from ros_ood_perception.inference.engine_names import ENGINES
from ros_ood_perception.number_arguments import MOST_THREADS, real, whole
from ros_ood_perception.parameters.parameter_file import parameter_values
from ros_ood_perception.parameters.settings import live_settings
from ros_ood_perception.replay.engine_pool import EnginePool
from ros_ood_perception.shown_text import error_line
from sample_drive.drive_truth import is_drive
from training.bundles.folder import check_bundle_folder
from training.calibrate_obstacles.candidates import THRESHOLDS, Candidate, candidates, kept_settings
from training.calibrate_obstacles.choosing import (
    EACH,
    SECONDS_PER_HOUR,
    Choice,
    Counts,
    Exposure,
    Round,
    Try,
    coarse_tries,
    ranked,
    shown_hours,
)
from training.calibrate_obstacles.counting import DriveCounts
from training.calibrate_obstacles.drives import (
    NODE_NAME,
    DriveError,
    OpenDrive,
    has_times,
    open_drive,
    recordings_below,
)
from training.calibrate_obstacles.measuring import Measurement
from training.calibrate_obstacles.points import (
    PlayedDrive,
    Rated,
    chosen_point,
    point_name,
    print_rated,
    rows,
    with_points,
)
from training.evaluation.tables import say
from training.metrics.obstacles.truth import ObstacleTruth
from training.metrics.obstacles.truth_file import open_truth

SEPARATE_HZ = 1.0
"""Rate of the frames of a folder of images that stand for themselves."""
SPARE = 2
"""A setting is counted on a drive up to so many times the most false obstacles, so that drives can be added."""
MOST_FRAMES = 10**9
"""Of a drive that does not say how many it has."""
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _calibrate(options)
    except (PerceptionError, OSError) as error:
        say(f"calibrate_obstacles: {error_line(error)}")
        return 2
    except KeyboardInterrupt:
        kept = "; the same command continues after the finished drives" if options.json else ""
        say(f"calibrate_obstacles: interrupted{kept}")
        return INTERRUPTED


def _calibrate(options: argparse.Namespace) -> int:
    each_frame = options.false_per_frame is not None
    rates = sorted(set(options.false_per_frame or options.false_per_hour))
    values = parameter_values(options.params, options.set, NODE_NAME)
    bundle = read_bundle(options.bundle)
    _check_outputs(options, bundle)
    bundle = bundle.up_to(values["max_input_height"])
    live = live_settings(values)
    if live.anomaly_threshold is not None:
        raise DriveError("the parameters set anomaly_threshold, which would win over the operating point; remove it")
    tried = candidates(live, options.tries, bool(options.objects), each_frame)
    # The drives are played with the first candidate: the point that --params names may not exist yet.
    known, live = _with_first(bundle, tried[0]), replace(live, operating_point=tried[0].point(1.0).name)
    rate_hz = options.rate or SEPARATE_HZ
    drives = [open_drive(p, values, bundle, rate_hz) for path in options.drives for p in recordings_below(path)]
    _check_times(drives, each_frame, options.rate)
    objects = [_with_truth(text, values, bundle, rate_hz) for text in options.objects]
    _announce(drives, tried, kept_settings(live))
    gpu, threads = drives[0].fixed.gpu, options.threads or drives[0].fixed.num_threads
    pool = EnginePool(bundle, options.engine or drives[0].fixed.engine, options.jobs, threads, gpu)
    try:
        cache = None if options.json is None else options.json.with_name(f"{options.json.name}.drives")
        measurement = Measurement(known, values, live, pool, tried, each_frame, options.every, cache)
        counts, played, exposure = _counted(measurement, drives, rates)
        rated = _weighed(measurement, _rated(rates, counts, exposure), counts, objects)
    finally:
        pool.close()
    points = [_point(one, options, counts, exposure, played) for one in rated if not one.refused]
    _report(options, rated, points, counts, exposure, played)
    _write(options, points)
    incomplete = any(one.refused or one.missed for one in rated) or any(drive.problems for drive in counts.drives)
    return 1 if incomplete else 0


def _with_first(bundle: Bundle, candidate: Candidate) -> Bundle:
    """The bundle with one operating point: the candidate at the highest score."""
    return replace(bundle, description=replace(bundle.description, operating_points=(candidate.point(1.0),)))


def _counted(
    measurement: Measurement, drives: Sequence[OpenDrive], rates: Sequence[float]
) -> tuple[Counts, list[PlayedDrive], Exposure]:
    """Count on all drives: coarse thresholds first, then finer ones near the limits of the rates.

    What was counted before an error or an interruption is in the cache.
    """
    if measurement.each_frame:
        most = rates[-1] * sum(drive.source.frame_count or MOST_FRAMES for drive in drives)
    else:
        most = rates[-1] * sum(drive.hours() for drive in drives)
    limit = math.ceil(most) + 1
    digests = [drive.digest() for drive in drives]

    def count(tries: Sequence[Try], number: int) -> DriveCounts:
        return measurement.count(drives[number], digests[number], tries, limit, SPARE * limit)

    tries, counted, played = coarse_tries(len(measurement.candidates)), [], []
    for number, drive in enumerate(drives):
        counts = count(tries, number)
        for text in (*counts.problems, *counts.notes):
            say(f"{drive.path}: {text}")
        hours = 0.0 if measurement.each_frame else counts.seconds / SECONDS_PER_HOUR
        counted.append(counts)
        played.append(PlayedDrive(drive.name, digests[number], hours, counts.frames))
        say(f"{drive.path}: {counts.frames} frames" + ("" if measurement.each_frame else f", {shown_hours(hours)}"))
    coarse = Counts(measurement.candidates, (Round(tries, counted),))
    exposure = Exposure(
        "frame" if measurement.each_frame else "hour", sum(d.hours for d in played), sum(d.frames for d in played)
    )
    if not exposure.amount:
        raise DriveError("the drives have no duration: each has one frame, or frames with one stamp")
    finer = coarse.finer([exposure.most(rate) for rate in rates if not exposure.too_little_for(rate)])
    if not finer:
        return coarse, played, exposure
    say(f"{len(finer)} finer thresholds near the limit")
    of_finer = Round(finer, [count(finer, number) for number in range(len(drives))])
    return replace(coarse, rounds=(*coarse.rounds, of_finer)), played, exposure


def _rated(rates: Sequence[float], counts: Counts, exposure: Exposure) -> list[Rated]:
    """The lowest threshold of each candidate for each rate."""
    found = []
    for rate in rates:
        refused = exposure.too_little_for(rate)
        most, choices = exposure.most(rate), []
        for number in range(len(counts.candidates)):
            threshold = counts.lowest_threshold(number, most)
            if threshold is not None:
                choices.append(Choice(number, threshold, counts.total(number, threshold) or 0))
        if not choices and not refused:
            refused = (
                f"no threshold up to {THRESHOLDS[-1]:.4f} keeps {rate:g} false obstacles {EACH[exposure.per]}; "
                "try a larger region.min_size_m or longer persistence (--try), or train on frames like these"
            )
        found.append(Rated(rate, refused, ranked(choices, rate)))
    return found


def _weighed(
    measurement: Measurement,
    rated: Sequence[Rated],
    counts: Counts,
    objects: Sequence[tuple[OpenDrive, ObstacleTruth]],
) -> list[Rated]:
    """The same, each setting at a threshold that keeps the rate on the drives with objects too, ranked by these.

    These drives are played once, with all thresholds that may be taken beside each other.
    """
    wanted = {key: None for one in rated if not one.refused for c in one.choices for key in counts.from_choice(c)}
    if not objects or not wanted:
        return list(rated)
    found = dict(zip(wanted, measurement.find(objects, list(wanted)), strict=True))
    return [
        one
        if one.refused
        else replace(one, choices=ranked([counts.raised(c, one.asked, found) for c in one.choices], one.asked))
        for one in rated
    ]


def _point(
    rated: Rated, options: argparse.Namespace, counts: Counts, exposure: Exposure, drives: Sequence[PlayedDrive]
) -> OperatingPoint:
    point = chosen_point(rated, counts.candidates, counts, exposure, drives)
    assert point.false_obstacles is not None
    return replace(point, false_obstacles=replace(point.false_obstacles, command=_command(options)))


def _command(options: argparse.Namespace) -> str:
    """The command that repeats the measurement. Paths are shortened to their names."""
    parts = ["python", "-m", "training.calibrate_obstacles", f"models/{options.bundle.resolve().name}", "--drives"]
    parts += [path.name or str(path) for path in options.drives[:20]] + (["..."] if len(options.drives) > 20 else [])
    name = "--false-per-frame" if options.false_per_frame is not None else "--false-per-hour"
    parts += [name, *(f"{rate:g}" for rate in options.false_per_frame or options.false_per_hour)]
    parts += ["--params", options.params.name] if options.params else []
    parts += ["--rate", f"{options.rate:g}"] if options.rate else []
    parts += ["--every", str(options.every)] if options.every > 1 else []
    for option, texts in (("--set", options.set), ("--try", options.tries)):
        parts += [part for text in texts for part in (option, text)]
    for text in options.objects:
        parts += ["--objects", "=".join(Path(part).name for part in text.split("="))]
    command = shlex.join(parts)
    return command if command.isprintable() else repr(command)


def _report(
    options: argparse.Namespace,
    rated: Sequence[Rated],
    points: Sequence[OperatingPoint],
    counts: Counts,
    exposure: Exposure,
    drives: Sequence[PlayedDrive],
) -> None:
    per, tables = exposure.per, []
    for one in rated:
        found = rows(one, counts.candidates, counts, exposure)
        tables.append({"asked": one.asked, "point": point_name(one.asked, per), "refused": one.refused, "rows": found})
        if not one.refused:
            print_rated(one.asked, per, found)
            if one.missed:
                say(
                    f"{point_name(one.asked, per)}: no setting keeps {one.asked:g} {EACH[per]} on the drives with "
                    "objects; ask for a lower rate, whose thresholds are higher, or train on frames like these"
                )
    for one in rated:
        if one.refused:
            say(f"{point_name(one.asked, per)}: not written: {one.refused}")
    if options.json is None:
        return
    every = [
        {
            "settings": candidate.settings,
            "thresholds": [THRESHOLDS[threshold] for threshold in counts.tried(number)],
            "share_of_pixels_above": [counts.share_above(threshold) for threshold in counts.tried(number)],
            "false_obstacles": [counts.total(number, threshold) for threshold in counts.tried(number)],
        }
        for number, candidate in enumerate(counts.candidates)
    ]
    output: dict[str, Any] = {
        "per": per,
        "hours": exposure.hours,
        "frames": exposure.frames,
        "drives": [
            vars(drive) | {"problems": d.problems, "notes": d.notes}
            for drive, d in zip(drives, counts.drives, strict=True)
        ],
        "candidates": every,
        "rates": tables,
        "written": [point.name for point in points],
    }
    write_json(options.json, output)


def _write(options: argparse.Namespace, points: Sequence[OperatingPoint]) -> None:
    if not points:
        return
    # Read again: it may have been changed while the drives were played.
    bundle = read_bundle(options.bundle)
    if options.out is None:
        write_description(bundle.folder, with_points(bundle.description, points))
        read_bundle(bundle.folder)
    else:
        description = replace(with_points(bundle.description, points), name=options.out.resolve().name)
        write_bundle(options.out, description, bundle.model, bundle.files())
    for point in points:
        say(f"{options.out or options.bundle}: {point.name}: score >= {point.threshold:.4f}")


def _check_outputs(options: argparse.Namespace, bundle: Bundle) -> None:
    if options.out is not None:
        check_bundle_folder("--out", options.out, list(bundle.files()), {"the bundle": bundle.folder})
    if options.json is not None:
        for name, paths in (("--drives", options.drives), ("the bundle", [options.bundle])):
            for path in paths:
                check_apart("--json", options.json, {name: path})


def _check_times(drives: Sequence[OpenDrive], each_frame: bool, rate_hz: float | None) -> None:
    for drive in drives:
        if not each_frame and rate_hz is None and not has_times(drive):
            raise DriveError(
                f"{drive.path}: is a folder of images, which have no times: give --false-per-frame instead of "
                "--false-per-hour, or --rate HZ if they are consecutive"
            )


def _with_truth(text: str, values: dict[str, Any], bundle: Bundle, rate_hz: float) -> tuple[OpenDrive, ObstacleTruth]:
    """A drive with objects: a sample drive, or `RECORDING=TRUTH.json`."""
    recording, separator, truth = text.partition("=")
    path = Path(recording)
    if separator:
        return open_drive(path, values, bundle, rate_hz), open_truth(Path(truth))
    if not is_drive(path):
        raise DriveError(f"--objects {text}: is no sample drive with its bag; give RECORDING=TRUTH.json")
    return open_drive(path / "bag", values, bundle, rate_hz), open_truth(path)


def _announce(drives: Sequence[OpenDrive], tried: Sequence[Candidate], kept: dict[str, Any]) -> None:
    settings = f"{len(tried)} settings of {', '.join(tried[0].tried)}" if tried[0].tried else "the present settings"
    say(f"{len(drives)} drive(s); {settings}, with {len(THRESHOLDS)} thresholds, coarse ones first")
    if kept:
        say(f"kept, because the parameters set them: {', '.join(f'{name} {value}' for name, value in kept.items())}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.calibrate_obstacles",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder of the model bundle")
    add("--drives", type=Path, nargs="+", required=True, metavar="PATH", help="drives without unknown objects")
    asked = parser.add_mutually_exclusive_group(required=True)
    rate = real(0.0, 1e6, above=True)
    asked.add_argument("--false-per-hour", type=rate, nargs="+", metavar="N", help="rates to reach, one point each")
    asked.add_argument(
        "--false-per-frame", type=rate, nargs="+", metavar="N", help="the same, where every frame stands for itself"
    )
    add("--params", type=Path, metavar="FILE", help="parameter file of the vehicle's node (default: the defaults)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter of the node; repeat")
    add(
        "--objects",
        action="append",
        default=[],
        metavar="DRIVE",
        help="drive with unknown objects and their truth, to choose by what is found; repeat",
    )
    add(
        "--try",
        action="append",
        default=[],
        dest="tries",
        metavar="NAME=VALUE,VALUE",
        help="values of a setting to try; repeat",
    )
    add("--rate", type=real(0.001, 1000.0), metavar="HZ", help="frames a second of a folder of consecutive images")
    add("--every", type=whole(1, 10**9), default=1, metavar="N", help="every N-th frame of each camera (default: 1)")
    add("--json", type=Path, metavar="FILE", help="write all counts, and keep those of finished drives")
    add("--out", type=Path, metavar="FOLDER", help="write to FOLDER instead of into the bundle")
    add("--engine", choices=ENGINES, help="engine for the model (default: the parameter's, auto)")
    add("--jobs", type=whole(1, 64), default=1, metavar="N", help="processes for inference (default: 1)")
    threads = whole(0, MOST_THREADS)
    add("--threads", type=threads, default=0, metavar="N", help="CPU threads of each (default: the parameter's, all)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
