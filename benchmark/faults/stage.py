"""The graph and its observed state: faults act on it, and it brings the node back after a fault."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmark.faults.frames import CAMERAS
from benchmark.faults.graph import Graph
from benchmark.faults.processes.sender import Sent
from benchmark.faults.processes.watcher import Watcher
from benchmark.faults.recordings import recorded_results
from benchmark.faults.topics import SEMANTIC
from benchmark.faults.verdict.accounting import Accounting
from benchmark.faults.verdict.checks import Problem, ResultCheck, SentFrames, Thresholds
from benchmark.faults.verdict.expected import Expected, Key
from benchmark.faults.verdict.new_lines import NewLines
from ros_ood_perception.parameters.declarations import DECLARATIONS

DRIVE_PERIOD_S = 1.0
DRIVE_TIMEOUT_S = 4.0
FRESH_S = 1.5
REST_TIMEOUT_S = 60.0
CLOSING_TIMEOUT_S = 3.0
START_TRANSPORT = "raw"


@dataclass(frozen=True)
class GoodResult:
    """A right result: its frame, and when it was received."""

    sent: Sent
    received_at: float


class Stage:
    """See above.

    Attributes:
        transport: of the cameras and the node.
        problems: of this round.
        good: right semantic masks of each camera, of this round.
        may_end: names of processes that may die in this round.
        consumed, recorded: how many messages of the consumer's and of recordings were judged.
    """

    def __init__(self, graph: Graph, expected: dict[Key, Expected], default_threshold: float) -> None:
        self.graph = graph
        self.frames = SentFrames(graph)
        self.thresholds = Thresholds(default_threshold)
        self.results = ResultCheck(self.frames, expected, self.thresholds)
        self.accounting = Accounting(self.frames, self.inexact)
        self.watcher = Watcher(self.accounting.on_report)
        self.watcher.tend = self.tend
        self.transport = START_TRANSPORT
        self.problems: list[Problem] = []
        self.good: dict[str, list[GoodResult]] = {camera: [] for camera in CAMERAS}
        self.may_end: set[str] = set()
        self.node_started_at = math.inf
        self._changed: set[str] = set()
        self._driven_at = 0.0
        self._new_lines = NewLines()
        self.consumed = self.recorded = 0

    def inexact(self, text: str) -> None:
        """Note a sum that is not exact."""
        self.problems.append(Problem("inexact", text))

    # -- running -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all processes, and the cameras' frames."""
        self.graph.start()
        self.node_started_at = time.monotonic()
        for process in self.graph.cameras.values():
            process.tell("go")

    def tend(self) -> None:
        """Check what was received, and restart ended processes."""
        self._judge()
        ended, started = self.graph.tend()
        for process in ended:
            if process.name not in self.may_end:
                code, log = process.ended[-1][0], process.logs[-1].name
                self.problems.append(Problem("died", f"{process.name} ended with {code}; see {log}"))
        for process in started:
            if process is self.graph.node:
                self.node_started_at = time.monotonic()
                self._changed.clear()
                self.thresholds.holds(self.thresholds.default, self.node_started_at)
                self._tell_transport(START_TRANSPORT)
            elif process in self.graph.senders:
                process.tell(f"transport {self.transport}")
                if process in self.graph.cameras.values():
                    process.tell("go")

    def _judge(self) -> None:
        results, self.watcher.results = self.watcher.results, []
        for result in results:
            problem = self.results.problem(result)
            if problem:
                self.problems.append(Problem("wrong", problem))
            elif result.output == SEMANTIC:
                sent = self.frames.find(result.camera, result.stamp)
                assert sent is not None
                self.good[result.camera].append(GoodResult(sent, result.received_at))

    def judge_consumer(self) -> None:
        """Check the new lines of the consumer."""
        for path in self.graph.folder.glob("consumer_*.received"):
            for line in self._new_lines.of(path):
                self.consumed += 1
                problem = self.results.stamp_problem(line)
                if problem:
                    self.problems.append(Problem("wrong", problem))

    def judge_recordings(self) -> None:
        """Check the recordings of ended recorders, and remove them."""
        recorder = self.graph.recorder
        for number in range(1, recorder.started + (not recorder.running)):
            folder = self.graph.folder / f"recording_{number}"
            if not folder.is_dir():
                continue
            # With its own check: the same results were received live before.
            check = self.results.of_another_listener()
            for result in recorded_results(folder, self.frames):
                self.recorded += 1
                problem = check.problem(result)
                if problem:
                    self.problems.append(Problem("wrong", f"in the recording: {problem}"))
            shutil.rmtree(folder)

    def says(self, state: str) -> bool:
        """Whether the newest report of every camera has a state."""
        reports = [self.watcher.reports.get(camera) for camera in CAMERAS]
        return all(report is not None and report.facts.get("state") == state for report in reports)

    # -- changes by faults ----------------------------------------------------------------------------------------

    def set_parameters(self, values: dict[str, Any], valid: bool) -> None:
        """Set parameters and check the node's answer. No answer is not a problem: the node can be dead."""
        changes_threshold = valid and "anomaly_threshold" in values
        threshold = float(values.get("anomaly_threshold", -1.0)) if valid else -1.0
        value = self.thresholds.default if threshold == -1.0 else threshold
        node = self.graph.node.started
        if changes_threshold:
            self.thresholds.may_hold(value, time.monotonic())
        if valid:
            self._changed.update(values)
        answer = self.watcher.set_parameters(values)
        if answer is None or self.graph.node.started != node or not self.graph.node.running:
            return
        accepted, reason = answer
        shown = str(values)[:200]
        if valid and not accepted:
            self.problems.append(Problem("parameters", f"{shown} was refused: {reason[:300]}"))
        if not valid and accepted:
            self.problems.append(Problem("parameters", f"{shown} was taken"))
        if changes_threshold and accepted:
            self.thresholds.holds(value, time.monotonic())

    def restore_parameters(self) -> None:
        """Reset the changed parameters to their defaults."""
        defaults = {declaration.name: declaration.default_value for declaration in DECLARATIONS}
        names = [name for name in self._changed if name in defaults and name != "image_transport"]
        node = self.graph.node.started
        if names:
            values = {n: list(d) if isinstance(d := defaults[n], tuple) else d for n in names}
            self.set_parameters(values, valid=True)
        if self.graph.node.started == node:
            self._changed.clear()

    def transition(self, name: str) -> None:
        """Request a transition, whether the node's state allows it or not."""
        self.accounting.interrupt()
        done = self.watcher.transition(name)
        if name == "cleanup":
            self.accounting.cleaned_up(done)

    def use_transport(self, transport: str) -> None:
        """Change the image transport of node and cameras. Recovery repairs what fails on the way."""
        if transport == self.transport:
            return
        self.transition("deactivate")
        self.transition("cleanup")
        answer = self.watcher.set_parameters({"image_transport": transport})
        if answer is not None and answer[0]:
            self._tell_transport(transport)
        self.transition("configure")
        self.transition("activate")

    def _tell_transport(self, transport: str) -> None:
        self.transport = transport
        for process in self.graph.senders:
            process.tell(f"transport {transport}")

    # -- recovery ------------------------------------------------------------------------------

    def drive(self) -> None:
        """Activate a node that is not active, as a lifecycle manager does."""
        now = time.monotonic()
        report = self.watcher.reports.get(CAMERAS[0])
        if now - self._driven_at < DRIVE_PERIOD_S or report is None:
            return
        if report.received_at < max(now - FRESH_S, self.node_started_at):
            return
        if not report.facts:
            self._driven_at = now
            self.watcher.transition("configure", DRIVE_TIMEOUT_S)
            self.watcher.transition("activate", DRIVE_TIMEOUT_S)
        elif report.facts["state"] == "inactive":
            self._driven_at = now
            self.accounting.interrupt()
            self.watcher.transition("activate", DRIVE_TIMEOUT_S)

    def recover(self, since: float, timeout_s: float) -> dict[str, float]:
        """Wait until every camera has a right result of a frame sent since a time, and reports valid outputs.

        Returns:
            Camera to when its first came (monotonic clock, s); a camera that did not recover is missing.
        """

        def first(camera: str) -> float | None:
            times = [good.received_at for good in self.good[camera] if good.sent.sent_at >= since]
            return min(times) if times and self.watcher.states.get(camera, (False, 0.0))[0] else None

        deadline = time.monotonic() + timeout_s
        while any(first(camera) is None for camera in CAMERAS) and time.monotonic() < deadline:
            self.watcher.spin_until(lambda: all(first(camera) is not None for camera in CAMERAS), 0.2)
            self.drive()
        return {camera: at for camera in CAMERAS if (at := first(camera)) is not None}

    def come_to_rest(self) -> bool:
        """Pause the cameras, wait for the node after a closing frame of each, and compare the counts.

        Returns:
            Whether it came to rest.
        """
        for process in self.graph.cameras.values():
            process.tell("hold")
        begun = time.monotonic()
        closed: dict[str, tuple[str, GoodResult]] = {}
        while len(closed) < len(CAMERAS) and time.monotonic() - begun < REST_TIMEOUT_S:
            asked = time.monotonic()
            for camera in CAMERAS:
                if camera not in closed:
                    self.graph.cameras[camera].tell("one")
            self.watcher.spin_until(partial(self._closing, asked, closed), CLOSING_TIMEOUT_S)
        resting = len(closed) == len(CAMERAS) and all(self._rest(camera, *closed[camera]) for camera in CAMERAS)
        for process in self.graph.cameras.values():
            process.tell("go")
        return resting

    def _closing(self, since: float, closed: dict[str, tuple[str, GoodResult]]) -> bool:
        for camera in CAMERAS:
            newest = self.frames.last_good(camera, since)
            for good in self.good[camera]:
                if camera not in closed and newest is not None and good.sent == newest[1]:
                    closed[camera] = (newest[0], good)
        return len(closed) == len(CAMERAS)

    def _rest(self, camera: str, sender: str, closing: GoodResult) -> bool:
        reports: list[Any] = []

        def at_rest() -> bool:
            report = self.watcher.reports.get(camera)
            # On a busy machine the first results can arrive before the first diagnostics.
            if report is None or report.received_at <= closing.received_at or not report.facts:
                return False
            if not reports or reports[-1] is not report:
                reports.append(report)
            names = ("sent", "published", "in_progress")
            last = [tuple(r.facts[name] for name in names) for r in reports[-2:]]
            # Two equal reports: the first can have been under way when the result arrived.
            return len(last) == 2 and last[0] == last[1] and last[0][2] == "0"

        if not self.watcher.spin_until(at_rest, REST_TIMEOUT_S):
            return False
        results = len({good.sent.stamp for good in self.good[camera]})
        self.accounting.close(camera, (sender, closing.sent), closing.received_at, reports[-1], results)
        self.good[camera] = []
        return True
