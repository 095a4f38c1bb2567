"""The kind of a source, by what it is on the disk."""

from __future__ import annotations

from pathlib import Path

from training.importing.imported_network import ImportedNetwork
from training.importing.onnx_source import onnx_network
from training.importing.request import ImportRequest
from training.importing.transformers_source import transformers_network
from training.segmenter.networks.refusal import NetworkRefusedError


def opened_source(request: ImportRequest) -> ImportedNetwork:
    """Load the network of a request.

    Raises:
        NetworkRefusedError: it cannot become a bundle; the message says why, and what to do.
    """
    path = Path(request.source)
    if path.is_file():
        return onnx_network(request, path)
    looks_like_a_path = request.source.startswith((".", "/", "~")) or request.source.count("/") > 1
    if not path.is_dir() and (looks_like_a_path or path.suffix == ".onnx"):
        raise NetworkRefusedError(f"{request.source}: no such file or folder")
    if request.normalisation is not None or request.bgr:
        raise NetworkRefusedError("--mean, --std and --channel-order are for an ONNX file; a folder has its own")
    return transformers_network(request)
