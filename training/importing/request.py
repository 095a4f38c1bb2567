"""What the user asks of an import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ros_ood_perception.bundle.description import Fit
from ros_ood_perception.bundle.model_bundle import BundleClass
from training.data.arguments import DataArgument
from training.segmenter.input_normalisation import InputNormalisation

DEFAULT_SIZE = (512, 1024)
"""Height and width of the input of a network that takes any, pixels."""


@dataclass(frozen=True)
class ImportRequest:
    """The command line of `training.import_network`.

    Attributes:
        source: a folder, a file, or a name on a hub.
        bundle: folder to write.
        size: wanted height and width of the input, pixels; None leaves it to the network.
        further_sizes: of the bundle, heights and widths likewise.
        fit: how a frame of another aspect comes to the input's size; None stretches it, or keeps what a bundle says.
        score: anomaly score; None takes the default of the kind of network.
        classes: those of `--classes`.
        drivable: names of drivable classes; empty keeps what the classes say.
        licence: of the weights; None where the source says it.
        normalisation, bgr: of an ONNX file's input.
        data, calibration: frames to compare on, and for int8.
        variants: of `training.bundles.precisions.VARIANTS`.
        command: for the record.
    """

    source: str
    bundle: Path
    size: tuple[int, int] | None = None
    further_sizes: Sequence[tuple[int, int]] = ()
    fit: Fit | None = None
    score: str | None = None
    classes: Sequence[BundleClass] | None = None
    drivable: Sequence[str] = ()
    licence: str | None = None
    normalisation: InputNormalisation | None = None
    bgr: bool = False
    data: DataArgument | None = None
    calibration: DataArgument | None = None
    variants: Sequence[str] = ()
    command: str = ""
    default_size: tuple[int, int] = DEFAULT_SIZE
