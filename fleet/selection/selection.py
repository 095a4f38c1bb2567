"""Chooses the frames, and writes the folder that is labelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleet.labelling.labelling_folder import LabellingFolder, SelectedFrame, frame_name
from fleet.labelling.prelabels import Labels, Prelabel, PrelabelBox, with_unknown
from fleet.selection.candidates import Candidate
from fleet.selection.features import EmbeddingNetwork
from fleet.selection.recorded_frames import FrameReader
from fleet.selection.spread import spread
from fleet.tables.mined import MinedTables
from fleet.tables.schema import OBSTACLES
from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.inference.engine import EngineError
from ros_ood_perception.inference.perception import FramePerception
from ros_ood_perception.shown_text import error_line

BOX_COLUMNS = (*("topic", "number", "id", "score", "box_x", "box_y", "box_width", "box_height"),)


@dataclass
class Network:
    """A bundle on frames that are read again.

    Attributes:
        problems: a sentence for each frame on which the engine failed.
    """

    bundle: Bundle
    run: EmbeddingNetwork
    problems: list[str] = field(default_factory=list)

    def __call__(
        self, candidate: Candidate, rgb: NDArray[np.uint8]
    ) -> tuple[FramePerception, NDArray[np.float32]] | None:
        """Results and embedding of a frame (H, W, 3) uint8 RGB; None if the engine failed, which is noted."""
        is_rgb = self.bundle.description.input.colour_order == "rgb"
        try:
            return self.run(rgb if is_rgb else np.ascontiguousarray(rgb[..., ::-1]))
        except EngineError as error:
            self.problems.append(f"{candidate.recording}, {candidate.time_ns}: {error_line(error)}")
            return None


def choose(
    candidates: Sequence[Candidate],
    network: Network,
    reader: FrameReader,
    count: int,
    apart_ns: int,
    advance: Callable[[], None],
) -> list[Candidate]:
    """At most `count` of the candidates, without near copies, in the order in which they were chosen.

    Args:
        advance: called for each candidate that was read.
    """
    read: list[Candidate] = []
    embeddings: list[NDArray[np.float32]] = []
    for candidate, image in reader(candidates):
        found = network(candidate, image)
        advance()
        if found is not None:
            read.append(candidate)
            embeddings.append(found[1])
    if not read:
        return []
    sizes = {len(vector) for vector in embeddings}
    longest = max(sizes)
    # Sizes differ where the bundle has several graphs. Frames of different ones are then far apart.
    padded = np.stack([np.pad(vector, (0, longest - len(vector))) for vector in embeddings])
    # The square root: a frame with four times the evidence outweighs half the distance. Of the powers that were tried
    # on other drives than those reported on, it kept the unknown objects and spread the frames most.
    worth = np.sqrt([candidate.evidence for candidate in read])
    sequences = [candidate.sequence for candidate in read]
    times = np.array([candidate.time_ns for candidate in read], np.int64)
    return [read[index] for index in spread(padded, worth, sequences, times, count, apart_ns)]


def write_frames(
    folder: LabellingFolder,
    chosen: Sequence[Candidate],
    tables: MinedTables,
    network: Network,
    reader: FrameReader,
    labels: Labels,
    advance: Callable[[], None],
) -> list[SelectedFrame]:
    """Write the chosen frames with what the network sees; returns those that were written, in the order of `chosen`."""
    ranks = {candidate: rank for rank, candidate in enumerate(chosen, 1)}
    boxes: dict[tuple[str, str, int], list[PrelabelBox]] = {}
    boxes_of = ""
    written: list[SelectedFrame] = []
    for candidate, image in reader(chosen):
        if candidate.recording != boxes_of:
            boxes, boxes_of = _boxes(tables, candidate.recording), candidate.recording
        found = network(candidate, image)
        advance()
        if found is None:
            continue
        perception = found[0]
        seen = boxes.get((candidate.recording, candidate.topic, candidate.number), [])
        ids = with_unknown(perception.semantic, perception.anomaly_mask, seen)
        name = frame_name(candidate.recording, candidate.camera, candidate.time_ns)
        folder.add(Prelabel(name, ids, seen), image)
        written.append(SelectedFrame(name, _facts(candidate, ranks[candidate], image.shape[:2], len(seen))))
    return sorted(written, key=lambda frame: frame.facts["rank"])


def _boxes(tables: MinedTables, recording: str) -> dict[tuple[str, str, int], list[PrelabelBox]]:
    found: dict[tuple[str, str, int], list[PrelabelBox]] = {}
    for row in tables.rows(OBSTACLES, BOX_COLUMNS, recording).to_pylist():
        box = PrelabelBox(
            row["box_x"], row["box_y"], row["box_width"], row["box_height"], str(row["id"]), float(row["score"])
        )
        found.setdefault((recording, row["topic"], row["number"]), []).append(box)
    return found


def _facts(candidate: Candidate, rank: int, size: tuple[int, ...], obstacles: int) -> dict[str, Any]:
    return {
        "rank": rank,
        "evidence": candidate.evidence,
        "recording": candidate.recording,
        "topic": candidate.topic,
        "camera": candidate.camera,
        "number": candidate.number,
        "time_ns": candidate.time_ns,
        "stamp_ns": candidate.stamp_ns,
        "size": list(size),
        "obstacles": obstacles,
    }
