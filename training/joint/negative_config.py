"""What the configuration says of negatives: where they come from, and how they are pasted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.flow.image_flow import STRIDE

SourceName = Literal["flow", "noise", "textures", "crops", "folder", "none"]

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

    source: SourceName = "flow"
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

    @property
    def uses_flow(self) -> bool:
        """Whether patches are samples of the flow."""
        return self.source == "flow"
