"""The rounds of a campaign, one after the other."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import yaml
from rich.console import Console

from benchmark.faults.frames import CAMERAS
from benchmark.faults.graph import Graph
from benchmark.faults.injections import MAY_END, context
from benchmark.faults.plan import Round
from benchmark.faults.stage import Stage
from benchmark.faults.verdict.checks import Problem
from benchmark.faults.verdict.expected import expected_results
from benchmark.faults.verdict.report import RoundResult
from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.node.middleware.abandoned_shared_memory import remove_abandoned_segments

START_TIMEOUT_S = 180.0
MAX_GROWTH_MB = 1024.0
"""No message may make the node's memory grow by more."""


class CampaignError(PerceptionError, RuntimeError):
    """The graph does not start."""


def run_campaign(
    options: argparse.Namespace, rounds: Sequence[Round], folder: Path, console: Console
) -> tuple[list[RoundResult], dict[str, int]]:
    """Start the graph, run the rounds, end the graph.

    Args:
        options: see `__main__.make_parser`.
        folder: for everything that the processes write.

    Returns:
        The results of the rounds, and the numbers of checks.

    Raises:
        CampaignError: the graph does not start.
    """
    size = (options.size[0], options.size[1])
    expected = expected_results(folder, options.bundle, size)
    threshold = read_bundle(options.bundle).description.operating_point("").threshold
    parameters = {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in options.set)}
    graph = Graph(folder, options.bundle, size, options.rate, options.respawn_delay, parameters)
    stage = Stage(graph, expected, threshold)
    results: list[RoundResult] = []
    try:
        stage.start()
        if len(stage.recover(time.monotonic(), START_TIMEOUT_S)) < len(CAMERAS) or not stage.come_to_rest():
            graph.keep_logs(options.out / "start", 0.0)
            raise CampaignError(f"the graph does not start; its logs are in {options.out / 'start'}")
        stage.problems.clear()
        try:
            for planned in rounds:
                results.append(run_round(stage, planned, options.recovery_limit, options.out))
                console.print(results[-1].line(len(rounds)))
                remove_abandoned_segments()
        except KeyboardInterrupt:
            console.print(f"interrupted after {len(results)} rounds")
        if results:
            _judge_last_recording(stage, results[-1].problems, console)
    finally:
        graph.end()
        stage.watcher.close()
    checked = {
        "results": stage.results.checked,
        "consumed": stage.consumed,
        "recorded": stage.recorded,
        "sums": stage.accounting.sums,
        "exact": stage.accounting.exact,
        "bounded": stage.accounting.bounded,
    }
    return results, checked


def _judge_last_recording(stage: Stage, problems: list[Problem], console: Console) -> None:
    """Check the last recording; its problems belong to the last round."""
    stage.problems = []
    stage.graph.recorder.kill()
    stage.judge_recordings()
    problems += stage.problems
    for problem in stage.problems:
        console.print(f"    {problem.kind}: {problem.text}")


def run_round(stage: Stage, planned: Round, recovery_limit_s: float, out: Path) -> RoundResult:
    """Inject the faults of a round, wait for recovery, and check the results."""
    begun = time.monotonic()
    graph, watcher = stage.graph, stage.watcher
    stage.problems = []
    stage.may_end = set().union(*(MAY_END.get(fault.name, set()) for fault in planned.faults))
    ends = {process.name: len(process.ended) for process in graph.processes}
    starts = {camera: graph.cameras[camera].started for camera in CAMERAS}
    node_pid, peak_mb = graph.node.pid, graph.node.peak_mb()
    watcher.spin_for(planned.before_s)
    over: list[float | None] = []
    with ExitStack() as stack:
        for number, fault in enumerate(planned.faults):
            watcher.spin_for(planned.gap_s if number else 0.0)
            over.append(stack.enter_context(context(stage, fault)))
        watcher.spin_for(planned.hold_s)
    lifted = time.monotonic()
    since = max(lifted if end is None else end for end in over)
    recovered = stage.recover(since, recovery_limit_s)
    recovery_s = _recovery_s(stage, starts, since, recovered)
    _note_unrecovered(stage, recovered, recovery_limit_s)
    stage.restore_parameters()
    if len(recovered) == len(CAMERAS) and not stage.come_to_rest():
        stage.problems.append(Problem("not_recovered", "the node did not come to rest after the cameras paused"))
    if graph.node.pid == node_pid and graph.node.peak_mb() > peak_mb + MAX_GROWTH_MB:
        stage.problems.append(Problem("memory", f"the node grew from {peak_mb:.0f} to {graph.node.peak_mb():.0f} MB"))
    stage.judge_consumer()
    stage.judge_recordings()
    logs = None
    if stage.problems:
        logs = out / f"round_{planned.number}"
        shutil.rmtree(logs, ignore_errors=True)
        graph.keep_logs(logs, begun)
    if len(recovered) < len(CAMERAS):
        # Restart the node: one fault must not spoil the rounds that follow.
        stage.may_end = {"node"}
        graph.node.kill()
        stage.recover(time.monotonic(), START_TIMEOUT_S)
    for problems in stage.good.values():
        problems.clear()
    new_ends = {p.name: [code for code, _ in p.ended[ends[p.name] :]] for p in graph.processes}
    return RoundResult(
        planned.number,
        planned.title,
        [asdict(fault) for fault in planned.faults],
        round(time.monotonic() - begun, 2),
        recovery_s,
        stage.problems,
        {name: codes for name, codes in new_ends.items() if codes},
        str(logs) if logs else None,
    )


def _recovery_s(stage: Stage, starts: dict[str, int], since: float, recovered: dict[str, float]) -> dict[str, float]:
    """Camera to seconds from the end of the faults to its first right result.

    Args:
        starts: how often each camera had been started before the round.
        since: when the last fault ended.
        recovered: camera to the time of its first right result.
    """
    found = {}
    for camera, at in recovered.items():
        first = stage.frames.first_good(camera, since)
        # The time of a camera that was restarted counts from its first frame.
        restarted = stage.graph.cameras[camera].started > starts[camera] and first is not None
        found[camera] = round(at - (first.sent_at if restarted and first else since), 3)
    return found


def _note_unrecovered(stage: Stage, recovered: dict[str, float], limit_s: float) -> None:
    """Add a problem for each camera without a right result."""
    for camera in CAMERAS:
        if camera not in recovered:
            report = stage.watcher.reports.get(camera)
            state = f"{report.facts.get('state')}" if report else "nothing"
            stage.problems.append(
                Problem("not_recovered", f"{camera}: no right result within {limit_s:g} s; its state is '{state}'")
            )
