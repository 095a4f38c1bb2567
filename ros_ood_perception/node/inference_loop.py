"""The inference thread: takes the cameras' frames in fair turns and reports the engine's failures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.node.camera import Camera
from ros_ood_perception.node.engine_supervisor import (
    EngineSupervisor,
    EngineUnavailableError,
    InferenceDeadlineError,
)
from ros_ood_perception.node.frames.received import ReceivedFrame
from ros_ood_perception.node.frames.slots import FrameSlots
from ros_ood_perception.node.health.deadlines import Work
from ros_ood_perception.parameters.settings import LiveSettings


@dataclass(frozen=True)
class FrameInInference:
    """The frame that the inference thread works on, and the number of its camera."""

    camera: int
    frame: ReceivedFrame


class InferenceLoop:
    """Runs from activate to deactivate.

    Frames of several cameras are not put into one batch: a frame's results would then depend on the other frames, in
    their last bits. `benchmark/inference/camera_batches.py` measures what a batch would gain.

    Args:
        cameras: the cameras, in the order of the slots.
        slots: where their frames wait.
        supervisor: holds the engine that the cameras share.
        live: gives the current settings.
        given_up: called once when no engine is left, on the inference thread.
        broken: called with the error that ended the thread. After that no frame is used.
        pose_wait_s: how long a frame may wait for the vehicle's pose, seconds. It is no part of the deadline.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        slots: FrameSlots[ReceivedFrame],
        supervisor: EngineSupervisor,
        live: Callable[[], LiveSettings],
        given_up: Callable[[], None],
        broken: Callable[[BaseException], None],
        pose_wait_s: float = 0.0,
    ) -> None:
        self._cameras = cameras
        self._slots = slots
        self._supervisor = supervisor
        self._live = live
        self._given_up = given_up
        self._broken = broken
        self._pose_wait_s = pose_wait_s
        # A daemon, so that the process can end while its engine hangs.
        self._thread = threading.Thread(target=self._run_until_closed, name="inference", daemon=True)
        self.ended = threading.Event()
        """Set after the last frame was used."""

    def start(self) -> None:
        """Start to take frames."""
        self._thread.start()

    def close(self) -> None:
        """Use the waiting frames, then end. `ended` is set at the end."""
        self._slots.close()

    def finish(self) -> None:
        """Close, and wait for the end."""
        self.close()
        self._thread.join()

    def expire(self, work: Work) -> None:
        """Count the frame in inference as failed, because it passed its deadline. Another thread calls this.

        The other cameras wait for the same engine, so they have no valid results either.
        """
        if not isinstance(work.subject, FrameInInference):
            return
        current, live = work.subject, self._live()
        error = InferenceDeadlineError(f"{work.what} takes longer than its deadline of {work.limit_s():.3g} s")
        for number, camera in enumerate(self._cameras):
            if number != current.camera or not camera.give_up(current.frame, error, live):
                camera.report_hang(error, live)
        self._supervisor.expire(work)

    def _run_until_closed(self) -> None:
        try:
            self._run()
        except BaseException as error:  # nobody waits for this thread: it would end silently
            self._broken(error)
        finally:
            self.ended.set()

    def _limit_s(self) -> float:
        """Deadline of a frame. A pose that does not come must not look like a thread that hangs."""
        return self._supervisor.deadline_s() + self._pose_wait_s

    def _run(self) -> None:
        reported = False
        watch = self._supervisor.watch
        while (taken := self._slots.take()) is not None:
            number, frame = taken
            live = self._live()
            camera = self._cameras[number]
            try:
                with watch.at("conversion or publishing of a frame", self._limit_s, FrameInInference(number, frame)):
                    good = camera.use(frame, live)
                if good:
                    self._supervisor.report_success()
            except EngineUnavailableError:
                # The failure that closed the engine, or kept it from opening again, was reported already.
                pass
            except EngineError as error:
                self._supervisor.report_failure(error)
            if self._supervisor.given_up and not reported:
                reported = True
                self._given_up()
