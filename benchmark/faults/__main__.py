"""Injects random faults into the live graph: is every count exact, every mask right, and does the node recover?

    python -m benchmark.faults --seed N --rounds M [--json FILE] [--out out/faults] [--faults NAME,...] [--plan]

Two cameras, the perception node, a consumer and a recorder are processes of their own on real ROS 2. Each round draws a
fault, sometimes two, holds it for a moment, and ends it; the same seed gives the same faults. Then:

- the counts of every message on /diagnostics add up, and `sent` has grown by the number that the cameras sent
- no mask, score or cloud has a stamp that is not that of a frame of its camera
- every mask and score equals that of a replay of the frame, bit for bit
- within `--recovery-limit`, every camera has a right mask again and reports valid outputs

A process that dies is restarted after `--respawn-delay`, as `perception.launch.py` does; an inactive node is activated,
as a lifecycle manager does. Exit code 0 if nothing was wrong; else 1, with the logs of that round in --out.
docs/faults.md describes the faults and results.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmark.faults.plan import FAULTS, PAIRS, SELF_CHECK, plan
from benchmark.faults.verdict.report import print_table, summary
from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.launching.transport_environment import local_graph_environment

KNOWN = (*FAULTS, SELF_CHECK)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--pairs", type=float, default=PAIRS, help=f"share of rounds with two faults ({PAIRS})")
    parser.add_argument("--faults", default="", help=f"only these, separated by commas; of {', '.join(KNOWN)}")
    parser.add_argument("--plan", action="store_true", help="print the plan and exit")
    parser.add_argument("--bundle", type=Path, default=package_file("models/camvid_small"))
    parser.add_argument("--rate", type=float, default=3.0, help="frames a second of each camera")
    parser.add_argument("--size", type=int, nargs=2, default=(120, 160), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--respawn-delay", type=float, default=2.0, metavar="S", help="as in perception.launch.py")
    parser.add_argument(
        "--recovery-limit", type=float, default=60.0, metavar="S", help="a longer recovery is a failure"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the node; repeat"
    )
    parser.add_argument("--out", type=Path, default=Path("out/faults"), help="folder for the logs of failed rounds")
    parser.add_argument("--json", type=Path, help="write all figures there")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    names = tuple(options.faults.split(",")) if options.faults else FAULTS
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        parser.error(f"--faults holds {', '.join(unknown)}; there are {', '.join(KNOWN)}")
    if options.rounds < 1 or options.rate <= 0:
        parser.error("--rounds must be at least 1, --rate positive")
    rounds = plan(options.seed, options.rounds, names, options.pairs)
    if options.plan:
        print(json.dumps([asdict(planned) for planned in rounds], indent=2))
        return 0
    # Like Ctrl-C, which ends the processes of the graph.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Before rclpy starts here and in the children.
    os.environ.update(local_graph_environment(os.environ))
    from benchmark.faults.campaign import run_campaign

    console = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="faults_") as folder:
        results, checked = run_campaign(options, rounds, Path(folder), console)
    shown = {
        "seed": options.seed,
        "rounds": options.rounds,
        "faults": list(names),
        "pairs": options.pairs,
        "bundle": options.bundle.name,
        "rate_hz": options.rate,
        "size": list(options.size),
        "respawn_delay_s": options.respawn_delay,
    }
    found = summary(shown, results, checked)
    print_table(console, found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 1 if any(result.problems for result in results) or len(results) < options.rounds else 0


if __name__ == "__main__":
    sys.exit(main())
