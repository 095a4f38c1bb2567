"""The input of a replay as one stream in order of time: frames of every camera, calibrations, and messages to copy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from ros_ood_perception.camera.raw_image import PlainImage
from ros_ood_perception.messages.stamps import NANOSECONDS_PER_SECOND, stamp_message, stamp_ns
from ros_ood_perception.obstacles.motion import FrameMotion, MotionSettings
from ros_ood_perception.recordings.bag import Bag, BagError, BagMessage
from ros_ood_perception.recordings.image_sequence import ImageFolder, ImageSequence
from ros_ood_perception.recordings.message_types import message_types
from ros_ood_perception.recordings.opening import open_recording
from ros_ood_perception.replay.cameras import CameraTopics, choose_cameras, unread_cameras
from ros_ood_perception.replay.transforms.frame_motion import AwaitedFrame, RecordedPose, with_motion
from ros_ood_perception.replay.transforms.recorded_motion import MotionSource, motion_source, refused_poses
from ros_ood_perception.replay.transforms.static_transforms import TOPIC as STATIC_TRANSFORMS
from ros_ood_perception.replay.transforms.static_transforms import StaticTransforms

LONGEST_ENCODING = 64
"""Characters that are shown; no encoding has so many."""
FRAMES_TOPIC = "/camera/image_raw"
INFO_TYPE = "sensor_msgs/msg/CameraInfo"
TIME_STEP_NS = 1_000_000
"""How exactly the last frame of a bag is searched, nanoseconds."""
TRANSFORMS_TYPE = "tf2_msgs/msg/TFMessage"


@dataclass(frozen=True)
class InputFrame:
    """One frame.

    Attributes:
        camera: the camera's index in `cameras`.
        number: number of the frame among this camera's frames, from 0. Frames that are left out count too.
        name: file name, or topic and number: for messages, and for labels that have the name of their image.
        time_ns: time in the recording, nanoseconds. The results are recorded at the same time.
        message: `sensor_msgs/Image` or `CompressedImage`; None if it cannot be read; `problem` then says why.
        raw: the serialised message; None for files.
        motion: where the vehicle was at its stamp; None: nothing is to tell it.
    """

    camera: int
    number: int
    name: str
    time_ns: int
    message: Any = field(repr=False)
    problem: str = ""
    raw: bytes | None = field(default=None, repr=False)
    motion: FrameMotion | None = None


@dataclass(frozen=True)
class InputInfo:
    """A calibration of one camera."""

    camera: int
    info: Any = field(repr=False)


@dataclass(frozen=True)
class InputCopy:
    """A message that is copied into the output."""

    topic: str
    time_ns: int
    raw: bytes = field(repr=False)


class Input(Protocol):
    """A recording that can be replayed any number of times.

    Attributes:
        kind: `bag`, `folder of images` or `video`.
        cameras: the cameras, at least one.
        left_out: image topic to the reason why it is not taken for a camera.
        damage: what could not be read; complete once `items` has ended.
        notes: what a user should know, and is no damage; complete once `items` has ended.
        frame_count: number of frames; None if the recording does not say.
        transforms: poses of the cameras on the vehicle.
        first_infos: index of a camera to its first calibration. Read it after `use_calibrations`.
        copied: topic to message type, of the topics that can be copied into the output.
    """

    kind: str
    cameras: tuple[CameraTopics, ...]
    left_out: dict[str, str]
    frame_count: int | None
    transforms: StaticTransforms

    @property
    def first_infos(self) -> dict[int, Any]: ...

    @property
    def damage(self) -> list[str]: ...

    @property
    def notes(self) -> list[str]: ...

    @property
    def copied(self) -> dict[str, str]: ...

    @property
    def typestore(self) -> Any: ...

    def limit_images(self, max_pixels: int) -> None:
        """Decode no image file with more pixels. Messages are checked where they are decoded."""
        ...

    def use_calibrations(self, topics: Sequence[str | None]) -> None:
        """Read the calibrations of the cameras from these topics.

        Args:
            topics: of each camera; "": the one beside its images; None: from none, as a file has it.
        """
        ...

    def why_no_calibration(self, camera: int) -> str:
        """The problem to report while a camera has no calibration, with the remedy."""
        ...

    def use_motion(self, settings: MotionSettings, base_frame: str) -> None:
        """Say of each frame where the vehicle was.

        Args:
            base_frame: of the vehicle.
        """
        ...

    def start_ns(self) -> int:
        """The time of the first frame."""
        ...

    def end_ns(self) -> int:
        """The time of the last frame, or up to `TIME_STEP_NS` before it. A video is decoded for it."""
        ...

    def has_frame(self, start_ns: int | None, stop_ns: int | None) -> bool:
        """Whether there is a frame from `start_ns` on and before `stop_ns`."""
        ...

    def items(
        self, start_ns: int | None, stop_ns: int | None, copied: Collection[str]
    ) -> Iterator[InputFrame | InputInfo | InputCopy]:
        """Everything from `start_ns` on and before `stop_ns`, in order of time.

        Args:
            copied: topics of `self.copied` whose messages are included.
        """
        ...


class BagInput:
    """The cameras of a bag.

    Args:
        wanted: see `choose_cameras`.

    Raises:
        BagError: it has no topic, or no frame.
        CameraChoiceError: see `choose_cameras`.
    """

    kind = "bag"

    def __init__(self, bag: Bag, wanted: Sequence[str]) -> None:
        self._bag = bag
        self._broken: dict[str, None] = {}
        if not bag.types:
            raise BagError(f"{bag.path}: {_no_topics(bag)}")
        # A camera of the metadata that no file holds counts as well: it has no frame, which must be said.
        types = {**bag.announced, **bag.types}
        choice = choose_cameras(types, wanted, str(bag.path), bag.counts, partial(first_encoding, bag))
        self.cameras, self.left_out = choice.cameras, choice.left_out
        topics = [camera.image for camera in self.cameras]
        counts = {topic: bag.counts.get(topic, 0) for topic in topics}
        self.frame_count: int | None = sum(counts.values())
        if self.frame_count == 0:
            raise BagError(f"{bag.path}: has no messages on {', '.join(topics)}{_because(bag)}")
        for topic in topics:
            if not counts[topic]:
                self._broken[f"{topic}: is a camera's topic without messages; choose others with --camera"] = None
        self._notes = _fuller_compressed(self.cameras, bag.counts)
        if not wanted:
            self._notes += unread_cameras({topic: kind for topic, kind in types.items() if bag.counts.get(topic)})
        self.transforms = StaticTransforms()
        for message in self._read(self._transform_topics()):
            self.transforms.add(message)
        self._notes += self.transforms.changes
        self._new_motion: Callable[[], MotionSource | None] = lambda: None
        self._motion: MotionSource | None = None

    @property
    def damage(self) -> list[str]:
        """See `Input`."""
        return [*self._bag.damage, *self._broken]

    @property
    def notes(self) -> list[str]:
        """See `Input`."""
        refused = [] if self._motion is None else refused_poses(self._motion)
        return [*self._bag.notes, *self._notes, *refused]

    @property
    def typestore(self) -> Any:
        """See `Input`."""
        return self._bag.typestore

    @property
    def _info_topics(self) -> dict[str, list[int]]:
        """Topic of a calibration to the indices of its cameras: images of one camera can be on several topics."""
        found: dict[str, list[int]] = {}
        for index, camera in enumerate(self.cameras):
            if self._bag.types.get(camera.info) == INFO_TYPE:
                found.setdefault(camera.info, []).append(index)
        return found

    @cached_property
    def first_infos(self) -> dict[int, Any]:
        """See `Input`."""
        found = {}
        for topic, cameras in self._info_topics.items():
            first = next(self._read([topic]), None)
            if first is not None:
                found.update(dict.fromkeys(cameras, _ros2_names(first)))
        return found

    def use_calibrations(self, topics: Sequence[str | None]) -> None:
        """See `Input.use_calibrations`."""
        self.cameras = tuple(
            camera if topic == "" else replace(camera, info=topic or "")
            for camera, topic in zip(self.cameras, topics, strict=True)
        )

    def why_no_calibration(self, camera: int) -> str:
        """See `Input.why_no_calibration`."""
        others = sorted(topic for topic, kind in self._bag.types.items() if kind == INFO_TYPE)
        recorded = f"one of the recording's ({', '.join(others)})" if others else "its topic"
        return (
            f"nothing was recorded on {self.cameras[camera].info}; set calibration.camera_info_topic to {recorded}, or "
            "calibration.file"
        )

    def use_motion(self, settings: MotionSettings, base_frame: str) -> None:
        """See `Input.use_motion`."""
        self._new_motion = partial(motion_source, settings, base_frame, self.transforms)
        source = self._new_motion()
        if source is None or self._bag.types.get(source.topic) == source.kind:
            return
        others = sorted(topic for topic, kind in self._bag.types.items() if kind == source.kind)
        recorded = f"recorded is {', '.join(others)}" if others else "no other topic has that type"
        self._notes.append(f"{source.topic} has no {source.kind}, so it is not known where the vehicle was; {recorded}")

    @cached_property
    def copied(self) -> dict[str, str]:
        """See `Input`. Computed on demand, as it reads the definitions of all types."""
        copyable = self._bag.copyable
        if not self._bag.is_ros1:
            for topic in sorted(self._bag.types.keys() - copyable.keys()):
                kind = self._bag.types[topic]
                self._broken[f"{topic}: is not copied, as the definition of {kind} cannot be written"] = None
        return copyable

    def _transform_topics(self) -> list[str]:
        """`/tf_static`; if it has no messages, the only topic of that name in a namespace."""
        types = self._bag.types
        there = [
            topic
            for topic, kind in types.items()
            if kind == TRANSFORMS_TYPE and topic.endswith(STATIC_TRANSFORMS) and self._bag.counts.get(topic)
        ]
        if STATIC_TRANSFORMS in there or not there:
            return [STATIC_TRANSFORMS] if types.get(STATIC_TRANSFORMS) == TRANSFORMS_TYPE else []
        named = ", ".join(sorted(there))
        if len(there) > 1:
            self._notes.append(f"{STATIC_TRANSFORMS} has no messages; which of {named} to use is not known: none is")
            return []
        self._notes.append(f"{STATIC_TRANSFORMS} has no messages; {named} is used")
        return there

    def _read(self, topics: Collection[str]) -> Iterator[Any]:
        """The readable messages of topics, which need not exist."""
        for message in self._bag.messages(topics):
            try:
                yield self._bag.deserialize(message)
            except BagError as error:
                self._broken[str(error)] = None

    def limit_images(self, max_pixels: int) -> None:
        """See `Input.limit_images`: a bag has no image files."""

    def start_ns(self) -> int:
        """The time of the first frame."""
        return self._next_time_ns(None, None) or 0

    def end_ns(self) -> int:
        """See `Input`. The bag's index finds a place in time, so only a few messages are read."""
        last_ns = self.start_ns()
        beyond_ns = last_ns + NANOSECONDS_PER_SECOND
        while (found := self._next_time_ns(beyond_ns, None)) is not None:
            last_ns, beyond_ns = found, found + 2 * (beyond_ns - last_ns)
        while beyond_ns - last_ns > TIME_STEP_NS:
            middle_ns = (last_ns + beyond_ns) // 2
            found = self._next_time_ns(middle_ns, None)
            last_ns, beyond_ns = (last_ns, middle_ns) if found is None else (found, beyond_ns)
        return last_ns

    def has_frame(self, start_ns: int | None, stop_ns: int | None) -> bool:
        """See `Input`."""
        return self._next_time_ns(start_ns, stop_ns) is not None

    def _next_time_ns(self, start_ns: int | None, stop_ns: int | None) -> int | None:
        """The time of the first frame of a span; None: it has none."""
        first = next(self._bag.messages([camera.image for camera in self.cameras], start_ns, stop_ns), None)
        return None if first is None else first.time_ns

    def items(
        self, start_ns: int | None, stop_ns: int | None, copied: Collection[str]
    ) -> Iterator[InputFrame | InputInfo | InputCopy]:
        """See `Input.items`."""
        # A new one each time: what comes must depend on the recording alone.
        self._motion = self._new_motion()
        if self._motion is None:
            for item in self._items(start_ns, stop_ns, copied, ""):
                assert not isinstance(item, RecordedPose)
                yield item
            return
        of_poses = self._motion.topic if self._bag.types.get(self._motion.topic) == self._motion.kind else ""
        items = map(_awaited, self._items(start_ns, stop_ns, copied, of_poses))
        for other, motion in with_motion(items, self._motion):
            yield replace(other, motion=motion) if isinstance(other, InputFrame) else other

    def _items(
        self, start_ns: int | None, stop_ns: int | None, copied: Collection[str], of_poses: str
    ) -> Iterator[InputFrame | InputInfo | InputCopy | RecordedPose]:
        images = {camera.image: index for index, camera in enumerate(self.cameras)}
        numbers = [0] * len(self.cameras)
        infos = self._info_topics
        topics = {*images, *infos, *copied, *([of_poses] if of_poses else ())}
        for raw in self._bag.messages(topics, start_ns, stop_ns):
            if raw.topic in copied:
                yield InputCopy(raw.topic, raw.time_ns, raw.raw)
            if raw.topic in images:
                camera = images[raw.topic]
                yield bag_frame(self._bag, raw, camera, numbers[camera])
                numbers[camera] += 1
            elif raw.topic in infos or raw.topic == of_poses:
                try:
                    message = self._bag.deserialize(raw)
                except BagError as error:
                    self._broken[str(error)] = None
                    continue
                if raw.topic == of_poses:
                    yield RecordedPose(message, raw.time_ns)
                for camera in infos.get(raw.topic, ()):
                    yield InputInfo(camera, _ros2_names(message))


