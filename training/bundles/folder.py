"""The folder that a bundle is written into: only files of a bundle of ours are replaced there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ros_ood_perception.bundle.model_bundle import DESCRIPTION_FILE, MODEL_FILE, BundleDescription
from ros_ood_perception.files.output_folder import OutputFolderError, check_apart
from ros_ood_perception.files.strict_yaml import SchemaError, read_yaml
from ros_ood_perception.shown_text import error_line, printable


def check_bundle_folder(option: str, folder: Path, files: Iterable[str], inputs: Mapping[str, Path | None]) -> None:
    """Refuse to write a bundle over anything but a bundle, or over what is read for it. Nothing is changed.

    Args:
        option: what gave the folder, for errors.
        files: of the new bundle, besides its description and `model.onnx`.
        inputs: see `check_apart`.

    Raises:
        OutputFolderError: another file of one of these names is there, or the folder overlaps an input.
        OSError: with the path.
    """
    check_apart(option, folder, inputs)
    written = {DESCRIPTION_FILE, MODEL_FILE, *files}
    there = sorted(name for name in written if os.path.lexists(folder / name))
    if not there:
        return
    shown = printable(str(folder))
    try:
        description = read_yaml(folder / DESCRIPTION_FILE, BundleDescription)
    except (OSError, SchemaError) as error:
        raise OutputFolderError(
            f"{option} {shown} holds {', '.join(there)}, and no bundle ({error_line(error)}); give another folder, or "
            "move them away"
        ) from error
    own = {DESCRIPTION_FILE, MODEL_FILE, *(variant.file for variant in description.variants)}
    for name in there:
        if name not in own or (folder / name).is_symlink() or not (folder / name).is_file():
            raise OutputFolderError(
                f"{option} {shown} holds {name}, which the bundle there does not name, or which is a link, and which "
                "would be replaced; give another folder, or move it away"
            )
