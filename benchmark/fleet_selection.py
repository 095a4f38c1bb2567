"""How many of the frames that `fleet.select` chooses hold an unknown object, on rendered drives whose truth is known.

    for seed in $(seq 4100 4109); do
      python -m sample_drive WORK/drives/$seed --seed $seed --seconds 20 --rate 2.5
    done
    python -m benchmark.fleet_selection WORK --frames 50

The drives are replayed into tables by the worker of `fleet.mine`, and frames are selected from them. Beside it stands
what chance gives: the mean of 1,000 draws of as many frames, at random and at random with the same distance in time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fleet.labelling.labelling_folder import read_selection
from fleet.mine.settings import MineSettings
from fleet.mine.worker import Worker
from fleet.select import main as select
from fleet.selection.candidates import KINDS, UNKNOWN
from fleet.tables.mined import MinedTables
from fleet.tables.schema import FRAMES
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.number_arguments import whole
from ros_ood_perception.shown_text import error_line
from sample_drive.drive_truth import is_drive, read_truth

APART_S = 2.0
DRAWS = 1000


class Shown(NamedTuple):
    """A frame: its drive and stamp."""

    recording: str
    stamp_ns: int


Objects = Mapping[Shown, Mapping[int, int]]
"""Frame to id of each unknown object that it shows, and its pixels."""


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.fleet_selection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("work", type=Path, metavar="WORK", help="folder; drives/ in it holds the drives")
    parser.add_argument("--bundle", type=Path, default=Path("models/sample_drive"), help="(models/sample_drive)")
    parser.add_argument("--frames", type=whole(1, 10**6), default=50, metavar="N", help="to select (50)")
    parser.add_argument("--evidence", choices=[kind for kind in KINDS if kind != "disagreement"], default=UNKNOWN)
    parser.add_argument("--pixels", type=whole(1, 10**6), default=60, metavar="N", help="an object has so many (60)")
    options = parser.parse_args(arguments)
    drives = [folder for folder in sorted((options.work / "drives").glob("*")) if is_drive(folder)]
    if not drives:
        parser.error(f"{options.work / 'drives'} holds no drive of python -m sample_drive")
    try:
        return _measure(options, drives)
    except (PerceptionError, OSError) as error:
        print(f"fleet_selection: {error_line(error)}", file=sys.stderr)
        return 1


def _measure(options: argparse.Namespace, drives: Sequence[Path]) -> int:
    tables = _mined(options.work / "tables", options.bundle, [str((drive / "bag").resolve()) for drive in drives])
    seen = _objects(drives, options.pixels)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "selected"
        arguments = [tables.name, "--bundle", str(options.bundle), "--out", str(out), "--frames", str(options.frames)]
        if select([*arguments, "--evidence", options.evidence, "--apart", str(APART_S), "--threads", "1"]) == 2:
            return 1
        _, chosen = read_selection(out)
    frames = [Shown(str(frame.facts["recording"]), int(frame.facts["stamp_ns"])) for frame in chosen]
    every = list(_frames(tables))
    generator = np.random.default_rng(0)
    holding = [bool(seen.get(frame)) for frame in frames]
    print(f"{len(every)} frames of {len(drives)} drives; an object counts from {options.pixels} pixels on")
    print(f"selected: {sum(holding)} of {len(frames)} frames hold an unknown object ({np.mean(holding):.1%})")
    for name, draw in (("at random", _random), ("at random, apart in time", _random_apart)):
        shares = [
            np.mean([bool(seen.get(frame)) for frame in draw(every, len(frames), generator)]) for _ in range(DRAWS)
        ]
        print(
            f"{name}: {np.mean(shares):.1%} (5th to 95th percentile {np.percentile(shares, 5):.1%} to "
            f"{np.percentile(shares, 95):.1%})"
        )
    for name, some in (("selected", frames), ("at random (one draw)", _random(every, len(frames), generator))):
        pairs, objects = _near_pairs(some, seen), {key for frame in some for key in _keys(frame, seen)}
        print(f"{name}: {pairs} pairs of frames show one object within {APART_S:g} s; {len(objects)} objects are shown")
    return 0


def _mined(out: Path, bundle: Path, recordings: Sequence[str]) -> MinedTables:
    """Tables of the recordings; those that are there already are kept."""
    files = {path.name: path.read_bytes() for path in sorted(bundle.iterdir()) if path.is_file()}
    there = set(MinedTables(out).recordings) if (out / "recordings").is_dir() else set()
    worker = Worker(MineSettings(str(out.resolve()), files, replay_options=("--threads", "1"), part_s=0.0))
    try:
        for recording in recordings:
            if recording not in there:
                print(f"{recording}: {worker.mine(recording).state}", file=sys.stderr)
    finally:
        worker.close()
    return MinedTables(out)


def _objects(drives: Sequence[Path], least_pixels: int) -> Objects:
    return {
        Shown(str((drive / "bag").resolve()), stamp_ns): {
            found.id: found.visible_pixels for found in obstacles if found.visible_pixels >= least_pixels
        }
        for drive in drives
        for stamp_ns, obstacles in read_truth(drive).obstacles.items()
    }


def _frames(tables: MinedTables) -> Sequence[Shown]:
    batches = tables.batches(FRAMES, ["recording", "stamp_ns"])
    return [Shown(row["recording"], row["stamp_ns"]) for batch in batches for row in batch.to_pylist()]


def _random(frames: Sequence[Shown], count: int, generator: np.random.Generator) -> list[Shown]:
    return [frames[index] for index in generator.permutation(len(frames))[:count].tolist()]


def _random_apart(frames: Sequence[Shown], count: int, generator: np.random.Generator) -> list[Shown]:
    """As many frames as fit, up to `count`, no two of a drive nearer than `APART_S`."""
    chosen: list[Shown] = []
    taken: dict[str, list[int]] = {}
    for index in generator.permutation(len(frames)).tolist():
        frame = frames[index]
        times = taken.setdefault(frame.recording, [])
        if all(abs(frame.stamp_ns - other) >= APART_S * 1e9 for other in times):
            times.append(frame.stamp_ns)
            chosen.append(frame)
            if len(chosen) == count:
                break
    return chosen


def _keys(frame: Shown, seen: Objects) -> set[tuple[str, int]]:
    return {(frame.recording, number) for number in seen.get(frame, {})}


def _near_pairs(frames: Sequence[Shown], seen: Objects) -> int:
    """Pairs of frames that show one object less than `APART_S` apart."""
    return sum(
        abs(one.stamp_ns - other.stamp_ns) < APART_S * 1e9 and bool(_keys(one, seen) & _keys(other, seen))
        for index, one in enumerate(frames)
        for other in frames[index + 1 :]
    )


if __name__ == "__main__":
    sys.exit(main())
