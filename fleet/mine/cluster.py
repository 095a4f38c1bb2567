"""The run on Ray: actors with an engine each, tasks for them, and what happens when one of them is lost.

One actor has one task at a time, so a recording that kills its worker takes no other with it. The driver sees names and
numbers only: the actors read recordings and write tables themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, OutOfMemoryError, RayActorError, RayTaskError

from fleet.mine.journal import Journal
from fleet.mine.settings import MineSettings
from fleet.mine.tasks import JOIN, MINE, Task, Tasks
from fleet.mine.worker import Outcome, Worker, fail
from fleet.storage.place import open_place
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.shown_text import error_line

WAIT_S = 0.5
"""Time after which the driver looks at the cluster again, although no task has ended."""
MOST_FAILED_OPENINGS = 5
"""Workers in a row that may die before they have opened their engine."""
LOST_AFTER_S = 120.0
"""Time in which Ray decides whether an actor that cannot be reached is dead."""


class ClusterError(PerceptionError, RuntimeError):
    """The work cannot be done on the cluster. The message says why, and what to do."""


@dataclass(frozen=True)
class Needs:
    """What one worker takes of the cluster.

    Attributes:
        cpus: number of CPUs, whole.
        gpus: number of GPUs; a fraction shares one.
        memory_bytes: memory; 0: not reserved.
        most: number of workers at most; 0: as many as fit.
    """

    cpus: int
    gpus: float
    memory_bytes: int
    most: int = 0

    def fit_in(self, resources: dict[str, float]) -> int:
        """How many workers a machine with these resources holds."""
        wanted = {"CPU": float(self.cpus), "GPU": self.gpus, "memory": float(self.memory_bytes)}
        # A little more: 0.1 ten times is less than 1.
        return int(min(resources.get(name, 0.0) / amount + 1e-6 for name, amount in wanted.items() if amount))


class _Actor:
    """One worker in a process of its own."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._overlap_s = 0.0

    def open(self, settings: MineSettings) -> str:
        """Open the engine. Returns the id of the machine."""
        self._worker, self._overlap_s = Worker(settings), settings.overlap_s
        return str(ray.get_runtime_context().get_node_id())

    def do(self, task: Task) -> Outcome:
        """Do a task."""
        assert self._worker is not None
        if task.kind == MINE:
            return self._worker.mine(task.recording)
        assert task.plan is not None
        if task.kind == JOIN:
            return self._worker.join(task.recording, task.plan)
        return self._worker.mine_part(task.recording, task.plan, task.number, self._overlap_s)

    def ping(self) -> None:
        """Answer."""


@dataclass
class _Hired:
    """An actor.

    Attributes:
        machine: id of its machine; "" until it has opened its engine.
        task: what it does; None: it opens its engine, or is free.
        answer: reference to the result; None: it is free.
    """

    actor: Any
    answer: Any
    machine: str = ""
    task: Task | None = None


