"""From a network of somebody else to a bundle that was compared with the network's own forward pass."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import (
    DESCRIPTION_FILE,
    FORMAT_VERSION,
    LARGEST_MODEL_BYTES,
    MODEL_FILE,
    Bundle,
    BundleDescription,
    InputDescription,
    Measurement,
    ScoreDescription,
    TrainingRecord,
    write_bundle,
)
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import Parity, ParityMeter
from training.bundles.export import variant_files
from training.bundles.folder import check_bundle_folder
from training.bundles.precisions import CALIBRATION_FRAMES, COMPARED_FRAMES, make_variants, spread
from training.data.arguments import open_frames
from training.importing.assembly import SourceEngine, assembled
from training.importing.imported_network import ImportedNetwork, ImportRefusedError
from training.importing.request import ImportRequest
from training.importing.sources import opened_source
from training.runs.provenance import code_version, machine

LEAST_LABEL_AGREEMENT = 0.999
LARGEST_DIFFERENCE = {False: 1e-4, True: 2e-3}
"""Of the score, by whether the network predicts masks: there float32 sums over the queries are less exact."""

DEFAULT_SCORES = {False: "jensen_shannon_to_uniform", True: "rejected_by_all"}

Images = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        bundle: as written.
        parity: of the graph and the source's own forward pass, on pixels that are claimed by a mask.
        compared_on: the frames of it.
        notes: sentences for the user.
    """

    bundle: Bundle
    parity: Parity
    compared_on: str
    notes: tuple[str, ...]


def import_bundle(request: ImportRequest) -> Imported:
    """Write a bundle of a network, verified and compared with the network's own forward pass.

    Raises:
        PerceptionError, OSError, ValueError: as their messages say; the bundle's folder is then unchanged.
    """
    read = {
        name: data.path for name, data in (("--data", request.data), ("--calibration", request.calibration)) if data
    }
    check_bundle_folder("the bundle's folder", request.bundle, variant_files(), read)
    network = opened_source(request)
    if 4 * network.parameters > LARGEST_MODEL_BYTES:
        raise ImportRefusedError(
            f"{request.source} has {network.parameters / 1e6:.0f} million weights, which takes more than the "
            f"{LARGEST_MODEL_BYTES >> 20} MB of a bundle's graph; take a smaller network of the family"
        )
    score = ScoreDescription(request.score or DEFAULT_SCORES[network.of_masks], 1.0)
    properties = {"name": request.bundle.resolve().name, "weights_licence": network.licence, "source": network.origin}
    contents = assembled(network, score.name, score.temperature, properties)
    bundle = Bundle(request.bundle, _description(request, network, score, contents), contents)
    images, what = _compared_images(request, network.input.size)
    parity, figures = _compared(network, bundle, images)
    measurements = _measurements(parity, figures, what, request.command)
    calibration: Images = ()
    if request.calibration is not None:
        calibration = spread(open_frames(request.calibration, ()), CALIBRATION_FRAMES)
    variants, files = make_variants(bundle, None, request.variants, images, what, calibration)
    description = replace(
        bundle.description,
        variants=variants,
        training=replace(bundle.description.training, measurements=measurements),
    )
    # The older bundle is removed only when all of the new one exists.
    check_bundle_folder("the bundle's folder", request.bundle, variant_files(), {})
    for stale in (DESCRIPTION_FILE, MODEL_FILE, *variant_files()):
        (request.bundle / stale).unlink(missing_ok=True)
    return Imported(write_bundle(request.bundle, description, contents, files), parity, what, network.notes)


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
        ImportRefusedError: the graph differs from the source by more than the limits.
    """
    source = SourceEngine(network, bundle.description.score.name, bundle.description.score.temperature)
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
    largest = LARGEST_DIFFERENCE[network.of_masks]
    # Written so that NaN is refused too.
    if not (parity.label_agreement >= LEAST_LABEL_AGREEMENT and parity.score_difference <= largest):
        raise ImportRefusedError(
            f"the graph differs from the source's own forward pass: {parity}; needed are {LEAST_LABEL_AGREEMENT:.1%} "
            f"and at most {largest:.0e}. Another --size may help; else report the network's name"
        )
    figures = {"share of pixels that no mask claims": float(np.mean(unclaimed))} if network.of_masks else {}
    if network.dense_reference is not None:
        figures["label agreement with masks up-sampled first"] = dense_meter.parity().label_agreement
        figures["mean score difference from masks up-sampled first"] = dense_meter.parity().mean_score_difference
    return parity, figures


def _measurements(parity: Parity, figures: Mapping[str, float], what: str, command: str) -> tuple[Measurement, ...]:
    data = f"{what}, {parity.frames} frames"
    found = {
        "label agreement with the source": parity.label_agreement,
        "largest score difference from the source": parity.score_difference,
        **figures,
    }
    return tuple(
        Measurement(metric, float(f"{value:.3g}") if value < 0.1 else round(value, 6), data, command)
        for metric, value in found.items()
    )
