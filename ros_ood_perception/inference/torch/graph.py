"""A bundle's ONNX graph as a torch module. It is built here from checked bytes; no program is read from a bundle.

For one frame of 1920x1080: `semantic, anomaly = TorchGraph(bundle.model, "cuda").for_frames(1, 1080, 1920)(image)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ros_ood_perception.bundle.onnx_model.array_operators import constant_value
from ros_ood_perception.bundle.onnx_model.graph import GraphInfo, infer
from ros_ood_perception.bundle.onnx_model.model_file import OnnxNode, read_onnx
from ros_ood_perception.bundle.onnx_model.rules import Call
from ros_ood_perception.bundle.onnx_model.wire_format import OnnxFileError
from ros_ood_perception.inference.torch.operators import TORCH_OPERATORS

OUTPUTS = ("semantic", "anomaly")


@dataclass(frozen=True)
class _Step:
    function: Callable[..., Tensor]
    inputs: tuple[str, ...]
    output: str
    done_with: tuple[str, ...]


class FrameModule(nn.Module):
    """A graph for one number and size of frames.

    image (N, H, W, 3) uint8 -> semantic (N, h, w) uint8, anomaly (N, h, w) float32 in [0, 1].
    """

    def __init__(self, steps: list[_Step], constants: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._steps, self._constants = steps, dict(constants)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Run the graph: only calls of torch, with fixed shapes."""
        known = dict(self._constants)
        known["image"] = image
        for step in self._steps:
            known[step.output] = step.function(*[known[name] for name in step.inputs])
            for name in step.done_with:
                del known[name]
        return known["semantic"], known["anomaly"]


class TorchGraph(nn.Module):
    """The graph's weights on a device, channels-last where they have four dimensions, and modules for sizes of frames.

    Args:
        contents: of an ONNX file that was checked when the bundle was read.

    Raises:
        OnnxFileError: it has an operator that is not in `TORCH_OPERATORS` (8-bit graphs).
    """

    def __init__(self, contents: bytes, device: str) -> None:
        super().__init__()
        self._model = read_onnx(contents)
        self._device = device
        missing = {node.operator for node in self._model.nodes} - set(TORCH_OPERATORS) - {"Constant", "Shape"}
        if missing:
            raise OnnxFileError(f"the torch engine does not compute {', '.join(sorted(missing))}")
        self._weights: dict[str, nn.Parameter] = {}
        for index, (name, values) in enumerate(self._model.initializers.items()):
            weight = nn.Parameter(self._tensor(values), requires_grad=False)
            self.register_parameter(f"weight_{index}", weight)
            self._weights[name] = weight
        self._constants = {
            node.outputs[0]: self._tensor(constant_value(node))
            for node in self._model.nodes
            if node.operator == "Constant"
        }

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.array(values)).to(self._device)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor

    def for_frames(self, count: int, height: int, width: int) -> FrameModule:
        """The module for frames (count, height, width, 3). All modules share the weights.

        Raises:
            OnnxFileError: the graph does not take such frames.
        """
        info = infer(self._model, (count, height, width))
        made: list[tuple[Callable[..., Tensor], tuple[str, ...], str]] = []
        known: dict[str, Tensor] = {**self._weights, **self._constants}
        with torch.no_grad():
            for node in self._model.nodes:
                [output] = node.outputs
                if output in known:
                    continue
                found = info.tensors[output]
                if found.value is not None:
                    known[output] = self._tensor(found.value)
                    continue
                function, inputs = self._call(node, info)
                if found.constant:
                    # It depends on weights alone, so it is computed once and not for every frame.
                    known[output] = function(*[known[name] for name in inputs])
                else:
                    made.append((function, inputs, output))
        last_use = {name: index for index, (_, inputs, output) in enumerate(made) for name in (*inputs, output)}
        done_with: dict[int, list[str]] = {}
        for name, index in last_use.items():
            if name not in known and name not in OUTPUTS:
                done_with.setdefault(index, []).append(name)
        steps = [_Step(*step, tuple(done_with.get(index, ()))) for index, step in enumerate(made)]
        used = {name for step in steps for name in step.inputs}.union(OUTPUTS)
        return FrameModule(steps, {name: tensor for name, tensor in known.items() if name in used})

    def _call(self, node: OnnxNode, info: GraphInfo) -> tuple[Callable[..., Tensor], tuple[str, ...]]:
        call = Call(node, [info.tensors[name] if name else None for name in node.inputs])
        try:
            function, used = TORCH_OPERATORS[node.operator](call, info.tensors[node.outputs[0]], self._device)
        except OnnxFileError as error:
            raise OnnxFileError(f"{node}: {error}") from error
        return function, tuple(node.inputs[index] for index in used)
