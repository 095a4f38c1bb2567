"""Reads the camera images of single frames again, from their recordings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from fleet.selection.candidates import Candidate
from fleet.storage.place import on_this_machine, open_place
from ros_ood_perception.camera.limits import DEFAULT_MAX_PIXELS
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.replay.inputs import BagInput, Input, open_input
from ros_ood_perception.replay.recorded_images import ImageKey, output_prefix, recorded_images
from ros_ood_perception.shown_text import error_line

GAP_NS = 10_000_000_000
"""Frames of a bag further apart than this are read one by one; nearer ones with what lies between."""


@dataclass
class FrameReader:
    """Reads the frames of many recordings.

    Attributes:
        rate_hz: of folders of images, as they were mined.
        scratch: a local folder for copies of recordings that lie elsewhere; "": the system's.
        problems: a sentence for each recording or frame that cannot be read.
    """

    rate_hz: float
    scratch: str = ""
    problems: list[str] = field(default_factory=list)

    def __call__(self, wanted: Iterable[Candidate]) -> Iterator[tuple[Candidate, NDArray[np.uint8]]]:
        """Each frame with its image (H, W, 3) uint8 RGB, one recording after the other."""
        by_recording: dict[str, list[Candidate]] = defaultdict(list)
        for candidate in wanted:
            by_recording[candidate.recording].append(candidate)
        for recording, candidates in sorted(by_recording.items()):
            yield from self._of_recording(recording, candidates)

    def _of_recording(
        self, recording: str, candidates: Sequence[Candidate]
    ) -> Iterator[tuple[Candidate, NDArray[np.uint8]]]:
        cameras = sorted({(candidate.camera, candidate.topic) for candidate in candidates})
        names = [f"{name}={topic}" if name else topic for name, topic in cameras]
        missing = {self._key(candidate): candidate for candidate in candidates}
        try:
            scratch = TemporaryDirectory(dir=self.scratch or None)
            with scratch as folder, on_this_machine(open_place(recording), Path(folder)) as path:
                source = open_input(path, names, self.rate_hz)
                for part in _parts(source, list(missing)):
                    for key, _, image in recorded_images(source, "", part, DEFAULT_MAX_PIXELS):
                        if key in missing:
                            yield missing.pop(key), image
        except (PerceptionError, OSError) as error:
            self.problems.append(f"{recording}: cannot be read again ({error_line(error)})")
            return
        for candidate in missing.values():
            stamp = candidate.stamp_ns / 1e9
            self.problems.append(f"{recording}: the frame of {candidate.topic} at {stamp:.3f} s is not found again")

    @staticmethod
    def _key(candidate: Candidate) -> ImageKey:
        return output_prefix(candidate.camera, ""), candidate.time_ns, candidate.stamp_ns


def _parts(source: Input, keys: Sequence[ImageKey]) -> Iterator[set[ImageKey]]:
    """Keys that are read together: of a bag those near in time, of anything else all."""
    part: list[ImageKey] = []
    for key in sorted(keys, key=lambda key: key[1]):
        if part and isinstance(source, BagInput) and key[1] - part[-1][1] > GAP_NS:
            yield set(part)
            part = []
        part.append(key)
    if part:
        yield set(part)
