"""The model of a bundle at other precisions, for engines that gain from them."""

from __future__ import annotations

import copy
import logging
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from ros_ood_perception.bundle.model_bundle import Bundle, ModelVariant, write_bundle
from ros_ood_perception.bundle.onnx_model.graph import HEIGHT, WIDTH, infer
from ros_ood_perception.bundle.onnx_model.model_file import read_onnx
from ros_ood_perception.bundle.onnx_model.operators import OPERATORS
from ros_ood_perception.bundle.onnx_model.rules import Call
from ros_ood_perception.inference.onnxruntime_engine import OnnxRuntimeEngine
from ros_ood_perception.inference.parity import ParityMeter, fixed_frames, require_parity
from training.bundles.fold_batch_norms import folded
from training.bundles.folder import check_bundle_folder
from training.bundles.graph import LOGITS, MASK_SUMS, GraphError
from training.bundles.half_graph import with_half_network
from training.bundles.network import segmenter_of_bundle
from training.bundles.onnx_export import ExportError, finished, onnx_bytes
from training.data.arguments import DataArgument, open_frames
from training.segmenter.deployed_segmenter import DeployedSegmenter
from training.segmenter.ladder_segmenter import SegmenterConfig

Precision = Literal["fp16", "int8"]
VARIANTS: tuple[Precision, ...] = get_args(Precision)
"""The precisions that a bundle can have besides fp32, as the command line has them."""

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
    with tempfile.TemporaryDirectory() as folder, without_quantiser_hints():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            graph,
            str(path),
            CalibrationFrames(frames),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=unquantised_convolutions(graph.graph),
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


@contextmanager
def without_quantiser_hints() -> Iterator[None]:
    """Without the quantiser's advice to fold the graph first: it is folded."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def quantised_share(model: bytes) -> float:
    """The share of a graph's multiplications that int8 quantises: those of its convolutions, 0 to 1.

    Args:
        model: of a bundle, float32. Its last convolution counts too.
    """
    found = infer(read_onnx(model), (1, HEIGHT, WIDTH))
    counts = dict.fromkeys(("Conv", "MatMul"), 0)
    for node in found.model.nodes:
        if node.operator in counts:
            call = Call(node, [found.tensors[name] if name else None for name in node.inputs])
            elements = math.prod(side for side in found.tensors[node.outputs[0]].shape if isinstance(side, int))
            counts[node.operator] += elements * OPERATORS[node.operator].rule(call)[2]
    return counts["Conv"] / max(sum(counts.values()), 1)


def share_note(bundle: Bundle) -> str:
    """A sentence on what int8 leaves in float32; empty for a bundle without int8 or with convolutions alone."""
    share = quantised_share(bundle.model)
    if share > 0.99 or "int8" not in {variant.precision for variant in bundle.description.variants}:
        return ""
    return (
        f"int8 quantises the convolutions, {share:.0%} of this network's multiplications; products of matrices stay "
        "float32"
    )


def unquantised_convolutions(graph: onnx.GraphProto) -> list[str]:
    """Names of the convolutions that stay float32: the last ones before the logits, and those after.

    Raises:
        ExportError: there are no others.
    """
    return [*_last_convolutions(graph), *_convolutions_after(graph)]


def _last_convolutions(graph: onnx.GraphProto) -> list[str]:
    """Names of the convolutions with none between them and the logits (or mask sums).

    Raises:
        ExportError: there are no others.
    """
    wanted, last, all_convolutions = {LOGITS, MASK_SUMS}, [], 0
    after = _convolutions_after(graph)
    for node in reversed(graph.node):
        all_convolutions += node.op_type == "Conv" and node.name not in after
        if wanted.intersection(node.output):
            if node.op_type == "Conv":
                last.append(node.name)
            else:
                wanted.update(node.input)
    if all_convolutions == len(last):
        raise ExportError("int8 quantises convolutions, and this network has none before its last; take fp16")
    return last


def _convolutions_after(graph: onnx.GraphProto) -> list[str]:
    """Names of the convolutions that work on the logits (or mask sums)."""
    reached, found = {LOGITS, MASK_SUMS}, []
    for node in graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
            found += [node.name] if node.op_type == "Conv" else []
    return found


class CalibrationFrames(CalibrationDataReader):
    """Frames (H, W, 3) uint8 for ONNX Runtime's quantiser."""

    def __init__(self, frames: Iterable[NDArray[np.uint8]]) -> None:
        self._frames = iter(frames)

    def get_next(self) -> dict[str, Any] | None:
        """See `CalibrationDataReader`."""
        frame = next(self._frames, None)
        return None if frame is None else {"image": frame[None]}


def graph_file(precision: str, further_size: tuple[int, int] | None = None) -> str:
    """Name of a graph in a bundle's folder.

    >>> graph_file("fp32"), graph_file("fp16"), graph_file("fp16", (384, 672))
    ('model.onnx', 'model_fp16.onnx', 'model_384x672_fp16.onnx')
    """
    size = "" if further_size is None else f"_{further_size[0]}x{further_size[1]}"
    return f"model{size}{'' if precision == 'fp32' else f'_{precision}'}.onnx"


