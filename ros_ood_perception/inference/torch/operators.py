"""ONNX operators as calls of torch: one function for each node, with all static values fixed in it.

Shapes, sizes and axes are known when a step is made (`bundle.onnx_model.graph.infer`). So a run works on tensors only:
it never waits for the GPU, and can be recorded in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ros_ood_perception.bundle.onnx_model.array_operators import slices
from ros_ood_perception.bundle.onnx_model.model_file import BOOL, DOUBLE, FLOAT, FLOAT16, INT8, INT32, INT64, UINT8
from ros_ood_perception.bundle.onnx_model.network_operators import output_padding, windows
from ros_ood_perception.bundle.onnx_model.rules import Call, TensorInfo
from ros_ood_perception.bundle.onnx_model.wire_format import OnnxFileError

TORCH_TYPES = {
    FLOAT: torch.float32,
    UINT8: torch.uint8,
    INT8: torch.int8,
    INT32: torch.int32,
    INT64: torch.int64,
    BOOL: torch.bool,
    FLOAT16: torch.float16,
    DOUBLE: torch.float64,
}

Step = tuple[Callable[..., Tensor], Sequence[int]]
"""A function, and the indices of the node's inputs that are its arguments."""
Maker = Callable[[Call, TensorInfo, Any], Step]
"""Makes a step of a call, its output and the device."""


def _plain(function: Callable[..., Tensor], inputs: int) -> Maker:
    return lambda call, output, device: (function, range(inputs))


def _division(call: Call, output: TensorInfo, device: Any) -> Step:
    if TORCH_TYPES[output.element_type].is_floating_point:
        return torch.div, (0, 1)
    return lambda a, b: torch.div(a, b, rounding_mode="trunc"), (0, 1)


def _modulo(call: Call, output: TensorInfo, device: Any) -> Step:
    return torch.fmod if call.attribute("fmod", 0) else torch.remainder, (0, 1)


def _cast(call: Call, output: TensorInfo, device: Any) -> Step:
    kind = TORCH_TYPES[output.element_type]
    return lambda x: x.to(kind), (0,)


def _clip(call: Call, output: TensorInfo, device: Any) -> Step:
    bounds = []
    for index in (1, 2):
        info = call.optional(index)
        if info is not None and (info.value is None or info.value.size != 1):
            raise OnnxFileError("its bounds are not known before it runs")
        bounds.append(None if info is None or info.value is None else info.value.item())
    low, high = bounds
    return lambda x: torch.clamp(x, low, high), (0,)


def _softmax(call: Call, output: TensorInfo, device: Any) -> Step:
    axis = call.attribute("axis", -1)
    return lambda x: torch.softmax(x, axis), (0,)


def _reduction(function: Callable[..., Tensor]) -> Maker:
    def make(call: Call, output: TensorInfo, device: Any) -> Step:
        given = call.integers(1) if call.node.operator == "ReduceSum" else call.attribute("axes", ())
        axes, keep = tuple(given or ()), bool(call.attribute("keepdims", 1))
        return lambda x: function(x, dim=axes, keepdim=keep), (0,)

    return make


def _arg_max(call: Call, output: TensorInfo, device: Any) -> Step:
    axis, keep = call.attribute("axis", 0), bool(call.attribute("keepdims", 1))
    return lambda x: torch.argmax(x, axis, keep), (0,)


def _gather(call: Call, output: TensorInfo, device: Any) -> Step:
    data, indices = call.input(0), call.input(1)
    axis = call.axis(call.attribute("axis", 0), len(data.shape))
    side = data.sides[axis]
    assert indices.value is not None
    chosen = indices.value.reshape(-1) % side
    if chosen.size == 1:
        first = int(chosen[0])
        return lambda x: x.narrow(axis, first, 1).reshape(output.sides), (0,)
    wanted = torch.as_tensor(chosen, dtype=torch.int64, device=device)
    return lambda x: torch.index_select(x, axis, wanted).reshape(output.sides), (0,)


def _slice(call: Call, output: TensorInfo, device: Any) -> Step:
    parts = slices(call)
    if any(part.step < 0 for _, part in parts):
        raise OnnxFileError("it goes backwards through a tensor, which torch does not")
    cuts = [slice(None)] * len(call.input(0).shape)
    for axis, part in parts:
        cuts[axis] = part
    index = tuple(cuts)
    return lambda x: x[index], (0,)


def _concat(call: Call, output: TensorInfo, device: Any) -> Step:
    axis = call.attribute("axis", 0)
    return lambda *parts: torch.cat(parts, axis), range(len(call.inputs))


