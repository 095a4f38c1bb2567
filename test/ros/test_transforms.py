"""The camera's pose from tf2, with a stand-in for tf2_ros, which is not on PyPI."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from ros_ood_perception.camera.calibration.camera_info import CameraError
from ros_ood_perception.node.transforms import Transforms
from ros_ood_perception.replay.transforms.static_transforms import StaticTransforms

ON_TF = "is on /tf, which is not used"


class NotConnectedError(Exception):
    """`tf2_ros.TransformException`."""


class EmptyBuffer:
    """Of a tree in which a joint of the chain is only on /tf."""

    def lookup_transform(self, target: str, source: str, time: Any) -> Any:
        raise NotConnectedError(f"Could not find a connection between '{target}' and '{source}'")


class NewListener:
    """As of the geometry2 that can leave /tf."""

    def __init__(self, buffer: Any, node: Any, *, static_only: bool = False) -> None:
        self.static_only = static_only


class OldListener:
    def __init__(self, buffer: Any, node: Any) -> None:
        self.static_only = False


@pytest.mark.parametrize(("listener", "static_only"), [(NewListener, True), (OldListener, False)])
def test_where_only_static_transforms_are_used_a_missing_one_says_that_moving_joints_are_not(
    listener: Any, static_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf2_ros: Any = ModuleType("tf2_ros")
    tf2_ros.Buffer, tf2_ros.TransformListener, tf2_ros.TransformException = EmptyBuffer, listener, NotConnectedError
    monkeypatch.setitem(sys.modules, "tf2_ros", tf2_ros)
    node: Any = None
    transforms = Transforms(node, "base_link")
    assert transforms._listener.static_only == static_only
    with pytest.raises(CameraError, match="no transform from 'camera' to 'base_link'") as caught:
        transforms.pose("camera")
    assert (ON_TF in str(caught.value)) == static_only


def test_a_replay_says_so_too() -> None:
    with pytest.raises(CameraError, match=f"no transform from 'camera' to 'base_link' on /tf_static.*{ON_TF}"):
        StaticTransforms().pose("camera", "base_link")
