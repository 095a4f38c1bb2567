"""Every parameter of the node, in the one place where its facts stand.

`python -m ros_ood_perception.parameters.generate` makes the parameter file, its JSON schema and the tables of
docs/node.md from this table.

The terms are those of `generate_parameter_library` (type, default_value, description, validation by bounds and one_of).
The library itself is not used, for three reasons. Its listener raises in the node's constructor where a start-up value
is wrong; here configure fails, and the value can be corrected. It validates one parameter at a time; here the values
are also checked against each other and against the bundle. And it is not on PyPI. `live` is not the opposite of its
`read_only`: the parameters that are not live can be set as well, while the node is unconfigured.
"""

from __future__ import annotations

from dataclasses import dataclass

from ros_ood_perception.camera.limits import DEFAULT_MAX_PIXELS
from ros_ood_perception.inference.engine_names import ENGINES, PRECISIONS
from ros_ood_perception.messages.topics import INPUT_TOPICS, OUTPUT_TOPICS
from ros_ood_perception.obstacles.evidence import EvidenceSettings

Value = str | int | float | bool | tuple[str, ...] | tuple[float, ...]

_TYPES = {str: "string", int: "int", float: "double", bool: "bool"}
TYPE_NAMES = {
    "string": "a string",
    "int": "an integer",
    "double": "a double",
    "bool": "a bool",
    "string_array": "a list of strings",
    "double_array": "a list of doubles",
}
"""Each `Declaration.type` as a message says it."""


@dataclass(frozen=True)
class Declaration:
    """One parameter.

    Attributes:
        name: with its group, `region.min_area`.
        default_value: of the parameter's type; a tuple for a list of strings or of numbers.
        description: whole sentences that can be read alone.
        unit: of a number; empty where it has none.
        bounds: smallest and largest value of a number, or of each number in a list.
        one_of: allowed values of a string, or of each string in a list; empty where any is allowed.
        live: can be changed while the node is active. The others are read at configure.
    """

    name: str
    default_value: Value
    description: str
    unit: str = ""
    bounds: tuple[float, float] | None = None
    one_of: tuple[str, ...] = ()
    live: bool = False

    @property
    def type(self) -> str:
        """`string`, `int`, `double`, `bool`, `string_array` or `double_array`."""
        if isinstance(self.default_value, tuple):
            return f"{_TYPES[type(self.default_value[0])]}_array"
        return _TYPES[type(self.default_value)]

    @property
    def full_description(self) -> str:
        """The description with the unit and with when the parameter can be changed, for a reader who sees no more."""
        unit = f" Unit: {self.unit}." if self.unit else ""
        when = "Can be changed while the node is active." if self.live else "Read at configure."
        return f"{self.description}{unit} {when}"


@dataclass(frozen=True)
class Group:
    """Parameters that stand together in the parameter file and in the documentation."""

    title: str
    declarations: tuple[Declaration, ...]


