"""Processes of the live part."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.demo_input import DemoError
from ros_ood_perception.parent_process import ends_with_this_process


@contextmanager
def process(arguments: list[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A Python module as a process whose output goes to a file. It is ended with the block, or with this process."""
    with log.open("wb") as output:
        command = ends_with_this_process([sys.executable, "-m", *arguments])
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)
        try:
            yield child
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


def end(child: subprocess.Popen[bytes], name: str, log: Path) -> int:
    """End a process with SIGINT, as Ctrl-C does; returns its exit code.

    Raises:
        DemoError: it does not end.
    """
    child.send_signal(signal.SIGINT)
    try:
        return child.wait(20)
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"the {name} did not end within 20 s of SIGINT; see {log}") from error
