"""Export a checkpoint to a model bundle.

    python -m training.export runs/camvid_small/best.pt models/camvid_small --data FOLDER

One ONNX graph from the camera's bytes to class ids and anomaly score (opset 17), and `bundle.yaml` beside it. FOLDER
holds the splits of the training set: on its validation frames the graph is compared with the network in PyTorch, and
the anomaly thresholds are chosen. Without `--data` the bundle has no operating points and parity is checked on noise.
`--with` adds the model at other precisions, for GPUs (see training/precisions.py).
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import (
    DESCRIPTION_FILE,
    FORMAT_VERSION,
    MODEL_FILE,
    Bundle,
    BundleClass,
    BundleDescription,
    InputDescription,
    ScoreDescription,
    TrainingRecord,
    write_bundle,
)
from ros_ood_perception.files.strict_yaml import SchemaError, from_mapping
from ros_ood_perception.inference.engine import EngineError, EngineOutput
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import Parity, ParityMeter, fixed_frames
from ros_ood_perception.number_arguments import image_size, real
from ros_ood_perception.shown_text import error_line
from training.bundles.bundle_folder import check_bundle_folder
from training.bundles.onnx_graph import ExportError, onnx_bytes
from training.bundles.operating_points import measured_operating_points
from training.data.data_config import DataConfig
from training.data.registry import open_training_frames, open_validation_frames
from training.precisions import CALIBRATION_FRAMES, COMPARED_FRAMES, VARIANTS, make_variants, spread
from training.runs.checkpoint import CheckpointError, load_checkpoint, reading
from training.segmenter.anomaly_scores import SCORES
from training.segmenter.deployed_segmenter import DEFAULT_SCORE, DeployedSegmenter
from training.segmenter.efficientnet_lite import encoder_origin
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig

LABEL_AGREEMENT = 0.999
SCORE_DIFFERENCE = 1e-4
TEMPERATURES = (1e-3, 1e3)
"""Smallest and largest that may be given; beyond, float32 logits lose their differences."""


def deployed_segmenter(
    checkpoint: dict[str, Any],
    input_size: tuple[int, int] | None,
    temperature: float,
    score: str = DEFAULT_SCORE,
) -> DeployedSegmenter:
    """The network of a checkpoint as it ships, in evaluation mode.

    Args:
        input_size: height and width of the network's input; None takes the one it was validated with.
    """
    config = from_mapping(checkpoint["config"]["segmenter"], SegmenterConfig, "the checkpoint's configuration")
    # Older checkpoints do not have the encoder's settings: pretrained weights are then asked for once more.
    segmenter = LadderSegmenter(config, len(checkpoint["classes"]), checkpoint.get("encoder"))
    segmenter.load_state_dict(checkpoint["exported"])
    size = input_size or tuple(checkpoint["config"]["input_size"])
    try:
        segmenter.check_input_size(size)
    except ValueError as error:
        raise ExportError(f"--size {size[0]}x{size[1]}: {error}") from error
    return DeployedSegmenter(segmenter, size, temperature, score).eval()


def measure_parity(model: DeployedSegmenter, bundle: Bundle, images: Iterable[NDArray[np.uint8]]) -> Parity:
    """Run both on the same frames, (H, W, 3) uint8 each."""
    engine = OnnxRuntimeEngine(bundle)
    meter = ParityMeter()
    for image in images:
        with torch.no_grad():
            semantic, anomaly = model(torch.from_numpy(image)[None])
        meter.add(EngineOutput(semantic.numpy(), anomaly.numpy()), engine.run(image[None]))
    engine.close()
    return meter.parity()


def require_parity(parity: Parity) -> None:
    """Refuse a graph that is not the network.

    Raises:
        ExportError: with the numbers.
    """
    if parity.label_agreement <= LABEL_AGREEMENT or parity.score_difference > SCORE_DIFFERENCE:
        raise ExportError(
            f"the exported graph differs from the network: {parity.label_agreement:.4%} of the labels agree (more than "
            f"{LABEL_AGREEMENT:.1%} needed), the score differs by up to {parity.score_difference:.1e} "
            f"({SCORE_DIFFERENCE:.0e} allowed)"
        )


def export_bundle(
    checkpoint_path: Path,
    folder: Path,
    data: Path | None = None,
    input_size: tuple[int, int] | None = None,
    temperature: float = 1.0,
    score: str = DEFAULT_SCORE,
    variants: Sequence[str] = ("fp16",),
) -> Parity:
    """Write a bundle, verified and compared with the network.

    Args:
        variants: of `training.precisions.VARIANTS`.

    Raises:
        CheckpointError, ExportError, EngineError, OutputFolderError, OSError: as their messages say; `folder` is then
            as it was.
    """
    read = {"the checkpoint": checkpoint_path, "--data": data}
    check_bundle_folder("the bundle's folder", folder, variant_files(), read)
    checkpoint = load_checkpoint(checkpoint_path)
    if "exported" not in checkpoint:
        raise ExportError(f"{checkpoint_path}: holds no segmenter (it is of a {checkpoint.get('kind')} run)")
    with reading(checkpoint_path):
        data_config = from_mapping(checkpoint["config"]["data"], DataConfig, str(checkpoint_path))
        model = deployed_segmenter(checkpoint, input_size, temperature, score)
        progression = checkpoint["progression"]
        data_set = checkpoint["data_set"]
        # Older checkpoints are of one set, and name it only.
        trained_on = data_set.get("parts", [(data_set["name"], data_config.train)])
        properties = {"name": folder.resolve().name, "weights_licence": checkpoint["data_set"]["licence"]}
        contents = onnx_bytes(model, properties | encoder_origin(checkpoint["config"]["segmenter"].get("pretrained")))
        description = BundleDescription(
            format_version=FORMAT_VERSION,
            name=folder.resolve().name,
            model_sha256=hashlib.sha256(contents).hexdigest(),
            weights_licence=checkpoint["data_set"]["licence"],
            classes=tuple(BundleClass(i, name, tuple(rgb)) for i, (name, rgb) in enumerate(checkpoint["classes"])),
            input=InputDescription(*model.input_size),
            score=ScoreDescription(name=score, temperature=temperature),
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
    bundle = Bundle(folder, description, contents)
    calibration: list[NDArray[np.uint8]] = []
    if data is None:
        noise = np.random.default_rng(0).integers(0, 256, (2, *model.input_size, 3), np.uint8)
        parity = measure_parity(model, bundle, noise)
        compared, what = fixed_frames(*model.input_size), "drawn street scenes"
    else:
        frames = open_validation_frames(data_config.set, data, data_config.validation, data_config.held_out)
        parity = measure_parity(model, bundle, (frames[i].image for i in range(len(frames))))
        what = f"{frames.title} ({data_config.validation}, {len(frames)} frames)"
        description = replace(description, operating_points=measured_operating_points(bundle, frames, what))
        compared, what = spread(frames, COMPARED_FRAMES), f"{frames.title} ({data_config.validation})"
        if "int8" in variants:
            training_frames = open_training_frames(data_config.set, data, data_config.train, data_config.held_out)
            calibration = spread(training_frames, CALIBRATION_FRAMES)
    require_parity(parity)
    made, files = make_variants(bundle, model, variants, compared, what, calibration)
    # Nothing of an older bundle is touched until all of the new one is there.
    check_bundle_folder("the bundle's folder", folder, variant_files(), {})
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (DESCRIPTION_FILE, MODEL_FILE, *variant_files()):
        (folder / stale).unlink(missing_ok=True)
    write_bundle(folder, replace(description, variants=made), contents, files)
    return parity


def variant_files() -> tuple[str, ...]:
    """Names of the files that variants of a bundle have."""
    return tuple(file for _, _, file in VARIANTS.values())


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="best.pt or last.pt of a training run")
    parser.add_argument(
        "bundle", type=Path, help="folder to write, and the model's name; the files of a bundle in it are replaced"
    )
    parser.add_argument("--data", type=Path, help="folder with the splits of the training set")
    parser.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH of the network's input (default: the validated one)"
    )
    parser.add_argument(
        "--temperature", type=real(*TEMPERATURES), default=1.0, help="T of the anomaly score (default: 1)"
    )
    parser.add_argument(
        "--score", choices=SCORES, default=DEFAULT_SCORE, help=f"anomaly score (default: {DEFAULT_SCORE})"
    )
    parser.add_argument(
        "--with",
        dest="variants",
        nargs="*",
        choices=VARIANTS,
        default=["fp16"],
        metavar="NAME",
        help=f"the model at other precisions, of {', '.join(VARIANTS)} (default: fp16); int8 needs --data",
    )
    options = parser.parse_args(arguments)
    try:
        parity = export_bundle(
            options.checkpoint,
            options.bundle,
            options.data,
            options.size,
            options.temperature,
            options.score,
            options.variants,
        )
    except (CheckpointError, ExportError, EngineError, SchemaError, OSError, ValueError) as error:
        print(f"export: {error_line(error)}", file=sys.stderr)
        return 2
    print(
        f"{options.bundle}: {parity.label_agreement:.4%} of the labels agree with PyTorch on {parity.frames} frames, "
        f"the score differs by at most {parity.score_difference:.1e}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
