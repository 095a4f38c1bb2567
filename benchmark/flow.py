"""Samples per second and bits per dimension of the flows `paper` and `fast`, and of `normflows` Glows of their sizes.

    python benchmark/flow.py --data FOLDER/camvid [--seconds 100] [--threads 1] [--device cpu] [--json FILE]

Each model is trained from random weights for the same time, with the same optimiser on the same crops of the training
frames. Then it is measured on the same crops of the validation frames. All models sample in turn, in several rounds. On
a CPU, time is processor time divided by the number of threads, so that other processes disturb little. A Glow of a
flow's size has the same number of couplings at each scale, and a width that gives the same number of parameters. Its
samples come with their log-density, because `normflows` has no other way to sample. Needs requirements/training.txt and
reference.txt.
"""

from __future__ import annotations

import abc
import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ros_ood_perception.files.json_files import write_json  # noqa: E402
from ros_ood_perception.files.strict_yaml import read_yaml  # noqa: E402
from ros_ood_perception.number_arguments import image_size, real, whole  # noqa: E402
from training.data.registry import open_training_frames  # noqa: E402
from training.flow.image_flow import LEVELS, FlowConfig, ImageFlow  # noqa: E402
from training.flow.training_config import FlowTrainingConfig  # noqa: E402
from training.flow.validation import fixed_crops  # noqa: E402
from training.runs.provenance import machine  # noqa: E402

CONFIGS = {name: ROOT / "training" / "configs" / f"flow_{name}.yaml" for name in ("paper", "fast")}
LEARNING_RATE = 1e-3
WARMUP_STEPS = 10
GRADIENT_CLIP_NORM = 50.0
VALIDATION_BATCH = 8
LARGEST_WIDTH = 2048


def now(device: torch.device, threads: int) -> float:
    """Seconds on a clock for the device: processor time on a CPU."""
    if device.type == "cpu":
        return time.process_time() / threads
    torch.cuda.synchronize(device)
    return time.perf_counter()


class Model(abc.ABC):
    """The interface of a flow in this benchmark."""

    module: nn.Module

    @abc.abstractmethod
    def bits_per_dim(self, crops: Tensor) -> Tensor:
        """(N, 3, h, w) uint8 -> (N,) float, with uniform dequantisation."""

    @abc.abstractmethod
    def sampler(self, count: int, height: int, width: int) -> Callable[[], Tensor]:
        """A function that draws (count, 3, height, width) samples."""


class Ours(Model):
    """A flow of this package."""

    def __init__(self, config: FlowConfig) -> None:
        self.flow = ImageFlow(config)
        self.module = self.flow

    def bits_per_dim(self, crops: Tensor) -> Tensor:
        return self.flow.bits_per_dim(crops)

    def sampler(self, count: int, height: int, width: int) -> Callable[[], Tensor]:
        return lambda: self.flow.sample(count, height, width)


