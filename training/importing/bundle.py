"""From a network of somebody else to a bundle that was compared with the network's own forward pass."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.description import FITS, Fit
from ros_ood_perception.bundle.model_bundle import (
    FORMAT_VERSION,
    Bundle,
    BundleDescription,
    FurtherSize,
    InputDescription,
    Measurement,
    ModelVariant,
    ScoreDescription,
    TrainingRecord,
    write_bundle,
)
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import Parity, ParityMeter
from training.bundles.export import LABEL_AGREEMENT, SCORE_DIFFERENCES
from training.bundles.folder import check_bundle_folder
from training.bundles.networks.assembly import assembled
from training.bundles.precisions import (
    CALIBRATION_FRAMES,
    COMPARED_FRAMES,
    Compared,
    graph_file,
    graphs_of_precisions,
    measured_variants,
    share_note,
    spread,
)
from training.data.arguments import open_frames
from training.importing.imported_network import ImportedNetwork
from training.importing.request import ImportRequest
from training.importing.source_engine import SourceEngine
from training.importing.sources import opened_source
from training.runs.provenance import code_version, machine
from training.segmenter.networks.refusal import NetworkRefusedError

DEFAULT_SCORES = {False: "jensen_shannon_to_uniform", True: "rejected_by_all"}

Images = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        bundle: as written.
        parity: of the graph and the source's own forward pass at each size, on pixels that are claimed by a mask.
        compared_on: the frames of it.
        notes: sentences for the user.
    """

    bundle: Bundle
    parity: Mapping[tuple[int, int], Parity]
    compared_on: str
    notes: tuple[str, ...]


@dataclass
class _Graphs:
    """The graphs of one size, compared with the source.

    Attributes:
        bundle: of this size.
        files: contents of the graphs besides `model.onnx`, by name.
    """

    network: ImportedNetwork
    bundle: Bundle
    parity: Parity
    compared_on: str
    measurements: tuple[Measurement, ...]
    variants: tuple[ModelVariant, ...]
    files: dict[str, bytes]


def import_bundle(request: ImportRequest) -> Imported:
    """Write a bundle of a network, verified and compared with the network's own forward pass at each size.

    Raises:
        PerceptionError, OSError, ValueError: as their messages say; the bundle's folder is then unchanged.
    """
    given = {"--data": request.data, "--calibration": request.calibration}
    read = {option: None if data is None else data.path for option, data in given.items()}
    check_bundle_folder("the bundle's folder", request.bundle, (), read)
    calibration: Images = ()
    if request.calibration is not None:
        calibration = spread(open_frames(request.calibration, ()), CALIBRATION_FRAMES)
    for wanted in (request.size, *request.further_sizes):
        if wanted is not None:
            # Too large ones would take all memory before the network's own size is known.
            InputDescription(*wanted)
    made: list[_Graphs] = []
    for wanted in (request.size, *request.further_sizes):
        network = opened_source(replace(request, size=wanted))
        # Refused before anything is computed.
        sizes = [*(graphs.network.input.size for graphs in made), network.input.size]
        model_input = _input(sizes, request.fit or FITS[0], network.notes)
        made.append(_graphs(request, network, calibration, network.input.size if made else None))
    first = made[0]
    further = zip(model_input.further_sizes, made[1:], strict=True)
    description = first.bundle.description
    measurements = tuple(measurement for graphs in made for measurement in graphs.measurements)
    description = replace(
        description,
        input=replace(model_input, further_sizes=tuple(replace(size, variants=one.variants) for size, one in further)),
        variants=first.variants,
        training=replace(description.training, measurements=measurements),
    )
    files = {name: contents for graphs in made for name, contents in graphs.files.items()}
    # The older bundle is removed only when all of the new one exists.
    for stale in check_bundle_folder("the bundle's folder", request.bundle, files, {}):
        (request.bundle / stale).unlink(missing_ok=True)
    bundle = write_bundle(request.bundle, description, first.bundle.model, files)
    parity = {graphs.network.input.size: graphs.parity for graphs in made}
    notes = dict.fromkeys(note for graphs in made for note in graphs.network.notes)
    share = [share_note(bundle)] if "int8" in request.variants else []
    return Imported(bundle, parity, first.compared_on, (*notes, *filter(None, share)))


def _input(sizes: Sequence[tuple[int, int]], fit: Fit, notes: Sequence[str]) -> InputDescription:
    """The input of a bundle with these sizes, whose further graphs do not exist yet.

    Args:
        notes: of the last size.

    Raises:
        NetworkRefusedError: two of them are the same, or there are too many.
    """
    try:
        further = tuple(FurtherSize(*size, graph_file("fp32", size), "") for size in sizes[1:])
        return InputDescription(*sizes[0], fit=fit, further_sizes=further)
    except ValueError as error:
        raise NetworkRefusedError(". ".join((f"{error}; leave one --size out", *notes))) from error


