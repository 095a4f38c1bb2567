from __future__ import annotations

import subprocess
import sys
import time

HANGS = """
import ctypes
from ros_ood_perception.node.process.bounded_exit import LastLine
LastLine().{arm}
ctypes.PyDLL(None).sleep(60)  # with Python's lock, as rclpy calls the middleware
"""
LIVES = """
import time
from ros_ood_perception.node.process.bounded_exit import LastLine
line = LastLine()
for _ in range(20):
    line.beat(0.2)
    time.sleep(0.1)
print("alive")
line.leave_within(0.5)
line.beat(60)
line.release()
time.sleep(1)
print("later")
"""
LEAVES_TOO_SLOWLY = """
import time
from ros_ood_perception.node.process.bounded_exit import LastLine
line = LastLine()
line.beat(60)
line.leave_within(0.3)
for _ in range(600):
    line.beat(60)
    time.sleep(0.1)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)


def test_what_hangs_with_pythons_lock_ends_with_an_error_and_its_stack() -> None:
    for arm, timeout in (("leave_within(0.5)", "0:00:00.500000"), ("beat(0.5)", "0:00:01.500000")):
        started = time.monotonic()
        done = run(HANGS.format(arm=arm))
        assert time.monotonic() - started < 60
        assert done.returncode == 1
        assert f"Timeout ({timeout})!" in done.stderr
        assert 'File "<string>", line 5' in done.stderr


def test_who_lives_and_leaves_in_time_is_left_alone() -> None:
    done = run(LIVES)
    assert (done.returncode, done.stdout) == (0, "alive\nlater\n"), done.stderr


def test_who_has_begun_to_leave_gets_no_more_time_by_being_alive() -> None:
    started = time.monotonic()
    done = run(LEAVES_TOO_SLOWLY)
    assert time.monotonic() - started < 60
    assert done.returncode == 1
