"""Tiny networks of `transformers` that predict masks, with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiny_networks import STAGES
from torch import nn

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 64, "patch_size": 16}
QUERIES = {"num_queries": 6, "num_labels": 5}


def swin() -> Any:
    from transformers import SwinConfig

    return SwinConfig(embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=4, out_features=STAGES)


def convnext() -> Any:
    from transformers import ConvNextConfig

    return ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=STAGES)


def mask2former() -> Any:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    config = Mask2FormerConfig(
        backbone_config=swin(), feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=32, **QUERIES,
    )  # fmt: skip
    return Mask2FormerForUniversalSegmentation(config)


def maskformer() -> Any:
    from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation

    decoder = DetrConfig(
        d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=6,
    )  # fmt: skip
    config = MaskFormerConfig(
        backbone_config=swin(), decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32, num_labels=5
    )
    return MaskFormerForInstanceSegmentation(config)


def oneformer() -> Any:
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation

    config = OneFormerConfig(
        backbone_config=convnext(), conv_dim=32, mask_dim=32, hidden_dim=32, encoder_feedforward_dim=32,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=32, query_dec_layers=1,
        is_training=False, **QUERIES,
    )  # fmt: skip
    return OneFormerForUniversalSegmentation(config)


WORDS = ["the</w>", "task</w>", "is</w>", "semantic</w>"]


def write_tokenizer(folder: Path) -> None:
    """A CLIP tokenizer that knows the four words of OneFormer's task."""
    pieces = sorted({letter for word in WORDS for letter in word.removesuffix("</w>")})
    merges, vocabulary = [], [*pieces, *(f"{piece}</w>" for piece in pieces)]
    for word in WORDS:
        parts = [*word.removesuffix("</w>")[:-1], f"{word.removesuffix('</w>')[-1]}</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts = [parts[0] + parts[1], *parts[2:]]
            vocabulary.append(parts[0])
    tokens = [*dict.fromkeys(vocabulary), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(dict.fromkeys(merges)) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))


def eomt() -> Any:
    from transformers import EomtConfig, EomtForUniversalSegmentation

    config = EomtConfig(mlp_ratio=2, num_upscale_blocks=2, num_blocks=1, num_register_tokens=2, **SIZES, **QUERIES)
    return annealed(EomtForUniversalSegmentation(config))


def eomt_dinov3() -> Any:
    from transformers import EomtDinov3Config, EomtDinov3ForUniversalSegmentation

    config = EomtDinov3Config(
        intermediate_size=32, num_upscale_blocks=2, num_blocks=1, num_register_tokens=2, **SIZES, **QUERIES
    )
    return annealed(EomtDinov3ForUniversalSegmentation(config))


def annealed(model: Any) -> Any:
    """As EoMT is at the end of its training: without mask attention."""
    model.attn_mask_probs.zero_()
    return model


MASKS: dict[str, Callable[[], Any]] = {
    made.__name__: made for made in (maskformer, mask2former, oneformer, eomt, eomt_dinov3)
}


def sure_of_some(model: Any) -> Any:
    """Masks and classes that differ: queries of a new network are alike, and none is sure."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and module.out_features == 6:  # five classes and "no object"
                module.weight.normal_(std=1.0)
                module.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, -1.0]))
            elif isinstance(module, nn.Embedding) and module.num_embeddings == 6:
                module.weight.normal_(std=2.0)
            elif isinstance(module, nn.Linear) and "mask" in name:
                module.weight.normal_(std=2.0 / module.in_features**0.5)
    return model
