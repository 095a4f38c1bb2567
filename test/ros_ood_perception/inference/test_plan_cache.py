from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.inference.parity import Parity
from ros_ood_perception.inference.tensorrt.plan_cache import PlanCache, PlanKey, PlanRejected, default_folder

KEY = PlanKey(
    model_sha256="a" * 64,
    tensorrt_version="10.3.0.30",
    gpu="Orin",
    compute_capability=(8, 7),
    precision="fp16",
    image_size=(1080, 1920),
    batch=1,
    flags=("1", "strongly_typed"),
)
PARITY = Parity(2, 0.9991, 0.01, 1e-4)


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans")


def test_a_plan_reads_back_with_what_was_measured(cache: PlanCache) -> None:
    cache.store(KEY, b"plan", 61.04, PARITY)
    found = cache.read(KEY)
    assert found.plan == b"plan"
    assert (found.sidecar.parity, found.sidecar.build_seconds, found.sidecar.key) == (PARITY, 61.0, KEY)
    assert not list(cache.folder.glob("*.part"))


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": "b" * 64},
        {"tensorrt_version": "10.3.0.31"},
        {"gpu": "Thor"},
        {"compute_capability": (11, 0)},
        {"precision": "fp32"},
        {"image_size": (720, 1280)},
        {"batch": 3},
        {"flags": ("2", "strongly_typed")},
    ],
)
def test_whatever_the_plan_depends_on_makes_another_key(cache: PlanCache, change: dict[str, Any]) -> None:
    cache.store(KEY, b"plan", 1.0, PARITY)
    other = replace(KEY, **change)
    assert other.digest != KEY.digest
    with pytest.raises(PlanRejected, match="not there"):
        cache.read(other)


def test_the_key_is_the_same_in_every_process() -> None:
    # Of a key that a vehicle may have on its disk: a change here makes every vehicle build anew.
    assert KEY.digest == "720379a312d49aba3d13521a2529b146fb5c8659bf403896aa21202db38886c1"


def test_timings_are_shared_by_models_and_not_by_gpus(cache: PlanCache) -> None:
    assert cache.timings(KEY) == b""
    cache.store_timings(KEY, b"timings")
    assert cache.timings(replace(KEY, model_sha256="b" * 64, precision="int8")) == b"timings"
    assert cache.timings(replace(KEY, gpu="Thor")) == b""
    assert cache.timings(replace(KEY, tensorrt_version="11.4.0")) == b""


def spoil_plan(cache: PlanCache) -> None:
    cache.plan_path(KEY).write_bytes(b"plam")


def cut_plan(cache: PlanCache) -> None:
    cache.plan_path(KEY).write_bytes(b"")


def other_key(cache: PlanCache) -> None:
    path = cache.sidecar_path(KEY)
    path.write_text(path.read_text().replace("Orin", "Thor"))


def other_format(cache: PlanCache) -> None:
    path = cache.sidecar_path(KEY)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))


def unknown_field(cache: PlanCache) -> None:
    path = cache.sidecar_path(KEY)
    path.write_text(json.dumps({**json.loads(path.read_text()), "trust": "me"}))


def no_json(cache: PlanCache) -> None:
    cache.sidecar_path(KEY).write_text("{")


def deep_json(cache: PlanCache) -> None:
    cache.sidecar_path(KEY).write_text("[" * 60_000)


def no_text(cache: PlanCache) -> None:
    cache.sidecar_path(KEY).write_bytes(b"\xff\xfe")


def no_sidecar(cache: PlanCache) -> None:
    cache.sidecar_path(KEY).unlink()


def no_plan(cache: PlanCache) -> None:
    cache.plan_path(KEY).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_plan, "SHA-256 is .* its sidecar says"),
        (cut_plan, "SHA-256 is .* its sidecar says"),
        (other_key, "about another plan than its name says"),
        (other_format, "format is 2, this version reads 1"),
        (unknown_field, r"unknown key\(s\) trust"),
        (no_json, "not readable"),
        (deep_json, "not readable"),
        (no_text, "not readable"),
        (no_sidecar, "not there"),
        (no_plan, "not there"),
    ],
)
def test_what_does_not_match_is_rejected_with_the_reason(cache: PlanCache, spoil: Any, message: str) -> None:
    cache.store(KEY, b"plan", 1.0, PARITY)
    spoil(cache)
    with pytest.raises(PlanRejected, match=message):
        cache.read(KEY)
    cache.store(KEY, b"plan", 1.0, PARITY)
    assert cache.read(KEY).plan == b"plan"


