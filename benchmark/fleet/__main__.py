"""Measures `python -m fleet.mine` on this machine.

    python -m benchmark.fleet faults WORK [--recordings 60] [--frames 6] [--camvid FOLDER]
    python -m benchmark.fleet overhead WORK [--rounds 3]      # on one CPU, against a plain loop over replay
    python -m benchmark.fleet scaling WORK [--rounds 3]       # from one CPU to two, beside the engine alone
    python -m benchmark.fleet driver WORK --recordings 500    # what the driver needs, by recordings without a frame
    python -m benchmark.fleet parts WORK                    # a long recording in parts, and which are replayed again

`faults` makes the recordings in WORK (sample drives, and CamVid's frames as bags if FOLDER is given), replays each in a
plain loop, and then all on a Ray cluster of three nodes on this machine. One node is killed when a quarter is finished,
the driver when a half is, and one recording's worker whenever it is on it. The tables must be those of the loop. The
others use the same recordings; `parts` uses those in WORK/long. Exit code: 0 as it must be; 1 tables differ.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ros_ood_perception.number_arguments import whole

# Before Ray is imported.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("faults", "overhead", "scaling", "driver", "parts"))
    parser.add_argument("work", type=Path, help="folder for recordings and tables")
    parser.add_argument("--recordings", type=whole(4, 10_000), default=60, metavar="N")
    parser.add_argument("--frames", type=whole(2, 100_000), default=6, metavar="N", help="of each recording")
    parser.add_argument("--camvid", type=Path, metavar="FOLDER", help="images; half of the recordings are made of them")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "sample_drive", metavar="DIR")
    parser.add_argument("--rounds", type=whole(1, 100), default=3, metavar="N")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    options.work = options.work.resolve()
    if options.what == "faults":
        from benchmark.fleet.faults import measure_faults

        return measure_faults(options)
    if options.what == "parts":
        from benchmark.fleet.parts import measure_parts

        return measure_parts(options)
    from benchmark.fleet.cost import measure_driver, measure_overhead, measure_scaling

    measure = {"overhead": measure_overhead, "scaling": measure_scaling, "driver": measure_driver}
    return measure[options.what](options)


if __name__ == "__main__":
    sys.exit(main())
