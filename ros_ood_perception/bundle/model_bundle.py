"""The model bundle: a folder with `model.onnx` and its description `bundle.yaml`.

A bundle is untrusted until `read_bundle` has returned. Then its files are regular and of a bounded size, the schema is
known, and the values are possible. Every graph has the digest that the yaml states, and its operators, memory and work
are within the limits. Where a public key is given, its owner signed the yaml.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from ros_ood_perception.bundle.description import (
    DESCRIPTION_FILE,
    FORMAT_VERSION,
    MODEL_FILE,
    UNLABELLED_ID,
    WHERE_BUNDLES_ARE,
    BundleClass,
    BundleDescription,
    BundleError,
    FurtherSize,
    InputDescription,
    Measurement,
    ModelVariant,
    OperatingPoint,
    ScoreDescription,
    TrainingRecord,
)
from ros_ood_perception.bundle.onnx_model.graph import check_graph
from ros_ood_perception.bundle.onnx_model.wire_format import OnnxFileError
from ros_ood_perception.bundle.signature import SIGNATURE_BYTES, SIGNATURE_FILE, SignatureError, require_signature
from ros_ood_perception.files.atomic_files import write_file
from ros_ood_perception.files.plain_file import NotPlainError, read_plain_file
from ros_ood_perception.files.strict_yaml import LARGEST_FILE_BYTES, SchemaError, from_mapping, parse_yaml, shown
from ros_ood_perception.shown_text import nearest

__all__ = [
    "ANOMALY_AT_LOGITS",
    "DESCRIPTION_FILE",
    "FORMAT_VERSION",
    "MODEL_FILE",
    "UNLABELLED_ID",
    "Bundle",
    "BundleClass",
    "BundleDescription",
    "BundleError",
    "FurtherSize",
    "InputDescription",
    "Measurement",
    "ModelVariant",
    "OperatingPoint",
    "ScoreDescription",
    "TrainingRecord",
    "read_bundle",
    "write_bundle",
    "write_description",
]

ANOMALY_AT_LOGITS = "anomaly_at_logits"
"""The graph's tensor (N, 1, h/s, w/s) float32 that is up-sampled to the output `anomaly`; not in older bundles."""

LARGEST_MODEL_BYTES = 512 << 20
"""Of one ONNX file. It is kept in memory, and engines keep another copy."""
LONGEST_TEXT = 10_000
"""Characters of any text in `bundle.yaml`."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its description and the bytes of its graphs that matched their digests.

    Engines are built from these bytes and never read the files again, so that a file replaced after the check is not
    used. Variants are read when they are needed, and checked again.

    Attributes:
        model: `model.onnx`.
        further_models: the graphs of `description.input.further_sizes`, in that order.
    """

    folder: Path
    description: BundleDescription
    model: bytes = field(repr=False)
    further_models: tuple[bytes, ...] = field(default=(), repr=False)

    def variant_bytes(self, variant: ModelVariant) -> bytes:
        """The contents of a variant of `model`, read and checked.

        Raises:
            BundleError: the file is missing, or was changed since the bundle was read.
        """
        return _verified_graph(self.folder / variant.file, variant.sha256, self.description.input.size)

    def at(self, size: tuple[int, int]) -> Bundle:
        """The bundle with this input size only. An engine is opened on one of these.

        Args:
            size: height and width, one of `description.input.sizes`.
        """
        whole = self.description.input
        index = whole.sizes.index(size)
        own_input = replace(whole, height=size[0], width=size[1], further_sizes=())
        if index == 0:
            return replace(self, description=replace(self.description, input=own_input), further_models=())
        further = whole.further_sizes[index - 1]
        description = replace(self.description, input=own_input, model_sha256=further.sha256, variants=further.variants)
        return Bundle(self.folder, description, self.further_models[index - 1])

    def with_sizes(self, sizes: Sequence[tuple[int, int]]) -> Bundle:
        """The bundle with its first input size, and with those of the further ones that are in `sizes`."""
        further = self.description.input.further_sizes
        kept = [index for index, one in enumerate(further) if one.size in sizes]
        if len(kept) == len(further):
            return self
        own_input = replace(self.description.input, further_sizes=tuple(further[index] for index in kept))
        models = tuple(self.further_models[index] for index in kept)
        return replace(self, description=replace(self.description, input=own_input), further_models=models)

    def up_to(self, max_input_height: int) -> Bundle:
        """The bundle without the further input sizes of more rows than this; 0: with all of them."""
        sizes = self.description.input.sizes
        return self.with_sizes([size for size in sizes if not max_input_height or size[0] <= max_input_height])

    def files(self) -> dict[str, bytes]:
        """The contents of all graphs besides `model.onnx`, by file name.

        Raises:
            BundleError: a file is missing, or was changed since the bundle was read.
        """
        further = self.description.input.further_sizes
        found = {size.file: model for size, model in zip(further, self.further_models, strict=True)}
        for size in self.description.input.sizes:
            one = self.at(size)
            found.update({v.file: one.variant_bytes(v) for v in one.description.variants})
        return found


MOST_BESIDE = 1000
"""Folders that are looked at for a bundle of a similar name."""


def _bundles_beside(folder: Path) -> list[str]:
    """Names of the bundles in the parent folder; none where it cannot be read."""
    try:
        return [found.parent.name for found in islice(folder.parent.glob(f"*/{DESCRIPTION_FILE}"), MOST_BESIDE)]
    except OSError:
        return []


