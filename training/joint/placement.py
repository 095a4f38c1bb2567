"""The placement of patches: size, position, outline and magnification."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from training.flow.image_flow import STRIDE
from training.joint.negative_config import NegativeConfig

MOST_SIDES = 6
"""Of a polygon."""

Outline = Callable[[int, int, int, torch.Generator], Tensor]
"""Number of patches, height, width and generator -> which pixels are pasted, (N, height, width) bool."""


@dataclass(frozen=True)
class Placement:
    """Size and positions of the patches of one batch.

    Attributes:
        height, width: size of every patch, multiples of 8.
        top, left: (N,) int64, upper left corners in the images.
        inside: (N, height, width) bool, which pixels of the rectangle are pasted.
        magnification: the flow's sample has 1/magnification of the patch's height and width.
        soft: along its outline a patch is mixed with the image, as a camera's pixels mix what they see.
    """

    height: int
    width: int
    top: Tensor
    left: Tensor
    inside: Tensor
    magnification: int = 1
    soft: bool = False

    def part(self, chosen: slice) -> Placement:
        """The placement for some of the images."""
        return replace(self, top=self.top[chosen], left=self.left[chosen], inside=self.inside[chosen])

    @property
    def sample_size(self) -> tuple[int, int]:
        """Height and width of the flow's sample, before it is enlarged."""
        return self.height // self.magnification, self.width // self.magnification

    def take(self, image: Tensor) -> Tensor:
        """The images' contents in the rectangles: (N, C, H, W) -> (N, C, height, width)."""
        return torch.stack(
            [
                one[:, top : top + self.height, left : left + self.width]
                for one, top, left in zip(image, self.top.tolist(), self.left.tolist(), strict=True)
            ]
        )

    def take_reduced(self, image: Tensor) -> Tensor:
        """The contents that the flow learns: (N, 3, H, W) uint8 -> (N, 3, height / m, width / m) uint8."""
        contents = self.take(image)
        if self.magnification == 1:
            return contents
        return functional.avg_pool2d(contents.float(), self.magnification).round().to(torch.uint8)

    def enlarge(self, samples: Tensor) -> Tensor:
        """The flow's samples as large as the patches: (N, 3, height / m, width / m) float -> (N, 3, height, width)."""
        return enlarged(samples, self.magnification)

    def mask(self, size: tuple[int, int]) -> Tensor:
        """The mask s of the method: (N, H, W) bool, true where a negative is pasted."""
        mask = torch.zeros((len(self.top), *size), dtype=torch.bool, device=self.inside.device)
        for one, inside, top, left in zip(mask, self.inside, self.top.tolist(), self.left.tolist(), strict=True):
            one[top : top + self.height, left : left + self.width] = inside
        return mask

    def paste(self, image: Tensor, patches: Tensor) -> Tensor:
        """x' = (1 - s) x + s pad(patches): image (N, 3, H, W) float, patches (N, 3, height, width) -> (N, 3, H, W).

        With soft outlines s is the mean of the mask over 3x3 pixels, and 0 outside the rectangle.
        """
        height, width = image.shape[2:]
        padded = torch.stack(
            [
                functional.pad(patch, (left, width - left - self.width, top, height - top - self.height))
                for patch, top, left in zip(patches, self.top.tolist(), self.left.tolist(), strict=True)
            ]
        )
        mask = self.mask((height, width))[:, None]
        if not self.soft:
            return torch.where(mask, padded, image)
        rectangle = replace(self, inside=torch.ones_like(self.inside)).mask((height, width))[:, None]
        share = functional.avg_pool2d(mask.to(image.dtype), 3, stride=1, padding=1, count_include_pad=False) * rectangle
        return image + share * (padded - image)


def place(count: int, crop: tuple[int, int], config: NegativeConfig, generator: torch.Generator) -> Placement:
    """Draw one size for the batch, and a position and outline for each of its `count` images.

    >>> placement = place(2, (64, 96), NegativeConfig(sides=(300, 500)), torch.Generator().manual_seed(0))
    >>> placement.mask((64, 96)).sum(dim=(1, 2)).tolist() == [placement.height * placement.width] * 2
    True
    """

    def draw(below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=generator)

    magnifications = config.magnifications()
    magnification = magnifications[int(draw(len(magnifications), 1))] if len(magnifications) > 1 else magnifications[0]
    low, high = config.side_range(crop, magnification)
    unit = STRIDE * magnification
    sides = range(low, high + 1, unit)
    if config.side_spacing == "linear":
        height, width = (sides[int(draw(len(sides), 1))] for _ in range(2))
    else:
        octaves = math.log2(high / low) * torch.rand(2, generator=generator)
        height, width = (sides[round((low * 2**octave - low) / unit)] for octave in octaves.tolist())
    top, left = (draw(limit - side + 1, count) for limit, side in zip(crop, (height, width), strict=True))
    inside = outline(config)(count, height, width, generator)
    return Placement(height, width, top, left, inside, magnification, config.edges == "soft")


