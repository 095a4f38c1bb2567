"""What every training run does: epochs, progress bar, validation, checkpoints, resuming, log."""

from __future__ import annotations

import abc
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import cv2
import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from ros_ood_perception.files.atomic_files import naming
from ros_ood_perception.files.strict_yaml import SchemaError
from ros_ood_perception.progress_bar import progress_bar
from training.data.data_config import DataConfig
from training.data.label_table import print_label_table
from training.data.training_crops import AddressSampler
from training.data.training_frames import TrainingFrames
from training.runs.checkpoint import CheckpointError, load_checkpoint, reading, save_checkpoint
from training.runs.config_changes import as_options
from training.runs.provenance import code_version, machine

SAID_EVERY_S = 300.0
"""Seconds after which a line says how far the run is, where no bar shows it, as in the log of a job."""
TOO_MUCH_WAITING = 0.2
"""Share of the steps' time above which a run says that they wait for crops."""


@dataclass(frozen=True)
class ScheduleConfig:
    """The schedule of a learning rate.

    >>> schedule = ScheduleConfig(learning_rate=1e-3, warmup_steps=10, final_factor=0.0)
    >>> [round(schedule.factor(step, 110), 2) for step in (0, 9, 10, 60, 109)]
    [0.1, 1.0, 1.0, 0.5, 0.0]

    Attributes:
        learning_rate: after warm-up.
        final_factor: the schedule ends at this factor times `learning_rate`.
        schedule: half a cosine, or (1 - t)^0.9.
        warmup_steps: linear rise from 0.
    """

    learning_rate: float = 1e-3
    final_factor: float = 1e-3
    schedule: Literal["cosine", "polynomial"] = "cosine"
    warmup_steps: int = 200

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be positive")

    def factor(self, step: int, total_steps: int) -> float:
        """The learning rate of step `step` (from 0) of `total_steps`, relative to `learning_rate`."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        t = (step - self.warmup_steps) / max(total_steps - self.warmup_steps, 1)
        decay = 0.5 * (1 + math.cos(math.pi * t)) if self.schedule == "cosine" else (1 - t) ** 0.9
        return self.final_factor + (1 - self.final_factor) * decay


class RunConfig(Protocol):
    """The fields of every run's configuration, which is a dataclass."""

    @property
    def name(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def accumulation_steps(self) -> int: ...
    @property
    def precision(self) -> str: ...
    @property
    def data(self) -> DataConfig: ...


def config_digest(config: Any) -> str:
    """SHA-256 of all fields that affect the result.

    The folders of the data, the number of workers and the number of micro-batches do not.
    """
    values = asdict(config)
    del values["accumulation_steps"]
    for part in (values["data"], *values["data"]["more"]):
        del part["root"]
    for key in ("workers", "keep_in_memory"):
        del values["data"][key]
    # Later fields are left out at their defaults, so that runs of earlier versions can be resumed.
    if not values["data"]["more"]:
        del values["data"]["more"]
    if values.get("segmenter", {}).get("batch_norm_momentum") == 0.1:
        del values["segmenter"]["batch_norm_momentum"]
    for key in ("network", "network_licence"):
        if values.get("segmenter", {}).get(key, "") is None:
            del values["segmenter"][key]
    negatives = values.get("negatives", {})
    for key, default in (
        ("initial_flow_share", 0.0),
        ("neutral", 0.0),
        ("faces", 0.0),
        ("faded", 0.0),
        ("standing", 0.0),
        ("edges", "hard"),
        ("side_spacing", "linear"),
    ):
        if negatives.get(key) == default:
            del negatives[key]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass
class Progression:
    """The progress of a run: plain values, stored in the checkpoint.

    Attributes:
        best_quality, best_epoch: quality and number of the epoch in `best.pt`.
        training_seconds: duration of this run and of the runs whose weights it started from.
        step_seconds: duration of this run's steps only, without validation.
        history: the figures of each epoch.
        earlier_commands: commands that made the weights from which this run started.
        started_from: command-line options that gave these weights.
    """

    epoch: int = 0
    step: int = 0
    best_quality: float = -math.inf
    best_epoch: int = -1
    training_seconds: float = 0.0
    step_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    earlier_commands: list[str] = field(default_factory=list)
    started_from: list[str] = field(default_factory=list)


Config = TypeVar("Config", bound=RunConfig)


class TrainingRun(abc.ABC, Generic[Config]):
    """One training run. A subclass has models and optimisers, and defines a step, a validation and a checkpoint.

    Class attributes:
        program: module of the command.
        kind: kind of its checkpoints. A checkpoint cannot be resumed as another kind.
        quality: name of the validation figure that selects `best.pt`, and whether larger is better.
        config_class: class of its configuration.
        initial: command-line options for checkpoints to start from, with their help texts.

    Attributes:
        changes: changes to the configuration, from the command line.

    Raises:
        SchemaError: the batch cannot be shared by the processes.
    """

    program: ClassVar[str]
    kind: ClassVar[str]
    quality: ClassVar[tuple[str, bool]]
    config_class: ClassVar[type[Any]]
    initial: ClassVar[dict[str, str]] = {}
    loader: DataLoader[Any]
    sampler: AddressSampler
    objective: Any
    changes: tuple[str, ...] = ()

    def __init__(self, config: Config, config_path: Path, out: Path, fabric: Fabric) -> None:
        parts = fabric.world_size * config.accumulation_steps
        if config.batch_size % parts:
            raise SchemaError(
                f"batch_size {config.batch_size} cannot be shared by {fabric.world_size} process(es) in "
                f"{config.accumulation_steps} micro-batch(es) each; it must be a multiple of {parts}"
            )
        self.config = config
        self.config_path = config_path
        self.out = out
        self.fabric = fabric
        self.console = Console(stderr=True)
        self.progression = Progression()
        torch.manual_seed(config.seed)

    @abc.abstractmethod
    def step(self, batch: Any) -> dict[str, float]:
        """Take one optimisation step; returns the losses by name."""

    @abc.abstractmethod
    def validate(self, writer: SummaryWriter | None) -> dict[str, float]:
        """The validation figures by name. It also writes pictures to the log."""

    @abc.abstractmethod
    def models(self) -> dict[str, Any]:
        """Models and optimisers for the checkpoint: objects with `state_dict` and `load_state_dict`, by name."""

    def record(self) -> dict[str, Any]:
        """Further values for the checkpoint."""
        return {}

    def start_from(self, paths: dict[str, Path]) -> None:
        """Take the weights of other runs.

        Args:
            paths: option of `initial` to the checkpoint that was given with it.

        Raises:
            CheckpointError: one is missing, is no checkpoint, or is of another network.
        """

    def show_labels(self, frames: TrainingFrames) -> None:
        """Print which classes the training frames show, and warn of those without a pixel. First process only."""
        if self.fabric.is_global_zero:
            print_label_table([(part, split) for part, (_, split) in zip(frames.sets, frames.parts, strict=True)])

    def share_out(self, data: Dataset[Any], length: int) -> None:
        """Make the loader of training batches. The same seed gives the same crops for any number of processes.

        Raises:
            SchemaError: an epoch has fewer crops than a batch.
        """
        config = self.config
        self.sampler = AddressSampler(
            data,
            num_replicas=self.fabric.world_size,
            rank=self.fabric.global_rank,
            seed=config.seed,
            drop_last=True,
        )
        self.loader = DataLoader(
            data,
            batch_size=config.batch_size // self.fabric.world_size,
            sampler=self.sampler,
            num_workers=config.data.workers,
            drop_last=True,
            worker_init_fn=lambda _: cv2.setNumThreads(0),
        )
        if not len(self.loader):
            raise SchemaError(
                f"{length} crops an epoch do not fill one batch of {config.batch_size}; "
                "lower batch_size or raise passes_per_epoch"
            )

    def step_generator(self) -> torch.Generator:
        """The random generator of the current step: the same in every process and after a resume."""
        return torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.progression.step)

    def accumulate(self, losses_of: Callable[[slice], tuple[Tensor, dict[str, Tensor]]]) -> dict[str, float]:
        """Compute the gradient of this process's part of the batch, one micro-batch after the other.

        The gradients of the micro-batches add up in the parameters. Processes exchange them once, with the last one.

        Args:
            losses_of: positions of a micro-batch in this process's part -> the loss to minimise, and losses to log by
                name. Each is a share of the whole batch's loss, so that the shares add up to it.

        Returns:
            The losses to log.
        """
        steps = self.config.accumulation_steps
        size = self.config.batch_size // (self.fabric.world_size * steps)
        totals: dict[str, Tensor] = {}
        for number in range(steps):
            with self.fabric.no_backward_sync(self.objective, enabled=number < steps - 1):
                loss, shown = losses_of(slice(number * size, (number + 1) * size))
                self.fabric.backward(loss)
            for name, value in shown.items():
                totals[name] = totals.get(name, 0) + value.detach()
        return {name: float(value) for name, value in totals.items()}

    def clip_gradients(self, module: Any, optimiser: Any, largest_norm: float) -> None:
        """Scale the gradients of a module to a norm of at most `largest_norm`.

        Raises:
            FloatingPointError: they are not finite, in every process alike, because gradients were exchanged.
        """
        norm = self.fabric.clip_gradients(module, optimiser, max_norm=largest_norm, error_if_nonfinite=False)
        if norm is not None and not torch.isfinite(norm):
            raise FloatingPointError(
                f"the gradient of step {self.progression.step} is {float(norm)}; lower the learning rate and start anew"
            )

    def shared(self, values: Tensor) -> Tensor:
        """This process's part of values drawn for the whole batch: (batch_size, ...) -> (batch_size / processes, ...).

        Every process draws for the whole batch. So a step has the same numbers for any number of processes.
        """
        return values[self.own_part]

    @property
    def own_part(self) -> slice:
        """Positions of this process's values among those drawn for the whole batch."""
        return slice(self.fabric.global_rank, None, self.fabric.world_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.epochs * len(self.loader)

    def command(self) -> str:
        """The commands that repeat this run, and those before it."""
        own = f"python -m {self.program} --config {self.config_path}{as_options(self.changes)}"
        data = self.config.data
        sets = [f"{name}:" for name in (data.set, *(further.set for further in data.more))] if data.more else [""]
        own += "".join(f" --data {name}FOLDER" for name in sets)
        own += "".join(f" --{option} CHECKPOINT" for option in self.progression.started_from)
        return "; ".join([*self.progression.earlier_commands, own])

    def contents(self) -> dict[str, Any]:
        """The contents of a checkpoint."""
        return {
            "kind": self.kind,
            "config": asdict(self.config),  # type: ignore[call-overload]
            "config_digest": config_digest(self.config),
            "command": self.command(),
            "code_version": code_version(),
            "machine": machine(),
            "progression": asdict(self.progression),
            **self.record(),
            **{name: model.state_dict() for name, model in self.models().items()},
        }

    def take_over_record(self, saved: dict[str, Any], option: str) -> None:
        """Add the training time and command of another run, whose weights this run starts from.

        Args:
            option: the command-line option that gave its checkpoint.
        """
        self.progression.started_from.append(option)
        self.progression.training_seconds += saved["progression"]["training_seconds"]
        self.progression.earlier_commands.append(saved["command"])

    def check_resumed(self, saved: dict[str, Any], path: Path) -> None:
        """Check what the configuration does not say, before a checkpoint is continued.

        Raises:
            CheckpointError: the checkpoint is of other data.
        """

    def resume(self) -> None:
        """Continue from `last.pt`.

        Raises:
            CheckpointError: it is missing, or is from another configuration.
        """
        path = self.out / "last.pt"
        if not path.is_file():
            raise CheckpointError(f"{path}: nothing to resume; start without --resume")
        saved = load_checkpoint(path)
        if saved.get("kind") != self.kind:
            raise CheckpointError(f"{path}: holds a {saved.get('kind')} run, not a {self.kind} run; use another --out")
        if saved["config_digest"] != config_digest(self.config):
            with reading(path):
                changed = _differences(saved["config"], asdict(self.config))  # type: ignore[call-overload]
            raise CheckpointError(
                f"{path}: was trained with another configuration ({'; '.join(changed)}); "
                "use that configuration, or another --out"
            )
        self.check_resumed(saved, path)
        with reading(path):
            for name, model in self.models().items():
                model.load_state_dict(saved[name])
            self.progression = Progression(**saved["progression"])
        self.console.print(f"resumed after epoch {self.progression.epoch} of {self.config.epochs}")

    def run(self) -> None:
        """Train to the last epoch. Validate, save a checkpoint and log after each epoch."""
        writer = SummaryWriter(str(self.out)) if self.fabric.is_global_zero else None
        bar = progress_bar(self.console)
        bar.disable = bar.disable or not self.fabric.is_global_zero
        said_at, first_step = time.monotonic(), self.progression.step
        begun = said_at

        def advance() -> None:
            nonlocal said_at
            bar.advance(task)
            now, step = time.monotonic(), self.progression.step
            if not bar.disable or now - said_at < SAID_EVERY_S or not self.fabric.is_global_zero:
                return
            said_at = now
            left_s = (now - begun) / (step - first_step) * (self.total_steps - step)
            self.console.print(f"step {step} of {self.total_steps}, about {left_s / 60:.0f} min left", highlight=False)

        with bar:
            task = bar.add_task("training", total=self.total_steps, completed=self.progression.step)
            while self.progression.epoch < self.config.epochs:
                started = time.monotonic()
                losses = self._train_epoch(advance)
                steps_s = time.monotonic() - started
                self.progression.step_seconds += steps_s
                figures = self.validate(writer)
                self.progression.epoch += 1
                self.progression.training_seconds += time.monotonic() - started
                self._close_epoch(losses, figures, self._waited_s / steps_s, writer)
        if writer is not None:
            writer.close()

    def _train_epoch(self, advance: Callable[[], None]) -> dict[str, float]:
        state = self.progression
        self.sampler.set_epoch(state.epoch)
        # Draws from torch's global generator are the same after a resume.
        torch.manual_seed(self.config.seed + 1_000_003 * (state.epoch + 1))
        total: dict[str, float] = {}
        for batch in self._batches():
            for name, value in self._over_processes(self.step(batch)).items():
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"the loss {name} is {value} at step {state.step}; lower the learning rate and start anew"
                    )
                total[name] = total.get(name, 0.0) + value
            state.step += 1
            advance()
        return {name: value / len(self.loader) for name, value in total.items()}

    def _batches(self) -> Iterator[Any]:
        """The loader's batches of an epoch. `_waited_s` sums the time that the steps wait for them.

        The first one does not count: the loader's processes start then, and more of them would not help.
        """
        batches = iter(self.loader)
        batch = next(batches, None)
        self._waited_s = 0.0
        while batch is not None:
            yield batch
            asked = time.monotonic()
            batch = next(batches, None)
            self._waited_s += time.monotonic() - asked

    def _over_processes(self, losses: dict[str, float]) -> dict[str, float]:
        if self.fabric.world_size == 1:
            return losses
        values = self.fabric.to_device(torch.tensor(list(losses.values()), dtype=torch.float64))
        return dict(zip(losses, self.fabric.all_reduce(values, reduce_op="mean").tolist(), strict=True))

    def _close_epoch(
        self, losses: dict[str, float], figures: dict[str, float], waiting: float, writer: SummaryWriter | None
    ) -> None:
        state = self.progression
        name, larger_is_better = self.quality
        quality = figures[name] if larger_is_better else -figures[name]
        state.history.append({"epoch": state.epoch, **losses, **figures})
        best = quality > state.best_quality
        if best:
            state.best_quality, state.best_epoch = quality, state.epoch
        if not self.fabric.is_global_zero:
            return
        contents = self.contents()
        # The best first: if killed between the two, a resumed run repeats this epoch and finds it best again.
        if best:
            save_checkpoint(self.out / "best.pt", contents)
        save_checkpoint(self.out / "last.pt", contents)
        if writer is not None:
            with naming(self.out):
                for kind, values in (("train", losses), ("validation", figures)):
                    for key, value in values.items():
                        writer.add_scalar(f"{kind}/{key}", value, state.step)
                writer.add_scalar("train/share_of_time_waiting_for_crops", waiting, state.step)
                writer.flush()
        shown = "  ".join(f"{key} {value:.4f}" for key, value in losses.items())
        self.console.print(
            f"epoch {state.epoch:4d}/{self.config.epochs}  {shown}  validation {name} {figures[name]:.4f}"
            f"{' (best)' if best else ''}  {state.training_seconds:.0f} s",
            highlight=False,
        )
        if waiting > TOO_MUCH_WAITING:
            self.console.print(
                f"  the steps waited for crops in {waiting:.0%} of their time; data.workers is "
                f"{self.config.data.workers}: more processes make them faster",
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
