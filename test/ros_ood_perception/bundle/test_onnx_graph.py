"""Which graphs a bundle can have: those of our exporters, and none that is endless, explosive or somebody else's."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ros_ood_perception.bundle.onnx_model.graph import MOST_NODES, check_graph, infer
from ros_ood_perception.bundle.onnx_model.model_file import read_onnx
from ros_ood_perception.bundle.onnx_model.operators import OPERATORS
from ros_ood_perception.bundle.onnx_model.wire_format import OnnxFileError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
helper = onnx.helper

SIZE = (24, 32)
INT = onnx.TensorProto.INT64


def graph(
    middle: Sequence[Any] = (), weights: dict[str, Any] | None = None, feed: str = "planes", **options: Any
) -> bytes:
    """A small graph that is right, with nodes between the resized planes (N, 1, 24, 32) and the outputs.

    Args:
        feed: the tensor (N, 1, 24, 32) that the outputs are made of.
    """
    constants = {
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
        "rest": np.array([1, *SIZE], np.int64),
        "one": np.array(1, np.float32),
        **(weights or {}),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["pixels"], to=1),
        node("Transpose", ["pixels"], ["channels"], perm=[0, 3, 1, 2]),
        node("ReduceMean", ["channels"], ["grey"], axes=[1], keepdims=1),
        node("Shape", ["grey"], ["shape"]),
        node("Slice", ["shape", "first", "second"], ["number"]),
        node("Concat", ["number", "rest"], ["sizes"], axis=0),
        node("Resize", ["grey", "", "", "sizes"], ["planes"], mode="linear"),
        *middle,
        node("Squeeze", [feed, "second"], ["plane"]),
        node("Sigmoid", ["plane"], ["anomaly"]),
        node("Cast", ["plane"], ["semantic"], to=2),
    ]
    made = helper.make_graph(
        options.get("nodes", nodes),
        "g",
        options.get("inputs", [helper.make_tensor_value_info("image", 2, ["N", "H", "W", 3])]),
        options.get(
            "outputs",
            [
                helper.make_tensor_value_info("semantic", 2, ["N", *SIZE]),
                helper.make_tensor_value_info("anomaly", 1, ["N", *SIZE]),
            ],
        ),
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = options.get("opsets", [helper.make_opsetid("", 17)])
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString())


def test_the_graph_that_the_others_are_changed_from_is_right() -> None:
    assert check_graph(graph(), SIZE).opset == 17


def test_the_shapes_are_those_that_onnx_finds(shipped_bundle: Path) -> None:
    for path in sorted(shipped_bundle.glob("*.onnx")):
        info = infer(read_onnx(path.read_bytes()), (2, 90, 120))
        model = onnx.load(path)
        for dim, side in zip(model.graph.input[0].type.tensor_type.shape.dim, (2, 90, 120), strict=False):
            dim.dim_value = side
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        compared = 0
        for value in inferred.value_info:
            sides = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            if value.type.tensor_type.HasField("shape") and all(sides):
                assert info.tensors[value.name].shape == tuple(sides), value.name
                assert info.tensors[value.name].element_type == value.type.tensor_type.elem_type
                compared += 1
        assert compared > 100


def test_every_encoder_that_can_be_exported_passes() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    import torch

    from training.bundles.onnx_export import onnx_bytes
    from training.segmenter.deployed_segmenter import DeployedSegmenter
    from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig

    for backbone, settings in (
        ("convnextv2", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}),
        ("swin", {"embed_dim": 8, "depths": [2, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 4}),
    ):
        torch.manual_seed(0)
        network = LadderSegmenter(SegmenterConfig(backbone, settings, None, 16, (1,)), 5)
        contents = onnx_bytes(DeployedSegmenter(network, (96, 128), 1.0).eval(), {"name": "x"})
        assert check_graph(contents, (96, 128)).nodes
        images = np.random.default_rng(0).integers(0, 256, (2, 50, 60, 3), np.uint8)
        onnxruntime = pytest.importorskip("onnxruntime")
        expected = onnxruntime.InferenceSession(contents).run(["semantic", "anomaly"], {"image": images})
        from ros_ood_perception.inference.torch.graph import TorchGraph

        with torch.inference_mode():
            found = TorchGraph(contents, "cpu").for_frames(2, 50, 60)(torch.from_numpy(images))
        assert (found[0].numpy() == expected[0]).mean() > 0.999
        assert np.abs(found[1].numpy() - expected[1]).max() < 1e-4


def loop() -> Any:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [helper.make_tensor_value_info("i", INT, []), helper.make_tensor_value_info("go", 9, [])],
        [helper.make_tensor_value_info("on", 9, [])],
    )
    return helper.make_node("Loop", ["", ""], [], body=body)


def branch(kind: str) -> Any:
    inner = helper.make_graph([], "inner", [], [])
    return helper.make_node(kind, ["c"], ["y"], then_branch=inner, else_branch=inner)


NODE = helper.make_node
BIG = np.array([1, 1, 65536, 65536], np.int64)
ZERO = np.array(0, np.int64)


def weights(**values: Any) -> dict[str, Any]:
    return {name: np.asarray(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("middle", "given", "message"),
    [
        # Endless, other people's, or code.
        ([loop()], {}, "as If, Loop and Scan have"),
        ([branch("If")], {}, "as If, Loop and Scan have"),
        ([NODE("Loop", ["first"], ["y"])], {}, "the operator is not one of those that a bundle's graph has: Abs"),
        ([NODE("Scan", ["planes"], ["y"])], {}, "not one of those"),
        ([NODE("NonZero", ["planes"], ["y"])], {}, "not one of those"),
        ([NODE("RandomUniform", [], ["y"], shape=[10**9])], {}, "not one of those"),
        ([NODE("StringNormalizer", ["planes"], ["y"])], {}, "not one of those"),
        ([NODE("LSTM", ["planes"], ["y"])], {}, "not one of those"),
        ([NODE("Relu", ["planes"], ["y"], domain="com.microsoft")], {}, "ONNX's own operators only"),
        # More memory than a frame may take.
        ([NODE("Expand", ["one", "big"], ["y"])], weights(big=BIG), r"takes 17179869184 bytes; at most"),
        ([NODE("ConstantOfShape", ["big"], ["y"])], weights(big=BIG), r"takes 17179869184 bytes; at most"),
        (
            [NODE("Resize", ["planes", "", "s"], ["y"], mode="linear")],
            weights(s=np.array([1, 1, 4000, 4000], np.float32)),
            "bytes; at most",
        ),
        (
            [NODE("Resize", ["planes", "", "", "s"], ["y"], mode="linear")],
            weights(s=np.array([1, 1, 2**62, 2**62])),
            "has more than 1099511627776 elements",
        ),
        ([NODE("Pad", ["planes", "p"], ["y"])], weights(p=np.array([0, 0, 4096, 4096] * 2)), None),
        ([NODE("Pad", ["planes", "p"], ["y"])], weights(p=np.array([0, 0, 2**40, 0] * 2)), "two known numbers"),
        ([NODE("Range", ["a", "b", "c"], ["y"])], weights(a=ZERO, b=np.array(2**30), c=np.array(1)), "bytes; at most"),
        (
            [NODE("Range", ["a", "b", "c"], ["y"])],
            weights(a=np.array(-(2**63)), b=np.array(2**63 - 1), c=np.array(1)),
            "has more than 1099511627776 elements",
        ),
        ([NODE("Range", ["a", "b", "a"], ["y"])], weights(a=ZERO, b=np.array(1)), "its step is 0"),
        (
            [NODE("Add", ["a", "b"], ["y"])],
            weights(a=np.zeros((1, 1, 1, 60000), np.float32), b=np.zeros((1, 1, 60000, 1), np.float32)),
            "bytes; at most",
        ),
        (
            [NODE("Concat", ["planes"] * 900, ["y0"], axis=1)]
            + [NODE("Concat", [f"y{i}"] * 90, [f"y{i + 1}"], axis=1) for i in range(2)],
            {},
            "bytes; at most",
        ),
        (
            [NODE("Resize", ["planes", "", "s"], ["l0"], mode="linear")]
            + [NODE("Relu", [f"l{i}"], [f"l{i + 1}"]) for i in range(9)]
            + [NODE("Concat", [f"l{i}" for i in range(10)], ["y"], axis=1)],
            weights(s=np.array([1, 1, 500, 500], np.float32)),
            "tensors of one frame take more than",
        ),
        ([NODE("Concat", ["channels"] * 20, ["y"], axis=1)], {}, "60 channels of the frame's own size; at most 16"),
        (
            [NODE("Relu", ["grey" if i == 0 else f"y{i - 1}"], [f"y{i}"]) for i in range(70)],
            {},
            "more than 64 nodes compute at the frame's own size",
        ),
        # More work: for each frame, and before the first one.
        (
            [NODE("Resize", ["planes", "", "s"], ["l"], mode="linear"), NODE("Conv", ["l", "w"], ["y"])],
            weights(s=np.array([1, 1, 600, 500], np.float32), w=np.zeros((1, 1, 3000, 2000), np.float32)),
            "one frame takes",
        ),
        (
            [NODE("Conv", ["w", "k"], ["y"])],
            weights(w=np.zeros((1, 1, 2000, 2000), np.float32), k=np.zeros((1, 1, 900, 900), np.float32)),
            "what it computes from its weights alone takes",
        ),
        (
            [NODE("Expand", ["w", "e"], ["y"])],
            weights(w=np.zeros((1, 1, 8000, 1), np.float32), e=np.array([1, 1, 8000, 32_000])),
            "what it computes from its weights alone takes|bytes; at most",
        ),
        # Windows that are none.
        (
            [NODE("Conv", ["planes", "w"], ["y"], pads=[10**9] * 4)],
            weights(w=np.zeros((1, 1, 3, 3), np.float32)),
            "pads",
        ),
        (
            [NODE("Conv", ["planes", "w"], ["y"], pads=[-1] * 4)],
            weights(w=np.zeros((1, 1, 3, 3), np.float32)),
            "negative",
        ),
        (
            [NODE("Conv", ["planes", "w"], ["y"], strides=[0, 0])],
            weights(w=np.zeros((1, 1, 3, 3), np.float32)),
            "positive",
        ),
        ([NODE("Conv", ["planes", "w"], ["y"], group=0)], weights(w=np.zeros((1, 1, 3, 3), np.float32)), "in 0 groups"),
        ([NODE("Conv", ["planes", "w"], ["y"])], weights(w=np.zeros((1, 7, 3, 3), np.float32)), "do not fit an input"),
        ([NODE("MaxPool", ["planes"], ["y"], kernel_shape=[3, 3], pads=[9] * 4)], {}, "more than half of its kernel"),
        ([NODE("MaxPool", ["planes"], ["y"], kernel_shape=[99, 99])], {}, "is larger than its input"),
        (
            [NODE("ConvTranspose", ["planes", "w"], ["y"], strides=[4096, 4096])],
            weights(w=np.zeros((1, 1, 3, 3), np.float32)),
            "bytes; at most",
        ),
        (
            [NODE("ConvTranspose", ["planes", "w"], ["y"], output_padding=[1, 1])],
            weights(w=np.zeros((1, 1, 3, 3), np.float32)),
            "two numbers below the strides",
        ),
        (
            [NODE("ConvTranspose", ["planes", "w"], ["y"], pads=[900] * 4)],
            weights(w=np.zeros((1, 1, 3, 3), np.float32)),
            "or leave nothing of",
        ),
        (
            [NODE("ConvTranspose", ["planes", "w"], ["y"])],
            weights(w=np.zeros((7, 1, 3, 3), np.float32)),
            "do not fit an input",
        ),
        (
            [NODE("GridSample", ["planes", "g"], ["y"], mode=b"bicubic")],
            weights(g=np.zeros((1, 4, 4, 2), np.float32)),
            "another mode than bilinear",
        ),
        (
            [NODE("GridSample", ["planes", "g"], ["y"])],
            weights(g=np.zeros((1, 4, 4, 3), np.float32)),
            "are right",
        ),
        (
            [NODE("InstanceNormalization", ["planes", "w", "w"], ["y"])],
            weights(w=np.zeros(3, np.float32)),
            "its scale or bias has the shape",
        ),
        (
            [
                NODE(
                    "Resize",
                    ["planes", "", "s"],
                    ["y"],
                    mode="nearest",
                    coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor",
                )
            ],
            weights(s=np.array([1, 1, 1.5, 2], np.float32)),
            "only a whole number of times",
        ),
        ([NODE("And", ["planes", "planes"], ["y"])], {}, "its inputs are no truth values"),
        # What ends a process: an integer divided by zero, or by what is not known.
        (
            [NODE("Div", ["a", "b"], ["y"])],
            weights(a=np.array([1]), b=np.array([0])),
            "not known to be at least 1",
        ),
        ([NODE("Mod", ["a", "b"], ["y"])], weights(a=np.array([1]), b=np.array([-1])), "not known to be at least 1"),
        (
            [NODE("Cast", ["planes"], ["b"], to=7), NODE("Div", ["b", "b"], ["y"])],
            {},
            "not known to be at least 1",
        ),
        ([NODE("Gather", ["planes", "i"], ["y"], axis=2)], weights(i=np.array([24])), "is outside of the 24"),
        ([NODE("Gather", ["planes", "i"], ["y"], axis=2)], weights(i=np.array([-25])), "is outside of the 24"),
        # Values that stand for other things than they seem to.
        ([NODE("ReduceMax", ["planes"], ["y"], axes=[1], keepdims=2)], {}, "keepdims is 2; it must be 0 or 1"),
        ([NODE("ReduceMax", ["planes"], ["y"], axes=[1.0])], {}, "axes holds other things than integers"),
        ([NODE("Transpose", ["planes"], ["y"], perm=[0.0, 1.0, 2.0, 3.0])], {}, "perm holds other things"),
        ([NODE("Sub", ["t", "t"], ["y"])], weights(t=np.array([True])), "have the types 9 and 9"),
        ([NODE("Not", ["one"], ["y"])], {}, "has the data type 1, which it does not take"),
        ([NODE("Neg", ["t"], ["y"])], weights(t=np.array([True])), "has the data type 9"),
        ([NODE("Erf", ["first"], ["y"])], {}, "has the data type 7"),
        (
            [NODE("Resize", ["planes", "", "", "s"], ["a"], mode="linear"), NODE("Concat", ["a", "a"], ["b"], axis=2)],
            weights(s=np.array([1, 1, 2**62, 1])),
            "has more than 1099511627776 elements",
        ),
        # Not what the operator takes.
        ([NODE("Relu", ["planes", "planes"], ["y"])], {}, "it has 2 inputs and 1 outputs; 1 to 1 and 1 are right"),
        ([NODE("Relu", ["planes"], ["y"], alpha=1.0)], {}, "its attribute 'alpha' is not one that the operator takes"),
        ([NODE("Cast", ["planes"], ["y"], to=8)], {}, "it casts to the data type 8"),
        ([NODE("Relu", ["later"], ["y"])], {}, "its input 'later' is made by no node before it"),
        ([NODE("Relu", ["planes"], ["planes"])], {}, "its output 'planes' has no name, or one that is taken"),
        ([NODE("Relu", ["planes"], ["one"])], {}, "or one that is taken"),
        ([NODE("Relu", ["planes"], ["image"])], {}, "or one that is taken"),
        ([NODE("Add", ["planes", "first"], ["y"])], {}, "have the types 1 and 7"),
        ([NODE("Reshape", ["planes", "r"], ["y"])], weights(r=np.array([-1, -1])), "cannot become"),
        ([NODE("Reshape", ["planes", "r"], ["y"])], weights(r=np.array([1] * 60 + [-1])), "has 61 dimensions"),
        ([NODE("Reshape", ["planes", "r"], ["y"])], weights(r=np.array([1] * 90)), "a list of at most 64"),
        ([NODE("ReduceMax", ["planes"], ["y"])], {}, "over all axes at once"),
        ([NODE("Transpose", ["planes"], ["y"], perm=[0, 0, 1, 2])], {}, "perm is"),
        ([NODE("Unsqueeze", ["planes", "u"], ["y"])], weights(u=np.array([0, 0])), "an axis is there twice"),
        ([NODE("Softmax", ["planes"], ["y"], axis=9)], {}, "its axis is 9"),
        # The frame's height and width go no further than the resize.
        ([NODE("MaxPool", ["channels"], ["y"], kernel_shape=[2, 2])], {}, "must be resized to the bundle's input size"),
        ([NODE("ConstantOfShape", ["shape"], ["y"])], {}, "it makes the shape"),
        ([NODE("Expand", ["one", "shape"], ["y"])], {}, "it expands to"),
    ],
)
def test_what_no_exporter_writes_is_refused_before_an_engine_sees_it(
    middle: list[Any], given: dict[str, Any], message: str | None
) -> None:
    contents = graph(middle, given)
    started = time.process_time()
    if message is None:
        check_graph(contents, SIZE)
    else:
        with pytest.raises(OnnxFileError, match=message) as caught:
            check_graph(contents, SIZE)
        assert str(caught.value).isprintable()
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opsets": [helper.make_opsetid("", 18)]}, "it has opset 18 and IR version 8"),
        ({"opsets": [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]}, "the operator sets"),
        ({"inputs": []}, "its inputs are none"),
        ({"inputs": [helper.make_tensor_value_info("picture", 2, None)]}, r"its inputs are 'picture' \(type 2\)"),
        ({"inputs": [helper.make_tensor_value_info("image", 1, None)]}, r"'image' \(type 1\)"),
        ({"outputs": []}, "its outputs are none"),
        ({"outputs": [helper.make_tensor_value_info(n, 1, None) for n in ("semantic", "anomaly")]}, r"\(type 1\), "),
        ({"nodes": []}, "no node makes the output 'semantic'"),
    ],
)
def test_other_inputs_outputs_and_versions_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OnnxFileError, match=message):
        check_graph(graph(**options), SIZE)


def test_outputs_of_another_size_than_the_description_says_are_refused() -> None:
    with pytest.raises(OnnxFileError, match=r"'semantic' has the shape \(1, 24, 32\) .* makes it \(1, 48, 32\)"):
        check_graph(graph(), (48, 32))
    fixed = graph(
        [NODE("Concat", ["second", "rest"], ["again"], axis=0), NODE("Reshape", ["planes", "again"], ["p"])], feed="p"
    )
    # Right for one frame, and an error for two.
    with pytest.raises(OnnxFileError, match=r"\(2, 1, 24, 32\) cannot become \[1, 1, 24, 32\]"):
        check_graph(fixed, SIZE)


@pytest.mark.parametrize(
    ("name", "missing"), [(name, i) for name, found in OPERATORS.items() for i in range(found.inputs[0])]
)
def test_an_input_that_an_operator_needs_cannot_be_left_out(name: str, missing: int) -> None:
    inputs = ["planes"] * OPERATORS[name].inputs[0]
    inputs[missing] = ""
    with pytest.raises(OnnxFileError, match="leaves out one of its first"):
        check_graph(graph([NODE(name, inputs, ["x"])]), SIZE)


def test_a_graph_of_too_many_nodes_is_refused() -> None:
    nodes = [NODE("Relu", ["planes" if i == 0 else str(i - 1)], [str(i)]) for i in range(MOST_NODES)]
    with pytest.raises(OnnxFileError, match=f"nodes; at most {MOST_NODES}"):
        check_graph(graph(nodes), SIZE)


CHECK = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (2 << 30,) * 2)
from benchmark.process_memory import peak_resident_bytes
from ros_ood_perception.bundle.onnx_model.graph import check_graph
from ros_ood_perception.bundle.onnx_model.wire_format import OnnxFileError
contents = open(sys.argv[1], "rb").read()
before = peak_resident_bytes() // 1024
try:
    check_graph(contents, (24, 32))
except OnnxFileError as error:
    print("refused")
print(peak_resident_bytes() // 1024 - before, file=sys.stderr)
"""


