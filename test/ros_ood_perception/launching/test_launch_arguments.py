from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["launch_arguments", "launched_cameras", "topic_presets", "transport_environment"])
def test_what_a_launch_file_imports_needs_neither_numpy_nor_cv2(module: str) -> None:
    """The Python of `ros2 launch` may not have the packages of the node."""
    code = f"import sys, ros_ood_perception.launching.{module}; print(*sorted({{'numpy', 'cv2'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.split() == []
