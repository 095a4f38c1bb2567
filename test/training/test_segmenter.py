from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from ros_ood_perception.files.strict_yaml import SchemaError, from_mapping, read_yaml
from training.segmenter.deployed_segmenter import (
    DeployedSegmenter,
)
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig
from training.segmenter.training_config import SegmenterTrainingConfig

TINY = SegmenterConfig(
    backbone_settings={
        "embedding_size": 4,
        "hidden_sizes": [4, 4, 8, 8],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
    },
    decoder_channels=8,
)


def test_logits_are_at_a_quarter_of_the_input() -> None:
    logits = LadderSegmenter(TINY, 5).eval()(torch.zeros(2, 3, 128, 256))
    assert logits.shape == (2, 5, 32, 64)


def test_any_multiple_of_32_can_be_trained_on() -> None:
    assert LadderSegmenter(TINY, 5)(torch.zeros(2, 3, 96, 160)).shape == (2, 5, 24, 40)


def test_the_default_encoder_is_resnet_18() -> None:
    segmenter = LadderSegmenter(SegmenterConfig(), 19)
    # ResNet-18 without its classifier has 11,176,512 parameters.
    assert sum(p.numel() for p in segmenter.encoder.parameters()) == 11_176_512


def test_the_small_configuration_has_at_most_three_million_parameters() -> None:
    config = read_yaml("training/configs/camvid_small.yaml", SegmenterTrainingConfig)
    assert sum(p.numel() for p in LadderSegmenter(config.segmenter, 11).parameters()) <= 3_000_000


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("convnextv2", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}),
        ("swin", {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2}),
    ],
)
def test_other_pyramid_backbones_by_configuration(backbone: str, settings: dict[str, Any]) -> None:
    config = SegmenterConfig(backbone=backbone, backbone_settings=settings, decoder_channels=8)
    assert LadderSegmenter(config, 3).eval()(torch.zeros(1, 3, 128, 128)).shape == (1, 3, 32, 32)


def test_a_backbone_without_a_pyramid_is_refused_with_its_strides() -> None:
    settings = {"hidden_size": 12, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 64, "patch_size": 8}
    with pytest.raises(ValueError, match=r"'dinov2' gives maps at strides \(8, 8, 8, 8\)"):
        LadderSegmenter(SegmenterConfig(backbone="dinov2", backbone_settings=settings), 3)


def test_pretrained_weights_that_cannot_be_had_are_an_error_and_not_random_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"(?s)'no/such-model' are not available .* 'pretrained: null'"):
        LadderSegmenter(SegmenterConfig(pretrained="no/such-model"), 3)


def test_pretrained_weights_come_from_a_local_folder(tmp_path: Path) -> None:
    first = LadderSegmenter(TINY, 3)
    cast(Any, first.encoder).save_pretrained(tmp_path)
    second = LadderSegmenter(SegmenterConfig(pretrained=str(tmp_path), decoder_channels=8), 3)
    for (name, a), b in zip(first.encoder.named_parameters(), second.encoder.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "a", "epoch": 3}, r"unknown key\(s\) epoch"),
        ({"name": "a", "optimiser": {"lr": 1.0}}, r"unknown key\(s\) optimiser\.lr"),
        ({"name": "a", "augmentation": {"crop": [100, 128]}}, r"crop is \(100, 128\)"),
        ({"name": "a", "batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"name": "a", "optimiser": {"schedule": "constant"}}, "'optimiser.schedule' is 'constant'"),
    ],
)
def test_a_configuration_with_a_mistake_is_refused_and_the_field_named(data: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        from_mapping(data, SegmenterTrainingConfig, "config.yaml")


def test_the_deployed_model_gives_ids_and_score_at_its_input_size() -> None:
    model = DeployedSegmenter(LadderSegmenter(TINY, 5), (128, 256), 1.0).eval()
    with torch.no_grad():
        semantic, anomaly = model(torch.randint(0, 256, (2, 77, 99, 3), dtype=torch.uint8))
    assert semantic.shape == anomaly.shape == (2, 128, 256)
    assert semantic.dtype == torch.uint8
    assert math.isfinite(float(anomaly.sum()))
