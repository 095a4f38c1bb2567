"""The contents of `bundle.yaml` as dataclasses that refuse impossible values."""

from __future__ import annotations

import math
import re
import reprlib
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.strict_yaml import shown

FORMAT_VERSION = 1
MODEL_FILE = "model.onnx"
DESCRIPTION_FILE = "bundle.yaml"
WHERE_BUNDLES_ARE = (
    "The package installs no bundle: docs/models.md lists those of a checkout, to try, and docs/training.md makes one "
    "from frames of your own"
)
"""What to do for somebody who has no bundle."""

LARGEST_SIDE = 16_384
LARGEST_AREA = 1 << 25
"""Height times width of the network's input, pixels."""
TEMPERATURES = (1e-3, 1e3)
LONGEST_NAME = 200
MOST_FURTHER_SIZES = 3
"""Each is another graph in memory, as large as `model.onnx`."""
SAME_ASPECT = 0.04
"""Difference of two aspects, as |log|, up to which they count as one: sides are multiples of 32, so 384x672 is 1.75."""

Fit = Literal["stretch", "letterbox"]
FITS: tuple[Fit, ...] = get_args(Fit)

UNLABELLED_ID = 255
"""A class id that no bundle may use: consumers read it as unlabelled."""


class BundleError(PerceptionError, ValueError):
    """A bundle that cannot be used. The message names the file, the field, what was there and the remedy."""


@dataclass(frozen=True)
class BundleClass:
    """One class.

    Attributes:
        id: in the mask.
        colour: (R, G, B), 0 to 255.
        drivable: whether a vehicle drives on it; the node's default for `region.drivable_classes`.
    """

    id: int
    name: str
    colour: tuple[int, int, int]
    drivable: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= LONGEST_NAME:
            raise ValueError(
                f"the class with id {self.id} has a name of {len(self.name)} characters; 1 to {LONGEST_NAME}"
            )
        if any(not 0 <= channel <= 255 for channel in self.colour):
            raise ValueError(f"the colour of the class '{self.name}' is {self.colour}; channels are 0 to 255")


@dataclass(frozen=True)
class FurtherSize:
    """The same network with another input size, for cameras of another aspect.

    Attributes:
        height, width: to which its graph resizes every image, pixels.
        file: the graph's name in the bundle's folder.
        sha256: of the file.
        variants: this size at other precisions; their figures are differences from `file`.
    """

    height: int
    width: int
    file: str
    sha256: str
    variants: tuple[ModelVariant, ...] = ()

    def __post_init__(self) -> None:
        _check_size(self.height, self.width)
        _check_file("a further size", self.file)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


