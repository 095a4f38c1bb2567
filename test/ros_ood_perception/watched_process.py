"""Runs a command with an empty home, and says what it wrote where and to whom it connected."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ros_ood_perception import telemetry

ROOT = Path(__file__).resolve().parents[2]
CALLS = "connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat"
WRITES = re.compile(r"\b(O_WRONLY|O_RDWR|O_CREAT)\b|\b(creat|mkdir|mkdirat)\(")
ADDRESS = re.compile(r"sin6?_port=htons\((\d+)\).*?\"([0-9a-f.:]+)\"")


@dataclass(frozen=True)
class Watched:
    """What a command and its children did.

    Attributes:
        in_home: files below the home, which was empty, relative to it.
        written: absolute paths that were opened for writing or made; empty where `strace` is not installed.
        addresses: IP addresses that something was sent to, likewise.
    """

    done: subprocess.CompletedProcess[str]
    in_home: frozenset[str]
    written: frozenset[str]
    addresses: frozenset[str]


def watch(command: Sequence[object], folder: Path, **environment: str) -> Watched:
    """Run it in `folder`, without what would turn telemetry off from outside."""
    home, temporary, trace = folder / "home", folder / "temporary", folder / "trace.txt"
    home.mkdir()
    temporary.mkdir()
    unset = {*telemetry.OFF, "ROS_DOMAIN_ID", "ROS_LOG_DIR"}
    kept = {name: value for name, value in os.environ.items() if name not in unset and not name.startswith("XDG_")}
    tracer = []
    if shutil.which("strace"):
        tracer = ["strace", "--seccomp-bpf", "-f", "-qq", "-s", "300", "-e", f"trace={CALLS}", "-o", str(trace)]
    done = subprocess.run(
        [*tracer, *map(str, command)],
        cwd=folder,
        env={**kept, "HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    calls = trace.read_text(errors="replace").splitlines() if tracer else []
    in_home = frozenset(str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir())
    return Watched(done, in_home, frozenset(_written(calls, folder)), frozenset(_addresses(calls)))


def _written(calls: Sequence[str], folder: Path) -> list[str]:
    paths = []
    for call in calls:
        if WRITES.search(call) and " = -1 " not in call and (name := re.search(r'"([^"]*)"', call)):
            paths.append(os.path.normpath(folder / name.group(1)))
    return paths


def _addresses(calls: Sequence[str]) -> list[str]:
    return [found.group(2) for call in calls for found in ADDRESS.finditer(call)]