_MODEL = Group(
    "Model and engine",
    (
        Declaration("bundle", "", "Folder of the model bundle, which holds `model.onnx` and `bundle.yaml`. Required."),
        Declaration(
            "bundle_public_key",
            "",
            "Public key of whoever must have signed the bundle: ed25519 in base64, as `training.sign_bundle` prints "
            "it. Empty: no signature is required.",
        ),
        Declaration(
            "engine",
            "auto",
            "Engine that runs the model: `tensorrt` or `torch` on a GPU, `onnxruntime` on the CPU. `auto` takes the "
            "first of these that works here, and the log says why no faster one does.",
            one_of=ENGINES,
        ),
        Declaration(
            "num_threads",
            0,
            "CPU threads of one inference. 0: every CPU that the process may use.",
            bounds=(0, 256),
        ),
        Declaration(
            "max_input_height",
            0,
            "Further input sizes of the bundle with more rows than this are left out; its first size always stays. 0: "
            "all are used. A lower value saves time and memory, and small things far ahead are missed.",
            unit="pixels",
            bounds=(0, 16384),
        ),
        Declaration(
            "precision",
            "fp16",
            "Number format in which an engine on a GPU computes. The bundle must hold the model in that form.",
            one_of=PRECISIONS,
        ),
        Declaration(
            "engine_image_height",
            1080,
            "Height of the largest frame that an engine on a GPU is opened for; with TensorRT 8.6, of every frame. A "
            "larger frame counts as malformed. Without effect if the bundle letterboxes frames.",
            unit="pixels",
            bounds=(1, 16384),
        ),
        Declaration(
            "engine_image_width",
            1920,
            "Width of the largest frame that an engine on a GPU is opened for; with TensorRT 8.6, of every frame. A "
            "larger frame counts as malformed. Without effect if the bundle letterboxes frames.",
            unit="pixels",
            bounds=(1, 16384),
        ),
        Declaration(
            "engine_build",
            False,
            "Build a TensorRT plan (the model compiled for this GPU) at configure if there is none. That takes "
            "minutes. If false, a missing plan makes `tensorrt` fail and `auto` take a slower engine. Better build it "
            "beforehand, with `ros2 run ros_ood_perception build_engine BUNDLE`.",
        ),
        Declaration("engine_cache", "", "Folder of the TensorRT plans. Empty: the user's cache folder."),
    ),
)

_CAMERAS = Group(
    "Start and cameras",
    (
        Declaration(
            "autostart",
            False,
            "Configure and activate the node when the process starts. If false, a lifecycle manager does so. "
            "`perception.launch.py` sets this to true.",
        ),
        Declaration(
            "cameras",
            ("",),
            "Names of the cameras. Each has its own topics below `~/NAME/`. `['']` is one camera without a name, with "
            "its topics below `~/`.",
        ),
        Declaration(
            "image_transport",
            "raw",
            "Message type of the frames. `raw`: `sensor_msgs/Image` on `input/image`. `compressed`: "
            "`sensor_msgs/CompressedImage` (JPEG or PNG) on `input/image/compressed`.",
            one_of=tuple(INPUT_TOPICS),
        ),
        Declaration(
            "max_image_pixels",
            DEFAULT_MAX_PIXELS,
            "Height times width of the largest image that is accepted. A larger one counts as malformed and is not "
            "decoded.",
            unit="pixels",
            bounds=(1, 2**28),
        ),
    ),
)

_FAILURES = Group(
    "Engine failures and deadlines",
    (
        Declaration(
            "max_engine_failures",
            3,
            "Consecutive engine failures before `after_engine_failures` applies.",
            bounds=(1, 1000),
        ),
        Declaration(
            "after_engine_failures",
            "fallback",
            "What the node does after `max_engine_failures`. `fallback` takes the next engine, and goes inactive after "
            "the last one. `inactive` goes inactive at once. `retry` opens the same engine again.",
            one_of=("fallback", "inactive", "retry"),
        ),
        Declaration(
            "engine_retry_s",
            1.0,
            "Pause before an engine that failed is opened again. It doubles with every further failure, up to 30 s.",
            unit="s",
            bounds=(0.01, 30.0),
        ),
        Declaration(
            "inference_deadline_s",
            0.0,
            "Longest time that an inference may take. After that the engine counts as failed. If the call then does "
            "not return within a grace time, as long as the deadline but 1 to 5 s, the process ends, and launch starts "
            "it again. 0: 20 times the 99th percentile of the inferences since the engine was opened, and at least "
            "5 s.",
            unit="s",
            bounds=(0.0, 3600.0),
        ),
        Declaration(
            "engine_opening_deadline_s",
            0.0,
            "Longest time for reading the bundle, opening the engine and running it twice. After that the process "
            "ends. 0: 120 s, or 3600 s with `engine_build`.",
            unit="s",
            bounds=(0.0, 86400.0),
        ),
    ),
)

