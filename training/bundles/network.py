"""The network of a bundle in PyTorch, from the weights in its graph.

A bundle holds all that its network learnt. So other forms of the model can be made of it, and training can start from
it, where the checkpoint is lost. The exporter folds batch normalisations into the convolutions before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from training.bundles.fold_batch_norms import folded, normalisations_after
from training.bundles.graph import GraphError
from training.bundles.graph_form.up_sampled_classes import UP_SAMPLING
from training.segmenter.deployed_segmenter import DeployedSegmenter
from training.segmenter.encoders import ENCODER_STRIDES
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig

ROOT = "segmenter"
"""What `DeployedSegmenter` calls the network: the first part of its nodes' names."""


class BundleWeightsError(GraphError):
    """A bundle whose graph does not hold the weights of the given network."""


def segmenter_of_bundle(bundle: Bundle, config: SegmenterConfig) -> DeployedSegmenter:
    """What the bundle's graph computes, as a module with folded normalisations, in evaluation mode.

    Args:
        config: of the segmenter, as in the configuration that it was trained with.

    Raises:
        BundleWeightsError: the graph is of another network, or the network has weights beside those of convolutions,
            which cannot be read from a graph.
    """
    description = bundle.description
    size = description.input.size
    segmenter = folded(LadderSegmenter(config, len(description.classes)), torch.zeros(1, 3, *size))
    modules = _convolutions(segmenter)
    others = [n for n, m in segmenter.named_modules() if n not in modules and [*m.parameters(recurse=False)]]
    if others:
        raise BundleWeightsError(f"the network has weights beside convolutions ({others[0]}); export its checkpoint")
    for name, (weight, bias) in convolution_weights(bundle, modules).items():
        wanted = modules[name].bias
        if bias is None or wanted is None or bias.shape != wanted.shape:
            raise BundleWeightsError(
                f"{bundle.folder}: {name} is there {'without' if bias is None else 'with'} a bias; give the "
                "configuration that it was trained with"
            )
        modules[name].weight.data, wanted.data = weight, bias
    assert isinstance(segmenter, LadderSegmenter)
    return DeployedSegmenter(segmenter, size, description.score.temperature, description.score.name).eval()


def checkpoint_of_bundle(folder: Path, segmenter: LadderSegmenter) -> dict[str, Any]:
    """What a checkpoint of the bundle's run would hold of the segmenter.

    Keys: `exported`, `classes`, `command`, `progression`.

    The convolutions get the folded weights, and the normalisations only add a bias. The network computes what the
    bundle computes as long as its batch statistics are kept (`frozen_batch_norm`).

    Args:
        segmenter: a network of the bundle's configuration; its own weights are neither used nor changed.

    Raises:
        BundleError: not a verified bundle.
        BundleWeightsError: the graph is of another network.
    """
    bundle = read_bundle(folder)
    modules = _convolutions(segmenter)
    weights = convolution_weights(bundle, modules)
    side = 2 * ENCODER_STRIDES[-1]
    normalisations = normalisations_after(segmenter, torch.zeros(1, 3, side, side))
    state = {name: value.clone() for name, value in segmenter.state_dict().items()}
    for name, (weight, found_bias) in weights.items():
        bias = torch.zeros(modules[name].out_channels) if found_bias is None else found_bias
        state[f"{name}.weight"] = weight
        if modules[name].bias is not None:
            state[f"{name}.bias"] = bias
        if name in normalisations:
            norm = normalisations[name]
            module = segmenter.get_submodule(norm)
            assert isinstance(module, nn.BatchNorm2d)
            state[f"{norm}.weight"] = torch.ones_like(bias)
            state[f"{norm}.bias"] = bias
            state[f"{norm}.running_mean"] = torch.zeros_like(bias)
            state[f"{norm}.running_var"] = torch.full_like(bias, 1 - module.eps)
    training = bundle.description.training
    return {
        "kind": "bundle",
        "exported": state,
        "classes": [(known.name, known.colour) for known in bundle.description.classes],
        "command": training.command,
        "progression": {"training_seconds": 60 * training.training_minutes},
    }


def convolution_weights(bundle: Bundle, modules: Mapping[str, nn.Conv2d]) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Weight and bias of each convolution in the bundle's graph, by the name of its module.

    Args:
        modules: the convolutions that must be there.

    Raises:
        BundleWeightsError: others are, or one has weights of another shape.
    """
    graph = onnx.load_from_string(bundle.model).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {
        _module_of(node.name): [torch.from_numpy(np.array(stored[name])) for name in node.input[1:] if name in stored]
        for node in graph.node
        # Beside the network's, a graph can have a convolution by which it up-samples the logits.
        if node.op_type == "Conv" and UP_SAMPLING not in node.input
    }
    if set(found) != set(modules):
        different = sorted(set(found) ^ set(modules))
        raise BundleWeightsError(
            f"{bundle.folder}: holds another network than this configuration's ({len(different)} convolutions differ, "
            f"such as {different[0]}); give the configuration that it was trained with"
        )
    for name, module in modules.items():
        values = found[name]
        if not values or values[0].shape != module.weight.shape:
            raise BundleWeightsError(
                f"{bundle.folder}: {name} is {tuple(values[0].shape) if values else 'missing'} there and "
                f"{tuple(module.weight.shape)} in this configuration; give the configuration that it was trained with"
            )
    return {name: (found[name][0], found[name][1] if len(found[name]) > 1 else None) for name in modules}


def _convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}


def _module_of(node: str) -> str:
    """`/segmenter/context/reduce/reduce.0/Conv` -> `context.reduce.0`: a container's name is repeated in its parts'.

    A node outside the network keeps its own name, which no module has.
    """
    if not node.startswith(f"/{ROOT}/"):
        return node
    parts: list[str] = []
    for part in node.split("/")[2:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)
