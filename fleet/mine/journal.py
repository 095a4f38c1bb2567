"""What the output folder says of a run: which it is, what is finished, and which recordings killed workers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fleet.storage.place import Place
from fleet.tables.files import file_key
from fleet.tables.schema import DONE, FAILED, RECORDINGS, SCHEMA_VERSION
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.json_files import json_text
from ros_ood_perception.shown_text import error_line, printable

RUN_FILE = "fleet.json"
KILLED = "killed"
"""The folder of the counts of killed workers."""


class RunError(PerceptionError, RuntimeError):
    """The run cannot begin or continue. The message says why, and what to do."""


@dataclass(frozen=True)
class Finished:
    """What is finished of the given recordings.

    Attributes:
        done, failed: their names.
    """

    done: frozenset[str]
    failed: frozenset[str]


class Journal:
    """The files of a run beside its tables.

    Args:
        out: the folder of the tables.
        identity: everything that the tables depend on beside the recordings. Plain data.

    Raises:
        RunError: there is a run with another identity, or something else.
        OSError: it cannot be read or written.
    """

    def __init__(self, out: Place, identity: Mapping[str, Any]) -> None:
        self._out = out
        file = out.child(RUN_FILE)
        wanted = json.loads(json_text({"schema": SCHEMA_VERSION, **identity}))
        if file.is_file():
            self._check(file, wanted)
        elif out.is_file() or out.entries():
            raise RunError(f"--out {printable(out.name)}: holds something else; give an empty or a new folder")
        else:
            file.write(json_text(wanted).encode())

    def _check(self, file: Place, wanted: dict[str, Any]) -> None:
        try:
            known = json.loads(file.read())
        except ValueError as error:
            raise RunError(f"{printable(file.name)}: is damaged ({error}); give another --out") from error
        if known == wanted:
            return
        theirs = known if isinstance(known, dict) else {}
        different = sorted(key for key in {*wanted, *theirs} if wanted.get(key) != theirs.get(key))
        raise RunError(
            f"--out {printable(self._out.name)}: the run there was begun with other {', '.join(different)}; give the "
            "same, or another --out"
        )

    def finished(self, recordings: Iterable[str]) -> Finished:
        """Which of these recordings are finished.

        Raises:
            OSError: the tables cannot be read.
        """
        files = {name.removesuffix(".parquet") for name in self._out.child(RECORDINGS.name).entries()}
        states = {name: self.state(name) for name in recordings if file_key(name) in files}
        return Finished(
            frozenset(name for name, state in states.items() if state == DONE),
            frozenset(name for name, state in states.items() if state == FAILED),
        )

    def state(self, recording: str) -> str:
        """State of a recording with a row.

        Raises:
            OSError: it cannot be read.
        """
        return str(self.row(recording, ["state"])["state"])

    def row(self, recording: str, columns: list[str]) -> dict[str, Any]:
        """Some columns of the row of a recording that has one.

        Raises:
            RunError: its file is damaged.
            OSError: it cannot be read.
        """
        place = self._out.child(RECORDINGS.name, f"{file_key(recording)}.parquet")
        try:
            with place.filesystem.open_input_file(place.path) as file:
                found: dict[str, Any] = pq.read_table(file, columns=columns).to_pylist()[0]
        except (pa.ArrowException, LookupError) as error:
            raise RunError(
                f"{printable(place.name)}: is damaged ({error_line(error)}); delete it, and the same command replays "
                "that recording again"
            ) from error
        return found

    def forget(self, recording: str) -> None:
        """Delete the row of a recording that failed, so that it is tried again.

        Raises:
            OSError: it cannot be deleted.
        """
        self._out.child(RECORDINGS.name, f"{file_key(recording)}.parquet").delete_file()
        self._out.child(KILLED, file_key(recording)).delete_file()

    def killed(self, recordings: Iterable[str]) -> dict[str, int]:
        """Name to number of workers that a recording has killed.

        Raises:
            OSError: it cannot be read.
        """
        files = self._out.child(KILLED).entries()
        keys = {name: key for name in recordings if (key := file_key(name)) in files}
        counts = {name: self._out.child(KILLED, key).read() for name, key in keys.items()}
        # A file that is empty or damaged says at least that there was one.
        return {name: int(count) if count.isdigit() else 1 for name, count in counts.items()}

    def note_killed(self, recording: str, count: int) -> None:
        """Remember how many workers a recording has killed, also for a later run.

        Raises:
            OSError: it cannot be written.
        """
        self._out.child(KILLED, file_key(recording)).write(str(count).encode())
