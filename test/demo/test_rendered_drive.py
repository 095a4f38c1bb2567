from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo import rendered_drive as module
from ros_ood_perception.files.output_folder import OutputFolder
from sample_drive import ground_truth
from sample_drive.drive_bag import ODOMETRY_TOPIC


def write_drive(folder: Path, facts: dict[str, Any], topic: str = ODOMETRY_TOPIC) -> None:
    """A drive as the renderer leaves it, without frames."""
    drive = OutputFolder.claim(folder, module.PROGRAM)
    drive.write("ground_truth.json", json.dumps(facts))
    for part in ("bag", "instances"):
        (folder / part).mkdir()
    drive.write("bag/bag_0.mcap", b"")
    drive.write("bag/metadata.yaml", f"name: {topic}")
    drive.write("instances/1.png", b"")


def facts_of_drive(**changed: Any) -> dict[str, Any]:
    settings = {"seed": 3, "seconds": module.SECONDS, "rate_hz": module.RATE_HZ}
    drives = [{"settings": settings}]
    return {"format": ground_truth.FORMAT, "version": ground_truth.VERSION, "drives": drives, **changed}


@pytest.mark.parametrize(
    ("changed", "renders"),
    [
        ({}, False),
        ({"version": ground_truth.VERSION - 1}, True),
        ({"format": "another"}, True),
        ({"drives": []}, True),
        ({"drives": [{"settings": {}}]}, True),
        ({"without_odometry": True}, True),
    ],
)
def test_a_drive_of_another_version_is_rendered_again(
    changed: dict[str, Any], renders: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = module.FOLDER / "seed_3"
    topic = "/tf" if changed.pop("without_odometry", False) else ODOMETRY_TOPIC
    write_drive(folder, facts_of_drive(**changed), topic)
    rendered = []

    def render(command: list[str], check: bool) -> SimpleNamespace:
        rendered.append(command)
        write_drive(folder.with_name("seed_3.unfinished"), facts_of_drive())
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", render)
    assert module.rendered_drive(3, lambda text: None) == folder
    assert bool(rendered) is renders
    assert json.loads((folder / "ground_truth.json").read_text()) == facts_of_drive()


def test_a_drive_without_the_pixels_of_each_object_is_rendered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = module.FOLDER / "seed_3"
    write_drive(folder, facts_of_drive())
    shutil.rmtree(folder / "instances")

    def render(command: list[str], check: bool) -> SimpleNamespace:
        write_drive(folder.with_name("seed_3.unfinished"), facts_of_drive())
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", render)
    module.rendered_drive(3, lambda text: None)
    assert (folder / "instances").is_dir()


def test_the_format_keeps_its_name() -> None:
    """Drives that were rendered before are still read."""
    assert (ground_truth.FORMAT, ground_truth.VERSION) == ("ros_ood_perception/sample_drive", 1)
