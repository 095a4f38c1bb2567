"""Where the files beside the Python code are: in a checkout, or where `colcon build` installed them."""

from __future__ import annotations

import contextlib
from pathlib import Path

PACKAGE = "ros_ood_perception"


def package_file(relative: str) -> Path:
    """A file or folder of the package, such as `config/fastdds_large_images.xml` or `models/camvid_small`.

    Raises:
        FileNotFoundError: neither beside the code nor in the installed package's share folder.
    """
    tried = [Path(__file__).resolve().parents[2] / relative]
    if not tried[0].exists():
        try:
            from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
        except ImportError:
            pass
        else:
            # OSError: no workspace is sourced.
            with contextlib.suppress(PackageNotFoundError, OSError):
                tried.append(Path(get_package_share_directory(PACKAGE)) / relative)
    for path in tried:
        if path.exists():
            return path
    raise FileNotFoundError(f"{relative}: not found ({', '.join(map(str, tried))}); build and source the workspace")
