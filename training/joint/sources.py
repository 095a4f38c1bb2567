"""Sources of negatives: what is pasted into training images, so that the segmenter learns to be unsure of it.

A source has one method, `draw`. `negative_source` composes the source that a configuration describes.

Every process draws for the whole batch and keeps its own part. So a step has the same numbers however many processes
share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Generator
from torch.nn import functional

from ros_ood_perception.camera.image_file import images_in
from training.data.labelled_frames import read_image
from training.flow.image_flow import ImageFlow
from training.joint.colouring import Colouring, channel_orders
from training.joint.negative_config import NegativeConfig
from training.joint.negative_draw import NegativeDraw, PlacedBatch
from training.joint.placement import place
from training.joint.procedural_textures import procedural_textures

WEAKEST = 0.2
"""Least strength of a faded patch. Its logarithm is drawn uniformly, up to 1."""


class NegativeSource(Protocol):
    """Draws what is pasted into the images of a batch."""

    def draw(self, batch: PlacedBatch, generator: Generator) -> NegativeDraw:
        """The random choices for the images of this process."""
        ...


class FlowSamples:
    """Latents of the flow. The objective makes patches of them, so that their gradient reaches the flow."""

    def __init__(self, flow: ImageFlow) -> None:
        self._flow = flow

    def draw(self, batch: PlacedBatch, generator: Generator) -> NegativeDraw:
        """See `NegativeSource`."""
        height, width = batch.placement.sample_size
        latents = self._flow.draw_latents(len(batch), height, width, generator)
        augmentation = self._flow.draw_augmentation(len(batch), height, width, generator)
        return replace(batch.negatives(latents=latents), augmentation=[noise[batch.own] for noise in augmentation])


class UniformNoise:
    """Every pixel and channel uniform in 0..255."""

    def draw(self, batch: PlacedBatch, generator: Generator) -> NegativeDraw:
        """See `NegativeSource`."""
        shape = (len(batch), 3, batch.placement.height, batch.placement.width)
        return batch.negatives(255 * torch.rand(shape, generator=generator))


class Textures:
    """Procedural textures, see `procedural_textures`."""

    def draw(self, batch: PlacedBatch, generator: Generator) -> NegativeDraw:
        """See `NegativeSource`."""
        placement = batch.placement
        return batch.negatives(procedural_textures(len(batch), placement.height, placement.width, generator))


class Nothing:
    """No negatives. The outlines are empty, so no pixel of the patches is pasted."""

    def draw(self, batch: PlacedBatch, generator: Generator) -> NegativeDraw:
        """See `NegativeSource`."""
        return batch.negatives(torch.zeros((len(batch), 3, batch.placement.height, batch.placement.width)))


class CropsOfOtherImages:
    """Crops of the previous image in this process's part of the batch. No pixels are sent between processes."""

    def __init__(self, config: NegativeConfig) -> None:
        self._config = config

    def draw(self, batch: PlacedBatch, generator: Generator) -> NegativeDraw:
        """See `NegativeSource`."""
        drawn = batch.negatives()
        elsewhere = place(len(batch), batch.crop, self._config, generator).part(batch.own)
        # Its patches may be smaller than those of this batch.
        top = elsewhere.top.clamp(max=batch.crop[0] - drawn.placement.height)
        left = elsewhere.left.clamp(max=batch.crop[1] - drawn.placement.width)
        taken = replace(drawn.placement, top=top, left=left).take(batch.images.roll(1, 0))
        return replace(drawn, patches=taken.float())