@dataclass(frozen=True)
class InputDescription:
    """The input of `model.onnx`, and the further sizes of the same network.

    >>> sizes = (FurtherSize(384, 672, "model_384x672.onnx", "0" * 64),)
    >>> given = InputDescription(480, 640, further_sizes=sizes)
    >>> given.size_for((1080, 1920)), given.size_for((1200, 1600))
    ((384, 672), (480, 640))
    >>> sizes = (*sizes, FurtherSize(768, 1344, "model_768x1344.onnx", "0" * 64))
    >>> given = InputDescription(480, 640, further_sizes=sizes)
    >>> given.size_for((720, 1280)), given.size_for((1080, 1920))
    ((384, 672), (768, 1344))

    Attributes:
        height, width: to which the graph resizes every image, pixels.
        fit: how a frame comes to that size. `stretch`: the graph resizes it, whatever its aspect. `letterbox`: before
            the graph, it is scaled without distortion and the rest is filled with its mirror image.
        further_sizes: the same network at other sizes; see `size_for`.
    """

    height: int
    width: int
    colour_order: Literal["rgb", "bgr"] = "rgb"
    fit: Fit = "stretch"
    further_sizes: tuple[FurtherSize, ...] = ()

    def __post_init__(self) -> None:
        _check_size(self.height, self.width)
        if len(self.further_sizes) > MOST_FURTHER_SIZES:
            raise ValueError(f"there are {len(self.further_sizes)} further sizes; at most {MOST_FURTHER_SIZES}")
        if len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"two of the sizes {self.sizes_text} are the same")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of `model.onnx`."""
        return self.height, self.width

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every size, that of `model.onnx` first."""
        return self.size, *(further.size for further in self.further_sizes)

    @property
    def sizes_text(self) -> str:
        """The sizes as HEIGHTxWIDTH."""
        return ", ".join(f"{height}x{width}" for height, width in self.sizes)

    def size_for(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """The size that a frame of this height and width takes.

        The aspect decides first: the nearest one by |log aspect|. Of the sizes whose aspect is that one's up to
        `SAME_ASPECT`, the frame takes the highest that has no more rows than itself. So small things keep their pixels,
        and none are made up. If all have more rows, it takes the lowest.
        """
        aspect = math.log(frame_size[1] / frame_size[0])
        aspects = {size: math.log(size[1] / size[0]) for size in self.sizes}
        by_misfit = sorted(self.sizes, key=lambda size: abs(aspects[size] - aspect))
        same = [size for size in by_misfit if abs(aspects[size] - aspects[by_misfit[0]]) <= SAME_ASPECT]
        filled = [size for size in same if size[0] <= frame_size[0]]
        # Of equal rows, the nearest aspect.
        return max(filled, key=lambda size: size[0]) if filled else min(same, key=lambda size: size[0])


def _check_size(height: int, width: int) -> None:
    if min(height, width) < 1 or max(height, width) > LARGEST_SIDE:
        raise ValueError(f"the input size is {height}x{width}; both must be 1 to {LARGEST_SIDE}")
    if height * width > LARGEST_AREA:
        raise ValueError(f"the input size is {height}x{width}; at most {LARGEST_AREA} pixels are possible")


def _check_file(what: str, file: str) -> None:
    # The name is joined to the folder: it must not lead out of it.
    if not _FILE_NAME.fullmatch(file) or file in (MODEL_FILE, DESCRIPTION_FILE):
        raise ValueError(
            f"the file of {what} is {reprlib.repr(file)}; it must be a plain name of letters, digits, '_', '-' and "
            f"'.', and neither {MODEL_FILE} nor {DESCRIPTION_FILE}"
        )


@dataclass(frozen=True)
class ScoreDescription:
    """The anomaly score that the graph computes: always in [0, 1] and higher where more anomalous."""

    name: str
    temperature: float
    range: tuple[float, float] = (0.0, 1.0)
    higher_is_more_anomalous: bool = True

    def __post_init__(self) -> None:
        low, high = TEMPERATURES
        if not low <= self.temperature <= high:
            raise ValueError(f"the score's temperature is {self.temperature}; it must be positive, {low:g} to {high:g}")
        if self.range != (0.0, 1.0) or not self.higher_is_more_anomalous:
            raise ValueError("the score must have the range [0, 1] and be higher where more anomalous")


@dataclass(frozen=True)
class Drive:
    """A recording without unknown objects, on which false obstacles were counted.

    Attributes:
        sha256: of its files.
        hours: that were measured, summed over the cameras.
    """

    name: str
    sha256: str
    hours: float
    frames: int
    false_obstacles: int


@dataclass(frozen=True)
class FalseObstacles:
    """How often an operating point raises an obstacle where nothing unknown lies.

    Attributes:
        per: what the rate counts: obstacles an `hour`, or a `frame` of frames that stand for themselves.
        asked: the rate that the point was to reach.
        rate: the measured one.
        rate_interval: exact 95 % Poisson interval of the rate (Garwood 1936).
        rate_bound: with 95 % confidence the rate is at most this; with no false obstacle 3.0 over the hours or frames.
        drives: that it was measured on. Of many, the last entry holds the rest.
        objects_found: share of unknown objects found on other drives, 0 to 1; null where not measured.
        objects: number of these; 0 where not measured.
        command: repeats the measurement.
    """

    per: Literal["hour", "frame"]
    asked: float
    count: int
    hours: float
    frames: int
    rate: float
    rate_interval: tuple[float, float]
    rate_bound: float
    drives: tuple[Drive, ...]
    command: str
    objects_found: float | None = None
    objects: int = 0

    def __post_init__(self) -> None:
        for name in ("asked", "count", "hours", "frames", "rate", "rate_bound", "objects"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and how it was chosen: a pixel is anomalous where its score >= threshold.

    Attributes:
        settings: parameters of the node that hold with this threshold, by name. They replace defaults. The node checks
            names and values as those of a parameter file.
        false_obstacles: measured with threshold and settings; null where not measured.
        chosen_by: the rule that gave the threshold.
        data: the frames that it was chosen on.
        true_positive_rate, false_positive_rate: on these frames, 0 to 1; null where not measured.
        threshold_interval: 95 % interval of the threshold (bootstrap over frames); null where not measured.
        false_positive_rate_interval: the same of the rate at `threshold`.
    """

    name: str
    threshold: float
    chosen_by: str
    data: str
    true_positive_rate: float | None = None
    false_positive_rate: float | None = None
    threshold_interval: tuple[float, float] | None = None
    false_positive_rate_interval: tuple[float, float] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    false_obstacles: FalseObstacles | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"the threshold of the operating point '{self.name}' is {self.threshold}; range is [0, 1]")
        rates = (
            ("true_positive_rate", (self.true_positive_rate,)),
            ("false_positive_rate", (self.false_positive_rate,)),
            ("threshold_interval", self.threshold_interval or ()),
            ("false_positive_rate_interval", self.false_positive_rate_interval or ()),
        )
        for name, values in rates:
            if any(value is not None and not 0 <= value <= 1 for value in values):
                raise ValueError(f"{name} of the operating point '{self.name}' is {values}; range is [0, 1]")
        for name, setting in self.settings.items():
            plain = setting if isinstance(setting, list) else [setting]
            if len(plain) > UNLABELLED_ID or not all(isinstance(item, (str, int, float)) for item in plain):
                raise ValueError(
                    f"the setting {shown(name)} of the operating point '{self.name}' is {shown(setting)}; it must be a "
                    "number, a text, true or false, or a list of these"
                )


@dataclass(frozen=True)
class Measurement:
    """One measured figure and the command that repeats the measurement."""

    metric: str
    value: float
    data: str
    command: str


@dataclass(frozen=True)
class ModelVariant:
    """Another file of the folder with the same model, for other engines and precisions than `model.onnx`.

    Attributes:
        format: `onnx`, which TensorRT, ONNX Runtime and the torch engine read.
        precision: of the network; resizing, normalisation and the score are always float32.
        file: its name in the bundle's folder.
        sha256: of the file.
        label_agreement: share of the pixels with the class that `model.onnx` gives them, 0 to 1.
        score_difference: mean absolute difference of the anomaly score from that of `model.onnx`.
        measured_on: the frames and the engine of these two figures.
    """

    format: str
    precision: Literal["fp32", "fp16", "int8"]
    file: str
    sha256: str
    label_agreement: float
    score_difference: float
    measured_on: str

    def __post_init__(self) -> None:
        _check_file("a variant", self.file)
        if self.format == "torch":
            raise ValueError(
                f"the variant '{self.file}' is a torch program, which can hold code and is not read. The engine "
                "'torch' computes from the ONNX files: delete the variant from bundle.yaml, or export the bundle again"
            )
        if self.format != "onnx":
            raise ValueError(f"a variant has the format {shown(self.format)}; it must be onnx. Export the bundle again")
        if self.precision == "fp32":
            raise ValueError(f"a variant is {self.format} {self.precision}, as {MODEL_FILE} is already")
        if not (0 <= self.label_agreement <= 1 and 0 <= self.score_difference <= 1):
            raise ValueError(
                f"the variant '{self.file}' has label_agreement {self.label_agreement} and score_difference "
                f"{self.score_difference}; both are 0 to 1"
            )


_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class TrainingRecord:
    """How the weights were trained.

    Attributes:
        imported_from: the network of somebody else that they are from; None if there is none. Without training here,
            epochs and minutes are 0, and `config_digest` is that of the weights.
    """

    data_sets: tuple[str, ...]
    config_digest: str
    code_version: str
    command: str
    epochs: int
    best_epoch: int
    training_minutes: float
    machine: str
    parameters: int
    measurements: tuple[Measurement, ...] = ()
    imported_from: str | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "best_epoch", "training_minutes", "parameters"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")


@dataclass(frozen=True)
class BundleDescription:
    """The contents of `bundle.yaml`."""

    format_version: int
    name: str
    model_sha256: str
    weights_licence: str
    classes: tuple[BundleClass, ...]
    input: InputDescription
    score: ScoreDescription
    training: TrainingRecord
    operating_points: tuple[OperatingPoint, ...] = field(default=())
    variants: tuple[ModelVariant, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= LONGEST_NAME:
            raise ValueError(f"the field 'name' has {len(self.name)} characters; 1 to {LONGEST_NAME}")
        if not 2 <= len(self.classes) < UNLABELLED_ID:
            raise ValueError(f"there are {len(self.classes)} classes; 2 to {UNLABELLED_ID - 1} are possible")
        if [c.id for c in self.classes] != list(range(len(self.classes))):
            raise ValueError(f"the class ids are {[c.id for c in self.classes]}; they must be 0, 1, 2, ... in order")
        names = [c.name for c in self.classes]
        if len(set(names)) < len(names):
            raise ValueError(f"two classes have one name: {names}")
        points = [p.name for p in self.operating_points]
        if len(set(points)) < len(points):
            raise ValueError(f"two operating points have one name: {points}")
        for variants in (self.variants, *(further.variants for further in self.input.further_sizes)):
            kinds = [f"{v.format} {v.precision}" for v in variants]
            if len(set(kinds)) < len(kinds):
                raise ValueError(f"two variants have one format and precision: {kinds}")
        if len(set(self.files)) < len(self.files):
            raise ValueError(f"two graphs have one file: {list(self.files)}")

    def operating_point(self, name: str) -> OperatingPoint:
        """The operating point of that name, or the first one for ''.

        Raises:
            BundleError: it does not exist; the message lists the existing ones.
        """
        names = [point.name for point in self.operating_points]
        if not names:
            raise BundleError(
                f"the bundle '{self.name}' has no operating points; set anomaly_threshold yourself, or choose "
                "them with python -m training.calibrate"
            )
        if name and name not in names:
            raise BundleError(f"the bundle '{self.name}' has no operating point '{name}'; it has {', '.join(names)}")
        return self.operating_points[names.index(name) if name else 0]

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the graphs besides `model.onnx`."""
        further = self.input.further_sizes
        variants = (self.variants, *(size.variants for size in further))
        return *(size.file for size in further), *(v.file for those in variants for v in those)

    def variant(self, format: str, precision: str) -> ModelVariant | None:
        """The variant of that format and precision, or None."""
        return next((v for v in self.variants if (v.format, v.precision) == (format, precision)), None)

    @property
    def drivable_ids(self) -> tuple[int, ...]:
        """Ids of the classes that a vehicle drives on; empty in bundles that mark none."""
        return tuple(c.id for c in self.classes if c.drivable)

    @property
    def colours(self) -> list[tuple[int, int, int]]:
        """(R, G, B) of each class, by id."""
        return [c.colour for c in self.classes]
