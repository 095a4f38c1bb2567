"""Opens and checks everything that the options name before anything is computed."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros_ood_perception.bundle.description import WHERE_BUNDLES_ARE
from ros_ood_perception.bundle.model_bundle import Bundle, read_bundle
from ros_ood_perception.files.output_folder import check_apart
from ros_ood_perception.messages.topics import OUTPUT_TOPICS
from ros_ood_perception.parameters.parameter_file import of_recording, parameter_values
from ros_ood_perception.parameters.settings import (
    FixedSettings,
    LiveSettings,
    fixed_settings,
    live_settings,
    parameter_path,
)
from ros_ood_perception.replay.comparison.opened_run import RunClasses
from ros_ood_perception.replay.comparison.runs import check_other
from ros_ood_perception.replay.inputs import Input, open_input
from ros_ood_perception.replay.report.replay_report import check_report_file
from ros_ood_perception.replay.run import ReplayPlan, is_own_topic
from ros_ood_perception.replay.state import ReplayError


@dataclass(frozen=True)
class Opened:
    """Everything that a replay needs, checked."""

    source: Input
    bundle: Bundle
    fixed: FixedSettings
    live: LiveSettings
    plan: ReplayPlan
    engine: str
    threads: int


def open_all(options: argparse.Namespace) -> Opened:
    """Open and check what the options name.

    Raises:
        PerceptionError: the message says what to do.
        OSError: with the path.
    """
    outputs = _outputs(options.outputs)
    given = parameter_values(options.params, options.set, options.node_name)
    bundle_folder = _bundle_folder(options.bundle, given["bundle"])
    _check_paths(options, bundle_folder, outputs)
    bundle = read_bundle(bundle_folder, given["bundle_public_key"]).up_to(given["max_input_height"])
    if options.compare is not None:
        # Now, not after an hour of replay.
        check_other(options.compare, RunClasses.of_bundle(bundle.description))
    source = open_input(options.input, options.camera, options.rate)
    values = of_recording(given, [camera.name for camera in source.cameras])
    values["bundle"] = str(bundle.folder)
    of_cameras = ("region.ego_mask", "calibration.file")
    check_apart("--out", options.out, {f"{name} {n}": Path(n) for name in of_cameras for n in values[name] if n})
    fixed, live = fixed_settings(values), live_settings(values)
    source.use_calibrations(fixed.camera_info_topics)
    source.use_motion(fixed.motion, fixed.base_frame)
    source.limit_images(fixed.max_image_pixels)
    live.pipeline_settings(bundle.description)
    if options.with_input and not source.copied:
        raise ReplayError("--with-input: topics of a ROS 1 bag cannot be copied; convert it first (rosbags-convert)")
    # The CPU engine's last bit can depend on the number of threads, and so can a digest.
    threads = options.threads or fixed.num_threads or len(os.sched_getaffinity(0))
    start_ns, stop_ns = _time_span(options, source)
    plan = ReplayPlan(
        outputs=outputs,
        node_name=options.node_name,
        start_ns=start_ns,
        stop_ns=stop_ns,
        every=options.every,
        copied=tuple(topic for topic in source.copied if not is_own_topic(topic, options.node_name))
        if options.with_input
        else (),
        frames_per_file=options.frames_per_file,
        compressed=options.compression == "zstd",
        identity=_identity(options, bundle, source, values, outputs, (start_ns, stop_ns), threads),
    )
    return Opened(source, bundle, fixed, live, plan, options.engine or fixed.engine, threads)


def _bundle_folder(option: Path | None, parameter: str) -> Path:
    """`--bundle`, or the node's parameter."""
    if option is None and not parameter:
        raise ReplayError(
            "no model bundle is given; give its folder with --bundle, or as the parameter bundle in --params or --set. "
            f"{WHERE_BUNDLES_ARE}"
        )
    return option or parameter_path("bundle", parameter)


def _check_paths(options: argparse.Namespace, bundle_folder: Path, outputs: tuple[str, ...]) -> None:
    """The outputs are apart from what is read, and the report has what it shows."""
    inputs = {"the input": options.input, "--bundle": bundle_folder, "--params": options.params}
    inputs["--compare"] = options.compare
    check_apart("--out", options.out, inputs)
    if options.rerun and options.rerun != "spawn":
        check_apart("--rerun", Path(options.rerun), {**inputs, "--out": options.out})
    if options.report is not None:
        check_report_file(options.report)
        check_apart("--report", options.report, inputs)
        missing = [name for name in ("semantic_mask", "anomaly_mask") if name not in outputs]
        if missing:
            raise ReplayError(f"--report shows {' and '.join(missing)}, which --outputs lacks; add it there")


def _outputs(names: str) -> tuple[str, ...]:
    outputs = tuple(OUTPUT_TOPICS) if names == "all" else tuple(names.split(","))
    unknown = [name for name in outputs if name not in OUTPUT_TOPICS]
    if unknown:
        raise ReplayError(f"--outputs holds {', '.join(unknown)}; possible are {', '.join(OUTPUT_TOPICS)}")
    return outputs


def _time_span(options: argparse.Namespace, source: Input) -> tuple[int | None, int | None]:
    """`--start` and `--stop` as times of the recording, nanoseconds."""
    first_ns = source.start_ns() if options.start is not None or options.stop is not None else 0
    start_ns = None if options.start is None else first_ns + round(options.start * 1e9)
    stop_ns = None if options.stop is None else first_ns + round(options.stop * 1e9)
    if start_ns is not None and stop_ns is not None and start_ns >= stop_ns:
        raise ReplayError(f"--start {options.start:g} is not before --stop {options.stop:g}")
    if (start_ns is not None or stop_ns is not None) and not source.has_frame(start_ns, stop_ns):
        given = [f"--{name} {value:g}" for name in ("start", "stop") if (value := getattr(options, name)) is not None]
        raise ReplayError(
            f"{' '.join(given)}: no frame lies there; the last frame of {options.input} is "
            f"{(source.end_ns() - first_ns) / 1e9:.3f} s after the first"
        )
    return start_ns, stop_ns


def _identity(
    options: argparse.Namespace,
    bundle: Bundle,
    source: Input,
    values: dict[str, Any],
    outputs: tuple[str, ...],
    span: tuple[int | None, int | None],
    threads: int,
) -> dict[str, Any]:
    """Everything that the results depend on, as `state.json` holds it."""
    # The path of the bundle and its signer change nothing that is computed.
    parameters = {name: value for name, value in values.items() if name not in ("bundle", "bundle_public_key")}
    identity = {
        "input": str(options.input.resolve()),
        "input bytes": _size(options.input),
        "bundle": bundle.description.model_sha256,
        "cameras": [(camera.name, camera.image) for camera in source.cameras],
        "outputs": outputs,
        "node name": options.node_name,
        "--start": span[0],
        "--stop": span[1],
        "--every": options.every,
        "--rate": options.rate,
        "--with-input": options.with_input,
        "threads": threads,
        "parameters": parameters,
    }
    model_input = bundle.description.input
    if model_input.further_sizes:
        identity["further sizes"] = {f"{s.height}x{s.width}": s.sha256 for s in model_input.further_sizes}
    if model_input.fit != "stretch":
        identity["fit"] = model_input.fit
    # Tuples become lists, as in the state that is read back.
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _size(path: Path) -> int:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files)
