"""A bundle whose network takes long for a large frame, and no time for a small one, in many small steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from brightness_bundle import DESCRIPTION, SIZE
from onnx import TensorProto, helper, numpy_helper

from ros_ood_perception.bundle import write_bundle

STEPS = 200


def write_slow_bundle(folder: Path) -> Path:
    """Anomaly score = grey value / 255, as of `brightness_bundle`, after `STEPS` convolutions that change nothing."""
    identity = np.zeros((1, 1, 3, 3), np.float32)
    identity[0, 0, 1, 1] = 1
    constants = {
        "sizes": np.array([1, 1, *SIZE], np.int64),
        "scale": np.array(1 / 255, np.float32),
        "channel": np.array([1], np.int64),
        "zero": np.array(0, np.float32),
        "identity": identity,
    }
    steps = [
        helper.make_node("Conv", [f"step_{n}", "identity"], [f"step_{n + 1}"], pads=[1, 1, 1, 1]) for n in range(STEPS)
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMean", ["planes"], ["step_0"], axes=[1], keepdims=1),
        *steps,
        helper.make_node("Resize", [f"step_{STEPS}", "", "", "sizes"], ["resized"], mode="linear"),
        helper.make_node("Squeeze", ["resized", "channel"], ["plane"]),
        helper.make_node("Mul", ["plane", "scale"], ["anomaly"]),
        helper.make_node("Mul", ["plane", "zero"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["semantic"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info("semantic", TensorProto.UINT8, [1, *SIZE]),
            helper.make_tensor_value_info("anomaly", TensorProto.FLOAT, [1, *SIZE]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    write_bundle(folder, DESCRIPTION, bytes(model.SerializeToString()))
    return folder
