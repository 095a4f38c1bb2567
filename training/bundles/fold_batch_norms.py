"""Batch normalisation folded into the convolutions before it, in float32.

A network that is to compute in half precision is folded first: the exporter would fold tensors that are already
rounded, and round them again.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a network in evaluation mode, where each BatchNorm2d that follows a convolution is an Identity.

    Which follows which is seen in a run on `example`, so that it needs no knowledge of the network's parts.
    """
    network = copy.deepcopy(network).eval()
    made_by: dict[int, nn.Conv2d] = {}
    kept_alive: list[Tensor] = []  # an id names one tensor only as long as it lives
    pairs: dict[nn.BatchNorm2d, nn.Conv2d] = {}

    def after_convolution(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        made_by[id(output)] = module
        kept_alive.append(output)

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        if id(inputs[0]) in made_by:
            pairs[module] = made_by[id(inputs[0])]

    handles = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(after_convolution))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(before_norm))
    with torch.no_grad():
        network(example)
    for handle in handles:
        handle.remove()
    names = {module: name for name, module in network.named_modules()}
    for norm, convolution in pairs.items():
        _replace(network, names[convolution], fuse_conv_bn_eval(convolution, norm))
        _replace(network, names[norm], nn.Identity())
    return network


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
