"""Writes the report of a replay from its output."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from ros_ood_perception.files.atomic_files import naming, write_file
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.recordings.results import FrameKey, result_frames
from ros_ood_perception.replay.inputs import Input
from ros_ood_perception.replay.recorded_images import recorded_images
from ros_ood_perception.replay.report.figures import FrameFigures, evenly, frame_figures, obstacle_rows
from ros_ood_perception.replay.report.page import page, tag
from ros_ood_perception.replay.report.player import PlayedFrame, player_card, player_data
from ros_ood_perception.replay.report.replay_output import ReplayOutput
from ros_ood_perception.replay.report.sections import (
    fate_cards,
    heading,
    obstacle_table,
    problem_list,
    tiles,
    what_ran,
)
from ros_ood_perception.replay.report.timeline import camera_strips
from ros_ood_perception.replay.report.worst_frames import (
    Candidate,
    candidates,
    one_of_each_scene,
    worst_frame_cards,
)
from ros_ood_perception.replay.state import PROGRAM, ReplayError

MOST_PLAYED = 150
"""Frames of all cameras in the player, besides the worst ones. A frame takes about 60 kB of the file."""
ENDINGS = (".html", ".htm")
FILE = "report.html"


def check_report_file(path: Path) -> None:
    """Check the name of a report before anything is computed.

    Raises:
        ReplayError: its ending is another; a mistyped path could replace a recording.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ReplayError(f"--report {path}: the name of a report ends in .html")


def write_report(folder: Path, path: Path, source: Input | None = None, recording: Path | None = None) -> None:
    """Write the report of the replay in `folder`.

    Nothing in it depends on how often the replay was interrupted, or on its speed.

    Args:
        path: of the HTML file. Within `folder` it becomes one of the replay's files, which a later replay replaces.
        source: the recording, where it is open already; None: it is found by the summary's path.
        recording: the recording's path, if it was moved.

    Raises:
        ReplayError: the folder holds no replay of this version.
        PerceptionError, OSError: as their messages say.
    """
    check_report_file(path)
    output = ReplayOutput.read(folder)
    notes: list[str] = []
    if source is None:
        source, problem = output.open_recording(recording)
        notes += [problem] if problem else []
    text = _report(output, source, notes)
    if path.resolve().is_relative_to(folder.resolve()):
        relative = path.resolve().relative_to(folder.resolve()).as_posix()
        OutputFolder.reopen(folder, PROGRAM).write(relative, text)
        return
    with naming(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text)


def _report(output: ReplayOutput, source: Input | None, notes: list[str]) -> str:
    damage: list[str] = []
    prefixes = {camera.prefix: (number, camera.name) for number, camera in enumerate(output.cameras)}
    found = frame_figures(output.bag, output.drivable_ids, damage)
    frames = [frame for frame in found if frame.camera in prefixes]
    damage += output.bag.damage
    notes += [f"the results are damaged: {text}" for text in damage]
    start_ns = min((frame.time_ns for frame in frames), default=0)
    worst = candidates(frames, output.has_times)
    played = _played(frames, worst, start_ns)
    _add_results(output, played, worst)
    if source is not None:
        _add_images(output, source, played, worst)
    data = _player(output, played)
    # The number of a camera in the player: one without frames has none.
    in_player = [
        camera.prefix for camera in output.cameras if any(p.figures.camera == camera.prefix for p in played.values())
    ]
    names = {prefix: (in_player.index(prefix), prefixes[prefix][1]) for prefix in in_player}
    rows = obstacle_rows(frames)
    has_obstacles = any(topic.endswith("/output/anomaly/detections") for topic in output.bag.types)
    body = [
        *heading(output, notes),
        tiles(output, frames, len(rows), has_obstacles),
        *problem_list(output),
        *([player_card(data, output.threshold)] if data else []),
        *_timelines(output, frames, names, start_ns, has_obstacles),
        *_worst(output, worst, names, start_ns),
        *(obstacle_table(rows, frames, names, start_ns) if has_obstacles else []),
        *fate_cards(output),
        *what_ran(output),
    ]
    return page(f"Replay of {output.summary['input']['path']}", body, data)


