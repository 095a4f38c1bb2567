"""A drive through rendered streets: frames with exact ground truth, the same for the same settings.

from sample_drive.drive import DriveSettings, SampleDrive

for frame in SampleDrive(DriveSettings(seed=1, seconds=10)).frames():
    frame.image, frame.labels, frame.anomaly, frame.obstacles  # see `ground_truth.DriveFrame`
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.camera_model import CameraModel
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.obstacles.ground import CameraPose
from sample_drive.ground_truth import DriveFrame, TrueObstacle, VehiclePose
from sample_drive.ray_casting import Solids
from sample_drive.rendering.rendering import SIGHT_M, Renderer, SensorSettings
from sample_drive.rendering.shading import Lighting
from sample_drive.scene.assembly import joined
from sample_drive.scene.scene import Crowd, ego_across, footprint_row, make_scene

FIRST_STAMP_NS = 1_700_000_000_000_000_000
STAMPS_OF_A_SEED_NS = 1_000_000_000_000
STAMPED_SEEDS = 100_000  # further seeds take the stamps of earlier ones: the seconds of a stamp have 32 bits
CAMERA_FORWARD_M = 1.6
CAMERA_HEIGHT_M = 1.45
CAMERA_PITCH_DEG = 3.5
REFERENCE_SIZE = (480, 640)
REFERENCE_FOCAL_PX = 560.0
DISTORTION = (-0.14, 0.035, 0.0006, -0.0004, 0.0)
LISTED_AHEAD_M = 100.0
MOST_TIMES = 20.0
"""Times as many as usual: one every 3.5 metres."""
WEATHERS = ("sun", "haze", "overcast")


class DriveSettingsError(PerceptionError, ValueError):
    """An impossible setting. The message names it, its value and the possible values."""


@dataclass(frozen=True)
class DriveSettings:
    """The settings of a drive.

    Attributes:
        seed: of streets, weather and everything in them; 0 or more.
        seconds: length of the drive.
        rate_hz: frames a second.
        height, width: of the image, pixels.
        unknown_objects: whether there are any. Without them the streets are the same.
        always_swerves: without unknown objects the vehicle swerves where they would be. Else it keeps to its lane, and
            shows lane marks from one side only.
        distortion: whether the lens distorts, as in `CameraModel` with `plumb_bob`.
        steady: without body motions (bounce, pitch, roll), so that the camera's pose is its mounting.
        cyclists, pedestrians: times as many as usual. Frames to train on need more of the classes that are rare and
            small on streets.
    """

    seed: int = 0
    seconds: float = 30.0
    rate_hz: float = 10.0
    height: int = 480
    width: int = 640
    unknown_objects: bool = True
    always_swerves: bool = False
    distortion: bool = True
    steady: bool = False
    cyclists: float = 1.0
    pedestrians: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise DriveSettingsError(f"seed is {self.seed}; it must be from 0 to {2**31 - 1}")
        # This form also refuses NaN.
        if not 0 < self.seconds <= 600:
            raise DriveSettingsError(f"seconds is {self.seconds}; it must be above 0 and at most 600")
        if not 0 < self.rate_hz <= 120:
            raise DriveSettingsError(f"rate_hz is {self.rate_hz}; it must be above 0 and at most 120")
        for name, times in (("cyclists", self.cyclists), ("pedestrians", self.pedestrians)):
            if not 0 <= times <= MOST_TIMES:
                raise DriveSettingsError(f"{name} is {times}; it must be from 0 to {MOST_TIMES:g}")
        if not (48 <= self.height <= 2160 and 64 <= self.width <= 3840):
            raise DriveSettingsError(f"the image is {self.width}x{self.height}; it must be from 64x48 to 3840x2160")
        if not 1.0 <= self.width / self.height <= 2.4:
            raise DriveSettingsError(
                f"the image is {self.width}x{self.height}; its width must be 1 to 2.4 times its height"
            )

    @property
    def frame_count(self) -> int:
        """Number of frames, at least one."""
        return max(round(self.seconds * self.rate_hz), 1)


class SampleDrive:
    """One drive. Creating it takes a second or two; the first one also compiles the kernels, which takes half a minute.

    The same settings give the same bytes on one machine with the same packages, whatever the number of jobs.

    Attributes:
        settings: as given.
        camera: as calibrated.
        mounting: of the camera on the body (`base_link`); the body at rest stands on `base_footprint`.
        weather: one of `WEATHERS`.
    """

    def __init__(self, settings: DriveSettings) -> None:
        self.settings = settings
        generator = np.random.default_rng([settings.seed, 9])
        self.weather = WEATHERS[int(generator.choice(3, p=(0.5, 0.25, 0.25)))]
        self._lighting = _lighting(generator, self.weather)
        sensor = SensorSettings(
            exposure=float(generator.uniform(0.85, 1.1)) * (1.25 if self.weather == "overcast" else 1.0)
        )
        self._speeds = (
            float(generator.uniform(7.5, 9.5)),
            float(generator.uniform(0.8, 1.6)),
            float(generator.uniform(9, 15)),
        )
        self._first_stamp_ns = FIRST_STAMP_NS + settings.seed % STAMPED_SEEDS * STAMPS_OF_A_SEED_NS
        self._shake = generator.uniform(0, 2 * math.pi, 6)
        focal = REFERENCE_FOCAL_PX * settings.width / REFERENCE_SIZE[1]
        self.camera = CameraModel(
            height=settings.height,
            width=settings.width,
            focal_x=focal,
            focal_y=focal,
            centre_x=(settings.width - 1) / 2 + 2.5 * focal / REFERENCE_FOCAL_PX,
            centre_y=(settings.height - 1) / 2 - 1.5 * focal / REFERENCE_FOCAL_PX,
            coefficients=DISTORTION if settings.distortion else (),
        )
        self.mounting = CameraPose.from_mounting(CAMERA_HEIGHT_M, CAMERA_PITCH_DEG, forward_m=CAMERA_FORWARD_M)
        self._scene = make_scene(
            settings.seed,
            self._along(settings.seconds),
            settings.seconds,
            settings.unknown_objects,
            Crowd(settings.cyclists, settings.pedestrians),
            settings.always_swerves,
        )
        self._renderer = Renderer(self.camera, sensor)
        self._ground = self._scene.street.ground_map

    def __len__(self) -> int:
        return self.settings.frame_count

    def frames(self, jobs: int = 1) -> Iterator[DriveFrame]:
        """Every frame in order.

        Args:
            jobs: threads that render; the frames do not depend on it.
        """
        if jobs == 1:
            yield from map(self.frame, range(len(self)))
            return
        with ThreadPoolExecutor(jobs) as pool:
            waiting: deque[Future[DriveFrame]] = deque()
            try:
                for index in range(len(self)):
                    waiting.append(pool.submit(self.frame, index))
                    if len(waiting) > 2 * jobs:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def frame(self, index: int) -> DriveFrame:
        """One frame.

        Raises:
            IndexError: the drive has no such frame.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of a drive of {len(self)}")
        time_s = index / self.settings.rate_hz
        vehicle = self.vehicle(time_s)
        pose = self._camera_pose(time_s)
        rotation, position = _in_map(vehicle, pose)
        solids, footprints = self._world(time_s)
        image, labels, instances = self._renderer(
            solids, footprints, self._ground, self._lighting, rotation, position, self._velocity(time_s), index + 1
        )
        return DriveFrame(
            index=index,
            stamp_ns=self.stamp_ns(time_s),
            image=image,
            labels=labels,
            anomaly=instances > 0,
            instances=instances,
            camera=self.camera,
            camera_pose=pose,
            vehicle=vehicle,
            obstacles=self._obstacles(time_s, vehicle, pose, instances),
        )

    def stamp_ns(self, time_s: float) -> int:
        """The stamp at a time since the first frame, nanoseconds."""
        return self._first_stamp_ns + round(time_s * 1e9)

    def _along(self, time_s: float) -> float:
        """Distance of the vehicle along the street, metres."""
        mean, swing, period = self._speeds
        # The integral of mean + swing sin(2 pi t / period).
        return mean * time_s + swing * period / (2 * math.pi) * (1 - math.cos(2 * math.pi * time_s / period))

    def vehicle(self, time_s: float) -> VehiclePose:
        """Where the vehicle is at a time since the first frame, seconds."""
        step = 0.05
        points = []
        for moment in (time_s, time_s + step):
            along = self._along(moment)
            weave = 0.10 * math.sin(along / 17 + self._shake[5])
            points.append(self._scene.street.place(along, ego_across(along, self._scene.swerves) + weave))
        (x, y), (next_x, next_y) = ((float(px), float(py)) for px, py in points)
        return VehiclePose(x, y, math.atan2(next_y - y, next_x - x), math.hypot(next_x - x, next_y - y) / step)

    def _camera_pose(self, time_s: float) -> CameraPose:
        if self.settings.steady:
            return self.mounting
        a, b, c, d, e, _ = self._shake.tolist()
        return CameraPose.from_mounting(
            height_m=CAMERA_HEIGHT_M + 0.012 * math.sin(7.1 * time_s + a),
            pitch_deg=CAMERA_PITCH_DEG + 0.22 * math.sin(5.3 * time_s + b) + 0.12 * math.sin(11.9 * time_s + c),
            roll_deg=0.30 * math.sin(3.1 * time_s + d) + 0.10 * math.sin(9.7 * time_s + e),
            forward_m=CAMERA_FORWARD_M,
        )

    def _velocity(self, time_s: float) -> NDArray[np.float64]:
        """(6,) velocity of the camera in its optical frame, m/s and rad/s, from the poses before and after the time."""
        step = 0.01
        before = _in_map(self.vehicle(time_s - step), self._camera_pose(time_s - step))
        after = _in_map(self.vehicle(time_s + step), self._camera_pose(time_s + step))
        rotation, _ = _in_map(self.vehicle(time_s), self._camera_pose(time_s))
        turned = before[0].T @ after[0] / (4 * step)
        spin = np.array([turned[2, 1] - turned[1, 2], turned[0, 2] - turned[2, 0], turned[1, 0] - turned[0, 1]])
        return np.concatenate([rotation.T @ (after[1] - before[1]) / (2 * step), spin])

    def _world(self, time_s: float) -> tuple[Solids, NDArray[np.float64]]:
        """Static objects, and the moving ones at their places at a time."""
        here = self._along(time_s)
        placed, footprints = [self._scene.still], [self._scene.still_footprints]
        for mover in self._scene.movers:
            if abs(mover.at(time_s)[0] - here) > SIGHT_M:
                continue
            x, y, heading, phase = mover.pose(self._scene.street, time_s)
            placed.append(mover.phases[phase].placed(x, y, heading, mover.instance))
            footprints.append(np.array([footprint_row(mover.phases[phase], x, y, heading)]))
        return joined(placed), np.concatenate(footprints)

    def _obstacles(
        self, time_s: float, vehicle: VehiclePose, pose: CameraPose, instances: NDArray[np.uint16]
    ) -> tuple[TrueObstacle, ...]:
        visible = np.bincount(instances.ravel(), minlength=len(self._scene.movers) + 1)
        cosine, sine = math.cos(vehicle.heading), math.sin(vehicle.heading)
        found = []
        for mover in self._scene.movers:
            if mover.unknown is None:
                continue
            x, y, heading, phase = mover.pose(self._scene.street, time_s)
            outline = np.array(mover.unknown.footprints[phase])
            turn = np.array([[math.cos(heading), math.sin(heading)], [-math.sin(heading), math.cos(heading)]])
            in_map = outline @ turn + (x - vehicle.x, y - vehicle.y)
            on_ground = in_map @ np.array([[cosine, -sine], [sine, cosine]])
            if not 0 < on_ground[:, 0].max() < LISTED_AHEAD_M:
                continue
            middle = (on_ground.min(axis=0) + on_ground.max(axis=0)) / 2
            found.append(
                TrueObstacle(
                    id=mover.instance,
                    kind=mover.unknown.kind,
                    position=(float(middle[0]), float(middle[1]), 0.0),
                    footprint=tuple((float(u), float(v)) for u, v in on_ground),
                    height_m=mover.unknown.height_m,
                    range_m=_nearest(on_ground, np.array(pose.translation[:2])),
                    visible_pixels=int(visible[mover.instance]),
                )
            )
        return tuple(sorted(found, key=lambda obstacle: obstacle.range_m))


