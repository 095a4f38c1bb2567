"""Which task is next, and when a recording is given up; what the output folder remembers of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed (requirements/fleet.txt)")

from fleet.mine.journal import Journal, RunError
from fleet.mine.recording.parts import PartPlan
from fleet.mine.tasks import JOIN, MINE, Task, Tasks
from fleet.mine.worker import PART, SPLIT, Outcome, fail
from fleet.storage.place import open_place
from fleet.tables.schema import DONE, FAILED

PLAN = PartPlan((10, 20), 30)


def taken(tasks: Tasks) -> Task:
    task = tasks.take()
    assert task is not None
    return task


def test_a_split_recording_is_done_when_its_parts_are_joined() -> None:
    tasks = Tasks(["long", "short"])
    assert tasks.ended(taken(tasks), Outcome(SPLIT, plan=PLAN)) is None
    parts = [taken(tasks) for _ in range(3)]
    assert [(part.kind, part.number) for part in parts] == [(PART, 0), (PART, 1), (PART, 2)]
    short = taken(tasks)
    done = Outcome(DONE, frames=3)
    assert tasks.ended(short, done) == done
    for part in (parts[2], parts[0]):
        assert tasks.ended(part, Outcome(PART)) is None
        assert tasks.take() is None
    tasks.ended(parts[1], Outcome(PART))
    join = taken(tasks)
    assert (join.recording, join.kind) == ("long", JOIN)
    assert tasks.ended(join, done) == done
    assert len(tasks) == 0


def test_a_recording_that_kills_two_workers_has_failed_and_the_others_go_on() -> None:
    tasks = Tasks(["bad", "good"])
    bad = taken(tasks)
    assert tasks.worker_died(bad) == ""
    assert [taken(tasks).recording, taken(tasks).recording] == ["good", "bad"]
    assert tasks.worker_died(bad) == "killed 2 workers"
    assert tasks.take() is None


def test_deaths_count_over_runs_and_those_of_machines_do_not_count() -> None:
    tasks = Tasks(["bad"], {"bad": 1})
    for _ in range(5):
        tasks.again(taken(tasks))
    assert tasks.worker_died(taken(tasks)) == "killed 2 workers"


def test_a_part_that_fails_ends_its_recording_once() -> None:
    tasks = Tasks(["long"])
    tasks.ended(taken(tasks), Outcome(SPLIT, plan=PLAN))
    first, second = taken(tasks), taken(tasks)
    failed = Outcome(FAILED, "damaged")
    assert tasks.ended(first, failed) == failed
    assert tasks.ended(second, failed) is None
    tasks.again(second)
    assert tasks.take() is None


def test_an_error_of_reading_or_writing_is_tried_three_times() -> None:
    tasks = Tasks(["far"])
    assert [tasks.error(taken(tasks), "no answer") for _ in range(3)] == ["", "", "no answer"]
    assert taken(Tasks(["near"])).kind == MINE


def test_the_output_folder_says_what_is_finished_and_what_killed_workers(tmp_path: Path) -> None:
    out = open_place(str(tmp_path / "out"))
    journal = Journal(out, {"bundle": "a"})
    fail(out, "/drives/bad", "killed 2 workers")
    journal.note_killed("/drives/worse", 1)
    again = Journal(out, {"bundle": "a"})
    given = ["/drives/bad", "/drives/worse", "/drives/good"]
    assert again.finished(given).failed == {"/drives/bad"}
    assert again.finished(given).done == frozenset()
    assert again.killed(given) == {"/drives/worse": 1}
    again.forget("/drives/bad")
    assert again.finished(given).failed == frozenset()


def test_a_run_with_another_bundle_or_in_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    Journal(open_place(str(tmp_path / "out")), {"bundle": "a", "--params": ""})
    with pytest.raises(RunError, match=r"was begun with other bundle; give the same, or another --out"):
        Journal(open_place(str(tmp_path / "out")), {"bundle": "b", "--params": ""})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="holds something else"):
        Journal(open_place(str(tmp_path / "mine")), {})
    (tmp_path / "out" / "fleet.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        Journal(open_place(str(tmp_path / "out")), {})


@pytest.mark.parametrize("data", [b"", b"PAR1 no table PAR1"])
def test_a_damaged_table_is_named_with_the_remedy(tmp_path: Path, data: bytes) -> None:
    out = open_place(str(tmp_path / "out"))
    journal = Journal(out, {"bundle": "a"})
    fail(out, "/drives/bad", "no bag")
    [file] = (tmp_path / "out" / "recordings").iterdir()
    file.write_bytes(data)
    with pytest.raises(RunError, match=f"{file.name}: is damaged .*; delete it, and the same command replays"):
        journal.finished(["/drives/bad"])
    (tmp_path / "out" / "killed").mkdir(exist_ok=True)
    (tmp_path / "out" / "killed" / file.stem).write_bytes(b"?")
    assert journal.killed(["/drives/bad"]) == {"/drives/bad": 1}
