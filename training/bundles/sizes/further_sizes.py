"""Gives a bundle further input sizes, made from its own graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ros_ood_perception.bundle.model_bundle import Bundle, FurtherSize, ModelVariant, write_bundle
from training.bundles.folder import check_bundle_folder
from training.bundles.precisions import Compared, graph_file, measured_variants
from training.bundles.sizes.resized_graph import resized
from training.data.arguments import DataArgument


def add_sizes(bundle: Bundle, sizes: Sequence[tuple[int, int]], data: DataArgument | None) -> Bundle:
    """Make graphs of further sizes at each precision of a bundle, and write them into it.

    A further size that is there already is made anew; the others are kept.

    Args:
        sizes: heights and widths.
        data: frames to compare the precisions on; None: drawn street scenes.

    Raises:
        SizeError: the network does not take a size; the message names one that it takes.
        ValueError: a size is that of `model.onnx`, or there are too many.
        EngineError, GraphError, BundleError, OutputFolderError: as their messages say.
    """
    whole = bundle.description.input
    kept = [size for size in whole.further_sizes if size.size not in sizes]
    added = [FurtherSize(*size, graph_file("fp32", size), "") for size in dict.fromkeys(sizes)]
    # Refused before anything is computed.
    model_input = replace(whole, further_sizes=(*kept, *added))
    precisions: dict[str, ModelVariant] = {variant.precision: variant for variant in bundle.description.variants}
    names = [graph_file(precision, size.size) for size in added for precision in ("fp32", *precisions)]
    check_bundle_folder("the bundle", bundle.folder, names, {"--data": None if data is None else data.path})
    files = bundle.files()
    made = []
    for further in added:
        size = further.size
        model = resized(bundle.model, size)
        graphs = {name: resized(files[variant.file], size) for name, variant in precisions.items()}
        files |= {further.file: model} | {graph_file(name, size): graph for name, graph in graphs.items()}
        own = replace(model_input, height=size[0], width=size[1], further_sizes=())
        one = replace(bundle, description=replace(bundle.description, input=own), model=model, further_models=())
        made.append(replace(further, variants=measured_variants(one, graphs, Compared.of(data, size), size)))
    description = replace(bundle.description, input=replace(model_input, further_sizes=(*kept, *made)))
    return write_bundle(bundle.folder, description, bundle.model, files)
