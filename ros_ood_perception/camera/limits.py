"""Limits of images. Imports neither numpy nor cv2: the launch files read them."""

from __future__ import annotations

DEFAULT_MAX_PIXELS = 4096 * 4096
"""Default limit for the height times width of an image."""
