"""Shows a replay in the Rerun viewer: frames, classes, scores and obstacles on the recording's time line.

It needs rerun-sdk: `pip install "rerun-sdk==0.23.1" "pyarrow<18"`. Later versions of either need NumPy 2, but
packages of the ROS 2 distributions need NumPy 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rerun as rr

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.inference.tensorrt.plan_cache import default_folder
from ros_ood_perception.messages.overlay import semantic_picture
from ros_ood_perception.pipeline.camera_pipeline import FrameResult
from ros_ood_perception.replay.cameras import CameraTopics
from ros_ood_perception.replay.inputs import InputFrame


class RerunViewer:
    """A `ResultObserver` that streams every result.

    Args:
        target: `spawn` opens the viewer. Anything else is the path of an `.rrd` file to write.
        description: the bundle's description, for the colours of classes.
    """

    def __init__(self, target: str, description: BundleDescription) -> None:
        self._order = description.input.colour_order
        self._recording: Any = rr.RecordingStream("ros_ood_perception replay")
        if target == "spawn":
            _spawn_without_analytics(self._recording)
        else:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            self._recording.save(target)
        self._colours = description.colours

    def __call__(self, camera: CameraTopics, frame: InputFrame, result: FrameResult) -> None:
        """See `ResultObserver`."""
        image, perception = result.image, result.perception
        log, at = self._recording.log, camera.name or "camera"
        self._recording.set_time("recorded", timestamp=np.datetime64(frame.time_ns, "ns"))
        rgb = image if self._order == "rgb" else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        log(f"{at}/image", rr.Image(rgb).compress(jpeg_quality=85))
        # As a picture: Rerun's own class colours do not work with NumPy 1.
        log(f"{at}/classes", rr.Image(semantic_picture(perception.semantic, self._colours)))
        log(f"{at}/score", rr.DepthImage(perception.anomaly_score, colormap="inferno", depth_range=(0.0, 1.0)))
        log(f"{at}/anomalous_share", rr.Scalars(float(perception.anomaly_mask.mean())))
        boxes = [obstacle.region.box for obstacle in result.obstacles]
        log(
            f"{at}/image/obstacles",
            rr.Boxes2D(
                mins=[(box.x, box.y) for box in boxes],
                sizes=[(box.width, box.height) for box in boxes],
                labels=[f"{obstacle.id}: {obstacle.region.score:.2f}" for obstacle in result.obstacles],
            ),
        )
        places = [obstacle.position for obstacle in result.obstacles if obstacle.position is not None]
        log(f"base_link/obstacles/{at}", rr.Points3D(places, radii=0.2, colors=(255, 140, 0)))

    def close(self) -> None:
        """Write what is pending, and end the stream."""
        self._recording.flush()
        self._recording.disconnect()


def _spawn_without_analytics(recording: Any) -> None:
    """Open the viewer with separate settings, in which its usage reports are off.

    The viewer has a setting for that, but no environment variable. The user's own settings stay as they are.
    """
    settings = str(default_folder() / "rerun_settings")
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = settings
    try:
        # By its own command, because the format of the settings may change between versions.
        off = [sys.executable, "-m", "rerun_cli", "analytics", "disable"]
        subprocess.run(off, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        recording.spawn()
    finally:
        del os.environ["XDG_CONFIG_HOME"]
        if before is not None:
            os.environ["XDG_CONFIG_HOME"] = before
