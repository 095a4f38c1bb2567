"""What every worker of one run is told. Plain data, because it travels to other machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class MineSettings:
    """How recordings are replayed.

    Attributes:
        out: path or URI of the folder of the tables.
        bundle_files: contents of the bundle's files by name.
        parameters: contents of the node's parameter file; None: its defaults.
        replay_options: further options of `replay`, as on its command line.
        with_outputs: `replay_options` name outputs whose digests are wanted.
        part_s: length of a part of a long recording, seconds; 0: none is split.
        overlap_s: how much before its part a worker begins, so that the tracker knows what the part's first frame
            follows, seconds.
        memory_bytes: a worker that needs more gives its recording up; 0: no limit.
        scratch: a local folder of each machine for copies of recordings; "": the system's.
    """

    out: str
    bundle_files: Mapping[str, bytes] = field(repr=False)
    parameters: bytes | None = field(default=None, repr=False)
    replay_options: tuple[str, ...] = ()
    with_outputs: bool = False
    part_s: float = 600.0
    overlap_s: float = 10.0
    memory_bytes: int = 0
    scratch: str = ""
