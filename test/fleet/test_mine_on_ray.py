"""The command on Ray: faults change no table, and bad input is said. `python -m benchmark.fleet faults` is the large
form, on three nodes of which one dies."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="ray is not installed (requirements/fleet.txt)")
pytest.importorskip("pyarrow", reason="pyarrow is not installed (requirements/fleet.txt)")

from brightness_bundle import write_brightness_bundle
from moving_lights import mine_settings, write_lights
from rich.console import Console

from benchmark.fleet.faults import Assassin
from fleet.mine.cluster import Needs
from fleet.mine.main import main
from fleet.mine.progress import FleetProgress
from fleet.mine.worker import Worker
from fleet.storage.place import open_place
from fleet.tables.files import read_table, table_bytes
from fleet.tables.schema import DONE, FAILED, TABLES

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300


def begin(arguments: Sequence[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fleet.mine", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_killed_workers_and_a_killed_driver_change_no_table(tmp_path: Path) -> None:
    drives = tmp_path / "drives"
    drives.mkdir()
    for number in range(3):
        write_lights(drives / f"short_{number}", 8, seed=number)
    write_lights(drives / "long", 60)
    victim = str(write_lights(drives / "victim", 400))
    (drives / "broken.mcap").write_bytes(b"no bag")
    settings = mine_settings(tmp_path, str(tmp_path / "loop"))
    loop = Worker(settings)
    for drive in sorted(drives.iterdir()):
        loop.mine(str(drive))
    loop.close()
    out = tmp_path / "out"
    arguments = [str(drives), "--bundle", str(tmp_path / "bundle"), "--out", str(out), "--memory-per-task", "0"]
    # The long one is 6 s long, the victim 40 s: it is split as well, and killed all the same.
    arguments += ["--part-minutes", "0.05", "--overlap-seconds", "1.2"]
    driver = begin(arguments)
    until = time.monotonic() + SECONDS
    while not list((out / "recordings").glob("*.parquet")) and time.monotonic() < until:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.kill()
    driver.communicate()
    again = begin(arguments)
    with Assassin(victim, again.pid) as assassin:
        _, said = again.communicate(timeout=SECONDS)
    assert again.returncode == 1, said
    assert "6 recordings = 4 done + 2 failed" in said
    assert "long: joined from 2 parts" in said
    assert assassin.killed >= 2
    ours, theirs = open_place(str(out)), open_place(str(tmp_path / "loop"))
    states = {row["recording"]: row for row in read_table(ours, "recordings").to_pylist()}
    assert states[victim]["reason"] == "killed 2 workers; replay it alone to see why"
    assert states[str(drives / "broken.mcap")]["state"] == FAILED
    assert [row["state"] for row in states.values()].count(DONE) == 4
    for table in TABLES:
        found, wanted = (read_table(place, table.name) for place in (ours, theirs))
        rest = [table.filter([name != victim for name in table["recording"].to_pylist()]) for table in (found, wanted)]
        assert rest[0].num_rows == rest[1].num_rows > 0
        assert not table.is_repeatable or table_bytes(rest[0]) == table_bytes(rest[1]), table.name


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--bundle", "{}/nothing", "nothing"),
        ("--out", "{}/drives/a/out", "overlap; give another --out"),
        ("--address", "127.0.0.1:1", "--address 127.0.0.1:1: nothing answers there"),
    ],
)
def test_bad_input_is_said_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, said: str
) -> None:
    write_brightness_bundle(tmp_path / "bundle")
    (tmp_path / "drives").mkdir()
    write_lights(tmp_path / "drives" / "a", 2)
    options = {"--bundle": "{}/bundle", "--out": "{}/out", option: value}
    arguments = [text.format(tmp_path) for pair in options.items() for text in pair]
    assert main([str(tmp_path / "drives"), *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out" / "recordings").exists()


def test_as_many_workers_begin_as_have_cpus_gpus_and_memory() -> None:
    machine = {"CPU": 16.0, "GPU": 2.0, "memory": 64e9}
    assert Needs(2, 0.0, 0).fit_in(machine) == 8
    assert Needs(2, 0.25, 0).fit_in(machine) == 8
    assert Needs(1, 0.25, 0).fit_in(machine) == 8
    assert Needs(1, 0.0, 10**10).fit_in(machine) == 6
    assert Needs(1, 1.0, 0).fit_in({"CPU": 16.0}) == 0
    assert Needs(1, 0.1, 0).fit_in({"CPU": 16.0, "GPU": 1.0}) == 10


def test_progress_says_how_long_the_rest_takes_by_the_bytes_that_are_done() -> None:
    now = [0.0]
    progress = FleetProgress(Console(quiet=True), {"a": 100, "b": 300, "c": None}, lambda: now[0])
    assert progress.left() == "time left is not known yet"
    now[0] = 60.0
    progress.add("a", failed=False)
    assert progress.text(2, 1) == "1 of 3 recordings; 2 workers on 1 machines; about 0:05:00 left"
    progress.add("b", failed=True)
    assert progress.text(2, 1) == "2 of 3 recordings, 1 failed; 2 workers on 1 machines; about 0:00:30 left"
