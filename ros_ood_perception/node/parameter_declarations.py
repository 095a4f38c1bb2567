"""The table of the node's parameters: names, defaults, ranges, descriptions."""

from __future__ import annotations

from dataclasses import dataclass

from ros_ood_perception.inference.engine import ENGINES
from ros_ood_perception.node.image_messages import DEFAULT_MAX_PIXELS
from ros_ood_perception.node.output_topics import INPUT_TOPICS, OUTPUT_TOPICS

Value = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True)
class Declaration:
    """One parameter.

    Attributes:
        default: of the parameter's type; a tuple for a list of strings.
        range: smallest and largest value of a number.
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
    Declaration("engine", "auto", "What runs the model; auto takes the fastest that works here.", choices=ENGINES),
    Declaration(
        "num_threads", 0, "CPU threads of one inference; 0 takes every CPU that the process may use.", (0, 256)
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

DECLARATIONS = NODE_PARAMETERS