class FleetRun:
    """Does all tasks on the cluster that `ray.init` has connected to.

    Args:
        tasks: what is to be done.
        settings: for every worker.
        needs: of one worker.
        journal: remembers recordings that killed workers.

    Attributes:
        machines: number of machines with a worker at the last look.
        workers: number of workers.
        lost: number of workers that were lost.
    """

    def __init__(self, tasks: Tasks, settings: MineSettings, needs: Needs, journal: Journal) -> None:
        self._tasks, self._needs, self._journal = tasks, needs, journal
        self._out = open_place(settings.out)
        # Once: every actor fetches it from there.
        self._settings = ray.put(settings)
        self._hired: list[_Hired] = []
        self.machines = self.workers = self.lost = 0
        self._failed_openings = 0

    def run(self, waiting: Callable[[], None]) -> Iterator[tuple[str, Outcome]]:
        """Do the tasks.

        Args:
            waiting: called after each event, and at least every `WAIT_S`.

        Yields:
            Name and outcome of each recording when it is done or has failed.

        Raises:
            ClusterError: no worker can begin.
            OSError: the output cannot be written.
        """
        while len(self._tasks) or any(hired.task for hired in self._hired):
            self._hire()
            self._hand_out()
            answers = [hired.answer for hired in self._hired if hired.answer is not None]
            ready, _ = ray.wait(answers, num_returns=1, timeout=WAIT_S) if answers else ([], [])
            for hired in [one for one in self._hired if one.answer in ready]:
                yield from self._take(hired)
            waiting()

    def close(self) -> None:
        """End the workers."""
        for hired in self._hired:
            ray.kill(hired.actor)
        self._hired.clear()

    # -- actors -------------------------------------------------------------------------------------------------------

    def _hire(self) -> None:
        """Begin as many actors as the cluster holds and tasks need."""
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = sum(self._needs.fit_in(resources) for resources in alive)
        room = min(room, self._needs.most) if self._needs.most else room
        busy = sum(hired.task is not None for hired in self._hired)
        wanted = min(room, busy + len(self._tasks))
        if not wanted and not self._hired:
            raise ClusterError(
                f"no machine of the cluster has {self._needs.cpus} CPUs, {self._needs.gpus:g} GPUs and "
                f"{self._needs.memory_bytes / 1e9:g} GB of memory for a worker ({_shown(alive)}); ask for less with "
                "--cpus-per-task, --gpus-per-task or --memory-per-task"
            )
        while len(self._hired) < wanted:
            options: dict[str, Any] = {"num_cpus": self._needs.cpus, "num_gpus": self._needs.gpus}
            if self._needs.memory_bytes:
                options["memory"] = self._needs.memory_bytes
            remote = ray.remote(_Actor).options(**options, max_restarts=0, scheduling_strategy="SPREAD").remote()
            self._hired.append(_Hired(remote, remote.open.remote(self._settings)))
        self.workers = sum(bool(hired.machine) for hired in self._hired)
        self.machines = len({hired.machine for hired in self._hired if hired.machine})

    def _hand_out(self) -> None:
        for hired in self._hired:
            if hired.answer is None and hired.machine and (task := self._tasks.take()) is not None:
                hired.task, hired.answer = task, hired.actor.do.remote(task)

    def _take(self, hired: _Hired) -> Iterator[tuple[str, Outcome]]:
        """Take the answer of an actor."""
        task, answer = hired.task, hired.answer
        hired.task = hired.answer = None
        try:
            found = ray.get(answer)
        except (RayActorError, OutOfMemoryError) as error:
            yield from self._lost(hired, task, error)
        except RayTaskError as error:
            yield from self._went_wrong(task, error)
        else:
            if task is None:
                hired.machine, self._failed_openings = found, 0
            elif (outcome := self._tasks.ended(task, found)) is not None:
                yield task.recording, outcome

    def _went_wrong(self, task: Task | None, error: RayTaskError) -> Iterator[tuple[str, Outcome]]:
        cause = error.cause if isinstance(error.cause, BaseException) else error
        if task is None:
            raise ClusterError(f"a worker cannot begin: {error_line(cause)}") from error
        kind = "" if isinstance(cause, OSError) else f"{type(cause).__name__}: "
        if reason := self._tasks.error(task, kind + error_line(cause)):
            yield task.recording, fail(self._out, task.recording, reason)

    def _lost(self, hired: _Hired, task: Task | None, error: Exception) -> Iterator[tuple[str, Outcome]]:
        """An actor is lost, with its machine or alone."""
        if isinstance(error, ActorUnavailableError):
            # Ray knows only after a while whether the machine is gone. Whatever the actor does, its task begins anew.
            _wait_until_dead(hired.actor)
        ray.kill(hired.actor)
        self._hired.remove(hired)
        self.lost += 1
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        if task is None:
            # Its machine may have died, which is no reason to give up.
            self._failed_openings += 1
            if self._failed_openings >= MOST_FAILED_OPENINGS:
                raise ClusterError(f"workers die while they open their engines: {error_line(error)}") from error
        elif hired.machine not in alive:
            self._tasks.again(task)
        else:
            reason = self._tasks.worker_died(task)
            self._journal.note_killed(task.recording, self._tasks.killed[task.recording])
            if reason:
                text = f"{reason}; replay it alone to see why"
                yield task.recording, fail(self._out, task.recording, text)


def _wait_until_dead(actor: Any) -> None:
    try:
        ray.get(actor.ping.remote(), timeout=LOST_AFTER_S)
    except (RayActorError, GetTimeoutError):
        return


def _shown(machines: list[dict[str, float]]) -> str:
    return "; ".join(
        f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs, {resources.get('memory', 0) / 1e9:.1f} GB"
        for resources in machines
    )
