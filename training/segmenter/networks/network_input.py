"""How an image becomes the input of a network that was not built here."""

from __future__ import annotations

from dataclasses import dataclass

from training.segmenter.input_normalisation import InputNormalisation


@dataclass(frozen=True)
class NetworkInput:
    """How an image becomes the network's input.

    Attributes:
        size: height and width, pixels.
        normalisation: in the order red, green, blue.
        bgr: whether the network takes blue, green, red.
    """

    size: tuple[int, int]
    normalisation: InputNormalisation
    bgr: bool = False


def rounded_size(wanted: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The nearest height and width that are multiples of `multiple`.

    >>> rounded_size((500, 1000), 32)
    (512, 992)
    """
    height, width = (max(multiple, round(side / multiple) * multiple) for side in wanted)
    return height, width
