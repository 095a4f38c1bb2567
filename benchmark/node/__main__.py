"""The cost of the node beyond its engine: added latency, its throughput as a share of the engine's, CPU and memory.

    python -m benchmark.node [--size 720 1280] [--cameras 1] [--transport raw] [--seconds 20] [--rounds 5]
      [--outputs semantic/mask anomaly/obstacles | --outputs all] [--frames FOLDER] [--threads N] [--plain]
      [--against CHECKOUT] [--bundle FOLDER] [--json FILE]
    python -m benchmark.node --cases [--seconds 20] [--rounds 5] [--json FILE]

The engine alone, the node, with --plain a node as most are written (`benchmark.node.plain_node`), and with --against
the node of another checkout are processes of their own that run in turn, `--rounds` times, so that other load on the
machine is the same for all. This process is camera and consumer of all nodes, over Fast DDS with the shipped profile.

- **Added latency**: one frame at a time, from `publish` to the arrival of its last subscribed output, less the engine's
  median. Percentiles over the frames of all rounds.
- **Throughput ratio**: frames a second over the engine's, with two frames of each camera under way. Median of the
  rounds.
- **Possible throughput ratio**: what it would be if no CPU of the machine were idle for a moment: the CPU seconds a
  frame of the node, and those of this process as its camera and consumer, with two frames under way. On a machine whose
  every CPU is the engine's, it is below 1 whatever the node does.
- **CPU ratio**: CPU seconds a frame over the engine's, with one frame under way.
- **Stages**: the node's own times, one frame at a time. **Path**: where the median latency goes, from the camera's
  `publish` to the consumer; "to the node" and "to the consumer" are the middleware's, with this process's share.

With `--threads` below the number of CPUs, camera and consumer do not take the engine's time, so what is added is the
node's and the middleware's.

The goals are printed beside the figures for the case that they are for: 720p, one camera, masks and obstacles.
`--cases` runs 480x360, 720p and 1080p, one and three cameras, raw and JPEG, and at 720p each output alone and all, one
after the other, `--seconds` each. It prints a table.

--against gives the two nodes' medians as ratios, this checkout over the other: 1.02 is 2 % slower. Exit code 1 when
--max-ratio is given and one of them is above it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.node.measuring import measure
from benchmark.node.plain_node import OUTPUTS as PLAIN_OUTPUTS
from benchmark.node.processes import NAMES
from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.number_arguments import whole

DEFAULT_SIZE, DEFAULT_OUTPUTS = (720, 1280), ("semantic/mask", "anomaly/obstacles")
SIZES = ((360, 480), DEFAULT_SIZE, (1080, 1920))
LEAST_THROUGHPUT, MOST_ADDED_MS, LEAST_DIVIDED_BY = 0.97, {"p50": 3.0, "p99": 8.0}, 3.0


def cases(options: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The options of each case of `--cases`."""
    for size, cameras, transport in itertools.product(SIZES, (1, 3), ("raw", "jpeg")):
        plain = (size, cameras) == (DEFAULT_SIZE, 1)
        yield _case(options, size, cameras, transport, DEFAULT_OUTPUTS, plain)
    for output in NAMES:
        yield _case(options, DEFAULT_SIZE, 1, "raw", (output,), output in PLAIN_OUTPUTS)
    yield _case(options, DEFAULT_SIZE, 1, "raw", tuple(NAMES), False)


def _case(
    options: argparse.Namespace,
    size: tuple[int, int],
    cameras: int,
    transport: str,
    outputs: tuple[str, ...],
    plain: bool,
) -> argparse.Namespace:
    own = {"size": size, "cameras": cameras, "transport": transport, "outputs": list(outputs), "plain": plain}
    return argparse.Namespace(**(vars(options) | own))


