"""A long recording in parts, each replayed on its own, and joined to what a replay of the whole gives.

What a frame's results depend on besides the frame is small: the state of each camera (`CameraReplay.state`). The worker
of a part begins some seconds before it and forgets those results. Then the part's first state should be that of the
whole: the tracker drops what it has not seen for some frames. Whether it is so is not assumed but compared, with the
last state of the part before it. Equal states give equal results from there on, except for the ids of obstacles, which
count from the beginning: they are renamed. Where the states differ, because something was followed for longer than the
overlap, the part is replayed again from the state of the part before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

State = Mapping[str, Any]
"""That of a camera, see `CameraReplay.state`."""


@dataclass(frozen=True)
class PartPlan:
    """How a recording is split.

    Attributes:
        cuts_ns: times in the recording at which the second and later parts begin.
        frames: number of frames that the recording announces.
    """

    cuts_ns: tuple[int, ...]
    frames: int

    def span(self, number: int) -> tuple[int | None, int | None]:
        """First time of a part, and the time before which it ends; None: from the beginning, to the end."""
        start_ns = self.cuts_ns[number - 1] if number else None
        return start_ns, self.cuts_ns[number] if number < len(self.cuts_ns) else None

    @property
    def count(self) -> int:
        """Number of parts."""
        return len(self.cuts_ns) + 1


@dataclass(frozen=True)
class SpanResult:
    """What the replay of a recording, or of a span of it, gave beside its rows. Plain data (JSON).

    Attributes:
        summary: as in `summary.json` of a replay.
        before, after: state of each camera before the first frame and after the last.
        calibrations: of each camera the digests of the calibrations that were in use, in order, each once.
        first_ns, last_ns: times of the first and last frame; None: there is none.
        obstacles: number of rows of obstacles.
    """

    summary: dict[str, Any]
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]
    calibrations: list[list[str]]
    first_ns: int | None
    last_ns: int | None
    obstacles: int


def cuts(start_ns: int, end_ns: int, part_s: float) -> tuple[int, ...]:
    """Where a recording is cut into equal parts that are about so long; empty if it is not longer than 1.5 of them.

    >>> cuts(0, 30_000_000_000, 10.0)
    (10000000000, 20000000000)
    >>> cuts(0, 14_000_000_000, 10.0)
    ()
    """
    length_ns = end_ns - start_ns
    if part_s <= 0 or length_ns <= 1.5 * part_s * 1e9:
        return ()
    count = round(length_ns / (part_s * 1e9))
    return tuple(start_ns + length_ns * number // count for number in range(1, count))


def begin_from(fresh: State, earlier: State) -> dict[str, Any]:
    """The state of a camera that continues after `earlier`, with the counts of `fresh`, which took no frame."""
    followed = ("detector", "plausibility", "ground", "motion", "last_fate", "last_doubts")
    headers = {**fresh["headers"], "last_ns": earlier["headers"]["last_ns"]}
    return deepcopy({**fresh, **{name: earlier[name] for name in followed}, "headers": headers})


def is_same_memory(one: Sequence[State], other: Sequence[State], seen_frames: int) -> bool:
    """Whether cameras in these states give the same results from now on, except for the ids of obstacles.

    Args:
        seen_frames: `PersistenceSettings.seen_frames`. Of the number of uninterrupted frames only matters whether it
            has been reached.
    """
    return [_memory(state, seen_frames) for state in one] == [_memory(state, seen_frames) for state in other]


def _memory(state: State, seen_frames: int) -> dict[str, Any]:
    detector = {name: value for name, value in state["detector"].items() if name != "next_id"}
    detector["tracks"] = [
        {name: value for name, value in track.items() if name != "id"} for track in detector["tracks"]
    ]
    detector["uninterrupted_frames"] = min(detector["uninterrupted_frames"], seen_frames)
    return {
        "detector": detector,
        "plausibility": state["plausibility"],
        "last_stamp": state["headers"]["last_ns"],
        "motion": state["motion"],
    }


class Ids:
    """Renames the obstacles of a camera from those of a part to those of the whole.

    Args:
        whole, part: two states with the same memory, the same number of tracks in the same order.

    >>> track = lambda number: {"id": number}
    >>> whole = {"detector": {"tracks": [track(7), track(9)], "next_id": 12}}
    >>> part = {"detector": {"tracks": [track(1), track(2)], "next_id": 3}}
    >>> ids = Ids(whole, part)
    >>> [ids(number) for number in (1, 2, 3, 4)]
    [7, 9, 12, 13]
    """

    def __init__(self, whole: State, part: State) -> None:
        pairs = zip(part["detector"]["tracks"], whole["detector"]["tracks"], strict=True)
        self._followed = {ours["id"]: theirs["id"] for ours, theirs in pairs}
        self._further = whole["detector"]["next_id"] - part["detector"]["next_id"]

    def __call__(self, number: int) -> int:
        """The id in the whole recording."""
        return self._followed.get(number, number + self._further)

    def renamed(self, state: State) -> dict[str, Any]:
        """A later state of the part with the ids of the whole."""
        found = deepcopy(dict(state))
        detector = found["detector"]
        for track in detector["tracks"]:
            track["id"] = self(track["id"])
        detector["next_id"] += self._further
        return found


def why_not_joined(results: Sequence[SpanResult], frames: int) -> str:
    """Why parts cannot be joined exactly, so that the recording is replayed as a whole; "" if they can.

    Sentences about frames count from the beginning of what was read, and calibrations are not part of a state.

    Args:
        frames: number of frames that the recording announces.
    """
    summaries = [result.summary for result in results]
    if any(summary["input"]["damage"] for summary in summaries):
        return "it is damaged"
    if any(summary["input"] != summaries[0]["input"] for summary in summaries):
        return "its parts are read in different ways"
    cameras = [camera for summary in summaries for camera in summary["cameras"]]
    if sum(camera["accounting"]["frames"] for camera in cameras) != frames:
        return "its parts do not hold as many frames as it announces"
    if any(camera["problems"] for camera in cameras):
        return "it has frames with problems"
    if any(camera[name]["frames"] for camera in cameras for name in ("zero_stamps", "unordered_stamps")):
        return "it has stamps that are 0 or go back"
    for number in range(len(results[0].calibrations)):
        if len({digest for result in results for digest in result.calibrations[number]}) > 1:
            return "its calibration changes"
        for name in ("rectified", "shared_frame_id"):
            if len({summary["cameras"][number][name] for summary in summaries}) > 1:
                return "its cameras change"
    return ""


def joined_summary(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The summary of the whole from those of its parts, without outputs."""
    cameras = [_joined_camera(of_camera) for of_camera in zip(*(s["cameras"] for s in summaries), strict=True)]
    return {**summaries[0], "cameras": cameras, "topics": {}}


def _joined_camera(cameras: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    because: dict[str, str] = {}
    for camera in reversed(cameras):
        because |= camera["implausible_because"]
    counted = ("frames_too_far_apart", "frames_without_ground", "frames_without_motion")
    return {
        **cameras[-1],
        "accounting": _sums([camera["accounting"] for camera in cameras]),
        "implausible": _sums([camera["implausible"] for camera in cameras]),
        "implausible_because": because,
        **{name: _joined_count([camera[name] for camera in cameras]) for name in counted},
    }


def _sums(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in counts:
        for name, count in part.items():
            found[name] = found.get(name, 0) + count
    return found


def _joined_count(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    problem = next((count["problem"] for count in counts if count["problem"]), "")
    return {"frames": sum(count["frames"] for count in counts), "problem": problem}