def test_large_tables_that_many_nodes_look_at_cost_neither_time_nor_memory(tmp_path: Path) -> None:
    # A table of 4 million numbers, read as a list, divided by and gathered by two thousand nodes.
    table = np.ones(1 << 22, np.int64)
    nodes = [NODE("Expand", ["one", "table"], [f"a{i}"]) for i in range(2000)]
    nodes += [NODE("Gather", ["planes", "table"], [f"b{i}"]) for i in range(2000)]
    for index, some in enumerate((nodes, nodes[2000:])):
        (tmp_path / f"{index}.onnx").write_bytes(graph(some, {"table": table}))
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", CHECK, str(tmp_path / f"{index}.onnx")], capture_output=True, text=True, check=True
        )
        assert done.stdout == "refused\n"
        assert int(done.stderr) < 200_000  # KB
        assert time.monotonic() - started < 20


def test_the_list_of_operators_is_this() -> None:
    # An addition is seen here, and thought about: can it be endless, or large for small inputs?
    listed = (
        "Abs Add And ArgMax AveragePool Cast Ceil Clip Concat Constant ConstantOfShape Conv ConvTranspose "
        "DepthToSpace DequantizeLinear Div Equal Erf Exp Expand Floor Gather Greater GreaterOrEqual GridSample "
        "HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual "
        "Log MatMul Max MaxPool Min Mod Mul Neg Not Pad Pow QuantizeLinear Range Reciprocal ReduceL2 "
        "ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize Round Shape Sigmoid Sign Slice Softmax "
        "Softplus Sqrt Squeeze Sub Tanh Transpose Unsqueeze Where "
    )
    assert sorted(OPERATORS) == sorted(listed.split())
