"""The replay: processes every frame in order, writes every result into a bag, and records its state to resume from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.files.json_files import json_text
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.messages.results import IMAGE, TYPES
from ros_ood_perception.messages.stamps import stamp_message
from ros_ood_perception.messages.topics import OUTPUT_TOPICS, STATE_TOPIC
from ros_ood_perception.parameters.settings import FixedSettings, LiveSettings
from ros_ood_perception.pipeline.camera_pipeline import FrameResult
from ros_ood_perception.pipeline.fates import MALFORMED
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.recordings.split_bag import SplitBag, part_file
from ros_ood_perception.replay.camera_replay import CameraReplay
from ros_ood_perception.replay.cameras import CameraTopics
from ros_ood_perception.replay.engine_pool import EnginePool
from ros_ood_perception.replay.inputs import Input, InputCopy, InputFrame, InputInfo
from ros_ood_perception.replay.read_ahead import ReadAhead, ReadyFrame
from ros_ood_perception.replay.state import (
    STATE_FILE,
    SUMMARY_FILE,
    FileRecord,
    ReplayError,
    file_digest,
    read_state,
    whole_files,
    write_record,
    write_state,
)

DIAGNOSTICS = "/diagnostics"
DIAGNOSTICS_TYPE = "diagnostic_msgs/msg/DiagnosticArray"


class ResultObserver(Protocol):
    """Sees every result as it was computed, before any rounding."""

    def __call__(self, camera: CameraTopics, frame: InputFrame, result: FrameResult) -> None:
        """Take the result of a frame."""
        ...


class FrameObserver(Protocol):
    """Sees every frame of the input, those without a result too."""

    def __call__(self, camera: CameraReplay, frame: InputFrame, result: FrameResult | None) -> None:
        """Take a frame after it was used or left out. `camera.last_end` says what became of it."""
        ...


@dataclass(frozen=True)
class ReplayPlan:
    """What to replay. The results do not depend on `jobs` and `num_threads`, so they are not part of it.

    Attributes:
        outputs: names of `OUTPUT_TOPICS`.
        node_name: replaces `~` in the outputs' topics.
        start_ns, stop_ns: time span on the recording's time line, nanoseconds; None: from the beginning, to the end.
        every: n: the first and then every n-th frame of each camera is used.
        copied: topics of the input that are copied into the output.
        frames_per_file: frames in one file of the output.
        compressed: whether the chunks of the output are compressed. The digests do not depend on it.
        identity: everything that the results depend on. Only a replay with the same identity can be resumed.
    """

    outputs: tuple[str, ...]
    node_name: str
    start_ns: int | None
    stop_ns: int | None
    every: int
    copied: tuple[str, ...]
    frames_per_file: int
    compressed: bool = True
    identity: dict[str, Any] = field(default_factory=dict)


class Replay:
    """One replay into a folder.

    Args:
        output: a folder that is empty or holds an interrupted replay of the same identity.
        pool: the caller closes it.
        observers: see every result.
        frame_observers: see every frame.

    Attributes:
        went_back: why files of an interrupted replay are written again; empty if none is.

    Raises:
        ReplayError: the folder's state is damaged, or of another replay.
        OSError: with the path.
    """

    def __init__(
        self,
        source: Input,
        output: OutputFolder,
        plan: ReplayPlan,
        bundle: Bundle,
        fixed: FixedSettings,
        live: LiveSettings,
        pool: EnginePool,
        observers: Sequence[ResultObserver] = (),
        frame_observers: Sequence[FrameObserver] = (),
    ) -> None:
        self._source, self._output, self._plan, self._bundle, self._pool = source, output, plan, bundle, pool
        self._fixed, self._live = fixed, live
        self._observers, self._frame_observers = observers, frame_observers
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
                source.why_no_calibration(number),
            )
            for number, topics in enumerate(source.cameras)
        ]
        for number, info in source.first_infos.items():
            self.cameras[number].set_camera_info(info)
        self.bag = SplitBag(output, BAG_FOLDER, types.typestore, plan.compressed)
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
        self._ended = False
        self.went_back = ""
        self._facts = {
            "engine": pool.name,
            "bundle": bundle.description.name,
            "model_sha256": bundle.description.model_sha256,
            "score_temperature": repr(bundle.description.score.temperature),
            "anomaly_threshold": repr(self.cameras[0].threshold),
            "operating_point": live.point(bundle.description).name,
            **live.in_force(bundle.description).facts(),
        }
        self._resume()

    def _resume(self) -> None:
        out = self._output.path
        if not (out / STATE_FILE).is_file():
            self._save_state()
            return
        state = read_state(out)
        if state["identity"] != self._plan.identity or state["facts"] != self._facts:
            different = sorted(
                key
                for ours, theirs in ((self._plan.identity, state["identity"]), (self._facts, state["facts"]))
                for key in {*ours, *theirs}
                if ours.get(key) != theirs.get(key)
            )
            raise ReplayError(
                f"{out}: the replay there was begun with other {', '.join(different)}; give the same, or another --out"
            )
        records, problem = whole_files(out, state["files"])
        if problem:
            kept = f"of {state['files']} files the first {len(records)} are kept"
            self.went_back = f"{problem}; {kept}, and what follows is made again"
        self.bag.keep([record.file for record in records])
        if records:
            last = records[-1]
            self._used, self._last_ns, self._reported_ns = last.used, last.last_ns, last.reported_ns
            self._ended = last.ended
            for camera, camera_state in zip(self.cameras, last.cameras, strict=True):
                camera.restore(camera_state)
        self._save_state()

    def run(self, advance: Callable[[], None], stopped: Callable[[], bool]) -> bool:
        """Replay until the end, or until `stopped` returns True.

        Args:
            advance: called for each frame of the input.
            stopped: called after each item of the input.

        Returns:
            Whether the end was reached; then call `complete`. If not, the output is a bag up to there, and the same
            replay continues from there.

        Raises:
            BrokenExecutor: a process of the pool died.
            OSError: the output cannot be written, with the path. The same replay continues after its last whole file.
        """
        try:
            return self._run(advance, stopped)
        except BaseException:
            self.bag.abandon_file()
            raise

    def complete(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`, and mark the replay as complete.

        Raises:
            OSError: with the path.
        """
        path = self._output.write(SUMMARY_FILE, json_text(summary))
        if summary["complete"]:
            write_state(self._output, self._plan.identity, self._facts, len(self.bag.files), file_digest(path))

    def _run(self, advance: Callable[[], None], stopped: Callable[[], bool]) -> bool:
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
        if complete and not self._ended:
            if self._last_ns:
                self._report(self._last_ns)
            self._ended = True
        self._end_file()
        return complete

    def _take(self, item: ReadyFrame | InputInfo | InputCopy) -> None:
        if isinstance(item, InputCopy):
            self.bag.write(item.topic, item.time_ns, item.raw)
        elif isinstance(item, InputInfo):
            self.cameras[item.camera].set_camera_info(item.info)
        else:
            self._take_frame(item)

    def _take_frame(self, item: ReadyFrame) -> None:
        frame = item.frame
        camera = self.cameras[frame.camera]
        if item.left_out:
            camera.leave_out()
            self._show_frame(camera, frame, None)
            return
        self._last_ns = frame.time_ns
        result = None
        if item.image is None or item.result is None:
            camera.count(MALFORMED, item.problem)
        else:
            result = camera.use(frame, item.image, item.result)
            if result is not None:
                for topic, raw in camera.messages(frame, result):
                    self.bag.write(topic, frame.time_ns, raw)
                for observe in self._observers:
                    observe(camera.topics, frame, result)
        self._show_frame(camera, frame, result)
        self._in_file += 1
        period_ns = round(self._live.diagnostics_period_s * 1e9)
        if self._reported_ns is None or not 0 <= frame.time_ns - self._reported_ns < period_ns:
            self._report(frame.time_ns)

    def _show_frame(self, camera: CameraReplay, frame: InputFrame, result: FrameResult | None) -> None:
        for observe in self._frame_observers:
            observe(camera, frame, result)

    def _report(self, time_ns: int) -> None:
        types = self._types
        stamp = stamp_message(types, time_ns)
        statuses = [camera.diagnostic_status(self._plan.node_name, self._facts) for camera in self.cameras]
        header = types("std_msgs/msg/Header", stamp=stamp)
        message = types(DIAGNOSTICS_TYPE, header=header, status=statuses)
        self.bag.write(DIAGNOSTICS, time_ns, types.serialized(message))
        self._reported_ns = time_ns

    def _end_file(self) -> None:
        name = self.bag.close_file()
        self._in_file = 0
        if name is None:
            return
        record = FileRecord(
            file=name,
            sha256=file_digest(self.bag.folder / name),
            part_sha256=file_digest(self.bag.folder / part_file(name)),
            used=self._used,
            last_ns=self._last_ns,
            reported_ns=self._reported_ns,
            ended=self._ended,
            cameras=[camera.state() for camera in self.cameras],
        )
        # The file is part of the replay once this is written. If the process dies before, it is written again.
        write_record(self._output, record)
        self._save_state()

    def _save_state(self) -> None:
        write_state(self._output, self._plan.identity, self._facts, len(self.bag.files))


def is_own_topic(topic: str, node_name: str) -> bool:
    """Whether a node or replay of this name publishes a topic as a result.

    Old results are not copied into the output, where they would be mistaken for new ones.
    """
    results = tuple(f"/{name}" for name in (*OUTPUT_TOPICS.values(), STATE_TOPIC))
    return topic == DIAGNOSTICS or (topic.startswith(f"{node_name}/") and topic.endswith(results))
