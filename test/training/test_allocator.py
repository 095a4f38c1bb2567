"""Freed blocks stay with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from training.runs.allocator import keep_freed_memory

def pages_taken_anew():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(12_000_000, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages_taken_anew()
before = pages_taken_anew()
kept = keep_freed_memory()
pages_taken_anew()
print(kept, before, pages_taken_anew())
"""


def test_a_block_is_used_again_and_not_taken_anew() -> None:
    kept, before, after = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    ).stdout.split()
    if kept == "False":
        pytest.skip("malloc is not glibc's")
    assert int(before) > 1000
    assert int(after) < 0.01 * int(before)
