"""The rounds in which the processes run in turn, and the figures of them."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmark.node.processes import ROOT, STAGES, BareEngine, LiveNode
from ros_ood_perception.launching.transport_environment import local_graph_environment

DIAGNOSTICS_S = 1.5
"""Within this time each node has published its diagnostics once more."""


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark; returns what was measured."""
    os.environ.update(local_graph_environment(os.environ))  # before rclpy starts here and in the children
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from benchmark.camera_process import messages

    rclpy.init()
    bench, executor = rclpy.create_node("benchmark_node"), SingleThreadedExecutor()
    executor.add_node(bench)
    kind = None if options.transport == "raw" else options.transport
    frames = messages(tuple(options.size), kind, 0, options.frames)
    engine = BareEngine(options)
    nodes = [LiveNode(bench, executor, "this_node", ROOT, options)]
    if options.against:
        nodes.append(LiveNode(bench, executor, "other_node", options.against.resolve(), options))
    if options.plain:
        nodes.append(LiveNode(bench, executor, "plain_node", None, options))
    try:
        engine.wait()
        for node in nodes:
            node.bring_up()
        rounds = _run_rounds(engine, nodes, frames, options)
        memory = {node.name: node.memory_mb() for node in nodes}
    finally:
        processes: list[subprocess.Popen[Any]] = [engine.process, *(node.process for node in nodes)]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                # Left alive, it would keep this program's output open, and whoever reads that would wait for ever.
                process.kill()
                process.wait()
                print(f"{process.args!r} did not end within 30 s after SIGTERM, and was killed", file=sys.stderr)
        executor.shutdown()
        bench.destroy_node()
        rclpy.shutdown()
    return _result(rounds, memory, options)


@dataclass
class Rounds:
    """What was measured in all rounds.

    Attributes:
        frames: number of frames that each node processed one at a time.
        engine_ms: of each frame of the engine alone.
        engine_cpu_s: CPU seconds a frame of the engine alone, by round.
        of_nodes: name of a node to the figures of its rounds.
        stages_ms: percentiles of the node's own stages, one frame at a time.
    """

    frames: int = 0
    engine_ms: list[float] = field(default_factory=list)
    engine_cpu_s: list[float] = field(default_factory=list)
    of_nodes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    stages_ms: dict[str, dict[str, float]] = field(default_factory=dict)


def _run_rounds(engine: BareEngine, nodes: list[LiveNode], frames: list[Any], options: argparse.Namespace) -> Rounds:
    found = Rounds(of_nodes={node.name: [] for node in nodes})
    engine.run(20)
    once_ms = max(statistics.median(node.one_at_a_time(frames, 20)["times_ms"]) for node in nodes)
    count = max(10, int(options.seconds / options.rounds * 1e3 / once_ms))
    found.frames = count * options.rounds
    for turn, turned in enumerate(_turns(nodes, options.rounds)):
        _engine_alone(engine, count, found)
        for node in turned:
            found.of_nodes[node.name].append(node.one_at_a_time(frames, count))
        print(f"one frame at a time, round {turn + 1} of {options.rounds}", file=sys.stderr)
    # Before frames wait: this node's diagnostics are of its last frames.
    nodes[0].listen(DIAGNOSTICS_S)
    found.stages_ms = nodes[0].stages_ms()
    for turn, turned in enumerate(_turns(nodes, options.rounds)):
        engine_s = _engine_alone(engine, count, found)
        for node in turned:
            full = node.saturated(frames, count)
            possible_rate = len(os.sched_getaffinity(0)) / (full.node_cpu_s + full.bench_cpu_s)
            found.of_nodes[node.name][turn] |= {
                "throughput_ratio": full.frames_a_second * engine_s,
                "possible_throughput_ratio": min(1.0, possible_rate * engine_s),
                "saturated_node_cpu_s_a_frame": full.node_cpu_s,
                "saturated_bench_cpu_s_a_frame": full.bench_cpu_s,
            }
        print(f"frames waiting, round {turn + 1} of {options.rounds}", file=sys.stderr)
    return found


