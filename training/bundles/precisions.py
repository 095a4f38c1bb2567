"""The model of a bundle at other precisions, for engines that gain from them."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from ros_ood_perception.bundle.model_bundle import Bundle, ModelVariant, write_bundle
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import Parity, ParityMeter, fixed_frames, require_parity
from training.bundles.fold_batch_norms import folded
from training.bundles.folder import check_bundle_folder
from training.bundles.graph import LOGITS, MASK_SUMS, GraphError
from training.bundles.half_graph import with_half_network
from training.bundles.network import segmenter_of_bundle
from training.bundles.onnx_export import ExportError, finished, onnx_bytes
from training.data.arguments import DataArgument, open_frames
from training.segmenter.deployed_segmenter import DeployedSegmenter
from training.segmenter.ladder_segmenter import SegmenterConfig

VARIANTS = {
    "fp16": ("onnx", "fp16", "model_fp16.onnx"),
    "int8": ("onnx", "int8", "model_int8.onnx"),
}
"""Format, precision and file of each variant, by its name on the command line."""

CALIBRATION_FRAMES = 48
COMPARED_FRAMES = 16


def half_network(model: DeployedSegmenter) -> DeployedSegmenter:
    """A copy with the network in half precision and folded normalisations. The rest stays float32."""
    height, width = model.input_size
    half = copy.deepcopy(model)
    half.segmenter = folded(model.segmenter, torch.zeros(1, 3, height, width)).half()  # type: ignore[assignment]
    # DeployedSegmenter itself casts the logits to float32.
    half.segmenter.register_forward_pre_hook(_to_half)
    return half.eval()


def _to_half(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.half() for tensor in inputs)


def quantised_onnx(model: bytes, frames: Iterable[NDArray[np.uint8]], properties: dict[str, str]) -> bytes:
    """A bundle's float32 graph with Q/DQ nodes before its convolutions, for TensorRT and the CPU engines.

    Quantisation is symmetric with signed 8 bits, and by output channel for weights, as TensorRT requires. Weights stay
    float32 behind their own Q/DQ nodes, and biases stay float32: only this form is read by all versions of TensorRT.
    The last convolution before the logits is not quantised, because classes and score depend on small differences
    there. Products of matrices are not quantised either.

    Args:
        model: opset 17, with the tensor `LOGITS`.
        frames: (H, W, 3) uint8 each, similar to those of the camera.
    """
    graph = onnx.load_from_string(model)
    last = _last_convolutions(graph.graph)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            graph,
            str(path),
            _Frames(frames),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=last,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": ["Conv"],
                "CalibMovingAverage": True,
            },
        )
        quantised = onnx.load(path)
    # The quantiser declares a domain that it does not use.
    used = {node.domain for node in quantised.graph.node}
    kept = [entry for entry in quantised.opset_import if entry.domain in used]
    del quantised.opset_import[:]
    quantised.opset_import.extend(kept)
    quantised.producer_name, quantised.producer_version = graph.producer_name, graph.producer_version
    return finished(quantised, properties)


def _last_convolutions(graph: onnx.GraphProto) -> list[str]:
    """Names of the convolutions with none between them and the logits (or mask sums).

    Raises:
        ExportError: there are no others.
    """
    wanted, last, all_convolutions = {LOGITS, MASK_SUMS}, [], 0
    for node in reversed(graph.node):
        all_convolutions += node.op_type == "Conv"
        if wanted.intersection(node.output):
            if node.op_type == "Conv":
                last.append(node.name)
            else:
                wanted.update(node.input)
    if all_convolutions == len(last):
        raise ExportError("int8 quantises convolutions, and this network has none before its last; take fp16")
    return last


class _Frames(CalibrationDataReader):
    def __init__(self, frames: Iterable[NDArray[np.uint8]]) -> None:
        self._frames = iter(frames)

    def get_next(self) -> dict[str, Any] | None:
        frame = next(self._frames, None)
        return None if frame is None else {"image": frame[None]}


def make_variants(
    bundle: Bundle,
    model: DeployedSegmenter | None,
    names: Sequence[str],
    frames: Sequence[NDArray[np.uint8]],
    what: str,
    calibration: Sequence[NDArray[np.uint8]],
) -> tuple[tuple[ModelVariant, ...], dict[str, bytes]]:
    """Variants of a bundle, each compared with `model.onnx`.

    Args:
        model: the network that the bundle's graph computes; None makes `fp16` from the graph.
        names: of `VARIANTS`.
        frames, what: images to compare on, (H, W, 3) uint8 each, and their description.
        calibration: images for `int8`.

    Returns:
        The variants for the description, and the contents of the files by name.

    Raises:
        EngineError: a variant differs by more than its precision allows.
        ExportError: `int8` has no calibration frames, or a graph cannot be made.
        GraphError: there is no network, and the graph does not name the network's ends.
    """
    properties = {"name": bundle.description.name, "weights_licence": bundle.description.weights_licence}
    reference = OnnxRuntimeEngine(bundle)
    outputs = [reference.run(frame[None]) for frame in frames]
    reference.close()
    variants, files = [], {}
    for name in names:
        kind, precision, file = VARIANTS[name]
        if name == "fp16" and model is not None:
            contents = onnx_bytes(half_network(model), properties)
        elif name == "fp16":
            contents = finished(with_half_network(bundle.model), properties)
        else:
            if not calibration:
                raise ExportError("int8 needs calibration frames; give a data set")
            contents = quantised_onnx(bundle.model, calibration, properties)
        engine = OnnxRuntimeEngine(replace(bundle, model=contents))
        meter = ParityMeter()
        for frame, output in zip(frames, outputs, strict=True):
            meter.add(output, engine.run(frame[None]))
        parity = meter.parity()
        require_parity(parity, precision, f"the variant {name}")
        measured_on = f"{what}, {parity.frames} frames, {engine.name} on the CPU"
        variants.append(_variant(kind, precision, file, parity, measured_on))
        files[file] = contents
        engine.close()
    return tuple(variants), files


def _variant(kind: Any, precision: Any, file: str, parity: Parity, measured_on: str) -> ModelVariant:
    # The digest is filled in when the bundle is written.
    return ModelVariant(kind, precision, file, "", parity.label_agreement, parity.mean_score_difference, measured_on)


def spread(frames: Any, count: int) -> list[NDArray[np.uint8]]:
    """The images of `count` evenly spaced frames, or of all frames if there are fewer."""
    step = max(len(frames) / count, 1.0)
    return [frames[int(i * step)].image for i in range(min(count, len(frames)))]


def add_variants(
    bundle: Bundle,
    config: SegmenterConfig | None,
    names: Sequence[str],
    data: DataArgument | None,
    calibration: DataArgument | None,
) -> Bundle:
    """Make variants of a bundle from the weights in its graph, and write them into it. Its other variants are kept.

    Args:
        config: of a segmenter that was trained here; None for any other network.

    Raises:
        EngineError, ExportError, GraphError, BundleError: as their messages say.
    """
    given = {"--data": data, "--calibration": calibration}
    read = {option: None if argument is None else argument.path for option, argument in given.items()}
    check_bundle_folder("the bundle", bundle.folder, [VARIANTS[name][2] for name in names], read)
    model = None if config is None else segmenter_of_bundle(bundle, config)
    frames, what = fixed_frames(*bundle.description.input.size), "drawn street scenes"
    if data is not None:
        found = open_frames(data, ())
        frames, what = spread(found, COMPARED_FRAMES), f"{data.name} ({data.split or data.path.name})"
    calibrating = [] if calibration is None else spread(open_frames(calibration, ()), CALIBRATION_FRAMES)
    try:
        made, files = make_variants(bundle, model, names, frames, what, calibrating)
    except GraphError as error:
        raise GraphError(f"{error}; give --config, the configuration that the bundle was trained with") from error
    kept = [v for v in bundle.description.variants if v.file not in files]
    files.update({v.file: bundle.variant_bytes(v) for v in kept})
    return write_bundle(bundle.folder, replace(bundle.description, variants=(*kept, *made)), bundle.model, files)
