"""A bundle that an older version exported, with its graphs in the form that is exported today."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import Bundle, write_bundle
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import Parity, fixed_frames, measure_parity
from training.bundles.folder import check_bundle_folder
from training.bundles.graph import GraphError
from training.bundles.graph_form.up_sampled_classes import with_cheaper_classes
from training.bundles.onnx_export import finished

SCORE_DIFFERENCE = 1e-6
LABEL_AGREEMENT = 0.99999
"""Additions in another order change the class where two are equal up to rounding: some pixels in a million."""


def renewed_graph(model: bytes) -> bytes | None:
    """The graph in today's form, with the same weights and properties; None if nothing changes.

    Raises:
        ExportError: a reader of bundles would refuse the new graph.
    """
    graph = onnx.load_from_string(model)
    if not with_cheaper_classes(graph):
        return None
    return finished(graph, {entry.key: entry.value for entry in graph.metadata_props})


def renew(bundle: Bundle, frames: Iterable[NDArray[np.uint8]] | None = None) -> dict[str, Parity]:
    """Rewrite the graphs of a bundle in its folder, at every size and precision, each compared with the old one.

    All else in `bundle.yaml` stays as it is: the results are the same, so thresholds and measurements hold. A signature
    is removed.

    Args:
        frames: (H, W, 3) uint8, to compare on; None: drawn scenes of each size.

    Returns:
        By file name; empty if there is nothing to rewrite.

    Raises:
        GraphError: a new graph gives other classes than the old one; the folder is then unchanged.
        PerceptionError, OSError: as their messages say.
    """
    whole = bundle.description.input
    files = bundle.files()
    check_bundle_folder("the bundle", bundle.folder, files, {})
    given = None if frames is None else list(frames)
    model, parities = bundle.model, {}
    for size in whole.sizes:
        one = bundle.at(size)
        names = {"model.onnx" if size == whole.size else _file_of(bundle, size): one.model}
        names |= {variant.file: one.variant_bytes(variant) for variant in one.description.variants}
        for name, old in names.items():
            new = renewed_graph(old)
            if new is None:
                continue
            parities[name] = _compared(replace(one, model=old), new, given or fixed_frames(*size), name)
            if name == "model.onnx":
                model = new
            else:
                files[name] = new
    if parities:
        write_bundle(bundle.folder, bundle.description, model, files)
    return parities


def _file_of(bundle: Bundle, size: tuple[int, int]) -> str:
    [further] = [further for further in bundle.description.input.further_sizes if further.size == size]
    return further.file


def _compared(old: Bundle, new: bytes, frames: Iterable[NDArray[np.uint8]], name: str) -> Parity:
    engines = OnnxRuntimeEngine(old), OnnxRuntimeEngine(replace(old, model=new))
    parity = measure_parity(*engines, frames)
    for engine in engines:
        engine.close()
    if parity.label_agreement < LABEL_AGREEMENT or parity.score_difference > SCORE_DIFFERENCE:
        raise GraphError(f"{Path(old.folder) / name} would give other results in the new form: {parity}")
    return parity
