"""An ONNX file that is a bundle's graph already: only its description is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ros_ood_perception.bundle.description import FITS
from ros_ood_perception.bundle.model_bundle import (
    DESCRIPTION_FILE,
    FORMAT_VERSION,
    MODEL_FILE,
    Bundle,
    BundleDescription,
    InputDescription,
    ScoreDescription,
    TrainingRecord,
    read_bundle,
    write_bundle,
)
from ros_ood_perception.bundle.onnx_model.graph import HEIGHT, WIDTH, infer
from ros_ood_perception.bundle.onnx_model.model_file import read_onnx
from training.bundles.folder import check_bundle_folder
from training.bundles.onnx_export import finished
from training.importing.class_list import chosen_classes
from training.importing.onnx_source import read_onnx_file, weights_of
from training.importing.request import ImportRequest
from training.runs.provenance import code_version, machine
from training.segmenter.networks.refusal import NetworkRefusedError

INPUTS, OUTPUTS = {"image"}, {"semantic", "anomaly"}


def graph_of_contract(source: str) -> Path | None:
    """The ONNX file of a source whose inputs and outputs are named as a bundle's; None if it is something else."""
    path = Path(source) / MODEL_FILE if Path(source).is_dir() else Path(source)
    if not path.is_file() or path.suffix != ".onnx":
        return None
    model = read_onnx_file(path)
    named = {value.name for value in model.graph.input}, {value.name for value in model.graph.output}
    return path if named == (INPUTS, OUTPUTS) else None


def wrap(request: ImportRequest, path: Path) -> Bundle:
    """Write a bundle of such a graph. What a `bundle.yaml` beside it says is the default.

    Nothing is compared: the graph is the network. It is checked as every bundle is.

    Raises:
        NetworkRefusedError: classes, score or licence are not said.
        ExportError, BundleError, OSError: as their messages say.
    """
    replaced = check_bundle_folder("the bundle's folder", request.bundle, (), {"the source": path.parent})
    if request.size is not None:
        raise NetworkRefusedError(f"{path} is a bundle's graph, which has its size; give no --size")
    model = read_onnx_file(path)
    beside = read_bundle(path.parent).description if (path.parent / DESCRIPTION_FILE).is_file() else None
    classes = request.classes or (beside.classes if beside else None)
    licence = request.licence or (beside.weights_licence if beside else None)
    score = request.score or (beside.score.name if beside else None)
    fit_beside = beside.input.fit if beside else FITS[0]
    if classes is None or licence is None or score is None:
        option = "--classes FILE" if classes is None else "--licence TEXT" if licence is None else "--score NAME"
        raise NetworkRefusedError(f"{path} is a bundle's graph, which does not say all about itself; give {option}")
    name = request.bundle.resolve().name
    contents = finished(model, {"name": name, "weights_licence": licence, "source": path.name})
    height, width = infer(read_onnx(contents), (1, HEIGHT, WIDTH)).tensors["semantic"].sides[1:]
    description = BundleDescription(
        format_version=FORMAT_VERSION,
        name=name,
        model_sha256="",
        weights_licence=licence,
        classes=chosen_classes((), classes, request.drivable, len(classes)),
        input=InputDescription(height, width, "bgr" if request.bgr else "rgb", request.fit or fit_beside),
        score=ScoreDescription(score, beside.score.temperature if beside else 1.0),
        training=TrainingRecord(
            data_sets=(),
            config_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
            code_version=code_version(),
            command=request.command,
            epochs=0,
            best_epoch=0,
            training_minutes=0.0,
            machine=machine(),
            parameters=weights_of(model),
            imported_from=f"{path.name}, a bundle's graph as it was",
        ),
    )
    for stale in replaced:
        (request.bundle / stale).unlink(missing_ok=True)
    return write_bundle(request.bundle, description, contents)
