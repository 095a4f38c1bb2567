"""The progress of a replay on the disk, from which it can be resumed.

`state.json` says which replay it is. Each finished file of the bag has a record beside it, with its digest and
everything that is needed to continue after it. If a file was changed, the replay continues after the file before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.json_files import JsonFileError, read_json, sealed_text, unsealed
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.files.strict_yaml import SchemaError, from_mapping
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.recordings.split_bag import part_file

STATE_FILE = "state.json"
SUMMARY_FILE = "summary.json"
STATE_FORMAT = 8
PROGRAM = "replay"


class ReplayError(PerceptionError, RuntimeError):
    """The replay cannot start or continue. The message says why, and what to do."""


class ReplayStoppedError(ReplayError):
    """A running replay cannot continue. Its finished files are kept."""


@dataclass(frozen=True)
class FileRecord:
    """One finished file of the bag.

    Attributes:
        file: name of the file.
        sha256: digest of its bytes.
        part_sha256: digest of its metadata (`part_file`).
        used: number of items of the input that have been used; calibrations do not count.
        last_ns, reported_ns: times of the last frame and of the last diagnostics, nanoseconds.
        ended: whether the replay was complete.
        cameras: the `CameraReplay.state` of each camera.
    """

    file: str
    sha256: str
    part_sha256: str
    used: int
    last_ns: int
    reported_ns: int | None
    ended: bool
    cameras: list[dict[str, Any]]


def record_file(file: str) -> str:
    """The name of the record of a file of the bag."""
    return f".{file}.state.json"


def write_record(output: OutputFolder, record: FileRecord) -> None:
    """Write the record of a finished file, which makes it a part of the replay.

    Raises:
        OSError: with the path.
    """
    output.write(f"{BAG_FOLDER}/{record_file(record.file)}", sealed_text(asdict(record)))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        OSError: with the path.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def whole_files(out: Path, written: int) -> tuple[list[FileRecord], str]:
    """The records of the files up to the first one that is missing or was changed.

    Args:
        written: least number of files that were written.

    Returns:
        The records, and what is wrong with the next file; "" if all are unchanged.
    """
    found: list[FileRecord] = []
    while True:
        name = f"{BAG_FOLDER}_{len(found)}.mcap"
        path = out / BAG_FOLDER / record_file(name)
        if not path.is_file() and len(found) >= written:
            return found, ""
        try:
            record = from_mapping(unsealed(path, read_json(path)), FileRecord, str(path))
            for file, digest in ((name, record.sha256), (part_file(name), record.part_sha256)):
                if file_digest(out / BAG_FOLDER / file) != digest:
                    raise JsonFileError(f"{out / BAG_FOLDER / file}: was changed: its SHA-256 is another")
        except (OSError, JsonFileError, SchemaError) as error:
            return found, str(error)
        found.append(record)


def write_state(
    output: OutputFolder, identity: Mapping[str, Any], facts: Mapping[str, str], files: int, summary_sha256: str = ""
) -> None:
    """Write `state.json`.

    Args:
        files: number of finished files.
        summary_sha256: of `summary.json`; "" while the replay is not complete.
    """
    state = {
        "format": STATE_FORMAT,
        "complete": bool(summary_sha256),
        "summary_sha256": summary_sha256,
        "files": files,
        "identity": dict(identity),
        "facts": dict(facts),
    }
    output.write(STATE_FILE, sealed_text(state))


def read_state(out: Path) -> dict[str, Any]:
    """The state of the replay in a folder.

    Raises:
        ReplayError: it cannot be read, is damaged, or is of another version.
    """
    path = out / STATE_FILE
    try:
        state = read_json(path)
        if isinstance(state, dict) and state.get("format") not in (None, STATE_FORMAT):
            raise ReplayError(f"{path}: was written by another version; give another --out, or --overwrite")
        state = unsealed(path, state)
    except (OSError, JsonFileError) as error:
        raise ReplayError(f"{error}; the replay there cannot be resumed: give another --out, or --overwrite") from error
    return state


def finished_summary(out: Path) -> dict[str, Any] | None:
    """`summary.json` of a complete replay with unchanged files; else None.

    Raises:
        ReplayError: see `read_state`.
    """
    state = read_state(out)
    if not state["complete"] or whole_files(out, state["files"])[1]:
        return None
    try:
        if file_digest(out / SUMMARY_FILE) != state["summary_sha256"]:
            return None
        summary: dict[str, Any] = read_json(out / SUMMARY_FILE)
    except (OSError, JsonFileError):
        return None
    return summary


def make_room(out: Path, resume: bool, overwrite: bool) -> OutputFolder:
    """Prepare the folder of a replay. A finished replay in it is replaced, an interrupted one only if told so.

    Raises:
        ReplayError: there is an interrupted replay without `resume` or `overwrite`, or none to resume.
        OutputFolderError: something else is in the folder.
        OSError: with the path.
    """
    if out.is_dir() and any(out.iterdir()):
        if resume:
            return OutputFolder.reopen(out, PROGRAM)
        # First: the state of a foreign folder is not read.
        OutputFolder(out, PROGRAM).read()
        if not overwrite and (out / STATE_FILE).exists() and not read_state(out)["complete"]:
            raise ReplayError(f"{out} holds an interrupted replay: --resume continues it, --overwrite replaces it")
    elif resume:
        raise ReplayError(f"{out}: there is no replay to resume")
    return OutputFolder.claim(out, PROGRAM)
