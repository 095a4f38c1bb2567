"""HTML reports: a self-contained page with embedded pictures and charts."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import cv2
import jinja2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.files.atomic_files import write_file
from ros_ood_perception.replay.report.page import ASSETS
from ros_ood_perception.shown_text import printable_lines

# Before pyplot is imported: reports are made without a display.
matplotlib.use("Agg")
from matplotlib import pyplot

__all__ = ["data_uri", "picture_uri", "pyplot", "svg_uri", "write_page"]

PICTURE_WIDTH = 480


def write_page(path: Path, template: Path, **values: Any) -> None:
    """Render a template that extends `report_base.html.jinja` to a file."""
    loader = jinja2.FileSystemLoader([template.parent, Path(__file__).parent, ASSETS])
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=loader, finalize=_finalized
    )
    write_file(path, environment.get_template(template.name).render(**values))


def _finalized(value: Any) -> Any:
    """A value for a page: text with visible characters only; HTML and JSON unchanged."""
    return printable_lines(value, len(value)) if isinstance(value, str) and not hasattr(value, "__html__") else value


def picture_uri(rgb: NDArray[np.uint8], width: int = PICTURE_WIDTH) -> str:
    """(H, W, 3) uint8 RGB as a JPEG in a data URI, at most `width` pixels wide."""
    if rgb.shape[1] > width:
        size = (width, max(round(rgb.shape[0] * width / rgb.shape[1]), 1))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return data_uri(rgb, ".jpg")


def data_uri(rgb: NDArray[np.uint8], ending: str) -> str:
    """(H, W, 3) uint8 RGB at full size in a data URI; ending `.jpg` or `.png`."""
    kind = {".jpg": "jpeg", ".png": "png"}[ending]
    encoded = cv2.imencode(ending, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}"


def svg_uri(figure: Any) -> str:
    """A matplotlib figure as an SVG in a data URI; closes the figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True)
    pyplot.close(figure)
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
