"""Train a segmenter with cross-entropy.

    python -m training.train_segmenter --config training/configs/camvid_small.yaml --data FOLDER

FOLDER is the data set's (for CamVid: with the splits `train/` and `val/` in it); the config says which set it is.
Checkpoints go to `runs/NAME/last.pt` (every epoch) and `best.pt` (best validation mIoU), TensorBoard files beside them
(`tensorboard --logdir runs`). `--resume` goes on after the last finished epoch with the numbers that the uninterrupted
run would have had. Under `torchrun`, or with `--devices`, several processes share each batch.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from ros_ood_perception.overlay import score_picture, semantic_picture
from ros_ood_perception.strict_yaml import SchemaError, read_yaml
from training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from training.data.registry import open_training_frames
from training.data.training_crops import AddressSampler, TrainingCrops
from training.losses.cross_entropy import class_weights, dense_cross_entropy
from training.metrics.semantic import ConfusionMatrix
from training.models.deployed_segmenter import DeployedSegmenter, normalise
from training.models.segmenter import LadderSegmenter
from training.provenance import code_version, machine
from training.segmenter_training_config import OptimiserConfig, SegmenterTrainingConfig


class SupervisedObjective(nn.Module):
    """Segmenter and loss as one module, so that mixed precision and data parallelism see the whole step.

    image (N, 3, H, W) uint8 RGB, labels (N, H, W) uint8 -> () float32, L_cls.
    """

    weights: Tensor

    def __init__(self, segmenter: LadderSegmenter, weights: Tensor) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        pixels = normalise(image.float()).contiguous(memory_format=torch.channels_last)
        return dense_cross_entropy(self.segmenter(pixels), labels, self.weights)


@dataclass
class Progression:
    """How far a run has come. Plain values, kept in the checkpoint."""

    epoch: int = 0
    step: int = 0
    best_miou: float = -1.0
    best_epoch: int = -1
    training_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    earlier_commands: list[str] = field(default_factory=list)


def learning_rate_factor(config: OptimiserConfig, step: int, total_steps: int) -> float:
    """What the learning rate of step `step` (from 0) of `total_steps` is, as a share of the configured one."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    t = (step - config.warmup_steps) / max(total_steps - config.warmup_steps, 1)
    decay = 0.5 * (1 + math.cos(math.pi * t)) if config.schedule == "cosine" else (1 - t) ** 0.9
    return config.final_factor + (1 - config.final_factor) * decay


def build_optimiser(segmenter: LadderSegmenter, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW over four groups: encoder and decoder, each with and without weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in segmenter.named_parameters():
        groups.setdefault((name.startswith("encoder."), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": config.weight_decay if decayed else 0.0,
                "base_lr": config.learning_rate * (config.encoder_factor if in_encoder else 1.0),
            }
            for (in_encoder, decayed), parameters in groups.items()
        ],
        lr=config.learning_rate,
        fused=True,
    )


