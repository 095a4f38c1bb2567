"""What exists from configure to cleanup: the bundle, its engine and the cameras."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.lifecycle import LifecycleNode

from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.inference.engine import InferenceEngine
from ros_ood_perception.inference.engine_names import ENGINES
from ros_ood_perception.inference.opening import open_engine
from ros_ood_perception.node.camera import Camera
from ros_ood_perception.node.engine_supervisor import EngineSupervisor
from ros_ood_perception.node.health.deadlines import InferenceDeadline, Watch
from ros_ood_perception.node.middleware.transport import SharedMemory
from ros_ood_perception.node.transforms import Transforms
from ros_ood_perception.node.vehicle_motion import VehicleMotion, vehicle_motion
from ros_ood_perception.parameters.settings import FixedSettings, LiveSettings


@dataclass(frozen=True)
class Configured:
    """Bundle, engine and cameras. The engine is closed separately, because that may hang.

    Attributes:
        transforms: None if every camera's mounting is given by parameters, and the motion does not come from tf.
        motion: tells where the vehicle is; None: nothing does.
        pose_wait_s: how long a frame may wait for it, seconds.
    """

    bundle: Bundle
    supervisor: EngineSupervisor
    cameras: tuple[Camera, ...]
    transforms: Transforms | None
    motion: VehicleMotion | None
    pose_wait_s: float

    def close(self) -> None:
        """Destroy subscriptions and publishers; the engine stays open."""
        for camera in self.cameras:
            camera.close()
        if self.motion is not None:
            self.motion.close()
        if self.transforms is not None:
            self.transforms.close()


def open_bundle(
    fixed: FixedSettings, live: LiveSettings, watch: Watch, log: RcutilsLogger
) -> tuple[Bundle, EngineSupervisor]:
    """Read and verify the bundle, and open its engine. It runs on a separate thread and does not use the node.

    Raises:
        BundleError, EngineError, ParameterError: the message says what to do.
    """
    with watch.at(f"reading the bundle {fixed.bundle}", lambda: fixed.opening_deadline_s):
        bundle = read_bundle(fixed.bundle, fixed.bundle_public_key).up_to(fixed.max_input_height)
        live.pipeline_settings(bundle.description)
    supervisor = _supervisor(fixed, bundle, watch, log)
    supervisor.open()
    return bundle, supervisor


def _supervisor(fixed: FixedSettings, bundle: Bundle, watch: Watch, log: RcutilsLogger) -> EngineSupervisor:
    model_input = bundle.description.input
    gpu = replace(fixed.gpu, log=log.info).for_input(model_input)
    deadline = InferenceDeadline(fixed.inference_deadline_s)

    def open_and_run_twice(name: str) -> InferenceEngine:
        engine = open_engine(bundle, name, fixed.num_threads, gpu)
        # TensorRT 8.6 takes frames of one size only. Another input size takes its memory with its first frame.
        size = model_input.size if engine.name == "onnxruntime" else gpu.image_size
        try:
            engine.run(np.zeros((1, *size, 3), np.uint8))
            # The first run allocates and compiles; only the second one tells how long the others take.
            started = time.monotonic()
            engine.run(np.zeros((1, *size, 3), np.uint8))
            deadline.add(time.monotonic() - started)
        except BaseException:
            engine.close()
            raise
        return engine

    return EngineSupervisor(
        open_and_run_twice,
        fixed.engine,
        [name for name in ENGINES if name != "auto"],
        fixed.failure_policy,
        log.error,
        watch=watch,
        deadline=deadline,
        opening_s=fixed.opening_deadline_s,
    )


def make_cameras(
    node: LifecycleNode,
    fixed: FixedSettings,
    live: LiveSettings,
    bundle: Bundle,
    supervisor: EngineSupervisor,
    memory: SharedMemory,
) -> Configured:
    """Make the cameras, and listen to tf2 if a pose must come from it. After an error nothing stays open."""
    with ExitStack() as undo:
        transforms: Transforms | None = None
        if None in fixed.mountings or fixed.motion.fixed_frame:
            transforms = Transforms(node, fixed.base_frame, moving=bool(fixed.motion.fixed_frame))
            undo.callback(transforms.close)
        # Before the cameras: of messages that wait, the executor takes those of the first subscriptions first.
        motion = vehicle_motion(node, fixed.motion, transforms, len(fixed.cameras))
        if motion is not None:
            undo.callback(motion.close)
        cameras = []
        for number in range(len(fixed.cameras)):
            camera = Camera(node, number, fixed, live, bundle.description, supervisor, memory, transforms, motion)
            undo.callback(camera.close)
            cameras.append(camera)
        undo.pop_all()
    return Configured(bundle, supervisor, tuple(cameras), transforms, motion, fixed.motion.wait_s if motion else 0.0)
