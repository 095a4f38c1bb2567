"""A stand-in for the module `tensorrt`, of 8.6, 10 or 11: plans are ONNX files, and ONNX Runtime runs them.

It has what that version has and refuses what it refuses, as far as our engine comes near it; memory is that of
`stand_in_cuda.c`. So everything of ours runs as on a vehicle: keys, cache, gate, buffers, graphs. What it cannot show
is whether the real one likes our graphs, and how fast it is.
"""

from __future__ import annotations

import ctypes
import enum
import json
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

# Before onnxruntime: it turns its telemetry off.
import ros_ood_perception as ros_ood_perception  # isort: split

import onnxruntime

MAGIC = b"STAND-IN PLAN\n"


class Recorder:
    """What tests look at and set."""

    def __init__(self, driver: ctypes.CDLL) -> None:
        self.driver = driver
        self.builds: list[dict[str, Any]] = []
        self.deserialised = 0
        self.executed = 0
        self.spoil: Callable[[dict[str, np.ndarray]], None] = lambda outputs: None
        self._captured: dict[int, Callable[[], None]] = {}
        self._callback = ctypes.CFUNCTYPE(None, ctypes.c_long)(lambda graph: self._captured[graph]())
        driver.stand_in_on_launch(self._callback)
        driver.stand_in_captured.restype = driver.stand_in_launched.restype = ctypes.c_long

    def queue(self, work: Callable[[], None]) -> None:
        """Do it, or record it where a graph is being captured."""
        if self.driver.stand_in_capturing():
            self._captured[self.driver.stand_in_captured()] = work
        else:
            work()


def _enumeration(name: str, members: list[str], start: int) -> Any:
    make: Any = enum.IntEnum
    return make(name, members, start=start)


