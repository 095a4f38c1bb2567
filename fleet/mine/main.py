"""The command `python -m fleet.mine`."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from fleet.mine.journal import Journal, RunError
from fleet.mine.options import LOCAL, make_parser, replay_options
from fleet.mine.progress import FleetProgress
from fleet.mine.settings import MineSettings
from fleet.mine.tasks import Tasks
from fleet.mine.worker import UNFINISHED
from fleet.storage.place import Place, open_place
from fleet.storage.recordings import Found, find_recordings
from fleet.tables.schema import FAILED
from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.shown_text import error_line, printable

if TYPE_CHECKING:
    from fleet.mine.cluster import FleetRun

CHECKOUT = Path(__file__).resolve().parents[2]
SMALLEST_STORE = 100_000_000
"""Bytes of Ray's object store on this machine. Only the bundle goes through it."""
ANSWER_S = 10.0
"""Time in which the machine of --address must answer."""
INTERRUPTED = 130
MOST_NAMED = 20

console = Console(stderr=True, highlight=False)


def say(message: str, style: str | None = None) -> None:
    """Print a line to standard error."""
    console.print(printable(message), markup=False, soft_wrap=True, style=style)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = make_parser().parse_args(arguments)
    # An interruption ends the workers in order; a kill leaves that to Ray.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _mine(options)
    except (PerceptionError, OSError) as error:
        say(f"fleet.mine: {error_line(error)}", style="red")
        return 2
    except KeyboardInterrupt:
        say("interrupted: finished recordings are kept, and the same command continues", style="red")
        return INTERRUPTED


def _mine(options: argparse.Namespace) -> int:
    bundle = read_bundle(options.bundle)
    settings = _settings(options, bundle)
    found = find_recordings(options.recordings)
    out = open_place(options.out)
    _check_apart(out, found)
    journal = Journal(out, _identity(options, bundle, settings))
    names = [recording.name for recording in found.recordings]
    finished = journal.finished(names)
    if options.retry_failed:
        for name in finished.failed:
            journal.forget(name)
        finished = journal.finished(names)
    left = [name for name in names if name not in finished.done and name not in finished.failed]
    say(f"{len(names)} recordings, bundle {bundle.description.name}; {len(names) - len(left)} are finished already")
    if found.others:
        others = ", ".join(found.others[:3]) + (", ..." if len(found.others) > 3 else "")
        say(f"{len(found.others)} files are no recordings, and are left out: {others}")
    if left:
        sizes = {recording.name: recording.bytes for recording in found.recordings if recording.name in set(left)}
        with _cluster(options, settings, Tasks(left, journal.killed(left)), journal) as run:
            _run(run, FleetProgress(console, sizes))
    return _conclude(journal, names, out)


def _run(run: FleetRun, progress: FleetProgress) -> None:
    with progress:
        for name, outcome in run.run(lambda: progress.show(run.workers, run.machines)):
            progress.add(name, outcome.state == FAILED)
            if outcome.state == FAILED:
                say(f"failed: {name}: {outcome.reason}", style="red")
            elif outcome.note:
                say(f"{name}: {outcome.note}")
    if run.lost:
        say(f"{run.lost} workers were lost on the way; their recordings were begun again")


@contextmanager
def _cluster(options: argparse.Namespace, settings: MineSettings, tasks: Tasks, journal: Journal) -> Iterator[FleetRun]:
    """The run on a cluster that is connected while the block runs."""
    # Before Ray is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray

        from fleet.mine.cluster import FleetRun, Needs
    except ImportError as error:
        raise RunError(
            f"Ray cannot be used ({error}); pip install --require-hashes -r requirements/fleet.txt"
        ) from error
    needs = Needs(
        options.cpus_per_task, options.gpus_per_task, round(options.memory_per_task * 1e9), options.workers or 0
    )
    _check_address(options.address)
    try:
        ray.init(**_connection(options, settings))
        # Ray has set its own, which ends the process at once.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RunError(f"--address {options.address}: no Ray cluster can be used ({error_line(error)})") from error
    try:
        run = FleetRun(tasks, settings, needs, journal)
        try:
            yield run
        finally:
            run.close()
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Refuse an address where nothing answers: Ray would try for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise RunError(
            f"--address {printable(address)}: nothing answers there ({error}); begin a cluster with: ray start --head"
        ) from error


def _connection(options: argparse.Namespace, settings: MineSettings) -> dict[str, Any]:
    """The arguments of `ray.init`."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if options.address == LOCAL:
        # The workers inherit it.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
        bundle_bytes = sum(map(len, settings.bundle_files.values()))
        return {
            **quiet,
            "address": LOCAL,
            "num_cpus": len(os.sched_getaffinity(0)),
            "include_dashboard": False,
            "object_store_memory": SMALLEST_STORE + 2 * bundle_bytes,
        }
    modules = [str(CHECKOUT / name) for name in ("fleet", "ros_ood_perception")]
    return {**quiet, "address": options.address, "runtime_env": {"py_modules": modules}}


def _settings(options: argparse.Namespace, bundle: Bundle) -> MineSettings:
    files = {path.name: path.read_bytes() for path in sorted(bundle.folder.iterdir()) if path.is_file()}
    return MineSettings(
        out=open_place(options.out).name,
        bundle_files=files,
        parameters=None if options.params is None else options.params.read_bytes(),
        replay_options=replay_options(options),
        with_outputs=bool(options.outputs),
        part_s=options.part_minutes * 60,
        overlap_s=options.overlap_seconds,
        memory_bytes=round(options.memory_per_task * 1e9),
        scratch=options.scratch,
    )


def _identity(options: argparse.Namespace, bundle: Bundle, settings: MineSettings) -> dict[str, Any]:
    """What the tables depend on, beside the recordings."""
    description = bundle.description
    sizes = {f"{size.height}x{size.width}": size.sha256 for size in description.input.further_sizes}
    parameters = settings.parameters
    return {
        "bundle": description.model_sha256,
        "further sizes": sizes,
        "--params": "" if parameters is None else hashlib.sha256(parameters).hexdigest(),
        "options of replay": list(settings.replay_options),
    }


def _check_apart(out: Place, found: Found) -> None:
    """Refuse tables in a recording, and recordings in the folder of the tables."""
    target = out.local
    for recording in found.recordings if target is not None else ():
        path = open_place(recording.name).local
        if path is None or target is None:
            continue
        read, written = path.resolve(), target.resolve()
        if read == written or read in written.parents or written in read.parents:
            raise RunError(f"--out {printable(out.name)} and {printable(recording.name)} overlap; give another --out")


def _conclude(journal: Journal, names: list[str], out: Place) -> int:
    """Say what became of every recording; returns the exit code."""
    finished = journal.finished(names)
    for name in sorted(finished.failed)[:MOST_NAMED]:
        say(f"failed: {name}: {journal.row(name, ['reason'])['reason']}", style="red")
    if len(finished.failed) > MOST_NAMED:
        say(f"and {len(finished.failed) - MOST_NAMED} more, see {out.name}/recordings", style="red")
    missing = len(names) - len(finished.done) - len(finished.failed)
    if missing:
        raise RunError(f"{missing} recordings have no row in {out.name}/recordings; run the same command again")
    # Of recordings that failed while some of their parts were still being replayed.
    out.child(UNFINISHED).delete_folder()
    say(f"{len(names)} recordings = {len(finished.done)} done + {len(finished.failed)} failed; tables: {out.name}")
    return 1 if finished.failed else 0
