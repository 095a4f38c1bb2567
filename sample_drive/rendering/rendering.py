"""Renders a scene: image, class ids and instances. Each pixel is computed independently.

One ray through the centre of each pixel decides the class. The image takes four more rays where neighbouring pixels
differ. Then it gets motion blur and the tone curve, vignette and noise of a sensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros_ood_perception.camera.camera_model import CameraModel
from sample_drive.ground_truth import CLASS_ID, VOID_ID
from sample_drive.ray_casting import (
    TILE_PX,
    Solids,
    bin_by_light,
    bin_by_tile,
    compiled,
    hit,
    packed,
    shadow_bounds,
    surface,
    tangent_bounds,
)
from sample_drive.rendering.shading import Lighting, shade
from sample_drive.scene.assembly import PLANES
from sample_drive.scene.street import StreetCoordinates
from sample_drive.scene.textures import make_textures

SIGHT_M = 150.0
BEHIND_M = 25.0
LIGHT_CELL_M = 1.5
LIGHT_REACH_M = 120.0
BLUR_SAMPLES = 5
SUB_PIXELS = np.array([(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)])
SKY_ID = CLASS_ID["sky"]
NOISE_POOL = 1 << 20


@dataclass(frozen=True)
class SensorSettings:
    """The settings of the sensor.

    Attributes:
        exposure: factor on linear light before the tone curve.
        exposure_s: how long the shutter is open; blurs what moves past the camera.
        read_noise, shot_noise: standard deviation in 8-bit steps in the dark, and added at full light.
        vignette: share of light lost in the corners.
    """

    exposure: float = 1.0
    exposure_s: float = 0.008
    read_noise: float = 1.6
    shot_noise: float = 2.4
    vignette: float = 0.22


class Renderer:
    """Renders the frames of one camera. Keeps what does not change between frames; can be called from several threads.

    Args:
        camera: with less than 160 degrees across; its rays must exist in every pixel.
        sensor: how it sees.

    Raises:
        ValueError: a pixel has no ray, or one too far to the side.
    """

    def __init__(self, camera: CameraModel, sensor: SensorSettings) -> None:
        self.camera = camera
        self.sensor = sensor
        v, u = np.mgrid[: camera.height, : camera.width].astype(np.float64)
        self._centres = self._tangents(u, v)
        self._sub_pixels = np.stack([self._tangents(u + du, v + dv) for du, dv in SUB_PIXELS.tolist()])
        self._tiles = self._tile_bounds()
        middle = self._centres[camera.height // 2]
        self._pixel = float(np.median(np.diff(middle[:, 0])))
        self._textures = make_textures()
        self._noise = np.random.default_rng(7).standard_normal(NOISE_POOL, np.float32)
        radius = np.hypot((u - camera.width / 2) / camera.width, (v - camera.height / 2) / camera.height)
        self._vignette = 1.0 - sensor.vignette * (radius / radius.max()) ** 2
        # Tone curve: light to 8 bits, through 4096 steps of its square root.
        light = (np.arange(4097) / 4096.0 * 4.0) ** 2
        self._tone = 255.0 * (1.0 - np.exp(-light * 1.35)) ** (1 / 2.2)

    def _tangents(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        rays = self.camera.rays(np.stack([u.ravel(), v.ravel()], axis=1))
        if not (rays[:, 2] > 0.17).all():
            raise ValueError(
                f"a pixel of the {self.camera.width}x{self.camera.height} camera looks more than 80 degrees aside, or "
                "its distortion has no inverse there; choose a longer focal length or a weaker distortion"
            )
        return np.ascontiguousarray((rays[:, :2] / rays[:, 2:]).reshape(*u.shape, 2))

    def _tile_bounds(self) -> NDArray[np.float64]:
        """(T, 4) least and largest tangents of each tile, a pixel wider on every side."""
        bounds = []
        for top in range(0, self.camera.height, TILE_PX):
            for left in range(0, self.camera.width, TILE_PX):
                part = self._centres[max(top - 1, 0) : top + TILE_PX + 1, max(left - 1, 0) : left + TILE_PX + 1]
                margin = 1.5 / min(self.camera.focal_x, self.camera.focal_y)
                low, high = part.min(axis=(0, 1)) - margin, part.max(axis=(0, 1)) + margin
                bounds.append((low[0], high[0], low[1], high[1]))
        return np.array(bounds)

    def __call__(
        self,
        solids: Solids,
        footprints: NDArray[np.float64],
        ground: StreetCoordinates,
        lighting: Lighting,
        rotation: NDArray[np.float64],
        position: NDArray[np.float64],
        velocity: NDArray[np.float64],
        frame_seed: int,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint16]]:
        """Render one frame.

        Args:
            solids, ground, lighting: the world.
            footprints: (F, 6) of what shades the ground, as `shading.occlusion` takes them.
            rotation: (3, 3) optical frame to world.
            position: (3,) of the camera in the world, metres.
            velocity: (6,) of the camera in its optical frame: metres a second, then radians a second.
            frame_seed: of the noise.

        Returns:
            image (H, W, 3) uint8 RGB; labels (H, W) uint8; instances (H, W) uint16.
        """
        chosen = self._in_sight(solids, rotation, position)
        solids = Solids(*(np.ascontiguousarray(column[chosen]) for column in solids))
        near = np.hypot(footprints[:, 0] - position[0], footprints[:, 1] - position[1]) < 70
        bounds = tangent_bounds(solids, rotation, position)
        order = np.argsort(bounds[:, 4], kind="stable")
        tiles = bin_by_tile(order, bounds, self._tiles)
        light = lighting.light
        start = light[:2] @ position - LIGHT_REACH_M
        count = math.ceil(2 * LIGHT_REACH_M / LIGHT_CELL_M)
        grid = np.array([start[0], start[1], LIGHT_CELL_M, count, count])
        shadows = shadow_bounds(solids, light)
        scene = (solids, packed(solids), bin_by_light(shadows, grid), shadows, grid, ground, self._textures, PLANES)
        colour, depth, labels, instances = _render(
            self._centres,
            self._sub_pixels,
            self._pixel,
            rotation,
            position,
            tiles,
            bounds,
            scene,
            lighting,
            np.ascontiguousarray(footprints[near]),
        )
        tangents_moved = velocity * self.sensor.exposure_s
        focal = np.array([self.camera.focal_x, self.camera.focal_y])
        image = _expose(
            colour,
            depth,
            self._centres,
            focal,
            tangents_moved,
            self._vignette * self.sensor.exposure,
            self._tone,
            self._noise,
            frame_seed * 7_368_787 % NOISE_POOL,
            self.sensor.read_noise,
            self.sensor.shot_noise,
        )
        return image, labels, instances

    @staticmethod
    def _in_sight(solids: Solids, rotation: NDArray[np.float64], position: NDArray[np.float64]) -> NDArray[np.int64]:
        away = solids.centre - position
        reach = np.sqrt((solids.matrix**2).sum(axis=(1, 2)))
        ahead = away @ rotation[:, 2]
        distance = np.sqrt((away**2).sum(axis=1))
        return np.flatnonzero((distance - reach < SIGHT_M) & (ahead + reach > -BEHIND_M))


@compiled
def _cast(tx, ty, pixel, rotation, position, tile, tiles, bounds, scene):  # type: ignore[no-untyped-def]
    """The first hit of a ray with these tangents: solid index (-1 ground, -2 sky) and depth."""
    _, table, _, _, _, _, textures, planes = scene
    dx = rotation[0, 0] * tx + rotation[0, 1] * ty + rotation[0, 2]
    dy = rotation[1, 0] * tx + rotation[1, 1] * ty + rotation[1, 2]
    dz = rotation[2, 0] * tx + rotation[2, 1] * ty + rotation[2, 2]
    best, found = 1e9, -2
    if dz < 0.0:
        best, found = -position[2] / dz, -1
    for k in range(tiles.starts[tile], tiles.starts[tile + 1]):
        i = tiles.members[k]
        if bounds[i, 4] > best:
            break
        if tx < bounds[i, 0] or tx > bounds[i, 1] or ty < bounds[i, 2] or ty > bounds[i, 3]:
            continue
        t, _, _, _, _, _, _ = surface(
            i, position[0], position[1], position[2], dx, dy, dz, pixel, table, planes, textures
        )
        if 0.05 < t < best:
            best, found = t, i
    return found, best


@compiled
def _shade_ray(found, depth, tx, ty, pixel, rotation, position, scene, lighting, footprints):  # type: ignore[no-untyped-def]
    _, table, _, _, _, _, textures, planes = scene
    dx = rotation[0, 0] * tx + rotation[0, 1] * ty + rotation[0, 2]
    dy = rotation[1, 0] * tx + rotation[1, 1] * ty + rotation[1, 2]
    dz = rotation[2, 0] * tx + rotation[2, 1] * ty + rotation[2, 2]
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    dx, dy, dz = dx / length, dy / length, dz / length
    t = depth * length
    hx = hy = hz = nx = ny = nz = 0.0
    if found >= 0:
        near, hx, hy, hz, nx, ny, nz = surface(
            found, position[0], position[1], position[2], dx, dy, dz, pixel / length, table, planes, textures
        )
        if near < 0.0:
            # A hole by a hair's breadth of rounding: take the surface itself.
            near, hx, hy, hz, nx, ny, nz = hit(
                found, False, position[0], position[1], position[2], dx, dy, dz, table, planes
            )
    return shade(
        found,
        t,
        hx,
        hy,
        hz,
        nx,
        ny,
        nz,
        position[0],
        position[1],
        position[2],
        dx,
        dy,
        dz,
        pixel,
        scene,
        lighting,
        footprints,
    )


@compiled
def _render(  # type: ignore[no-untyped-def]
    centres, sub_pixels, pixel, rotation, position, tiles, bounds, scene, lighting, footprints
):
    height, width, _ = centres.shape
    columns = (width + TILE_PX - 1) // TILE_PX
    solids = scene[0]
    colour = np.empty((height, width, 3), np.float32)
    depth = np.empty((height, width), np.float32)
    labels = np.empty((height, width), np.uint8)
    instances = np.zeros((height, width), np.uint16)
    key = np.empty((height, width), np.int64)
    for v in range(height):
        for u in range(width):
            tx, ty = centres[v, u, 0], centres[v, u, 1]
            tile = (v // TILE_PX) * columns + u // TILE_PX
            found, best = _cast(tx, ty, pixel, rotation, position, tile, tiles, bounds, scene)
            r, g, b, ground_class, lit = _shade_ray(
                found, best, tx, ty, pixel, rotation, position, scene, lighting, footprints
            )
            colour[v, u, 0], colour[v, u, 1], colour[v, u, 2] = r, g, b
            depth[v, u] = best
            if found >= 0:
                class_id = solids.class_id[found]
                labels[v, u] = VOID_ID if class_id > VOID_ID else class_id
                instances[v, u] = solids.instance[found]
            else:
                labels[v, u] = SKY_ID if found == -2 else ground_class
            key[v, u] = (found + 2) * 64 + labels[v, u] * 2 + lit
    for v in range(height):
        for u in range(width):
            own = key[v, u]
            differs = (
                (u > 0 and key[v, u - 1] != own)
                or (u + 1 < width and key[v, u + 1] != own)
                or (v > 0 and key[v - 1, u] != own)
                or (v + 1 < height and key[v + 1, u] != own)
            )
            if not differs:
                continue
            tile = (v // TILE_PX) * columns + u // TILE_PX
            red = green = blue = 0.0
            for k in range(4):
                tx, ty = sub_pixels[k, v, u, 0], sub_pixels[k, v, u, 1]
                found, best = _cast(tx, ty, pixel, rotation, position, tile, tiles, bounds, scene)
                r, g, b, _, _ = _shade_ray(found, best, tx, ty, pixel, rotation, position, scene, lighting, footprints)
                # What is far brighter than white must not swallow the other three.
                red, green, blue = red + min(r, 1.5), green + min(g, 1.5), blue + min(b, 1.5)
            colour[v, u, 0], colour[v, u, 1], colour[v, u, 2] = red * 0.25, green * 0.25, blue * 0.25
    return colour, depth, labels, instances


@compiled
def _expose(  # type: ignore[no-untyped-def]
    colour, depth, centres, focal, moved, gain, tone, noise, offset, read_noise, shot_noise
):
    """Motion blur by the camera's own motion, vignette, tone curve, noise. moved: (6,) metres and radians while the
    shutter is open."""
    height, width, _ = colour.shape
    image = np.empty((height, width, 3), np.uint8)
    for v in range(height):
        for u in range(width):
            x, y, z = centres[v, u, 0], centres[v, u, 1], depth[v, u]
            # A still point's way over the picture while the camera moves: the optical flow of a rigid motion.
            along_x = (-moved[0] + x * moved[2]) / z + x * y * moved[3] - (1 + x * x) * moved[4] + y * moved[5]
            along_y = (-moved[1] + y * moved[2]) / z + (1 + y * y) * moved[3] - x * y * moved[4] - x * moved[5]
            du, dv = along_x * focal[0], along_y * focal[1]
            reach = max(abs(du), abs(dv))
            r = g = b = 0.0
            samples = BLUR_SAMPLES if reach > 0.6 else 1
            for k in range(samples):
                share = 0.0 if samples == 1 else k / (samples - 1) - 0.5
                column = min(max(int(math.floor(u + share * du + 0.5)), 0), width - 1)
                row = min(max(int(math.floor(v + share * dv + 0.5)), 0), height - 1)
                r += colour[row, column, 0]
                g += colour[row, column, 1]
                b += colour[row, column, 2]
            for channel in range(3):
                light = (r if channel == 0 else (g if channel == 1 else b)) / samples * gain[v, u]
                step = math.sqrt(min(max(light, 0.0), 15.99)) * 1024.0
                low = int(step)
                value = tone[low] + (step - low) * (tone[low + 1] - tone[low])
                spread = read_noise + shot_noise * math.sqrt(value / 255.0)
                value += spread * noise[(offset + (v * width + u) * 3 + channel) & (NOISE_POOL - 1)]
                image[v, u, channel] = int(min(max(value + 0.5, 0.0), 255.0))
    return image