@dataclass(frozen=True)
class Compared:
    """The frames that graphs of other precisions are compared on.

    Attributes:
        frames: (H, W, 3) uint8 each.
        what: their description, for the record.
    """

    frames: Sequence[NDArray[np.uint8]]
    what: str

    @classmethod
    def of(cls, data: DataArgument | None, size: tuple[int, int]) -> Compared:
        """Frames of a data set; without one, drawn scenes of a height and width."""
        if data is None:
            return cls(fixed_frames(*size), "drawn street scenes")
        return cls(spread(open_frames(data, ()), COMPARED_FRAMES), f"{data.name} ({data.split or data.path.name})")


def measured_variants(
    bundle: Bundle, graphs: Mapping[str, bytes], compared: Compared, further_size: tuple[int, int] | None = None
) -> tuple[ModelVariant, ...]:
    """Graphs of other precisions, compared with the float32 graph on the CPU.

    Args:
        bundle: of one size.
        graphs: contents by precision.
        further_size: None for the size of `model.onnx`; only file names depend on it.

    Raises:
        EngineError: a graph differs by more than its precision allows.
    """
    if not graphs:
        return ()
    reference = OnnxRuntimeEngine(bundle)
    outputs = [reference.run(frame[None]) for frame in compared.frames]
    reference.close()
    variants = []
    for precision, contents in graphs.items():
        engine = OnnxRuntimeEngine(replace(bundle, model=contents))
        meter = ParityMeter()
        for frame, output in zip(compared.frames, outputs, strict=True):
            meter.add(output, engine.run(frame[None]))
        engine.close()
        parity = meter.parity()
        require_parity(parity, precision, f"the variant {precision}")
        measured_on = f"{compared.what}, {parity.frames} frames, {engine.name} on the CPU"
        # The digest is filled in when the bundle is written.
        variants.append(
            ModelVariant(
                "onnx",
                precision,  # type: ignore[arg-type]
                graph_file(precision, further_size),
                "",
                parity.label_agreement,
                parity.mean_score_difference,
                measured_on,
            )
        )
    return tuple(variants)


def graphs_of_precisions(
    bundle: Bundle, model: DeployedSegmenter | None, names: Sequence[str], calibration: Sequence[NDArray[np.uint8]]
) -> dict[str, bytes]:
    """The network of a bundle of one size at other precisions, by their names.

    Args:
        model: the network that the bundle's graph computes; None makes `fp16` from the graph.
        names: of `VARIANTS`.
        calibration: (H, W, 3) uint8 each, for `int8`.

    Raises:
        ExportError: `int8` has no calibration frames, or a graph cannot be made.
        GraphError: there is no network, and the graph does not name the network's ends.
    """
    properties = {"name": bundle.description.name, "weights_licence": bundle.description.weights_licence}
    found = {}
    for name in names:
        if name == "fp16" and model is not None:
            found[name] = onnx_bytes(half_network(model), properties)
        elif name == "fp16":
            found[name] = finished(with_half_network(bundle.model), properties)
        elif calibration:
            found[name] = quantised_onnx(bundle.model, calibration, properties)
        else:
            raise ExportError("int8 needs calibration frames; give a data set")
    return found


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
    """Make variants of a bundle at each size, from the weights in its graphs, and write them into it.

    Its other variants are kept.

    Args:
        config: of a segmenter that was trained here; None for any other network.

    Raises:
        EngineError, ExportError, GraphError, BundleError: as their messages say.
    """
    given = {"--data": data, "--calibration": calibration}
    read = {option: None if argument is None else argument.path for option, argument in given.items()}
    whole = bundle.description.input
    further = (None, *(size.size for size in whole.further_sizes))
    check_bundle_folder("the bundle", bundle.folder, [graph_file(n, size) for size in further for n in names], read)
    calibrating = [] if calibration is None else spread(open_frames(calibration, ()), CALIBRATION_FRAMES)
    files = bundle.files()
    variants: list[tuple[ModelVariant, ...]] = []
    for size in further:
        one = bundle.at(size or whole.size)
        model = None if config is None else segmenter_of_bundle(one, config)
        try:
            graphs = graphs_of_precisions(one, model, names, calibrating)
        except GraphError as error:
            raise GraphError(f"{error}; give --config, the configuration that the bundle was trained with") from error
        files |= {graph_file(name, size): contents for name, contents in graphs.items()}
        made = measured_variants(one, graphs, Compared.of(data, one.description.input.size), size)
        kept = [v for v in one.description.variants if v.precision not in graphs]
        variants.append((*kept, *made))
    sizes = tuple(replace(s, variants=v) for s, v in zip(whole.further_sizes, variants[1:], strict=True))
    description = replace(bundle.description, variants=variants[0], input=replace(whole, further_sizes=sizes))
    return write_bundle(bundle.folder, description, bundle.model, files)
