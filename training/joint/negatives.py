"""Negatives: what is pasted into training images so that the segmenter learns to be unsure where nothing known is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.data.labelled_frames import images_in, read_image
from training.flow.image_flow import STRIDE

NegativeSource = Literal["flow", "noise", "textures", "crops", "folder", "none"]

MAGNIFICATIONS = (1, 2, 4, 8)


@dataclass(frozen=True)
class NegativeConfig:
    """Where negatives come from, and how they are pasted: one of one size into every image of a batch.

    Attributes:
        source: samples of the flow; uniform noise; procedural textures; crops of the batch's other images; crops of the
            images of `folder` (real negatives, as outlier exposure takes them); or nothing, which leaves L_cls alone.
            All but the first are for comparison.
        folder: of images, for `folder`.
        shuffle_channels: of `flow`, `crops` and `folder`: share of the patches whose colour channels get another order.
        magnification: of `flow`: smallest and largest factor by which samples are enlarged before they are pasted,
            powers of two of at most 8; drawn for each batch. The crop that a sample replaces is reduced by the same
            factor before the flow learns it. A flow's structure ends at its receptive field; enlarged, it has the
            smooth areas and long edges of things that are near.
        recolour: of `flow`: share of the samples whose structure is pasted in random colours
            (`training.joint.colouring`). A flow of grey streets paints grey; what lies on them may have any colour.
        train_flow: whether the flow learns: the likelihood of what its samples replace, and, through the samples, what
            the segmenter is unsure of. False freezes it.
        push: factor on the gradient that reaches the flow through its samples.
        initial_flow_share: of a flow that learns: share of the images whose patch is a sample of the flow as it was
            before joint training. Pushed, a flow ends in one pattern; the segmenter keeps what it learnt of others.
        sides: smallest and largest side of a patch at crops of `reference_crop` pixels; each side is drawn alone,
            uniform over the multiples of 8. For other crops the range is scaled with the crop's smaller side.
        reference_crop: see `sides`.
        shape: the whole rectangle, or a smooth random region in it.
    """

    source: NegativeSource = "flow"
    folder: str = ""
    shuffle_channels: float = 0.0
    magnification: tuple[int, int] = (1, 1)
    recolour: float = 0.0
    train_flow: bool = True
    push: float = 1.0
    initial_flow_share: float = 0.0
    sides: tuple[int, int] = (16, 216)
    reference_crop: int = 768
    shape: Literal["rectangle", "blob"] = "rectangle"

    def __post_init__(self) -> None:
        if not 1 <= self.sides[0] <= self.sides[1] or self.sides[1] > self.reference_crop:
            raise ValueError(
                f"sides is {self.sides}; it must be (smallest, largest) with 1 <= smallest <= largest <= reference_crop"
            )
        if self.push < 0:
            raise ValueError(f"push is {self.push}; it must be at least 0")
        if (self.source == "folder") != bool(self.folder):
            raise ValueError("folder must be given when source is 'folder', and only then")
        if not 0 <= self.shuffle_channels <= 1:
            raise ValueError(f"shuffle_channels is {self.shuffle_channels}; it must be from 0 to 1")
        if self.shuffle_channels and self.source not in ("flow", "crops", "folder"):
            raise ValueError(f"shuffle_channels is for the sources flow, crops and folder; source is '{self.source}'")
        low, high = self.magnification
        if low not in MAGNIFICATIONS or high not in MAGNIFICATIONS or low > high:
            raise ValueError(
                f"magnification is {self.magnification}; it must be (smallest, largest) of {MAGNIFICATIONS}"
            )
        if self.magnification != (1, 1) and self.source != "flow":
            raise ValueError(f"magnification is for the source flow; source is '{self.source}'")
        if not 0 <= self.recolour <= 1:
            raise ValueError(f"recolour is {self.recolour}; it must be from 0 to 1")
        if self.recolour and self.source != "flow":
            raise ValueError(f"recolour is for the source flow; source is '{self.source}'")
        if not 0 <= self.initial_flow_share <= 1:
            raise ValueError(f"initial_flow_share is {self.initial_flow_share}; it must be from 0 to 1")
        if self.initial_flow_share and not (self.source == "flow" and self.train_flow):
            raise ValueError("initial_flow_share is for a flow that learns: source flow, train_flow true")

    def side_range(self, crop: tuple[int, int], magnification: int = 1) -> tuple[int, int]:
        """Smallest and largest side for a crop, multiples of 8 times the magnification that fit into it.

        Raises:
            ValueError: none does.
        """
        unit = STRIDE * magnification
        scale = min(crop) / self.reference_crop
        low, high = (max(round(side * scale / unit), 1) * unit for side in self.sides)
        high = min(high, min(crop) // unit * unit)
        if low > high:
            raise ValueError(
                f"no patch side that is a multiple of {unit} fits into a crop of {crop[0]}x{crop[1]}; lower "
                "negatives.magnification or enlarge augmentation.crop"
            )
        return low, high

    def magnifications(self) -> list[int]:
        """Those that a batch draws from."""
        low, high = self.magnification
        return [factor for factor in MAGNIFICATIONS if low <= factor <= high]


@dataclass(frozen=True)
class Placement:
    """Where the patches of one batch go.

    Attributes:
        height, width: of every patch, multiples of 8.
        top, left: (N,) int64 places of their upper left corners.
        inside: (N, height, width) bool, which pixels of the rectangle are pasted.
        magnification: the flow's sample is 1/magnification of the patch's height and width.
    """

    height: int
    width: int
    top: Tensor
    left: Tensor
    inside: Tensor
    magnification: int = 1

    def take(self, image: Tensor) -> Tensor:
        """The rectangles' contents: (N, C, H, W) -> (N, C, height, width)."""
        return torch.stack(
            [
                one[:, top : top + self.height, left : left + self.width]
                for one, top, left in zip(image, self.top.tolist(), self.left.tolist(), strict=True)
            ]
        )

    def take_reduced(self, image: Tensor) -> Tensor:
        """The contents as the flow learns them: (N, 3, H, W) uint8 -> (N, 3, height / m, width / m) uint8."""
        contents = self.take(image)
        if self.magnification == 1:
            return contents
        return functional.avg_pool2d(contents.float(), self.magnification).round().to(torch.uint8)

    def enlarge(self, samples: Tensor) -> Tensor:
        """The flow's samples as they are pasted: (N, 3, height / m, width / m) float -> (N, 3, height, width)."""
        return enlarged(samples, self.magnification)

    def mask(self, size: tuple[int, int]) -> Tensor:
        """s of the method: (N, H, W) bool, true where a negative is pasted."""
        mask = torch.zeros((len(self.top), *size), dtype=torch.bool, device=self.inside.device)
        for one, inside, top, left in zip(mask, self.inside, self.top.tolist(), self.left.tolist(), strict=True):
            one[top : top + self.height, left : left + self.width] = inside
        return mask

    def paste(self, image: Tensor, patches: Tensor) -> Tensor:
        """x' = (1 - s) x + pad(patches): image (N, 3, H, W) float, patches (N, 3, height, width) -> (N, 3, H, W)."""
        height, width = image.shape[2:]
        padded = torch.stack(
            [
                functional.pad(patch, (left, width - left - self.width, top, height - top - self.height))
                for patch, top, left in zip(patches, self.top.tolist(), self.left.tolist(), strict=True)
            ]
        )
        return torch.where(self.mask((height, width))[:, None], padded, image)


