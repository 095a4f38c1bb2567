"""From a checkpoint to a bundle that was compared with the network in PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ros_ood_perception.bundle.description import Fit
from ros_ood_perception.bundle.model_bundle import (
    FORMAT_VERSION,
    Bundle,
    BundleClass,
    BundleDescription,
    FurtherSize,
    InputDescription,
    ModelVariant,
    ScoreDescription,
    TrainingRecord,
    write_bundle,
)
from ros_ood_perception.files.strict_yaml import from_mapping
from ros_ood_perception.inference.engine import EngineOutput
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import Parity, ParityMeter
from training.bundles.averaging import averaged
from training.bundles.folder import check_bundle_folder
from training.bundles.graph import source_of_score
from training.bundles.networks.assembly import assembled, network_graph
from training.bundles.onnx_export import ExportError, onnx_bytes
from training.bundles.operating_points import measured_operating_points
from training.bundles.precisions import (
    CALIBRATION_FRAMES,
    COMPARED_FRAMES,
    VARIANTS,
    Compared,
    graph_file,
    graphs_of_precisions,
    measured_variants,
    spread,
)
from training.data.data_config import DataConfig
from training.data.labelled_frames import LabelledFrames
from training.data.registry import DATA_SETS, open_training_frames, open_validation_frames, registered
from training.runs.checkpoint import reading
from training.segmenter.deployed_segmenter import DEFAULT_SCORE, DeployedSegmenter
from training.segmenter.efficientnet_lite import encoder_origin
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig
from training.segmenter.networks.network_input import NetworkInput
from training.segmenter.networks.network_segmenter import NetworkSegmenter, build_segmenter, exportable
from training.segmenter.segmenter import claimed

LABEL_AGREEMENT = 0.999
SCORE_DIFFERENCES = {False: 1e-4, True: 2e-3}
"""By whether the network predicts masks: there float32 sums over the queries are less exact."""

Images = Sequence[NDArray[np.uint8]]


def deployed_segmenter(
    checkpoint: dict[str, Any],
    input_size: tuple[int, int] | None,
    temperature: float,
    score: str = DEFAULT_SCORE,
) -> DeployedSegmenter:
    """The network of a checkpoint as it ships, in evaluation mode.

    Args:
        input_size: height and width of the network's input; None takes the size used in validation.

    Raises:
        ExportError: the network does not take this input size.
        GraphError: the score does not suit the network.
    """
    config = from_mapping(checkpoint["config"]["segmenter"], SegmenterConfig, "the checkpoint's configuration")
    # Older checkpoints lack the encoder's settings. The pretrained weights are then loaded once more.
    segmenter = build_segmenter(config, [name for name, _ in checkpoint["classes"]], checkpoint.get("encoder"))
    segmenter.load_state_dict(checkpoint["exported"])
    size = input_size or tuple(checkpoint["config"]["input_size"])
    try:
        segmenter.check_input_size(size)
    except ValueError as error:
        raise ExportError(f"--size {size[0]}x{size[1]}: {error}") from error
    source_of_score(score, segmenter.of_masks)
    return DeployedSegmenter(segmenter, size, temperature, score).eval()


class NetworkEngine:
    """The network in PyTorch as an `InferenceEngine`: the reference of an exported graph."""

    name = "pytorch"

    def __init__(self, model: DeployedSegmenter) -> None:
        self._model = model
        self._last = torch.zeros(0)

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """(N, H, W, 3) uint8 -> the outputs at the bundle's input size."""
        # Stacked: NumPy gives a batch of one the stride 0, for which PyTorch takes another convolution.
        batch = torch.stack([torch.from_numpy(image) for image in images])
        with torch.no_grad():
            self._last = self._model.values(batch)
            semantic, anomaly = self._model.outputs(self._last)
        return EngineOutput(semantic.numpy(), anomaly.numpy())

    def claimed(self) -> NDArray[np.bool_]:
        """Where a mask claims the pixels of the last images: (N, h, w) bool. Networks of logits claim all."""
        return claimed(self._last, self._model.input_size, self._model.segmenter.of_masks).numpy()

    def close(self) -> None:
        """Nothing to free."""


def parity_with_network(model: DeployedSegmenter, bundle: Bundle, images: Iterable[NDArray[np.uint8]]) -> Parity:
    """Compare a bundle's graph in ONNX Runtime with the network, on (H, W, 3) uint8 images.

    Labels that no mask claims are left out: they are a choice among noise.
    """
    engine, reference, meter = OnnxRuntimeEngine(bundle), NetworkEngine(model), ParityMeter()
    for image in images:
        expected, found = reference.run(image[None]), engine.run(image[None])
        semantic = np.where(reference.claimed(), found.semantic, expected.semantic)
        meter.add(expected, replace(found, semantic=semantic))
    engine.close()
    return meter.parity()


