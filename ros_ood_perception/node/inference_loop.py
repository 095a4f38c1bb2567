"""The inference thread: frames in fair turns through the engine, and what follows when it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ros_ood_perception.bundle.model_bundle import BundleDescription
from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.node.camera import Camera, ReceivedFrame
from ros_ood_perception.node.engine_supervisor import (
    EngineSupervisor,
    EngineUnavailableError,
    InferenceDeadlineError,
)
from ros_ood_perception.node.frames.slots import FrameSlots
from ros_ood_perception.node.health.deadlines import Work
from ros_ood_perception.parameters.settings import LiveSettings


@dataclass(frozen=True)
class FrameInHand:
    """A frame that the inference thread works on, and the number of its camera."""

    camera: int
    frame: ReceivedFrame


class InferenceLoop:
    """Runs from activate to deactivate.

    Frames of several cameras are not put into one batch: the results would no longer be those of the frame alone, bit
    for bit. `benchmark/inference/camera_batches.py` measures what a batch would gain.

    Args:
        cameras: in the order of the slots.
        slots: where their frames wait.
        supervisor: whose engine the cameras' perceptions run on.
        description: of the bundle.
        live: gives the settings as they are now.
        given_up: called once when no engine is left, on the inference thread.
        broken: called with what ended the thread, if anything did: from then on nothing takes frames.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        slots: FrameSlots[ReceivedFrame],
        supervisor: EngineSupervisor,
        description: BundleDescription,
        live: Callable[[], LiveSettings],
        given_up: Callable[[], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._cameras = cameras
        self._slots = slots
        self._supervisor = supervisor
        self._description = description
        self._live = live
        self._given_up = given_up
        self._broken = broken
        # A process must be able to end while its engine hangs.
        self._thread = threading.Thread(target=self._run_until_closed, name="inference", daemon=True)
        self.ended = threading.Event()
        """The last frame has been used."""

    def start(self) -> None:
        """Begin to take frames."""
        self._thread.start()

    def close(self) -> None:
        """Use the frames that wait, then end; `ended` is set when that is done."""
        self._slots.close()

    def finish(self) -> None:
        """Close, and wait for the end."""
        self.close()
        self._thread.join()

    def expire(self, work: Work) -> None:
        """The frame in hand has passed its deadline: it and the engine have failed. From another thread.

        The other cameras wait for the same engine, so nothing valid comes of them either.
        """
        if not isinstance(work.subject, FrameInHand):
            return
        in_hand, live = work.subject, self._live()
        error = InferenceDeadlineError(f"{work.what} takes longer than its deadline of {work.limit_s():.3g} s")
        for number, camera in enumerate(self._cameras):
            if number != in_hand.camera or not camera.give_up(in_hand.frame, error, live):
                camera.hangs(error, live)
        self._supervisor.expire(work)

    def _run_until_closed(self) -> None:
        try:
            self._run()
        except BaseException as error:  # nobody waits for this thread: it would end without a word
            self._broken(error)
        finally:
            self.ended.set()

    def _run(self) -> None:
        told = False
        watch, limit_s = self._supervisor.watch, self._supervisor.deadline_s
        while (taken := self._slots.take()) is not None:
            number, frame = taken
            live = self._live()
            camera = self._cameras[number]
            try:
                with watch.at("conversion or publishing of a frame", limit_s, FrameInHand(number, frame)):
                    good = camera.use(frame, live, live.threshold(self._description))
                if good:
                    self._supervisor.report_success()
            except EngineUnavailableError:
                # Reported already: the failure that closed the engine, or the one that kept it from opening again.
                pass
            except EngineError as error:
                self._supervisor.report_failure(error)
            if self._supervisor.given_up and not told:
                told = True
                self._given_up()
