"""The network of a bundle in PyTorch, from the weights in its graph.

A bundle holds all that its network learnt, the batch normalisations folded into the convolutions. So other forms of the
model can be made of it where the checkpoint is gone.
"""

from __future__ import annotations

import re

import onnx
import torch
from torch import nn

from ros_ood_perception.bundle.model_bundle import Bundle
from training.bundles.bundle_graph import GraphError
from training.bundles.fold_batch_norms import folded
from training.segmenter.deployed_segmenter import DeployedSegmenter
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig

_CONVOLUTION_NODE = re.compile(r"/segmenter/(.+)/Conv")


def segmenter_of_bundle(bundle: Bundle, config: SegmenterConfig) -> DeployedSegmenter:
    """What the bundle's graph computes, as a module with folded normalisations, in evaluation mode.

    Args:
        config: what the segmenter is made of, as in the configuration that it was trained with.

    Raises:
        GraphError: the graph's convolutions are not those of `config`, or the network has weights that a graph cannot
            be asked for (it is not made of convolutions alone).
    """
    description = bundle.description
    size = (description.input.height, description.input.width)
    segmenter = folded(LadderSegmenter(config, len(description.classes)), torch.zeros(1, 3, *size))
    graph = onnx.load_from_string(bundle.model).graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    modules = {name: module for name, module in segmenter.named_modules() if isinstance(module, nn.Conv2d)}
    others = [
        n for n, m in segmenter.named_modules() if not isinstance(m, nn.Conv2d) and [*m.parameters(recurse=False)]
    ]
    if others:
        raise GraphError(f"the network has weights beside convolutions ({others[0]}); export from its checkpoint")
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        found = _CONVOLUTION_NODE.fullmatch(node.name)
        # Modules appear with the path of their scopes: a/b/b.0 is a.b.0.
        name = _module_name(found.group(1)) if found else ""
        module = modules.pop(name, None)
        if module is None or len(node.input) != 3:
            raise GraphError(f"the convolution '{node.name}' of {bundle.folder} is none of the configuration's network")
        for parameter, tensor in ((module.weight, node.input[1]), (module.bias, node.input[2])):
            values = torch.from_numpy(onnx.numpy_helper.to_array(initializers[tensor]).copy())
            if parameter is None or parameter.shape != values.shape:
                wanted = "none" if parameter is None else tuple(parameter.shape)
                raise GraphError(
                    f"'{node.name}' of {bundle.folder} has weights {tuple(values.shape)}, the configuration's network "
                    f"{wanted}; give the configuration that it was trained with"
                )
            parameter.data = values
    if modules:
        raise GraphError(f"the graph of {bundle.folder} lacks the convolution {next(iter(modules))}")
    assert isinstance(segmenter, LadderSegmenter)
    return DeployedSegmenter(segmenter, size, description.score.temperature, description.score.name).eval()


def _module_name(scopes: str) -> str:
    parts: list[str] = []
    for scope in scopes.split("/"):
        # The scope of an item of a list or sequence repeats the list's name: blends.0, then blends.0.0.
        if parts and scope.startswith(f"{parts[-1]}."):
            parts[-1] = scope
        else:
            parts.append(scope)
    return ".".join(parts)
