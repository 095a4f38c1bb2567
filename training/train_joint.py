"""Train segmenter and normalizing flow jointly: the method that this package is built on.

    python -m training.train_joint --config training/configs/joint_camvid.yaml --data FOLDER \\
        --segmenter runs/camvid_small/best.pt --flow runs/flow_fast/best.pt

Into every training image a sample of the flow is pasted. Outside it the segmenter learns the classes; inside it learns
to be unsure, L_jsd. The flow learns the likelihood of the crop that was replaced, L_mle, and, through its sample, to
make the segmenter unsure: L = L_cls + L_mle + beta L_jsd (Grcic et al., arXiv 2112.12833). Both start from pre-trained
checkpoints. `--resume` goes on after the last finished epoch. Under `torchrun`, or with `--devices`, several processes
share each batch. `python -m training.export runs/NAME/last.pt BUNDLE` exports the segmenter; the flow stays behind.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from ros_ood_perception.bundle.model_bundle import BundleError
from ros_ood_perception.files.strict_yaml import SchemaError
from training.bundles.bundle_weights import BundleWeightsError, checkpoint_of_bundle
from training.data.label_set import IGNORE
from training.evaluation.metrics.pixel_exact import ExactPixelMetrics
from training.flow.image_flow import ImageFlow
from training.joint.colouring import Colouring
from training.joint.negatives import (
    FolderOfNegatives,
    NegativeConfig,
    Placement,
    channel_orders,
    channels_shuffled,
    place,
    scaled_gradient,
    within_range,
)
from training.joint.procedural_textures import procedural_textures
from training.joint.training_config import JointTrainingConfig
from training.losses.cross_entropy import dense_cross_entropy, up_sampled, weight_of_valid_pixels
from training.losses.negative import uniformity_loss
from training.runs.checkpoint import CheckpointError, load_checkpoint, reading
from training.runs.command_line import command_line
from training.runs.shared_batch import mean_over_processes
from training.segmenter.ladder_segmenter import LadderSegmenter
from training.train_flow import log_samples
from training.train_segmenter import SegmenterTrainer, build_optimiser

SHOWN_SIZES = ((32, 32), (64, 64))
NEGATIVE_SEED = 2112


@dataclass(frozen=True)
class NegativeDraw:
    """The random choices of one step, for this process's images.

    Attributes:
        placement: where the patches go.
        latents: of the flow, one tensor (N, ...) a scale; empty where patches are given.
        patches: (N, 3, h, w) float, 0..255, where they do not come from the flow.
        noise: (N, 3, h, w) in [0, 1), to dequantise the replaced crops with.
        augmentation: noise channels of the flow that learns those crops; None has the flow draw them.
        colouring: of the flow's samples; None leaves all of them as they are.
        coloured: (N,) bool, whose samples it is for.
        channels: (N, 3) int64, the order that each patch's channels are pasted in; None leaves them as they are.
        from_initial_flow: (N,) bool, whose patch the flow as it was before joint training makes; None: none.
    """

    placement: Placement
    latents: list[Tensor]
    patches: Tensor | None
    noise: Tensor
    augmentation: list[Tensor] | None = None
    colouring: Colouring | None = None
    coloured: Tensor | None = None
    channels: Tensor | None = None
    from_initial_flow: Tensor | None = None

    def part(self, chosen: slice) -> NegativeDraw:
        """The draw of some of the images."""
        placement = self.placement
        return NegativeDraw(
            replace(
                placement,
                top=placement.top[chosen],
                left=placement.left[chosen],
                inside=placement.inside[chosen],
            ),
            [z[chosen] for z in self.latents],
            None if self.patches is None else self.patches[chosen],
            self.noise[chosen],
            None if self.augmentation is None else [channels[chosen] for channels in self.augmentation],
            None if self.colouring is None else self.colouring.part(chosen),
            None if self.coloured is None else self.coloured[chosen],
            None if self.channels is None else self.channels[chosen],
            None if self.from_initial_flow is None else self.from_initial_flow[chosen],
        )

    def colours(self, samples: Tensor) -> Tensor:
        """The flow's samples (N, 3, h, w) as they are pasted."""
        if self.colouring is None or self.coloured is None:
            return samples
        recoloured = within_range(self.colouring.apply(samples))
        return torch.where(self.coloured[:, None, None, None], recoloured, samples)