class Glow(Model):
    """Glow (Kingma and Dhariwal, arXiv 1807.03039) of `normflows`, with the settings of that package.

    Args:
        blocks: of each scale, finest first.
        width: of the coupling networks.
        side: of the crops for training.
    """

    def __init__(self, blocks: tuple[int, ...], width: int, side: int) -> None:
        import normflows

        self.scales = len(blocks)
        flows = []
        for level, count in enumerate(reversed(blocks)):
            channels = 3 * 2 ** (self.scales + 1 - level)
            scale: list[nn.Module] = [normflows.flows.GlowBlock(channels, width) for _ in range(count)]
            flows.append([*scale, normflows.flows.Squeeze()])
        merges = [normflows.flows.Merge() for _ in range(self.scales - 1)]
        self.module: Any = normflows.MultiscaleFlow(self._latents(side, side), flows, merges, class_cond=False)

    def _latents(self, height: int, width: int) -> list[nn.Module]:
        import normflows

        found = []
        for level in range(self.scales):
            reduction = 2 ** (self.scales - level)
            channels = 3 * 2 ** (self.scales + 1) if level == 0 else 3 * 2 ** (self.scales - level)
            shape = (channels, height // reduction, width // reduction)
            found.append(normflows.distributions.DiagGaussian(shape, trainable=False))
        return found

    def bits_per_dim(self, crops: Tensor) -> Tensor:
        values = crops.float()
        x = (values + torch.rand_like(values)) / (LEVELS / 2) - 1
        nats = math.log(LEVELS / 2) - self.module.log_prob(x, None) / x[0].numel()
        return nats / math.log(2)

    def sampler(self, count: int, height: int, width: int) -> Callable[[], Tensor]:
        device = next(self.module.parameters()).device
        # Convolutions take any size, but the latents of normflows have a fixed one.
        self.module.q0 = nn.ModuleList(self._latents(height, width)).to(device)
        return lambda: self.module.sample(count)[0]


def parameters(module: nn.Module) -> int:
    """Number of learnt parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def glow_of_the_size(config: FlowConfig, side: int) -> Glow:
    """The narrowest Glow with the flow's couplings at each scale and at least its number of parameters."""
    wanted = parameters(ImageFlow(config))
    blocks = tuple(units * steps for units, steps in zip(config.units, config.steps, strict=True))
    low, high = 1, LARGEST_WIDTH
    while low < high:
        middle = (low + high) // 2
        if parameters(Glow(blocks, middle, side).module) < wanted:
            low = middle + 1
        else:
            high = middle
    return Glow(blocks, low, side)


@dataclass(frozen=True)
class Result:
    """Measurements of one model.

    Attributes:
        samples_per_second: by size, such as `64x64`.
        steps: of training, in the same time for every model.
        bits_per_dim_before: before training, after the first batch has set the activation norms.
    """

    model: str
    parameters: int
    samples_per_second: dict[str, float]
    steps: int
    bits_per_dim_before: float
    bits_per_dim: float


def train(model: Model, crops: Tensor, options: argparse.Namespace, after_first: Callable[[], None]) -> int:
    """Train by maximum likelihood on crops (N, 3, h, w) uint8; returns the number of steps.

    The first batch sets the activation norms, and is not timed. `after_first` is called after it.
    """
    generator = torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adamax([p for p in model.module.parameters() if p.requires_grad], lr=LEARNING_RATE)
    model.module.train()
    with torch.no_grad():
        model.bits_per_dim(crops[: options.batch])
    after_first()
    model.module.train()
    started, steps = now(crops.device, options.threads), 0
    while now(crops.device, options.threads) - started < options.seconds:
        chosen = torch.randint(len(crops), (options.batch,), generator=generator)
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min((steps + 1) / WARMUP_STEPS, 1.0)
        loss = model.bits_per_dim(crops[chosen.to(crops.device)]).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.module.parameters(), GRADIENT_CLIP_NORM)
        optimiser.step()
        steps += 1
    return steps


@torch.no_grad()
def validation_bits(model: Model, crops: Tensor) -> float:
    """Mean bits per dimension of crops (N, 3, h, w) uint8."""
    model.module.eval()
    torch.manual_seed(2)
    return float(torch.cat([model.bits_per_dim(part) for part in crops.split(VALIDATION_BATCH)]).mean())


@torch.no_grad()
def samples_per_second(
    models: dict[str, Model], size: tuple[int, int], options: argparse.Namespace
) -> dict[str, float]:
    """Samples per second by model: median over the rounds, without the first one."""
    draws = {}
    for name, model in models.items():
        model.module.eval()
        draws[name] = model.sampler(options.count, *size)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    device = torch.device(options.device)
    for _ in range(options.repeats + 1):
        for name, draw in draws.items():
            started = now(device, options.threads)
            draw()
            seconds[name].append(now(device, options.threads) - started)
    return {name: options.count / statistics.median(times[1:]) for name, times in seconds.items()}


