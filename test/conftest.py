"""What the tests of every level share: where the real frames are, and a tiny bundle that is trained in no time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _shared_data() -> Path:
    return Path(os.environ.get("ROS_OOD_PERCEPTION_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def camvid() -> Path:
    """The folder with CamVid's splits."""
    folder = _shared_data() / "camvid"
    if not folder.is_dir():
        pytest.skip(f"no CamVid frames at {folder} (set ROS_OOD_PERCEPTION_DATA to the folder that holds camvid/)")
    return folder


@pytest.fixture(scope="session")
def shipped_bundle() -> Path:
    """The bundle that ships."""
    return ROOT / "models" / "camvid_small"
