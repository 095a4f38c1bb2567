"""A replay's output as the report reads it: summary, results, and the recording with the camera images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros_ood_perception.camera.limits import DEFAULT_MAX_PIXELS
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.json_files import JsonFileError, read_json
from ros_ood_perception.parameters.settings import EVERY_REGION
from ros_ood_perception.recordings.bag import Bag
from ros_ood_perception.recordings.bag_files import BAG_FOLDER
from ros_ood_perception.recordings.image_sequence import ImageFolder
from ros_ood_perception.replay.inputs import Input, open_input
from ros_ood_perception.replay.recorded_images import output_prefix
from ros_ood_perception.replay.state import SUMMARY_FILE, ReplayError

ROAD_CLASSES = ("road",)
"""Classes that are the road where neither `region.drivable_classes` nor the bundle names any."""


@dataclass(frozen=True)
class ShownCamera:
    """One camera of the replay: its name for the page, the prefix of its outputs, and its part of the summary."""

    name: str
    prefix: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class ReplayOutput:
    """What a replay wrote.

    Attributes:
        drivable: names of the classes that count as the road; those that the bundle has.
    """

    folder: Path
    summary: Mapping[str, Any]
    cameras: tuple[ShownCamera, ...]
    bag: Bag
    class_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    drivable: tuple[str, ...]
    node_name: str
    max_pixels: int

    @property
    def drivable_ids(self) -> frozenset[int]:
        """Ids of the classes that count as the road."""
        return frozenset(self.class_names.index(name) for name in self.drivable)

    @property
    def has_times(self) -> bool:
        """Whether the frames have times of their own, which images of a folder have not."""
        return bool(self.summary["input"]["kind"] != ImageFolder.kind)

    @property
    def threshold(self) -> float:
        """The anomaly threshold, 0 to 1."""
        return float(self.summary["anomaly_threshold"])

    @classmethod
    def read(cls, folder: Path) -> ReplayOutput:
        """Read the folder of a replay.

        Raises:
            ReplayError: it is none, or was written by another version.
            BagError: its bag cannot be read.
            OSError: with the path.
        """
        path = folder / SUMMARY_FILE
        try:
            summary = read_json(path)
            plan, parameters = summary["plan"], summary["plan"]["parameters"]
            node_name = str(plan["node name"])
            cameras = tuple(
                ShownCamera(str(c["name"]) or "camera", output_prefix(str(c["name"]), node_name), c)
                for c in summary["cameras"]
            )
            names = tuple(str(known["name"]) for known in summary["bundle"]["classes"])
            colours = tuple(_colour(known["colour"]) for known in summary["bundle"]["classes"])
            configured = [str(name) for name in parameters["region.drivable_classes"] if name not in ("", EVERY_REGION)]
            marked = [str(known["name"]) for known in summary["bundle"]["classes"] if known.get("drivable")]
            max_pixels = int(parameters.get("max_image_pixels", DEFAULT_MAX_PIXELS))
        except FileNotFoundError as error:
            raise ReplayError(f"{path}: no such file; give the --out folder of a replay that has ended") from error
        except (JsonFileError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReplayError(
                f"{path}: is not the summary of a replay of this version ({error!r}); replay again"
            ) from error
        drivable = tuple(name for name in (configured or marked or ROAD_CLASSES) if name in names)
        bag = Bag(folder / BAG_FOLDER)
        return cls(folder, summary, cameras, bag, names, colours, drivable, node_name, max_pixels)

    def open_recording(self, given: Path | None = None) -> tuple[Input | None, str]:
        """The recording with the camera images: the given one, the replay's, or else the images copied into its bag.

        Returns:
            The recording, and "" or a sentence why there are no images.

        Raises:
            PerceptionError: the given one cannot be read.
        """
        plan = self.summary["plan"]
        wanted = [f"{name}={topic}" if name else topic for name, topic in plan["cameras"]]
        rate_hz = float(plan["--rate"])
        if given is not None:
            return open_input(given, wanted, rate_hz), ""
        problem = ""
        for path in (Path(plan["input"]), self.folder / BAG_FOLDER):
            try:
                return open_input(path, wanted, rate_hz), ""
            except (PerceptionError, OSError) as error:
                problem = problem or str(error)
        return None, f"without camera images: {problem}"


def _colour(value: Sequence[Any]) -> tuple[int, int, int]:
    red, green, blue = (int(channel) for channel in value)
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise ValueError(f"{json.dumps(value)} is no colour")
    return red, green, blue
