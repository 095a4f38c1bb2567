"""A network of `transformers`: a local folder, or a name on its hub."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ros_ood_perception.shown_text import error_line
from training.bundles.graph import source_of_score
from training.bundles.onnx_export import traced
from training.importing.class_list import chosen_classes, named_classes
from training.importing.imported_network import (
    ImportedNetwork,
    ImportRefusedError,
    NetworkInput,
    rounded_size,
    size_note,
)
from training.importing.mask_networks import (
    MASK_FAMILIES,
    MaskSums,
    TaskMaskSums,
    WindowedMaskSums,
    check_mask_attention,
    make_masks_exportable,
    task_tokens,
    windowed_size,
)
from training.importing.per_pixel_networks import FAMILIES as PER_PIXEL_FAMILIES
from training.importing.per_pixel_networks import Family, LogitsOf, make_exportable
from training.importing.request import ImportRequest
from training.importing.static_graph import static_graph
from training.segmenter.input_normalisation import InputNormalisation

FAMILIES = {**PER_PIXEL_FAMILIES, **MASK_FAMILIES}

NOT_SAID = {"other", "unknown", ""}
"""What a model card gives as licence where it gives none."""

MADE_ANEW = ("num_batches_tracked", "relative_position_index", "position_ids", "criterion.empty_weight")
"""Ends of the names of buffers that the code makes itself."""


def transformers_network(request: ImportRequest) -> ImportedNetwork:
    """Load a network for an import.

    Raises:
        ImportRefusedError: it cannot be had, is of no known family, or lacks weights, classes or a licence.
        GraphError: the score does not suit it.
    """
    with _quiet():
        config = _config(request.source)
        kind = config.model_type
        family = FAMILIES.get(kind)
        if family is None:
            raise ImportRefusedError(
                f"{request.source} is a '{kind}'; {', '.join(FAMILIES)} can be imported, and any other network as an "
                "ONNX file that gives class logits"
            )
        if request.score is not None:
            source_of_score(request.score, kind in MASK_FAMILIES)
        model = _model(request.source, kind)
        processing = _processing(request.source)
    classes = chosen_classes(_classes_of(config), request.classes, request.drivable, int(config.num_labels))
    licence = request.licence or licence_of(request.source)
    size, notes = _size(request, family, config)
    normalisation, bgr, said = _normalisation(family, processing)
    reference = _module_of(request.source, copy.deepcopy(model), size)
    parameters = sum(weight.numel() for weight in model.parameters())
    if hasattr(model, "set_attn_implementation"):
        with _quiet():
            model.set_attn_implementation("eager")
    make_exportable(model)
    make_masks_exportable(model)
    return ImportedNetwork(
        graph=_exported(_module_of(request.source, model, size), size, request.source),
        reference=reference,
        dense_reference=getattr(reference, "dense", None),
        of_masks=kind in MASK_FAMILIES,
        input=NetworkInput(size, normalisation, bgr),
        classes=classes,
        licence=licence,
        origin=f"{Path(request.source).name}, {kind} of transformers",
        digest=_digest(reference),
        parameters=parameters,
        notes=(*notes, *said),
    )


def _module_of(source: str, model: Any, size: tuple[int, int]) -> nn.Module:
    """(N, 3, h, w) float32 -> logits or mask sums."""
    kind = model.config.model_type
    if kind not in MASK_FAMILIES:
        return LogitsOf(model).eval()
    if MASK_FAMILIES[kind].windows:
        return WindowedMaskSums(model, _image_size(model.config), size).eval()
    if kind == "oneformer":
        return TaskMaskSums(model, task_tokens(source, int(model.config.task_seq_len))).eval()
    return MaskSums(model).eval()


def _image_size(config: Any) -> int:
    return int(config.image_size if isinstance(config.image_size, int) else config.image_size[0])


def _config(source: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise _not_there(source, error) from error


def _not_there(source: str, error: Exception) -> ImportRefusedError:
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return ImportRefusedError(
        f"{source} is neither a folder that transformers reads nor a name on a hub that can be reached{offline}: "
        f"{error_line(error)[:200]}; download it where there is a network (hf download NAME --local-dir FOLDER) "
        "and give FOLDER"
    )


def _model(source: str, kind: str) -> Any:
    from transformers import AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation

    loader = AutoModelForUniversalSegmentation if kind in MASK_FAMILIES else AutoModelForSemanticSegmentation
    try:
        # Version 5 keeps the checkpoint's type otherwise.
        model, report = loader.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_there(source, error) from error
    missing = [key for key in report["missing_keys"] if not key.endswith(MADE_ANEW)]
    check_mask_attention(source, model)
    if missing:
        raise ImportRefusedError(
            f"{source} holds a {kind} without a segmentation head ({len(missing)} weights are missing, "
            f"such as {sorted(missing)[-1]}); give weights that were trained for semantic segmentation"
        )
    return model.eval()


def _processing(source: str) -> Mapping[str, Any]:
    """The source's preprocessor_config.json; empty without one."""
    from transformers import ImageProcessingMixin

    try:
        found, _ = ImageProcessingMixin.get_image_processor_dict(source)
    except OSError:
        return {}
    return dict(found)


