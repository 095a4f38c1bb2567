"""The recordings of the measurements, and what a plain loop makes of them."""

from __future__ import annotations

import shutil
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from fleet.mine.settings import MineSettings
from fleet.mine.worker import Worker
from fleet.storage.recordings import find_recordings
from ros_ood_perception.files.output_folder import OutputFolder
from ros_ood_perception.recordings.image_sequence import ImageFolder
from ros_ood_perception.recordings.split_bag import SplitBag
from ros_ood_perception.replay.inputs import FRAMES_TOPIC, InputCopy, SequenceInput
from sample_drive.__main__ import main as render

RATE_HZ = 5
THREADS = ("--threads", "1")


def make_recordings(options: Namespace) -> list[str]:
    """The recordings in WORK, made where they are missing; their names in order."""
    folder = options.work / "recordings"
    of_camvid = options.recordings // 2 if options.camvid else 0
    for number in range(options.recordings - of_camvid):
        target = folder / f"drive_{number:03d}"
        if not (target / "bag" / "metadata.yaml").is_file():
            shutil.rmtree(target, ignore_errors=True)
            seconds = str(options.frames / RATE_HZ)
            arguments = ["--seed", str(number), "--seconds", seconds, "--rate", str(RATE_HZ), "--size", "160x120"]
            if render([str(target), *arguments, "--bag", "--jobs", "1"]):
                raise SystemExit(1)
    for number in range(of_camvid):
        target = folder / f"camvid_{number:03d}"
        if not (target / "bag" / "metadata.yaml").is_file():
            shutil.rmtree(target, ignore_errors=True)
            _write_camvid(options.camvid, target, number * options.frames, options.frames)
    return [recording.name for recording in find_recordings([str(folder)]).recordings]


def _write_camvid(images: Path, target: Path, first: int, count: int) -> None:
    """A bag with `count` of the images of a folder, from the beginning again after the last."""
    target.mkdir(parents=True)
    files = sorted(path for path in images.iterdir() if path.suffix in (".jpg", ".png"))
    chosen = target / "images"
    chosen.mkdir()
    for number in range(count):
        file = files[(first + number) % len(files)]
        shutil.copy(file, chosen / f"{number:06d}{file.suffix}")
    source = SequenceInput(ImageFolder(chosen), RATE_HZ)
    written = SplitBag(OutputFolder.claim(target / "bag_output", "benchmark.fleet"), "bag", source.typestore)
    written.add_topic(FRAMES_TOPIC, "sensor_msgs/msg/Image")
    for item in source.items(None, None, source.copied):
        if isinstance(item, InputCopy):
            written.write(item.topic, item.time_ns, item.raw)
    written.close_file()
    shutil.move(target / "bag_output" / "bag", target / "bag")
    shutil.rmtree(target / "bag_output")
    shutil.rmtree(chosen)


def bundle_files(bundle: Path) -> dict[str, bytes]:
    """Contents of a bundle's files by name."""
    return {path.name: path.read_bytes() for path in sorted(bundle.iterdir()) if path.is_file()}


def loop_tables(options: Namespace, names: Sequence[str], out: Path, outputs: str = "", part_s: float = 0) -> None:
    """Replay each recording in this process, without Ray, into tables."""
    shutil.rmtree(out, ignore_errors=True)
    further = ("--every", "1", "--rate", "10.0", "--node-name", "/perception_node")
    replay = (*THREADS, *further, *(("--outputs", outputs) if outputs else ()))
    settings = MineSettings(str(out), bundle_files(options.bundle), None, replay, bool(outputs), part_s)
    worker = Worker(settings)
    try:
        for name in names:
            worker.mine(name)
    finally:
        worker.close()