def read_bundle(folder: Path | str, public_key: str = "") -> Bundle:
    """Read and verify a bundle.

    Args:
        public_key: that must have signed the bundle (base64 of 32 bytes); '': the signature is not checked.

    Raises:
        BundleError: a file is missing, unreadable, not regular or too large; the signature is missing or wrong; the
            schema is unknown or violated; a digest does not match; or a graph is refused.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: no such bundle folder{nearest(folder.name, _bundles_beside(folder))}; it must hold "
            f"{MODEL_FILE} and {DESCRIPTION_FILE}. {WHERE_BUNDLES_ARE}"
        )
    description_path = folder / DESCRIPTION_FILE
    contents = _contents(description_path, LARGEST_FILE_BYTES, "is this a bundle?")
    if public_key:
        signature_path = folder / SIGNATURE_FILE
        remedy = "bundle_public_key asks for a signature: python -m training.sign_bundle makes it"
        try:
            require_signature(contents, _contents(signature_path, SIGNATURE_BYTES, remedy), public_key)
        except SignatureError as error:
            raise BundleError(f"{signature_path}: {error}") from error
    description = _description(contents, str(description_path))
    model = _verified_graph(folder / MODEL_FILE, description.model_sha256, description.input.size)
    further = tuple(_verified_graph(folder / s.file, s.sha256, s.size) for s in description.input.further_sizes)
    bundle = Bundle(folder, description, model, further)
    for size in description.input.sizes:
        one = bundle.at(size)
        for variant in one.description.variants:
            # Only checked, not kept: most machines use no variant.
            one.variant_bytes(variant)
    return bundle


def _description(contents: bytes, source: str) -> BundleDescription:
    try:
        data = parse_yaml(contents, source)
    except SchemaError as error:
        raise BundleError(f"{error}; export the bundle again") from error
    # The version first: other versions can have other fields.
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{source}: format_version is {shown(version)}; this version reads {FORMAT_VERSION}. "
            "Export the bundle with the same version of ros_ood_perception"
        )
    try:
        _refuse_odd_texts(data, "")
        return from_mapping(data, BundleDescription, source)
    except SchemaError as error:
        raise BundleError(str(error)) from error
    except ValueError as error:
        raise BundleError(f"{source}: {error}") from error


def _refuse_odd_texts(data: Any, path: str) -> None:
    """Refuse texts with line breaks, escapes or bidi marks: they go into logs, terminals and messages."""
    if isinstance(data, str) and not (data.isprintable() and len(data) <= LONGEST_TEXT):
        raise ValueError(
            f"the field '{path}' is {shown(data)}; a text has printable characters only, and at most {LONGEST_TEXT}"
        )
    if isinstance(data, dict):
        for key, value in data.items():
            _refuse_odd_texts(key, path or "a key")
            _refuse_odd_texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            _refuse_odd_texts(value, f"{path}[{index}]")


def _contents(path: Path, most_bytes: int, remedy: str) -> bytes:
    try:
        return read_plain_file(path, most_bytes)
    except NotPlainError as error:
        raise BundleError(f"{error}; {remedy}") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error


def _verified_graph(path: Path, sha256: str, size: tuple[int, int]) -> bytes:
    """The bytes of an ONNX file, with their digest and graph checked."""
    contents = _contents(path, LARGEST_MODEL_BYTES, "copy the whole bundle folder")
    digest = _digest(contents)
    if digest != sha256:
        raise BundleError(
            f"{path}: SHA-256 is {digest}, {DESCRIPTION_FILE} says {sha256:.64}; the file was "
            "changed or not copied whole. Restore it, or export the bundle again"
        )
    try:
        check_graph(contents, size)
    except OnnxFileError as error:
        raise BundleError(f"{path}: {error}. Export the bundle again") from error
    return contents


def write_bundle(
    folder: Path, description: BundleDescription, model: bytes, files: Mapping[str, bytes] | None = None
) -> Bundle:
    """Write a bundle, replacing what is there.

    If it is interrupted, the folder holds files that do not match, which every reader refuses.

    Args:
        description: its digests are set from the contents. Variants and further sizes without contents are dropped.
        model: `model.onnx`.
        files: contents of the other graphs by file name; None for a bundle without any.
    """
    given = files or {}

    def there(variants: tuple[ModelVariant, ...]) -> tuple[ModelVariant, ...]:
        return tuple(replace(v, sha256=_digest(given[v.file])) for v in variants if v.file in given)

    sizes = tuple(
        replace(size, sha256=_digest(given[size.file]), variants=there(size.variants))
        for size in description.input.further_sizes
        if size.file in given
    )
    description = replace(
        description,
        model_sha256=_digest(model),
        input=replace(description.input, further_sizes=sizes),
        variants=there(description.variants),
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in {MODEL_FILE: model, **{name: given[name] for name in description.files}}.items():
        write_file(folder / name, contents)
    write_description(folder, description)
    return read_bundle(folder)


def _digest(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()


def write_description(folder: Path, description: BundleDescription) -> None:
    """Write `bundle.yaml`, replacing it atomically. A signature of the previous one is deleted."""
    (folder / SIGNATURE_FILE).unlink(missing_ok=True)
    values = _plain(asdict(description))
    for known in values["classes"]:
        # Left out at its default, so that a bundle without drivable classes stays readable for earlier versions.
        if not known["drivable"]:
            del known["drivable"]
    for point in values["operating_points"]:
        # Likewise: a point that is a threshold only is written as before.
        for name in ("settings", "false_obstacles"):
            if not point[name]:
                del point[name]
    if description.training.imported_from is None:
        del values["training"]["imported_from"]
    if description.input.fit == "stretch":
        del values["input"]["fit"]
    if not description.input.further_sizes:
        del values["input"]["further_sizes"]
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    write_file(folder / DESCRIPTION_FILE, text)


class _Dumper(yaml.SafeDumper):
    """Writes equal values every time: the reader refuses aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Called for every value."""
        return True


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