def _classes_of(config: Any) -> Sequence[Any]:
    names = [str(config.id2label[index]) for index in sorted(config.id2label)]
    return () if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else named_classes(names)


def _size(request: ImportRequest, family: Family, config: Any) -> tuple[tuple[int, int], tuple[str, ...]]:
    if family.windows:
        size = windowed_size(request.size, _image_size(config))
        return size, size_note(request.size, size, "the shorter side is that of its square windows")
    if family.square:
        size = (_image_size(config), _image_size(config))
        return size, size_note(request.size, size, f"{config.model_type} takes squares of its image_size only")
    size = rounded_size(request.size or request.default_size, family.multiple)
    return size, size_note(request.size, size, f"height and width are multiples of {family.multiple}")


def _normalisation(family: Family, processing: Mapping[str, Any]) -> tuple[InputNormalisation, bool, tuple[str, ...]]:
    """Mean and deviation in grey levels, whether the order is blue, green, red, and what the user should know."""
    if not processing:
        return (
            family.normalisation,
            family.bgr,
            ("no preprocessor_config.json: the input is normalised as the published weights of its family",),
        )
    bgr = bool(processing.get("do_flip_channel_order", family.bgr))
    # Processors scale by 1/255 first, unless they say otherwise.
    levels = 1 / float(processing.get("rescale_factor", 1 / 255)) if processing.get("do_rescale", True) else 1.0
    if not processing.get("do_normalize", "image_mean" in processing):
        return InputNormalisation((0.0, 0.0, 0.0), (levels, levels, levels)), bgr, ()
    if "image_mean" not in processing or "image_std" not in processing:
        note = "preprocessor_config.json gives no mean: the input is normalised as its family's published weights"
        return family.normalisation, bgr, (note,)
    mean, std = ([float(value) * levels for value in processing[key]] for key in ("image_mean", "image_std"))
    if bgr:
        # They are given in the network's order.
        mean, std = mean[::-1], std[::-1]
    return InputNormalisation((mean[0], mean[1], mean[2]), (std[0], std[1], std[2])), bgr, ()


def licence_of(source: str) -> str:
    """The licence in the head of the source's README.md, the model card.

    Raises:
        ImportRefusedError: it gives none.
    """
    card = Path(source) / "README.md"
    text = card.read_text(errors="replace")[:20_000] if card.is_file() else ""
    head = text.split("\n---", 1)[0] if text.startswith("---") else ""
    for key in ("license", "license_name"):
        found = re.search(rf"^{key}:[ \t]*['\"]?([^'\"#\n]*?)['\"]?[ \t]*$", head, re.MULTILINE)
        if found and found[1].strip().lower() not in NOT_SAID:
            return found[1].strip()
    raise ImportRefusedError(f"{source} does not say the licence of its weights; give --licence TEXT")


def _exported(module: nn.Module, size: tuple[int, int], source: str) -> Any:
    example = torch.zeros(2, 3, *size)
    with _quiet():
        try:
            graph = traced(module, example, {"pixels": "N"}, {"output": "N"})
        except Exception as error:  # of the exporter and of the network's own code; no common base class
            raise ImportRefusedError(
                f"{source} cannot be exported at {size[0]}x{size[1]} ({error_line(error)[:200]}); try another --size"
            ) from error
    return static_graph(graph)


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(json.dumps([name, list(value.shape)]).encode())
        digest.update(value.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the hundred lines that transformers and the exporter write about things that do not concern the user."""
    from transformers.utils.logging import disable_progress_bar

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
