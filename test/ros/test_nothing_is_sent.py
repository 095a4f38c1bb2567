"""Demo, player, recorder and node: nothing but DDS on this machine, and no file but those that are documented."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

import cv2
import numpy as np
from watched_process import ROOT, watch

ROS_LOGS, MATPLOTLIB = ".ros/log/", ".cache/matplotlib/"
DDS_MULTICAST = ipaddress.ip_network("239.255.0.0/16")


def test_demo_and_node_talk_to_dds_only_and_write_nothing_outside(shipped_bundle: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 128, 3), np.uint8)
        cv2.imwrite(str(frames / f"{number}.png"), pixels)
    command = [sys.executable, "-m", "demo.run_demo", frames, "--bundle", shipped_bundle]
    watched = watch([*command, "--out", tmp_path / "out", "--rate", "5", "--paced"], tmp_path)
    assert watched.done.returncode == 0, watched.done.stderr
    assert {path for path in watched.in_home if not path.startswith((ROS_LOGS, MATPLOTLIB))} == set()
    assert {p for p in watched.written if not p.startswith((str(tmp_path), "/dev/", str(ROOT)))} == set()
    found = {ipaddress.ip_address(address) for address in watched.addresses}
    assert {address for address in found if not address.is_loopback and address not in DDS_MULTICAST} == set()