_OUTPUTS = Group(
    "Threshold and outputs",
    (
        Declaration(
            "operating_point",
            "",
            "Name of the operating point of the bundle. It gives the threshold and, if it holds settings of regions, "
            "persistence and range, those as well, for every such parameter that is at its default. Empty: the "
            "bundle's first one.",
            live=True,
        ),
        Declaration(
            "anomaly_threshold",
            -1.0,
            "A pixel is anomalous where its score is at least this threshold, from 0 to 1. -1: the threshold of the "
            "operating point.",
            bounds=(-1.0, 1.0),
            live=True,
        ),
        Declaration(
            "outputs",
            tuple(OUTPUT_TOPICS),
            "Names of the outputs that are published. Outputs without subscribers are skipped, except the latched "
            "`label_info`.",
            one_of=tuple(OUTPUT_TOPICS),
            live=True,
        ),
        Declaration(
            "sleep_without_subscribers",
            False,
            "Skip inference while no output has a subscriber; the latched `label_info` does not count. The camera's "
            "state is then `asleep`, and its frames count as `asleep`. If false, inference goes on, so that an engine "
            "that fails is noticed and the first subscriber gets obstacles at once. A replay ignores this.",
            live=True,
        ),
        Declaration(
            "score_encoding",
            "mono8",
            "Encoding of `output/anomaly/score`: `mono8` (0 to 255) or `32FC1` (0 to 1, four times the bytes).",
            one_of=("mono8", "32FC1"),
            live=True,
        ),
    ),
)

_TIME = Group(
    "Rate and age",
    (
        Declaration(
            "max_frame_age_ms",
            0.0,
            "A frame whose stamp is older than this when its turn comes is dropped and counted. 0: no frame is "
            "dropped for its age.",
            unit="ms",
            bounds=(0.0, 3.6e6),
            live=True,
        ),
        Declaration(
            "max_rate_hz",
            0.0,
            "Largest number of frames per second of each camera that are used, the newest ones. 0: no limit. A value "
            "is refused if the time between frames would reach `stale_after_s`, or `persistence.max_gap_s` unless "
            "`persistence.seen_frames` is 1.",
            unit="Hz",
            bounds=(0.0, 1000.0),
            live=True,
        ),
        Declaration(
            "stale_after_s",
            2.0,
            "A camera is stale when no frame, or no result, has come for this time.",
            unit="s",
            bounds=(0.05, 3600.0),
            live=True,
        ),
        Declaration(
            "diagnostics_period_s",
            1.0,
            "Time between two messages on `/diagnostics`.",
            unit="s",
            bounds=(0.1, 60.0),
            live=True,
        ),
    ),
)