def require_parity(parity: Parity, of_masks: bool = False) -> None:
    """Refuse a graph that does not compute what the network computes.

    Raises:
        ExportError: with the measured and the allowed differences.
    """
    allowed = SCORE_DIFFERENCES[of_masks]
    # Written so that NaN is refused too.
    if not (parity.label_agreement > LABEL_AGREEMENT and parity.score_difference <= allowed):
        raise ExportError(
            f"the exported graph differs from the network: {parity.label_agreement:.4%} of the labels agree (more than "
            f"{LABEL_AGREEMENT:.1%} needed), the score differs by up to {parity.score_difference:.1e} "
            f"({allowed:.0e} allowed)"
        )


@dataclass(frozen=True)
class _Frames:
    """What exported graphs are compared on.

    Attributes:
        labelled: validation frames, on which thresholds are chosen too; None without a data set.
        compared: to compare other precisions on; None: drawn scenes of each size.
        calibration: (H, W, 3) uint8 each, for `int8`; none unless it is wanted.
    """

    labelled: LabelledFrames | None = None
    name: str = ""
    compared: Compared | None = None
    calibration: Images = ()

    def of_parity(self, size: tuple[int, int]) -> Iterable[NDArray[np.uint8]]:
        """(H, W, 3) uint8 each, to compare a graph with the network on."""
        if self.labelled is None:
            return np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
        return (self.labelled[index].image for index in range(len(self.labelled)))


@dataclass
class _Graphs:
    """The exported graphs of one size, and their parity with the network."""

    bundle: Bundle
    parity: Parity
    variants: tuple[ModelVariant, ...]
    files: dict[str, bytes] = field(default_factory=dict)


def export_bundle(
    checkpoint_paths: Sequence[Path],
    folder: Path,
    data: Path | None = None,
    sizes: Sequence[tuple[int, int]] = (),
    temperature: float = 1.0,
    score: str = DEFAULT_SCORE,
    variants: Sequence[str] = ("fp16",),
    fit: Fit = "stretch",
) -> dict[tuple[int, int], Parity]:
    """Write a bundle, verified and compared with the network at each size.

    Args:
        checkpoint_paths: the mean of their weights is exported, see `averaged`.
        sizes: heights and widths of the network's input. The first is that of `model.onnx`. None: the size used in
            validation.
        variants: of `training.bundles.precisions.VARIANTS`.
        fit: how a frame of another aspect comes to the input's size.

    Returns:
        By size.

    Raises:
        PerceptionError, OSError, ValueError: as their messages say; `folder` is then unchanged.
    """
    read = {**{f"checkpoint {number}": path for number, path in enumerate(checkpoint_paths, 1)}, "--data": data}
    named = (None, *sizes[1:])
    names = [graph_file(precision, size) for size in named for precision in ("fp32", *VARIANTS)]
    check_bundle_folder("the bundle's folder", folder, names, read)
    checkpoint = averaged(checkpoint_paths)
    with reading(checkpoint_paths[0]):
        data_config = from_mapping(checkpoint["config"]["data"], DataConfig, str(checkpoint_paths[0]))
        models = [deployed_segmenter(checkpoint, size, temperature, score) for size in sizes or (None,)]
        given = [FurtherSize(*model.input_size, graph_file("fp32", model.input_size), "") for model in models[1:]]
        model_input = InputDescription(*models[0].input_size, fit=fit, further_sizes=tuple(given))
        properties = {"name": folder.resolve().name, "weights_licence": checkpoint["data_set"]["licence"]}
        properties |= encoder_origin(checkpoint["config"]["segmenter"].get("pretrained"))
        scored = ScoreDescription(name=score, temperature=temperature)
        contents = [_float32_graph(model, scored, properties) for model in models]
        description = _description(folder.resolve().name, checkpoint, data_config, models[0], scored, contents[0])
    bundle = Bundle(folder, replace(description, input=model_input), contents[0], tuple(contents[1:]))
    frames = _Frames() if data is None else _frames(bundle, data_config, data, "int8" in variants)
    made = [
        _graphs(bundle.at(model.input_size), model, variants, frames, size)
        for model, size in zip(models, named, strict=True)
    ]
    further = [replace(size, variants=graphs.variants) for size, graphs in zip(given, made[1:], strict=True)]
    model_input = replace(model_input, further_sizes=tuple(further))
    description = replace(bundle.description, input=model_input, variants=made[0].variants)
    if frames.labelled is not None:
        points = measured_operating_points(bundle, frames.labelled, f"{frames.name}, {len(frames.labelled)} frames)")
        description = replace(description, operating_points=points)
    # The older bundle is removed only when all of the new one exists.
    for stale in check_bundle_folder("the bundle's folder", folder, names, {}):
        (folder / stale).unlink(missing_ok=True)
    write_bundle(folder, description, bundle.model, {k: v for graphs in made for k, v in graphs.files.items()})
    return {graphs.bundle.description.input.size: graphs.parity for graphs in made}


