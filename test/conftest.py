"""What the tests of every level share: where the real frames are, and a tiny bundle that is trained in no time."""

from __future__ import annotations

import os

# Before torch is imported. Tiny networks gain nothing from threads, and where other work shares the cores a barrier at
# each of their operations makes them fifty times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Before a test imports onnxruntime: it turns its telemetry off.
import ros_ood_perception as ros_ood_perception

# The same examples every time: a change is judged by what it changed. HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=3000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    *("ros_ood_perception", "launch", "config", "models", "resource", "LICENSES"),
    *("LICENSE", "package.xml", "setup.py", "setup.cfg"),
)


def _shared_data() -> Path:
    return Path(os.environ.get("ROS_OOD_PERCEPTION_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_frames() -> Callable[[str], Path]:
    """The folder of a set of real frames, by name; a test that asks for one that is not there is skipped."""

    def folder_of(name: str) -> Path:
        folder = _shared_data() / name
        if not folder.is_dir():
            pytest.skip(f"no frames at {folder} (set ROS_OOD_PERCEPTION_DATA to the folder that holds {name}/)")
        return folder

    return folder_of


@pytest.fixture(scope="session")
def camvid(real_frames: Callable[[str], Path]) -> Path:
    """The folder with CamVid's splits."""
    return real_frames("camvid")


@pytest.fixture(scope="session")
def shipped_bundle() -> Path:
    """The bundle that ships."""
    return ROOT / "models" / "camvid_small"


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colcon workspace with the package built in it."""
    workspace = tmp_path_factory.mktemp("workspace")
    package = workspace / "src" / "ros_ood_perception"
    package.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, package / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, package / name)
    command = [str(Path(sys.executable).with_name("colcon")), "--log-base", "log", "build"]
    built = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return workspace


@pytest.fixture(scope="session")
def licences() -> dict[str, str]:
    """SPDX identifier of each file of the repository, by its path: in REUSE.toml the last table that matches decides.

    What else lies in the folder, such as bundles of one's own, has any licence.
    """
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout, so nothing says which files belong to it")
    # `**` stands for anything, `*` for anything but a slash.
    parts = {"**": ".*", "*": "[^/]*"}
    found = {}
    for table in tomllib.loads((ROOT / "REUSE.toml").read_text())["annotations"]:
        pattern = "".join(parts.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*)", table["path"]))
        for name in listed.stdout.split("\0"):
            if re.fullmatch(pattern, name) and (ROOT / name).is_file():
                found[name] = table["SPDX-License-Identifier"]
    return found


# What follows imports training when it is used: not every machine that runs a part of the tests has it.


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train/` and `val/` of six frames each, in CamVid's layout. Read only, as the two below: a test that changes one
    makes its own copy."""
    from synthetic_camvid import write_camvid

    return write_camvid(tmp_path_factory.mktemp("data") / "camvid")


@pytest.fixture(scope="session")
def checkpoint(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network trained on `tree`."""
    from test_train_segmenter import train

    folder = tmp_path_factory.mktemp("trained")
    assert train(tree, folder, epochs=6) == 0
    return folder / "run" / "best.pt"


@pytest.fixture(scope="session")
def bundle(checkpoint: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`checkpoint` as a bundle, with thresholds chosen on `tree`'s validation frames."""
    from training.export import main as export

    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    assert export([str(checkpoint), str(folder), "--data", str(tree)]) == 0
    return folder


@pytest.fixture(scope="session")
def bundle_of_two_sizes(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bundle`, which is 96x128, with the size 64x160 for wide cameras."""
    from training.add_size.__main__ import main as add_size

    folder = Path(shutil.copytree(bundle, tmp_path_factory.mktemp("bundle") / "wide"))
    assert add_size([str(folder), "--size", "64x160"]) == 0
    return folder


@pytest.fixture(scope="session")
def whole_bundle(checkpoint: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`checkpoint` as a bundle that holds the model at every precision and for every engine."""
    from training.bundles.precisions import VARIANTS
    from training.export import main as export

    folder = tmp_path_factory.mktemp("bundle") / "whole"
    assert export([str(checkpoint), str(folder), "--data", str(tree), "--with", *VARIANTS]) == 0
    return folder
