"""What is left to do of a run: which recording, or which part of one, is next, and when one is given up. Knows no Ray.

A recording goes through one of these ways:

    mine -> done or failed                            one that is short, or that is not split
    mine -> split -> its parts -> join -> done or failed

A task whose worker died is tried again. If a recording killed two workers, it has failed. Tasks whose machine died are
tried again without limit, as that is not the recording's fault.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from fleet.mine.recording.parts import PartPlan
from fleet.mine.worker import PART, SPLIT, Outcome

MINE, JOIN = "mine", "join"
MOST_KILLED = 2
"""Workers that a recording may kill before it has failed."""
MOST_ERRORS = 3
"""Times that reading or writing may fail for a recording before it has failed."""


@dataclass(frozen=True)
class Task:
    """Something that a worker does in one go.

    Attributes:
        recording: its name.
        kind: `MINE`, `PART` or `JOIN`.
        plan: the parts of a recording that is split.
        number: of the part.
    """

    recording: str
    kind: str = MINE
    plan: PartPlan | None = None
    number: int = 0


class Tasks:
    """The tasks that are left.

    Args:
        recordings: names, in the order in which they are begun.
        killed: name to number of workers that a recording has killed in earlier runs.

    >>> tasks = Tasks(["a", "b"])
    >>> first = tasks.take()
    >>> tasks.worker_died(first), tasks.take().recording  # tried again, but not at once
    ('', 'b')
    >>> tasks.worker_died(tasks.take())
    'killed 2 workers'
    """

    def __init__(self, recordings: Iterable[str], killed: dict[str, int] | None = None) -> None:
        self._left = deque(Task(name) for name in recordings)
        self.killed = dict(killed or {})
        self._errors: dict[str, int] = {}
        self._parts_left: dict[str, int] = {}
        self._given_up: set[str] = set()

    def __len__(self) -> int:
        return len(self._left)

    def take(self) -> Task | None:
        """The next task; None if there is none now."""
        return self._left.popleft() if self._left else None

    def ended(self, task: Task, outcome: Outcome) -> Outcome | None:
        """Take the outcome of a task.

        Returns:
            That of its recording, if it is done or has failed with this; else None.
        """
        if task.recording in self._given_up:
            return None
        if outcome.state == SPLIT and outcome.plan is not None:
            self._parts_left[task.recording] = outcome.plan.count
            # First: what has begun ends soon, and its parts take up room.
            parts = [Task(task.recording, PART, outcome.plan, number) for number in range(outcome.plan.count)]
            self._left.extendleft(reversed(parts))
            return None
        if outcome.state == PART:
            self._parts_left[task.recording] -= 1
            if not self._parts_left[task.recording]:
                self._left.appendleft(Task(task.recording, JOIN, task.plan))
            return None
        if task.kind == PART:
            self.give_up(task.recording)
        return outcome

    def again(self, task: Task) -> None:
        """Do a task once more: its machine died."""
        if task.recording not in self._given_up:
            self._left.appendleft(task)

    def worker_died(self, task: Task) -> str:
        """The worker of a task died, and its machine did not.

        Returns:
            Why the recording has failed; "" if the task is tried again.
        """
        count = self.killed[task.recording] = self.killed.get(task.recording, 0) + 1
        return self._retry(task, count >= MOST_KILLED, f"killed {count} workers")

    def error(self, task: Task, reason: str) -> str:
        """Something could not be read or written, such as over a network.

        Returns:
            Why the recording has failed; "" if the task is tried again.
        """
        count = self._errors[task.recording] = self._errors.get(task.recording, 0) + 1
        return self._retry(task, count >= MOST_ERRORS, reason)

    def _retry(self, task: Task, is_enough: bool, reason: str) -> str:
        if task.recording in self._given_up:
            return ""
        if is_enough:
            self.give_up(task.recording)
            return reason
        # Last: one that kills its workers must not hold up the others.
        self._left.append(task)
        return ""

    def give_up(self, recording: str) -> None:
        """Drop the tasks of a recording that has failed."""
        self._given_up.add(recording)
        self._left = deque(task for task in self._left if task.recording != recording)
