"""The table of the node's parameters: names, defaults, ranges, descriptions."""

from __future__ import annotations

from dataclasses import dataclass

from ros_ood_perception.camera.raw_image import DEFAULT_MAX_PIXELS
from ros_ood_perception.inference.engine import ENGINES, PRECISIONS
from ros_ood_perception.messages.topics import INPUT_TOPICS, OUTPUT_TOPICS

Value = str | int | float | bool | tuple[str, ...] | tuple[float, ...]


@dataclass(frozen=True)
class Declaration:
    """One parameter.

    Attributes:
        default: of the parameter's type; a tuple for a list of strings or of numbers.
        range: smallest and largest value of a number, or of each in a list.
        choices: what a string, or each string of a list, may be.
        live: may be changed while the node is configured; the others are read at configure.
    """

    name: str
    default: Value
    description: str
    range: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    live: bool = False


NODE_PARAMETERS = (
    Declaration("bundle", "", "Folder of the model bundle (model.onnx and bundle.yaml). Required."),
    Declaration(
        "bundle_public_key",
        "",
        "Key whose owner must have signed the bundle (ed25519, base64, as training.sign_bundle prints it); '': nobody "
        "need have.",
    ),
    Declaration("engine", "auto", "What runs the model; auto takes the fastest that works here.", choices=ENGINES),
    Declaration(
        "num_threads", 0, "CPU threads of one inference; 0 takes every CPU that the process may use.", (0, 256)
    ),
    Declaration(
        "precision",
        "fp16",
        "What an engine on a GPU computes in; the bundle must have that form of the model.",
        choices=PRECISIONS,
    ),
    Declaration(
        "engine_image_height",
        1080,
        "Height of the largest frame that an engine on a GPU is opened for, pixels (TensorRT 8.6: of every frame).",
        (1, 16384),
    ),
    Declaration("engine_image_width", 1920, "Width of that frame, pixels.", (1, 16384)),
    Declaration(
        "engine_build",
        False,
        "Build what takes minutes (a TensorRT plan) at configure if it is not there, and not fail or take a slower "
        "engine; better beforehand, with build_engine.",
    ),
    Declaration("engine_cache", "", "Folder of TensorRT plans; '': the user's cache folder."),
    Declaration(
        "autostart", False, "Configure and activate when the process starts; else wait for a lifecycle manager."
    ),
    Declaration(
        "cameras",
        ("",),
        "Names of the cameras; each has its own topics below ~/NAME/. [''] is one camera whose topics are below ~/.",
    ),
    Declaration(
        "image_transport",
        "raw",
        "raw: sensor_msgs/Image on input/image; compressed: sensor_msgs/CompressedImage (JPEG, PNG) on "
        "input/image/compressed.",
        choices=tuple(INPUT_TOPICS),
    ),
    Declaration(
        "max_image_pixels",
        DEFAULT_MAX_PIXELS,
        "Height times width of the largest image that is taken; a larger one is malformed, and is not decoded.",
        (1, 2**28),
    ),
    Declaration(
        "max_engine_failures",
        3,
        "So many failures of the engine, without a good frame between them, are one too many.",
        (1, 1000),
    ),
    Declaration(
        "after_engine_failures",
        "fallback",
        "Then: fallback takes the next engine, and goes inactive after the last; inactive does so at once; retry goes "
        "on opening the same engine.",
        choices=("fallback", "inactive", "retry"),
    ),
    Declaration(
        "engine_retry_s",
        1.0,
        "Pause before an engine that failed is opened again, s; doubled with every further failure, up to 30 s.",
        (0.01, 30.0),
    ),
    Declaration(
        "inference_deadline_s",
        0.0,
        "An inference that takes longer has failed, and so has the engine, s. One that does not come back within the "
        "same time again (1 to 5 s) ends the process, for launch to start it anew. 0: 20 times the 99th percentile of "
        "those measured since the engine was opened, at least 5 s.",
        (0.0, 3600.0),
    ),
    Declaration(
        "engine_opening_deadline_s",
        0.0,
        "Reading the bundle, opening the engine and running it twice take longer: the process ends, s. 0: 120 s, or "
        "3600 s with engine_build.",
        (0.0, 86400.0),
    ),
    Declaration(
        "operating_point",
        "",
        "Name of the bundle's operating point that gives the threshold; '' takes the first.",
        live=True,
    ),
    Declaration(
        "anomaly_threshold",
        -1.0,
        "A pixel is anomalous where its score is at least this, 0 to 1; -1 takes the operating point's.",
        (-1.0, 1.0),
        live=True,
    ),
    Declaration(
        "outputs",
        tuple(OUTPUT_TOPICS),
        "What is published; each is computed only while somebody subscribes to it.",
        choices=tuple(OUTPUT_TOPICS),
        live=True,
    ),
    Declaration(
        "score_encoding",
        "mono8",
        "Encoding of output/anomaly/score: mono8 (0 to 255) or 32FC1 (0 to 1, four times the bytes).",
        choices=("mono8", "32FC1"),
        live=True,
    ),
    Declaration(
        "max_frame_age_ms",
        0.0,
        "A frame whose stamp is older than this when its turn comes is dropped and counted, ms; 0 drops none.",
        (0.0, 3.6e6),
        live=True,
    ),
    Declaration(
        "max_rate_hz",
        0.0,
        "At most so many frames a second of each camera are used; the others are replaced unread. 0: no limit.",
        (0.0, 1000.0),
        live=True,
    ),
    Declaration(
        "stale_after_s",
        2.0,
        "A camera is stale when no frame, or no result, has come for so long, s.",
        (0.05, 3600.0),
        live=True,
    ),
    Declaration("diagnostics_period_s", 1.0, "Time between two messages on /diagnostics, s.", (0.1, 60.0), live=True),
)

