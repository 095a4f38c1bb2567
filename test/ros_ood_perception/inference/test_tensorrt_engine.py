"""The TensorRT engine on stand-ins for the driver's library and for TensorRT; all between them is the real thing."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from stand_in_tensorrt import Recorder, stand_in_tensorrt

from ros_ood_perception import build_engine
from ros_ood_perception.bundle.model_bundle import ANOMALY_AT_LOGITS, Bundle, read_bundle, write_bundle
from ros_ood_perception.inference.engine import EngineError, GpuOptions, ImageSizeError
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.parity import fixed_frames
from ros_ood_perception.inference.tensorrt import cuda_driver
from ros_ood_perception.inference.tensorrt.engine import TensorRtEngine
from ros_ood_perception.inference.tensorrt.plan import open_tensorrt

SIZE = (120, 160)
VERSIONS = ("8.6.1", "10.3.0.30", "11.4.0.106")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to make the stand-in for the NVIDIA driver's library")
    path = tmp_path_factory.mktemp("driver") / "libcuda_stand_in.so"
    source = Path(__file__).with_name("stand_in_cuda.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", str(source), "-o", str(path)], check=True)
    return path


@dataclass
class Machine:
    """A vehicle with a GPU that is none."""

    driver: ctypes.CDLL
    recorder: Recorder
    cache: Path
    said: list[str]
    install: Callable[[str], None]

    def options(self, **changes: Any) -> GpuOptions:
        given: dict[str, Any] = {"precision": "fp32", "image_size": SIZE, "build": True, "cache": self.cache}
        return GpuOptions(**given | changes, log=self.said.append)


@pytest.fixture
def machine(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    driver = ctypes.CDLL(str(library))
    driver.stand_in_reset(1)
    monkeypatch.setattr(cuda_driver, "LIBRARY", str(library))
    recorder = Recorder(driver)

    def install(version: str) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", stand_in_tensorrt(version, recorder))

    install("10.3.0.30")
    yield Machine(driver, recorder, tmp_path / "plans", [], install)
    assert driver.stand_in_live() == 0, "something on the GPU was not given back"


@pytest.fixture(scope="module")
def opened(bundle: Path) -> Bundle:
    return read_bundle(bundle)


def images(count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.stack(fixed_frames(*size, count))


def assert_same(engine: TensorRtEngine, opened: Bundle, frames: np.ndarray, score: float = 1e-5) -> None:
    reference = OnnxRuntimeEngine(opened)
    expected, found = reference.run(frames), engine.run(frames)
    assert (expected.semantic == found.semantic).mean() > 0.9999
    assert np.abs(expected.anomaly_score - found.anomaly_score).max() <= score
    reference.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_built_once_then_taken_from_the_cache_and_right_both_times(
    machine: Machine, opened: Bundle, version: str
) -> None:
    machine.install(version)
    for origin in ("plan built in", "plan from the cache"):
        engine, details = open_tensorrt(opened, machine.options())
        assert details.startswith(f"TensorRT {version} fp32 on Stand-in GPU (8.7), up to 1 x 120x160, {origin}")
        assert "of the labels agree on 2 frames" in details
        assert_same(engine, opened, images(2))
        engine.close()
        engine.close()  # twice is as good as once
    assert len(machine.recorder.builds) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_half_precision_is_the_typed_graph_and_the_score_stays_float32(
    machine: Machine, opened: Bundle, version: str
) -> None:
    machine.install(version)
    engine, _ = open_tensorrt(opened, machine.options(precision="fp16"))
    assert_same(engine, opened, images(1), score=0.05)
    engine.close()
    [build] = machine.recorder.builds
    if version.startswith("8."):
        assert build["flags"] == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
        assert {"Exp", "Log", "ReduceSum", "ReduceMax", "Clip"} <= set(build["pinned"])
        assert build["unpinned"] == ["Cast", "Constant"]
        # Of the convolutions only the one that up-samples the logits is float32.
        assert build["pinned_convolutions"] == 1
        assert build["tactics"] == 0b11000
        assert build["shape"] == [1, 120, 160, 3]
    else:
        assert (build["flags"], build["pinned"], build["tactics"]) == ([], [], None)
        assert build["profiles"] == [{"image": ((1, 1, 1, 3), (1, 120, 160, 3), (1, 120, 160, 3))}]


def test_more_images_than_the_batch_are_run_batch_by_batch(machine: Machine, opened: Bundle) -> None:
    engine, _ = open_tensorrt(opened, machine.options(batch=3))
    before = machine.recorder.executed
    assert_same(engine, opened, images(7))
    assert machine.recorder.executed - before == 3
    engine.close()


def test_smaller_frames_run_and_larger_ones_are_refused_with_the_remedy(machine: Machine, opened: Bundle) -> None:
    engine, _ = open_tensorrt(opened, machine.options())
    assert_same(engine, opened, images(1, (60, 90)))
    assert_same(engine, opened, images(2))
    with pytest.raises(
        EngineError, match=r"takes images \(N, 120, 160, 3\) uint8 or smaller; these are \(1, 121, 160, 3\)"
    ):
        engine.run(np.zeros((1, 121, 160, 3), np.uint8))
    with pytest.raises(EngineError, match="float32"):
        engine.run(np.zeros((1, 120, 160, 3), np.float32))  # type: ignore[arg-type]
    engine.close()


def test_on_8_6_a_part_of_a_batch_runs_and_other_sizes_do_not(machine: Machine, opened: Bundle) -> None:
    machine.install("8.6.1")
    engine, _ = open_tensorrt(opened, machine.options(batch=3))
    assert_same(engine, opened, images(4))
    # Not a fault of the engine, which other cameras go on with.
    with pytest.raises(ImageSizeError, match="build_engine --size"):
        engine.run(np.zeros((1, 60, 90, 3), np.uint8))
    engine.close()


def test_the_second_run_of_a_shape_is_recorded_and_the_third_replayed(machine: Machine, opened: Bundle) -> None:
    engine, _ = open_tensorrt(opened, machine.options())
    launched = machine.driver.stand_in_launched
    engine.run(images(1, (60, 90)))
    assert not engine.uses_graph
    for _ in range(2):
        before = launched()
        assert_same(engine, opened, images(1, (60, 90)))
        assert engine.uses_graph
        assert launched() == before + 1
    # Other frames of the same shape go through the same graph, and another shape gets one of its own.
    other = images(1, (60, 90))[:, ::-1].copy()
    assert_same(engine, opened, other)
    assert_same(engine, opened, images(1, (64, 90)))
    assert not engine.uses_graph
    engine.close()


def test_kernels_that_cannot_be_recorded_run_without_a_graph(machine: Machine, opened: Bundle) -> None:
    machine.driver.stand_in_refuse_capture(1)
    engine, _ = open_tensorrt(opened, machine.options())
    for _ in range(3):
        assert_same(engine, opened, images(1))
    assert not engine.uses_graph
    engine.close()


def test_an_engine_opened_in_one_thread_runs_in_another(machine: Machine, opened: Bundle) -> None:
    engine, _ = open_tensorrt(opened, machine.options())
    failures: list[BaseException] = []

    def work() -> None:
        try:
            assert_same(engine, opened, images(1))
        except BaseException as error:  # shown in the thread that can fail the test
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    engine.close()


def test_an_older_graph_without_the_named_score_gives_the_large_one(
    machine: Machine, opened: Bundle, tmp_path: Path
) -> None:
    model = onnx.load_from_string(opened.model)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == ANOMALY_AT_LOGITS:
                    names[index] = "clipped"
    old = write_bundle(tmp_path / "old", opened.description, model.SerializeToString())
    engine, _ = open_tensorrt(old, machine.options())
    assert_same(engine, opened, images(2))
    engine.close()


def test_the_stages_are_measured_on_the_gpus_clock(machine: Machine, opened: Bundle) -> None:
    engine, _ = open_tensorrt(opened, machine.options())
    times = engine.measure(images(1), 4)
    assert len(times) == 4
    assert all(t.compute > t.to_device >= 0 and t.to_host >= 0 for t in times)
    engine.close()


# -- the gate ----------------------------------------------------------------------------------------------------


def shift_scores(outputs: dict[str, np.ndarray]) -> None:
    outputs[ANOMALY_AT_LOGITS][:] = np.clip(outputs[ANOMALY_AT_LOGITS] - 0.01, 0, 1)


def no_scores(outputs: dict[str, np.ndarray]) -> None:
    outputs[ANOMALY_AT_LOGITS][0, 0, 3, 3] = np.nan


def other_labels(outputs: dict[str, np.ndarray]) -> None:
    outputs["semantic"][:, :2] += 1


@pytest.mark.parametrize("spoil", [shift_scores, no_scores, other_labels])
def test_a_plan_that_computes_something_else_is_refused_with_the_numbers_and_not_kept(
    machine: Machine, opened: Bundle, spoil: Callable[[dict[str, np.ndarray]], None]
) -> None:
    machine.recorder.spoil = spoil
    with pytest.raises(EngineError, match=r"is not used: it differs .*of the labels agree on 2 frames.*needed are"):
        open_tensorrt(opened, machine.options())
    assert not list(machine.cache.glob("*.plan"))


def test_a_plan_from_the_cache_passes_the_gate_too(machine: Machine, opened: Bundle) -> None:
    open_tensorrt(opened, machine.options())[0].close()
    machine.recorder.spoil = other_labels
    with pytest.raises(EngineError, match="is not used"):
        open_tensorrt(opened, machine.options())


# -- cache and building ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".plan", ".json"])
def test_a_changed_plan_or_sidecar_is_built_anew_and_never_deserialised(
    machine: Machine, opened: Bundle, ending: str
) -> None:
    open_tensorrt(opened, machine.options())[0].close()
    [path] = machine.cache.glob(f"*{ending}")
    path.write_bytes(path.read_bytes().replace(b"Stand-in" if ending == ".json" else b"STAND-IN", b"HOSTILE!"))
    deserialised = machine.recorder.deserialised
    with pytest.raises(EngineError, match=r"no TensorRT plan for this bundle.*build_engine"):
        open_tensorrt(opened, machine.options(build=False))
    assert machine.recorder.deserialised == deserialised
    open_tensorrt(opened, machine.options())[0].close()
    assert len(machine.recorder.builds) == 2
    assert machine.recorder.deserialised == deserialised + 1


def test_without_a_plan_the_command_that_builds_it_is_named(machine: Machine, opened: Bundle) -> None:
    with pytest.raises(
        EngineError, match=r"ros2 run ros_ood_perception build_engine .*--precision fp32 --size 120x160"
    ):
        open_tensorrt(opened, machine.options(build=False))
    assert machine.recorder.builds == []


def test_another_version_of_tensorrt_builds_a_plan_of_its_own(machine: Machine, opened: Bundle) -> None:
    for version in ("10.3.0.30", "10.3.0.31", "10.3.0.30"):
        machine.install(version)
        open_tensorrt(opened, machine.options())[0].close()
    assert [build["version"] for build in machine.recorder.builds] == ["10.3.0.30", "10.3.0.31"]


def test_timings_of_one_build_speed_up_the_next(machine: Machine, opened: Bundle) -> None:
    for precision in ("fp32", "fp16"):
        open_tensorrt(opened, machine.options(precision=precision))[0].close()
    assert [build["timings"] for build in machine.recorder.builds] == ["", "timed "]


def test_a_precision_that_the_bundle_lacks_says_how_to_get_it(machine: Machine, opened: Bundle) -> None:
    with pytest.raises(EngineError, match=r"has no int8 graph of 96x128 \(it has fp32, fp16\); export it with"):
        open_tensorrt(opened, machine.options(precision="int8"))


def test_a_graph_that_was_changed_after_the_bundle_was_read_is_not_built(
    machine: Machine, bundle: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / "changed"))
    changed = read_bundle(folder)
    (folder / "model_fp16.onnx").write_bytes(b"another graph")
    with pytest.raises(EngineError, match=r"model_fp16\.onnx: SHA-256 is"):
        open_engine(changed, "tensorrt", gpu=machine.options(precision="fp16"))
    assert machine.recorder.builds == []


def test_a_plan_that_cannot_be_kept_is_an_error_and_leaves_nothing_on_the_gpu(
    machine: Machine, opened: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: object, target: object, **folders: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ros_ood_perception.inference.tensorrt.plan_cache.os.replace", full)
    with pytest.raises(EngineError, match="No space left on device"):
        open_tensorrt(opened, machine.options())


def test_memory_that_runs_out_is_said_and_given_back(machine: Machine, opened: Bundle) -> None:
    machine.driver.stand_in_fail(b"cuMemAlloc_v2")
    with pytest.raises(EngineError, match=r"'out of memory' \(2\) to cuMemAlloc_v2"):
        open_tensorrt(opened, machine.options())


@pytest.mark.parametrize("refused", ["cuStreamSynchronize", "cuCtxSetCurrent"])
def test_what_the_driver_refuses_at_the_end_is_said_and_the_rest_is_given_back(
    machine: Machine, opened: Bundle, refused: str
) -> None:
    engine, _ = open_tensorrt(opened, machine.options())
    assert machine.driver.stand_in_live() > 1
    machine.driver.stand_in_fail(refused.encode())
    with pytest.raises(EngineError, match=f"'out of memory' .* to {refused}"):
        engine.close()
    assert machine.driver.stand_in_live() == 0
    engine.close()  # once is enough


@pytest.mark.parametrize("version", ["8.5.3", "9.2.0", "7.1.3"])
def test_other_versions_are_refused(machine: Machine, opened: Bundle, version: str) -> None:
    import tensorrt  # type: ignore[import-not-found]

    tensorrt.__version__ = version
    with pytest.raises(EngineError, match=f"TensorRT is {version}"):
        open_tensorrt(opened, machine.options())


# -- several input sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_each_size_that_frames_can_reach_has_a_plan(
    machine: Machine, bundle_of_two_sizes: Path, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    machine.install(version)
    opened = read_bundle(bundle_of_two_sizes)
    # TensorRT 8.6 takes frames of 120x160 only, and these take the first size.
    reached = opened.description.input.sizes[: 1 if version == "8.6.1" else 2]
    command = [str(bundle_of_two_sizes), "--precision", "fp32", "--size", "120x160", "--cache", str(machine.cache)]
    assert build_engine.main(command) == 0
    said = capsys.readouterr().out
    assert [f"{height}x{width}: TensorRT" in said for height, width in opened.description.input.sizes] == [
        size in reached for size in opened.description.input.sizes
    ]
    engine = open_engine(opened, "tensorrt", gpu=machine.options(build=False))
    reference = open_engine(opened, "onnxruntime")
    for size in (SIZE, (60, 150))[: len(reached)]:
        found, expected = engine.run(images(1, size)), reference.run(images(1, size))
        assert found.semantic.shape == (1, *opened.description.input.size_for(size))
        assert (expected.semantic == found.semantic).mean() > 0.9999
    engine.close()
    assert len(machine.recorder.builds) == len(reached)


def test_a_size_that_cannot_be_opened_leaves_nothing_on_the_gpu(machine: Machine, bundle_of_two_sizes: Path) -> None:
    opened = read_bundle(bundle_of_two_sizes)
    open_tensorrt(opened.at((96, 128)), machine.options())[0].close()
    with pytest.raises(EngineError, match="no TensorRT plan for this bundle"):
        open_engine(opened, "tensorrt", gpu=machine.options(build=False))


# -- the choice --------------------------------------------------------------------------------------------------


def test_auto_takes_tensorrt_where_there_is_a_plan_and_says_so_in_one_line(machine: Machine, opened: Bundle) -> None:
    open_tensorrt(opened, machine.options())[0].close()
    machine.said.clear()
    engine = open_engine(opened, "auto", gpu=machine.options(build=False))
    assert engine.name == "tensorrt"
    [line] = machine.said
    assert line.startswith("engine (auto): TensorRT 10.3.0.30 fp32 on Stand-in GPU")
    engine.close()


def test_auto_without_a_plan_takes_the_cpu_and_says_why_and_what_to_do(machine: Machine, opened: Bundle) -> None:
    engine = open_engine(opened, "auto", gpu=machine.options(build=False))
    assert engine.name == "onnxruntime"
    [line] = machine.said
    assert line.startswith("engine (auto): onnxruntime on the CPU; tensorrt: no TensorRT plan")
    assert "build_engine" in line
    assert "torch: " in line
    engine.close()


def test_auto_does_not_touch_tensorrt_where_the_driver_finds_no_gpu(
    machine: Machine, opened: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.driver.stand_in_reset(0)
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # to import it would raise
    engine = open_engine(opened, "auto", gpu=machine.options())
    assert engine.name == "onnxruntime"
    assert machine.said == [
        "engine (auto): onnxruntime on the CPU; the NVIDIA driver finds no GPU that this process may use "
        "(is CUDA_VISIBLE_DEVICES set?)"
    ]
    with pytest.raises(EngineError, match="finds no GPU"):
        open_engine(opened, "tensorrt", gpu=machine.options())


def test_without_a_driver_every_gpu_engine_says_so(opened: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda_of_no_one.so.1")
    said: list[str] = []
    assert open_engine(opened, "auto", gpu=GpuOptions(log=said.append)).name == "onnxruntime"
    assert len(said) == 1
    assert "no NVIDIA driver (libcuda_of_no_one.so.1" in said[0]
    for name in ("tensorrt", "torch"):
        with pytest.raises(EngineError, match="no NVIDIA driver"):
            open_engine(opened, name)


def test_a_driver_of_another_age_is_named(opened: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libc.so.6")
    with pytest.raises(EngineError, match="too old: it has no cuInit"):
        cuda_driver.find_gpu()


def test_a_driver_that_does_not_work_is_quoted(machine: Machine) -> None:
    machine.driver.stand_in_reset(-1)
    with pytest.raises(EngineError, match=r"'no CUDA-capable device is detected' \(100\) to cuInit"):
        cuda_driver.find_gpu()


# -- the command -------------------------------------------------------------------------------------------------


def test_the_command_builds_with_progress_and_the_engine_finds_the_plan(
    machine: Machine, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(bundle), "--precision", "fp16", "--size", "120x160", "--batch", "3", "--cache", str(machine.cache)]
    assert build_engine.main(command) == 0
    said = capsys.readouterr().out
    assert "building a TensorRT 10.3.0.30 plan, fp16, 3 x 120x160: this takes minutes" in said
    assert "plan built in" in said.splitlines()[-1]
    [sidecar] = machine.cache.glob("*.json")
    written = json.loads(sidecar.read_text())
    assert written["key"]["batch"] == 3
    assert written["parity"]["label_agreement"] > 0.995
    engine, details = open_tensorrt(read_bundle(bundle), machine.options(precision="fp16", batch=3, build=False))
    assert "plan from the cache" in details
    engine.close()
    assert build_engine.main(command) == 0
    assert len(machine.recorder.builds) == 1


def test_the_command_fails_with_a_sentence(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda_of_no_one.so.1")
    assert build_engine.main([str(bundle)]) == 2
    assert "build_engine: no NVIDIA driver" in capsys.readouterr().err
    assert build_engine.main([str(tmp_path / "nowhere")]) == 2
    assert "no such bundle folder" in capsys.readouterr().err
    for wrong in (["--size", "big"], ["--size", "0x10"], ["--batch", "0"], ["--precision", "fp8"]):
        with pytest.raises(SystemExit):
            build_engine.main([str(bundle), *wrong])


def test_impossible_options_are_refused() -> None:
    with pytest.raises(EngineError, match="precision 'fp8' is unknown"):
        GpuOptions(precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="0 frames of 10x10 is not possible"):
        GpuOptions(batch=0, image_size=(10, 10))
