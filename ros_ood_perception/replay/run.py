"""The replay itself: every frame in order, every result into a bag, and a record from which it can be gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.bundle import Bundle
from ros_ood_perception.node.settings import FixedSettings, LiveSettings
from ros_ood_perception.output_topics import OUTPUT_TOPICS, STATE_TOPIC
from ros_ood_perception.perception import FramePerception
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.recordings.split_bag import SplitBag
from ros_ood_perception.replay.camera_replay import CameraReplay
from ros_ood_perception.replay.cameras import CameraTopics
from ros_ood_perception.replay.engine_pool import EnginePool
from ros_ood_perception.replay.inputs import Input, InputCopy, InputFrame, InputInfo
from ros_ood_perception.replay.read_ahead import ReadAhead, ReadyFrame
from ros_ood_perception.result_messages import IMAGE, TYPES

STATE_FILE = "state.json"
SUMMARY_FILE = "summary.json"
BAG_FOLDER = "bag"
DIAGNOSTICS = "/diagnostics"
DIAGNOSTICS_TYPE = "diagnostic_msgs/msg/DiagnosticArray"
STATE_FORMAT = 2


class ReplayError(RuntimeError):
    """The replay cannot begin or go on. The message says why, and what to do."""


class ResultObserver(Protocol):
    """Sees every result as it is computed, before anything is rounded."""

    def __call__(
        self, camera: CameraTopics, frame: InputFrame, image: NDArray[np.uint8], result: FramePerception
    ) -> None:
        """Take a result.

        Args:
            image: (H, W, 3) uint8 in the bundle's colour order.
        """
        ...


@dataclass(frozen=True)
class ReplayPlan:
    """What is to be done; `jobs` and `num_threads` have no part in what comes out.

    Attributes:
        outputs: names of `OUTPUT_TOPICS`.
        start_ns, stop_ns: on the recording's time line; None: from the beginning, to the end.
        every: of each camera's frames, the first and every so many-th after it.
        copied: topics of the input that go into the output as well.
        frames_per_file: a file of the output is ended after so many.
        identity: all that decides what comes out; a replay is only gone on with under the same.
    """

    outputs: tuple[str, ...]
    node_name: str
    start_ns: int | None
    stop_ns: int | None
    every: int
    copied: tuple[str, ...]
    frames_per_file: int
    identity: dict[str, Any] = field(default_factory=dict)


class Replay:
    """One replay into a folder.

    Args:
        out: an empty folder, or one with the state of an interrupted replay of the same identity.
        pool: the caller's to close.

    Raises:
        ReplayError: the folder's state is that of another replay.
    """

    def __init__(
        self,
        source: Input,
        out: Path,
        plan: ReplayPlan,
        bundle: Bundle,
        fixed: FixedSettings,
        live: LiveSettings,
        pool: EnginePool,
        observers: Sequence[ResultObserver] = (),
    ) -> None:
        self._source, self._out, self._plan, self._bundle, self._pool = source, out, plan, bundle, pool
        self._fixed, self._live = fixed, live
        self._observers = observers
        self._types = types = message_types()
        self.cameras = [
            CameraReplay(
                topics,
                number,
                fixed,
                live,
                bundle.description,
                pool,
                source.transforms,
                types,
                plan.outputs,
                plan.node_name,
            )
            for number, topics in enumerate(source.cameras)
        ]
        for number, info in source.first_infos.items():
            self.cameras[number].geometry.info = info
        self.bag = SplitBag(out / BAG_FOLDER, types.typestore)
        for camera in self.cameras:
            for name, topic in camera.output_topics.items():
                self.bag.add_topic(topic, TYPES.get(name, IMAGE), latched=name == "label_info")
        self.bag.add_topic(DIAGNOSTICS, DIAGNOSTICS_TYPE)
        for topic in plan.copied:
            kind = source.copied[topic]
            self.bag.add_topic(topic, kind, latched=topic == "/tf_static", typestore=source.typestore)
        self._used = 0
        self._last_ns = 0
        self._reported_ns: int | None = None
        self._in_file = 0
        self._facts = {
            "engine": pool.name,
            "bundle": bundle.description.name,
            "model_sha256": bundle.description.model_sha256,
            "score_temperature": repr(bundle.description.score.temperature),
            "anomaly_threshold": repr(self.cameras[0].threshold),
        }
        self._resume()

    def _resume(self) -> None:
        path = self._out / STATE_FILE
        if not path.is_file():
            self._save_state(complete=False)
            return
        state = read_state(self._out)
        if state["identity"] != self._plan.identity or state["facts"] != self._facts:
            different = sorted(
                key
                for ours, theirs in ((self._plan.identity, state["identity"]), (self._facts, state["facts"]))
                for key in {*ours, *theirs}
                if ours.get(key) != theirs.get(key)
            )
            raise ReplayError(
                f"{self._out}: the replay there was begun with other {', '.join(different)}; give the same, or another "
                "--out"
            )
        self.bag.keep(state["files"])
        self._used, self._last_ns, self._reported_ns = state["used"], state["last_ns"], state["reported_ns"]
        for camera, camera_state in zip(self.cameras, state["cameras"], strict=True):
            camera.restore(camera_state)

    def run(self, advance: Callable[[], None], stopped: Callable[[], bool]) -> bool:
        """Replay until the end, or until `stopped` says so.

        Args:
            advance: called for each frame of the input.

        Returns:
            Whether the end was reached. If not, the output is a bag up to there, and the same replay goes on there.

        Raises:
            BrokenExecutor: a process of the pool died.
        """
        plan, description = self._plan, self._bundle.description
        items = self._source.items(plan.start_ns, plan.stop_ns, plan.copied)
        for camera in self.cameras:
            for _ in range(camera.accounting["frames"]):
                advance()
        complete = True
        with ReadAhead(
            items,
            self._source.cameras,
            self._pool,
            description.input.colour_order,
            self._fixed.max_image_pixels,
            plan.every,
            self._used,
        ) as ready:
            for item, used in ready:
                self._take(item)
                if used > self._used:
                    self._used = used
                if isinstance(item, ReadyFrame):
                    advance()
                    if self._in_file >= plan.frames_per_file:
                        self._end_file()
                if stopped():
                    complete = False
                    break
        if complete:
            if self._last_ns:
                self._report(self._last_ns)
            self.bag.close_file()
            self._save_state(complete=True)
        else:
            self._end_file()
        return complete

    def _take(self, item: ReadyFrame | InputInfo | InputCopy) -> None:
        if isinstance(item, InputCopy):
            self.bag.write(item.topic, item.time_ns, item.raw)
        elif isinstance(item, InputInfo):
            self.cameras[item.camera].geometry.info = item.info
        else:
            self._take_frame(item)

    def _take_frame(self, item: ReadyFrame) -> None:
        frame = item.frame
        camera = self.cameras[frame.camera]
        if item.left_out:
            camera.leave_out()
            return
        self._last_ns = frame.time_ns
        if item.image is None or item.result is None:
            camera.settle("malformed", item.problem)
        else:
            result = camera.use(frame, item.image, item.result)
            if result is not None:
                for topic, raw in camera.messages(frame, item.image, result):
                    self.bag.write(topic, frame.time_ns, raw)
                for observe in self._observers:
                    observe(camera.topics, frame, item.image, result)
        self._in_file += 1
        period_ns = round(self._live.diagnostics_period_s * 1e9)
        if self._reported_ns is None or not 0 <= frame.time_ns - self._reported_ns < period_ns:
            self._report(frame.time_ns)

    def _report(self, time_ns: int) -> None:
        types = self._types
        stamp = types("builtin_interfaces/msg/Time", sec=time_ns // 10**9, nanosec=time_ns % 10**9)
        statuses = [camera.diagnostic_status(self._plan.node_name, self._facts) for camera in self.cameras]
        header = types("std_msgs/msg/Header", stamp=stamp)
        message = types(DIAGNOSTICS_TYPE, header=header, status=statuses)
        self.bag.write(DIAGNOSTICS, time_ns, types.serialized(message))
        self._reported_ns = time_ns

    def _end_file(self) -> None:
        self.bag.close_file()
        self._in_file = 0
        self._save_state(complete=False)

    def _save_state(self, complete: bool) -> None:
        """After the bag: if the process dies between the two, a file too many is dropped, never one missed."""
        state = {
            "format": STATE_FORMAT,
            "complete": complete,
            "identity": self._plan.identity,
            "facts": self._facts,
            "files": len(self.bag.files),
            "used": self._used,
            "last_ns": self._last_ns,
            "reported_ns": self._reported_ns,
            "cameras": [camera.state() for camera in self.cameras],
        }
        write_json(self._out / STATE_FILE, state)


def is_own_topic(topic: str, node_name: str) -> bool:
    """Whether a replay under this name writes it, or a node of this name publishes it as a result: copied beside new
    results, old ones would pass for them."""
    results = tuple(f"/{name}" for name in (*OUTPUT_TOPICS.values(), STATE_TOPIC))
    return topic == DIAGNOSTICS or (topic.startswith(f"{node_name}/") and topic.endswith(results))


def write_json(path: Path, data: Any) -> None:
    """Replace a file atomically."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_state(out: Path) -> dict[str, Any]:
    """The state of the replay in a folder.

    Raises:
        ReplayError: it cannot be read, or is of another version.
    """
    path = out / STATE_FILE
    try:
        state = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ReplayError(f"{path}: cannot be read ({error}); give another --out") from error
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
        raise ReplayError(f"{path}: was written by another version; give another --out, or --overwrite")
    return state


def make_room(out: Path, resume: bool, overwrite: bool) -> None:
    """Prepare the folder of a replay: a finished one gives way, an interrupted one only when told so.

    Raises:
        ReplayError: something else is in the folder, or it is not said what to do with an interrupted replay.
    """
    if out.is_dir() and any(out.iterdir()):
        if not (out / STATE_FILE).is_file():
            raise ReplayError(f"{out} is not empty and was not written by a replay; give another folder with --out")
        if not resume:
            complete = overwrite or read_state(out)["complete"]
            if not complete:
                raise ReplayError(f"{out} holds an interrupted replay: --resume goes on with it, --overwrite drops it")
            shutil.rmtree(out)
    elif resume:
        raise ReplayError(f"{out}: there is no replay to go on with")
    out.mkdir(parents=True, exist_ok=True)
