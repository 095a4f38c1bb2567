"""What our code asks of TensorRT and of the driver is there, in every version that we support."""

from __future__ import annotations

import ctypes
import json
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any

import pytest
from interface_lists import CUDA_LIST, INFERENCE, TENSORRT_LIST, attributes_in_use

from ros_ood_perception.inference.tensorrt.cuda_driver import PROTOTYPES

INTERFACES: dict[str, dict[str, list[str]]] = json.loads(TENSORRT_LIST.read_text())
CUDA: dict[str, dict[str, list[str]]] = json.loads(CUDA_LIST.read_text())
FILES = sorted(INFERENCE.glob("*.py"))
VERSIONS = ("8.6.1", "10.0.1", "10.16.1", "11.4.0")

ONLY_WHERE_THERE_IS_ONE = {("", "IProgressMonitor"), ("IBuilderConfig", "progress_monitor")} | {
    ("IProgressMonitor", method) for method in ("phase_start", "phase_finish", "step_complete")
}
"""Behind `hasattr(trt, "IProgressMonitor")`."""

ONLY_ON_8 = {
    ("BuilderFlag", "OBEY_PRECISION_CONSTRAINTS"),
    ("ILayer", "precision"),
    ("ILayer", "set_output_type"),
}
"""Behind `not hasattr(NetworkDefinitionCreationFlag, "STRONGLY_TYPED")`."""

OF_STR = {("__version__", "split")}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_attribute_that_we_touch_is_in_the_bindings(version: str) -> None:
    there = INTERFACES[version]
    missing = {(owner, name) for owner, name in attributes_in_use(FILES) - OF_STR if name not in there.get(owner, ())}
    if version.startswith("8."):
        assert missing == ONLY_WHERE_THERE_IS_ONE
    else:
        assert missing <= ONLY_ON_8


def test_the_search_sees_what_the_code_touches() -> None:
    used = attributes_in_use(FILES)
    assert {
        ("", "Builder"),
        ("IBuilderConfig", "set_timing_cache"),
        ("IExecutionContext", "execute_async_v3"),
        ("ICudaEngine", "get_tensor_dtype"),
        ("INetworkDefinition", "unmark_output"),
        ("BuilderFlag", "TF32"),
        ("ITimingCache", "serialize"),
        ("ILogger", "log"),
    } <= used
    assert len(used) > 60


def test_an_attribute_that_is_gone_would_be_found(tmp_path: Path) -> None:
    file = tmp_path / "tensorrt_old.py"
    file.write_text("def run(engine, context, trt):\n    engine.num_bindings\n    context.execute_async_v2\n")
    assert attributes_in_use([file]) == {("ICudaEngine", "num_bindings"), ("IExecutionContext", "execute_async_v2")}
    assert "num_bindings" not in INTERFACES["10.0.1"]["ICudaEngine"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_guards_tell_the_versions_apart(version: str) -> None:
    there = INTERFACES[version]["NetworkDefinitionCreationFlag"]
    assert ("STRONGLY_TYPED" in there) == (not version.startswith("8."))
    if version.startswith("8."):
        assert "EXPLICIT_BATCH" in there
        assert {"FP16", "INT8"} <= set(INTERFACES[version]["BuilderFlag"])


C_TYPES: dict[str, Any] = {
    "int": c_int,
    "CUdevice": c_int,
    "CUresult": c_int,
    "CUdevice_attribute": c_int,
    "CUstreamCaptureMode": c_int,
    "unsigned int": c_uint,
    "unsigned long long": c_ulonglong,
    "size_t": c_size_t,
    "CUdeviceptr": c_ulonglong,
    "char*": c_char_p,
    "const char**": POINTER(c_char_p),
    "void*": c_void_p,
    "const void*": c_void_p,
    "void**": POINTER(c_void_p),
    "int*": POINTER(c_int),
    "CUdevice*": POINTER(c_int),
    "size_t*": POINTER(c_size_t),
    "float*": POINTER(c_float),
    "CUdeviceptr*": POINTER(c_ulonglong),
} | {
    name: kind
    for handle in ("CUcontext", "CUstream", "CUevent", "CUgraph", "CUgraphExec")
    for name, kind in ((handle, c_void_p), (f"{handle}*", POINTER(c_void_p)))
}
"""CUdeviceptr is `unsigned long long` on 64-bit machines, enumerations are int, handles pointers to structures."""


@pytest.mark.parametrize("version", ["12.0", "13.5"])
def test_the_drivers_functions_are_called_as_cuda_h_declares_them(version: str) -> None:
    assert ctypes.sizeof(c_void_p) == 8
    declared = {name: tuple(C_TYPES[kind] for kind in kinds) for name, kinds in CUDA[version].items()}
    assert declared == PROTOTYPES
