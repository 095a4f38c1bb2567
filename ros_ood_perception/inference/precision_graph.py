"""The ONNX file of a bundle for a precision."""

from __future__ import annotations

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.inference.engine import EngineError


def graph_of_precision(bundle: Bundle, precision: str) -> bytes:
    """The ONNX file of a bundle's first input size (`Bundle.at`) that is typed or quantised for a precision.

    Raises:
        EngineError: the bundle has none.
        BundleError: the file was changed since the bundle was read.
    """
    if precision == "fp32":
        return bundle.model
    variant = bundle.description.variant("onnx", precision)
    if variant is None:
        there = ["fp32", *(v.precision for v in bundle.description.variants)]
        height, width = bundle.description.input.size
        raise EngineError(
            f"the bundle '{bundle.description.name}' has no {precision} graph of {height}x{width} (it has "
            f"{', '.join(there)}); export it with --with {precision}, or add it with training.precisions"
        )
    return bundle.variant_bytes(variant)
