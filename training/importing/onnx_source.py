"""A network in an ONNX file, which gives class logits (N, K, h/s, w/s) of a normalised image (N, 3, h, w)."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from ros_ood_perception.shown_text import error_line
from training.bundles.networks.static_graph import static_graph
from training.bundles.onnx_export import OPSET
from training.importing.class_list import chosen_classes
from training.importing.imported_network import ImportedNetwork, size_note
from training.importing.request import ImportRequest
from training.segmenter.networks.network_input import NetworkInput
from training.segmenter.networks.refusal import NetworkRefusedError
from training.segmenter.networks.transformers_folder import check_weights

OLDEST_OPSET = 11
WITH_SUBGRAPHS = {"If", "Loop", "Scan"}


def onnx_network(request: ImportRequest, path: Path) -> ImportedNetwork:
    """Load a network for an import.

    Raises:
        NetworkRefusedError: the file is not such a network, or something about it was not said.
    """
    model = read_onnx_file(path)
    _refuse_foreign_operators(path, model)
    size = _input_size(path, model)
    channels = _class_channels(path, model)
    check_weights(str(path), weights_of(model))
    if request.normalisation is None:
        raise NetworkRefusedError(
            f"{path}: an ONNX file does not say how its input is normalised; give --mean and --std (grey levels 0 to "
            "255 of red, green, blue) and, for blue first, --channel-order bgr"
        )
    if request.licence is None:
        raise NetworkRefusedError(f"{path}: an ONNX file does not say the licence of its weights; give --licence TEXT")
    classes = chosen_classes((), request.classes, request.drivable, channels)
    notes = size_note(request.size, size, "the file fixes the size of its input")
    return ImportedNetwork(
        graph=static_graph(_with_opset(path, model)),
        reference=_Reference(model),
        of_masks=False,
        input=NetworkInput(size, request.normalisation, request.bgr),
        classes=classes,
        licence=request.licence,
        origin=f"{path.name}, an ONNX file",
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        parameters=weights_of(model),
        notes=notes,
    )


def weights_of(model: onnx.ModelProto) -> int:
    """Number of the floating-point weights of a graph."""
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    return sum(math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type in floats)


def read_onnx_file(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, with weights that lie in files beside it.

    Raises:
        NetworkRefusedError: it is none.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # of protobuf and of the checker; no common base class
        raise NetworkRefusedError(
            f"{path} is no valid ONNX file ({error_line(error)[:200]}); export it again"
        ) from error
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return model


def _refuse_foreign_operators(path: Path, model: onnx.ModelProto) -> None:
    foreign = [node for node in model.graph.node if node.domain not in ("", "ai.onnx")]
    if foreign or model.functions:
        name = f"{foreign[0].domain}.{foreign[0].op_type}" if foreign else model.functions[0].name
        raise NetworkRefusedError(
            f"{path} has the custom operator {name}, which no engine of the vehicle knows; export it with ONNX's own "
            f"operators of opset {OPSET}"
        )
    branching = [node.op_type for node in model.graph.node if node.op_type in WITH_SUBGRAPHS]
    if branching:
        raise NetworkRefusedError(
            f"{path} has the operator {branching[0]}, whose work is not known before it runs; export it by tracing, at "
            "a fixed input size"
        )


def _sides(value: onnx.ValueInfoProto) -> list[int | None]:
    return [side.dim_value if side.HasField("dim_value") else None for side in value.type.tensor_type.shape.dim]


def _input_size(path: Path, model: onnx.ModelProto) -> tuple[int, int]:
    inputs = list(model.graph.input)
    sides = _sides(inputs[0]) if len(inputs) == 1 else []
    is_float = len(inputs) == 1 and inputs[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    if len(sides) != 4 or not is_float or sides[1] != 3:
        names = ", ".join(f"{value.name} {_sides(value)}" for value in inputs)
        raise NetworkRefusedError(
            f"{path} has the input(s) {names}; export it with one input (N, 3, h, w) float32, the normalised image"
        )
    height, width = sides[2:]
    if not height or not width:
        raise NetworkRefusedError(
            f"{path} has an input of dynamic height or width; export it with a fixed height and width, such as "
            "512x1024, and a dynamic number of images"
        )
    return height, width


def _class_channels(path: Path, model: onnx.ModelProto) -> int:
    outputs = list(model.graph.output)
    if len(outputs) != 1:
        raise NetworkRefusedError(
            f"{path} has the outputs {', '.join(value.name for value in outputs)}; export it with one, the class "
            "logits (N, K, h, w)"
        )
    inferred = onnx.shape_inference.infer_shapes(model).graph.output[0]
    sides = _sides(inferred)
    is_float = inferred.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    if len(sides) != 4 or not is_float or not sides[1]:
        raise NetworkRefusedError(
            f"{path} has the output {inferred.name} {sides}; export it with class logits (N, K, h, w) float32 as its "
            "output, before softmax and argmax"
        )
    return sides[1]


def _with_opset(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if version == OPSET:
        return model
    try:
        if version < OLDEST_OPSET:
            raise ValueError(f"opset {version} is older than {OLDEST_OPSET}")
        return onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter's errors have no common base class
        raise NetworkRefusedError(
            f"{path} has opset {version}, and cannot be converted to {OPSET} ({error_line(error)[:200]}); export it "
            f"with opset {OPSET}"
        ) from error


class _Reference:
    """The file as it is, in ONNX Runtime."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self._input = model.graph.input[0].name

    def __call__(self, pixels: Tensor) -> Tensor:
        [found] = self._session.run(None, {self._input: pixels.numpy().astype(np.float32)})
        return torch.from_numpy(found)