def test_a_build_that_ends_between_the_two_files_leaves_nothing_to_trust(cache: PlanCache) -> None:
    cache.store(KEY, b"old", 1.0, PARITY)
    cache.plan_path(KEY).write_bytes(b"new")  # the sidecar is written after it
    with pytest.raises(PlanRejected, match="SHA-256"):
        cache.read(KEY)


def test_a_folder_whose_path_leads_elsewhere_after_the_check_is_still_the_one_that_was_checked(tmp_path: Path) -> None:
    checked, other, path = tmp_path / "checked", tmp_path / "other", tmp_path / "plans"
    checked.mkdir(0o700)
    other.mkdir(0o777)
    path.symlink_to(checked)
    cache = PlanCache(path)
    cache.store(KEY, b"plan", 1.0, PARITY)
    # What somebody else would have there: a plan that holds code, with a sidecar that says it is right.
    foreign = PlanCache(tmp_path / "foreign")
    foreign.store(KEY, b"code", 1.0, PARITY)
    for file in foreign.folder.iterdir():
        file.rename(other / file.name)
    path.unlink()
    path.symlink_to(other)
    assert cache.read(KEY).plan == b"plan"
    cache.store(KEY, b"newer plan", 1.0, PARITY)
    cache.store_timings(KEY, b"timings")
    with cache.lock(KEY, print):
        pass
    assert cache.read(KEY).plan == b"newer plan"
    assert (checked / cache.plan_path(KEY).name).read_bytes() == b"newer plan"
    assert (other / cache.plan_path(KEY).name).read_bytes() == b"code"
    assert len(list(other.iterdir())) == 2


@pytest.mark.parametrize("kind", ["plan", "json"])
def test_a_file_that_is_a_link_a_pipe_or_anybodys_is_rejected(cache: PlanCache, tmp_path: Path, kind: str) -> None:
    cache.store(KEY, b"plan", 1.0, PARITY)
    path = cache.plan_path(KEY) if kind == "plan" else cache.sidecar_path(KEY)
    contents = path.read_bytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(contents)
    path.unlink()
    path.symlink_to(elsewhere)
    with pytest.raises(PlanRejected, match=rf"plans/.*\.{kind}: is a symbolic link"):
        cache.read(KEY)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PlanRejected, match=rf"\.{kind}: is a named pipe"):
        cache.read(KEY)
    path.unlink()
    path.write_bytes(contents)
    for mode in (0o620, 0o602):
        path.chmod(mode)
        with pytest.raises(PlanRejected, match=rf"\.{kind}: other users can write to it"):
            cache.read(KEY)
    path.chmod(0o600)
    assert cache.read(KEY).plan == b"plan"


def test_what_is_written_follows_no_link_and_is_closed_to_others(cache: PlanCache, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    names = [path.name for path in (cache.plan_path(KEY), cache.sidecar_path(KEY))]
    for name in (*names, *(f".{name}.{os.getpid()}.part" for name in names)):
        (cache.folder / name).symlink_to(victim)
    cache.store(KEY, b"plan", 1.0, PARITY)
    assert cache.read(KEY).plan == b"plan"
    (cache.folder / f"{KEY.digest}.lock").symlink_to(victim)
    with pytest.raises(EngineError, match=r"\.lock: cannot be written"), cache.lock(KEY, print):
        pass
    assert victim.read_bytes() == b"untouched"
    assert all(path.stat().st_mode & 0o077 == 0 for path in cache.folder.iterdir() if not path.is_symlink())


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(EngineError, match="other users can write to this folder"):
        PlanCache(folder)


def test_a_folder_of_ours_is_closed_to_others(cache: PlanCache) -> None:
    assert cache.folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"file/plans: the folder for TensorRT plans cannot be made"):
        PlanCache(tmp_path / "file" / "plans")


def test_the_folder_is_the_users_unless_another_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ROS_OOD_PERCEPTION_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "ros_ood_perception"
    monkeypatch.setenv("ROS_OOD_PERCEPTION_CACHE", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"


HOLD = """
import sys, time
from pathlib import Path
from ros_ood_perception.inference.tensorrt.plan_cache import PlanCache, PlanKey
with PlanCache(Path(sys.argv[1])).lock(eval(sys.argv[2]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_builds_and_the_other_says_that_it_waits(cache: PlanCache) -> None:
    command = [sys.executable, "-c", HOLD, str(cache.folder), repr(KEY)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    said: list[str] = []

    def told(text: str) -> None:
        said.append(text)
        # The lock goes with its process, however that ends.
        holder.kill()

    with cache.lock(KEY, told):
        assert holder.wait(30) == -signal.SIGKILL
    assert said == ["another process builds this TensorRT plan: waiting for it"]
    with cache.lock(replace(KEY, batch=2), told), cache.lock(KEY, told):
        assert len(said) == 1
