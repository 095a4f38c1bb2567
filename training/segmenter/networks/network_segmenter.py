"""A network of `transformers` as a segmenter that is trained and exported here."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.segmenter.input_normalisation import InputNormalisation
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig, nearest_size
from training.segmenter.networks.mask_networks import (
    MASK_FAMILIES,
    MaskSums,
    TaskMaskSums,
    WindowedMaskSums,
    make_masks_exportable,
    windowed_size,
)
from training.segmenter.networks.per_pixel_networks import LogitsOf, make_exportable
from training.segmenter.networks.refusal import NetworkRefusedError
from training.segmenter.networks.transformers_folder import (
    FAMILIES,
    LoadedNetwork,
    check_weights,
    image_size,
    licence_of,
    load_network,
    loader_of,
    quiet,
    weights_of,
)
from training.segmenter.segmenter import Segmenter

NETWORK = "network"
"""Key of `encoder_settings` that only networks of `transformers` have."""

_WEIGHTS_BELOW = "network.model."
"""First part of the names of the network's own weights."""


def module_of(model: Any, task: Tensor | None) -> nn.Module:
    """(N, 3, h, w) float32, as the network takes it -> logits or mask sums at the network's own resolution."""
    kind = model.config.model_type
    if kind not in MASK_FAMILIES:
        return LogitsOf(model)
    if MASK_FAMILIES[kind].windows:
        return WindowedMaskSums(model, image_size(model.config))
    if task is not None:
        return TaskMaskSums(model, task)
    return MaskSums(model)


def exportable(module: nn.Module) -> nn.Module:
    """A copy of `module_of` in evaluation mode, with the operators of opset 17 alone."""
    made = copy.deepcopy(module).eval()
    model: Any = made.model
    if hasattr(model, "set_attn_implementation"):
        with quiet():
            model.set_attn_implementation("eager")
    make_exportable(model)
    make_masks_exportable(model)
    return made


class NetworkSegmenter(Segmenter):
    """A network of `transformers`, with its own head, at its own resolution.

    image (N, 3, H, W) float, normalised, in the order red, green, blue -> (N, C, h, w) float.

    Attributes:
        licence: of the weights that it started from.
        origin: what they are, for the record.
        names: of the classes that the weights know; empty where they are only numbered.
        new: names of the weights that are random, because the folder does not have them for these classes.
        notes: what the user should know, a sentence each.
    """

    def __init__(self, loaded: LoadedNetwork, licence: str, origin: str, num_classes: int) -> None:
        super().__init__()
        config = loaded.model.config
        self.kind = str(config.model_type)
        self.of_masks = self.kind in MASK_FAMILIES
        self.family = loaded.family
        self.image_size = image_size(config) if loaded.family.square or loaded.family.windows else None
        self.num_classes = num_classes
        self.normalise = loaded.normalisation
        self.bgr = loaded.bgr
        self.licence, self.origin, self.notes = licence, origin, loaded.notes
        self.names, self.new = loaded.names, loaded.new
        self.network = module_of(loaded.model, loaded.task)
        described = {
            "config": json.loads(config.to_json_string(use_diff=False)),
            "input_mean": list(self.normalise.mean),
            "input_std": list(self.normalise.std),
            "bgr": self.bgr,
            "licence": licence,
            "origin": origin,
            "task": None if loaded.task is None else loaded.task.tolist(),
        }
        self.encoder_settings = {NETWORK: described}

    @property
    def model(self) -> Any:
        """The network as `transformers` knows it."""
        return self.network.model

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image[:, [2, 1, 0]] if self.bgr else image)

    def in_encoder(self, name: str) -> bool:
        return name.removeprefix(_WEIGHTS_BELOW).startswith(self.family.encoder)

    def prepare_training(self) -> None:
        """Weights that the output does not depend on, such as those of auxiliary heads, keep their values.

        Processes that train together exchange gradients of all weights that are to be trained.
        """
        side = self.image_size or 2 * self.family.multiple
        self.eval()(torch.zeros(1, 3, side, side)).sum().backward()
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        self.train()

    def check_input_size(self, size: tuple[int, int]) -> None:
        """Raises ValueError: no input of this height and width can be exported."""
        if self.family.windows:
            wanted = windowed_size(size, self.image_size or 0)
            why = f"the shorter side must be {self.image_size}, that of the windows of this {self.kind}"
        elif self.family.square:
            wanted = (self.image_size or 0, self.image_size or 0)
            why = f"this {self.kind} takes squares of {self.image_size} only"
        else:
            text = nearest_size(size, self.family.multiple)
            wanted = size if not any(side % self.family.multiple for side in size) else (0, 0)
            if wanted != size:
                raise ValueError(f"height and width must be multiples of {self.family.multiple}; the nearest is {text}")
            return
        if wanted != size:
            raise ValueError(f"{why}; take {wanted[0]}x{wanted[1]}")

    def check_crop(self, size: tuple[int, int]) -> None:
        """Raises ValueError: the network cannot be trained on crops of this height and width."""
        if self.family.windows and size != (self.image_size, self.image_size):
            raise ValueError(f"a crop is one window of this {self.kind}; take {self.image_size}x{self.image_size}")
        self.check_input_size(size)


def build_segmenter(
    config: SegmenterConfig, classes: Sequence[str], settings: Mapping[str, Any] | None = None
) -> Segmenter:
    """The segmenter of a configuration.

    Args:
        classes: names in the order of their ids.
        settings: `encoder_settings` of a network whose weights will all be loaded. None takes the weights that the
            configuration names.

    Raises:
        ValueError: the weights are not available, or do not suit.
    """
    if settings is not None and NETWORK in settings:
        return _described(settings[NETWORK], len(classes))
    if config.network is None:
        return LadderSegmenter(config, len(classes), settings)
    licence = config.network_licence or licence_of(config.network)
    if licence is None:
        raise NetworkRefusedError(
            f"{config.network} does not say the licence of its weights; set segmenter.network_licence"
        )
    loaded = load_network(config.network, len(classes))
    origin = f"{Path(config.network).name}, {loaded.model.config.model_type} of transformers"
    return NetworkSegmenter(loaded, licence, origin, len(classes))


def _described(described: Mapping[str, Any], num_classes: int) -> NetworkSegmenter:
    """A network with random weights, from what a checkpoint says about it."""
    from transformers import AutoConfig

    with quiet():
        config = AutoConfig.for_model(**described["config"])
        kind = str(config.model_type)
        if kind not in FAMILIES:
            raise NetworkRefusedError(f"the checkpoint is of a '{kind}'; this version knows {', '.join(FAMILIES)}")
        check_weights(str(described["origin"]), weights_of(config))
        model = loader_of(kind).from_config(config)
    task = described["task"]
    loaded = LoadedNetwork(
        model.float(),
        FAMILIES[kind],
        InputNormalisation(tuple(described["input_mean"]), tuple(described["input_std"])),
        bool(described["bgr"]),
        (),
        task=None if task is None else torch.tensor(task, dtype=torch.int64),
    )
    return NetworkSegmenter(loaded, described["licence"], described["origin"], num_classes)
