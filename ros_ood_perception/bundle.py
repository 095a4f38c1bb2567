"""The model bundle: a folder with `model.onnx` and `bundle.yaml` that says all there is to know about it.

A bundle is untrusted until `read_bundle` has returned: the schema is known, the values are possible, and
`model.onnx` is the file that the yaml was written for.
"""

from __future__ import annotations

import hashlib
import re
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from ros_ood_perception.external_weights import external_tensor
from ros_ood_perception.strict_yaml import SchemaError, from_mapping, load_yaml, shown

FORMAT_VERSION = 1
MODEL_FILE = "model.onnx"
DESCRIPTION_FILE = "bundle.yaml"
ANOMALY_AT_LOGITS = "anomaly_at_logits"
"""The graph's tensor (N, 1, h/4, w/4) float32 that the output `anomaly` is up-sampled from; not in older bundles."""

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
class ModelVariant:
    """Another file of the folder with the same model, for engines and precisions that `model.onnx` does not serve.

    Attributes:
        format: `onnx`, read by TensorRT, ONNX Runtime and OpenVINO; `torch`, a program of `torch.export`.
        precision: what the network computes in; resizing, normalisation and the score are float32 in all of them.
        file: its name in the bundle's folder.
        sha256: of the file.
        label_agreement: share of the pixels that had the class that `model.onnx` gives them, 0 to 1.
        score_difference: mean absolute difference of the anomaly score from that of `model.onnx`.
        measured_on: the frames that both were measured on when the file was made, and by which engine.
    """

    format: Literal["onnx", "torch"]
    precision: Literal["fp32", "fp16", "int8"]
    file: str
    sha256: str
    label_agreement: float
    score_difference: float
    measured_on: str

    def __post_init__(self) -> None:
        # The name is joined to the folder: it must not lead out of it.
        if not _FILE_NAME.fullmatch(self.file) or self.file in (MODEL_FILE, DESCRIPTION_FILE):
            raise ValueError(
                f"the file of a variant is {reprlib.repr(self.file)}; it must be a plain name of letters, digits, "
                f"'_', '-' and '.', and neither {MODEL_FILE} nor {DESCRIPTION_FILE}"
            )
        if (self.format, self.precision) in (("onnx", "fp32"), ("torch", "int8")):
            raise ValueError(f"a variant is {self.format} {self.precision}, which is not possible beside {MODEL_FILE}")


_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


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
    variants: tuple[ModelVariant, ...] = ()

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
        for kind, values in (
            ("format and precision", [f"{v.format} {v.precision}" for v in self.variants]),
            ("file", [v.file for v in self.variants]),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"two variants have one {kind}: {values}")

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

    def variant(self, format: str, precision: str) -> ModelVariant | None:
        """The variant of that format and precision, or None."""
        return next((v for v in self.variants if (v.format, v.precision) == (format, precision)), None)

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

    def variant_bytes(self, variant: ModelVariant) -> bytes:
        """The contents of a variant's file, checked again as they are read.

        Raises:
            BundleError: the file is gone, was changed since the bundle was read, or holds its weights elsewhere.
        """
        path = self.folder / variant.file
        return (_verified_graph if variant.format == "onnx" else _verified)(path, variant.sha256)


def read_bundle(folder: Path | str) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BundleError: a file is missing or unreadable, the schema is unknown or violated, the digest does not match, or
            weights lie in a file that the bundle does not name.
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
            f"{description_path}: format_version is {shown(version)}; this version reads {FORMAT_VERSION}. "
            "Export the bundle with the same version of ros_ood_perception"
        )
    try:
        description = from_mapping(data, BundleDescription, str(description_path))
    except SchemaError as error:
        raise BundleError(str(error)) from error
    bundle = Bundle(folder=folder, description=description, model=_verified_graph(model_path, description.model_sha256))
    for variant in description.variants:
        # Not kept: most machines use none of them.
        bundle.variant_bytes(variant)
    return bundle


def _verified(path: Path, sha256: str) -> bytes:
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); copy the whole bundle folder") from error
    digest = hashlib.sha256(contents).hexdigest()
    if digest != sha256:
        raise BundleError(
            f"{path}: SHA-256 is {digest}, {DESCRIPTION_FILE} says {sha256}; the file was "
            "changed or not copied whole. Restore it, or export the bundle again"
        )
    return contents


def _verified_graph(path: Path, sha256: str) -> bytes:
    """An ONNX file that is whole: weights in a file beside it would be read unverified, from wherever an engine looks.

    ONNX Runtime looks in the process's working directory.
    """
    contents = _verified(path, sha256)
    tensor = external_tensor(contents)
    if tensor is not None:
        raise BundleError(
            f"{path}: the values of the tensor {reprlib.repr(tensor)} are in another file, which the SHA-256 does not "
            "cover. Save the model with its weights inside, onnx.save(model, path, save_as_external_data=False), and "
            "export the bundle again"
        )
    return contents


def write_bundle(
    folder: Path, description: BundleDescription, model: bytes, variant_files: Mapping[str, bytes] | None = None
) -> Bundle:
    """Write a bundle, replacing what is there.

    Interrupted in between, the folder holds files that do not match, which every reader refuses.

    Args:
        description: its digests are set from the contents. Of its variants those are kept that have contents.
        variant_files: contents of the variants by file name; None for a bundle that is to have none.
    """
    files = variant_files or {}
    description = replace(
        description,
        model_sha256=hashlib.sha256(model).hexdigest(),
        variants=tuple(
            replace(v, sha256=hashlib.sha256(files[v.file]).hexdigest())
            for v in description.variants
            if v.file in files
        ),
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in {MODEL_FILE: model, **{v.file: files[v.file] for v in description.variants}}.items():
        temporary = folder / f"{name}.part"
        temporary.write_bytes(contents)
        temporary.replace(folder / name)
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