_REGIONS = Group(
    "Regions of the anomaly score",
    (
        Declaration(
            "region.hysteresis",
            0.7,
            "A region grows from pixels at the threshold over neighbours whose odds, score / (1 - score), are at least "
            "this factor times those of the threshold. 0.7 reaches about twice as many known pixels as the threshold. "
            "1: regions are those of the anomaly mask.",
            bounds=(0.01, 1.0),
            live=True,
        ),
        Declaration(
            "region.min_area",
            0.0002,
            "Area of the smallest region that is kept, as a fraction of the frame.",
            bounds=(0.0, 1.0),
            live=True,
        ),
        Declaration(
            "region.min_size_m",
            0.0,
            "Size on the ground of the smallest region that is kept: the side of an upright square at the region's "
            "foot that covers as many pixels. It applies to regions that have a place on the ground and whose foot is "
            "in the picture; `region.min_area` applies to all. 0: any size.",
            unit="m",
            bounds=(0.0, 10.0),
            live=True,
        ),
        Declaration(
            "region.max_regions",
            64,
            "Largest number of regions that are kept of a frame. The largest regions are kept.",
            bounds=(1, 1024),
            live=True,
        ),
        Declaration(
            "region.drivable_classes",
            ("",),
            "Names of the bundle's classes that a vehicle drives on. A region counts only if it stands on or near "
            "them, or its foot is out of the picture. Free ground consists of them. Empty (`['']`): the classes that "
            "the bundle marks as drivable. `['*']`, or empty if the bundle marks none: every region counts, and free "
            "ground is never reported.",
            live=True,
        ),
        Declaration(
            "region.surroundings",
            0.05,
            "How near to drivable ground a region must be to count, as a fraction of the frame's height.",
            bounds=(0.0, 1.0),
            live=True,
        ),
        Declaration(
            "region.standing",
            0.0,
            "Smallest share of a region's foot that must be on or near drivable ground. 0: one point is enough. What "
            "stands on the road has nearly all of its foot there; a border of far classes touches it with a corner. A "
            "region whose foot is out of the picture, even in part, counts in any case.",
            bounds=(0.0, 1.0),
            live=True,
        ),
        Declaration(
            "region.hidden_foot",
            0.0,
            "How far below a region drivable ground may begin, as a fraction of the region's height. The network may "
            "give the lower part of an unknown thing a known class, so that the region ends above the thing's foot. "
            "Each point of the foot is moved down to where the ground begins. 0: they stay.",
            bounds=(0.0, 1.0),
            live=True,
        ),
        Declaration(
            "region.ego_mask",
            ("",),
            "Image file that is white where the camera sees the own vehicle and black elsewhere. One file for each "
            "camera, or one for all. Empty: no mask.",
        ),
    ),
)

_PERSISTENCE = Group(
    "Persistence: when a region becomes an obstacle",
    (
        Declaration(
            "persistence.seen_frames",
            2,
            "A region becomes an obstacle when it was seen in this many of the last `persistence.of_frames` frames. "
            "A frame whose score speaks against it does not count (`evidence.weak_sighting`). "
            "With the motion of the vehicle known, that is for regions without a place; others count by `evidence.*`.",
            unit="frames",
            bounds=(1, 100),
            live=True,
        ),
        Declaration(
            "persistence.of_frames",
            3,
            "Number of the last frames in which a region is looked for, see `persistence.seen_frames`. At least as "
            "large as that.",
            unit="frames",
            bounds=(1, 100),
            live=True,
        ),
        Declaration(
            "persistence.max_gap_s",
            1.0,
            "After this time without a frame, all earlier frames are forgotten.",
            unit="s",
            bounds=(0.01, 60.0),
            live=True,
        ),
        Declaration(
            "persistence.reach",
            0.5,
            "Largest movement of the same region between two frames, in widths and heights of its box.",
            bounds=(0.0, 10.0),
            live=True,
        ),
    ),
)

