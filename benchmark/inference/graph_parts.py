"""What the graph of a bundle takes beside its bare network, on the CPU. The goal is 1.10 of the network alone.

    python -m benchmark.inference.graph_parts [BUNDLE] [--size 480 640] [--rounds 60] [--threads 0] [--by-node]

The bare network is everything from the first convolution to the logits. It is cut out of the same file and runs in turn
with the whole graph, so that other load on the machine is the same for both. Printed are the ratios of the medians of
the wall times, which the goal is about, and of the CPU times, which other load changes less. `--by-node` adds the
shortest time of each node before the first convolution and after the logits, from ONNX Runtime's profile.

Exit code 1: the ratio of the wall times is above the goal.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.files.package_files import package_file
from ros_ood_perception.inference.parity import fixed_frames
from ros_ood_perception.number_arguments import whole
from training.bundles.graph import LOGITS

GOAL = 1.10
WARM_UP = 5
PROFILED = 40


def session(model: bytes, threads: int, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """With the options of the node's engine."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def first_convolution_input(graph: onnx.GraphProto) -> str:
    """Name of the tensor that enters the network."""
    return next(node.input[0] for node in graph.node if node.op_type == "Conv")


def bare_network(model: bytes) -> tuple[bytes, str]:
    """The graph from the first convolution to the logits, and the name of its input."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
    entrance = first_convolution_input(graph.graph)
    return onnx.utils.Extractor(graph).extract_model([entrance], [LOGITS]).SerializeToString(), entrance


def entering(model: bytes, tensor: str, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The value of a tensor of the graph for an image."""
    graph = onnx.load_from_string(model)
    graph.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    return np.asarray(session(graph.SerializeToString(), 0).run([tensor], {"image": image[None]})[0])


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    started, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - started, time.process_time() - cpu


def node_times(model: bytes, image: NDArray[np.uint8], threads: int) -> list[tuple[str, str, float]]:
    """Operator, name and shortest milliseconds of each node, in the order in which they run."""
    with tempfile.TemporaryDirectory() as folder:
        profiled = session(model, threads, Path(folder) / "profile")
        for _ in range(WARM_UP + PROFILED):
            profiled.run(None, {"image": image[None]})
        events = json.loads(Path(profiled.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["args"]["op_name"], event["name"].removesuffix("_kernel_time")
            times.setdefault(key, []).append(event["dur"] / 1e3)
    return [(*key, min(values[WARM_UP:])) for key, values in times.items()]


def print_nodes(nodes: list[tuple[str, str, float]]) -> None:
    """Print the nodes before the first convolution and after the logits, and the sums of the three parts."""
    convolutions = [index for index, (operator, name, _) in enumerate(nodes) if operator == "Conv"]
    # The last convolution of the network is the one that makes the logits.
    last = next(i for i in convolutions if nodes[i][1].startswith((LOGITS, "/segmenter/classify")))
    parts = {
        "before the network": nodes[: convolutions[0]],
        "network": nodes[convolutions[0] : last + 1],
        "after the logits": nodes[last + 1 :],
    }
    for part, those in parts.items():
        print(f"{part}: {sum(value for *_, value in those):.2f} ms")
        if part != "network":
            for operator, name, value in those:
                print(f"  {value:7.3f} ms  {operator:<16} {name}")


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=package_file("models/camvid_small"))
    parser.add_argument("--size", type=whole(1, 10**5), nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=whole(3, 10**6), default=60)
    parser.add_argument("--threads", type=whole(0, 1024), default=0, help="0: every CPU")
    parser.add_argument("--by-node", action="store_true")
    options = parser.parse_args()
    model = read_bundle(options.bundle).model
    image = np.asarray(cv2.resize(fixed_frames(480, 640)[0], tuple(options.size)[::-1]), np.uint8)
    network, entrance = bare_network(model)
    inside = entering(model, entrance, image)
    sessions = session(model, options.threads), session(network, options.threads)
    calls = [lambda: sessions[0].run(None, {"image": image[None]}), lambda: sessions[1].run(None, {entrance: inside})]
    for call in calls * WARM_UP:
        call()
    times: list[list[tuple[float, float]]] = [[], []]
    for number in range(options.rounds):
        for index in (0, 1) if number % 2 else (1, 0):
            times[index].append(timed(calls[index]))
    wall, cpu = ([statistics.median(both[index] for both in of_one) * 1e3 for of_one in times] for index in range(2))
    print(
        f"{options.size[0]}x{options.size[1]}, medians of {options.rounds} rounds     whole graph  bare network  ratio"
    )
    print(f"wall time, ms (goal: at most {GOAL:.2f})      {wall[0]:>16.1f} {wall[1]:>13.1f} {wall[0] / wall[1]:>6.3f}")
    print(f"CPU time, ms                                 {cpu[0]:>16.1f} {cpu[1]:>13.1f} {cpu[0] / cpu[1]:>6.3f}")
    if options.by_node:
        print_nodes(node_times(model, image, options.threads))
    return 1 if wall[0] / wall[1] > GOAL else 0


if __name__ == "__main__":
    sys.exit(main())
