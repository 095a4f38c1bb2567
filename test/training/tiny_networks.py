"""Tiny networks of `transformers` with random weights, saved as the folders that a user would have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ros_ood_perception.inference.parity import fixed_frames

NAMES = ("road", "sidewalk", "building", "sky", "car")
STAGES = ["stage1", "stage2", "stage3", "stage4"]
LICENCE = "CC0-1.0"


def segformer() -> Any:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        num_labels=5, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], decoder_hidden_size=16,
        num_attention_heads=[1, 1, 2, 2],
    )  # fmt: skip
    return SegformerForSemanticSegmentation(config)


def upernet() -> Any:
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    backbone = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=STAGES)
    config = UperNetConfig(
        backbone_config=backbone, num_labels=5, hidden_size=16, pool_scales=[1, 3], use_auxiliary_head=False
    )
    return UperNetForSemanticSegmentation(config)


def dpt() -> Any:
    from transformers import DPTConfig, DPTForSemanticSegmentation

    config = DPTConfig(
        num_labels=5, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=64,
        patch_size=16, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        use_auxiliary_head=False,
    )  # fmt: skip
    return DPTForSemanticSegmentation(config)


def beit() -> Any:
    from transformers import BeitConfig, BeitForSemanticSegmentation

    config = BeitConfig(
        num_labels=5, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=64,
        patch_size=16, out_indices=[1, 2, 3, 4], use_auxiliary_head=False, use_relative_position_bias=True,
        pool_scales=[1, 3],
    )  # fmt: skip
    return BeitForSemanticSegmentation(config)


def data2vec() -> Any:
    from transformers import Data2VecVisionConfig, Data2VecVisionForSemanticSegmentation

    config = Data2VecVisionConfig(
        num_labels=5, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=64,
        patch_size=16, out_indices=[0, 1, 2, 3], use_auxiliary_head=False,
    )  # fmt: skip
    return Data2VecVisionForSemanticSegmentation(config)


def mobilevit() -> Any:
    from transformers import MobileViTConfig, MobileViTForSemanticSegmentation

    config = MobileViTConfig(
        num_labels=5, hidden_sizes=[16, 16, 24], neck_hidden_sizes=[8, 8, 16, 16, 16, 16, 24], num_attention_heads=2,
        aspp_out_channels=16,
    )  # fmt: skip
    return MobileViTForSemanticSegmentation(config)


def mobilevitv2() -> Any:
    from transformers import MobileViTV2Config, MobileViTV2ForSemanticSegmentation

    config = MobileViTV2Config(
        num_labels=5, width_multiplier=0.25, aspp_out_channels=16, base_attn_unit_dims=[16, 24, 32],
        n_attn_blocks=[1, 1, 1],
    )  # fmt: skip
    return MobileViTV2ForSemanticSegmentation(config)


def mobilenet_v2() -> Any:
    from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

    config = MobileNetV2Config(num_labels=5, depth_multiplier=0.25, output_stride=16, image_size=64)
    return MobileNetV2ForSemanticSegmentation(config)


PER_PIXEL: dict[str, Callable[[], Any]] = {
    made.__name__: made for made in (segformer, upernet, dpt, beit, data2vec, mobilevit, mobilevitv2, mobilenet_v2)
}


def decisive(model: Any) -> Any:
    """A new network answers the same everywhere. Weights are enlarged, statistics and biases set on drawn frames."""
    # Seventeen layers enlarge rounding errors: in MobileNetV2, logits of 9 differ by 6e-5 between float32 and float64.
    deep = model.config.model_type == "mobilenet_v2"
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, std=1.5 / module.weight[0].numel() ** 0.5)
    frames = torch.stack([torch.from_numpy(frame) for frame in fixed_frames(64, 64, 4)])
    pixels = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        for module in norms:
            module.momentum = 1.0
        model.train()(pixel_values=pixels)
        for module in norms:
            # Channels that hardly vary would enlarge rounding errors.
            assert module.running_var is not None
            module.running_var.clamp_(min=0.2 if deep else 0.0)
        logits = model.eval()(pixel_values=pixels).logits
    last = [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.out_channels == 5][-1]
    scale = logits.std() * (10 if deep else 1)
    last.weight.data /= scale
    if last.bias is not None:
        last.bias.data = -logits.mean((0, 2, 3)) / scale
    return model


def saved(made: Callable[[], Any], folder: Path, processing: dict[str, Any] | None = None) -> Path:
    """A folder as the hub has it: weights, configuration, preprocessing and a card with the licence."""
    torch.manual_seed(0)
    model = made().eval()
    model.config.id2label = dict(enumerate(NAMES))
    model.save_pretrained(folder)
    (folder / "README.md").write_text(f"---\nlicense: {LICENCE}\n---\nRandom weights.\n")
    if processing is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processing))
    return folder
