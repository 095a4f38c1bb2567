"""Whether killed nodes, drivers and workers change the tables."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.fleet.recordings import THREADS, loop_tables, make_recordings
from fleet.storage.place import open_place
from fleet.tables.files import read_table, table_bytes
from fleet.tables.schema import DONE, FAILED, TABLES
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.replay.command_line.main import main as replay

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = "semantic_mask,anomaly_mask,anomaly_score,obstacle_detections"
"""Outputs whose digests are compared with those of the command `replay`."""
LOOK_S = 0.05


class Assassin:
    """Kills every process of a group of processes that has a recording open. A context manager.

    Args:
        recording: path of the recording.
        ancestor: only descendants of this process are killed.

    Attributes:
        killed: how many were.
    """

    def __init__(self, recording: str, ancestor: int) -> None:
        self._recording, self._ancestor = recording, ancestor
        self.killed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Assassin:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            for process in ray_workers(self._ancestor):
                if has_open(process, self._recording):
                    os.kill(process, signal.SIGKILL)
                    self.killed += 1
                    # Until the process is gone it would be counted again.
                    time.sleep(0.5)


def ray_workers(ancestor: int) -> list[int]:
    """Ids of the processes below another one that are Ray's workers."""
    parents: dict[int, int] = {}
    workers = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if (entry / "cmdline").read_bytes().startswith(b"ray::"):
                workers.append(int(entry.name))
        except OSError:
            continue

    def is_below(process: int) -> bool:
        while process in parents and process != ancestor:
            process = parents[process]
        return process == ancestor

    return [worker for worker in workers if is_below(worker)]


def has_open(process: int, recording: str) -> bool:
    """Whether a process has a file of a recording open."""
    try:
        return any(
            os.readlink(f"/proc/{process}/fd/{number}").startswith(recording)
            for number in os.listdir(f"/proc/{process}/fd")
        )
    except OSError:
        return False


def measure_faults(options: Namespace) -> int:
    """Run it all; returns the exit code."""
    names = make_recordings(options)
    print(f"{len(names)} recordings")
    loop = options.work / "loop"
    began = time.monotonic()
    loop_tables(options, names, loop, OUTPUTS)
    print(f"loop without Ray: {time.monotonic() - began:.0f} s")
    wrong = _compare_with_replay(options, names, loop)
    out = options.work / "tables"
    shutil.rmtree(out, ignore_errors=True)
    victim = names[len(names) // 3]
    killed = _run_with_faults(options, out, len(names), victim)
    print(f"killed: a node, the driver, {killed} workers on {victim}")
    wrong += _compare_tables(loop, out, victim)
    print("as it must be" if not wrong else f"{wrong} differences")
    return 1 if wrong else 0


def _compare_with_replay(options: Namespace, names: Sequence[str], loop: Path) -> int:
    """Compare the digests of the loop's tables with those of `replay` for each recording."""
    rows = {row["recording"]: row for row in read_table(open_place(str(loop)), "recordings").to_pylist()}
    out, wrong, compared = options.work / "replay", 0, 0
    for name in names:
        arguments = [name, "--bundle", str(options.bundle), "--out", str(out), "--outputs", OUTPUTS, *THREADS]
        replay([*arguments, "--overwrite"])
        summary = json.loads((out / "summary.json").read_text())
        outputs = {output["topic"]: output["sha256"] for output in rows[name]["outputs"]}
        wrong += outputs != {topic: facts["sha256"] for topic, facts in summary["topics"].items()}
        fates = {camera["topic"]: camera for camera in rows[name]["cameras"]}
        for camera in summary["cameras"]:
            wrong += any(fates[camera["image"]][fate] != count for fate, count in camera["accounting"].items())
        compared += len(outputs)
        assert (out / BAG_FOLDER).is_dir()
    print(f"{compared} digests of outputs of {len(names)} recordings compared with those of replay: {wrong} differ")
    return wrong


def _run_with_faults(options: Namespace, out: Path, count: int, victim: str) -> int:
    """Run on three nodes with faults; returns the number of workers that were killed."""
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = str(ROOT)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 10**8})
    lost = cluster.add_node(num_cpus=1, object_store_memory=10**8)
    cluster.add_node(num_cpus=1, object_store_memory=10**8)
    command = [sys.executable, "-m", "fleet.mine", str(options.work / "recordings"), "--bundle", str(options.bundle)]
    command += ["--out", str(out), "--outputs", OUTPUTS, "--address", cluster.address, "--memory-per-task", "0"]
    try:
        with Assassin(victim, os.getpid()) as assassin:
            driver = subprocess.Popen(command, cwd=ROOT)
            _wait_for(out, count // 4, driver)
            print("kills a node")
            cluster.remove_node(lost, allow_graceful=False)
            _wait_for(out, count // 2, driver)
            print("kills the driver")
            driver.kill()
            driver.wait()
            print(f"{_finished(out)} recordings are finished; the same command again")
            began = time.monotonic()
            code = subprocess.run(command, cwd=ROOT, check=False).returncode
            print(f"exit code {code} after {time.monotonic() - began:.0f} s")
            return assassin.killed
    finally:
        cluster.shutdown()


def _finished(out: Path) -> int:
    folder = out / "recordings"
    return len([path for path in folder.iterdir() if path.suffix == ".parquet"]) if folder.is_dir() else 0


def _wait_for(out: Path, count: int, driver: subprocess.Popen[bytes]) -> None:
    while _finished(out) < count:
        if driver.poll() is not None:
            raise SystemExit(f"the driver ended early, with exit code {driver.returncode}")
        time.sleep(0.1)


def _compare_tables(loop: Path, out: Path, victim: str) -> int:
    """Compare the tables, byte for byte after sorting; returns the number of differences."""
    wrong = 0
    ours, theirs = open_place(str(out)), open_place(str(loop))
    failed = [row for row in read_table(ours, "recordings").to_pylist() if row["state"] == FAILED]
    print(f"failed: {[(row['recording'], row['reason']) for row in failed]}")
    wrong += [row["recording"] for row in failed] != [victim]
    for table in TABLES:
        if not table.is_repeatable:
            continue
        found, wanted = _without(read_table(ours, table.name), victim), _without(read_table(theirs, table.name), victim)
        same = table_bytes(found) == table_bytes(wanted)
        print(f"{table.name}: {found.num_rows} rows, {'the same bytes as the loop' if same else 'DIFFERENT'}")
        wrong += not same
        if table.name == "recordings":
            wrong += set(found["state"].to_pylist()) != {DONE}
    return wrong


def _without(table: Any, recording: str) -> Any:
    """The rows of other recordings."""
    keep = [name != recording for name in table["recording"].to_pylist()]
    return table.filter(keep)