def place(count: int, crop: tuple[int, int], config: NegativeConfig, generator: torch.Generator) -> Placement:
    """Draw one size for the batch and a place for each of its `count` images."""

    def draw(below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=generator)

    magnifications = config.magnifications()
    magnification = magnifications[int(draw(len(magnifications), 1))] if len(magnifications) > 1 else magnifications[0]
    low, high = config.side_range(crop, magnification)
    unit = STRIDE * magnification
    height, width = (low + unit * int(draw((high - low) // unit + 1, 1)) for _ in range(2))
    top, left = (draw(limit - side + 1, count) for limit, side in zip(crop, (height, width), strict=True))
    inside = torch.full((count, height, width), config.source != "none")
    if config.shape == "blob" and config.source != "none":
        inside = blobs(count, height, width, generator)
    return Placement(height, width, top, left, inside, magnification)


def channel_orders(count: int, share: float, generator: torch.Generator) -> Tensor:
    """For each of `count` patches an order of its colour channels: (count, 3) int64; about `share` are not its own."""
    orders = torch.tensor([[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    drawn = orders[torch.randint(len(orders), (count,), generator=generator)]
    return torch.where(torch.rand(count, 1, generator=generator) < share, drawn, torch.arange(3))


def channels_shuffled(patches: Tensor, orders: Tensor) -> Tensor:
    """Each patch with its channels in another order: patches (N, 3, h, w), orders (N, 3) -> (N, 3, h, w)."""
    return torch.stack([patch[order] for patch, order in zip(patches, orders.to(patches.device), strict=True)])


def blobs(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Smooth random regions that fill about half of their rectangle: (count, height, width) bool."""
    coarse = torch.randn((count, 1, 5, 5), generator=generator)
    field = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)[:, 0]
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None]
    # Falls off towards the rectangle's edge, so that the outline is the region's own.
    field = field * 0.5 - 1.6 * (x.square() + y.square())
    return field > field.flatten(1).quantile(0.5, dim=1)[:, None, None]


def enlarged(samples: Tensor, magnification: int) -> Tensor:
    """(N, 3, h, w) float -> (N, 3, h m, w m), bilinear."""
    if magnification == 1:
        return samples
    return functional.interpolate(samples, scale_factor=float(magnification), mode="bilinear")


def scaled_gradient(values: Tensor, factor: float) -> Tensor:
    """The same values; gradients that flow back through them are multiplied by `factor`."""
    return values if factor == 1 else values.detach() + factor * (values - values.detach())


def within_range(patches: Tensor) -> Tensor:
    """Patches cut to 0..255, as any camera's pixels are; the gradient passes as if they were not cut."""
    return patches + (patches.clamp(0, 255) - patches).detach()


class FolderOfNegatives:
    """Random crops of the images of a folder, as patches.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
        BrokenFrameError: on drawing, an image that cannot be decoded.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir() or not images_in(folder):
            raise FileNotFoundError(f"{folder}: no such folder of images (negatives.folder)")
        self.paths = images_in(folder)

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """(count, 3, height, width) float, 0..255."""
        patches = []
        for number in torch.randint(len(self.paths), (count,), generator=generator).tolist():
            image = torch.from_numpy(np.ascontiguousarray(read_image(self.paths[number]))).permute(2, 0, 1).float()
            scale = max(height / image.shape[1], width / image.shape[2])
            if scale > 1:
                size = (math.ceil(image.shape[1] * scale), math.ceil(image.shape[2] * scale))
                image = functional.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]
            top, left = (
                int(torch.randint(have - want + 1, (1,), generator=generator))
                for have, want in ((image.shape[1], height), (image.shape[2], width))
            )
            patches.append(image[:, top : top + height, left : left + width])
        return torch.stack(patches)
