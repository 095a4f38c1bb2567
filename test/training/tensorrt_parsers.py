"""What TensorRT's ONNX parsers, 8.6 to 11, refuse or read wrongly, as far as our graphs come near it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

READ_BY_ALL = {
    "Add", "ArgMax", "AveragePool", "Cast", "Clip", "Concat", "Constant", "Conv", "DepthToSpace", "DequantizeLinear",
    "Div", "Exp", "Gather", "Log", "MatMul", "MaxPool", "Mul", "Neg", "QuantizeLinear", "ReduceMax", "ReduceSum",
    "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Slice", "Sub", "Transpose",
}  # fmt: skip
# Further operators of imported networks. All are in the parsers' lists of supported operators from 8.6 to 10.1.
READ_BY_ALL |= {
    "And", "ConvTranspose", "Equal", "Erf", "Expand", "GridSample", "InstanceNormalization", "LayerNormalization",
    "Less", "Not", "Pad", "Softmax", "Tanh", "Unsqueeze", "Where",
}  # fmt: skip
ATTRIBUTE_AXES = {"ReduceMax", "ReduceMean", "ReduceMin"}
SAME_TYPE = {"Add", "Sub", "Mul", "Div", "Conv", "ConvTranspose", "Concat", "MatMul"}


def complaints(model: onnx.ModelProto) -> Iterator[str]:
    """One line for each thing that a parser would refuse, or take for something else."""
    opsets = [(entry.domain, entry.version) for entry in model.opset_import]
    if opsets != [("", 17)] or model.ir_version > 8:
        yield f"opsets {opsets}, IR {model.ir_version}: 8.6 reads opset 17, IR 8 at most"
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in inferred.initializer}
    for node in inferred.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    types.update({name: onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in constants.items()})
    edges = {value.name for value in (*inferred.input, *inferred.output)}
    for name, kind in types.items():
        if kind == onnx.TensorProto.UINT8 and name not in edges:
            yield f"{name} is uint8 between nodes"
        if kind == onnx.TensorProto.DOUBLE:
            yield f"{name} is float64"
    for node in inferred.node:
        yield from _of_node(node, types, constants)


def _of_node(node: onnx.NodeProto, types: dict[str, int], constants: dict[str, np.ndarray]) -> Iterator[str]:
    what = f"{node.op_type} '{node.name}'"
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    inputs = [name for name in node.input if name]
    if node.op_type not in READ_BY_ALL or node.domain:
        yield f"{what}: not an operator that all versions read"
    if node.op_type in SAME_TYPE and len({types[name] for name in inputs}) > 1:
        yield f"{what}: inputs of different types, which a strongly typed network refuses"
    if any(types.get(name) == onnx.TensorProto.UINT8 for name in [*inputs, *node.output]) and node.op_type != "Cast":
        yield f"{what}: uint8 anywhere but in a cast"
    if node.op_type in ATTRIBUTE_AXES and "axes" not in attributes:
        yield f"{what}: no axes in its attributes, which 8.6 reads as all axes"
    if node.op_type == "ReduceSum" and node.input[1] not in constants:
        yield f"{what}: axes that are computed"
    if node.op_type == "Shape" and {"start", "end"} & set(attributes):
        yield f"{what}: start or end, which 8.6 ignores"
    if node.op_type == "Resize":
        if attributes["mode"] not in (b"linear", b"nearest") or attributes.get("antialias"):
            yield f"{what}: mode {attributes['mode']!r} or antialias"
        if attributes["coordinate_transformation_mode"] not in (b"half_pixel", b"asymmetric", b"align_corners"):
            yield f"{what}: {attributes['coordinate_transformation_mode']!r}"
        if len(node.input) > 2 and node.input[2] and types[node.input[2]] != onnx.TensorProto.FLOAT:
            yield f"{what}: scales that are not float32"
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        scale, zero = constants.get(node.input[1]), constants.get(node.input[2])
        if scale is None or zero is None or zero.dtype != np.int8 or zero.any() or not (scale > 0).all():
            yield f"{what}: scale or zero point is computed, or it is not symmetric int8"
        elif scale.ndim and attributes.get("axis", 1) != 0:
            yield f"{what}: a scale for each of axis {attributes.get('axis', 1)}, not of the output channels"