def stand_in_tensorrt(version: str, recorder: Recorder) -> types.ModuleType:
    """The module, as `import tensorrt` would give it."""
    major = int(version.split(".")[0])
    trt: Any = types.ModuleType("tensorrt")
    trt.__version__ = version
    network_flags = {8: ["EXPLICIT_BATCH"], 10: ["EXPLICIT_BATCH", "STRONGLY_TYPED"], 11: ["STRONGLY_TYPED"]}[major]
    builder_flags = ["TF32"] if major == 11 else ["FP16", "INT8", "TF32", "OBEY_PRECISION_CONSTRAINTS"]
    for name, members, start in (
        ("NetworkDefinitionCreationFlag", network_flags, 0),
        ("BuilderFlag", builder_flags, 0),
        ("MemoryPoolType", ["WORKSPACE"], 0),
        ("TacticSource", ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"], 3),
        ("TensorIOMode", ["NONE", "INPUT", "OUTPUT"], 0),
        ("LayerType", ["CONSTANT", "SHAPE", "CAST", "OTHER"], 0),
        ("DataType", ["float32", "float16", "uint8", "int64", "int8", "bool"], 0),
    ):
        setattr(trt, name, _enumeration(name, members, start))
    trt.float32, trt.uint8 = trt.DataType.float32, trt.DataType.uint8

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

    trt.ILogger = ILogger
    if major >= 10:
        trt.IProgressMonitor = type("IProgressMonitor", (), {})

    def type_of(kind: int) -> Any:
        return trt.DataType[np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).name]

    class Network:
        def __init__(self, flags: int) -> None:
            if major == 8:
                assert flags == 1
            else:
                assert flags & 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            self.model = onnx.ModelProto()
            self.shape: tuple[int, ...] = (-1, -1, -1, 3)
            self.layers: list[Any] = []

        @property
        def num_layers(self) -> int:
            return len(self.layers)

        def get_layer(self, index: int) -> Any:
            return self.layers[index]

        @property
        def num_outputs(self) -> int:
            return len(self.model.graph.output)

        def get_output(self, index: int) -> Any:
            return types.SimpleNamespace(name=self.model.graph.output[index].name)

        def get_input(self, index: int) -> Any:
            assert index == 0
            network = self

            class Input:
                name = "image"
                shape = property(lambda self: network.shape, lambda self, shape: setattr(network, "shape", shape))

            return Input()

        def mark_output(self, tensor: Any) -> None:
            self.model.graph.output.append(onnx.helper.make_tensor_value_info(tensor.name, 1, None))

        def unmark_output(self, tensor: Any) -> None:
            [output] = [o for o in self.model.graph.output if o.name == tensor.name]
            self.model.graph.output.remove(output)

    class Layer:
        def __init__(self, node: onnx.NodeProto, kinds: dict[str, int]) -> None:
            self.type = getattr(trt.LayerType, node.op_type.upper(), trt.LayerType.OTHER)
            self.node = node
            self.num_outputs = len(node.output)
            self.precision: Any = None
            self.output_types: dict[int, Any] = {}
            self._outputs = [
                types.SimpleNamespace(name=name, dtype=type_of(kinds[name]), is_shape_tensor=kinds[name] == 7)
                for name in node.output
            ]

        def get_output(self, index: int) -> Any:
            return self._outputs[index]

        def set_output_type(self, index: int, kind: Any) -> None:
            self.output_types[index] = kind

    class OnnxParser:
        def __init__(self, network: Network, logger: Any) -> None:
            self._network = network
            self.num_errors = 0

        def parse(self, contents: bytes) -> bool:
            try:
                model = onnx.load_from_string(contents)
                inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
            except Exception:  # whatever protobuf says of bytes that are none
                self.num_errors = 1
                return False
            kinds = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
            self._network.model = model
            self._network.layers = [Layer(node, kinds) for node in model.graph.node]
            return True

        def get_error(self, index: int) -> Any:
            return types.SimpleNamespace(desc=lambda: "the stand-in cannot parse it")

    class Config:
        def __init__(self) -> None:
            self.flags = {trt.BuilderFlag.TF32}
            self.profiles: list[Any] = []
            self.tactics: int | None = None
            self.timings = b""
            self.workspace = 0
            self.progress_monitor: Any = None

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            self.workspace = size

        def set_flag(self, flag: Any) -> None:
            assert major == 8, "a strongly typed network takes no precision flags"
            self.flags.add(flag)

        def clear_flag(self, flag: Any) -> None:
            self.flags.discard(flag)

        def set_tactic_sources(self, sources: int) -> None:
            self.tactics = sources

        def add_optimization_profile(self, profile: Any) -> None:
            self.profiles.append(profile.shapes)

        def create_timing_cache(self, contents: bytes) -> Any:
            return types.SimpleNamespace(contents=contents, serialize=lambda: contents + b"timed ")

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> None:
            self.cache = cache

        def get_timing_cache(self) -> Any:
            return self.cache

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, Any] = {}

        def set_shape(self, name: str, smallest: Any, best: Any, largest: Any) -> None:
            self.shapes[name] = (smallest, best, largest)

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        create_network = staticmethod(Network)
        create_builder_config = staticmethod(Config)
        create_optimization_profile = staticmethod(Profile)

        def build_serialized_network(self, network: Network, config: Config) -> bytes:
            if config.progress_monitor is not None:
                config.progress_monitor.phase_start("Building", None, 1)
                assert config.progress_monitor.step_complete("Building", 0)
                config.progress_monitor.phase_finish("Building")
            else:
                assert major == 8
            pinned = [layer.node.op_type for layer in network.layers if layer.precision == trt.float32]
            unpinned = [
                layer.node.op_type
                for layer in network.layers
                if layer.precision is None and layer.get_output(0).dtype == trt.float32
            ]
            about = {
                "version": version,
                "shape": list(network.shape),
                "profiles": config.profiles,
                "flags": sorted(flag.name for flag in config.flags),
                "tactics": config.tactics,
                "workspace": config.workspace,
                "timings": config.cache.contents.decode(),
                "pinned": sorted(set(pinned)),
                "pinned_convolutions": pinned.count("Conv"),
                "unpinned": sorted(set(unpinned)),
            }
            recorder.builds.append(about)
            return MAGIC + json.dumps(about).encode() + b"\n" + network.model.SerializeToString()

    class Context:
        def __init__(self, engine: Any) -> None:
            self._engine, self._addresses = engine, dict[str, int]()
            self._shape: tuple[int, ...] = ()

        def set_tensor_address(self, name: str, address: int) -> bool:
            self._addresses[name] = address
            return True

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self._shape = tuple(shape)
            return name == "image"

        def execute_async_v3(self, stream: int) -> bool:
            assert stream
            shape, addresses = self._shape, dict(self._addresses)
            recorder.queue(lambda: self._engine.execute(shape, addresses))
            return True

    class Engine:
        def __init__(self, about: dict[str, Any], model: bytes) -> None:
            self._about = about
            self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            self._names = ["image", *(output.name for output in self._session.get_outputs())]
            sample = self._session.run(None, {"image": np.zeros((1, 8, 8, 3), np.uint8)})
            self._kinds = {"image": np.dtype(np.uint8)} | {n: a.dtype for n, a in zip(self._names[1:], sample)}  # noqa: B905
            self._shapes = {"image": tuple(about["shape"])}
            self._shapes |= {n: (-1, *a.shape[1:]) for n, a in zip(self._names[1:], sample)}  # noqa: B905
            self.num_io_tensors = len(self._names)

        def get_tensor_name(self, index: int) -> str:
            return self._names[index]

        def get_tensor_mode(self, name: str) -> Any:
            return trt.TensorIOMode.INPUT if name == "image" else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return trt.DataType[self._kinds[name].name]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._shapes[name]

        def create_execution_context(self) -> Context:
            return Context(self)

        def execute(self, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
            recorder.executed += 1
            size = int(np.prod(shape))
            image = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(addresses["image"])).reshape(shape)
            found = self._session.run(self._names[1:], {"image": image})
            outputs = {name: array.copy() for name, array in zip(self._names[1:], found, strict=True)}
            recorder.spoil(outputs)
            for name, array in outputs.items():
                ctypes.memmove(addresses[name], np.ascontiguousarray(array).ctypes.data, array.nbytes)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            recorder.deserialised += 1
            if not plan.startswith(MAGIC):
                self._logger.log(ILogger.ERROR, "serialized plan is of another kind")
                return None
            about, _, model = plan[len(MAGIC) :].partition(b"\n")
            return Engine(json.loads(about), model)

    for part in (OnnxParser, Builder, Runtime):
        setattr(trt, part.__name__, part)
    return trt  # type: ignore[no-any-return]
