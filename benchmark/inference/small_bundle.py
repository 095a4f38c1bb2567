"""A small valid bundle whose graph has most of the operators, as a start for the fuzzer."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

SIZE = (16, 24)

DESCRIPTION = """\
format_version: 1
name: small
model_sha256: MODEL
weights_licence: Apache-2.0
classes:
- {id: 0, name: road, colour: [128, 64, 128]}
- {id: 1, name: sky, colour: [70, 130, 180]}
input: {height: 16, width: 24, colour_order: rgb}
score:
  name: jensen_shannon_to_uniform
  temperature: 1.5
  range: [0.0, 1.0]
training:
  data_sets: [drawn (train)]
  config_digest: abc
  code_version: def
  command: python -m training.train
  epochs: 3
  best_epoch: 2
  training_minutes: 0.5
  machine: any
  parameters: 100
  measurements:
  - {metric: mIoU, value: 0.5, data: val, command: python -m training.evaluate}
operating_points:
- name: inlier_fpr_0.01
  threshold: 0.656
  chosen_by: the lowest
  data: val
  true_positive_rate: null
  false_positive_rate: 0.0099
  threshold_interval: [0.62, 0.68]
"""


def small_model() -> bytes:
    """A valid graph with most of the operators; outputs (N, 16, 24)."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        _nodes(),
        "small",
        [value("image", 2, ["N", "H", "W", 3])],
        [value("semantic", 2, ["N", *SIZE]), value("anomaly", 1, ["N", *SIZE])],
        [numpy_helper.from_array(array, name) for name, array in _constants().items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _constants() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "first": np.array([0]),
        "second": np.array([1]),
        "rest": np.array([3, *SIZE]),
        "axis": np.array([1]),
        "w": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b": np.zeros(4, np.float32),
        "double": np.array([1, 1, 2, 2], np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
        "temperature": np.array(1.5, np.float32),
        "m": random.normal(size=(4, 4)).astype(np.float32),
        "ones": np.ones(4, np.float32),
        "pads": np.array([0, 0, 1, 1] * 2),
        "flat": np.array([0, 0, -1]),
        "back": np.array([0, 4, *SIZE]),
        "scale": np.array(0.1, np.float32),
        "zero": np.array(0, np.int8),
        "two": np.array(2),
        "six": np.array(6),
        "start": np.array([1, 1]),
        "end": np.array([-1, -1]),
        "sides": np.array([2, 3]),
    }


def _nodes() -> list[onnx.NodeProto]:
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["pixels"], to=1),
        node("Transpose", ["pixels"], ["channels"], perm=[0, 3, 1, 2]),
        node("Shape", ["channels"], ["shape"]),
        node("Slice", ["shape", "first", "second"], ["number"]),
        node("Concat", ["number", "rest"], ["sizes"], axis=0),
        node("Resize", ["channels", "", "", "sizes"], ["planes"], mode="linear"),
        node("QuantizeLinear", ["planes", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        node("Conv", ["dq", "w", "b"], ["c"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["mp"], kernel_shape=[2, 2], strides=[2, 2]),
        node("AveragePool", ["mp"], ["ap"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Resize", ["ap", "", "double"], ["up"], mode="linear"),
        node("Add", ["up", "r"], ["sum"]),
        node("Pad", ["sum", "pads"], ["padded"]),
        node("Slice", ["padded", "start", "end", "sides"], ["cut"]),
        node("Reshape", ["cut", "flat"], ["tokens"]),
        node("Transpose", ["tokens"], ["rows"], perm=[0, 2, 1]),
        node("LayerNormalization", ["rows", "ones", "b"], ["normal"]),
        node("MatMul", ["normal", "m"], ["mixed"]),
        node("Erf", ["mixed"], ["erf"]),
        node("Transpose", ["erf"], ["columns"], perm=[0, 2, 1]),
        node("Reshape", ["columns", "back"], ["logits"]),
        node("Div", ["logits", "temperature"], ["scaled"]),
        node("Softmax", ["scaled"], ["p"], axis=1),
        node("ArgMax", ["p"], ["ids"], axis=1, keepdims=0),
        node("Cast", ["ids"], ["semantic"], to=2),
        node("ReduceMax", ["p"], ["most"], axes=[1], keepdims=1),
        node("ReduceSum", ["p", "axis"], ["all"], keepdims=1),
        node("Range", ["first_", "six", "two"], ["range"]),
        node("Constant", [], ["first_"], value_int=0),
        node("Sub", ["all", "most"], ["rest_"]),
        node("Clip", ["rest_", "low", "high"], ["clipped"]),
        node("Squeeze", ["clipped", "axis"], ["anomaly"]),
    ]
    nodes[29], nodes[30] = nodes[30], nodes[29]
    return nodes
