"""Replay many recordings on Ray, and write what was found as tables.

    python -m fleet.mine DRIVES/ --bundle models/camvid_small --out out/fleet                  # on this machine
    python -m fleet.mine 's3://drives/2026-03-*' --bundle B --out s3://results/march --address auto
    python -m fleet.mine @list.txt --bundle B --out out/fleet --params vehicle.param.yaml --gpus-per-task 0.25

Every recording goes through `replay`, on whichever machine has room. OUT holds Parquet files, one for each recording in
each of OUT/recordings, OUT/frames, OUT/obstacles and OUT/timings. Read a table by its folder:

    pandas.read_parquet("OUT/frames")            duckdb: SELECT * FROM 'OUT/frames/*.parquet'

Every recording has a row in OUT/recordings: `done`, or `failed` with the reason. Killed anywhere, the same command goes
on where it was. docs/fleet.md explains the tables, the faults and the cost.

Exit code: 0 every recording is done; 1 some failed; 2 bad input; 130 interrupted (the same command continues).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ros_ood_perception.inference.engine_names import ENGINES
from ros_ood_perception.number_arguments import MOST_THREADS, real, whole
from ros_ood_perception.replay.command_line.options import MOST_FRAMES, RATES_HZ

LOCAL = "local"


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m fleet.mine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "recordings",
        nargs="+",
        metavar="RECORDINGS",
        help="bag, folder of images, video, a folder that holds such, a pattern in quotes, or @FILE with one in each "
        "line; local path, or URI (s3://, gs://, abfs://, and what fsspec knows)",
    )
    add("--bundle", type=Path, required=True, metavar="DIR", help="model bundle, on this machine")
    add("--out", required=True, metavar="OUT", help="folder of the tables; local path or URI")
    add("--retry-failed", action="store_true", help="try failed recordings of an earlier run again")
    _add_cluster(parser.add_argument_group("cluster"))
    _add_parts(parser.add_argument_group("long recordings"))
    _add_replay(parser.add_argument_group("as of replay"))
    return parser


def _add_cluster(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--address",
        default=LOCAL,
        metavar="ADDRESS",
        help="of a Ray cluster: auto (this machine is part of it), HOST:PORT, ray://HOST:10001 (default: begin Ray on "
        "this machine)",
    )
    add(
        "--cpus-per-task",
        type=whole(1, MOST_THREADS),
        default=1,
        metavar="N",
        help="CPUs and engine threads of a worker; the last bit of a score can depend on it (default: 1)",
    )
    add("--gpus-per-task", type=real(0.0, 64.0), default=0.0, metavar="G", help="GPUs of a worker, such as 0.25 (0)")
    add(
        "--memory-per-task",
        type=real(0.0, 1e6),
        default=2.0,
        metavar="GB",
        help="memory of a worker: so many are begun as fit, and one that needs more gives its recording up; 0: no "
        "limit (default: 2)",
    )
    add("--workers", type=whole(1, 100_000), metavar="N", help="workers at most (default: as many as fit)")
    add("--scratch", default="", metavar="DIR", help="folder of each machine for copies (default: the system's)")


def _add_parts(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--part-minutes",
        type=real(0.0, 1e6),
        default=10.0,
        metavar="MIN",
        help="a bag of more than 1.5 times this length is split into parts that several workers replay; the tables "
        "are the same; 0: none is split (default: 10)",
    )
    add(
        "--overlap-seconds",
        type=real(0.0, 1e6),
        default=10.0,
        metavar="S",
        help="how long before its part a worker begins (default: 10)",
    )


def _add_replay(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--params", type=Path, metavar="FILE", help="parameter file of the node")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter of the node; repeat")
    add("--engine", choices=ENGINES, help="engine for the model (default: the parameter's, auto)")
    add("--camera", action="append", default=[], metavar="[NAME=]TOPIC", help="image topic; repeat")
    add("--every", type=whole(1, MOST_FRAMES), default=1, metavar="N", help="every N-th frame of each camera (1)")
    add("--rate", type=real(*RATES_HZ), default=10.0, metavar="HZ", help="frames a second of a folder of images (10)")
    add("--node-name", default="/perception_node", metavar="NAME", help="as in the parameter file (/perception_node)")
    add(
        "--outputs",
        default="",
        metavar="NAME,...",
        help="make these outputs too, for their digests in OUT/recordings; no recording is split then (none)",
    )


def replay_options(options: argparse.Namespace) -> tuple[str, ...]:
    """The options that every `replay` gets."""
    found = ["--threads", str(options.cpus_per_task), "--every", str(options.every), "--rate", repr(options.rate)]
    found += ["--node-name", options.node_name]
    for name in ("set", "camera"):
        for value in getattr(options, name):
            found += [f"--{name}", value]
    for name in ("engine", "outputs"):
        if value := getattr(options, name):
            found += [f"--{name}", value]
    return tuple(found)
