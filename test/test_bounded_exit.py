from __future__ import annotations

import subprocess
import sys
import time

HANGS = """
import ctypes
from ros_ood_perception.node.bounded_exit import ends_within
with ends_within(0.5):
    ctypes.PyDLL(None).sleep(60)  # with Python's lock, as rclpy calls the middleware
"""
LEAVES = """
import time
from ros_ood_perception.node.bounded_exit import ends_within
with ends_within(0.2):
    pass
time.sleep(0.5)
print("later")
"""


def test_what_hangs_with_pythons_lock_ends_with_an_error_and_its_stack() -> None:
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, check=False, timeout=120)
    assert time.monotonic() - started < 60
    assert done.returncode == 1
    assert "Timeout (0:00:00.500000)!" in done.stderr
    assert 'File "<string>", line 5' in done.stderr


def test_who_has_left_in_time_is_left_alone() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVES], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "later\n"), done.stderr