def _graphs(
    bundle: Bundle,
    model: DeployedSegmenter,
    variants: Sequence[str],
    frames: _Frames,
    further_size: tuple[int, int] | None,
) -> _Graphs:
    """The graphs of one size, compared with the network.

    Args:
        bundle: of that size, with its float32 graph.
    """
    parity = parity_with_network(model, bundle, frames.of_parity(model.input_size))
    require_parity(parity, model.segmenter.of_masks)
    of_ladder = isinstance(model.segmenter, LadderSegmenter)
    graphs = graphs_of_precisions(bundle, model if of_ladder else None, variants, frames.calibration)
    compared = frames.compared or Compared.of(None, model.input_size)
    made = measured_variants(bundle, graphs, compared, further_size)
    files = {graph_file(name, further_size): contents for name, contents in graphs.items()}
    if further_size is not None:
        files[graph_file("fp32", further_size)] = bundle.model
    return _Graphs(bundle, parity, made, files)


def _float32_graph(model: DeployedSegmenter, score: ScoreDescription, properties: dict[str, str]) -> bytes:
    """The graph of a network that was built here, or around one of `transformers`.

    Raises:
        NetworkRefusedError, GraphError, ExportError: as their messages say.
    """
    segmenter = model.segmenter
    if not isinstance(segmenter, NetworkSegmenter):
        return onnx_bytes(model, properties)
    graph = network_graph(exportable(segmenter.network), model.input_size, segmenter.origin)
    taken = NetworkInput(model.input_size, segmenter.normalise, segmenter.bgr)
    return assembled(graph, taken, segmenter.num_classes, segmenter.of_masks, score, properties)


def _description(
    name: str,
    checkpoint: dict[str, Any],
    data_config: DataConfig,
    model: DeployedSegmenter,
    score: ScoreDescription,
    contents: bytes,
) -> BundleDescription:
    """What `bundle.yaml` says before thresholds and variants are there."""
    progression = checkpoint["progression"]
    data_set = checkpoint["data_set"]
    drivable = _drivable_names(checkpoint, data_config)
    # Older checkpoints name one set only.
    trained_on = data_set.get("parts", [(data_set["name"], data_config.train)])
    return BundleDescription(
        format_version=FORMAT_VERSION,
        name=name,
        model_sha256=hashlib.sha256(contents).hexdigest(),
        weights_licence=data_set["licence"],
        classes=tuple(
            BundleClass(i, label, tuple(rgb), label in drivable) for i, (label, rgb) in enumerate(checkpoint["classes"])
        ),
        input=InputDescription(*model.input_size),
        score=score,
        training=TrainingRecord(
            data_sets=tuple(f"{title} ({split})" for title, split in trained_on),
            config_digest=checkpoint["config_digest"],
            code_version=checkpoint["code_version"],
            command=checkpoint["command"],
            epochs=progression["epoch"],
            best_epoch=progression["best_epoch"],
            training_minutes=round(progression["training_seconds"] / 60, 1),
            machine=checkpoint["machine"],
            parameters=sum(p.numel() for p in model.segmenter.parameters()),
            imported_from=model.segmenter.origin if isinstance(model.segmenter, NetworkSegmenter) else None,
        ),
    )


def _drivable_names(checkpoint: dict[str, Any], data_config: DataConfig) -> list[str]:
    """Names of the drivable classes. Older checkpoints do not hold them; their sets mark the classes themselves."""
    if "drivable" in checkpoint:
        return list(checkpoint["drivable"])
    known: Any = DATA_SETS[registered(data_config.set)]
    return [c.name for c in known.classes if c.drivable]


def _frames(bundle: Bundle, config: DataConfig, data: Path, calibrate: bool) -> _Frames:
    frames = open_validation_frames(config.set, data, config.validation, config.held_out)
    trained, found = ([c.name for c in classes] for classes in (bundle.description.classes, frames.classes))
    if trained != found:
        raise ExportError(
            f"--data {data}: {frames.title} has the classes {', '.join(found)}; the checkpoint was trained on "
            f"{', '.join(trained)}. Give the data that it was trained on"
        )
    name = f"{frames.title} ({config.validation}"
    calibration: Images = ()
    if calibrate:
        training_frames = open_training_frames(config.set, data, config.train, config.held_out)
        calibration = spread(training_frames, CALIBRATION_FRAMES)
    return _Frames(frames, name, Compared(spread(frames, COMPARED_FRAMES), f"{name})"), calibration)
