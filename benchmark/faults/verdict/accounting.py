"""Checks that the node's counts add up, and match the numbers of frames that the cameras sent.

The counts of every message on /diagnostics must add up. At the end of each round the cameras pause and send single
frames until the result of one arrives, so that the node knows the camera's newest number. Then no frame is under way.

If node, subscription and camera were the same throughout the round and had the topic to themselves, `sent` must have
grown by the exact difference of the camera's numbers. Otherwise the node cannot know of frames before the first and
after the last one that it received from a publisher. Then `sent` has grown by at least the number of frames with
results, and at most the number of frames sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmark.faults.frames import CAMERAS
from benchmark.faults.hostile import may_be_published
from benchmark.faults.processes.sender import Sent
from benchmark.faults.processes.watcher import Report
from benchmark.faults.verdict.checks import SentFrames
from ros_ood_perception.pipeline.fates import SENT_FATES

Counts = dict[str, int]


def counts_of(report: Report) -> Counts:
    """`sent`, every fate, and `in_progress`."""
    return {name: int(report.facts[name]) for name in ("sent", *SENT_FATES, "in_progress")}


@dataclass(frozen=True)
class Account:
    """A camera's counts at rest.

    Attributes:
        session: changes with each start and each configuration of the node.
        sender: of the closing frame.
        closing: the last frame that the node has received.
        at: when its result arrived.
    """

    session: int
    sender: str
    closing: Sent
    counts: Counts
    at: float


class Accounting:
    """Follows the counts of all cameras.

    Args:
        frames: what was sent.
        complain: called with a sentence for each sum that is not exact.

    Attributes:
        sums: number of checked sums.
        exact, bounded: number of rounds whose growth was compared exactly, or within bounds.
    """

    def __init__(self, frames: SentFrames, complain: Callable[[str], None]) -> None:
        self._frames = frames
        self._complain = complain
        self._last: dict[str, Report] = {}
        self._session: dict[str, int] = {}
        self._interrupted: set[str] = set()
        self._reset_due: set[str] = set()
        self._accounts: dict[str, Account] = {}
        self.sums = self.exact = self.bounded = 0

    def on_report(self, camera: str, report: Report) -> None:
        """Take one camera's part of a message on /diagnostics."""
        last = self._last.get(camera)
        if not report.facts or (last is not None and last.node != report.node):
            self._begin_session(camera)
            last = None
        if not report.facts:
            self._last.pop(camera, None)
            return
        if report.facts["state"] == "inactive":
            self._interrupted.add(camera)
        counts = counts_of(report)
        self.sums += 1
        if counts["sent"] != sum(counts.values()) - counts["sent"] or min(counts.values()) < 0:
            self._complain(f"{camera}: the counts do not add up: {counts}")
        if last is not None:
            before = counts_of(last)
            gone = [name for name in ("sent", *SENT_FATES) if counts[name] < before[name]]
            if gone and camera in self._reset_due:
                # A report from before the clean-up arrived after its answer.
                self._begin_session(camera)
            elif gone:
                self._complain(f"{camera}: {', '.join(gone)} went back, from {before} to {counts}")
        self._last[camera] = report

    def cleaned_up(self, done: bool | None) -> None:
        """Note that the node was asked to clean up, after which it counts from 0.

        Args:
            done: its answer; None: no answer, so that only its reports say it.
        """
        for camera in CAMERAS:
            if done:
                self._begin_session(camera)
            if done is not False:
                self._reset_due.add(camera)

    def interrupt(self) -> None:
        """Note that the node has stopped listening for a while, and misses what is sent meanwhile."""
        self._interrupted.update(CAMERAS)

    def _begin_session(self, camera: str) -> None:
        self._session[camera] = self._session.get(camera, 0) + 1
        self._reset_due.discard(camera)
        self._last.pop(camera, None)
        self._interrupted.add(camera)

    def close(self, camera: str, closing: tuple[str, Sent], at: float, report: Report, results: int) -> None:
        """Compare the counts with the frames sent since the last time. No frame is under way after the closing one.

        Args:
            closing: who sent it, and the frame.
            at: when its result came.
            report: at rest.
            results: frames sent since the last time whose results came.
        """
        sender, frame = closing
        account = Account(self._session.get(camera, 0), sender, frame, counts_of(report), at)
        before, self._accounts[camera] = self._accounts.get(camera), account
        interrupted = camera in self._interrupted
        self._interrupted.discard(camera)
        self._reset_due.discard(camera)
        if before is None:
            return
        sent = self._frames.since(camera, before.closing.sent_at)
        sent = {name: [s for s in frames if s != before.closing] for name, frames in sent.items()}
        sent = {name: [s for s in frames if s.sent_at <= frame.sent_at] for name, frames in sent.items()}
        everything = [s for frames in sent.values() for s in frames]
        same_session = before.session == account.session
        base = before.counts if same_session else dict.fromkeys(account.counts, 0)
        growth = {name: count - base[name] for name, count in account.counts.items()}
        alone = [name for name, frames in sent.items() if frames] == [sender] == [before.sender]
        if same_session and alone and not interrupted and frame.transport == before.closing.transport:
            self.exact += 1
            self._check_exactly(camera, growth, frame.number - before.closing.number, everything, results)
            return
        self.bounded += 1
        least = results if same_session else 0
        if not least <= growth["sent"] <= len(everything):
            self._complain(
                f"{camera}: 'sent' grew by {growth['sent']}; {len(everything)} were sent, the results of {results} came"
            )

    def _check_exactly(self, camera: str, growth: Counts, wanted: int, sent: list[Sent], results: int) -> None:
        if growth["sent"] != wanted:
            self._complain(f"{camera}: 'sent' grew by {growth['sent']}, the camera sent {wanted}")
        refused = sum(not s.good and not may_be_published(s.kind) for s in sent)
        doubtful = sum(not s.good and may_be_published(s.kind) for s in sent)
        good = len(sent) - refused - doubtful
        if growth["malformed"] > refused + doubtful:
            self._complain(f"{camera}: {growth['malformed']} counted as malformed, {refused + doubtful} were")
        if growth["published"] > good + doubtful:
            self._complain(f"{camera}: {growth['published']} counted as published, {good + doubtful} could be")
        if results > growth["published"]:
            self._complain(f"{camera}: the results of {results} came, {growth['published']} counted as published")
        if growth["published"] + growth["in_progress"] > wanted - refused + growth["lost_in_transport"]:
            self._complain(f"{camera}: of {wanted} with {refused} to refuse, {growth['published']} were published")