def print_goals(result: dict[str, Any]) -> None:
    """The figures beside their goals."""
    added = result["added_latency_ms"]
    rows = [("throughput, share of the engine's", result["throughput_ratio"], f"at least {LEAST_THROUGHPUT}")]
    rows.append(("the same, if no CPU were ever idle", result["possible_throughput_ratio"], "no goal"))
    rows += [(f"added latency {q}, ms", added[q], f"at most {most:g}") for q, most in MOST_ADDED_MS.items()]
    if "plain_overhead_divided_by" in result:
        rows.append(
            (
                "a plain node's added latency over it",
                result["plain_overhead_divided_by"],
                f"at least {LEAST_DIVIDED_BY}",
            )
        )
    rows.append(("CPU time, share of the engine's", result["cpu_ratio"], "no goal"))
    rows += [(f"path: {part}, ms", value, "no goal") for part, value in result["path_ms"].items()]
    for what, value, goal in rows:
        print(f"{what:<40} {value:>8.3f}   goal: {goal}")


def print_row(result: dict[str, Any]) -> None:
    """A line of the table of `--cases`."""
    height, width = result["size"]
    outputs = "all" if len(result["outputs"]) == len(NAMES) else " ".join(result["outputs"])
    case = f"{width}x{height}, {result['cameras']} camera(s), {result['transport']}, {outputs}"
    added, plain = result["added_latency_ms"], result.get("plain_overhead_divided_by")
    print(
        f"| {case} | {result['throughput_ratio']:.2f} | {added['p50']:.1f} / {added['p95']:.1f} / {added['p99']:.1f} | "
        f"{result['cpu_s_a_frame'] * 1e3:.1f} ({result['cpu_ratio']:.2f}) | {result['memory_mb']['resident']:.0f} | "
        f"{'' if plain is None else f'{plain:.1f}'} |",
        flush=True,
    )


def run_cases(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run every case and print the table."""
    print("| case | throughput ratio | added ms, p50 / p95 / p99 | CPU ms a frame (ratio) | MB | plain / added |")
    print("|---|---|---|---|---|---|", flush=True)
    results = []
    for case in cases(options):
        results.append(measure(case))
        print_row(results[-1])
    return results


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.node", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=2, default=DEFAULT_SIZE, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--transport", choices=("raw", "jpeg", "png"), default="raw")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="of the frames that go through the node one at a time, over all rounds",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--outputs", nargs="+", default=list(DEFAULT_OUTPUTS), help=f"of {', '.join(NAMES)}; or all", metavar="OUTPUT"
    )
    parser.add_argument("--frames", type=Path, metavar="FOLDER", help="images to send (default: coarse noise)")
    parser.add_argument(
        "--threads", type=whole(0, 1024), default=0, metavar="N", help="of each engine (default: every CPU)"
    )
    parser.add_argument("--plain", action="store_true", help="beside a node as most are written")
    parser.add_argument("--cases", action="store_true", help="sizes, cameras, transports and outputs, as a table")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="the node of another checkout, in turn")
    parser.add_argument("--max-ratio", type=float, help="exit code 1 where a ratio to the other is above this")
    parser.add_argument("--bundle", type=Path, default=package_file("models/camvid_small"))
    parser.add_argument("--json", type=Path, help="write the figures there; a list with --cases")
    options = parser.parse_args(arguments)
    if options.cameras < 1 or options.rounds < 1 or options.seconds <= 0:
        parser.error("--cameras, --rounds and --seconds must be positive")
    options.outputs = list(NAMES) if options.outputs == ["all"] else options.outputs
    unknown = sorted(set(options.outputs) - set(NAMES))
    if unknown:
        parser.error(f"--outputs: {', '.join(unknown)}: there are {', '.join(NAMES)}, or all")
    if options.plain and not set(options.outputs) <= set(PLAIN_OUTPUTS):
        parser.error(f"--plain publishes {', '.join(PLAIN_OUTPUTS)} only; give some of these as --outputs")
    options.bundle = options.bundle.resolve()
    options.frames = None if options.frames is None else options.frames.resolve()
    return options


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parsed(arguments)
    result: Any = run_cases(options) if options.cases else measure(options)
    text = json.dumps(result, indent=2)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.cases:
        return 0
    print(text)
    print_goals(result)
    ratios = result.get("ratio_to_other", {}).values()
    return 1 if options.max_ratio and any(ratio > options.max_ratio for ratio in ratios) else 0


if __name__ == "__main__":
    sys.exit(main())
