"""A network of `transformers`: a local folder, or a name on its hub."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import nn

from training.bundles.graph import source_of_score
from training.bundles.networks.assembly import network_graph
from training.importing.class_list import chosen_classes, named_classes
from training.importing.imported_network import ImportedNetwork, size_note
from training.importing.request import ImportRequest
from training.segmenter.networks.mask_networks import MASK_FAMILIES, windowed_size
from training.segmenter.networks.network_input import NetworkInput, rounded_size
from training.segmenter.networks.network_segmenter import exportable, module_of
from training.segmenter.networks.per_pixel_networks import Family
from training.segmenter.networks.refusal import NetworkRefusedError
from training.segmenter.networks.transformers_folder import (
    class_names,
    image_size,
    licence_of,
    load_network,
    network_config,
    quiet,
)


def transformers_network(request: ImportRequest) -> ImportedNetwork:
    """Load a network for an import.

    Raises:
        NetworkRefusedError: it cannot be had, is of no known family, or lacks weights, classes or a licence.
        GraphError: the score does not suit it.
    """
    with quiet():
        config = network_config(request.source)
    kind = config.model_type
    if request.score is not None:
        source_of_score(request.score, kind in MASK_FAMILIES)
    loaded = load_network(request.source)
    named = named_classes(class_names(config))
    classes = chosen_classes(named, request.classes, request.drivable, int(config.num_labels))
    licence = request.licence or licence_of(request.source)
    if licence is None:
        raise NetworkRefusedError(f"{request.source} does not say the licence of its weights; give --licence TEXT")
    size, notes = _size(request, loaded.family, loaded.model.config)
    reference = module_of(loaded.model, loaded.task).eval()
    return ImportedNetwork(
        graph=network_graph(exportable(reference), size, request.source),
        reference=reference,
        dense_reference=getattr(reference, "dense", None),
        of_masks=kind in MASK_FAMILIES,
        input=NetworkInput(size, loaded.normalisation, loaded.bgr),
        classes=classes,
        licence=licence,
        origin=f"{Path(request.source).name}, {kind} of transformers",
        digest=_digest(reference),
        parameters=sum(weight.numel() for weight in loaded.model.parameters()),
        notes=(*notes, *loaded.notes),
    )


def _size(request: ImportRequest, family: Family, config: Any) -> tuple[tuple[int, int], tuple[str, ...]]:
    if family.windows:
        size = windowed_size(request.size, image_size(config))
        return size, size_note(request.size, size, "the shorter side is that of its square windows")
    if family.square:
        size = (image_size(config), image_size(config))
        return size, size_note(request.size, size, f"{config.model_type} takes squares of its image_size only")
    size = rounded_size(request.size or request.default_size, family.multiple)
    return size, size_note(request.size, size, f"height and width are multiples of {family.multiple}")


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(json.dumps([name, list(value.shape)]).encode())
        digest.update(value.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
