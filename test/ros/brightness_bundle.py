"""A bundle whose network is the brightness: anomaly score = grey value / 253, class 0 everywhere. It runs in no time,
the places of its anomalies are known to the pixel, and a white frame makes it give a score that no engine may give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ros_ood_perception.bundle.model_bundle import (
    BundleClass,
    BundleDescription,
    InputDescription,
    ModelVariant,
    OperatingPoint,
    ScoreDescription,
    TrainingRecord,
    read_bundle,
    write_bundle,
)

SIZE = (120, 160)
FULL_SCALE = 253

DESCRIPTION = BundleDescription(
    format_version=1,
    name="brightness",
    model_sha256="",
    weights_licence="none",
    classes=(BundleClass(0, "road", (128, 64, 128)), BundleClass(1, "sky", (70, 130, 180))),
    input=InputDescription(*SIZE),
    score=ScoreDescription("brightness", 1.0),
    training=TrainingRecord((), "", "", "", 0, 0, 0.0, "", 0),
    operating_points=(
        OperatingPoint("half", 0.5, "by hand", "none"),
        OperatingPoint("strict", 0.9, "by hand", "none", settings={"region.max_regions": 32, "region.min_area": 0.001}),
    ),
)


def write_brightness_bundle(folder: Path, full_scale: int = FULL_SCALE, steps: int = 0) -> Path:
    """Write it; the input size is `SIZE`. With a full scale of 255 every score is one that an engine may give.

    Args:
        steps: squares and roots of every pixel of the frame that come first: they change nothing, and take long for a
            large frame and no time for a small one. 30 at most: a bundle's graph has 64 nodes at the frame's size.
    """
    write_bundle(folder, DESCRIPTION, _graph(full_scale, steps))
    return folder


def add_half_graph(folder: Path, full_scale: int = FULL_SCALE) -> None:
    """A variant for the engines that compute in half precision, at a full scale of its own."""
    bundle = read_bundle(folder)
    variant = ModelVariant("onnx", "fp16", "model_fp16.onnx", "", 1.0, 0.0, "nothing")
    description = replace(bundle.description, variants=(variant,))
    write_bundle(folder, description, bundle.model, {variant.file: _graph(full_scale)})


def _graph(full_scale: int, steps: int = 0) -> bytes:
    constants = {
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
        "rest": np.array([1, *SIZE], np.int64),
        "scale": np.array(1 / full_scale, np.float32),
        "channel": np.array([1], np.int64),
        "zero": np.array(0, np.float32),
    }
    slow = [
        node
        for step in range(steps)
        for node in (
            helper.make_node("Mul", [f"planes_{step}"] * 2, [f"squares_{step}"]),
            helper.make_node("Sqrt", [f"squares_{step}"], [f"planes_{step + 1}"]),
        )
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes_0"], perm=[0, 3, 1, 2]),
        *slow,
        helper.make_node("ReduceMean", [f"planes_{steps}"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("Shape", ["grey"], ["shape"]),
        helper.make_node("Slice", ["shape", "first", "second"], ["number"]),
        helper.make_node("Concat", ["number", "rest"], ["sizes"], axis=0),
        helper.make_node("Resize", ["grey", "", "", "sizes"], ["resized"], mode="linear"),
        helper.make_node("Squeeze", ["resized", "channel"], ["plane"]),
        helper.make_node("Mul", ["plane", "scale"], ["anomaly"]),
        helper.make_node("Mul", ["plane", "zero"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["semantic"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info("semantic", TensorProto.UINT8, ["n", *SIZE]),
            helper.make_tensor_value_info("anomaly", TensorProto.FLOAT, ["n", *SIZE]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
