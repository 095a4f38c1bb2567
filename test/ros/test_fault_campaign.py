"""The short form of `python -m benchmark.faults --rounds 300`, and that its checks see what they are there for."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench import ROOT

from benchmark.faults.frames import CAMERAS, POOL_SIZE, TRANSPORTS
from benchmark.faults.graph import Graph
from benchmark.faults.plan import FAULTS, SELF_CHECK, plan
from benchmark.faults.processes.sender import Sent
from benchmark.faults.processes.watcher import Report, Result
from benchmark.faults.topics import MASK, SCORE, SEMANTIC
from benchmark.faults.verdict.accounting import Accounting
from benchmark.faults.verdict.checks import ResultCheck, SentFrames, Thresholds
from benchmark.faults.verdict.expected import Expected
from ros_ood_perception.pipeline.fates import SENT_FATES

pytestmark = pytest.mark.alone

FIXED_FAULTS = ("node_killed", "camera_killed", "hostile_camera", "parameters", "engine", SELF_CHECK)


def test_after_each_fault_sums_are_exact_masks_are_the_replays_and_the_node_is_back(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    from brightness_bundle import write_brightness_bundle

    bundle = write_brightness_bundle(tmp_path / "bundle", full_scale=255)
    command = [sys.executable, "-m", "benchmark.faults", "--seed", "3", "--rounds", str(len(FIXED_FAULTS))]
    command += ["--faults", ",".join(FIXED_FAULTS), "--pairs", "0", "--respawn-delay", "0.5", "--rate", "5"]
    command += ["--bundle", str(bundle), "--out", str(tmp_path / "out"), "--json", str(tmp_path / "faults.json")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert (tmp_path / "faults.json").is_file(), run.stdout + run.stderr[-4000:]
    results = json.loads((tmp_path / "faults.json").read_text())["results"]
    assert {result["title"] for result in results} == set(FIXED_FAULTS)
    for result in results:
        assert set(result["recovery_s"]) == set(CAMERAS), run.stdout
        kinds = {problem["kind"] for problem in result["problems"]}
        # Where the engine gives the results of another frame, the campaign must see it, and fail.
        assert kinds == ({"wrong"} if result["title"] == SELF_CHECK else set()), run.stdout
    assert run.returncode == 1, run.stdout + run.stderr[-2000:]


def test_the_same_seed_gives_the_same_faults_and_every_fault_comes() -> None:
    assert plan(5, 40) == plan(5, 60)[:40]
    assert plan(5, 40) != plan(6, 40)
    assert {planned.faults[0].name for planned in plan(5, len(FAULTS))} == set(FAULTS)


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """None of its processes runs; each camera has been started once."""
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path))
    graph = Graph(tmp_path, tmp_path, (2, 3), 1.0, 1.0, {})
    for camera in graph.cameras.values():
        camera.started = 1
    return graph


def write_sent(graph: Graph, camera: str, *sent: Sent) -> None:
    with (graph.folder / f"{camera}_1.sent").open("a") as file:
        for s in sent:
            line = f"{s.transport} {s.number} {s.stamp[0]} {s.stamp[1]} {s.index} {s.kind} {int(s.sent_at * 1e9)}"
            file.write(f"{line}\n")


def results_of(seed: int) -> Expected:
    generator = np.random.default_rng(seed)
    semantic = generator.integers(0, 9, (2, 3), np.uint8)
    score = generator.random((2, 3), np.float32)
    return Expected(semantic, score, np.zeros((2, 3), np.uint8))


def test_a_result_of_another_frame_threshold_stamp_or_camera_is_seen(graph: Graph) -> None:
    keys = [(camera, transport, index) for camera in CAMERAS for transport in TRANSPORTS for index in range(POOL_SIZE)]
    expected = {key: results_of(number) for number, key in enumerate(keys)}
    good = Sent("raw", 1, (10, 1), 0, "good", 100.0)
    cut = Sent("raw", 2, (10, 2), 1, "cut_data", 100.1)
    write_sent(graph, "front", good, cut)
    write_sent(graph, "left", replace(good, stamp=(20, 1)))
    thresholds = Thresholds(0.5)
    thresholds.may_hold(0.2, 101.0)
    thresholds.holds(0.2, 102.0)
    right = expected["front", "raw", 0]

    def problem(output: str, data: bytes, stamp: tuple[int, int] = (10, 1), at: float = 100.5) -> str | None:
        encoding = "32FC1" if output == SCORE else "mono8"
        result = Result("front", output, stamp, 2, 3, encoding, data, b"", at)
        return ResultCheck(SentFrames(graph), expected, thresholds).problem(result)

    assert problem(SEMANTIC, right.semantic.tobytes()) is None
    assert problem(SCORE, right.score.tobytes()) is None
    assert problem(MASK, right.mask_at(0.5)) is None
    assert "not what the replay gives" in str(problem(MASK, right.mask_at(0.2)))
    # In inference while the parameter changed: either may hold.
    assert problem(MASK, right.mask_at(0.2), at=101.5) is None
    assert problem(MASK, right.mask_at(0.5), at=101.5) is None
    for other in ("front", "raw", 1), ("front", "compressed", 0), ("left", "raw", 0):
        assert "not what the replay gives" in str(problem(SCORE, expected[other].score.tobytes()))
    assert "no frame with that stamp" in str(problem(SEMANTIC, right.semantic.tobytes(), (20, 1)))
    assert "holds no image" in str(problem(SEMANTIC, right.semantic.tobytes(), (10, 2)))


def test_a_frame_that_the_node_did_not_count_is_seen(graph: Graph) -> None:
    complaints: list[str] = []
    accounting = Accounting(SentFrames(graph), complaints.append)

    def report(sent: int, **fates: int) -> Report:
        counts = {**dict.fromkeys((*SENT_FATES, "in_progress"), 0), **fates, "sent": sent}
        return Report({"state": "active", **{name: str(count) for name, count in counts.items()}}, b"node", 0.0)

    def close(number: int, sent: int, **fates: int) -> None:
        frame = Sent("raw", number, (number, 0), 0, "good", float(number))
        write_sent(graph, "front", frame)
        accounting.on_report("front", report(sent, **fates))
        accounting.close("front", ("front_1", frame), 0.0, report(sent, **fates), 1)

    close(1, 1, published=1)
    close(2, 2, published=2)
    assert (complaints, accounting.exact) == ([], 1)
    # Number 4 is lost on its way, and the node has not noticed.
    write_sent(graph, "front", Sent("raw", 3, (3, 0), 0, "good", 3.0))
    close(4, 3, published=3)
    assert complaints.pop() == "front: 'sent' grew by 1, the camera sent 2"
    accounting.on_report("front", report(5, published=4))
    assert "do not add up" in complaints.pop()
    accounting.on_report("front", report(4, published=4))
    assert "went back" in complaints.pop()
    # A clean-up that was refused changes nothing, one that was done lets the counts begin anew.
    accounting.cleaned_up(False)
    close(5, 4, published=4)
    accounting.cleaned_up(True)
    accounting.on_report("front", report(4, published=4))
    close(6, 1, published=1)
    close(7, 2, published=2)
    assert complaints == []