def show(results: list[Result], options: argparse.Namespace) -> None:
    """Print the table, with speeds absolute and relative to `paper`."""
    table = Table(
        title=f"{options.seconds:g} s of training each, batch {options.batch}; {options.count} samples at once; "
        f"{options.device}, {options.threads} thread(s)",
        title_justify="left",
    )
    table.add_column("model")
    sizes = list(results[0].samples_per_second)
    for column in (
        "parameters",
        "steps",
        "bits/dim at start",
        "bits/dim",
        *(f"{size}: samples/s (x paper)" for size in sizes),
    ):
        table.add_column(column, justify="right")
    for result in results:
        speeds = [
            f"{result.samples_per_second[size]:.3g} "
            f"({result.samples_per_second[size] / results[0].samples_per_second[size]:.3g})"
            for size in sizes
        ]
        table.add_row(
            result.model,
            f"{result.parameters:,}",
            str(result.steps),
            f"{result.bits_per_dim_before:.2f}",
            f"{result.bits_per_dim:.2f}",
            *speeds,
        )
    (Console() if sys.stdout.isatty() else Console(width=180)).print(table)


def _sample_size(text: str) -> tuple[int, int]:
    height, width = image_size(text)
    if height % 8 or width % 8:
        raise argparse.ArgumentTypeError(f"is {text}; both sides must be multiples of 8, such as 64x96")
    return height, width


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--set", default="camvid", help="its registered name (default: camvid)")
    parser.add_argument("--seconds", type=real(0.0, 1e6, above=True), default=100.0, help="of training for each model")
    parser.add_argument("--batch", type=whole(1, 10**6), default=8, help="crops a training step")
    parser.add_argument("--crops", type=whole(1, 10**6), default=1024, help="crops to train on")
    parser.add_argument("--validation", type=whole(1, 10**6), default=64, help="crops to measure bits per dimension on")
    parser.add_argument("--size", type=_sample_size, action="append", help="of samples; may be repeated")
    parser.add_argument("--count", type=whole(1, 10**6), default=4, help="samples drawn at once")
    parser.add_argument("--repeats", type=whole(1, 10**6), default=5, help="of each timing")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=whole(0, 256), default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    options.size = options.size or [(32, 32), (64, 64), (128, 128)]
    torch.set_num_threads(options.threads)
    configs = {name: read_yaml(path, FlowTrainingConfig) for name, path in CONFIGS.items()}
    augmentation = configs["paper"].augmentation
    train_frames, validation_frames = (open_training_frames(options.set, options.data, s) for s in ("train", "val"))
    training = fixed_crops(train_frames, augmentation, options.crops).to(options.device)
    validation = fixed_crops(validation_frames, augmentation, options.validation).to(options.device)
    models: dict[str, Callable[[], Model]] = {}
    for name, config in configs.items():
        models[name] = lambda flow=config.flow: Ours(flow)  # type: ignore[misc]
        models[f"Glow of {name}'s size"] = lambda flow=config.flow: glow_of_the_size(flow, augmentation.crop[0])  # type: ignore[misc]
    trained: dict[str, Model] = {}
    figures: dict[str, tuple[int, float, float]] = {}
    for name, make in models.items():
        torch.manual_seed(0)
        model = make()
        model.module.to(options.device)
        before: list[float] = []
        steps = train(model, training, options, lambda m=model, b=before: b.append(validation_bits(m, validation)))  # type: ignore[misc]
        trained[name], figures[name] = model, (steps, before[0], validation_bits(model, validation))
        print(f"{name}: {figures[name][-1]:.2f} bits per dimension after {steps} steps", file=sys.stderr)
    speeds = {
        f"{height}x{width}": samples_per_second(trained, (height, width), options) for height, width in options.size
    }
    results = [
        Result(name, parameters(model.module), {size: by[name] for size, by in speeds.items()}, *figures[name])
        for name, model in trained.items()
    ]
    show(results, options)
    if options.json is not None:
        contents = {"machine": machine(), "results": [asdict(result) for result in results]}
        write_json(options.json, contents, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
