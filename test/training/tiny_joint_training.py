"""A tiny segmenter, flow and joint training, for tests."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import yaml
from synthetic_camvid import write_camvid
from test_train_segmenter import TINY
from torch import Tensor

from ros_ood_perception.files.strict_yaml import from_mapping
from training.flow.image_flow import FlowConfig, ImageFlow
from training.joint.negative_config import NegativeConfig
from training.joint.negative_draw import NegativeDraw
from training.joint.objective import JointObjective
from training.joint.placement import place
from training.joint.training_config import JointTrainingConfig
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig
from training.train_flow import main as train_flow
from training.train_segmenter import main as train_segmenter

SEGMENTER: Any = TINY["segmenter"]
FLOW = {"units": [2, 1, 1], "steps": [1, 1, 1], "growth": 2, "width": [6, 6, 6], "depth": [1, 1, 1]}
SHARED = {"batch_size": 4, "passes_per_epoch": 2, "data": {"workers": 0}}


def joint_config(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": "joint",
        "epochs": 2,
        "input_size": [96, 128],
        "picture_frames": [0],
        "segmenter": SEGMENTER,
        "flow": FLOW,
        "augmentation": {"crop": [64, 64]},
        "negatives": {"sides": [192, 384]},
        "optimiser": {"learning_rate": 0.001, "warmup_steps": 1},
        "flow_optimiser": {"learning_rate": 0.001, "warmup_steps": 1},
        **SHARED,
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return config


def objective(**changes: Any) -> JointObjective:
    torch.manual_seed(0)
    negatives = NegativeConfig(**changes.pop("negatives", {"sides": (192, 384)}))
    config = JointTrainingConfig(
        name="joint",
        flow=FlowConfig(units=(1, 1, 1), steps=(1, 1, 1), growth=0, width=(6, 6, 6), depth=(1, 1, 1)),
        negatives=negatives,
        **changes,
    )
    segmenter = LadderSegmenter(from_mapping(SEGMENTER, SegmenterConfig, "tiny"), 11)
    flow = ImageFlow(config.flow)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    flow.bits_per_dim(torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8))
    initial_flow = deepcopy(flow).requires_grad_(False) if negatives.initial_flow_share else None
    made = JointObjective(segmenter, flow, torch.ones(11), config, initial_flow)
    return made.train()


def a_draw(made: JointObjective, seed: int = 0, count: int = 2) -> NegativeDraw:
    generator = torch.Generator().manual_seed(seed)
    placement = place(count, (64, 64), made.config.negatives, generator)
    latents = made.flow.draw_latents(count, placement.height, placement.width, generator)
    noise = torch.rand((count, 3, placement.height, placement.width), generator=generator)
    return NegativeDraw(placement, latents, None, noise)


def a_batch(seed: int = 1, count: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)
    return image, torch.randint(0, 11, (count, 64, 64), dtype=torch.uint8, generator=generator)


def moved(module: torch.nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())


def pretrained(folder: Path) -> tuple[Path, Path, Path]:
    """Drawn frames in the form of CamVid, and checkpoints of a segmenter and a flow trained on them, below `folder`."""
    tree = write_camvid(folder / "camvid")
    segmenter = {k: v for k, v in joint_config(name="seg").items() if k not in ("negatives", "flow", "flow_optimiser")}
    flow = {
        "name": "flow",
        "epochs": 2,
        "flow": FLOW,
        "augmentation": {"crop": [32, 32]},
        "validation_crops": 4,
        **SHARED,
    }
    for run, config, program in (("seg", segmenter, train_segmenter), ("flow", flow, train_flow)):
        (folder / f"{run}.yaml").write_text(yaml.safe_dump(config))
        arguments = ["--config", str(folder / f"{run}.yaml"), "--data", str(tree), "--out", str(folder / run)]
        assert program([*arguments, "--accelerator", "cpu"]) == 0
    return tree, folder / "seg" / "best.pt", folder / "flow" / "best.pt"


def joint_arguments(trained: tuple[Path, Path, Path], folder: Path, **changes: Any) -> list[str]:
    tree, segmenter, flow = trained
    (folder / "joint.yaml").write_text(yaml.safe_dump(joint_config(**changes)))
    arguments = ["--config", str(folder / "joint.yaml"), "--data", str(tree), "--out", str(folder / "run")]
    return [*arguments, "--accelerator", "cpu", "--segmenter", str(segmenter), "--flow", str(flow)]
