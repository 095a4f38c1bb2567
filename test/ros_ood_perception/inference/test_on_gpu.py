"""The engines on a GPU. Skipped, with the reason, where there is none, or no TensorRT, or no torch with CUDA."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.inference.engine import EngineError, GpuOptions, InferenceEngine
from ros_ood_perception.inference.engine_names import Precision
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.inference.parity import LIMITS, fixed_frames, measure_parity
from ros_ood_perception.inference.tensorrt.cuda_driver import CudaDevice, Gpu, find_gpu

SIZE = (480, 640)


@pytest.fixture(scope="module")
def gpu() -> Gpu:
    try:
        return find_gpu()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@pytest.fixture(scope="module")
def frames(real_frames: Callable[[str], Path]) -> list[NDArray[np.uint8]]:
    """Every fifth of CamVid's validation frames, or drawn ones where CamVid is not at hand."""
    try:
        paths = sorted((real_frames("camvid") / "val" / "images").iterdir())[::5]
    except pytest.skip.Exception:
        return fixed_frames(360, 480, 4)
    return [np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]) for path in paths]


Open = Callable[[Bundle, str, Precision], InferenceEngine]


@pytest.fixture
def opener(gpu: Gpu, cache: Path) -> Iterator[Open]:
    opened: list[InferenceEngine] = []

    def open_on_gpu(bundle: Bundle, name: str, precision: Precision) -> InferenceEngine:
        if name == "tensorrt":
            pytest.importorskip("tensorrt", reason="TensorRT is not installed")
        else:
            torch = pytest.importorskip("torch", reason="torch is not installed")
            if not torch.cuda.is_available():
                pytest.skip("this torch finds no CUDA")
        options = GpuOptions(precision, SIZE, 2, build=name == "tensorrt", cache=cache, log=print)
        opened.append(open_engine(bundle, name, gpu=options))
        return opened[-1]

    yield open_on_gpu
    for engine in opened:
        engine.close()


def test_the_driver_tells_of_the_gpu(gpu: Gpu) -> None:
    assert gpu.name
    assert gpu.compute_capability >= (5, 0)
    assert gpu.memory_bytes > 1 << 28


def test_bytes_come_back_from_the_gpu_as_they_went_there(gpu: Gpu) -> None:
    device = CudaDevice()
    there, back = device.pinned_memory(1 << 20), device.pinned_memory(1 << 20)
    there[:] = np.random.default_rng(0).integers(0, 256, there.size, np.uint8)
    memory = device.device_memory(there.size)
    device.copy_to_device(memory, there)
    device.copy_to_host(back, memory)
    device.synchronise()
    assert (there == back).all()
    del there, back
    device.close()


@pytest.mark.parametrize("name", ["tensorrt", "torch"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_shipped_network_computes_the_same_on_real_frames(
    opener: Open, shipped_bundle: Path, frames: list[NDArray[np.uint8]], name: str, precision: Precision
) -> None:
    bundle = read_bundle(shipped_bundle)
    parity = measure_parity(OnnxRuntimeEngine(bundle), opener(bundle, name, precision), frames)
    print(f"{name} {precision}: {parity}")
    assert parity.label_agreement > LIMITS[precision].label_agreement
    assert parity.mean_score_difference <= LIMITS[precision].mean_score_difference


@pytest.mark.parametrize(
    ("name", "precision"),
    [("tensorrt", "fp32"), ("tensorrt", "fp16"), ("tensorrt", "int8"), ("torch", "fp32"), ("torch", "fp16")],
)
def test_batches_sizes_threads_and_graphs(opener: Open, whole_bundle: Path, name: str, precision: Precision) -> None:
    bundle = read_bundle(whole_bundle)
    engine, reference = opener(bundle, name, precision), OnnxRuntimeEngine(bundle)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for count, size in ((1, SIZE), (1, SIZE), (1, SIZE), (5, SIZE), (2, (240, 320)), (1, SIZE)):
                images = np.stack(fixed_frames(*size, count))
                expected, found = reference.run(images), engine.run(images)
                agreement = (expected.semantic == found.semantic).mean()
                assert agreement > LIMITS[precision].label_agreement - 0.01, (count, size, agreement)
                assert np.abs(expected.anomaly_score - found.anomaly_score).mean() < 0.05
        except BaseException as error:  # shown in the thread that can fail the test
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []


def test_auto_takes_the_gpu(gpu: Gpu, whole_bundle: Path, cache: Path) -> None:
    said: list[str] = []
    options = GpuOptions("fp16", SIZE, 1, build=True, cache=cache, log=said.append)
    engine = open_engine(read_bundle(whole_bundle), "auto", gpu=options)
    engine.close()
    if engine.name == "onnxruntime":
        pytest.skip(f"neither TensorRT nor torch with CUDA works here: {said}")
    assert engine.name in ("tensorrt", "torch")
    assert any(line.startswith("engine (auto):") and gpu.name in line for line in said)