class SegmenterTrainer:
    """One run: owns the model, its running average, the optimiser and the way the run has come."""

    def __init__(
        self, config: SegmenterTrainingConfig, config_path: Path, data: Path, out: Path, fabric: Fabric
    ) -> None:
        self.config = config
        self.config_path = config_path
        self.out = out
        self.fabric = fabric
        self.console = Console(stderr=True)
        if config.batch_size % fabric.world_size:
            raise SchemaError(f"batch_size {config.batch_size} cannot be shared by {fabric.world_size} processes")
        train_frames, self.validation_frames = (
            open_training_frames(config.data.set, data, split, config.data.held_out)
            for split in (config.data.train, config.data.validation)
        )
        self.frames = train_frames
        self.num_classes = len(train_frames.classes)
        self.crops = TrainingCrops(
            train_frames, config.augmentation, config.seed, config.passes_per_epoch, config.data.keep_in_memory
        )
        self.sampler = AddressSampler(
            self.crops,
            num_replicas=fabric.world_size,
            rank=fabric.global_rank,
            seed=config.seed,
            drop_last=True,
        )
        self.loader = DataLoader(
            self.crops,
            batch_size=config.batch_size // fabric.world_size,
            sampler=self.sampler,
            num_workers=config.data.workers,
            drop_last=True,
            worker_init_fn=lambda _: cv2.setNumThreads(0),
        )
        if not len(self.loader):
            raise SchemaError(
                f"{len(self.crops)} crops an epoch do not fill one batch of {config.batch_size}; "
                "lower batch_size or raise passes_per_epoch"
            )
        torch.manual_seed(config.seed)
        segmenter = LadderSegmenter(config.segmenter, self.num_classes)
        nn.Module.to(segmenter, memory_format=torch.channels_last)  # type: ignore[call-overload]
        weights = class_weights(
            (train_frames[i].labels for i in range(len(train_frames))),
            self.num_classes,
            config.class_weighting,
            config.class_weighting_offset,
        )
        optimiser = build_optimiser(segmenter, config.optimiser)
        self.objective, self.optimiser = fabric.setup(SupervisedObjective(segmenter, weights), optimiser)
        self.segmenter = segmenter
        self.average = AveragedModel(segmenter, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
        self.progression = Progression()
        self.total_steps = config.epochs * len(self.loader)

    def _command(self) -> str:
        own = f"python -m training.train_segmenter --config {self.config_path} --data FOLDER"
        if not self.progression.earlier_commands:
            return own
        return f"{'; '.join(self.progression.earlier_commands)}; {own} --initial CHECKPOINT"

    def contents(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "config": asdict(self.config),
            "config_digest": self.config.digest(),
            "command": self._command(),
            "code_version": code_version(),
            "machine": machine(),
            "data_set": {"name": self.frames.title, "licence": self.frames.terms},
            "classes": [(c.name, c.colour) for c in self.frames.classes],
            "progression": asdict(self.progression),
            "segmenter": self.segmenter.state_dict(),
            "average": self.average.state_dict(),
            "exported": self.deployed().segmenter.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def start_from(self, path: Path) -> None:
        """Take the exported weights of another run, and its training time and command into this run's record.

        Raises:
            CheckpointError: not a checkpoint, or of another network.
        """
        saved = load_checkpoint(path)
        try:
            self.segmenter.load_state_dict(saved["exported"])
        except RuntimeError as error:
            raise CheckpointError(f"{path}: is of another network than this configuration's ({error})") from error
        self.average.module.load_state_dict(saved["exported"])
        self.progression.training_seconds = saved["progression"]["training_seconds"]
        self.progression.earlier_commands = [saved["command"]]

    def resume(self) -> None:
        """Go on from `last.pt`.

        Raises:
            CheckpointError: none there, or one of another configuration.
        """
        path = self.out / "last.pt"
        if not path.is_file():
            raise CheckpointError(f"{path}: nothing to resume; start without --resume")
        saved = load_checkpoint(path)
        if saved["config_digest"] != self.config.digest():
            changed = _differences(saved["config"], asdict(self.config))
            raise CheckpointError(
                f"{path}: was trained with another configuration ({'; '.join(changed)}); "
                "use that configuration, or another --out"
            )
        self.segmenter.load_state_dict(saved["segmenter"])
        self.average.load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.progression = Progression(**saved["progression"])
        self.console.print(f"resumed after epoch {self.progression.epoch} of {self.config.epochs}")

    def deployed(self) -> DeployedSegmenter:
        """The model as it would ship now: the running average where there is one."""
        model: Any = self.average.module if self.config.ema_decay else self.segmenter
        return DeployedSegmenter(model, self.config.input_size, temperature=1.0)

    def run(self) -> None:
        """Train to the last epoch; validate, checkpoint and log after each."""
        writer = SummaryWriter(str(self.out)) if self.fabric.is_global_zero else None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        shown = self.console.is_terminal and self.fabric.is_global_zero
        with Progress(*columns, console=self.console, disable=not shown) as bar:
            task = bar.add_task("training", total=self.total_steps, completed=self.progression.step)
            while self.progression.epoch < self.config.epochs:
                started = time.monotonic()
                loss = self._train_epoch(lambda: bar.advance(task))
                confusion = self.validate(writer)
                self.progression.epoch += 1
                self.progression.training_seconds += time.monotonic() - started
                self._close_epoch(loss, confusion, writer)
        if writer is not None:
            writer.close()

    def _train_epoch(self, advance: Any) -> float:
        state = self.progression
        self.sampler.set_epoch(state.epoch)
        # Whatever draws from torch's generator draws the same after a resume.
        torch.manual_seed(self.config.seed + 1_000_003 * (state.epoch + 1))
        self.objective.train()
        total = 0.0
        for image, labels in self.loader:
            factor = learning_rate_factor(self.config.optimiser, state.step, self.total_steps)
            for group in self.optimiser.param_groups:
                group["lr"] = group["base_lr"] * factor
            loss = self.objective(self.fabric.to_device(image), self.fabric.to_device(labels))
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"the loss is {float(loss)} at step {state.step}; lower optimiser.learning_rate and start anew"
                )
            self.fabric.backward(loss)
            self.fabric.clip_gradients(
                self.objective, self.optimiser, max_norm=self.config.optimiser.gradient_clip_norm
            )
            self.optimiser.step()
            self.optimiser.zero_grad()
            if self.config.ema_decay:
                self.average.update_parameters(self.segmenter)
            total += float(loss.detach())
            state.step += 1
            advance()
        return total / len(self.loader)

    @torch.no_grad()
    def validate(self, writer: SummaryWriter | None) -> ConfusionMatrix:
        """Confusion of the deployed model on the validation frames, at their own resolution."""
        model = self.deployed().eval()
        confusion = ConfusionMatrix(self.num_classes)
        precision = self.fabric.autocast() if self.config.precision.endswith("mixed") else nullcontext()
        for index in range(self.fabric.global_rank, len(self.validation_frames), self.fabric.world_size):
            frame = self.validation_frames[index]
            with precision:
                semantic, anomaly = model(self.fabric.to_device(torch.from_numpy(frame.image)[None]))
            height, width = frame.labels.shape
            ids = cv2.resize(semantic[0].cpu().numpy(), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            confusion.update(ids, frame.labels)
            if writer is not None and index in self.config.picture_frames:
                score = cv2.resize(anomaly[0].float().cpu().numpy(), (width, height))
                colours = [c.colour for c in self.frames.classes]
                panel = np.concatenate(
                    [
                        frame.image,
                        semantic_picture(frame.labels, colours),
                        semantic_picture(ids, colours),
                        score_picture(score),
                    ],
                    axis=1,
                )
                title = f"validation/{frame.name}: image, labels, classes, anomaly score"
                writer.add_image(title, panel, self.progression.step, dataformats="HWC")
        counts = torch.from_numpy(confusion.counts)
        confusion.counts = self.fabric.all_reduce(self.fabric.to_device(counts), reduce_op="sum").cpu().numpy()
        self.objective.train()
        return confusion

    def _close_epoch(self, loss: float, confusion: ConfusionMatrix, writer: SummaryWriter | None) -> None:
        state = self.progression
        miou = confusion.mean_iou()
        learning_rate = self.optimiser.param_groups[0]["lr"]
        state.history.append({"epoch": state.epoch, "loss": loss, "validation_miou": miou, "lr": learning_rate})
        best = miou > state.best_miou
        if best:
            state.best_miou, state.best_epoch = miou, state.epoch
        if not self.fabric.is_global_zero:
            return
        contents = self.contents()
        # The best first: killed between the two, a resumed run makes this epoch again and finds it best again.
        if best:
            save_checkpoint(self.out / "best.pt", contents)
        save_checkpoint(self.out / "last.pt", contents)
        if writer is not None:
            writer.add_scalar("train/loss", loss, state.step)
            writer.add_scalar("train/learning_rate", learning_rate, state.step)
            writer.add_scalar("validation/mIoU", miou, state.step)
            for label_class, iou in zip(self.frames.classes, confusion.iou(), strict=True):
                writer.add_scalar(f"validation/IoU/{label_class.name}", iou, state.step)
            writer.flush()
        self.console.print(
            f"epoch {state.epoch:4d}/{self.config.epochs}  loss {loss:.4f}  validation mIoU {miou:.4f}"
            f"{' (best)' if best else ''}  {state.training_seconds:.0f} s",
            highlight=False,
        )


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key} was {before!r}, is {after!r}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train_segmenter",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML, see training/configs/")
    parser.add_argument("--data", type=Path, help="folder with the splits; replaces data.root of the config")
    parser.add_argument("--out", type=Path, help="where checkpoints and logs go (default: runs/NAME)")
    parser.add_argument("--initial", type=Path, metavar="CHECKPOINT", help="start from the weights of another run")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/last.pt")
    parser.add_argument("--accelerator", default="auto", help="a Fabric accelerator: auto, cpu, cuda")
    parser.add_argument("--devices", default="1", help="how many devices (processes on a CPU) share each batch")
    options = parser.parse_args(arguments)
    try:
        config = read_yaml(options.config, SegmenterTrainingConfig)
        out = options.out or Path("runs") / config.name
        if not options.resume and (out / "last.pt").exists():
            raise CheckpointError(f"{out / 'last.pt'} exists; give --resume to go on, or another --out")
        fabric = Fabric(accelerator=options.accelerator, devices=options.devices, precision=config.precision)
        fabric.launch()
        trainer = SegmenterTrainer(config, options.config, options.data or Path(config.data.root), out, fabric)
        if options.initial is not None and not options.resume:
            trainer.start_from(options.initial)
        if options.resume:
            trainer.resume()
        trainer.run()
    except (SchemaError, CheckpointError, FileNotFoundError, FloatingPointError, ValueError) as error:
        print(f"train_segmenter: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train_segmenter: interrupted; --resume goes on after the last finished epoch", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