def _awaited(
    item: InputFrame | InputInfo | InputCopy | RecordedPose,
) -> RecordedPose | tuple[InputFrame | InputInfo | InputCopy, AwaitedFrame | None]:
    """An item with what it waits for, see `with_motion`."""
    if isinstance(item, RecordedPose):
        return item
    if isinstance(item, InputFrame) and item.message is not None:
        return item, AwaitedFrame(stamp_ns(item.message.header.stamp), item.time_ns)
    return item, None


def bag_frame(bag: Bag, raw: BagMessage, camera: int, number: int) -> InputFrame:
    """The frame of a recorded image; without a message where it cannot be read."""
    message, problem = None, ""
    try:
        message = bag.deserialize(raw)
    except BagError as error:
        problem = str(error)
    return InputFrame(camera, number, f"{raw.topic} #{number}", raw.time_ns, message, problem, raw.raw)


class SequenceInput:
    """A folder of images or a video as one camera.

    Args:
        rate_hz: frame rate of a folder. Image number n, from 0, has the stamp (n + 1) / rate. A video has its own
            times, which start at 1 s.
    """

    def __init__(self, source: ImageSequence, rate_hz: float) -> None:
        self._source = source
        self._rate_hz = rate_hz
        self.kind = source.kind
        self.cameras: tuple[CameraTopics, ...] = (CameraTopics("", FRAMES_TOPIC, "/camera/camera_info", False),)
        self.left_out: dict[str, str] = {}
        self.damage: list[str] = []
        self.notes: list[str] = source.notes
        self.frame_count: int | None = len(source)
        self.transforms = StaticTransforms()
        self.first_infos: dict[int, Any] = {}
        self.copied = {FRAMES_TOPIC: "sensor_msgs/msg/Image"}
        self._frame_motion: FrameMotion | None = None
        self.typestore = message_types().typestore

    def limit_images(self, max_pixels: int) -> None:
        """See `Input.limit_images`."""
        self._source.max_image_pixels = max_pixels

    def use_calibrations(self, topics: Sequence[str | None]) -> None:
        """See `Input.use_calibrations`: images have none."""

    def why_no_calibration(self, camera: int) -> str:
        """See `Input.why_no_calibration`."""
        return f"a {self.kind} has no camera_info; set calibration.file"

    def use_motion(self, settings: MotionSettings, base_frame: str) -> None:
        """See `Input.use_motion`: images tell nothing of it."""
        if settings.is_given:
            self._frame_motion = FrameMotion(None, problem=f"a {self.kind} does not say where the vehicle was")

    def start_ns(self) -> int:
        """The time of the first frame."""
        return next(self._times_ns(), 0)

    def end_ns(self) -> int:
        """See `Input`."""
        return max(self._times_ns(), default=0)

    def has_frame(self, start_ns: int | None, stop_ns: int | None) -> bool:
        """See `Input`."""
        return any(_is_within(time_ns, start_ns, stop_ns) for time_ns in self._times_ns())

    def _times_ns(self) -> Iterator[int]:
        """The times of the frames, in order."""
        if isinstance(self._source, ImageFolder):
            # Those of a folder do not depend on its files, so nothing is decoded.
            return (self._time_ns(index, None) for index in range(len(self._source)))
        return (self._time_ns(index, frame.time_ns) for index, frame in enumerate(self._source))

    def _time_ns(self, index: int, own_ns: int | None) -> int:
        # Many consumers read a stamp of zero as "no stamp".
        return (
            round((index + 1) / self._rate_hz * NANOSECONDS_PER_SECOND)
            if own_ns is None
            else NANOSECONDS_PER_SECOND + own_ns
        )

    def items(
        self, start_ns: int | None, stop_ns: int | None, copied: Collection[str]
    ) -> Iterator[InputFrame | InputInfo | InputCopy]:
        """See `Input.items`."""
        types = message_types()
        for index, frame in enumerate(self._source):
            time_ns = self._time_ns(index, frame.time_ns)
            if not _is_within(time_ns, start_ns, stop_ns):
                continue
            header = types("std_msgs/msg/Header", stamp=stamp_message(types, time_ns), frame_id=frame.frame_id)
            if FRAMES_TOPIC in copied:
                image = types(
                    "sensor_msgs/msg/Image",
                    header=header,
                    height=frame.height,
                    width=frame.width,
                    encoding=frame.encoding,
                    step=frame.step,
                    data=frame.data,
                )
                yield InputCopy(FRAMES_TOPIC, time_ns, types.serialized(image))
            message = PlainImage(header, frame.height, frame.width, frame.encoding, frame.step, frame.data)
            yield InputFrame(0, index, frame.name, time_ns, message, motion=self._frame_motion)
        self.damage = [f"cannot be decoded: {problem}" for problem in self._source.unreadable]


