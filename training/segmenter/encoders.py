"""The encoder of the segmenter: EfficientNet-Lite of this package, or a backbone of `transformers`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from training.segmenter.efficientnet_lite import INPUT_NORMALISATION, WEIGHTS, EfficientNetLite, pretrained_encoder
from training.segmenter.input_normalisation import IMAGENET, InputNormalisation

ENCODER_STRIDES = (4, 8, 16, 32)

EFFICIENTNET_LITE = "efficientnet_lite"
"""The name of this package's own backbone, besides those of `transformers`."""

_TYPE, _MEAN, _STD = "model_type", "input_mean", "input_std"


@dataclass(frozen=True)
class Encoder:
    """A network that gives feature maps at `ENCODER_STRIDES`.

    Attributes:
        network: image (N, 3, H, W) float, normalised -> an object whose `feature_maps` are the maps, finest first.
        normalisation: normalisation of the input with which its weights were trained.
        settings: plain values from which `encoder_of` builds the same network.
        channels: channels of the maps, finest first.

    Raises:
        ValueError: its maps are at other strides.
    """

    network: nn.Module
    normalisation: InputNormalisation
    settings: dict[str, Any]
    channels: tuple[int, ...]


def build_encoder(pretrained: str | None, backbone: str, backbone_settings: Mapping[str, Any]) -> Encoder:
    """A new encoder, with the weights that `pretrained` names.

    Args:
        pretrained, backbone, backbone_settings: as in `SegmenterConfig`.

    Raises:
        ValueError: the weights are not available, or the network gives maps at other strides than `ENCODER_STRIDES`.
    """
    name = pretrained or backbone
    if pretrained in WEIGHTS:
        return _of_ours(pretrained_encoder(pretrained))
    if pretrained is not None:
        return _of_transformers(_from_hub_or_folder(pretrained), _normalisation_of(pretrained), name)
    if backbone == EFFICIENTNET_LITE:
        unknown = sorted(set(backbone_settings) - {"size"})
        if unknown:
            raise ValueError(f"backbone_settings has {', '.join(unknown)}; {EFFICIENTNET_LITE} takes 'size' alone")
        return _of_ours(EfficientNetLite(**backbone_settings))
    # Imported where it is needed: the import takes seconds.
    from transformers import AutoBackbone, AutoConfig

    config = AutoConfig.for_model(backbone, **backbone_settings, out_features=_stages())
    return _of_transformers(AutoBackbone.from_config(config), IMAGENET, name)


def encoder_of(settings: Mapping[str, Any]) -> Encoder:
    """The encoder with these `Encoder.settings` and random weights.

    Raises:
        ValueError: this version has no such encoder.
    """
    own = {key: value for key, value in settings.items() if key not in (_MEAN, _STD)}
    # In older checkpoints, without mean and deviation, all encoders have those of ImageNet.
    normalisation = InputNormalisation(
        tuple(settings.get(_MEAN, IMAGENET.mean)), tuple(settings.get(_STD, IMAGENET.std))
    )
    if settings.get(_TYPE) == EFFICIENTNET_LITE:
        return _of_ours(EfficientNetLite(settings["size"]), normalisation)
    from transformers import AutoBackbone, AutoConfig

    return _of_transformers(
        AutoBackbone.from_config(AutoConfig.for_model(**own)), normalisation, str(settings.get(_TYPE))
    )


def _of_ours(network: EfficientNetLite, normalisation: InputNormalisation = INPUT_NORMALISATION) -> Encoder:
    settings = {_TYPE: EFFICIENTNET_LITE, "size": network.size, **_as_values(normalisation)}
    return Encoder(network, normalisation, settings, _channels(network, EFFICIENTNET_LITE))


def _of_transformers(network: Any, normalisation: InputNormalisation, name: str) -> Encoder:
    settings = {**json.loads(network.config.to_json_string(use_diff=False)), **_as_values(normalisation)}
    return Encoder(network, normalisation, settings, _channels(network, name))


def _as_values(normalisation: InputNormalisation) -> dict[str, Any]:
    return {_MEAN: list(normalisation.mean), _STD: list(normalisation.std)}


def _stages() -> list[str]:
    return [f"stage{number}" for number in range(1, len(ENCODER_STRIDES) + 1)]


def _from_hub_or_folder(pretrained: str) -> Any:
    from transformers import AutoBackbone, AutoConfig

    try:
        config = AutoConfig.from_pretrained(pretrained, out_features=_stages())
        # AutoBackbone.from_pretrained asks the hub even for a local folder; the class of the backbone does not.
        backbone = type(AutoBackbone.from_config(config))
        network, report = backbone.from_pretrained(pretrained, config=config, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the encoder weights '{pretrained}' are not available ({error}); give a local folder that transformers "
            f"can read, a package of {', '.join(WEIGHTS)}, or set 'pretrained: null' to train from random weights"
        ) from error
    # Some backbones normalise their maps with layers that are not part of a pretrained classifier.
    missing = [key for key in report["missing_keys"] if "hidden_states_norms" not in key]
    if missing:
        raise ValueError(f"the encoder weights '{pretrained}' lack {len(missing)} tensors, such as {missing[0]}")
    return network


def _normalisation_of(pretrained: str) -> InputNormalisation:
    """The normalisation given with the weights, on the hub or in the folder; by default that of ImageNet."""
    from transformers import ImageProcessingMixin

    try:
        found, _ = ImageProcessingMixin.get_image_processor_dict(pretrained)
    except OSError as error:
        warnings.warn(
            f"no preprocessor_config.json of '{pretrained}' can be read ({error}); its input is normalised with the "
            "mean and standard deviation of ImageNet",
            stacklevel=2,
        )
        return IMAGENET
    # Processors scale by 1/255 first, unless they say otherwise.
    levels = 1 / float(found.get("rescale_factor", 1 / 255)) if found.get("do_rescale", True) else 1.0
    if not found.get("do_normalize", True) or "image_mean" not in found or "image_std" not in found:
        return IMAGENET
    mean, std = ([float(value) * levels for value in found[key]] for key in ("image_mean", "image_std"))
    return InputNormalisation((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def _channels(network: nn.Module, name: str) -> tuple[int, ...]:
    side = 2 * ENCODER_STRIDES[-1]
    training = network.training
    network.eval()
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, side, side)).feature_maps
    network.train(training)
    strides = tuple(side // int(m.shape[-1]) for m in maps)
    if strides != ENCODER_STRIDES:
        raise ValueError(
            f"the backbone '{name}' gives maps at strides {strides}; the ladder needs {ENCODER_STRIDES} "
            "(EfficientNet-Lite, ResNet, ConvNeXt V2 and Swin give them)"
        )
    return tuple(int(m.shape[1]) for m in maps)
