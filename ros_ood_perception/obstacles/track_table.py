"""What is followed: a table with a row for each track, because with NumPy a call costs more than a track does. Knows no
ROS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRACK = np.dtype(
    [
        ("id", np.int64),
        ("box", np.int64, 4),
        ("first_stamp_ns", np.int64),
        ("last_seen_ns", np.int64),
        ("age_frames", np.int64),
        ("sighted", np.float64),
        ("placed", np.float64),
        ("shown", np.bool_),
        ("has_place", np.bool_),
        ("places", np.float64, (2, 5)),
        ("place_stamp_ns", np.int64),
    ]
)
"""The columns of a track.

    id: starts at 1
    box: left, top, width, height in the last frame in which it was seen, pixels
    first_stamp_ns, last_seen_ns: stamps of the first and the last such frame
    age_frames: number of such frames
    sighted, placed: its evidence, see `evidence`
    shown: it was an obstacle by its evidence
    has_place: the last two columns have a meaning
    places: x, y, xx, xy, yy of its place if it stands in the world, in the fixed frame; and if it slides with the
        vehicle, in the vehicle's frame
    place_stamp_ns: stamp of both
"""


UNSEEN, SEEN, SPEAKS_FOR = 0, 1, 2
"""Of a track in a frame: not seen; seen, with a score that speaks against an object; seen, and it does not."""


class TrackTable:
    """Tracks in the order in which they began.

    Args:
        of_frames: the number of last frames of which is known how a track was seen in them.

    Attributes:
        rows: (T,) of `TRACK`.
        seen: (T, of_frames) uint8, `UNSEEN`, `SEEN` or `SPEAKS_FOR` in the last frames, the newest last.
    """

    def __init__(self, of_frames: int) -> None:
        self.rows = np.zeros(0, TRACK)
        self.seen = np.zeros((0, of_frames), np.uint8)
        self._frames = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def evidence(self) -> NDArray[np.float64]:
        """(T,) The log-likelihood ratio of object to false mark."""
        total: NDArray[np.float64] = self.rows["sighted"] + self.rows["placed"]
        return total

    def begin_frame(self) -> None:
        """Begin a frame, in which no track is seen yet."""
        self.seen = np.concatenate([self.seen[:, 1:], np.zeros((len(self), 1), np.uint8)], axis=1)
        self._frames += 1

    def add(self, ids: Sequence[int], stamp_ns: int) -> None:
        """Add tracks that began in this frame. They have not been seen yet."""
        new = np.zeros(len(ids), TRACK)
        new["id"], new["first_stamp_ns"] = ids, stamp_ns
        self.rows = np.concatenate([self.rows, new])
        self.seen = np.concatenate([self.seen, np.zeros((len(ids), self.seen.shape[1]), np.uint8)])
        self._frames = np.concatenate([self._frames, np.ones(len(ids), np.int64)])

    def see(self, tracks: NDArray[np.int64], boxes: NDArray[np.int64], stamp_ns: int) -> None:
        """Tracks of these numbers (N,) are seen in this frame, with boxes (N, 4)."""
        self.rows["box"][tracks] = boxes
        self.rows["last_seen_ns"][tracks] = stamp_ns
        self.rows["age_frames"][tracks] += 1
        self.seen[tracks, -1] = SEEN

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Forget all tracks but these (T,)."""
        self.rows, self.seen, self._frames = self.rows[kept], self.seen[kept], self._frames[kept]

    def remember(self, of_frames: int) -> None:
        """Know of another number of last frames from now on. Of more than before, the earlier ones stay unknown."""
        known = min(self.seen.shape[1], of_frames)
        self._frames = np.minimum(self._frames, known)
        seen = np.zeros((len(self), of_frames), np.uint8)
        seen[:, of_frames - known :] = self.seen[:, self.seen.shape[1] - known :]
        self.seen = seen

    def state(self) -> list[dict[str, Any]]:
        """The tracks as plain data (JSON)."""
        return [
            {
                "id": track["id"].item(),
                "box": tuple(track["box"].tolist()),
                "first": track["first_stamp_ns"].item(),
                "last": track["last_seen_ns"].item(),
                "age": track["age_frames"].item(),
                "seen": seen[-frames:].tolist(),
                "evidence": (track["sighted"].item(), track["placed"].item()),
                "shown": track["shown"].item(),
                "place": [
                    *map(tuple, track["places"].tolist()),
                    track["place_stamp_ns"].item(),
                ]
                if track["has_place"]
                else None,
            }
            for track, seen, frames in zip(self.rows, self.seen, self._frames_known(), strict=True)
        ]

    def _frames_known(self) -> list[int]:
        known: list[int] = np.minimum(self._frames, self.seen.shape[1]).tolist()
        return known

    @classmethod
    def restored(cls, state: Sequence[Mapping[str, Any]], of_frames: int) -> TrackTable:
        """From what `state` gave."""
        table = cls(of_frames)
        table.add([track["id"] for track in state], 0)
        for row, (track, known) in enumerate(zip(table.rows, state, strict=True)):
            track["box"], track["first_stamp_ns"], track["last_seen_ns"] = known["box"], known["first"], known["last"]
            track["age_frames"], track["shown"] = known["age"], known["shown"]
            track["sighted"], track["placed"] = known["evidence"]
            if known["place"] is not None:
                track["has_place"] = True
                static, sliding, track["place_stamp_ns"] = known["place"]
                track["places"] = static, sliding
            seen = known["seen"][-of_frames:]
            table.seen[row, of_frames - len(seen) :] = seen
            table._frames[row] = len(seen)
        return table
