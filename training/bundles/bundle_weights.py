"""The weights in a bundle's graph, back in the network that they were exported from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.errors import PerceptionError
from training.segmenter.encoders import ENCODER_STRIDES
from training.segmenter.ladder_segmenter import LadderSegmenter

ROOT = "segmenter"
"""What `DeployedSegmenter` calls the network: the first part of its nodes' names."""


class BundleWeightsError(PerceptionError, ValueError):
    """A bundle whose graph does not hold the weights of the given network."""


def checkpoint_of_bundle(folder: Path, segmenter: LadderSegmenter) -> dict[str, Any]:
    """What a checkpoint of the bundle's run would say of the segmenter.

    Keys: `exported`, `classes`, `command`, `progression`.

    The exporter multiplied every batch normalisation into the convolution before it, so the network returned has
    convolutions with those products and normalisations that only add a bias. It computes what the bundle computes as
    long as its batch statistics are kept (`frozen_batch_norm`).

    Args:
        segmenter: a network of the bundle's configuration; its own weights are neither used nor changed.

    Raises:
        BundleError: not a verified bundle.
        BundleWeightsError: the graph is of another network, or computes something else with these weights.
    """
    bundle = read_bundle(folder)
    graph = onnx.load_from_string(bundle.model).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {
        _module_of(node.name): [stored[name] for name in node.input[1:] if name in stored]
        for node in graph.node
        if node.op_type == "Conv" and node.name.startswith(f"/{ROOT}/")
    }
    state = {name: value.clone() for name, value in segmenter.state_dict().items()}
    normalisations = _normalisation_after(segmenter)
    convolutions = {name: module for name, module in segmenter.named_modules() if isinstance(module, nn.Conv2d)}
    if set(found) != set(convolutions):
        different = sorted(set(found) ^ set(convolutions))
        raise BundleWeightsError(
            f"{folder}: holds another network than this configuration's ({len(different)} convolutions differ, such as "
            f"{different[0]})"
        )
    for name, module in convolutions.items():
        values = [torch.from_numpy(np.array(value)) for value in found[name]]
        if not values or values[0].shape != module.weight.shape:
            raise BundleWeightsError(
                f"{folder}: {name} is {tuple(values[0].shape) if values else 'missing'} there and "
                f"{tuple(module.weight.shape)} in this configuration"
            )
        state[f"{name}.weight"] = values[0]
        bias = values[1] if len(values) > 1 else torch.zeros(module.out_channels)
        if module.bias is not None:
            state[f"{name}.bias"] = bias
        if name in normalisations:
            norm, epsilon = normalisations[name]
            state[f"{norm}.weight"] = torch.ones_like(bias)
            state[f"{norm}.bias"] = bias
            state[f"{norm}.running_mean"] = torch.zeros_like(bias)
            state[f"{norm}.running_var"] = torch.full_like(bias, 1 - epsilon)
    training = bundle.description.training
    return {
        "kind": "bundle",
        "exported": state,
        "classes": [(known.name, known.colour) for known in bundle.description.classes],
        "command": training.command,
        "progression": {"training_seconds": 60 * training.training_minutes},
    }


def _module_of(node: str) -> str:
    """`/segmenter/context/reduce/reduce.0/Conv` -> `context.reduce.0`: a container's name is repeated in its parts'."""
    parts: list[str] = []
    for part in node.split("/")[2:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)


def _normalisation_after(segmenter: LadderSegmenter) -> dict[str, tuple[str, float]]:
    """Name of each convolution whose output goes into a batch normalisation -> that one's name and epsilon."""
    made_by: dict[int, str] = {}
    outputs: list[Tensor] = []  # kept, so that no two have one id
    found: dict[str, tuple[str, float]] = {}

    def after_convolution(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            made_by[id(output)] = name
            outputs.append(output)

        return hook

    def before_normalisation(name: str, epsilon: float) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor]) -> None:
            if id(inputs[0]) in made_by:
                found[made_by[id(inputs[0])]] = (name, epsilon)

        return hook

    handles = []
    for name, module in segmenter.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(after_convolution(name)))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(before_normalisation(name, module.eps)))
    training = segmenter.training
    segmenter.eval()
    side = 2 * ENCODER_STRIDES[-1]
    try:
        with torch.no_grad():
            segmenter(torch.zeros(1, 3, side, side))
    finally:
        segmenter.train(training)
        for handle in handles:
            handle.remove()
    return found
