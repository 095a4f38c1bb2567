"""From a checkpoint to a bundle that was compared with the network in PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ros_ood_perception.bundle.description import Fit
from ros_ood_perception.bundle.model_bundle import (
    DESCRIPTION_FILE,
    FORMAT_VERSION,
    MODEL_FILE,
    Bundle,
    BundleClass,
    BundleDescription,
    InputDescription,
    OperatingPoint,
    ScoreDescription,
    TrainingRecord,
    write_bundle,
)
from ros_ood_perception.files.strict_yaml import from_mapping
from ros_ood_perception.inference.engine import EngineOutput
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import Parity, fixed_frames, measure_parity
from training.bundles.folder import check_bundle_folder
from training.bundles.onnx_export import ExportError, onnx_bytes
from training.bundles.operating_points import measured_operating_points
from training.bundles.precisions import CALIBRATION_FRAMES, COMPARED_FRAMES, VARIANTS, make_variants, spread
from training.data.data_config import DataConfig
from training.data.registry import DATA_SETS, open_training_frames, open_validation_frames, registered
from training.runs.checkpoint import load_checkpoint, reading
from training.segmenter.deployed_segmenter import DEFAULT_SCORE, DeployedSegmenter
from training.segmenter.efficientnet_lite import encoder_origin
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig

LABEL_AGREEMENT = 0.999
SCORE_DIFFERENCE = 1e-4

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
    """
    config = from_mapping(checkpoint["config"]["segmenter"], SegmenterConfig, "the checkpoint's configuration")
    # Older checkpoints lack the encoder's settings. The pretrained weights are then loaded once more.
    segmenter = LadderSegmenter(config, len(checkpoint["classes"]), checkpoint.get("encoder"))
    segmenter.load_state_dict(checkpoint["exported"])
    size = input_size or tuple(checkpoint["config"]["input_size"])
    try:
        segmenter.check_input_size(size)
    except ValueError as error:
        raise ExportError(f"--size {size[0]}x{size[1]}: {error}") from error
    return DeployedSegmenter(segmenter, size, temperature, score).eval()


class NetworkEngine:
    """The network in PyTorch as an `InferenceEngine`: the reference of an exported graph."""

    name = "pytorch"

    def __init__(self, model: DeployedSegmenter) -> None:
        self._model = model

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """(N, H, W, 3) uint8 -> the outputs at the bundle's input size."""
        # Stacked: NumPy gives a batch of one the stride 0, for which PyTorch takes another convolution.
        batch = torch.stack([torch.from_numpy(image) for image in images])
        with torch.no_grad():
            semantic, anomaly = self._model(batch)
        return EngineOutput(semantic.numpy(), anomaly.numpy())

    def close(self) -> None:
        """Nothing to free."""


def parity_with_network(model: DeployedSegmenter, bundle: Bundle, images: Iterable[NDArray[np.uint8]]) -> Parity:
    """Compare a bundle's graph in ONNX Runtime with the network, on (H, W, 3) uint8 images."""
    engine = OnnxRuntimeEngine(bundle)
    parity = measure_parity(NetworkEngine(model), engine, images)
    engine.close()
    return parity


def require_parity(parity: Parity) -> None:
    """Refuse a graph that does not compute what the network computes.

    Raises:
        ExportError: with the measured and the allowed differences.
    """
    if parity.label_agreement <= LABEL_AGREEMENT or parity.score_difference > SCORE_DIFFERENCE:
        raise ExportError(
            f"the exported graph differs from the network: {parity.label_agreement:.4%} of the labels agree (more than "
            f"{LABEL_AGREEMENT:.1%} needed), the score differs by up to {parity.score_difference:.1e} "
            f"({SCORE_DIFFERENCE:.0e} allowed)"
        )


@dataclass(frozen=True)
class Measured:
    """What an exported graph was compared on, and what was chosen there.

    Attributes:
        parity: of the graph and the network.
        operating_points: none without labelled frames.
        images: (H, W, 3) uint8 each, to compare other precisions on.
        images_are: their description, for the record.
        calibration: (H, W, 3) uint8 each, for `int8`; none unless it is wanted.
    """

    parity: Parity
    operating_points: tuple[OperatingPoint, ...]
    images: Images
    images_are: str
    calibration: Images = ()