REGION_PARAMETERS = (
    Declaration(
        "region.hysteresis",
        0.8,
        "A region grows from pixels at the threshold over neighbours whose score is at least this times the threshold; "
        "1: the anomaly mask itself.",
        (0.01, 1.0),
        live=True,
    ),
    Declaration(
        "region.min_area",
        0.0002,
        "A region smaller than this fraction of the frame is dropped.",
        (0.0, 1.0),
        live=True,
    ),
    Declaration("region.max_regions", 64, "Only so many regions are kept, the largest ones.", (1, 1024), live=True),
    Declaration(
        "region.drivable_classes",
        ("",),
        "Names of the bundle's classes that are driven on: a region counts only if it stands on or near them or "
        "its foot is out of the picture, and free ground is made of them. ['']: regions count wherever they are, and "
        "no ground is free.",
        live=True,
    ),
    Declaration(
        "region.surroundings",
        0.05,
        "How near to drivable ground, as a fraction of the frame's height.",
        (0.0, 1.0),
        live=True,
    ),
    Declaration(
        "region.ego_mask",
        ("",),
        "Image file, white on the own vehicle, black elsewhere; one for each camera, or one for all. '': none.",
    ),
    Declaration(
        "persistence.seen_frames",
        2,
        "A region becomes an obstacle when it was seen in so many of the last of_frames frames.",
        (1, 100),
        live=True,
    ),
    Declaration("persistence.of_frames", 3, "See seen_frames; at least as many.", (1, 100), live=True),
    Declaration(
        "persistence.max_gap_s",
        1.0,
        "After so long without a frame all that was seen before is forgotten, s.",
        (0.01, 60.0),
        live=True,
    ),
    Declaration(
        "persistence.reach",
        0.5,
        "How far, in widths and heights of its box, a region may move between frames to stay the same one.",
        (0.0, 10.0),
        live=True,
    ),
)

GROUND_PARAMETERS = (
    Declaration("ground.base_frame", "base_link", "Frame of the vehicle in which obstacles are placed (REP 105)."),
    Declaration(
        "ground.rectified_images",
        False,
        "The images are rectified (image_rect), so camera_info's P holds and not K and D.",
    ),
    Declaration(
        "ground.max_range_m",
        40.0,
        "What is farther from the point below the camera is not placed, m.",
        (0.5, 500.0),
        live=True,
    ),
    Declaration("ground.z_m", 0.0, "Height of the ground in the vehicle's frame, m.", (-10.0, 10.0), live=True),
    Declaration(
        "ground.point_height_m",
        0.3,
        "Height of the published points over the ground, m: above the min_obstacle_height of the costmap that reads "
        "them.",
        (0.0, 10.0),
        live=True,
    ),
    Declaration("ground.grid_resolution_m", 0.2, "Side of a cell of output/ground/grid, m.", (0.01, 10.0)),
    Declaration("ground.grid_from_x_m", 0.0, "The grid begins so far before the vehicle's frame, m.", (-500.0, 500.0)),
    Declaration("ground.grid_to_x_m", 40.0, "And ends there, m.", (-500.0, 500.0)),
    Declaration("ground.grid_from_y_m", -10.0, "The grid's right edge, m.", (-500.0, 500.0)),
    Declaration("ground.grid_to_y_m", 10.0, "The grid's left edge, m.", (-500.0, 500.0)),
    Declaration(
        "mounting.height_m",
        (0.0,),
        "Height of the camera over the origin of the vehicle's frame, m; one value for each camera, or one for all, as "
        "for the five that follow. 0: take the camera's pose from tf2.",
        (0.0, 100.0),
    ),
    Declaration("mounting.pitch_deg", (0.0,), "Degrees; positive looks down.", (-90.0, 90.0)),
    Declaration("mounting.roll_deg", (0.0,), "Degrees; positive lowers the right side of the camera.", (-180.0, 180.0)),
    Declaration("mounting.yaw_deg", (0.0,), "Degrees; positive looks left.", (-180.0, 180.0)),
    Declaration("mounting.forward_m", (0.0,), "Of the camera before the vehicle's frame, m.", (-100.0, 100.0)),
    Declaration("mounting.left_m", (0.0,), "Of the camera left of the vehicle's frame, m.", (-100.0, 100.0)),
)

DECLARATIONS = NODE_PARAMETERS + REGION_PARAMETERS + GROUND_PARAMETERS