def open_input(path: Path, wanted: Sequence[str], rate_hz: float) -> Input:
    """Open a bag, a folder of images or a video.

    Raises:
        BagError, CameraChoiceError, ImageSequenceError: nothing there that can be replayed.
    """
    recording = open_recording(path)
    return BagInput(recording, wanted) if isinstance(recording, Bag) else SequenceInput(recording, rate_hz)


def _fuller_compressed(cameras: Sequence[CameraTopics], counts: Mapping[str, int]) -> list[str]:
    """Cameras whose raw topic is used, although their compressed topic has more messages."""
    return [
        f"{camera.image} is used, with {counts.get(camera.image, 0)} messages; {camera.image}/compressed has {more}; "
        "--camera can choose it"
        for camera in cameras
        if (more := counts.get(f"{camera.image}/compressed", 0)) > counts.get(camera.image, 0)
    ]


def _is_within(time_ns: int, start_ns: int | None, stop_ns: int | None) -> bool:
    return (start_ns is None or time_ns >= start_ns) and (stop_ns is None or time_ns < stop_ns)


def first_encoding(bag: Bag, topic: str) -> str:
    """The encoding of the topic's first image; empty if it cannot be read or does not say."""
    first = next(bag.messages([topic]), None)
    if first is None:
        return ""
    try:
        message = bag.deserialize(first)
    except BagError:
        # Named when its frame is replayed.
        return ""
    # image_transport writes `16UC1; png compressed ` or `rgb8; jpeg compressed bgr8`, others only `jpeg`.
    before, separator, _ = str(getattr(message, "format", "")).partition(";")
    return str(getattr(message, "encoding", before.strip() if separator else ""))[:LONGEST_ENCODING]


def _no_topics(bag: Bag) -> str:
    others = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(bag.left_out.items()))
    if "ROS 1" in bag.left_out.values():
        return (
            f"holds messages of ROS 1 in MCAP ({others}); give the ROS 1 bag itself, or convert that: "
            "rosbags-convert --src DRIVE.bag --dst FOLDER"
        )
    if others:
        return f"holds no messages of ROS 2, only {others}; record the ROS topics themselves"
    return f"the bag is empty: it has no topics{_because(bag)}"


def _because(bag: Bag) -> str:
    return f" ({'; '.join(bag.damage)})" if bag.damage else ""


def _ros2_names(info: Any) -> Any:
    """A CameraInfo of ROS 1 (`D`, `K`, `R`, `P`) under the names of ROS 2."""
    if hasattr(info, "k"):
        return info
    fields = {name.lower() if name in "DKRP" else name: value for name, value in vars(info).items()}
    return SimpleNamespace(**fields)
