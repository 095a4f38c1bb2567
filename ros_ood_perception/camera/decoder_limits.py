"""What a decoder process may use, and how it is spoken to: known to both of its ends."""

from __future__ import annotations

MEMORY_BYTES = 512 << 20
"""Memory of the process on top of what it starts with, for images of no size. See `MEMORY_BYTES_A_PIXEL`."""
MEMORY_BYTES_A_PIXEL = 48
"""The largest image is held six times: compressed, inflated, rebuilt, and as the decoder's own copies."""
PROCESSOR_SECONDS = 30
"""Processor time for one image. The largest one takes about a second."""
MESSAGE_BYTES = 1 << 16
"""Size of the largest request or answer on the socket."""
