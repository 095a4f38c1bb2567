"""Checks that every published result is right and has the right stamp, by the cameras' logs and the replay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmark.faults.frames import CAMERAS
from benchmark.faults.graph import Graph
from benchmark.faults.hostile import may_be_published
from benchmark.faults.processes.sender import Sent, parse
from benchmark.faults.processes.watcher import Result
from benchmark.faults.topics import MASK, SEMANTIC
from benchmark.faults.verdict.expected import Expected, Key
from benchmark.faults.verdict.new_lines import NewLines

ProblemKind = Literal["inexact", "wrong", "not_recovered", "died", "parameters", "memory"]


@dataclass(frozen=True)
class Problem:
    """A problem.

    Attributes:
        kind: `inexact`: counts that do not add up, or not to what was sent. `wrong`: a result that is not the replay's,
            or stands under a stamp that was not that frame's. `not_recovered`: no good result of a camera in time.
            `died`: a process ended that no fault should end. `parameters`: a valid change refused, or an invalid one
            taken. `memory`: a message made the node take more memory than the limit.
    """

    kind: ProblemKind
    text: str


class SentFrames:
    """The frames that cameras and other publishers sent, from their logs."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._new_lines = NewLines()
        self._by_stamp: dict[str, dict[tuple[int, int], Sent]] = {camera: {} for camera in CAMERAS}
        self._of_sender: dict[str, dict[str, list[Sent]]] = {camera: {} for camera in CAMERAS}

    def update(self) -> None:
        """Read new lines of the logs."""
        for camera in CAMERAS:
            for sender, path in self._graph.sent_logs(camera).items():
                lines = [parse(line) for line in self._new_lines.of(path)]
                if not lines:
                    continue
                self._of_sender[camera].setdefault(sender, []).extend(lines)
                self._by_stamp[camera].update({sent.stamp: sent for sent in lines})

    def find(self, camera: str, stamp: tuple[int, int]) -> Sent | None:
        """The frame of a camera with a stamp."""
        if stamp not in self._by_stamp[camera]:
            self.update()
        return self._by_stamp[camera].get(stamp)

    def since(self, camera: str, start: float) -> dict[str, list[Sent]]:
        """Sender to the frames sent since a time."""
        self.update()
        found = {
            sender: [sent for sent in all_sent if sent.sent_at >= start]
            for sender, all_sent in self._of_sender[camera].items()
        }
        return {sender: sent for sender, sent in found.items() if sent}

    def last_good(self, camera: str, start: float) -> tuple[str, Sent] | None:
        """The camera's newest good frame since a time, and its sender."""
        good = [
            (sent.sent_at, sender, sent)
            for sender, all_sent in self.since(camera, start).items()
            for sent in all_sent
            if sent.good
        ]
        return max(good, key=lambda item: item[0])[1:] if good else None

    def first_good(self, camera: str, start: float) -> Sent | None:
        """The camera's first good frame since a time."""
        good = [sent for all_sent in self.since(camera, start).values() for sent in all_sent if sent.good]
        return min(good, key=lambda sent: sent.sent_at) if good else None


class Thresholds:
    """Possible thresholds over time. Times are of the monotonic clock, seconds."""

    def __init__(self, default: float) -> None:
        self.default = default
        self._held: list[list[float]] = [[default, -math.inf, math.inf]]

    def may_hold(self, value: float, start: float) -> None:
        """Add a possible value from a time on."""
        self._held.append([value, start, math.inf])

    def holds(self, value: float, since: float) -> None:
        """From a time on, only this value is possible."""
        for entry in self._held:
            entry[2] = min(entry[2], since)
        self._held.append([value, since, math.inf])

    def between(self, start: float, end: float) -> set[float]:
        """The values that were possible at any time of an interval."""
        return {value for value, since, until in self._held if since <= end and until >= start}


class ResultCheck:
    """Checks results one by one.

    Args:
        frames: what was sent.
        expected: the replay's results.
        thresholds: of the anomaly mask.

    Attributes:
        checked: how many results were judged.
    """

    def __init__(self, frames: SentFrames, expected: Mapping[Key, Expected], thresholds: Thresholds) -> None:
        self._frames = frames
        self._expected = expected
        self._thresholds = thresholds
        self._seen: set[tuple[str, str, tuple[int, int]]] = set()
        self._wrong: set[tuple[str, str, tuple[int, int]]] = set()
        self.checked = 0

    def of_another_listener(self) -> ResultCheck:
        """The same check for another subscriber; known problems are not reported again."""
        other = ResultCheck(self._frames, self._expected, self._thresholds)
        other._wrong = self._wrong
        return other

    def problem(self, result: Result) -> str | None:
        """The problem with a result; None: none, or a known one."""
        self.checked += 1
        key = (result.camera, result.output, result.stamp)
        problem = self._problem(result)
        if problem is None or key in self._wrong:
            return None
        self._wrong.add(key)
        return problem

    def _problem(self, result: Result) -> str | None:
        title = f"{result.camera} {result.output} under {result.stamp[0]}.{result.stamp[1]:09d}"
        sent = self._frames.find(result.camera, result.stamp)
        if sent is None:
            return f"{title}: the camera sent no frame with that stamp"
        key = (result.camera, result.output, result.stamp)
        if key in self._seen:
            return f"{title}: published twice"
        self._seen.add(key)
        if not sent.good and not may_be_published(sent.kind):
            return f"{title}: published for the message '{sent.kind}', which holds no image"
        expected = self._expected[result.camera, sent.transport, sent.index]
        if (result.height, result.width) != expected.semantic.shape:
            return f"{title}: is {result.width}x{result.height}, the frame {expected.semantic.shape[::-1]}"
        if result.output == SEMANTIC:
            right = {expected.semantic.tobytes()} if result.encoding == "mono8" else set()
        elif result.output == MASK:
            possible = self._thresholds.between(sent.sent_at, result.received_at)
            right = {expected.mask_at(threshold) for threshold in possible} if result.encoding == "mono8" else set()
        else:
            right = {expected.score_as(result.encoding)} if result.encoding in ("mono8", "32FC1") else set()
        if result.data not in right:
            return f"{title}: is not what the replay gives ({sent.kind} frame {sent.index}, {sent.transport})"
        return None

    def stamp_problem(self, line: str) -> str | None:
        """The problem with a line of the consumer."""
        topic, sec, nanosec, finite = line.split()
        camera = topic.split("/")[2]
        sent = self._frames.find(camera, (int(sec), int(nanosec)))
        if sent is None or not (sent.good or may_be_published(sent.kind)):
            return f"{topic} under {sec}.{int(nanosec):09d}: the camera sent no frame with that stamp"
        return (
            None if finite == "finite" else f"{topic} under {sec}.{int(nanosec):09d}: holds numbers that are not finite"
        )
