"""Fast DDS gives a participant's shared memory back only when the participant ends in an orderly way. Each process that
is killed leaves it (70 MB with the profile for large images) until somebody removes it: a node that crashes and is
respawned would fill the vehicle's memory.
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
"""Of Fast DDS 3, and 2 (Humble, Jazzy)."""
MIN_AGE_S = 5.0
"""A participant makes its lock file first and locks it a moment later; until then it looks abandoned. Nobody may even
try the lock in between, as the participant would be refused it."""


class Removed(NamedTuple):
    """What was removed: number of segments, and how much memory they held, MB."""

    segments: int
    megabytes: float


def remove_abandoned_segments() -> Removed:
    """Remove the shared-memory segments of Fast DDS whose processes are dead.

    A segment's owner holds a lock on the file `_el` beside it for as long as it lives, in whatever container, and the
    kernel lets go of it when it dies. A segment whose lock can be had is nobody's: the rule of `fastdds shm clean`.
    What other users' processes left stays where this user may not remove it. Port files stay: they are small, and the
    next participant with that number takes them over.
    """
    segments, size = 0, 0
    try:
        locks = [entry.path for entry in os.scandir(FOLDER) if LOCK_NAME.fullmatch(entry.name)]
    except OSError:
        return Removed(0, 0.0)
    for path in locks:
        # Another process that cleans at the same time, another user's file: it is left alone.
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
