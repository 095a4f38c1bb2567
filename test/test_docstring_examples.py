"""The examples in docstrings give what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ros_ood_perception", "training")
OPTIONAL = {"rclpy", "std_msgs", "sensor_msgs", "tensorrt", "torch", "onnx", "transformers", "lightning_fabric"}
"""What is not installed everywhere; a module that needs it is skipped there."""


def modules_with_examples() -> list[str]:
    """Found by their text: nothing is imported before a test runs."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    found = [path for path in files if ">>> " in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found]


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_give_what_they_show(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed")
    if hasattr(module, "torch"):
        module.torch.manual_seed(0)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.attempted > 0, f"{name} has no example that doctest finds"
    assert result.failed == 0


@pytest.mark.parametrize("package", ["training.flow", "training.joint", "training.metrics", "training.segmenter"])
def test_the_parts_of_the_method_have_examples(package: str) -> None:
    assert any(name.startswith(f"{package}.") for name in modules_with_examples())