def _played(
    frames: Sequence[FrameFigures], worst: dict[FrameKey, Candidate], start_ns: int
) -> dict[FrameKey, PlayedFrame]:
    """The frames of the player, in order: of each camera evenly chosen ones, and the worst ones."""
    cameras: dict[str, list[FrameFigures]] = defaultdict(list)
    for frame in frames:
        cameras[frame.camera].append(frame)
    chosen: dict[FrameKey, PlayedFrame] = {}
    for of_camera in cameras.values():
        share = max(MOST_PLAYED * len(of_camera) // len(frames), 2)
        kept = {frame.key for frame in evenly(of_camera, share)} | worst.keys()
        for number, frame in enumerate(of_camera, 1):
            if frame.key in kept:
                chosen[frame.key] = PlayedFrame(number, frame, start_ns)
    return chosen


def _add_results(output: ReplayOutput, played: dict[FrameKey, PlayedFrame], worst: dict[FrameKey, Candidate]) -> None:
    for frame in result_frames(output.bag, []):
        if frame.key in played:
            played[frame.key].add_results(frame, output.colours)
        if frame.key in worst:
            worst[frame.key].add_results(frame)


def _add_images(
    output: ReplayOutput, source: Input, played: dict[FrameKey, PlayedFrame], worst: dict[FrameKey, Candidate]
) -> None:
    wanted = defaultdict(list)
    for key, frame in played.items():
        wanted[frame.figures.image_key].append(key)
    for image_key, name, image in recorded_images(source, output.node_name, wanted, output.max_pixels):
        # Frames that share time and stamp come in the order of their occurrence.
        keys = wanted[image_key]
        key = keys.pop(0) if len(keys) > 1 else keys[0]
        played[key].add_image(name, image)
        if key in worst:
            worst[key].add_image(image)


def _player(output: ReplayOutput, played: dict[FrameKey, PlayedFrame]) -> dict[str, Any] | None:
    return player_data(
        [(camera.name, [p for p in played.values() if p.figures.camera == camera.prefix]) for camera in output.cameras]
    )


def _timelines(
    output: ReplayOutput,
    frames: Sequence[FrameFigures],
    names: dict[str, tuple[int, str]],
    start_ns: int,
    has_obstacles: bool,
) -> list[Element]:
    found = []
    for camera in output.cameras:
        of_camera = [frame for frame in frames if frame.camera == camera.prefix]
        if not of_camera:
            found.append(tag("div", tag("b", f"{camera.name}: no frame has results"), class_="card frame"))
            continue
        strips = camera_strips(names[camera.prefix][0], of_camera, start_ns, has_obstacles)
        found.append(tag("div", tag("b", camera.name), *strips, class_="card frame"))
    road = ", ".join(output.drivable)
    text = f"Road: pixels of {road}." if road else "No class of the bundle counts as road (region.drivable_classes)."
    return [tag("h2", "Anomalies over time"), tag("p", f"{text} A click opens the frame.", class_="soft"), *found]


def _worst(
    output: ReplayOutput, worst: dict[FrameKey, Candidate], names: dict[str, tuple[int, str]], start_ns: int
) -> list[Element]:
    cards = worst_frame_cards(
        one_of_each_scene(worst, output.has_times), names, start_ns, output.class_names, output.colours
    )
    near = "less than 2 s apart, or that look alike," if output.has_times else "that look alike"
    text = (
        "Evidence: the mean over the frame of the score where it is above the threshold, and 0 elsewhere. "
        f"Of frames {near} one is shown."
    )
    none = tag("p", "No pixel is above the threshold.", class_="soft")
    return [tag("h2", "Worst frames"), *([tag("p", text, class_="soft"), *cards] if cards else [none])]
