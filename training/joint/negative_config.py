"""The configuration of negatives: their source, and how they are pasted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.flow.image_flow import STRIDE

SourceName = Literal["flow", "noise", "textures", "crops", "folder", "none"]

MAGNIFICATIONS = (1, 2, 4, 8)


@dataclass(frozen=True)
class NegativeConfig:
    """Source of the negatives, and how they are pasted. Each image of a batch gets one patch, all of one size.

    Attributes:
        source: `flow` pastes samples of the flow. The others are for comparison: `noise` is uniform, `textures` are
            procedural, `crops` are of other images of the batch, `folder` takes crops of the images in `folder` (real
            negatives, as in outlier exposure), and `none` pastes nothing, so that only L_cls is left.
        folder: folder of images, for the source `folder`.
        shuffle_channels: for `flow`, `crops` and `folder`: share of the patches with their colour channels in another
            order.
        magnification: for `flow`: smallest and largest factor by which samples are enlarged before they are pasted,
            powers of two up to 8. One factor is drawn for each batch. The crop that a sample replaces is reduced by the
            same factor before the flow learns it. The structure of a sample is limited by the flow's receptive field;
            enlarged, it has the smooth areas and long edges of near objects.
        recolour: for `flow`: share of the samples that are pasted in random colours (`training.joint.colouring`). A
            flow trained on grey streets gives grey samples; objects on them may have any colour.
        neutral: of the recoloured samples, the share in colours near grey. Without it most are vivid, and the segmenter
            stays sure of grey things on the road, such as tyres and stones.
        faces: of the recoloured samples, the share lit from one side: two faces of different lightness that meet in a
            straight line, and lightness that falls off.
        faded: share of the patches that are faded into the mean colour of what they replace. Without it the segmenter
            stays sure of what stands out little, such as things in haze and grey ones on a grey road.
        standing: share of the patches that stand on drivable ground, as obstacles do: the lowest pixel of their
            outline lies on it. Each image row with ground that leaves room is equally likely. The others may
            lie anywhere, and so may those in crops without such ground.
        train_flow: train the flow, by the likelihood of the replaced crops and, through its samples, by L_jsd. False
            freezes it.
        push: factor on the gradient that reaches the flow through its samples.
        initial_flow_share: for a flow that is trained: share of the images whose patch is a sample of the flow from
            before joint training. With a large `push` the flow ends in one pattern; these samples keep the segmenter
            from forgetting others.
        sides: smallest and largest side of a patch for crops of `reference_crop` pixels. Height and width are drawn
            separately, from the multiples of 8. The range scales with the smaller side of the crop.
        side_spacing: `linear` draws each side of the range equally often, `logarithmic` each octave, so that half of
            the patches are small, as objects far ahead are.
        reference_crop: see `sides`.
        shape: the whole rectangle, a smooth random region in it (`blob`), a convex polygon with straight edges
            (`polygon`), or half blobs and half polygons (`varied`).
        edges: `soft` mixes patch and image along the outline, over three pixels. Where all edges of the images are
            soft, as those of rendered and of reduced ones are, hard ones give a patch away.
    """

    source: SourceName = "flow"
    folder: str = ""
    shuffle_channels: float = 0.0
    magnification: tuple[int, int] = (1, 1)
    recolour: float = 0.0
    neutral: float = 0.0
    faces: float = 0.0
    faded: float = 0.0
    standing: float = 0.0
    train_flow: bool = True
    push: float = 1.0
    initial_flow_share: float = 0.0
    sides: tuple[int, int] = (16, 216)
    side_spacing: Literal["linear", "logarithmic"] = "linear"
    reference_crop: int = 768
    shape: Literal["rectangle", "blob", "polygon", "varied"] = "rectangle"
    edges: Literal["hard", "soft"] = "hard"

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
        if not 0 <= self.neutral <= 1:
            raise ValueError(f"neutral is {self.neutral}; it must be from 0 to 1")
        if self.neutral and not self.recolour:
            raise ValueError("neutral is a share of the recoloured samples; give recolour as well")
        if not 0 <= self.faces <= 1:
            raise ValueError(f"faces is {self.faces}; it must be from 0 to 1")
        if self.faces and not self.recolour:
            raise ValueError("faces is a share of the recoloured samples; give recolour as well")
        if not 0 <= self.faded <= 1:
            raise ValueError(f"faded is {self.faded}; it must be from 0 to 1")
        if not 0 <= self.standing <= 1:
            raise ValueError(f"standing is {self.standing}; it must be from 0 to 1")
        if not 0 <= self.initial_flow_share <= 1:
            raise ValueError(f"initial_flow_share is {self.initial_flow_share}; it must be from 0 to 1")
        if self.initial_flow_share and not (self.source == "flow" and self.train_flow):
            raise ValueError("initial_flow_share is for a flow that learns: source flow, train_flow true")

    def side_range(self, crop: tuple[int, int], magnification: int = 1) -> tuple[int, int]:
        """Smallest and largest side for a crop: multiples of 8 times the magnification that fit into it.

        >>> NegativeConfig().side_range((320, 320))
        (8, 88)

        Raises:
            ValueError: none fits.
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
        """The factors from which each batch draws one."""
        low, high = self.magnification
        return [factor for factor in MAGNIFICATIONS if low <= factor <= high]

    @property
    def uses_flow(self) -> bool:
        """Whether patches are samples of the flow."""
        return self.source == "flow"
