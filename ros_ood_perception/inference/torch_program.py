"""Programs of `torch.export` from a bundle, checked before torch reads them.

`torch.export.load` runs code that a file holds: pickled tensors, guards in Python, expressions that it evaluates. A
bundle is untrusted, and its digest only says that it is whole. So what could hold code is refused here;
`training.precisions` writes none of it.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.export.passes import move_to_device_pass

from ros_ood_perception.inference.engine import EngineError

_SYMBOL = re.compile(r"Symbol\('[su]\d+'(, (positive|integer)=True)*\)")
_EXPRESSION = re.compile(r"([su]\d+|\d+|Add|Mul|Integer|Max|Min|FloorDiv|[ +\-*/(),])*")
_TARGET = re.compile(r"torch\.ops\.aten\.[A-Za-z0-9_]+\.[A-Za-z0-9_]+|_operator\.(getitem|add|sub|mul|floordiv)")
_TENSOR_FILES = re.compile(r"[^/]+/data/(weights|constants)/(weight|tensor)_\d+")
_DESCRIPTIONS = re.compile(r"[^/]+/data/(weights|constants)/model_(weights|constants)_config\.json")
_EMPTY_EXAMPLE = re.compile(r"[^/]+/data/sample_inputs/model\.pt")
_PLAIN = re.compile(r"[^/]+/(archive_format|archive_version|byteorder|\.data/(version|serialization_id))")
_GRAPH = re.compile(r"[^/]+/models/model\.json")
_LARGEST_UNPACKED_BYTES = 4 << 30

Module = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def load_program(contents: bytes, temperature: float, device: str) -> Module:
    """A bundle's program as a module on a device.

    Args:
        temperature: T of the anomaly score, of the bundle's description; it replaces the program's own.

    Returns:
        image (N, H, W, 3) uint8 on `device` -> semantic (N, h, w) uint8, anomaly (N, h, w) float32 in [0, 1].

    Raises:
        EngineError: the program could hold code, is none, or this torch cannot read it.
    """
    _refuse_code(contents)
    try:
        program = torch.export.load(io.BytesIO(contents))
        if "temperature" not in program.state_dict:
            raise EngineError("the torch program has no temperature; export the bundle again")
        program.state_dict["temperature"].fill_(temperature)
        program = move_to_device_pass(program, device)
        module: Any = program.module(check_guards=False)
    except EngineError:
        raise
    except Exception as error:  # torch's readers raise whatever the broken part leads to
        raise EngineError(
            f"torch {torch.__version__} cannot read the bundle's program ({type(error).__name__}: {error}); export the "
            "bundle with a torch of this version"
        ) from error
    return module


def _refuse_code(contents: bytes) -> None:
    for found in _what_could_hold_code(contents):
        raise EngineError(
            f"the bundle's torch program is refused: {found}. Programs of training.export hold plain tensors and "
            "operators of torch alone"
        )


def _what_could_hold_code(contents: bytes) -> Iterator[str]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(contents))
        members = archive.infolist()
        if sum(member.file_size for member in members) > _LARGEST_UNPACKED_BYTES:
            yield f"it unpacks to more than {_LARGEST_UNPACKED_BYTES >> 30} GiB"
            return
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            yield "two of its files have one name"
        graphs = [name for name in names if _GRAPH.fullmatch(name)]
        if len(graphs) != 1:
            yield f"it holds {len(graphs)} graphs"
        for member in members:
            name = member.filename
            if member.compress_type != zipfile.ZIP_STORED:
                yield f"'{name}' is compressed"
            elif _DESCRIPTIONS.fullmatch(name):
                tensors = json.loads(archive.read(member))["config"]
                for tensor, about in tensors.items():
                    path = about["path_name"]
                    if about["use_pickle"] is not False or not re.fullmatch(r"(weight|tensor)_\d+", path):
                        yield f"'{tensor}' is not a plain tensor"
            elif _GRAPH.fullmatch(name):
                yield from _code_in_graph(json.loads(archive.read(member)))
            elif _EMPTY_EXAMPLE.fullmatch(name):
                if member.file_size:
                    yield "it holds pickled example inputs"
            elif not (_TENSOR_FILES.fullmatch(name) or _PLAIN.fullmatch(name)):
                yield f"'{name}' is not part of such a program"
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        yield f"it is not readable ({type(error).__name__}: {error})"


def _code_in_graph(graph: Any) -> Iterator[str]:
    if graph.get("guards_code"):
        yield "it holds guards, which are code"
    pending = [graph]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            for key, value in item.items():
                if key == "target" and not (isinstance(value, str) and _TARGET.fullmatch(value)):
                    yield f"it calls {value!r:.80}"
                elif key == "expr_str" and not (
                    isinstance(value, str) and _EXPRESSION.fullmatch(_SYMBOL.sub("s0", value))
                ):
                    yield f"it holds the expression {value!r:.80}"
                elif key in ("as_custom_obj", "custom_obj", "as_operator", "as_script_object"):
                    yield f"it holds an object ({key})"
                else:
                    pending.append(value)
