"""The model bundle: a folder with `model.onnx` and its description `bundle.yaml`.

A bundle is untrusted until `read_bundle` has returned. Then its files are regular and of a bounded size, the schema is
known, and the values are possible. Every graph has the digest that the yaml states, and its operators, memory and work
are within the limits. Where a public key is given, its owner signed the yaml.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
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
    """A verified bundle: its description and the bytes of `model.onnx` that matched the digest.

    Engines are built from `model` and never read the file again, so that a file replaced after the check is not used.
    """

    folder: Path
    description: BundleDescription
    model: bytes = field(repr=False)

    def variant_bytes(self, variant: ModelVariant) -> bytes:
        """The contents of a variant's file, read and checked.

        Raises:
            BundleError: the file is missing, or was changed since the bundle was read.
        """
        return _verified_graph(self.folder / variant.file, variant.sha256, self.description.input)


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
            f"{folder}: no such bundle folder; it must hold {MODEL_FILE} and {DESCRIPTION_FILE}. {WHERE_BUNDLES_ARE}"
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
    model = _verified_graph(folder / MODEL_FILE, description.model_sha256, description.input)
    bundle = Bundle(folder=folder, description=description, model=model)
    for variant in description.variants:
        # Only checked, not kept: most machines use no variant.
        bundle.variant_bytes(variant)
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


def _verified_graph(path: Path, sha256: str, size: InputDescription) -> bytes:
    """The bytes of an ONNX file, with their digest and graph checked."""
    contents = _contents(path, LARGEST_MODEL_BYTES, "copy the whole bundle folder")
    digest = hashlib.sha256(contents).hexdigest()
    if digest != sha256:
        raise BundleError(
            f"{path}: SHA-256 is {digest}, {DESCRIPTION_FILE} says {sha256:.64}; the file was "
            "changed or not copied whole. Restore it, or export the bundle again"
        )
    try:
        check_graph(contents, (size.height, size.width))
    except OnnxFileError as error:
        raise BundleError(f"{path}: {error}. Export the bundle again") from error
    return contents


def write_bundle(
    folder: Path, description: BundleDescription, model: bytes, variant_files: Mapping[str, bytes] | None = None
) -> Bundle:
    """Write a bundle, replacing what is there.

    If it is interrupted, the folder holds files that do not match, which every reader refuses.

    Args:
        description: its digests are set from the contents. Variants without contents are dropped.
        variant_files: contents of the variants by file name; None for a bundle without variants.
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
        write_file(folder / name, contents)
    write_description(folder, description)
    return read_bundle(folder)


def write_description(folder: Path, description: BundleDescription) -> None:
    """Write `bundle.yaml`, replacing it atomically. A signature of the previous one is deleted."""
    (folder / SIGNATURE_FILE).unlink(missing_ok=True)
    values = _plain(asdict(description))
    for known in values["classes"]:
        # Left out at its default, so that a bundle without drivable classes stays readable for earlier versions.
        if not known["drivable"]:
            del known["drivable"]
    if description.training.imported_from is None:
        del values["training"]["imported_from"]
    if description.input.fit == "stretch":
        del values["input"]["fit"]
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