@dataclass(frozen=True)
class Denominators:
    """What the sums over pixels are divided by: () float, of the whole batch as a process sees it.

    Attributes:
        classes: weight of the pixels that have a class and are not pasted over.
        unsure: number of pasted pixels.
    """

    classes: Tensor
    unsure: Tensor


class JointObjective(nn.Module):
    """Segmenter, flow and the three losses as one module, so that data parallelism sees the whole step.

    image (N, 3, H, W) uint8 RGB, labels (N, H, W) uint8 and a draw -> L_cls, L_mle, L_jsd, each () float32. Where the
    images are a part of the batch, the denominators of the batch make L_cls and L_jsd its shares of the batch's.
    """

    weights: Tensor

    def __init__(
        self,
        segmenter: LadderSegmenter,
        flow: ImageFlow,
        weights: Tensor,
        config: JointTrainingConfig,
        initial_flow: ImageFlow | None = None,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.flow = flow
        self.initial_flow = initial_flow
        self.config = config
        self.register_buffer("weights", weights, persistent=False)

    def train(self, mode: bool = True) -> JointObjective:
        super().train(mode)
        if self.config.frozen_batch_norm:
            for module in self.segmenter.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(
        self, image: Tensor, labels: Tensor, draw: NegativeDraw, denominators: Denominators | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        placement = draw.placement
        pixels = image.float()
        likelihood = pixels.new_zeros(())
        # The inverse of a flow in half precision is not its inverse.
        with torch.autocast(image.device.type, enabled=False):
            if draw.patches is None:
                # The flow knows a grey level g as g + [0, 1).
                samples = placement.enlarge(within_range(self.samples(draw) - 0.5))
                patches = draw.colours(samples)
                patches = scaled_gradient(patches, self.config.negatives.push)
            else:
                patches = draw.patches
            if draw.channels is not None:
                patches = channels_shuffled(patches, draw.channels)
            if self.config.flow_learns:
                # The replaced crop enters the flow as the camera gave it, 0..255, and detached.
                crops = placement.take_reduced(image)
                likelihood = self.flow.bits_per_dim(crops, draw.noise, draw.augmentation).mean()
        pasted = self.segmenter.normalise(placement.paste(pixels, patches))
        mixed = pasted.contiguous(memory_format=torch.channels_last)
        dense = up_sampled(self.segmenter(mixed))
        mask = placement.mask((image.shape[2], image.shape[3]))
        of_classes, of_unsure = (None, None) if denominators is None else (denominators.classes, denominators.unsure)
        classes = dense_cross_entropy(dense, labels.masked_fill(mask, IGNORE), self.weights, of_classes)
        return classes, likelihood, uniformity_loss(dense, mask, self.config.divergence, of_unsure)

    def samples(self, draw: NegativeDraw) -> Tensor:
        """(N, 3, h, w) float: each of the flow, or of the flow as it was before joint training."""
        samples = self.flow.inverse(draw.latents)
        if self.initial_flow is None or draw.from_initial_flow is None:
            return samples
        return torch.where(
            draw.from_initial_flow[:, None, None, None], self.initial_flow.inverse(draw.latents), samples
        )

    def denominators(self, labels: Tensor, draw: NegativeDraw) -> Denominators:
        """Of the batch of which this process has labels (N, H, W) uint8."""
        mask = draw.placement.mask((labels.shape[1], labels.shape[2]))
        weight = weight_of_valid_pixels(labels.masked_fill(mask, IGNORE), self.weights)
        classes, unsure = mean_over_processes(torch.stack([weight, mask.sum().to(weight)]))
        return Denominators(classes, unsure)


class JointTrainer(SegmenterTrainer):
    """A joint run: the segmenter and its running average, the flow, and an optimiser for each."""

    program = "training.train_joint"
    kind = "joint"
    config: JointTrainingConfig

    @property
    def learns_batch_norm(self) -> bool:
        return not self.config.frozen_batch_norm

    def set_up(self, weights: Tensor) -> None:
        config = self.config
        if config.negatives.source == "crops" and config.batch_size == self.fabric.world_size:
            raise SchemaError(
                f"negatives.source is crops, which takes them of a process's other images, and batch_size "
                f"{config.batch_size} leaves each process one image; raise it, or use fewer processes"
            )
        self.flow = ImageFlow(config.flow)
        self.flow.requires_grad_(config.flow_learns)
        self.initial_flow = None
        if config.negatives.initial_flow_share:
            self.initial_flow = ImageFlow(config.flow).requires_grad_(False)
        self.folder = FolderOfNegatives(Path(config.negatives.folder)) if config.negatives.folder else None
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

    def start_from_both(self, paths: dict[str, Path]) -> None:
        """Take the weights of a segmenter's run, or of a bundle, and of a flow's run.

        Raises:
            CheckpointError: one is not given, is of another kind, or of another network.
        """
        wanted = ["segmenter"] + (["flow"] if self.config.negatives.source == "flow" else [])
        missing = [name for name in wanted if name not in paths]
        if missing:
            raise CheckpointError(
                f"give --{' and --'.join(missing)}: joint training starts from pre-trained checkpoints"
            )
        with reading(paths["segmenter"]):
            saved = self.pretrained_segmenter(paths["segmenter"])
            self.load_both(saved, paths["segmenter"])
            self.take_over_record(saved, "segmenter")
        if "flow" in paths:
            saved = load_checkpoint(paths["flow"])
            if "flow" not in saved:
                raise CheckpointError(f"{paths['flow']}: holds no flow (it is of a {saved.get('kind')} run)")
            try:
                for flow in (self.flow, self.initial_flow):
                    if flow is not None:
                        flow.load_state_dict(saved["flow"])
            except RuntimeError as error:
                raise CheckpointError(
                    f"{paths['flow']}: is another flow than this configuration's ({error})"
                ) from error
            with reading(paths["flow"]):
                self.take_over_record(saved, "flow")

    def pretrained_segmenter(self, path: Path) -> dict[str, Any]:
        """The checkpoint at `path`, or what a bundle's folder there says in its place.

        Raises:
            CheckpointError: neither, or of another network.
        """
        if not path.is_dir():
            return load_checkpoint(path)
        if not self.config.frozen_batch_norm:
            raise CheckpointError(
                f"{path}: a bundle's weights hold no batch statistics; set frozen_batch_norm: true, or start from the "
                "checkpoint that it was exported from"
            )
        try:
            return checkpoint_of_bundle(path, self.segmenter)
        except (BundleError, BundleWeightsError) as error:
            raise CheckpointError(str(error)) from error

    def draw(self, image: Tensor, generator: torch.Generator) -> NegativeDraw:
        """The random choices for a batch: image (n, 3, H, W) uint8 of this process.

        Every process draws all of them for the whole batch, so that a step is the same one however many share it.
        """
        config = self.config.negatives
        crop = (image.shape[2], image.shape[3])
        count = self.config.batch_size
        placement = place(count, crop, config, generator)
        height, width = placement.height, placement.width
        sampled = (height // placement.magnification, width // placement.magnification)
        noise = torch.rand((count, 3, *sampled), generator=generator)
        latents: list[Tensor] = []
        augmentation: list[Tensor] = []
        patches = colouring = coloured = None
        if config.source == "flow":
            latents = self.flow.draw_latents(count, *sampled, generator)
            augmentation = self.flow.draw_augmentation(count, *sampled, generator)
            if config.recolour:
                colouring = Colouring.draw(count, generator)
                coloured = torch.rand(count, generator=generator) < config.recolour
        elif config.source == "noise":
            patches = 255 * torch.rand((count, 3, height, width), generator=generator)
        elif config.source == "textures":
            patches = procedural_textures(count, height, width, generator)
        elif config.source == "none":
            patches = torch.zeros((count, 3, height, width))
        elif config.source == "folder":
            assert self.folder is not None
            patches = self.folder.draw(count, height, width, generator)
        elsewhere = place(count, crop, config, generator)
        own = replace(
            placement,
            top=self.shared(placement.top),
            left=self.shared(placement.left),
            inside=self.shared(placement.inside),
        )
        if config.source == "crops":
            # Of another image of this process's own: no pixel crosses between processes.
            top = self.shared(elsewhere.top).clamp(max=crop[0] - height)
            left = self.shared(elsewhere.left).clamp(max=crop[1] - width)
            patches = replace(own, top=top, left=left).take(image.roll(1, 0)).float()
        else:
            patches = None if patches is None else self.shared(patches)
        channels = channel_orders(count, config.shuffle_channels, generator) if config.shuffle_channels else None
        from_initial_flow = None
        if self.initial_flow is not None:
            from_initial_flow = torch.rand(count, generator=generator) < config.initial_flow_share
        device = self.fabric.to_device
        return NegativeDraw(
            placement=replace(own, inside=device(own.inside)),
            latents=[device(self.shared(z)) for z in latents],
            patches=None if patches is None else device(patches),
            noise=device(self.shared(noise)),
            augmentation=[device(self.shared(channels)) for channels in augmentation],
            colouring=None if colouring is None else colouring.part(self.own_part).to(self.fabric.device),
            coloured=None if coloured is None else device(self.shared(coloured)),
            channels=None if channels is None else device(self.shared(channels)),
            from_initial_flow=None if from_initial_flow is None else device(self.shared(from_initial_flow)),
        )

    def step(self, batch: Any) -> dict[str, float]:
        config = self.config
        self.objective.train()
        draw = self.draw(batch[0], self.step_generator())
        image, labels = (self.fabric.to_device(part) for part in batch)
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
        figures["negative_AP"] = self.average_precision_on_negatives()
        if writer is not None and self.config.negatives.source == "flow":
            with torch.no_grad():
                log_samples(writer, self.flow, SHOWN_SIZES, self.progression.step, self.config.seed)
        return figures

    @torch.no_grad()
    def average_precision_on_negatives(self) -> float:
        """AP of the anomaly score on validation frames with crops of others pasted in, in smooth outlines.

        What training can choose by without ever seeing an anomaly. The same pastes every time.
        """
        config = NegativeConfig(source="crops", shape="blob", sides=(64, 320))
        model = self.deployed().eval()
        metric = ExactPixelMetrics()
        frames = self.validation_frames
        for index in range(self.fabric.global_rank, len(frames), self.fabric.world_size):
            frame, other = frames[index], frames[(index + len(frames) // 2) % len(frames)]
            size = (frame.image.shape[0], frame.image.shape[1])
            generator = torch.Generator().manual_seed(NEGATIVE_SEED + index)
            here, there = place(1, size, config, generator), place(1, size, config, generator)
            image = other.image
            if image.shape[:2] != size:
                image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
            taken = Placement(
                here.height,
                here.width,
                there.top.clamp(max=size[0] - here.height),
                there.left.clamp(max=size[1] - here.width),
                here.inside,
            ).take(torch.from_numpy(image).permute(2, 0, 1)[None])
            # Other colours: a car from elsewhere would still be a car.
            taken = taken[:, [2, 0, 1]].float()
            pasted = here.paste(torch.from_numpy(frame.image).permute(2, 0, 1)[None].float(), taken)
            with self.fabric.autocast():
                _, score = model(self.fabric.to_device(pasted.to(torch.uint8).permute(0, 2, 3, 1).contiguous()))
            dense = torch.nn.functional.interpolate(score[:, None].float(), size=size, mode="bilinear")[0, 0]
            anomaly = torch.where(here.mask(size)[0], 1, 0).to(torch.uint8).numpy()
            anomaly[(frame.labels == IGNORE) & (anomaly == 0)] = IGNORE
            metric.update(dense.cpu().numpy(), anomaly)
        if self.fabric.world_size > 1:
            parts: list[Any] = [None] * self.fabric.world_size
            torch.distributed.all_gather_object(parts, metric)
            metric = ExactPixelMetrics()
            for part in parts:
                metric.merge(part)
        return metric.compute().ap


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return command_line(
        JointTrainer,
        JointTrainingConfig,
        __doc__,
        arguments,
        initial={
            "segmenter": "checkpoint of training.train_segmenter, or a bundle's folder, to start from",
            "flow": "checkpoint of training.train_flow to start from",
        },
        start=lambda run, paths: run.start_from_both(paths),
    )


if __name__ == "__main__":
    sys.exit(main())
