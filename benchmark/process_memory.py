"""Peak memory of a process."""

from __future__ import annotations

import re
from pathlib import Path


def peak_resident_bytes() -> int:
    """Peak resident memory of this process, bytes.

    Not `ru_maxrss`: that is handed on by fork and exec, so that a small process of a large one seems large.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