def _graphs(
    request: ImportRequest, network: ImportedNetwork, calibration: Images, further_size: tuple[int, int] | None
) -> _Graphs:
    """The graphs of a network at its size.

    Args:
        further_size: that size, unless it is the one of `model.onnx`.

    Raises:
        NetworkRefusedError: the graph differs from the source.
        EngineError, ExportError, GraphError: as their messages say.
    """
    score = ScoreDescription(request.score or DEFAULT_SCORES[network.of_masks], 1.0)
    properties = {"name": request.bundle.resolve().name, "weights_licence": network.licence, "source": network.origin}
    contents = assembled(network.graph, network.input, len(network.classes), network.of_masks, score, properties)
    bundle = Bundle(request.bundle, _description(request, network, score, contents), contents)
    images, what = _compared_images(request, network.input.size)
    parity, figures = _compared(network, bundle, images)
    at = "" if further_size is None else f" at {further_size[0]}x{further_size[1]}"
    measurements = _measurements(parity, figures, f"{what}, {parity.frames} frames{at}", request.command)
    graphs = graphs_of_precisions(bundle, None, request.variants, calibration)
    variants = measured_variants(bundle, graphs, Compared(images, what), further_size)
    files = {graph_file(name, further_size): graph for name, graph in graphs.items()}
    if further_size is not None:
        files[graph_file("fp32", further_size)] = contents
    return _Graphs(network, bundle, parity, what, measurements, variants, files)


def _description(
    request: ImportRequest, network: ImportedNetwork, score: ScoreDescription, contents: bytes
) -> BundleDescription:
    return BundleDescription(
        format_version=FORMAT_VERSION,
        name=request.bundle.resolve().name,
        model_sha256=hashlib.sha256(contents).hexdigest(),
        weights_licence=network.licence,
        classes=tuple(network.classes),
        input=InputDescription(*network.input.size),
        score=score,
        training=TrainingRecord(
            data_sets=(),
            config_digest=network.digest,
            code_version=code_version(),
            command=request.command,
            epochs=0,
            best_epoch=0,
            training_minutes=0.0,
            machine=machine(),
            parameters=network.parameters,
            imported_from=network.origin,
        ),
    )


def _compared_images(request: ImportRequest, size: tuple[int, int]) -> tuple[Images, str]:
    if request.data is None:
        noise = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
        return list(noise), "noise"
    frames = open_frames(request.data, ())
    return spread(frames, COMPARED_FRAMES), f"{request.data.name} ({request.data.split or request.data.path.name})"


def _compared(network: ImportedNetwork, bundle: Bundle, images: Images) -> tuple[Parity, dict[str, float]]:
    """Parity with the source, and further figures of networks of masks.

    Labels of unclaimed pixels are left out: they are a choice among noise.

    Raises:
        NetworkRefusedError: the graph differs from the source by more than the limits.
    """
    source = SourceEngine(network, bundle.description.score)
    engine = OnnxRuntimeEngine(bundle)
    meter, dense_meter, unclaimed = ParityMeter(), ParityMeter(), []
    for image in images:
        expected, found = source.run(image[None]), engine.run(image[None])
        claimed = source.claimed()
        unclaimed.append(1 - claimed.mean())
        found.semantic[~claimed] = expected.semantic[~claimed]
        meter.add(expected, found)
        dense = source.run_dense(image[None])
        if dense is not None:
            dense.semantic[~claimed] = expected.semantic[~claimed]
            dense_meter.add(dense, found)
    engine.close()
    parity = meter.parity()
    largest = SCORE_DIFFERENCES[network.of_masks]
    # Written so that NaN is refused too.
    if not (parity.label_agreement >= LABEL_AGREEMENT and parity.score_difference <= largest):
        raise NetworkRefusedError(
            f"the graph differs from the source's own forward pass: {parity}; needed are {LABEL_AGREEMENT:.1%} "
            f"and at most {largest:.0e}. Another --size may help; else report the network's name"
        )
    figures = {"share of pixels that no mask claims": float(np.mean(unclaimed))} if network.of_masks else {}
    if network.dense_reference is not None:
        figures["label agreement with masks up-sampled first"] = dense_meter.parity().label_agreement
        figures["mean score difference from masks up-sampled first"] = dense_meter.parity().mean_score_difference
    return parity, figures


def _measurements(parity: Parity, figures: Mapping[str, float], data: str, command: str) -> tuple[Measurement, ...]:
    found = {
        "label agreement with the source": parity.label_agreement,
        "largest score difference from the source": parity.score_difference,
        **figures,
    }
    return tuple(
        Measurement(metric, float(f"{value:.3g}") if value < 0.1 else round(value, 6), data, command)
        for metric, value in found.items()
    )
