"""The command `replay`."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.progress_bar import progress_bar
from ros_ood_perception.replay.command_line.opening import Opened, open_all
from ros_ood_perception.replay.command_line.options import make_parser
from ros_ood_perception.replay.command_line.summary import print_summary, summarise
from ros_ood_perception.replay.comparison.limits import Limits
from ros_ood_perception.replay.comparison.opened_run import RunClasses, open_run
from ros_ood_perception.replay.comparison.printing import print_comparison
from ros_ood_perception.replay.comparison.runs import compare
from ros_ood_perception.replay.engine_pool import EnginePool
from ros_ood_perception.replay.report.replay_report import write_report
from ros_ood_perception.replay.run import Replay, ResultObserver
from ros_ood_perception.replay.state import (
    PROGRAM,
    ReplayError,
    ReplayStoppedError,
    finished_summary,
    make_room,
)
from ros_ood_perception.shown_text import error_line, printable

if TYPE_CHECKING:
    from ros_ood_perception.replay.rerun_viewer import RerunViewer

LOG_EVERY_S = 30.0
"""Seconds between two lines of progress if there is no terminal for the bar."""

console = Console(stderr=True, highlight=False)


def say(message: str, style: str | None = None) -> None:
    """Print a line to standard error. Brackets are not read as markup, and control characters are escaped."""
    console.print(printable(message), markup=False, soft_wrap=True, style=style)


def replay(options: argparse.Namespace, opened: Opened, observers: Sequence[ResultObserver]) -> dict[str, Any]:
    """Run the replay and write its output.

    Returns:
        What `summary.json` holds. `complete` in it is false after an interruption.

    Raises:
        PerceptionError: the message says what to do.
        OSError: with the path.
    """
    output = make_room(options.out, options.resume, options.overwrite)
    started = time.monotonic()
    pool = EnginePool(opened.bundle, opened.engine, options.jobs, opened.threads, opened.fixed.gpu)
    try:
        run = Replay(opened.source, output, opened.plan, opened.bundle, opened.fixed, opened.live, pool, observers)
        if run.went_back:
            say(f"the output was damaged: {run.went_back}", style="red")
        stopped = _stopped_by_signals()
        whole = opened.plan.start_ns is None and opened.plan.stop_ns is None
        total = opened.source.frame_count if whole else None
        with progress_bar(console) as progress:
            task = progress.add_task("replay", total=total)
            said = time.monotonic()

            def advance() -> None:
                nonlocal said
                progress.advance(task)
                # A log has no bar, and must show progress as well.
                if not console.is_terminal and time.monotonic() - said >= LOG_EVERY_S:
                    said = time.monotonic()
                    say(f"{progress.tasks[0].completed:.0f} of {total or 'an unknown number of'} frames")

            complete = run.run(advance, stopped)
        summary = summarise(options, opened, run, pool, complete, time.monotonic() - started)
        run.complete(summary)
    except BrokenExecutor as error:
        raise ReplayStoppedError(
            f"a process of the replay died ({error}); --resume continues, perhaps with fewer --jobs"
        ) from error
    except OSError as error:
        raise ReplayStoppedError(f"{error}; the finished files are kept, and --resume continues after them") from error
    finally:
        pool.close()
    return summary


def _stopped_by_signals() -> Callable[[], bool]:
    numbers: list[int] = []

    def on_signal(number: int, _frame: object) -> None:
        numbers.append(number)
        # A second signal of the kind ends the process at once.
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return lambda: bool(numbers)


def main(
    arguments: list[str] | None = None,
    parser: argparse.ArgumentParser | None = None,
    observe: Callable[[argparse.Namespace, Opened], Sequence[ResultObserver]] = lambda options, opened: (),
) -> int:
    """Command line; returns the exit code.

    Args:
        parser: has the options of `make_parser`, and may have others, which `observe` reads.
        observe: makes the observers of the results.

    >>> main(["missing.mcap", "--out", "out/replay"])  # prints what is wrong to standard error
    2
    """
    options = (parser or make_parser()).parse_args(arguments)
    viewer: RerunViewer | None = None
    try:
        opened = open_all(options)
        limits = Limits.from_options(options)
        _announce(options, opened)
        summary = None
        if options.resume and options.out.is_dir() and any(options.out.iterdir()):
            make_room(options.out, True, False)
            summary = finished_summary(options.out)
        if summary is not None:
            say(f"{options.out}: that replay is complete already")
        else:
            observers = list(observe(options, opened))
            if options.rerun:
                viewer = _rerun_viewer(options.rerun, opened)
                observers.append(viewer)
            summary = replay(options, opened, observers)
        if viewer is not None:
            viewer.close()
        code = print_summary(summary, options.out, say)
        if options.report is not None and summary["complete"]:
            write_report(options.out, options.report, opened.source)
            say(f"report: {options.report}")
        if options.compare is not None and summary["complete"]:
            comparison = compare(
                OutputFolder.reopen(options.out, PROGRAM),
                open_run(options.out, RunClasses.of_bundle(opened.bundle.description)),
                open_run(options.compare),
                opened.source,
                options.node_name,
                limits,
            )
            code = max(code, print_comparison(comparison, say))
    except (PerceptionError, OSError) as error:
        say(f"replay: {error_line(error)}", style="red")
        return 1 if isinstance(error, ReplayStoppedError) else 2
    return code


def _announce(options: argparse.Namespace, opened: Opened) -> None:
    """Say what is replayed, and what of the recording is not."""
    say(
        f"{options.input} ({opened.source.kind}), "
        f"{len(opened.source.cameras)} camera(s): {', '.join(c.image for c in opened.source.cameras)}; "
        f"bundle {opened.bundle.description.name}"
    )
    say(f"settings of obstacles: {opened.live.in_force(opened.bundle.description)}")
    for doubt in opened.fixed.doubts:
        say(doubt)
    for topic, reason in opened.source.left_out.items():
        say(f"{topic}: is not taken for a camera: {reason}; --camera [NAME=]TOPIC chooses")
    left_out = sorted({*opened.source.copied} - {*opened.plan.copied}) if options.with_input else []
    if left_out:
        say(f"not copied, as they would look like results of this replay: {', '.join(left_out)}")


def _rerun_viewer(target: str, opened: Opened) -> RerunViewer:
    try:
        # Imported here: the viewer is not installed everywhere.
        from ros_ood_perception.replay.rerun_viewer import RerunViewer
    except ImportError as error:
        raise ReplayError(
            f'--rerun: the viewer cannot be used ({error}); pip install "rerun-sdk==0.23.1" "pyarrow<18"'
        ) from error
    return RerunViewer(target, opened.bundle.description)
