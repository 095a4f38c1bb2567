"""A deployed segmenter as an ONNX file that every engine reads."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from ros_ood_perception.bundle.model_bundle import MODEL_FILE
from ros_ood_perception.bundle.onnx_model.graph import check_graph
from ros_ood_perception.bundle.onnx_model.wire_format import OnnxFileError
from ros_ood_perception.errors import PerceptionError
from training.bundles.graph import name_anomaly_at_logits, name_logits
from training.bundles.graph_form.fold_pads import fold_pads
from training.bundles.graph_form.up_sampled_classes import with_cheaper_classes
from training.segmenter.deployed_segmenter import DeployedSegmenter

OPSET = 17
LOGITS_WEIGHT = "segmenter.classify.weight"


class ExportError(PerceptionError, RuntimeError):
    """The graph cannot be exported, or differs from the network."""


def onnx_bytes(model: DeployedSegmenter, properties: dict[str, str]) -> bytes:
    """The model as an ONNX file: opset 17, with dynamic N, H, W of the input and no traces of this machine.

    Its properties also hold the normalisation of the input: `input_mean` and `input_std`, grey levels of R, G, B.

    Raises:
        ExportError: the exporter wrote another opset than 17, or an unreadable graph.
    """
    height, width = model.input_size
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    graph = traced(model, example, {"image": "NHW"}, {"semantic": "N", "anomaly": "N"})
    fold_pads(graph)
    name_logits(graph, LOGITS_WEIGHT)
    name_anomaly_at_logits(graph)
    with_cheaper_classes(graph)
    normalisation = model.segmenter.normalise
    return finished(
        graph,
        {
            **properties,
            "input_mean": " ".join(f"{level:g}" for level in normalisation.mean),
            "input_std": " ".join(f"{level:g}" for level in normalisation.std),
        },
    )


def traced_piece(
    module: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    prefix: str,
    shared: Collection[str] = (),
) -> onnx.GraphProto:
    """Nodes and initializers of a module, to be put into another graph.

    Args:
        inputs, outputs: as of `traced`.
        prefix: first part of all other names, except those in `shared`.
    """
    piece = traced(module, example, inputs, outputs).graph
    return prefixed(piece, prefix, {*inputs, *outputs, *shared})


def prefixed(piece: onnx.GraphProto, prefix: str, kept: Collection[str]) -> onnx.GraphProto:
    """A graph whose names, except those in `kept`, begin with `prefix`. It is changed in place."""

    def name_of(name: str) -> str:
        return name if not name or name in kept else f"{prefix}/{name}"

    for node in piece.node:
        node.name = f"/{prefix}/{node.name}"
        for names in (node.input, node.output):
            names[:] = [name_of(name) for name in names]
    for tensor in piece.initializer:
        tensor.name = name_of(tensor.name)
    return piece


def traced(
    module: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
) -> onnx.ModelProto:
    """The graph of a module, as the exporter writes it.

    Args:
        inputs, outputs: names to the dynamic axes: `NHW` for the first three; `N?hw` leaves out the second.
    """
    axes = {
        name: {index: letter for index, letter in enumerate(letters) if letter != "?"}
        for name, letters in (*inputs.items(), *outputs.items())
    }
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        # PyTorch recommends its new exporter, which writes opset 18 and cannot convert it to 17.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
        # The warning is about amounts of padding, which fold_pads computes.
        warnings.filterwarnings("ignore", message="Constant folding - Only steps=1")
        torch.onnx.export(
            module,
            example if isinstance(example, tuple) else (example,),
            str(Path(folder) / MODEL_FILE),
            opset_version=OPSET,
            dynamo=False,
            input_names=[*inputs],
            output_names=[*outputs],
            dynamic_axes=axes,
        )
        return onnx.load(Path(folder) / MODEL_FILE)


def finished(graph: onnx.ModelProto, properties: dict[str, str]) -> bytes:
    """A graph as it is stored in a bundle: checked, and with the model's properties as the only metadata.

    Raises:
        ExportError: it has another opset than 17, or a reader of bundles would refuse it.
    """
    opsets = {entry.domain or "ai.onnx": entry.version for entry in graph.opset_import}
    if opsets != {"ai.onnx": OPSET}:
        raise ExportError(f"the exporter wrote the opsets {opsets}; TensorRT 8.6 needs {OPSET} alone")
    graph.doc_string = ""
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, properties)
    onnx.checker.check_model(graph, full_check=True)
    contents = graph.SerializeToString()
    try:
        check_graph(contents)
    except OnnxFileError as error:
        raise ExportError(
            f"a reader of bundles would refuse the graph: {error}. A missing operator is added in "
            "ros_ood_perception/bundle/onnx_model/operators.py"
        ) from error
    return contents
