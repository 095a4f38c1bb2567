"""The names of engines and of their number formats. Imports no numpy: the launch files read them."""

from __future__ import annotations

from typing import Literal

ENGINES = ("auto", "tensorrt", "torch", "onnxruntime")
PRECISIONS = ("fp16", "fp32", "int8")

Precision = Literal["fp16", "fp32", "int8"]
