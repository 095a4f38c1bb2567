"""The rules of the operators that work on maps of features: convolution, pooling, resizing, products, normalisation."""

from __future__ import annotations

from collections.abc import Sequence

from ros_ood_perception.bundle.onnx_model.model_file import FLOAT
from ros_ood_perception.bundle.onnx_model.rules import Call, Operator, Shape, adding_to, broadcast
from ros_ood_perception.bundle.onnx_model.wire_format import OnnxFileError

NETWORK_OPERATORS: dict[str, Operator] = {}
operator = adding_to(NETWORK_OPERATORS)

LARGEST_WINDOW = 4096
"""Of a kernel, stride, dilation or padding, pixels."""


def windows(call: Call, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and padding (all begins, then all ends) of a convolution or pooling.

    Raises:
        OnnxFileError: they are not two-dimensional, or none that an exporter writes.
    """
    if call.attribute("auto_pad", b"NOTSET") != b"NOTSET":
        raise OnnxFileError("auto_pad is set; write the padding out")
    strides = list(call.attribute("strides", (1, 1)))
    dilations = list(call.attribute("dilations", (1, 1)))
    pads = list(call.attribute("pads", (0, 0, 0, 0)))
    if (len(kernel), len(strides), len(dilations), len(pads)) != (2, 2, 2, 4):
        raise OnnxFileError("its kernel, strides, dilations or pads are not those of two dimensions")
    if min(*kernel, *strides, *dilations) < 1 or min(pads) < 0:
        raise OnnxFileError("its kernel, strides or dilations are not positive, or its pads negative")
    if max(*kernel, *strides, *dilations, *pads) > LARGEST_WINDOW:
        raise OnnxFileError(f"its kernel, strides, dilations or pads are larger than {LARGEST_WINDOW}")
    return strides, dilations, pads


def _windowed(call: Call, kernel: Sequence[int]) -> tuple[int, int]:
    strides, dilations, pads = windows(call, kernel)
    sides = call.input(0).sides
    if len(sides) != 4:
        raise OnnxFileError(f"its input has the shape {sides}; it must be (N, C, h, w)")
    found = []
    for index in range(2):
        room = sides[2 + index] + pads[index] + pads[2 + index] - dilations[index] * (kernel[index] - 1) - 1
        if room < 0:
            raise OnnxFileError(f"its kernel {tuple(kernel)} is larger than its input {sides}")
        found.append(room // strides[index] + 1)
    return found[0], found[1]


@operator("Conv", 2, 3, auto_pad=bytes, dilations=tuple, group=int, kernel_shape=tuple, pads=tuple, strides=tuple)
def _conv(call: Call) -> tuple[int, Shape, int]:
    data, weight, bias = call.input(0).sides, call.input(1).sides, call.optional(2)
    groups = call.attribute("group", 1)
    if len(weight) != 4 or not 1 <= groups <= weight[0]:
        raise OnnxFileError(f"its weights have the shape {weight}, in {groups} groups")
    if tuple(call.attribute("kernel_shape", weight[2:])) != weight[2:]:
        raise OnnxFileError(f"kernel_shape is {call.attribute('kernel_shape', ())}, its weights are {weight}")
    if data[1:2] != (weight[1] * groups,) or weight[0] % groups:
        raise OnnxFileError(f"weights {weight} in {groups} groups do not fit an input {data}")
    if bias is not None and bias.shape != (weight[0],):
        raise OnnxFileError(f"its bias has the shape {bias.shape}; {weight[0]} outputs need as many")
    if len({info.element_type for info in call.inputs if info is not None}) > 1:
        raise OnnxFileError("its input, weights and bias have different types")
    height, width = _windowed(call, weight[2:])
    shape = (data[0], weight[0], height, width)
    return call.input(0).element_type, shape, weight[1] * weight[2] * weight[3]


@operator(
    "ConvTranspose",
    2,
    3,
    auto_pad=bytes,
    dilations=tuple,
    group=int,
    kernel_shape=tuple,
    output_padding=tuple,
    pads=tuple,
    strides=tuple,
)
def _conv_transpose(call: Call) -> tuple[int, Shape, int]:
    # DPT, BEiT and EoMT up-sample with it. output_shape is not taken: it would have to agree with the pads.
    data, weight, bias = call.input(0).sides, call.input(1).sides, call.optional(2)
    groups = call.attribute("group", 1)
    if len(weight) != 4 or len(data) != 4 or not 1 <= groups <= weight[0] or weight[0] % groups:
        raise OnnxFileError(f"its input has the shape {data}, its weights {weight}, in {groups} groups")
    if tuple(call.attribute("kernel_shape", weight[2:])) != weight[2:] or data[1] != weight[0]:
        raise OnnxFileError(f"weights {weight} do not fit an input {data} or its kernel_shape")
    outputs = weight[1] * groups
    if bias is not None and bias.shape != (outputs,):
        raise OnnxFileError(f"its bias has the shape {bias.shape}; {outputs} outputs need as many")
    if len({info.element_type for info in call.inputs if info is not None}) > 1:
        raise OnnxFileError("its input, weights and bias have different types")
    strides, dilations, pads = windows(call, weight[2:])
    extra = output_padding(call, strides)
    found = [
        strides[i] * (data[2 + i] - 1) + extra[i] + dilations[i] * (weight[2 + i] - 1) + 1 - pads[i] - pads[2 + i]
        for i in range(2)
    ]
    if pads[:2] != pads[2:] or min(found) < 1:
        raise OnnxFileError(f"its pads {pads} differ between the sides, or leave nothing of {data}")
    # Work of one element of the output: every element of the input goes into a whole kernel.
    work = -(-weight[0] * weight[2] * weight[3] * data[2] * data[3] // (groups * found[0] * found[1]))
    return call.input(0).element_type, (data[0], outputs, *found), work


def output_padding(call: Call, strides: Sequence[int]) -> list[int]:
    """Rows and columns that a `ConvTranspose` adds at the end, fewer than its strides."""
    extra = list(call.attribute("output_padding", (0, 0)))
    if len(extra) != 2 or any(not 0 <= added < stride for added, stride in zip(extra, strides, strict=True)):
        raise OnnxFileError(f"output_padding is {extra}; two numbers below the strides {list(strides)} are right")
    return extra


@operator("InstanceNormalization", 3, 3, epsilon=float)
def _instance_norm(call: Call) -> tuple[int, Shape, int]:
    # GroupNorm in the decoders of Mask2Former, MaskFormer and OneFormer becomes it.
    data = call.input(0).sides
    for index in (1, 2):
        if len(data) < 3 or call.input(index).shape != data[1:2]:
            raise OnnxFileError(f"its scale or bias has the shape {call.input(index).shape} for an input {data}")
    if len({info.element_type for info in call.inputs if info is not None}) > 1:
        raise OnnxFileError("its input, scale and bias have different types")
    return call.input(0).element_type, data, 4


@operator("GridSample", 2, 2, align_corners=int, mode=bytes, padding_mode=bytes)
def _grid_sample(call: Call) -> tuple[int, Shape, int]:
    # Deformable attention in the decoders of Mask2Former and OneFormer. What lies outside of the map counts as 0, so
    # positions need not be known.
    data, grid = call.input(0).sides, call.input(1).sides
    if len(data) != 4 or len(grid) != 4 or grid[3] != 2 or grid[0] != data[0] or min(data[2:], default=0) < 1:
        raise OnnxFileError(f"it samples {data} at {grid}; (N, C, h, w) and (N, h', w', 2) are right")
    if call.input(0).element_type != call.input(1).element_type:
        raise OnnxFileError("its map and its positions have different types")
    if call.attribute("mode", b"bilinear") != b"bilinear" or call.attribute("padding_mode", b"zeros") != b"zeros":
        raise OnnxFileError("it samples by another mode than bilinear, or pads with something else than zeros")
    return call.input(0).element_type, (data[0], data[1], grid[1], grid[2]), 8


@operator(
    "MaxPool",
    1,
    1,
    auto_pad=bytes,
    ceil_mode=int,
    dilations=tuple,
    kernel_shape=tuple,
    pads=tuple,
    storage_order=int,
    strides=tuple,
)
@operator(
    "AveragePool",
    1,
    1,
    auto_pad=bytes,
    ceil_mode=int,
    count_include_pad=int,
    kernel_shape=tuple,
    pads=tuple,
    strides=tuple,
)
def _pool(call: Call) -> tuple[int, Shape, int]:
    kernel = call.attribute("kernel_shape", ())
    if call.attribute("ceil_mode", 0):
        raise OnnxFileError("ceil_mode is 1; a bundle's graph rounds down")
    height, width = _windowed(call, kernel)
    pads = call.attribute("pads", (0, 0, 0, 0))
    if any(2 * pad > kernel[index % 2] for index, pad in enumerate(pads)):
        raise OnnxFileError(f"its pads {pads} are more than half of its kernel {kernel}")
    sides = call.input(0).sides
    return call.input(0).element_type, (sides[0], sides[1], height, width), kernel[0] * kernel[1]


@operator(
    "Resize",
    1,
    4,
    coordinate_transformation_mode=bytes,
    cubic_coeff_a=float,
    exclude_outside=int,
    extrapolation_value=float,
    mode=bytes,
    nearest_mode=bytes,
)
def _resize(call: Call) -> tuple[int, Shape, int]:
    data = call.input(0)
    mode, coordinates = (
        call.attribute("mode", b"nearest"),
        call.attribute("coordinate_transformation_mode", b"half_pixel"),
    )
    # The decoder of MaskFormer repeats pixels.
    repeats = (mode, coordinates, call.attribute("nearest_mode", b"")) == (b"nearest", b"asymmetric", b"floor")
    if not repeats and (
        mode != b"linear" or coordinates not in (b"half_pixel", b"pytorch_half_pixel", b"align_corners")
    ):
        raise OnnxFileError(
            f"it resizes by {mode!r} and {coordinates!r}; a bundle's graph does so linearly, half_pixel, or repeats "
            "pixels (nearest, asymmetric, floor)"
        )
    if len(data.shape) != 4 or call.attribute("exclude_outside", 0):
        raise OnnxFileError(f"its input has the shape {data.shape}; it must be (N, C, h, w)")
    sizes = call.integers(3)
    scales = call.optional(2)
    if sizes is None:
        if scales is None or scales.value is None or scales.shape != (4,) or scales.element_type != FLOAT:
            raise OnnxFileError("it has neither four sizes nor four scales that are known before it runs")
        factors = [float(factor) for factor in scales.value]
        if not all(1 / LARGEST_WINDOW <= factor <= LARGEST_WINDOW for factor in factors):
            raise OnnxFileError(f"its scales are {factors}; they must be positive and at most {LARGEST_WINDOW}")
        sizes = [int(side * factor) for side, factor in zip(data.sides, factors, strict=True)]
    elif scales is not None and scales.shape != (0,):
        raise OnnxFileError("it has sizes and scales; one of them is right")
    if len(sizes) != 4 or tuple(sizes[:2]) != data.shape[:2]:
        raise OnnxFileError(f"it makes {sizes} of {data.shape}; number and channels stay")
    if not all(isinstance(side, int) and side >= 1 for side in sizes):
        raise OnnxFileError(f"it makes {sizes}; every side must be known and positive")
    if repeats and any(new % old for new, old in zip(sizes[2:], data.sides[2:], strict=True)):
        raise OnnxFileError(f"it repeats the pixels of {data.shape} to {sizes}; only a whole number of times is read")
    return data.element_type, tuple(sizes), 4


@operator("MatMul", 2, 2)
def _matmul(call: Call) -> tuple[int, Shape, int]:
    first, second = call.input(0), call.input(1)
    a, b = first.sides, second.sides
    if first.element_type != second.element_type or min(len(a), len(b)) < 2 or a[-1] != b[-2]:
        raise OnnxFileError(f"{a} and {b} are no matrices that can be multiplied")
    return first.element_type, (*broadcast(a[:-2], b[:-2]), a[-2], b[-1]), a[-1]


@operator("LayerNormalization", 2, 3, axis=int, epsilon=float, stash_type=int)
def _layer_norm(call: Call) -> tuple[int, Shape, int]:
    data = call.input(0)
    axis = call.axis(call.attribute("axis", -1), len(data.sides))
    for index in range(1, len(call.inputs)):
        if call.input(index).shape != data.shape[axis:]:
            raise OnnxFileError(f"its scale or bias has the shape {call.input(index).shape}, not {data.shape[axis:]}")
    return data.element_type, data.shape, 4


@operator("Pad", 2, 4, mode=bytes)
def _pad(call: Call) -> tuple[int, Shape, int]:
    data, pads = call.input(0), call.integers(1) or []
    if call.attribute("mode", b"constant") != b"constant" or call.optional(3) is not None:
        raise OnnxFileError("it pads by another mode than constant, or along named axes")
    sides = data.sides
    if len(pads) != 2 * len(sides) or not all(isinstance(p, int) and 0 <= p <= LARGEST_WINDOW for p in pads):
        raise OnnxFileError(f"it pads {sides} by {pads}; two known numbers for each axis, not negative")
    begins, ends = pads[: len(sides)], pads[len(sides) :]
    shape = tuple(b + side + e for b, side, e in zip(begins, sides, ends, strict=True))
    return data.element_type, shape, 1
