"""The random choices of one training step: where patches go, and what is pasted there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from training.joint.colouring import Colouring
from training.joint.gradients import within_range
from training.joint.placement import Placement


@dataclass(frozen=True)
class NegativeDraw:
    """The random choices of one step, for this process's N images.

    Attributes:
        placement: where the patches go.
        latents: the flow's latents, one tensor (N, ...) for each scale; empty if `patches` is given.
        patches: (N, 3, h, w) float, 0..255; None if the flow makes them from the latents.
        noise: (N, 3, h, w) in [0, 1), noise added to the replaced crops.
        augmentation: noise channels that the flow appends to them; None: the flow draws these itself.
        colouring: colours of the flow's samples; None leaves all of them unchanged.
        coloured: (N,) bool, which samples `colouring` is applied to.
        channels: (N, 3) int64, order of each patch's channels; None leaves them unchanged.
        strength: (N,) in (0, 1], how far each patch stands out from the mean colour of what it replaces; None: fully.
        from_initial_flow: (N,) bool, which patches the flow from before joint training makes; None: none.
    """

    placement: Placement
    latents: list[Tensor]
    patches: Tensor | None
    noise: Tensor
    augmentation: list[Tensor] | None = None
    colouring: Colouring | None = None
    coloured: Tensor | None = None
    channels: Tensor | None = None
    strength: Tensor | None = None
    from_initial_flow: Tensor | None = None

    def part(self, chosen: slice) -> NegativeDraw:
        """The draw for some of the images."""
        return NegativeDraw(
            self.placement.part(chosen),
            [z[chosen] for z in self.latents],
            None if self.patches is None else self.patches[chosen],
            self.noise[chosen],
            None if self.augmentation is None else [channels[chosen] for channels in self.augmentation],
            None if self.colouring is None else self.colouring.part(chosen),
            None if self.coloured is None else self.coloured[chosen],
            None if self.channels is None else self.channels[chosen],
            None if self.strength is None else self.strength[chosen],
            None if self.from_initial_flow is None else self.from_initial_flow[chosen],
        )

    def to(self, device: torch.device) -> NegativeDraw:
        """The draw on another device. The corners of the patches stay on the CPU, where they are read."""

        def moved(value: Any) -> Any:
            if isinstance(value, list):
                return [one.to(device) for one in value]
            return None if value is None else value.to(device)

        return NegativeDraw(
            replace(self.placement, inside=moved(self.placement.inside)),
            moved(self.latents),
            moved(self.patches),
            moved(self.noise),
            moved(self.augmentation),
            moved(self.colouring),
            moved(self.coloured),
            moved(self.channels),
            moved(self.strength),
            moved(self.from_initial_flow),
        )

    def colours(self, samples: Tensor) -> Tensor:
        """The flow's samples (N, 3, h, w) as they are pasted."""
        if self.colouring is None or self.coloured is None:
            return samples
        recoloured = within_range(self.colouring.apply(samples))
        return torch.where(self.coloured[:, None, None, None], recoloured, samples)

    def faded(self, patches: Tensor, images: Tensor) -> Tensor:
        """Patches (N, 3, h, w) in 0..255, faded into images (N, 3, H, W) in 0..255 at their places: (N, 3, h, w)."""
        if self.strength is None:
            return patches
        replaced = self.placement.take(images).mean(dim=(2, 3), keepdim=True)
        return replaced + self.strength[:, None, None, None] * (patches - replaced)


@dataclass(frozen=True)
class PlacedBatch:
    """A batch with the places of its patches, for which a source draws what is pasted there.

    Attributes:
        images: (n, 3, H, W) uint8, this process's part of the batch.
        own: which images of the whole batch these are.
        placement: places of all N patches of the batch.
        noise: (N, 3, h, w) in [0, 1), for all N.
    """

    images: Tensor
    own: slice
    placement: Placement
    noise: Tensor

    def __len__(self) -> int:
        """Number of images in the whole batch, N."""
        return len(self.noise)

    @property
    def crop(self) -> tuple[int, int]:
        """Height and width of the images, pixels."""
        return self.images.shape[2], self.images.shape[3]

    def negatives(self, patches: Tensor | None = None, latents: list[Tensor] | None = None) -> NegativeDraw:
        """This process's draw, from patches or latents of the whole batch."""
        return NegativeDraw(
            self.placement.part(self.own),
            [z[self.own] for z in latents or ()],
            None if patches is None else patches[self.own],
            self.noise[self.own],
        )
