"""The joint training run of segmenter and flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ros_ood_perception.bundle.model_bundle import BundleError
from ros_ood_perception.files.strict_yaml import SchemaError
from training.bundles.network import BundleWeightsError, checkpoint_of_bundle
from training.flow.checkpoint import load_flow_checkpoint
from training.flow.image_flow import ImageFlow
from training.flow.validation import log_samples
from training.joint.negative_draw import NegativeDraw, PlacedBatch
from training.joint.objective import JointObjective
from training.joint.placement import place, standing
from training.joint.sources import negative_source
from training.joint.training_config import JointTrainingConfig
from training.joint.validation import average_precision_on_negatives
from training.runs.checkpoint import CheckpointError, load_checkpoint, reading
from training.segmenter.ladder_segmenter import LadderSegmenter
from training.segmenter.networks.network_segmenter import NetworkSegmenter
from training.segmenter.trainer import SegmenterTrainer, build_optimiser

SHOWN_SIZES = ((32, 32), (64, 64))


class JointTrainer(SegmenterTrainer):
    """A joint run: the segmenter and its running average, the flow, and an optimiser for each."""

    program = "training.train_joint"
    kind = "joint"
    config_class = JointTrainingConfig
    initial: ClassVar[dict[str, str]] = {
        "segmenter": "checkpoint of training.train_segmenter, or a bundle's folder, to start from; not needed with "
        "segmenter.network",
        "flow": "checkpoint of training.train_flow to start from",
    }
    config: JointTrainingConfig

    @property
    def learns_batch_norm(self) -> bool:
        return not self.config.frozen_batch_norm

    def set_up(self, weights: Tensor) -> None:
        config = self.config
        if config.negatives.source == "crops" and config.batch_size == self.fabric.world_size:
            raise SchemaError(
                f"negatives.source is crops, which needs other images in the same process, and batch_size "
                f"{config.batch_size} leaves each process one image; raise it, or use fewer processes"
            )
        self.ground = torch.tensor([i for i, c in enumerate(self.frames.classes) if c.drivable], dtype=torch.uint8)
        if config.negatives.standing and not len(self.ground):
            raise SchemaError(
                f"negatives.standing is {config.negatives.standing}, but no class of {config.data.set} is drivable; "
                "mark one in its file of labels (drivable: true), or set negatives.standing to 0"
            )
        self.flow = ImageFlow(config.flow)
        self.flow.requires_grad_(config.flow_learns)
        self.initial_flow = None
        if config.negatives.initial_flow_share:
            self.initial_flow = ImageFlow(config.flow).requires_grad_(False)
        self.negatives = negative_source(config.negatives, self.flow)
        optimisers: list[Any] = [build_optimiser(self.segmenter, config.optimiser)]
        if config.flow_learns:
            optimisers.append(torch.optim.Adamax(self.flow.parameters(), lr=config.flow_optimiser.learning_rate))
        objective = JointObjective(self.segmenter, self.flow, weights, config, self.initial_flow)
        self.objective, *prepared = self.fabric.setup(objective, *optimisers)
        self.optimiser = prepared[0]
        self.flow_optimiser = prepared[1] if config.flow_learns else None

    def models(self) -> dict[str, Any]:
        found = {**super().models(), "flow": self.flow}
        if self.initial_flow is not None:
            found["initial_flow"] = self.initial_flow
        return found if self.flow_optimiser is None else {**found, "flow_optimiser": self.flow_optimiser}

    def start_from(self, paths: dict[str, Path]) -> None:
        """Take the weights of a segmenter, from a run or a bundle, and of a flow.

        A network of `transformers` has its weights already; they are kept without --segmenter.

        Raises:
            CheckpointError: one is missing, or is of another kind or of another network.
        """
        of_folder = isinstance(self.segmenter, NetworkSegmenter) and "segmenter" not in paths
        wanted = ([] if of_folder else ["segmenter"]) + (["flow"] if self.config.negatives.uses_flow else [])
        missing = [name for name in wanted if name not in paths]
        if missing:
            raise CheckpointError(
                f"give --{' and --'.join(missing)}: joint training starts from pre-trained checkpoints"
            )
        if of_folder:
            self._check_network(cast(NetworkSegmenter, self.segmenter))
        else:
            with reading(paths["segmenter"]):
                saved = self.pretrained_segmenter(paths["segmenter"])
                self.load_both(saved, paths["segmenter"])
                self.take_over_record(saved, "segmenter")
        if "flow" in paths:
            saved = load_flow_checkpoint(paths["flow"])
            try:
                for flow in (self.flow, self.initial_flow):
                    if flow is not None:
                        flow.load_state_dict(saved["flow"])
            except RuntimeError as error:
                raise CheckpointError(
                    f"{paths['flow']}: holds another flow than this configuration's ({error})"
                ) from error
            with reading(paths["flow"]):
                self.take_over_record(saved, "flow")

    def _check_network(self, segmenter: NetworkSegmenter) -> None:
        """Raises CheckpointError: the folder's network does not know the classes of the data."""
        wanted = tuple(known.name for known in self.frames.classes)
        cure = "train it on this data first (training.train_segmenter), and give its best.pt as --segmenter"
        if segmenter.new:
            raise CheckpointError(
                f"{self.config.segmenter.network}: {len(segmenter.new)} of its weights are new and random, such as "
                f"{segmenter.new[-1]}, because it has no head for {len(wanted)} classes; {cure}"
            )
        if segmenter.names and segmenter.names != wanted:
            raise CheckpointError(
                f"{self.config.segmenter.network}: knows the classes {', '.join(segmenter.names)}; the data has "
                f"{', '.join(wanted)}. If they are the same, rename id2label in its config.json; else {cure}"
            )

    def pretrained_segmenter(self, path: Path) -> dict[str, Any]:
        """The checkpoint at `path`, or the same values from a bundle's folder.

        Raises:
            CheckpointError: neither is there, or it is of another network.
        """
        if not path.is_dir():
            return load_checkpoint(path)
        if isinstance(self.segmenter, NetworkSegmenter):
            raise CheckpointError(
                f"{path}: the graph of a bundle does not name the weights of a network of transformers; leave "
                "--segmenter out to start from segmenter.network, or give the checkpoint of a run"
            )
        if not self.config.frozen_batch_norm:
            raise CheckpointError(
                f"{path}: a bundle has no batch statistics; set frozen_batch_norm: true, or start from the checkpoint "
                "that it was exported from"
            )
        try:
            return checkpoint_of_bundle(path, cast(LadderSegmenter, self.segmenter))
        except (BundleError, BundleWeightsError) as error:
            raise CheckpointError(str(error)) from error

    def draw(self, image: Tensor, labels: Tensor, generator: torch.Generator) -> NegativeDraw:
        """The random choices for image (n, 3, H, W) and labels (n, H, W) uint8, this process's part of a batch.

        Every process draws for the whole batch. So a step has the same numbers however many processes share it.
        """
        config = self.config
        placement = place(config.batch_size, (image.shape[2], image.shape[3]), config.negatives, generator)
        if config.negatives.standing:
            ground = torch.isin(labels.cpu(), self.ground)
            placement = standing(placement, ground, self.own_part, config.negatives.standing, generator)
        noise = torch.rand((config.batch_size, 3, *placement.sample_size), generator=generator)
        batch = PlacedBatch(image, self.own_part, placement, noise)
        return self.negatives.draw(batch, generator).to(self.fabric.device)

    def step(self, batch: Any) -> dict[str, float]:
        config = self.config
        self.objective.train()
        image, labels = batch
        draw = self.draw(image, labels, self.step_generator())
        image, labels = self.fabric.to_device(image), self.fabric.to_device(labels)
        denominators = self.objective.denominators(labels, draw)

        def losses_of(part: slice) -> tuple[Tensor, dict[str, Tensor]]:
            classes, likelihood, unsure = self.objective(image[part], labels[part], draw.part(part), denominators)
            likelihood = likelihood / config.accumulation_steps
            loss = classes + likelihood + config.beta * unsure
            return loss, {"L_cls": classes, "L_mle": likelihood, "L_jsd": unsure}

        losses = self.accumulate(losses_of)
        if self.flow_optimiser is not None:
            factor = config.flow_optimiser.factor(self.progression.step, self.total_steps)
            for group in self.flow_optimiser.param_groups:
                group["lr"] = config.flow_optimiser.learning_rate * factor
            self.clip_gradients(self.flow, self.flow_optimiser, config.flow_gradient_clip_norm)
            self.flow_optimiser.step()
            self.flow_optimiser.zero_grad()
        self.optimise_segmenter()
        return losses

    def validate(self, writer: SummaryWriter | None) -> dict[str, float]:
        figures = super().validate(writer)
        figures["negative_AP"] = average_precision_on_negatives(
            self.deployed().eval(), self.validation_frames, self.fabric
        )
        if writer is not None and self.config.negatives.uses_flow:
            with torch.no_grad():
                log_samples(writer, self.flow, SHOWN_SIZES, self.progression.step, self.config.seed)
        return figures