def _result(rounds: Rounds, memory: dict[str, dict[str, float]], options: argparse.Namespace) -> dict[str, Any]:
    found = rounds.of_nodes
    median_ms, mean_cpu_s = statistics.median(rounds.engine_ms), statistics.fmean(rounds.engine_cpu_s)
    figures = {name: _figures(of_node, median_ms, mean_cpu_s) for name, of_node in found.items()}
    result = {
        "size": list(options.size),
        "cameras": options.cameras,
        "transport": options.transport,
        "outputs": options.outputs,
        "threads": options.threads,
        "frames": rounds.frames,
        "engine_ms": {f"p{q}": float(np.percentile(rounds.engine_ms, q)) for q in (50, 95, 99)},
        "engine_cpu_s_a_frame": mean_cpu_s,
        **figures["this_node"],
        "stages_ms": rounds.stages_ms,
        "path_ms": _path(figures["this_node"]["latency_ms"]["p50"], rounds.stages_ms, median_ms),
        "memory_mb": memory["this_node"],
    }
    if options.plain:
        result["plain"] = {**figures["plain_node"], "memory_mb": memory["plain_node"]}
        added = result["plain"]["added_latency_ms"]["p50"], result["added_latency_ms"]["p50"]
        result["plain_overhead_divided_by"] = added[0] / added[1]
    if options.against:
        mine, other = found["this_node"], found["other_node"]
        result["other"] = figures["other_node"]
        result["ratio_to_other"] = {
            "latency_p50": _round_ratio(mine, other, lambda r: statistics.median(r["times_ms"])),
            "seconds_a_frame": _round_ratio(mine, other, lambda r: 1 / r["throughput_ratio"]),
            "cpu_s_a_frame": _round_ratio(mine, other, lambda r: r["cpu_s_a_frame"]),
        }
    return result


def _turns(nodes: list[LiveNode], rounds: int) -> list[list[LiveNode]]:
    """The nodes in the order of each round: every second time from the last to the first."""
    return [nodes[:: 1 if turn % 2 == 0 else -1] for turn in range(rounds)]


def _engine_alone(engine: BareEngine, frames: int, found: Rounds) -> float:
    """Run the engine alone; returns its mean seconds a frame."""
    result = engine.run(frames)
    times_ms = [time_ns / 1e6 for time_ns in result["times_ns"]]
    found.engine_ms += times_ms
    found.engine_cpu_s.append(result["cpu_s"] / frames)
    return statistics.fmean(times_ms) / 1e3


def _path(latency_ms: float, stages_ms: dict[str, dict[str, float]], engine_ms: float) -> dict[str, float]:
    """Where the median of the latency goes, milliseconds; the medians of the parts do not add up exactly."""
    at = {stage: values["p50"] for stage, values in stages_ms.items()}
    if set(at) != set(STAGES):
        return {}
    return {
        "from publish to the node": at["age"] - at["receive_to_publish"],
        "wait": at["wait"],
        "conversion": at["conversion"],
        "engine alone": engine_ms,
        "inference beyond it": at["inference"] - engine_ms,
        "publish": at["publish"],
        "to the consumer": latency_ms - at["age"],
    }


def _figures(rounds: list[dict[str, Any]], engine_ms: float, engine_cpu_s: float) -> dict[str, Any]:
    times_ms = [time_ms for found in rounds for time_ms in found["times_ms"]]
    return {
        "latency_ms": {f"p{q}": float(np.percentile(times_ms, q)) for q in (50, 95, 99)},
        "added_latency_ms": {f"p{q}": float(np.percentile(times_ms, q)) - engine_ms for q in (50, 95, 99)},
        **{
            name: statistics.median(found[name] for found in rounds)
            for name in (
                "throughput_ratio",
                "possible_throughput_ratio",
                "saturated_node_cpu_s_a_frame",
                "saturated_bench_cpu_s_a_frame",
            )
        },
        "cpu_s_a_frame": statistics.fmean(found["cpu_s_a_frame"] for found in rounds),
        "cpu_ratio": statistics.fmean(found["cpu_s_a_frame"] for found in rounds) / engine_cpu_s,
        "lost": sum(found["lost"] for found in rounds),
    }


def _round_ratio(
    mine: list[dict[str, Any]], other: list[dict[str, Any]], figure: Callable[[dict[str, Any]], float]
) -> float:
    """The median of the rounds' ratios: within a round, other load is the same for both."""
    return statistics.median(figure(a) / figure(b) for a, b in zip(mine, other, strict=True))
