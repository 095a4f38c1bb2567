"""Removes the shared memory of Fast DDS processes that were killed.

Fast DDS frees a participant's shared memory only when the participant is destroyed. A killed process leaves it behind
(70 MB with the profile for large images). A node that crashes and is respawned would fill the vehicle's memory.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

FOLDER = Path("/dev/shm")
LOCK_NAME = re.compile(r"fast(dds|rtps)_[0-9a-f]{16}_el")
"""Lock files of Fast DDS 3, and of 2 (Humble, Jazzy)."""
MIN_AGE_S = 5.0
"""A participant creates its lock file and locks it a moment later. In between it looks abandoned, and the lock must not
even be tried: the participant could not take it."""


class Removed(NamedTuple):
    """Number of removed segments, and their memory in MB."""

    segments: int
    megabytes: float


def remove_abandoned_segments() -> Removed:
    """Remove the shared-memory segments of Fast DDS whose processes are dead.

    A segment's owner locks the file `_el` beside it, in any container, and the kernel releases the lock when the owner
    dies. So a segment whose lock is free is abandoned: the rule of `fastdds shm clean`. Segments of other users stay
    where this user may not remove them. Port files stay too: they are small, and the next participant with that number
    uses them.
    """
    segments, size = 0, 0
    try:
        locks = [entry.path for entry in os.scandir(FOLDER) if LOCK_NAME.fullmatch(entry.name)]
    except OSError:
        return Removed(0, 0.0)
    for path in locks:
        # Another process may be cleaning at the same time, or the file is another user's: leave it.
        with suppress(OSError):
            size += _remove_if_abandoned(Path(path))
            segments += 1
    return Removed(segments, size / 1e6)


def _remove_if_abandoned(lock: Path) -> int:
    """Bytes of the segment; OSError where it is in use or may not be removed."""
    descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if time.time() - os.fstat(descriptor).st_mtime < MIN_AGE_S:
            raise BlockingIOError(f"{lock} is new")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        segment = lock.with_name(lock.name.removesuffix("_el"))
        size = 0
        with suppress(FileNotFoundError):
            size = segment.stat().st_blocks * 512
            segment.unlink()
        lock.unlink()
        return size
    finally:
        os.close(descriptor)
