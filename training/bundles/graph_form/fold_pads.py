"""Constant padding in front of a convolution, folded into the convolution.

For padding that differs between the sides, PyTorch's exporter writes a Pad node, whose amounts are computed by a dozen
nodes from constants. A convolution of ONNX has its own padding for each side. It needs no copy of the map, every engine
supports it, and TensorRT 8.6 reads it without shape tensors.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator


def fold_pads(graph: onnx.ModelProto) -> None:
    """Fold every Pad of zeros around height and width into the convolutions that read it, in place.

    Other Pads stay, also those that other nodes read. Unused nodes are removed.
    """
    for node in [node for node in graph.graph.node if node.op_type == "Pad"]:
        users = [user for user in graph.graph.node if node.output[0] in user.input]
        outputs = {output.name for output in graph.graph.output}
        pads = _constant(graph, node.input[1])
        value = _constant(graph, node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        mode = next((a.s for a in node.attribute if a.name == "mode"), b"constant")
        if pads is None or value is None or np.any(value) or mode != b"constant" or node.output[0] in outputs:
            continue
        amounts = pads.tolist()
        around = [amounts[2], amounts[3], amounts[6], amounts[7]] if len(amounts) == 8 else [-1]
        elsewhere = [amounts[i] for i in (0, 1, 4, 5)] if len(amounts) == 8 else []
        convolutions = all(user.op_type == "Conv" and node.output[0] == user.input[0] for user in users)
        if not convolutions or any(elsewhere) or min(around) < 0:
            continue
        for user in users:
            own = next((list(a.ints) for a in user.attribute if a.name == "pads"), [0, 0, 0, 0])
            kept = [attribute for attribute in user.attribute if attribute.name not in ("pads", "auto_pad")]
            del user.attribute[:]
            user.attribute.extend(kept)
            together = [a + b for a, b in zip(own, around, strict=True)]
            user.attribute.append(onnx.helper.make_attribute("pads", together))
            user.input[0] = node.input[0]
        graph.graph.node.remove(node)
    _remove_unread(graph)


def _constant(graph: onnx.ModelProto, name: str) -> NDArray[np.generic] | None:
    """The value of a tensor that depends on constants only; None if it depends on the graph's input."""
    producers = {output: node for node in graph.graph.node for output in node.output}
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    wanted, needed, initializers = [name], set(), {}
    while wanted:
        tensor = wanted.pop()
        if tensor in stored:
            initializers[tensor] = stored[tensor]
        elif tensor in producers:
            if id(producers[tensor]) not in needed:
                needed.add(id(producers[tensor]))
                wanted += [source for source in producers[tensor].input if source]
        else:
            return None
    nodes = [node for node in graph.graph.node if id(node) in needed]
    result = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None)
    part = onnx.helper.make_graph(nodes, "constant", [], [result], list(initializers.values()))
    model = onnx.helper.make_model(part, opset_imports=graph.opset_import, ir_version=graph.ir_version)
    value: NDArray[np.generic] = ReferenceEvaluator(model).run(None, {})[0]
    return value


def _remove_unread(graph: onnx.ModelProto) -> None:
    while True:
        read = {name for node in graph.graph.node for name in node.input} | {o.name for o in graph.graph.output}
        unread = [node for node in graph.graph.node if not read.intersection(node.output)]
        if not unread:
            break
        for node in unread:
            graph.graph.node.remove(node)
    kept = [tensor for tensor in graph.graph.initializer if tensor.name in read]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
