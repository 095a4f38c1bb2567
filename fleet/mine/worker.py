"""What one worker does: whole recordings, parts of long ones, and the joining of parts. Knows no Ray."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fleet.mine.recording.joining import PartFiles, join_rows
from fleet.mine.recording.parts import PartPlan, SpanResult, why_not_joined
from fleet.mine.recording.recording_row import done_row, failed_row, recording_digest
from fleet.mine.recording.span_replay import OpenedRecording, SpanReplay
from fleet.mine.settings import MineSettings
from fleet.storage.place import Place, on_this_machine, open_place
from fleet.tables.files import TableWriter, file_key, rows_of, table_file
from fleet.tables.schema import FAILED, FRAMES, OBSTACLES, RECORDINGS, TIMINGS
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.json_files import JsonFileError, read_json, sealed_text, unsealed
from ros_ood_perception.shown_text import error_line

OF_FRAMES = (FRAMES, OBSTACLES, TIMINGS)
PART_FILE = "result.json"
UNFINISHED = "unfinished"
"""The folder of the parts that are not joined yet."""


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        state: `DONE`, `FAILED`, `SPLIT` for a recording that is to be replayed in parts, or `PART` for one of them.
        reason: why it failed.
        frames, obstacles: numbers of rows.
        plan: the parts of a recording that is split.
        note: how its parts were joined; "" if it was not split.
    """

    state: str
    reason: str = ""
    frames: int = 0
    obstacles: int = 0
    plan: PartPlan | None = None
    note: str = ""


SPLIT, PART = "split", "part"


class Worker:
    """Replays recordings with an engine that is opened once, and writes the tables itself.

    Args:
        settings: of the run.

    Raises:
        PerceptionError: bundle, parameters or engine cannot be used, or the output not be opened.
        OSError: with the path.
    """

    def __init__(self, settings: MineSettings) -> None:
        self._out = open_place(settings.out)
        self._scratch = tempfile.TemporaryDirectory(prefix="fleet_mine_", dir=settings.scratch or None)
        self._folder = Path(self._scratch.name)
        self._spans = SpanReplay(settings, self._folder / "replay")

    def close(self) -> None:
        """Close the engine and delete what was written on the way."""
        self._spans.close()
        self._scratch.cleanup()

    # -- tasks --------------------------------------------------------------------------------------------------------

    def mine(self, name: str) -> Outcome:
        """Replay a recording and write its rows, or say how it is to be split.

        What is wrong with the recording makes it a failed one, with a row that says so.

        Raises:
            OSError: the tables cannot be written.
        """

        def replay(copy: _Copy) -> Outcome:
            recording = self._spans.open(copy.path)
            plan = self._spans.plan(recording)
            return Outcome(SPLIT, plan=plan) if plan.count > 1 else self._whole(name, copy, recording)

        return self._attempt(name, replay)

    def mine_part(self, name: str, plan: PartPlan, number: int, overlap_s: float) -> Outcome:
        """Replay a part of a recording, and keep its rows and states until the parts are joined.

        Raises:
            OSError: they cannot be written.
        """

        def replay(copy: _Copy) -> Outcome:
            place = self._part(name, number)
            if self._read_part(name, number, plan) is not None:
                return Outcome(PART)
            start_ns, stop_ns = plan.span(number)
            before = None
            if start_ns is not None:
                with self._tables("overlap") as (writer, _):
                    overlap = (start_ns - round(overlap_s * 1e9), start_ns)
                    before = self._spans.replay(self._spans.open(copy.path), name, writer, overlap).after
            with self._tables("part") as (writer, _):
                recording = self._spans.open(copy.path)
                result = self._spans.replay(recording, name, writer, (start_ns, stop_ns), before)
            for table, file in writer.files.items():
                place.child(f"{table}.parquet").put(file)
            # Last: the part counts once this is there.
            place.child(PART_FILE).write(sealed_text({"cuts_ns": list(plan.cuts_ns), **asdict(result)}).encode())
            return Outcome(PART)

        return self._attempt(name, replay)

    def join(self, name: str, plan: PartPlan) -> Outcome:
        """Write the rows of a recording from those of its parts, and delete these.

        A part that does not continue what the part before it left is replayed again from there. Where no joining can
        be exact, the whole recording is.

        Raises:
            OSError: the tables cannot be written.
        """

        def replay(copy: _Copy) -> Outcome:
            outcome = self._joined(name, copy, plan)
            self._out.child(UNFINISHED, file_key(name)).delete_folder()
            return outcome

        return self._attempt(name, replay)

    def fail(self, name: str, reason: str) -> Outcome:
        """Write the row of a failed recording, and delete its parts."""
        return fail(self._out, name, reason)

    # -- their parts --------------------------------------------------------------------------------------------------

    def _attempt(self, name: str, replay: Callable[[_Copy], Outcome]) -> Outcome:
        with ExitStack() as ended:
            copy = _Copy(name, self._folder, ended)
            try:
                return replay(copy)
            except PerceptionError as error:
                return self.fail(name, copy.named(error_line(error)))

    def _whole(self, name: str, copy: _Copy, recording: OpenedRecording) -> Outcome:
        with self._tables("whole") as (writer, folder):
            result = self._spans.replay(recording, name, writer)
        return self._publish(name, copy, result, writer, folder)

    def _publish(self, name: str, copy: _Copy, result: SpanResult, writer: TableWriter, folder: Path) -> Outcome:
        size = open_place(name).size()
        digest = recording_digest(rows_of(writer.files[FRAMES.name]))
        row = done_row(name, size, copy.named_in(result.summary), result, digest)
        for table, file in writer.files.items():
            table_file(self._out, table, name).put(file)
        with TableWriter(folder, (RECORDINGS,)) as last:
            last.add(RECORDINGS.name, row)
        # Last: the recording counts as done once this is there.
        table_file(self._out, RECORDINGS.name, name).put(last.files[RECORDINGS.name])
        return Outcome(row["state"], frames=row["frames"], obstacles=row["obstacles"])

    @contextmanager
    def _tables(self, use: str) -> Iterator[tuple[TableWriter, Path]]:
        folder = self._folder / use
        shutil.rmtree(folder, ignore_errors=True)
        with TableWriter(folder, OF_FRAMES) as writer:
            yield writer, folder

    def _part(self, name: str, number: int) -> Place:
        return self._out.child(UNFINISHED, file_key(name), str(number))

    def _joined(self, name: str, copy: _Copy, plan: PartPlan) -> Outcome:
        """The outcome of the joined parts, or of the whole where they cannot be joined exactly."""
        kept = [self._read_part(name, number, plan) for number in range(plan.count)]
        results = [result for result in kept if result is not None]
        because = "a part is missing" if len(results) < plan.count else why_not_joined(results, plan.frames)
        if not because:

            def replay_again(number: int, before: list[dict[str, Any]]) -> tuple[SpanResult, PartFiles]:
                with self._tables("again") as (again, _):
                    recording = self._spans.open(copy.path)
                    result = self._spans.replay(recording, name, again, plan.span(number), before)
                return result, again.files

            with self._tables("joined") as (writer, folder):
                joined = join_rows(
                    results,
                    lambda number: self._files_of_part(name, number),
                    replay_again,
                    self._spans.seen_frames,
                    writer,
                )
            because = why_not_joined(joined.results, plan.frames)
        if because:
            return replace(self._whole(name, copy, self._spans.open(copy.path)), note=f"replayed as a whole: {because}")
        outcome = self._publish(name, copy, joined.whole(), writer, folder)
        again = f", {joined.again} of them replayed again" if joined.again else ""
        return replace(outcome, note=f"joined from {plan.count} parts{again}")

    def _read_part(self, name: str, number: int, plan: PartPlan) -> SpanResult | None:
        """The result of a part; None where it is missing, damaged, or of parts that were cut elsewhere."""
        place = self._part(name, number).child(PART_FILE)
        if not place.is_file():
            return None
        copy = self._folder / PART_FILE
        copy.write_bytes(place.read())
        try:
            data = unsealed(copy, read_json(copy))
        except JsonFileError:
            return None
        return SpanResult(**data) if data.pop("cuts_ns") == list(plan.cuts_ns) else None

    def _files_of_part(self, name: str, number: int) -> PartFiles:
        folder = self._folder / "parts"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        place = self._part(name, number)
        return {table.name: place.child(f"{table.name}.parquet").fetch(folder) for table in OF_FRAMES}


