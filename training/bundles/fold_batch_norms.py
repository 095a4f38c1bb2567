"""Batch normalisations folded into the convolutions before them, in float32.

A network is folded before it is cast to half precision. The exporter would fold tensors that are already rounded, and
round them again.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def normalisations_after(network: nn.Module, example: Tensor) -> dict[str, str]:
    """The name of each Conv2d whose output goes into a BatchNorm2d -> the name of that BatchNorm2d.

    They are found in a run on `example`, without knowledge of the network's parts.
    """
    made_by: dict[int, str] = {}
    outputs: list[Tensor] = []  # kept alive: an id names one tensor only as long as it lives
    found: dict[str, str] = {}

    def after_convolution(name: str, output: Tensor) -> None:
        made_by[id(output)] = name
        outputs.append(output)

    def before_normalisation(name: str, entering: Tensor) -> None:
        if id(entering) in made_by:
            found[made_by[id(entering)]] = name

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(lambda _m, _i, out, name=name: after_convolution(name, out)))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(
                module.register_forward_pre_hook(lambda _m, inputs, name=name: before_normalisation(name, inputs[0]))
            )
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(example)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return found


def folded(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a network in evaluation mode, where each BatchNorm2d that follows a convolution is an Identity."""
    network = copy.deepcopy(network).eval()
    for name, norm_name in normalisations_after(network, example).items():
        convolution, norm = network.get_submodule(name), network.get_submodule(norm_name)
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        _replace(network, name, fuse_conv_bn_eval(convolution, norm))
        _replace(network, norm_name, nn.Identity())
    return network


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