def standing(placement: Placement, ground: Tensor, own: slice, share: float, generator: torch.Generator) -> Placement:
    """The patches, a share of them moved so that they stand on the ground, as obstacles do.

    The lowest pixel of a patch's outline then lies on a pixel of the ground. The image row is drawn first, and then the
    pixel in it: the rows far ahead have few pixels of ground, and obstacles are seen there at least as often. A patch
    stays where it is if no pixel of the ground leaves room for its rectangle.

    Args:
        placement: of all N patches of the batch.
        ground: (n, H, W) bool, drivable ground in the images of this process.
        own: which of the N images those are; the others' patches stay.
        share: about this share of the patches is moved, where there is room.
    """
    drawn = torch.rand((len(placement.top), 3), generator=generator)
    top, left = placement.top.clone(), placement.left.clone()
    for number, image in zip(range(*own.indices(len(top))), ground, strict=True):
        chosen, of_rows, of_columns = drawn[number].tolist()
        if chosen >= share or not placement.inside[number].any():
            continue
        lowest, middle = foot(placement.inside[number])
        # Where the foot may be while the rectangle lies within the image.
        room = image[lowest:, middle:][: len(image) - placement.height + 1, : image.shape[1] - placement.width + 1]
        rows = room.any(dim=1).nonzero()[:, 0]
        if len(rows):
            top[number] = rows[int(of_rows * len(rows))]
            columns = room[top[number]].nonzero()[:, 0]
            left[number] = columns[int(of_columns * len(columns))]
    return replace(placement, top=top, left=left)


def foot(inside: Tensor) -> tuple[int, int]:
    """Row and column of the lowest pixel of an outline (height, width) bool; of several, the middle one.

    >>> foot(torch.tensor([[True, True, True], [False, True, True], [False, False, False]]))
    (1, 2)
    """
    lowest = int(inside.any(dim=1).nonzero()[-1])
    columns = inside[lowest].nonzero()[:, 0]
    return lowest, int(columns[len(columns) // 2])


def outline(config: NegativeConfig) -> Outline:
    """The function that draws the outlines for a configuration."""
    if config.source == "none":
        return empty_outlines
    return {"rectangle": rectangles, "blob": blobs, "polygon": polygons, "varied": blobs_and_polygons}[config.shape]


def empty_outlines(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Nothing is pasted: (count, height, width) bool, false."""
    return torch.zeros((count, height, width), dtype=torch.bool)


def rectangles(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Whole rectangles: (count, height, width) bool, true."""
    return torch.ones((count, height, width), dtype=torch.bool)


def blobs(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Smooth random regions that fill about half of their rectangle: (count, height, width) bool."""
    coarse = torch.randn((count, 1, 5, 5), generator=generator)
    field = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)[:, 0]
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None]
    # The field falls off towards the edge of the rectangle, so that the edge is not part of the outline.
    field = field * 0.5 - 1.6 * (x.square() + y.square())
    return field > field.flatten(1).quantile(0.5, dim=1)[:, None, None]


def polygons(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Convex polygons of four to six sides, half of them nearly upright as boxes are: (count, height, width) bool."""
    sides = torch.randint(4, MOST_SIDES + 1, (count, 1), generator=generator)
    upright = torch.rand((count, 1), generator=generator) < 0.5
    turn = torch.where(upright, 0.0, 2 * math.pi * torch.rand((count, 1), generator=generator))
    jitter = torch.rand((count, MOST_SIDES), generator=generator) - 0.5
    number = torch.arange(MOST_SIDES)
    angle = turn + 2 * math.pi * (number + jitter * torch.where(upright, 0.15, 0.6)) / sides
    distance = 0.45 + 0.5 * torch.rand((count, MOST_SIDES), generator=generator)
    distance = torch.where(number < sides, distance, math.inf)
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None]
    along = angle.cos()[..., None, None] * x + angle.sin()[..., None, None] * y
    return (along <= distance[..., None, None]).all(dim=1)


def blobs_and_polygons(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """About as many `blobs` as `polygons`: (count, height, width) bool."""
    smooth = torch.rand((count, 1, 1), generator=generator) < 0.5
    return torch.where(smooth, blobs(count, height, width, generator), polygons(count, height, width, generator))


def enlarged(samples: Tensor, magnification: int) -> Tensor:
    """(N, 3, h, w) float -> (N, 3, h m, w m), bilinear."""
    if magnification == 1:
        return samples
    return functional.interpolate(samples, scale_factor=float(magnification), mode="bilinear")