class CropsOfFolder:
    """Random crops of the images of a folder: real negatives, as in outlier exposure (Hendrycks et al., 1812.04606).

    Raises:
        FileNotFoundError: no such folder, or no image in it.
        BrokenFrameError: on drawing, an image that cannot be decoded.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir() or not images_in(folder):
            raise FileNotFoundError(f"{folder}: no such folder of images (negatives.folder)")
        self._paths = images_in(folder)

    def draw(self, batch: PlacedBatch, generator: Generator) -> NegativeDraw:
        """See `NegativeSource`."""
        height, width = batch.placement.height, batch.placement.width
        patches = []
        for number in torch.randint(len(self._paths), (len(batch),), generator=generator).tolist():
            image = torch.from_numpy(np.ascontiguousarray(read_image(self._paths[number]))).permute(2, 0, 1).float()
            scale = max(height / image.shape[1], width / image.shape[2])
            if scale > 1:
                size = (math.ceil(image.shape[1] * scale), math.ceil(image.shape[2] * scale))
                image = functional.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]
            top, left = (
                int(torch.randint(have - want + 1, (1,), generator=generator))
                for have, want in ((image.shape[1], height), (image.shape[2], width))
            )
            patches.append(image[:, top : top + height, left : left + width])
        return batch.negatives(torch.stack(patches))


class Recoloured:
    """A share of another source's samples in random colours."""

    def __init__(self, source: NegativeSource, share: float, neutral: float, faces: float) -> None:
        self._source, self._share, self._neutral, self._faces = source, share, neutral, faces

    def draw(self, batch: PlacedBatch, generator: Generator) -> NegativeDraw:
        """See `NegativeSource`."""
        drawn = self._source.draw(batch, generator)
        colouring = Colouring.draw(len(batch), generator, self._neutral, self._faces)
        coloured = torch.rand(len(batch), generator=generator) < self._share
        return replace(drawn, colouring=colouring.part(batch.own), coloured=coloured[batch.own])


class UnusedPlaces:
    """Another source. After it, a placement is drawn that nothing uses.

    Earlier versions drew one for every source. So the random numbers that follow, and the results, stay the same.
    """

    def __init__(self, source: NegativeSource, config: NegativeConfig) -> None:
        self._source, self._config = source, config

    def draw(self, batch: PlacedBatch, generator: Generator) -> NegativeDraw:
        """See `NegativeSource`."""
        drawn = self._source.draw(batch, generator)
        place(len(batch), batch.crop, self._config, generator)
        return drawn


class ShuffledChannels:
    """A share of another source's patches with their colour channels in another order."""

    def __init__(self, source: NegativeSource, share: float) -> None:
        self._source, self._share = source, share

    def draw(self, batch: PlacedBatch, generator: Generator) -> NegativeDraw:
        """See `NegativeSource`."""
        drawn = self._source.draw(batch, generator)
        return replace(drawn, channels=channel_orders(len(batch), self._share, generator)[batch.own])


class Faded:
    """A share of another source's patches faded into what they replace, as things in haze are."""

    def __init__(self, source: NegativeSource, share: float) -> None:
        self._source, self._share = source, share

    def draw(self, batch: PlacedBatch, generator: Generator) -> NegativeDraw:
        """See `NegativeSource`."""
        drawn = self._source.draw(batch, generator)
        strength = WEAKEST ** torch.rand(len(batch), generator=generator)
        chosen = torch.rand(len(batch), generator=generator) < self._share
        return replace(drawn, strength=torch.where(chosen, strength, 1.0)[batch.own])


class PartlyFromInitialFlow:
    """Samples of the flow, a share of them made by the flow as it was before joint training."""

    def __init__(self, source: NegativeSource, share: float) -> None:
        self._source, self._share = source, share

    def draw(self, batch: PlacedBatch, generator: Generator) -> NegativeDraw:
        """See `NegativeSource`."""
        drawn = self._source.draw(batch, generator)
        return replace(drawn, from_initial_flow=(torch.rand(len(batch), generator=generator) < self._share)[batch.own])


def negative_source(config: NegativeConfig, flow: ImageFlow) -> NegativeSource:
    """The source that a configuration describes. The order of its parts is the order of the random draws.

    Args:
        flow: whose samples `source: flow` pastes.

    Raises:
        FileNotFoundError: `folder` is no folder of images.
    """
    sources: dict[str, Callable[[], NegativeSource]] = {
        "flow": lambda: FlowSamples(flow),
        "noise": UniformNoise,
        "textures": Textures,
        "crops": lambda: CropsOfOtherImages(config),
        "folder": lambda: CropsOfFolder(Path(config.folder)),
        "none": Nothing,
    }
    source: NegativeSource = sources[config.source]()
    if config.recolour:
        source = Recoloured(source, config.recolour, config.neutral, config.faces)
    if config.source != "crops":
        source = UnusedPlaces(source, config)
    if config.shuffle_channels:
        source = ShuffledChannels(source, config.shuffle_channels)
    if config.faded:
        source = Faded(source, config.faded)
    if config.initial_flow_share:
        source = PartlyFromInitialFlow(source, config.initial_flow_share)
    return source