def export_bundle(
    checkpoint_path: Path,
    folder: Path,
    data: Path | None = None,
    input_size: tuple[int, int] | None = None,
    temperature: float = 1.0,
    score: str = DEFAULT_SCORE,
    variants: Sequence[str] = ("fp16",),
    fit: Fit = "stretch",
) -> Parity:
    """Write a bundle, verified and compared with the network.

    Args:
        variants: of `training.bundles.precisions.VARIANTS`.
        fit: how a frame of another aspect comes to the input's size.

    Raises:
        PerceptionError, OSError, ValueError: as their messages say; `folder` is then unchanged.
    """
    read = {"the checkpoint": checkpoint_path, "--data": data}
    check_bundle_folder("the bundle's folder", folder, variant_files(), read)
    checkpoint = load_checkpoint(checkpoint_path)
    if "exported" not in checkpoint:
        raise ExportError(f"{checkpoint_path}: holds no segmenter (it is of a {checkpoint.get('kind')} run)")
    with reading(checkpoint_path):
        data_config = from_mapping(checkpoint["config"]["data"], DataConfig, str(checkpoint_path))
        model = deployed_segmenter(checkpoint, input_size, temperature, score)
        properties = {"name": folder.resolve().name, "weights_licence": checkpoint["data_set"]["licence"]}
        contents = onnx_bytes(model, properties | encoder_origin(checkpoint["config"]["segmenter"].get("pretrained")))
        scored = ScoreDescription(name=score, temperature=temperature)
        description = _description(folder.resolve().name, checkpoint, data_config, model, scored, contents)
    description = replace(description, input=replace(description.input, fit=fit))
    bundle = Bundle(folder, description, contents)
    if data is None:
        measured = _measured_on_drawn_frames(bundle, model)
    else:
        measured = _measured_on_frames(bundle, model, data_config, data, "int8" in variants)
    require_parity(measured.parity)
    description = replace(description, operating_points=measured.operating_points)
    made, files = make_variants(bundle, model, variants, measured.images, measured.images_are, measured.calibration)
    # The older bundle is removed only when all of the new one exists.
    check_bundle_folder("the bundle's folder", folder, variant_files(), {})
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (DESCRIPTION_FILE, MODEL_FILE, *variant_files()):
        (folder / stale).unlink(missing_ok=True)
    write_bundle(folder, replace(description, variants=made), contents, files)
    return measured.parity


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
        ),
    )


def _drivable_names(checkpoint: dict[str, Any], data_config: DataConfig) -> list[str]:
    """Names of the drivable classes. Older checkpoints do not hold them; their sets mark the classes themselves."""
    if "drivable" in checkpoint:
        return list(checkpoint["drivable"])
    known: Any = DATA_SETS[registered(data_config.set)]
    return [c.name for c in known.classes if c.drivable]


def _measured_on_drawn_frames(bundle: Bundle, model: DeployedSegmenter) -> Measured:
    noise = np.random.default_rng(0).integers(0, 256, (2, *model.input_size, 3), np.uint8)
    return Measured(
        parity_with_network(model, bundle, noise), (), fixed_frames(*model.input_size), "drawn street scenes"
    )


def _measured_on_frames(
    bundle: Bundle, model: DeployedSegmenter, config: DataConfig, data: Path, calibrate: bool
) -> Measured:
    frames = open_validation_frames(config.set, data, config.validation, config.held_out)
    trained, found = ([c.name for c in classes] for classes in (bundle.description.classes, frames.classes))
    if trained != found:
        raise ExportError(
            f"--data {data}: {frames.title} has the classes {', '.join(found)}; the checkpoint was trained on "
            f"{', '.join(trained)}. Give the data that it was trained on"
        )
    parity = parity_with_network(model, bundle, (frames[i].image for i in range(len(frames))))
    name = f"{frames.title} ({config.validation}"
    points = measured_operating_points(bundle, frames, f"{name}, {len(frames)} frames)")
    calibration: Images = ()
    if calibrate:
        training_frames = open_training_frames(config.set, data, config.train, config.held_out)
        calibration = spread(training_frames, CALIBRATION_FRAMES)
    return Measured(parity, points, spread(frames, COMPARED_FRAMES), f"{name})", calibration)


def variant_files() -> tuple[str, ...]:
    """Names of the files that variants of a bundle have."""
    return tuple(file for _, _, file in VARIANTS.values())