def _reshape(call: Call, output: TensorInfo, device: Any) -> Step:
    return lambda x: x.reshape(output.sides), (0,)


def _transpose(call: Call, output: TensorInfo, device: Any) -> Step:
    order = call.attribute("perm", tuple(reversed(range(len(output.shape)))))
    return lambda x: x.permute(order), (0,)


def _depth_to_space(call: Call, output: TensorInfo, device: Any) -> Step:
    block = call.attribute("blocksize", 0)
    return lambda x: functional.pixel_shuffle(x, block), (0,)


def _expand(call: Call, output: TensorInfo, device: Any) -> Step:
    return lambda x: torch.broadcast_to(x, output.sides), (0,)


def _constant_of_shape(call: Call, output: TensorInfo, device: Any) -> Step:
    given = call.attribute("value", None)
    value, kind = (0 if given is None else given.item()), TORCH_TYPES[output.element_type]
    return lambda: torch.full(output.sides, value, dtype=kind, device=device), ()


def _range(call: Call, output: TensorInfo, device: Any) -> Step:
    numbers = [(call.integers(index) or [0])[0] for index in range(3)]
    return lambda: torch.arange(*numbers, dtype=torch.int64, device=device), ()


def _padded(pads: Sequence[int], value: float) -> Callable[[Tensor], Tensor]:
    """Pads of two dimensions, all begins before all ends, as a function."""
    order = (pads[1], pads[3], pads[0], pads[2])
    return lambda x: functional.pad(x, order, value=value)


def _conv(call: Call, output: TensorInfo, device: Any) -> Step:
    strides, dilations, pads = windows(call, call.input(1).sides[2:])
    groups, used = call.attribute("group", 1), range(sum(info is not None for info in call.inputs))
    if pads[:2] == pads[2:]:
        same = pads[:2]
        return lambda x, w, b=None: functional.conv2d(x, w, b, strides, same, dilations, groups), used
    pad = _padded(pads, 0.0)
    return lambda x, w, b=None: functional.conv2d(pad(x), w, b, strides, 0, dilations, groups), used


def _conv_transpose(call: Call, output: TensorInfo, device: Any) -> Step:
    strides, dilations, pads = windows(call, call.input(1).sides[2:])
    groups, used = call.attribute("group", 1), range(sum(info is not None for info in call.inputs))
    same, extra = pads[:2], output_padding(call, strides)
    return lambda x, w, b=None: functional.conv_transpose2d(x, w, b, strides, same, extra, groups, dilations), used


def _instance_norm(call: Call, output: TensorInfo, device: Any) -> Step:
    epsilon = call.attribute("epsilon", 1e-5)
    return lambda x, w, b: functional.instance_norm(x, weight=w, bias=b, eps=epsilon), (0, 1, 2)


def _grid_sample(call: Call, output: TensorInfo, device: Any) -> Step:
    corners = bool(call.attribute("align_corners", 0))
    return lambda x, grid: functional.grid_sample(x, grid, align_corners=corners), (0, 1)


def _max_pool(call: Call, output: TensorInfo, device: Any) -> Step:
    kernel = call.attribute("kernel_shape", ())
    strides, dilations, pads = windows(call, kernel)
    if pads[:2] == pads[2:]:
        same = pads[:2]
        return lambda x: functional.max_pool2d(x, kernel, strides, same, dilations), (0,)
    pad = _padded(pads, float("-inf"))
    return lambda x: functional.max_pool2d(pad(x), kernel, strides, 0, dilations), (0,)


def _average_pool(call: Call, output: TensorInfo, device: Any) -> Step:
    kernel, counted = call.attribute("kernel_shape", ()), bool(call.attribute("count_include_pad", 0))
    strides, _, pads = windows(call, kernel)
    if pads[:2] == pads[2:]:
        same = pads[:2]
        return lambda x: functional.avg_pool2d(x, kernel, strides, same, count_include_pad=counted), (0,)
    if not counted:
        raise OnnxFileError("its pads differ between the sides and are not counted, which torch does not compute")
    pad = _padded(pads, 0.0)
    return lambda x: functional.avg_pool2d(pad(x), kernel, strides), (0,)


