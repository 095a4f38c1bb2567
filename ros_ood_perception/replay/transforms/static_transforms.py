"""Poses of cameras in the vehicle's frame, from the /tf_static of a bag, without tf2."""

from __future__ import annotations

from typing import Any

import numpy as np

from ros_ood_perception.camera.calibration.camera_info import CameraError
from ros_ood_perception.obstacles.ground import CameraPose

TOPIC = "/tf_static"
MAX_CHAIN = 64


class StaticTransforms:
    """A tree of frames, each with its pose in its parent."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, CameraPose]] = {}
        self._unusable: dict[str, str] = {}
        self._changed: dict[str, list[str]] = {}

    @property
    def changes(self) -> list[str]:
        """A sentence for each frame that was given different poses or parents."""
        return [
            f"{TOPIC} gives the pose of '{frame[:60]}' in {' and '.join(repr(parent[:60]) for parent in parents)} with "
            "several values; the last one is used from the beginning; if the camera was moved, replay the parts with "
            "--start and --stop and the pose of each part in mounting.*"
            for frame, parents in self._changed.items()
        ]

    def add(self, message: Any) -> None:
        """Add a `tf2_msgs/TFMessage`.

        A later transform of a frame replaces an earlier one; `changes` says so. A transform that is not finite, or
        whose quaternion is not normalised, is not used; `pose` says so where the frame has no other.
        """
        for transform in message.transforms:
            place, turn = transform.transform.translation, transform.transform.rotation
            try:
                pose = CameraPose.from_transform((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))
            except CameraError as error:
                self._unusable[plain(transform.child_frame_id)] = str(error)
                continue
            self._set(plain(transform.child_frame_id), plain(transform.header.frame_id), pose)

    def knows(self, frame: str) -> bool:
        """Whether a frame, without a leading slash, has a pose in another one."""
        return frame in self._parents

    def parent(self, frame: str) -> tuple[str, CameraPose]:
        """The parent of a frame that is known, and the frame's pose in it."""
        return self._parents[frame]

    def _set(self, frame: str, parent: str, pose: CameraPose) -> None:
        known = self._parents.get(frame, (parent, pose))
        if known[0] != parent or not known[1].is_close(pose):
            self._changed[frame] = list(dict.fromkeys((*self._changed.get(frame, ()), known[0], parent)))
        self._parents[frame] = (parent, pose)

    def pose(self, camera_frame: str, base_frame: str) -> CameraPose:
        """The pose of a camera's optical frame in the vehicle's frame.

        Raises:
            CameraError: the bag's /tf_static does not connect the two frames.
        """
        frame = plain(camera_frame)
        if not frame:
            raise CameraError(
                "header.frame_id of the images is empty, so their camera is not known; let the driver set it, or set "
                "mounting.height_m"
            )
        rotation, translation = np.eye(3), np.zeros(3)
        for _ in range(MAX_CHAIN):
            if frame == plain(base_frame):
                x, y, z = translation.tolist()
                return CameraPose(tuple(rotation.ravel().tolist()), (x, y, z))
            if frame not in self._parents:
                break
            frame, pose = self._parents[frame]
            turn = np.reshape(pose.rotation, (3, 3))
            rotation, translation = turn @ rotation, turn @ translation + pose.translation
        if frame in self._unusable:
            raise CameraError(
                f"the transform of '{frame[:60]}' on {TOPIC} cannot be used: {self._unusable[frame]}; correct it where "
                "it is published, or set mounting.height_m"
            )
        raise CameraError(
            f"no transform from '{camera_frame[:60]}' to '{base_frame}' on {TOPIC}; record it (a joint between them "
            "that moves is on /tf, which is not used), or set mounting.height_m"
        )


def plain(frame: str) -> str:
    """A frame's name without the leading slash of ROS 1."""
    return frame.removeprefix("/")
