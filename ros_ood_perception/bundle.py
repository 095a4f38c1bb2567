"""The model bundle: a folder with `model.onnx` and `bundle.yaml` that says all there is to know about it.

A bundle is untrusted until `read_bundle` has returned: the schema is known, the values are possible, and
`model.onnx` is the file that the yaml was written for.
"""

from __future__ import annotations

import hashlib
import reprlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from ros_ood_perception.strict_yaml import SchemaError, from_mapping, load_yaml

FORMAT_VERSION = 1
MODEL_FILE = "model.onnx"
DESCRIPTION_FILE = "bundle.yaml"
UNLABELLED_ID = 255
"""The class id that no bundle may use: consumers read it as unlabelled."""


class BundleError(ValueError):
    """A bundle that cannot be used. The message names the file, the field, what was there and the remedy."""


@dataclass(frozen=True)
class BundleClass:
    """One class: id as in the mask, name, colour (R, G, B) 0..255."""

    id: int
    name: str
    colour: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError(f"the class with id {self.id} has no name")
        if any(not 0 <= channel <= 255 for channel in self.colour):
            raise ValueError(f"the colour of the class '{self.name}' is {self.colour}; channels are 0 to 255")


@dataclass(frozen=True)
class InputDescription:
    """What the graph computes on: it resizes any frame to height x width (pixels) itself."""

    height: int
    width: int
    colour_order: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"the input size is {self.height}x{self.width}; both must be positive")


@dataclass(frozen=True)
class ScoreDescription:
    """Which anomaly score the graph computes; always in [0, 1] and higher where more anomalous."""

    name: str
    temperature: float
    range: tuple[float, float] = (0.0, 1.0)
    higher_is_more_anomalous: bool = True

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"the score's temperature is {self.temperature}; it must be positive")
        if self.range != (0.0, 1.0) or not self.higher_is_more_anomalous:
            raise ValueError("the score must have the range [0, 1] and be higher where more anomalous")


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with its record: a pixel is anomalous where its score >= threshold.

    Attributes:
        chosen_by: the rule that gave the threshold.
        data: the frames it was chosen on.
        true_positive_rate, false_positive_rate: measured there, fractions; null where not measured.
        threshold_interval: 95 % of the thresholds that other frames of the same kind would have given (bootstrap over
            frames); null where not measured.
        false_positive_rate_interval: the same for the rate at `threshold`.
    """

    name: str
    threshold: float
    chosen_by: str
    data: str
    true_positive_rate: float | None = None
    false_positive_rate: float | None = None
    threshold_interval: tuple[float, float] | None = None
    false_positive_rate_interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"the threshold of the operating point '{self.name}' is {self.threshold}; range is [0, 1]")


@dataclass(frozen=True)
class Measurement:
    """One measured figure and the command that measures it again."""

    metric: str
    value: float
    data: str
    command: str


@dataclass(frozen=True)
class TrainingRecord:
    """Where the weights come from."""

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


@dataclass(frozen=True)
class BundleDescription:
    """What `bundle.yaml` holds."""

    format_version: int
    name: str
    model_sha256: str
    weights_licence: str
    classes: tuple[BundleClass, ...]
    input: InputDescription
    score: ScoreDescription
    training: TrainingRecord
    operating_points: tuple[OperatingPoint, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("the field 'name' is empty")
        if [c.id for c in self.classes] != list(range(len(self.classes))):
            raise ValueError(f"the class ids are {[c.id for c in self.classes]}; they must be 0, 1, 2, ... in order")
        if not 2 <= len(self.classes) < UNLABELLED_ID:
            raise ValueError(f"there are {len(self.classes)} classes; 2 to {UNLABELLED_ID - 1} are possible")
        names = [c.name for c in self.classes]
        if len(set(names)) < len(names):
            raise ValueError(f"two classes have one name: {names}")
        points = [p.name for p in self.operating_points]
        if len(set(points)) < len(points):
            raise ValueError(f"two operating points have one name: {points}")

    def operating_point(self, name: str) -> OperatingPoint:
        """The operating point of that name, or the first one for ''.

        Raises:
            BundleError: there is none; the message lists those that there are.
        """
        names = [point.name for point in self.operating_points]
        if not names:
            raise BundleError(
                f"the bundle '{self.name}' has no operating points; set the anomaly threshold yourself, or export "
                "the bundle with --data"
            )
        if name and name not in names:
            raise BundleError(f"the bundle '{self.name}' has no operating point '{name}'; it has {', '.join(names)}")
        return self.operating_points[names.index(name) if name else 0]

    @property
    def colours(self) -> list[tuple[int, int, int]]:
        """(R, G, B) of each class, by id."""
        return [c.colour for c in self.classes]


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its description and the bytes of `model.onnx` that matched the digest.

    Engines are built from `model`, never from the file again, so that a file exchanged after the check is not used.
    """

    folder: Path
    description: BundleDescription
    model: bytes = field(repr=False)


def read_bundle(folder: Path | str) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BundleError: a file is missing or unreadable, the schema is unknown or violated, or the digest does not match.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle folder; it must hold {MODEL_FILE} and {DESCRIPTION_FILE}")
    description_path, model_path = folder / DESCRIPTION_FILE, folder / MODEL_FILE
    try:
        data = load_yaml(description_path)
    except OSError as error:
        raise BundleError(f"{description_path}: cannot be read ({error.strerror}); is this a bundle?") from error
    except SchemaError as error:
        raise BundleError(f"{error}; export the bundle again") from error
    # The version first: another version may rightly have other fields.
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{description_path}: format_version is {reprlib.repr(version)}; this version reads {FORMAT_VERSION}. "
            "Export the bundle with the same version of ros_ood_perception"
        )
    try:
        description = from_mapping(data, BundleDescription, str(description_path))
    except SchemaError as error:
        raise BundleError(str(error)) from error
    try:
        model = model_path.read_bytes()
    except OSError as error:
        raise BundleError(f"{model_path}: cannot be read ({error.strerror}); copy the whole bundle folder") from error
    digest = hashlib.sha256(model).hexdigest()
    if digest != description.model_sha256:
        raise BundleError(
            f"{model_path}: SHA-256 is {digest}, {DESCRIPTION_FILE} says {description.model_sha256}; the file was "
            "changed or not copied whole. Restore it, or export the bundle again"
        )
    return Bundle(folder=folder, description=description, model=model)


def write_bundle(folder: Path, description: BundleDescription, model: bytes) -> Bundle:
    """Write a bundle, replacing what is there; `model_sha256` of the description is set from `model`.

    Interrupted in between, the folder holds a pair that does not match, which every reader refuses.
    """
    description = replace(description, model_sha256=hashlib.sha256(model).hexdigest())
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{MODEL_FILE}.part"
    temporary.write_bytes(model)
    temporary.replace(folder / MODEL_FILE)
    write_description(folder, description)
    return read_bundle(folder)


def write_description(folder: Path, description: BundleDescription) -> None:
    """Write `bundle.yaml`, replacing it atomically."""
    temporary = folder / f"{DESCRIPTION_FILE}.part"
    text = yaml.safe_dump(_plain(asdict(description)), sort_keys=False, allow_unicode=True, width=120)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / DESCRIPTION_FILE)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