def _resize(call: Call, output: TensorInfo, device: Any) -> Step:
    coordinates = call.attribute("coordinate_transformation_mode", b"half_pixel")
    corners, size = coordinates == b"align_corners", output.sides[2:]
    if coordinates == b"pytorch_half_pixel" and 1 in size:
        raise OnnxFileError("it resizes to a single row or column by pytorch_half_pixel; half_pixel is right")
    if call.attribute("mode", b"nearest") == b"nearest":
        return lambda x: functional.interpolate(x, size=size, mode="nearest"), (0,)
    scales = call.optional(2)
    if call.optional(3) is None and not corners and scales is not None and scales.value is not None:
        # The scale of the graph, not the one that follows from the rounded size.
        factors = tuple(float(factor) for factor in scales.value[2:])
        return lambda x: functional.interpolate(
            x, scale_factor=factors, mode="bilinear", align_corners=False, recompute_scale_factor=False
        ), (0,)
    return lambda x: functional.interpolate(x, size=size, mode="bilinear", align_corners=corners), (0,)


def _leaky_relu(call: Call, output: TensorInfo, device: Any) -> Step:
    slope = call.attribute("alpha", 0.01)
    return lambda x: functional.leaky_relu(x, slope), (0,)


def _hard_sigmoid(call: Call, output: TensorInfo, device: Any) -> Step:
    slope, offset = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    return lambda x: torch.clamp(slope * x + offset, 0, 1), (0,)


def _layer_norm(call: Call, output: TensorInfo, device: Any) -> Step:
    sides = output.sides
    normalised = sides[call.axis(call.attribute("axis", -1), len(sides)) :]
    epsilon = call.attribute("epsilon", 1e-5)
    used = range(len(call.inputs))
    return lambda x, w, b=None: functional.layer_norm(x, normalised, w, b, epsilon), used


def _pad(call: Call, output: TensorInfo, device: Any) -> Step:
    pads, value = call.integers(1) or [], call.optional(2)
    if value is not None and (value.value is None or value.value.size != 1):
        raise OnnxFileError("what it pads with is not known before it runs")
    filled = 0 if value is None or value.value is None else value.value.item()
    rank = len(pads) // 2
    order = [side for axis in reversed(range(rank)) for side in (pads[axis], pads[rank + axis])]
    return lambda x: functional.pad(x, order, value=filled), (0,)


TORCH_OPERATORS: dict[str, Maker] = {
    "Abs": _plain(torch.abs, 1),
    "Add": _plain(torch.add, 2),
    "And": _plain(torch.logical_and, 2),
    "ArgMax": _arg_max,
    "AveragePool": _average_pool,
    "Cast": _cast,
    "Ceil": _plain(torch.ceil, 1),
    "Clip": _clip,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Div": _division,
    "Equal": _plain(torch.eq, 2),
    "Erf": _plain(torch.erf, 1),
    "Exp": _plain(torch.exp, 1),
    "Expand": _expand,
    "Floor": _plain(torch.floor, 1),
    "Gather": _gather,
    "Greater": _plain(torch.gt, 2),
    "GreaterOrEqual": _plain(torch.ge, 2),
    "GridSample": _grid_sample,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(functional.hardswish, 1),
    "Identity": _plain(lambda x: x, 1),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky_relu,
    "Less": _plain(torch.lt, 2),
    "LessOrEqual": _plain(torch.le, 2),
    "Log": _plain(torch.log, 1),
    "MatMul": _plain(torch.matmul, 2),
    "Max": _plain(torch.maximum, 2),
    "MaxPool": _max_pool,
    "Min": _plain(torch.minimum, 2),
    "Mod": _modulo,
    "Mul": _plain(torch.mul, 2),
    "Neg": _plain(torch.neg, 1),
    "Not": _plain(torch.logical_not, 1),
    "Pad": _pad,
    "Pow": _plain(torch.pow, 2),
    "Range": _range,
    "Reciprocal": _plain(torch.reciprocal, 1),
    "ReduceL2": _reduction(torch.linalg.vector_norm),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceSum": _reduction(torch.sum),
    "Relu": _plain(torch.relu, 1),
    "Reshape": _reshape,
    "Resize": _resize,
    "Round": _plain(torch.round, 1),
    "Sigmoid": _plain(torch.sigmoid, 1),
    "Sign": _plain(torch.sign, 1),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _plain(functional.softplus, 1),
    "Sqrt": _plain(torch.sqrt, 1),
    "Squeeze": _reshape,
    "Sub": _plain(torch.sub, 2),
    "Tanh": _plain(torch.tanh, 1),
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
    "Where": _plain(torch.where, 3),
}
"""All of `OPERATORS` except `Constant` and `Shape`, whose values are always known, and the two of 8-bit graphs."""
