"""The folder of a replay: what is damaged in it or in its way, a full disk, and who is left when it is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from recorded_drive import BUNDLE, write_drive

from ros_ood_perception.files.output_folder import LIST_FILE
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.split_bag import topic_digests
from ros_ood_perception.replay import state as replay_state
from ros_ood_perception.replay.command_line.main import main

FRAMES = 8
OPTIONS = ("--frames-per-file", "2", "--threads", "1", "--outputs", "semantic_mask,anomaly_mask,obstacle_detections")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp("drive") / "drive", FRAMES)


@pytest.fixture(scope="module")
def whole(drive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished replay; copied where a test changes it."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert replay(drive, out) == 0
    return out


@pytest.fixture(scope="module")
def interrupted(whole: Path, drive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that was killed in its fourth file."""
    out = tmp_path_factory.mktemp("interrupted") / "out"
    code = (
        "import os, sys; from ros_ood_perception.recordings.split_bag import SplitBag\n"
        "from ros_ood_perception.replay.command_line.main import main\n"
        "write = SplitBag.write\n"
        "def until_the_fourth(self, topic, time_ns, raw):\n"
        "    write(self, topic, time_ns, raw)\n"
        "    if len(self.files) == 3: os.kill(os.getpid(), 9)\n"
        "SplitBag.write = until_the_fourth\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, str(drive), *BUNDLE, "--out", str(out), *OPTIONS]
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
    assert json.loads((out / "state.json").read_text())["files"] == 3
    return out


def replay(source: Path, out: Path, *options: str) -> int:
    return main([*BUNDLE, str(source), "--out", str(out), *OPTIONS, *options])


def summary(out: Path) -> dict[str, Any]:
    found = json.loads((out / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


def assert_equal(out: Path, whole: Path) -> None:
    """The same bytes, in the summary and in the bag."""
    assert summary(out)["complete"]
    assert summary(out)["topics"] == summary(whole)["topics"]
    assert summary(out)["cameras"] == summary(whole)["cameras"]
    digests = {topic: facts["sha256"] for topic, facts in summary(whole)["topics"].items()}
    assert topic_digests(Bag(out / "bag")).hex() == digests


def overwritten(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


# -- damage --------------------------------------------------------------------------------------------------------

DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "zeroed": ("bag_1.mcap", lambda path: overwritten(path, lambda data: bytes(len(data)))),
    "cut": ("bag_1.mcap", lambda path: overwritten(path, lambda data: data[: len(data) // 2])),
    "a flipped bit": (
        "bag_1.mcap",
        lambda path: overwritten(path, lambda data: data[:5000] + bytes([data[5000] ^ 4]) + data[5001:]),
    ),
    "emptied": ("bag_1.mcap", lambda path: path.write_bytes(b"")),
    "gone": ("bag_1.mcap", lambda path: path.unlink()),
    "longer": ("bag_1.mcap", lambda path: overwritten(path, lambda data: data + b"\0")),
    "of another place": ("bag_1.mcap", lambda path: shutil.copy(path.with_name("bag_0.mcap"), path)),
    "the first": ("bag_0.mcap", lambda path: path.write_bytes(b"")),
    "the last": ("bag_2.mcap", lambda path: path.write_bytes(b"")),
    "metadata of a file gone": (".bag_1.mcap.yaml", lambda path: path.unlink()),
    "metadata of a file changed": (".bag_1.mcap.yaml", lambda path: path.write_text("a: [")),
    "record gone": (".bag_1.mcap.state.json", lambda path: path.unlink()),
    "record cut": (".bag_1.mcap.state.json", lambda path: overwritten(path, lambda data: data[:200])),
    "record changed": (
        ".bag_1.mcap.state.json",
        lambda path: overwritten(path, lambda data: data.replace(b'"used": ', b'"used": 1')),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_not_as_it_was_written_ends_what_is_kept(damage: str, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    records, problem = replay_state.whole_files(out, 5)
    assert (len(records), problem) == (5, "")
    name, change = DAMAGE[damage]
    change(out / "bag" / name)
    kept, problem = replay_state.whole_files(out, 5)
    assert kept == records[: int(name.lstrip(".")[4])]
    assert name in problem
    assert replay_state.finished_summary(out) is None


@pytest.mark.parametrize(
    ("damage", "finished"), [("zeroed", False), ("a flipped bit", True), ("record changed", False), ("the last", True)]
)
def test_a_damaged_output_is_made_again_from_its_last_good_file_on(
    damage: str,
    finished: bool,
    drive: Path,
    whole: Path,
    interrupted: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole if finished else interrupted, out)
    name, change = DAMAGE[damage]
    change(out / "bag" / name)
    kept = int(name.lstrip(".")[4])
    assert replay(drive, out, "--resume") == 0
    said = " ".join(capfd.readouterr().err.split())
    assert f"the first {kept} are kept, and what follows is made again" in said
    assert f"{name}" in summary(out)["this_run"]["went_back"]
    assert_equal(out, whole)


@pytest.mark.parametrize("name", ["metadata.yaml", "bag_3.mcap"])
def test_what_can_be_made_of_the_rest_or_was_never_finished_is_no_damage(
    name: str, drive: Path, whole: Path, interrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(interrupted, out)
    (out / "bag" / name).write_text("no")
    if name == "bag_3.mcap":
        # As if the process had died after it had named the file, and before its record.
        with (out / LIST_FILE).open("a") as file:
            file.write(f'"bag/{name}"\n')
    assert replay(drive, out, "--resume") == 0
    assert summary(out)["this_run"]["went_back"] == ""
    assert_equal(out, whole)


def test_an_undamaged_one_goes_on_and_a_damaged_summary_is_written_again(
    drive: Path, whole: Path, interrupted: Path, tmp_path: Path
) -> None:
    shutil.copytree(interrupted, tmp_path / "a")
    assert replay(drive, tmp_path / "a", "--resume") == 0
    assert_equal(tmp_path / "a", whole)
    shutil.copytree(whole, tmp_path / "b")
    (tmp_path / "b" / "summary.json").write_text('{"complete": true}')
    assert replay(drive, tmp_path / "b", "--resume") == 0
    assert_equal(tmp_path / "b", whole)


def test_a_damaged_state_is_named_and_nothing_is_touched(
    drive: Path, interrupted: Path, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(interrupted, out)
    good = (out / "state.json").read_bytes()
    for bad in (
        b"",
        bytes(len(good)),
        good[: len(good) // 2],
        good.replace(b'"files": 3', b'"files": 2'),
        b"[" * 100_000,
        b"null",
        b"[]",
        f'{{"format": {replay_state.STATE_FORMAT}}}'.encode(),
        b"\xff\xfe",
    ):
        (out / "state.json").write_bytes(bad)
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
        for read in (replay_state.read_state, lambda out: replay_state.make_room(out, False, False)):
            with pytest.raises(replay_state.ReplayError, match=r"out/state\.json: is .* give another --out"):
                read(out)
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    assert replay(drive, out, "--resume") == 2
    assert f"{out}/state.json: is" in " ".join(capfd.readouterr().err.split())
    assert replay(drive, out, "--overwrite") == 0
    assert_equal(out, whole)


def test_every_finished_file_and_its_name_are_on_the_disk_before_the_state_names_it(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    assert replay(drive, tmp_path / "out") == 0
    bag = tmp_path / "out" / "bag"
    places = [[i for i, path in enumerate(synced) if name in path] for name in ("bag_1.mcap.state.json", "bag_1.mcap")]
    record, of_file = places[0][0], [i for i in places[1] if synced[i].endswith("/bag_1.mcap")]
    assert of_file
    assert of_file[-1] < record
    assert str(bag) in synced[of_file[-1] : record]
    assert str(bag) in synced[record:]
    assert str(tmp_path / "out") in synced[record:]


# -- what is in the way --------------------------------------------------------------------------------------------


def test_a_replay_into_the_folder_of_what_it_reads_is_refused_and_deletes_nothing(
    drive: Path, whole: Path, shipped_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert replay(drive, out, "--with-input") == 0
    shutil.copytree(shipped_bundle, tmp_path / "bundle")
    (tmp_path / "params.yaml").write_text("/**: {ros__parameters: {num_threads: 1}}")
    os.link(out / "bag" / "bag_0.mcap", tmp_path / "linked.mcap")
    (tmp_path / "linking").mkdir()
    (tmp_path / "linking" / "a.mcap").symlink_to(out / "bag" / "bag_0.mcap")
    before = sorted(tmp_path.rglob("*"))
    camera = ("--camera", "/front/image_raw")
    for source, folder, options in (
        (out / "bag", out, camera),
        (out / "bag" / "bag_0.mcap", out, camera),
        (out / "bag", out / "bag" / "new", camera),
        (tmp_path / "linked.mcap", out, camera),
        (tmp_path / "linking", out, camera),
        (drive, tmp_path / "bundle", ("--bundle", str(tmp_path / "bundle"))),
        (drive, tmp_path / "bundle" / "out", ("--bundle", str(tmp_path / "bundle"))),
        (drive, tmp_path, ("--params", str(tmp_path / "params.yaml"))),
        (drive, out, ("--compare", str(out))),
        (drive, out, ("--compare", str(out / "summary.json"))),
        (drive, drive, ()),
        (drive, tmp_path / "new", ("--rerun", str(next(drive.glob("*.mcap"))))),
    ):
        for overwrite in ((), ("--overwrite",), ("--resume",)):
            assert replay(source, folder, *options, *overwrite) == 2, folder
            assert "what is read" in capfd.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert drive.is_dir()


def test_a_folder_that_only_holds_a_state_is_not_taken_for_a_replays(
    drive: Path, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "thesis.txt").write_text("years of work")
    for content in ('{"terraform": true}', (whole / "state.json").read_text()):
        (tmp_path / "state.json").write_text(content)
        for options in ((), ("--overwrite",), ("--resume",)):
            assert replay(drive, tmp_path, *options) == 2
            assert "was not written by replay" in " ".join(capfd.readouterr().err.split())
    assert (tmp_path / "src" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["notes.txt", "bag/notes.txt", "worst/mine.png", "bag/bag_9.mcap"])
def test_a_users_own_file_among_the_results_is_named_and_stays(
    name: str, drive: Path, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    for options in ((), ("--overwrite",)):
        assert replay(drive, out, *options) == 2
        assert name.split("/")[0] in capfd.readouterr().err
    assert (out / name).read_text() == "mine"
    assert (out / "summary.json").is_file()


# -- what is short -------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_is_named_and_the_replay_goes_on_when_there_is_room(
    drive: Path, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two of four files fit. Where nothing can be mounted, a file may not grow beyond what a file needs."""
    # Compressed files are so small that the other files of the folder fill the disk.
    plain = ("--compression", "none")
    assert replay(drive, tmp_path / "plain", *plain) == 0
    size = (tmp_path / "plain" / "bag" / "bag_0.mcap").stat().st_size
    place = tmp_path / "small"
    place.mkdir()
    options = ("-t", "tmpfs", "-o", f"size={5 * size // 2}")
    if subprocess.run(["mount", *options, "none", place], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        out = place / "out"
        assert replay(drive, out, *plain) == 1
        said = " ".join(capfd.readouterr().err.split())
        assert "No space left on device" in said
        assert str(out) in said
        assert "--resume continues" in said
        assert not [path for path in out.rglob("*") if "part" in path.name or "unfinished" in path.name]
        assert json.loads((out / "state.json").read_text())["files"] in (1, 2)
        subprocess.run(["mount", "-o", f"remount,size={20 * size}", place], check=True)
        assert replay(drive, out, "--resume", *plain) == 0
        assert summary(out)["this_run"]["went_back"] == ""
        assert_equal(out, whole)
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        for folder in (out, place / "new"):
            assert replay(drive, folder) == 2
            assert "Read-only file system" in " ".join(capfd.readouterr().err.split())
        assert_equal(out, whole)
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("out", ["/proc/self/x", "/dev/null", "{}/file", "{}/file/x", "{}/" + "a" * 300])
def test_a_place_where_no_folder_can_be_is_named(
    out: str, drive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert replay(drive, Path(out.format(tmp_path))) == 2
    assert out.format(tmp_path)[-10:] in capfd.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


# -- who is left ---------------------------------------------------------------------------------------------------


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_no_process_of_a_killed_replay_is_left_and_its_stdout_is_closed(long_drive: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ros_ood_perception.replay", str(long_drive), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*command, *BUNDLE, *OPTIONS, "--jobs", "2"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "bag" / "bag_0.mcap").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.kill()
    # It ends when nobody has the other side open any more.
    assert process.stdout.read() == b""
    assert process.wait(10) == -signal.SIGKILL
    assert_gone(workers)


def assert_gone(processes: Sequence[int]) -> None:
    deadline = time.monotonic() + 20
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in processes if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def long_drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp("long") / "drive", 2000, size=(12, 16))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_started_for_a_process_ends_with_it(number: signal.Signals) -> None:
    code = (
        "import subprocess, sys, time; from ros_ood_perception.parent_process import ends_with_this_process as ends\n"
        "child = subprocess.Popen(ends([sys.executable, '-c', 'print(1, flush=True); import time; time.sleep(600)']))\n"
        "print(child.pid, flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    child = next(int(line) for line in lines if line.strip() != "1")
    process.send_signal(number)
    # Both hold it open.
    assert process.stdout.read() == ""
    process.wait(10)
    assert_gone([child])


# -- numbers -------------------------------------------------------------------------------------------------------

BAD_NUMBERS = (
    "nan",
    "-nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "",
    " ",
    "0x10",
    "1_0",
    "\u0661",
    "1,5",
    "--1",
    "9" * 5000,
    "\x1b[2J",
)
NUMBERS = (
    *("--start", "--stop", "--every", "--rate", "--jobs", "--threads", "--frames-per-file"),
    *("--min-class-agreement", "--min-class-iou", "--min-anomaly-iou", "--max-score-difference"),
    *("--max-obstacles-gained", "--max-obstacles-lost", "--max-frames-missing"),
)


def code_of(arguments: Sequence[str]) -> int:
    try:
        return main([*BUNDLE, *arguments])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("option", NUMBERS)
def test_a_number_that_is_none_or_cannot_be_is_bad_input(
    option: str, drive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for value in BAD_NUMBERS:
        assert code_of([str(drive), "--out", str(tmp_path / "out"), f"{option}={value}"]) == 2, value
        said = capfd.readouterr().err
        assert f"argument {option}: is" in said
        assert "\x1b" not in said
    for value in ("1e30", "100000000000000000000"):
        assert code_of([str(drive), "--out", str(tmp_path / "out"), f"{option}={value}"]) == 2, value
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        ("num_threads", (-5, -1, 257, 100000, 10**30)),
        ("max_image_pixels", (0, -1, 2**28 + 1)),
        ("engine_image_height", (0, 16385)),
        ("region.max_regions", (0, -3, 1025)),
        ("persistence.seen_frames", (0, 101)),
        ("anomaly_threshold", (".nan", ".inf", "-.inf", 1.5, -0.5, 10**400)),
        ("mounting.height_m", ("[.nan]", "[1.5, .inf]", "[-1]")),
        ("ground.max_range_m", (0, 1e6)),
    ],
)
def test_a_parameter_outside_its_declared_range_is_bad_input(
    parameter: str, values: Sequence[object], drive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for value in values:
        assert replay(drive, tmp_path / "out", "--set", f"{parameter}={value}") == 2
        assert parameter in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "value", ["!!timestamp x", "!!int ''", "!!bool maybe", "!!float x", "{<<: {a: 1}}", "[" * 2000, "=", "9" * 9999]
)
def test_a_value_that_yaml_fails_on_is_bad_input(
    value: str, drive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert replay(drive, tmp_path / "out", "--set", f"num_threads={value}") == 2
    assert "num_threads" in capfd.readouterr().err


def test_the_state_is_of_this_version(whole: Path) -> None:
    assert replay_state.read_state(whole)["format"] == replay_state.STATE_FORMAT