_EVIDENCE_DEFAULTS = EvidenceSettings()
_EVIDENCE = Group(
    "Evidence: when a region becomes an obstacle while the vehicle's motion is known",
    (
        Declaration(
            "evidence.appears_at",
            _EVIDENCE_DEFAULTS.appears_at,
            "Evidence (natural logarithm of a likelihood ratio) from which on a region with a place is an obstacle.",
            bounds=(0.1, 20.0),
            live=True,
        ),
        Declaration(
            "evidence.vanishes_at",
            _EVIDENCE_DEFAULTS.vanishes_at,
            "Evidence below which an obstacle is none any more. Below `evidence.appears_at`.",
            bounds=(-5.0, 20.0),
            live=True,
        ),
        Declaration(
            "evidence.weak_sighting",
            _EVIDENCE_DEFAULTS.weak_sighting,
            "Evidence of a frame in which the region's strength, the mean of its highest and its mean score, is just "
            "the threshold or lower. Negative: such a region speaks against an object, also where frames are counted "
            "(`persistence.*`).",
            bounds=(-10.0, 10.0),
            live=True,
        ),
        Declaration(
            "evidence.strong_sighting",
            _EVIDENCE_DEFAULTS.strong_sighting,
            "Evidence of a frame in which the region's strength is 1. Not below `evidence.weak_sighting`.",
            bounds=(0.01, 10.0),
            live=True,
        ),
        Declaration(
            "evidence.miss",
            _EVIDENCE_DEFAULTS.miss,
            "Evidence that a frame subtracts in which an obstacle's place is in view, free and not marked.",
            bounds=(0.0, 10.0),
            live=True,
        ),
        Declaration(
            "evidence.foot_error",
            _EVIDENCE_DEFAULTS.foot_error,
            "Standard deviation of the foot of a region in the picture, as a fraction of the frame's height.",
            bounds=(0.0001, 0.2),
            live=True,
        ),
        Declaration(
            "evidence.pitch_error_deg",
            _EVIDENCE_DEFAULTS.pitch_error_deg,
            "Standard deviation of the camera's pitch against the road, as the vehicle nods.",
            unit="degrees",
            bounds=(0.0, 10.0),
            live=True,
        ),
        Declaration(
            "evidence.object_speed_mps",
            _EVIDENCE_DEFAULTS.object_speed_mps,
            "Speed up to which an object counts as standing. What slides with the vehicle cannot be told from it while "
            "the vehicle itself is that slow.",
            unit="m/s",
            bounds=(0.0, 50.0),
            live=True,
        ),
        Declaration(
            "evidence.max_unseen_s",
            _EVIDENCE_DEFAULTS.max_unseen_s,
            "After this time without a sighting, as behind a parked car, an obstacle is forgotten.",
            unit="s",
            bounds=(0.01, 60.0),
            live=True,
        ),
    ),
)

_EACH = "One value for each camera, or one for all."

_CALIBRATION = Group(
    "Calibration: the lens of each camera",
    (
        Declaration(
            "calibration.camera_info_topic",
            ("",),
            "Topic of the camera's calibration (`sensor_msgs/CameraInfo`), as a full name such as "
            "`/front/camera_info`. One value for each camera, each another. Empty: `input/camera_info`; in a replay, "
            "`camera_info` beside the images.",
        ),
        Declaration(
            "calibration.file",
            ("",),
            "Calibration file (YAML), as `cameracalibrator` and `camera_info_manager` write it. It is used instead of "
            f"a topic. {_EACH} Empty: the calibration comes from the topic.",
        ),
    ),
)

