"""The torch engine on the CPU: all but the CUDA graph, which test_on_gpu.py runs where there is a GPU."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.bundle.onnx_model.operators import OPERATORS
from ros_ood_perception.inference.engine import EngineError, EngineOutput, GpuOptions
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import fixed_frames, measure_parity, require_parity
from ros_ood_perception.inference.precision_graph import graph_of_precision
from ros_ood_perception.inference.torch import engine as torch_engine
from ros_ood_perception.inference.torch.engine import RUNS_BEFORE_GRAPH, TorchEngine, open_torch


@pytest.fixture(scope="module")
def opened(whole_bundle: Path) -> Bundle:
    pytest.importorskip("torch", reason="torch is not installed")
    return read_bundle(whole_bundle)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_it_computes_what_the_graph_computes(opened: Bundle, precision: str) -> None:
    engine, reference = TorchEngine(opened, precision, "cpu"), OnnxRuntimeEngine(opened)
    require_parity(measure_parity(reference, engine, fixed_frames(120, 160)), precision, "the torch engine")
    engine.close()


@pytest.mark.parametrize("name", ["camvid_small", "camvid_small_cross_entropy", "sample_drive"])
def test_it_computes_what_onnx_runtime_computes_with_every_graph_that_ships(shipped_bundle: Path, name: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    bundle = read_bundle(shipped_bundle.parent / name)
    frames = fixed_frames(480, 640, 1)
    for precision in ("fp32", *(v.precision for v in bundle.description.variants)):
        # The same graph in ONNX Runtime: what differs is the engines' arithmetic alone.
        reference = OnnxRuntimeEngine(replace(bundle, model=graph_of_precision(bundle, precision)))
        parity = measure_parity(reference, TorchEngine(bundle, precision, "cpu"), frames)
        assert parity.label_agreement > (0.9999 if precision == "fp32" else 0.999), parity
        assert parity.score_difference < (1e-4 if precision == "fp32" else 2e-2), parity


def test_no_operator_mixes_devices(shipped_bundle: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from ros_ood_perception.inference.torch.graph import TorchGraph

    # No accelerator is at hand everywhere; "meta" is a device too, and an operator that mixes two fails on it.
    module = TorchGraph(read_bundle(shipped_bundle).model, "meta").for_frames(2, 50, 60)
    semantic, anomaly = module(torch.zeros(2, 50, 60, 3, dtype=torch.uint8, device="meta"))
    assert semantic.shape == anomaly.shape == (2, 480, 640)
    assert semantic.device.type == anomaly.device.type == "meta"


def test_a_run_is_calls_of_torch_alone_so_that_it_can_be_compiled_and_recorded(opened: Bundle) -> None:
    import torch

    from ros_ood_perception.inference.torch.graph import TorchGraph

    module = TorchGraph(opened.model, "cpu").for_frames(1, 60, 90)
    images = torch.from_numpy(fixed_frames(60, 90, 1)[0][None])
    with torch.inference_mode():
        # "fullgraph": an error where a value would have to come back to the host.
        compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=False)(images)
        for one, other in zip(module(images), compiled, strict=True):
            assert bool((one == other).all())


def test_torch_is_told_of_every_operator_but_those_of_8_bits() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from ros_ood_perception.inference.torch.operators import TORCH_OPERATORS

    known = {"Constant", "Shape"}  # their values are known before anything runs
    assert set(OPERATORS) - set(TORCH_OPERATORS) - known == {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in ("Abs", "Ceil", "Erf", "Exp", "Floor", "HardSwish", "Neg", "Reciprocal", "Relu")),
        *((name, {}) for name in ("Round", "Sigmoid", "Sign", "Softplus", "Tanh")),
        *((name, {}) for name in ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub")),
        *((name, {}) for name in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
        ("LeakyRelu", {"alpha": 0.3}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("ReduceMin", {"axes": [1], "keepdims": 1}),
        ("ReduceMax", {"axes": [1], "keepdims": 1}),
    ],
)
def test_an_operator_is_that_of_onnx_runtime(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("torch", reason="torch is not installed")
    node = onnx.helper.make_node
    inputs = ["signed", "half"] if OPERATORS[name].inputs == (2, 2) else ["signed"]
    if name in ("Pow", "Reciprocal"):
        inputs[0] = "positive"
    nodes = [
        node("Cast", ["image"], ["pixels"], to=onnx.TensorProto.FLOAT),
        node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        node("Resize", ["planes", "", "scales"], ["resized"], mode="linear"),
        node("Sub", ["resized", "middle"], ["centred"]),
        node("Mul", ["centred", "small"], ["signed"]),
        node("Mul", ["resized", "small"], ["grown"]),
        node("Add", ["grown", "half"], ["positive"]),
        node(name, inputs, ["computed"], **options),
        node("Cast", ["computed"], ["float"], to=onnx.TensorProto.FLOAT),
        node("ReduceMean", ["float"], ["anomaly"], axes=[1], keepdims=0),
        node("Mul", ["anomaly", "nothing"], ["zero"]),
        node("Cast", ["zero"], ["semantic"], to=onnx.TensorProto.UINT8),
    ]
    values = {"scales": [1, 1, 1, 1], "middle": 128, "small": 0.03125, "half": 0.5, "nothing": 0}
    constants = [onnx.numpy_helper.from_array(np.array(v, np.float32), k) for k, v in values.items()]
    sides = (24, 32)
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["N", *sides, 3])],
        [
            onnx.helper.make_tensor_value_info("semantic", onnx.TensorProto.UINT8, ["N", *sides]),
            onnx.helper.make_tensor_value_info("anomaly", onnx.TensorProto.FLOAT, ["N", *sides]),
        ],
        constants,
    )
    contents = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    contents = contents.SerializeToString()
    image = np.random.default_rng(0).integers(0, 256, (2, *sides, 3), np.uint8)
    import onnxruntime
    import torch

    from ros_ood_perception.inference.torch.graph import TorchGraph

    [wanted] = onnxruntime.InferenceSession(contents).run(["anomaly"], {"image": image})
    found = TorchGraph(contents, "cpu").for_frames(2, *sides)(torch.from_numpy(image))[1].numpy()
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-6)


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


def test_a_precision_that_is_not_there_says_how_to_get_it(shipped_bundle: Path, opened: Bundle) -> None:
    bundle = read_bundle(shipped_bundle.parent / "sample_drive")
    with pytest.raises(EngineError, match=r"no fp16 graph of \d+x\d+ \(it has fp32\); export it with --with fp16"):
        TorchEngine(bundle, "fp16", "cpu")
    with pytest.raises(EngineError, match="computes in fp32 or fp16, not in int8"):
        TorchEngine(opened, "int8", "cpu")


def test_no_program_of_torch_is_read_anywhere_on_a_vehicle(shipped_bundle: Path) -> None:
    sources = list((shipped_bundle.parent.parent / "ros_ood_perception").rglob("*.py"))
    assert len(sources) > 50
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [f"{node.module}.{a.name}" for a in node.names] if isinstance(node, ast.ImportFrom) else []
            for found in (called, *names):
                assert not found.startswith(("torch.export", "torch.jit", "torch.load", "torch.package")), (path, found)
                assert found.split(".")[0] not in ("pickle", "marshal", "shelve"), (path, found)


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