class _Copy:
    """A recording on this machine: itself, or a copy that is made when its path is first asked for."""

    def __init__(self, name: str, folder: Path, ended: ExitStack) -> None:
        self._name, self._folder, self._ended = name, folder, ended
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """Its local path.

        Raises:
            PlaceError, OSError: it cannot be copied.
        """
        if self._path is None:
            scratch = self._ended.enter_context(tempfile.TemporaryDirectory(dir=self._folder))
            self._path = self._ended.enter_context(on_this_machine(open_place(self._name), Path(scratch)))
        return self._path

    def named(self, text: str) -> str:
        """A text with the recording's name instead of the path of its copy, which is another on each machine."""
        return text if self._path is None else text.replace(str(self._path), self._name)

    def named_in(self, data: Any) -> Any:
        """The same for every text in plain data."""
        if isinstance(data, str):
            return self.named(data)
        if isinstance(data, dict):
            return {key: self.named_in(value) for key, value in data.items()}
        return [self.named_in(value) for value in data] if isinstance(data, list) else data


def fail(out: Place, name: str, reason: str) -> Outcome:
    """Write the row of a failed recording, and delete what there is of its parts.

    Raises:
        OSError: it cannot be written.
    """
    try:
        size = open_place(name).size()
    except (PerceptionError, OSError):
        size = None
    with tempfile.TemporaryDirectory() as folder:
        with TableWriter(Path(folder), (RECORDINGS,)) as writer:
            writer.add(RECORDINGS.name, failed_row(name, size, reason))
        table_file(out, RECORDINGS.name, name).put(writer.files[RECORDINGS.name])
    out.child(UNFINISHED, file_key(name)).delete_folder()
    return Outcome(FAILED, reason)
