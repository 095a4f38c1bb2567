"""The inference thread: frames in fair turns through the engine, and what follows when it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ros_ood_perception.bundle import BundleDescription
from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.node.camera import Camera, ReceivedFrame
from ros_ood_perception.node.engine_supervisor import EngineSupervisor, EngineUnavailableError
from ros_ood_perception.node.frame_slots import FrameSlots
from ros_ood_perception.node.settings import LiveSettings


class InferenceLoop:
    """Runs from activate to deactivate.

    Frames of several cameras are not put into one batch: `benchmark/camera_batches.py` says what that would gain, and
    the results would no longer be those of the frame alone, bit for bit.

    Args:
        cameras: in the order of the slots.
        slots: where their frames wait.
        supervisor: whose engine the cameras' perceptions run on.
        description: of the bundle.
        live: gives the settings as they are now.
        given_up: called once when no engine is left, on the inference thread.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        slots: FrameSlots[ReceivedFrame],
        supervisor: EngineSupervisor,
        description: BundleDescription,
        live: Callable[[], LiveSettings],
        given_up: Callable[[], None],
    ) -> None:
        self._cameras = cameras
        self._slots = slots
        self._supervisor = supervisor
        self._description = description
        self._live = live
        self._given_up = given_up
        self._thread = threading.Thread(target=self._run, name="inference")

    def start(self) -> None:
        """Begin to take frames."""
        self._thread.start()

    def finish(self) -> None:
        """Use the frames that wait, then end."""
        self._slots.close()
        self._thread.join()

    def _run(self) -> None:
        told = False
        while (taken := self._slots.take()) is not None:
            number, frame = taken
            live = self._live()
            camera = self._cameras[number]
            try:
                if camera.use(frame, live, live.threshold(self._description)):
                    self._supervisor.report_success()
            except EngineUnavailableError:
                # Reported already: the failure that closed the engine, or the one that kept it from opening again.
                pass
            except EngineError as error:
                self._supervisor.report_failure(error)
            if self._supervisor.given_up and not told:
                told = True
                self._given_up()
