"""The supervised training run: cross-entropy on labelled crops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from ros_ood_perception.files.strict_yaml import SchemaError
from training.data.training_crops import TrainingCrops
from training.data.training_frames import open_data, require_labels
from training.runs.checkpoint import CheckpointError, load_checkpoint, reading
from training.runs.shared_batch import mean_over_processes, take_buffers_of_first_process
from training.runs.training_run import TrainingRun
from training.segmenter.cross_entropy import class_weights, dense_cross_entropy, weight_of_valid_pixels
from training.segmenter.deployed_segmenter import DeployedSegmenter
from training.segmenter.networks.network_segmenter import NETWORK, NetworkSegmenter, build_segmenter
from training.segmenter.segmenter import Segmenter
from training.segmenter.training_config import OptimiserConfig, SegmenterTrainingConfig
from training.segmenter.validation import log_classes, validate_segmenter

LARGEST_LAG = 0.1
"""Share of the first weights in a running average, above which a run is too short for it."""


class SupervisedObjective(nn.Module):
    """Segmenter and loss as one module, so that mixed precision and data parallelism cover the whole step.

    image (N, 3, H, W) uint8 RGB, labels (N, H, W) uint8 and the denominator of `dense_cross_entropy` () float ->
    L_cls () float32.
    """

    weights: Tensor

    def __init__(self, segmenter: Segmenter, weights: Tensor) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, image: Tensor, labels: Tensor, denominator: Tensor | None = None) -> Tensor:
        pixels = self.segmenter.normalise(image.float()).contiguous(memory_format=torch.channels_last)
        return dense_cross_entropy(self.segmenter.dense_logits(pixels), labels, self.weights, denominator)


def build_optimiser(segmenter: Segmenter, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW with four parameter groups: encoder and decoder (or head), each with and without weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in segmenter.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((segmenter.in_encoder(name), parameter.ndim > 1), []).append(parameter)
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


class SegmenterTrainer(TrainingRun[SegmenterTrainingConfig]):
    """A supervised run: the segmenter, its running average and the optimiser."""

    program = "training.train_segmenter"
    kind = "segmenter"
    quality = ("mIoU", True)
    config_class = SegmenterTrainingConfig
    initial: ClassVar[dict[str, str]] = {"initial": "start from the weights of another run"}

    def __init__(
        self, config: SegmenterTrainingConfig, config_path: Path, folders: Mapping[str, Path], out: Path, fabric: Fabric
    ) -> None:
        super().__init__(config, config_path, out, fabric)
        if self.learns_batch_norm and config.batch_size == fabric.world_size * config.accumulation_steps:
            raise SchemaError(
                f"batch_size {config.batch_size} leaves one crop to each micro-batch of each process; batch "
                "normalisation needs two. Raise it, or lower accumulation_steps or the number of processes"
            )
        self.frames, self.validation_frames = open_data(config.data, folders)
        self.show_labels(self.frames)
        require_labels(self.frames, f"{self.frames.title} ({config.data.train})")
        require_labels(self.validation_frames, f"{self.validation_frames.title} ({config.data.validation})")
        crops = TrainingCrops(
            self.frames, config.augmentation, config.seed, config.passes_per_epoch, config.data.keep_in_memory
        )
        self.share_out(crops, len(crops))
        lag = lag_of_average(config.ema_decay, self.total_steps)
        if lag and fabric.is_global_zero:
            self.console.print(lag, highlight=False, markup=False)
        # A resumed run has all its weights: pretrained ones are not loaded again.
        started = out / "last.pt"
        encoder = load_checkpoint(started).get("encoder") if started.is_file() else None
        segmenter = build_segmenter(config.segmenter, [known.name for known in self.frames.classes], encoder)
        self._check_sizes(segmenter)
        if encoder is None and isinstance(segmenter, NetworkSegmenter):
            self._show_network(segmenter)
        segmenter.prepare_training()
        nn.Module.to(segmenter, memory_format=torch.channels_last)  # type: ignore[call-overload]
        weights = class_weights(
            (self.frames[i].labels for i in range(len(self.frames))),
            len(self.frames.classes),
            config.class_weighting,
            config.class_weighting_offset,
        )
        self.segmenter = segmenter
        self.average = AveragedModel(segmenter, multi_avg_fn=running_average(config.ema_decay), use_buffers=True)
        self.set_up(weights)
        # It was copied before set_up moved the segmenter to its device.
        self.average = self.fabric.to_device(self.average)

    def _check_sizes(self, segmenter: Segmenter) -> None:
        checks = {"input_size": segmenter.check_input_size, "augmentation.crop": segmenter.check_crop}
        sizes = {"input_size": self.config.input_size, "augmentation.crop": self.config.augmentation.crop}
        for name, check in checks.items():
            try:
                check(sizes[name])
            except ValueError as error:
                raise SchemaError(f"{name} is {sizes[name]}; {error}") from error

    def _show_network(self, segmenter: NetworkSegmenter) -> None:
        """Print what the user should know of the network that is trained further. First process only."""
        if not self.fabric.is_global_zero:
            return
        new = f"{len(segmenter.new)} weights are new and random, such as {segmenter.new[-1]}" if segmenter.new else ""
        said = [f"{segmenter.origin}, licence {segmenter.licence}", *segmenter.notes, new]
        if not segmenter.new and segmenter.names and segmenter.names != tuple(c.name for c in self.frames.classes):
            said.append(
                f"its channels were {', '.join(segmenter.names)}; they are trained as "
                f"{', '.join(c.name for c in self.frames.classes)}"
            )
        for sentence in filter(None, said):
            self.console.print(sentence, highlight=False, markup=False)

    @property
    def learns_batch_norm(self) -> bool:
        """Whether batch normalisation uses the statistics of the batch."""
        return True

    def set_up(self, weights: Tensor) -> None:
        """Make objective and optimiser.

        Args:
            weights: class weights, (K,) float32.
        """
        optimiser = build_optimiser(self.segmenter, self.config.optimiser)
        objective = SupervisedObjective(self.segmenter, weights)
        self.objective, self.optimiser = self.fabric.setup(objective, optimiser)

    def models(self) -> dict[str, Any]:
        return {"segmenter": self.segmenter, "average": self.average, "optimiser": self.optimiser}

    def record(self) -> dict[str, Any]:
        terms = [self.segmenter.licence] if isinstance(self.segmenter, NetworkSegmenter) else []
        licence = "; ".join(dict.fromkeys([*terms, self.frames.terms]))
        return {
            "data_set": {"name": self.frames.title, "licence": licence, "parts": self.frames.parts},
            "classes": [(c.name, c.colour) for c in self.frames.classes],
            "drivable": [c.name for c in self.frames.classes if c.drivable],
            "encoder": self.segmenter.encoder_settings,
            "exported": self.deployed().segmenter.state_dict(),
        }

    def start_from(self, paths: dict[str, Path]) -> None:
        """Take the exported weights of another run, and add its training time and command to this run's record.

        Raises:
            CheckpointError: not a checkpoint, or of another network.
        """
        path = paths.get("initial")
        if path is None:
            return
        saved = load_checkpoint(path)
        with reading(path):
            self.load_both(saved, path)
            self.take_over_record(saved, "initial")

    def check_resumed(self, saved: dict[str, Any], path: Path) -> None:
        with reading(path):
            self._check_classes(saved, path)

    def _check_classes(self, saved: dict[str, Any], path: Path) -> None:
        wanted = [known.name for known in self.frames.classes]
        found = [name for name, _ in saved.get("classes", ())]
        if found and found != wanted:
            raise CheckpointError(
                f"{path}: was trained on the classes {', '.join(found)}; the data has {', '.join(wanted)}"
            )

    def load_both(self, saved: dict[str, Any], path: Path) -> None:
        """Load the weights that a checkpoint would export, into the segmenter and its average.

        Raises:
            CheckpointError: it holds no segmenter, or one of another network or of other classes.
        """
        self._check_classes(saved, path)
        load_exported(self.segmenter, saved, path)
        load_exported(self.average.module, saved, path)

    def deployed(self) -> DeployedSegmenter:
        """The model that would be exported now: the running average, if there is one."""
        model: Any = self.average.module if self.config.ema_decay else self.segmenter
        return DeployedSegmenter(model, self.config.input_size, temperature=1.0)

    def step(self, batch: Any) -> dict[str, float]:
        image, labels = (self.fabric.to_device(part) for part in batch)
        self.objective.train()
        denominator = mean_over_processes(weight_of_valid_pixels(labels, self.objective.weights))

        def losses_of(part: slice) -> tuple[Tensor, dict[str, Tensor]]:
            loss = self.objective(image[part], labels[part], denominator)
            return loss, {"loss": loss}

        losses = self.accumulate(losses_of)
        self.optimise_segmenter()
        return losses

    def optimise_segmenter(self) -> None:
        """Step the optimiser on the accumulated gradients, and clear them."""
        config = self.config.optimiser
        factor = config.factor(self.progression.step, self.total_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.clip_gradients(self.segmenter, self.optimiser, config.gradient_clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.config.ema_decay:
            self.average.update_parameters(self.segmenter)

    def validate(self, writer: SummaryWriter | None) -> dict[str, float]:
        # After the last step, batch statistics differ between processes; the saved ones are those of the first.
        for module in (self.segmenter, self.average):
            take_buffers_of_first_process(module)
        confusion = validate_segmenter(
            self.deployed(),
            self.validation_frames,
            self.fabric,
            writer,
            self.progression.step,
            self.config.picture_frames,
        )
        log_classes(writer, confusion, self.validation_frames.classes, self.progression.step)
        return {"mIoU": confusion.mean_iou()}


def lag_of_average(decay: float, steps: int) -> str:
    """A sentence where a run is too short for its running average, which is exported; else empty.

    >>> lag_of_average(0.998, 280).split(";")[0]
    'ema_decay 0.998 over 280 steps leaves 57 % of the first weights in the running average, which is exported'
    """
    share = decay**steps
    if share <= LARGEST_LAG:
        return ""
    return (
        f"ema_decay {decay:g} over {steps} steps leaves {100 * share:.0f} % of the first weights in the running "
        f"average, which is exported; set ema_decay to at most {0.05 ** (1 / steps):.2f}, or train longer"
    )


def running_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """The function of `AveragedModel` for a running average. Numbers of places and tokens stay as they are.

    PyTorch's own averages whole numbers too, and rounds the result down: 7 of 7 and 7 can become 6.
    """
    average = get_ema_multi_avg_fn(decay)

    def update(averaged: list[Tensor], current: list[Tensor], count: Any) -> None:
        if averaged[0].is_floating_point():
            average(averaged, current, count)
            return
        for ours, new in zip(averaged, current, strict=True):
            ours.copy_(new)

    return update


def load_exported(segmenter: nn.Module, saved: dict[str, Any], path: Path) -> None:
    """Load the weights that a checkpoint would export.

    Raises:
        CheckpointError: it holds no segmenter, or that of another network.
    """
    if "exported" not in saved:
        raise CheckpointError(f"{path}: holds no segmenter (it is of a {saved.get('kind')} run)")
    found = (saved.get("encoder") or {}).get(NETWORK, {}).get("origin")
    wanted = segmenter.origin if isinstance(segmenter, NetworkSegmenter) else None
    if found != wanted and saved.get("kind") != "bundle":
        remedy = "set segmenter.network to its folder" if wanted is None else "set segmenter.network: null"
        kinds = [name or "a network of this package" for name in (found, wanted)]
        raise CheckpointError(f"{path}: holds {kinds[0]}, and the configuration is of {kinds[1]}; {remedy}")
    try:
        segmenter.load_state_dict(saved["exported"])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: holds another network than this configuration's ({error})") from error
