"""The torch engine on the CPU: all but the CUDA graph, which test_on_gpu.py runs where there is a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ros_ood_perception.bundle import Bundle, read_bundle
from ros_ood_perception.inference import torch_engine
from ros_ood_perception.inference.engine import EngineError, EngineOutput, GpuOptions
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import fixed_frames, measure_parity, require_parity
from ros_ood_perception.inference.torch_engine import RUNS_BEFORE_GRAPH, TorchEngine, open_torch


@pytest.fixture(scope="module")
def opened(whole_bundle: Path) -> Bundle:
    pytest.importorskip("torch", reason="torch is not installed")
    return read_bundle(whole_bundle)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_program_computes_what_the_graph_computes(opened: Bundle, precision: str) -> None:
    engine, reference = TorchEngine(opened, precision, "cpu"), OnnxRuntimeEngine(opened)
    require_parity(measure_parity(reference, engine, fixed_frames(120, 160)), precision, "the torch engine")
    engine.close()


def test_batches_and_frames_of_changing_size_are_right_and_results_stay_the_callers(opened: Bundle) -> None:
    engine, reference = TorchEngine(opened, "fp32", "cpu"), OnnxRuntimeEngine(opened)
    batches = [np.stack(fixed_frames(*size, count)) for size, count in (((96, 128), 1), ((60, 200), 3), ((96, 128), 2))]
    found = [engine.run(batch) for batch in batches]
    for batch, output in zip(batches, found, strict=True):
        expected = reference.run(batch)
        assert (expected.semantic == output.semantic).mean() > 0.9999
        assert np.abs(expected.anomaly_score - output.anomaly_score).max() < 1e-4


def test_what_is_no_image_is_an_engine_error(opened: Bundle) -> None:
    engine = TorchEngine(opened, "fp32", "cpu")
    with pytest.raises(EngineError, match=r"torch failed on images \(1, 96, 128, 4\)"):
        engine.run(np.zeros((1, 96, 128, 4), np.uint8))
    # and the next good one is run
    assert engine.run(np.zeros((1, 96, 128, 3), np.uint8)).semantic.shape == (1, 96, 128)


def test_a_bundle_without_the_program_says_how_to_get_it(bundle: Path, opened: Bundle) -> None:
    with pytest.raises(EngineError, match=r"no torch program in fp16; export it with --with torch torch_fp16"):
        TorchEngine(read_bundle(bundle), "fp16", "cpu")
    with pytest.raises(EngineError, match="no torch program in int8"):
        TorchEngine(opened, "int8", "cpu")


def test_parity_is_that_of_the_graph_and_not_of_the_runs_before_it(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    class WrongGraph(TorchEngine):
        def __init__(self, bundle: Bundle, precision: str, compiled: bool) -> None:
            super().__init__(bundle, precision, "cpu", compiled)
            self._runs = 0

        def run(self, images: NDArray[np.uint8]) -> EngineOutput:
            output = super().run(images)
            self._runs += 1
            if self._runs <= RUNS_BEFORE_GRAPH:
                return output
            return EngineOutput(output.semantic, 1 - output.anomaly_score)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch_engine, "find_gpu", lambda: None)
    monkeypatch.setattr(torch_engine, "TorchEngine", WrongGraph)
    with pytest.raises(EngineError, match="differs from ONNX Runtime by more than fp32 may"):
        open_torch(opened, GpuOptions("fp32", (96, 128)))
