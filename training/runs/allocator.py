"""Memory between training steps: freed blocks are kept for the next step."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h, see mallopt(3)."""
KEPT_BYTES = 1 << 30
"""Blocks up to this size are taken from the heap, and so much free memory at its end is kept."""


def keep_freed_memory() -> bool:
    """Let malloc keep what is freed; returns whether it does. Only glibc can.

    By default glibc gives every block above 32 MB back to the system. On a CPU, torch takes the maps of a batch anew in
    every step, so that each step pays for clearing the same pages again.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
