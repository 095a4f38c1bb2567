"""Where the files beside the Python code are: in a checkout, or where `colcon build` installed them."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = "ros_ood_perception"


def package_file(relative: str) -> Path:
    """A file or folder of the package, such as `config/fastdds_large_images.xml`.

    Raises:
        FileNotFoundError: neither beside the code nor in the installed package's share folder.
    """
    # The search of ament_index_python, which a replay needs not install: the overlay that was sourced last comes first.
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    tried = [Path(__file__).resolve().parents[2] / relative]
    for prefix in prefixes:
        if (prefix / "share" / "ament_index" / "resource_index" / "packages" / PACKAGE).is_file():
            tried.append(prefix / "share" / PACKAGE / relative)
            break
    for path in tried:
        if path.exists():
            return path
    raise FileNotFoundError(f"{relative}: not found ({', '.join(map(str, tried))}); build and source the workspace")