_GROUND = Group(
    "Ground: where obstacles stand",
    (
        Declaration("ground.base_frame", "base_link", "Frame of the vehicle, in which obstacles are placed (REP 105)."),
        Declaration(
            "ground.rectified_images",
            False,
            "The images are rectified (`image_rect`), so the matrix P of camera_info holds, and not K and D.",
        ),
        Declaration(
            "ground.max_range_m",
            40.0,
            "Largest distance from the point below the camera at which obstacles and free ground are placed.",
            unit="m",
            bounds=(0.5, 500.0),
            live=True,
        ),
        Declaration(
            "ground.z_m",
            0.0,
            "Height of the ground in the vehicle's frame.",
            unit="m",
            bounds=(-10.0, 10.0),
            live=True,
        ),
        Declaration(
            "ground.odometry_topic",
            "",
            "Topic that tells where the vehicle is (`nav_msgs/Odometry`), as a full name such as `/odometry`. Its "
            "child frame is taken for `ground.base_frame`. With it obstacles are followed on the ground and count by "
            "`evidence.*`. Empty: they are followed in the picture and count by `persistence.*`.",
        ),
        Declaration(
            "ground.fixed_frame",
            "",
            "Frame of tf in which the vehicle moves without jumps, such as `odom` (REP 105). Instead of "
            "`ground.odometry_topic`. It needs tf2_ros; a replay reads `/tf` itself. Empty: tf is not used for this.",
        ),
        Declaration(
            "ground.motion_wait_s",
            0.1,
            "How long after a frame the first pose of the vehicle with a stamp at or after the frame's may come. The "
            "results of the frame wait for it; inference does not. A frame without it is processed without motion.",
            unit="s",
            bounds=(0.0, 10.0),
        ),
        Declaration(
            "ground.max_speed_mps",
            60.0,
            "A pose of the vehicle that would need a higher speed is a jump, such as a relocalisation. All obstacles "
            "are then followed anew, under new ids.",
            unit="m/s",
            bounds=(0.1, 1000.0),
        ),
        Declaration(
            "ground.point_height_m",
            0.3,
            "Height of the published points above the ground. It must be above the `min_obstacle_height` of the "
            "costmap that reads them.",
            unit="m",
            bounds=(0.0, 10.0),
            live=True,
        ),
        Declaration(
            "ground.grid_resolution_m",
            0.2,
            "Side of a cell of `output/ground/grid`.",
            unit="m",
            bounds=(0.01, 10.0),
        ),
        Declaration(
            "ground.grid_from_x_m",
            0.0,
            "Rear edge of `output/ground/grid`, as x in the vehicle's frame (positive is ahead).",
            unit="m",
            bounds=(-500.0, 500.0),
        ),
        Declaration(
            "ground.grid_to_x_m",
            40.0,
            "Front edge of `output/ground/grid`, as x in the vehicle's frame (positive is ahead).",
            unit="m",
            bounds=(-500.0, 500.0),
        ),
        Declaration(
            "ground.grid_from_y_m",
            -10.0,
            "Right edge of `output/ground/grid`, as y in the vehicle's frame (positive is left).",
            unit="m",
            bounds=(-500.0, 500.0),
        ),
        Declaration(
            "ground.grid_to_y_m",
            10.0,
            "Left edge of `output/ground/grid`, as y in the vehicle's frame (positive is left).",
            unit="m",
            bounds=(-500.0, 500.0),
        ),
    ),
)

_MOUNTING = Group(
    "Mounting: the pose of each camera",
    (
        Declaration(
            "mounting.height_m",
            (0.0,),
            f"Height of the camera above the origin of the vehicle's frame. {_EACH} 0: the pose comes from tf2, and "
            "the other mounting parameters have no effect.",
            unit="m",
            bounds=(0.0, 100.0),
        ),
        Declaration(
            "mounting.pitch_deg",
            (0.0,),
            f"Pitch of the camera. Positive looks down. {_EACH}",
            unit="degrees",
            bounds=(-90.0, 90.0),
        ),
        Declaration(
            "mounting.roll_deg",
            (0.0,),
            f"Roll of the camera. Positive lowers its right side. {_EACH}",
            unit="degrees",
            bounds=(-180.0, 180.0),
        ),
        Declaration(
            "mounting.yaw_deg",
            (0.0,),
            f"Yaw of the camera. Positive looks left. {_EACH}",
            unit="degrees",
            bounds=(-180.0, 180.0),
        ),
        Declaration(
            "mounting.forward_m",
            (0.0,),
            f"Distance of the camera ahead of the origin of the vehicle's frame. {_EACH}",
            unit="m",
            bounds=(-100.0, 100.0),
        ),
        Declaration(
            "mounting.left_m",
            (0.0,),
            f"Distance of the camera to the left of the origin of the vehicle's frame. {_EACH}",
            unit="m",
            bounds=(-100.0, 100.0),
        ),
    ),
)

GROUPS = (
    _MODEL,
    _CAMERAS,
    _FAILURES,
    _OUTPUTS,
    _TIME,
    _REGIONS,
    _PERSISTENCE,
    _EVIDENCE,
    _CALIBRATION,
    _GROUND,
    _MOUNTING,
)

DECLARATIONS = tuple(declaration for group in GROUPS for declaration in group.declarations)