def _nearest(outline: NDArray[np.float64], point: NDArray[np.float64]) -> float:
    """Distance from a point outside a closed outline (F, 2) to it."""
    ends = np.roll(outline, -1, axis=0)
    along = ends - outline
    lengths = np.maximum((along**2).sum(axis=1), 1e-12)
    share = np.clip(((point - outline) * along).sum(axis=1) / lengths, 0, 1)
    return float(np.sqrt(((outline + share[:, None] * along - point) ** 2).sum(axis=1)).min())


def _in_map(vehicle: VehiclePose, pose: CameraPose) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The camera's rotation (optical frame to map) and position in `map`."""
    cosine, sine = math.cos(vehicle.heading), math.sin(vehicle.heading)
    turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    rotation = turn @ np.reshape(pose.rotation, (3, 3))
    return np.ascontiguousarray(rotation), turn @ np.array(pose.translation) + (vehicle.x, vehicle.y, 0.0)


def _lighting(generator: np.random.Generator, weather: str) -> Lighting:
    elevation = math.radians(float(generator.uniform(28, 55)))
    # To the side: a low sun ahead blinds any camera.
    azimuth = float(generator.choice([-1, 1])) * math.radians(float(generator.uniform(40, 140)))
    towards = np.array(
        [math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]
    )
    across = np.cross(towards, (0.0, 0.0, 1.0))
    across /= np.linalg.norm(across)
    light = np.stack([across, np.cross(towards, across), towards])
    warm = np.array([1.0, 0.93, 0.80])
    if weather == "sun":
        return Lighting(
            light,
            1.75 * warm,
            np.array([0.50, 0.58, 0.72]),
            np.array([0.16, 0.32, 0.68]),
            np.array([0.66, 0.76, 0.88]),
            0.0,
            0.0016,
        )
    if weather == "haze":
        return Lighting(
            light,
            1.1 * warm,
            np.array([0.62, 0.66, 0.72]),
            np.array([0.38, 0.50, 0.70]),
            np.array([0.78, 0.80, 0.82]),
            0.4,
            0.0042,
        )
    return Lighting(
        light,
        np.zeros(3),
        np.array([0.92, 0.94, 0.98]),
        np.array([0.62, 0.66, 0.72]),
        np.array([0.82, 0.84, 0.86]),
        1.0,
        0.0030,
    )
