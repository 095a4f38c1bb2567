"""Plays all drives: counts of false obstacles on those without unknown objects, and objects found on the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros_ood_perception.bundle.model_bundle import Bundle
from ros_ood_perception.files.atomic_files import write_file
from ros_ood_perception.files.json_files import JsonFileError, read_json, sealed_text, unsealed
from ros_ood_perception.parameters.settings import LiveSettings
from ros_ood_perception.pipeline.camera_pipeline import PipelineSettings
from ros_ood_perception.progress_bar import progress_bar
from ros_ood_perception.replay.engine_pool import EnginePool
from training.calibrate_obstacles.candidates import THRESHOLDS, Candidate
from training.calibrate_obstacles.choosing import Found, Try
from training.calibrate_obstacles.counting import DriveCounts, FalseObstacleCount
from training.calibrate_obstacles.drives import DriveError, OpenDrive, play
from training.calibrate_obstacles.objects_found import ObjectsFound, objects_found
from training.evaluation.tables import console, say
from training.metrics.obstacles.findings import Findings
from training.metrics.obstacles.truth import ObstacleTruth

CACHE_VERSION = 4


@dataclass(frozen=True)
class Measurement:
    """What all drives are played with.

    Attributes:
        values: of the user's parameters, by name.
        live: the same as settings.
        each_frame: every frame stands for itself.
        every: the first and then every `every`-th frame of each camera is used.
        cache: folder for the counts of finished drives; None: they are not kept.
    """

    bundle: Bundle
    values: Mapping[str, Any]
    live: LiveSettings
    pool: EnginePool
    candidates: Sequence[Candidate]
    each_frame: bool
    every: int
    cache: Path | None

    def settings(self, candidate: int, threshold: int) -> PipelineSettings:
        """What node and replay do with a candidate and one of `THRESHOLDS`, by their numbers."""
        known = self.bundle.description
        return self.candidates[candidate].pipeline_settings(self.live, known, THRESHOLDS[threshold])

    def count(self, drive: OpenDrive, digest: str, tries: Sequence[Try], needed: int, limit: int) -> DriveCounts:
        """Count the false obstacles of each try on a drive, or take the counts from the cache.

        Args:
            needed: a setting with more false obstacles need not be counted to the end.
            limit: to be counted now, at least `needed`.

        Raises:
            DriveError: no frame of it could be used.
            OSError: the cache cannot be written, with the path.
        """
        identity = self._identity(digest, tries)
        kept = self._kept(identity, needed)
        if kept is not None:
            say(f"{drive.path}: counted before")
            return kept
        settings = [self.settings(candidate, threshold) for candidate, threshold in tries]
        observer = FalseObstacleCount(settings, drive.fixed, limit, self.each_frame)
        problems, notes = self._play(drive, observer)
        counted = observer.finished(problems, notes)
        if not counted.frames:
            raise DriveError(f"{drive.path}: no frame could be used: {'; '.join(problems) or 'it has none'}")
        if self.cache is not None:
            self.cache.mkdir(parents=True, exist_ok=True)
            write_file(self._cache_file(identity), sealed_text({"identity": identity, **counted.as_plain()}))
        return counted

    def find(self, drives: Sequence[tuple[OpenDrive, ObstacleTruth]], tries: Sequence[Try]) -> list[Found]:
        """The objects that each try finds.

        Raises:
            DriveError: the truth fits no frame of a drive, or shows no object.
        """
        settings = [self.settings(candidate, threshold) for candidate, threshold in tries]
        findings: list[list[Findings]] = []
        amount = 0.0
        for drive, truth in drives:
            observer = ObjectsFound(settings, drive.fixed, truth, self.each_frame)
            problems, notes = self._play(drive, observer)
            for text in (*problems, *notes):
                say(f"{drive.path}: {text}")
            if not any(one.objects for one in observer.findings):
                raise DriveError(
                    f"{drive.path}: no object of {truth.path} is in view in a frame of it, so it shows nothing about "
                    "what is found; give a drive with objects"
                )
            findings.append(observer.findings)
            amount += observer.findings[0].frames if self.each_frame else observer.hours
        return objects_found(findings, amount)

    def _play(self, drive: OpenDrive, observer: FalseObstacleCount | ObjectsFound) -> tuple[list[str], list[str]]:
        with progress_bar(console) as bar:
            task = bar.add_task(drive.name, total=drive.source.frame_count)
            return play(drive, self.bundle, self.live, self.pool, self.every, observer, lambda: bar.advance(task))

    def _identity(self, digest: str, tries: Sequence[Try]) -> str:
        """Everything that the counts of a drive depend on, as a digest."""
        parameters = {name: value for name, value in self.values.items() if name not in ("bundle", "operating_point")}
        identity = {
            "version": CACHE_VERSION,
            "drive": digest,
            "model": self.bundle.description.model_sha256,
            "sizes": [[*size.size, size.sha256] for size in self.bundle.description.input.further_sizes],
            "fit": self.bundle.description.input.fit,
            "drivable": self.bundle.description.drivable_ids,
            "engine": [self.pool.name, self.pool.num_threads],
            "parameters": parameters,
            "candidates": [candidate.settings for candidate in self.candidates],
            "tries": [[candidate, THRESHOLDS[threshold]] for candidate, threshold in tries],
            "each frame": self.each_frame,
            "every": self.every,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def _cache_file(self, identity: str) -> Path:
        assert self.cache is not None
        return self.cache / f"{identity[:32]}.json"

    def _kept(self, identity: str, needed: int) -> DriveCounts | None:
        """The counts of an earlier run; None where there are none that go as far."""
        if self.cache is None or not self._cache_file(identity).is_file():
            return None
        path = self._cache_file(identity)
        try:
            data = unsealed(path, read_json(path))
        except JsonFileError as error:
            say(f"{error}; the drive is counted again")
            return None
        same = data.pop("identity") == identity
        return DriveCounts(**data) if same and data["limit"] >= needed else None
