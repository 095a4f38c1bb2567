"""The folder that a bundle is written to: only files of an existing bundle are replaced there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ros_ood_perception.bundle.model_bundle import DESCRIPTION_FILE, MODEL_FILE, BundleDescription
from ros_ood_perception.files.output_folder import OutputFolderError, check_apart
from ros_ood_perception.files.strict_yaml import SchemaError, read_yaml
from ros_ood_perception.shown_text import error_line, printable


def check_bundle_folder(
    option: str, folder: Path, files: Iterable[str], inputs: Mapping[str, Path | None]
) -> frozenset[str]:
    """Refuse to overwrite files that are not of a bundle, and inputs. Nothing is changed.

    Args:
        option: that gave the folder, for messages.
        files: names in the new bundle, besides its description and `model.onnx`.
        inputs: see `check_apart`.

    Returns:
        Names of the files of the bundle that is there; none if it would not be replaced.

    Raises:
        OutputFolderError: the folder holds other files with these names, or overlaps an input.
        OSError: with the path.
    """
    check_apart(option, folder, inputs)
    written = {DESCRIPTION_FILE, MODEL_FILE, *files}
    there = sorted(name for name in written if os.path.lexists(folder / name))
    if not there:
        return frozenset()
    shown = printable(str(folder))
    try:
        description = read_yaml(folder / DESCRIPTION_FILE, BundleDescription)
    except (OSError, SchemaError) as error:
        raise OutputFolderError(
            f"{option} {shown} holds {', '.join(there)}, but no bundle ({error_line(error)}); give another folder, or "
            "move them away"
        ) from error
    own = frozenset((DESCRIPTION_FILE, MODEL_FILE, *description.files))
    for name in there:
        if name not in own or (folder / name).is_symlink() or not (folder / name).is_file():
            raise OutputFolderError(
                f"{option} {shown} holds {name}, which is a link or is not part of the bundle there, and would be "
                "replaced; give another folder, or move it away"
            )
    return own
