"""Objects of no class: things on the road, and animals that walk on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from sample_drive.scene.assembly import (
    HULL_RANGE,
    PLANES,
    Assembly,
    Part,
    Vector,
    ball,
    box,
    hull,
    pitch,
    ring,
    rod,
)
from sample_drive.scene.inhabitants import CLOTHES, DARK, STEEL, Generator, pick

UNKNOWN_CLASS = 255
_IDS = {"unknown": UNKNOWN_CLASS}
WALK_PHASES = 8
Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class UnknownObject:
    """An object and its exact contact with the ground, in its own frame (x ahead, y left).

    Attributes:
        kind: its name.
        phases: one assembly, or those of a walk.
        footprints: of each phase, (F, 2) convex outline of what touches the ground, metres.
        height_m: of its highest point.
    """

    kind: str
    phases: tuple[Assembly, ...]
    footprints: tuple[Outline, ...]
    height_m: float

    @property
    def walks(self) -> bool:
        """Whether it is an animal that moves along its x axis."""
        return len(self.phases) > 1


def _still(kind: str, parts: list[Part], footprint: Outline, height_m: float) -> UnknownObject:
    reach = np.abs(np.array(footprint)).max(axis=0)
    return UnknownObject(
        kind, (Assembly.of(parts, _IDS, "unknown", (float(reach[0]), float(reach[1]))),), (footprint,), height_m
    )


def _rectangle(half_length: float, half_width: float) -> Outline:
    return (
        (half_length, half_width),
        (-half_length, half_width),
        (-half_length, -half_width),
        (half_length, -half_width),
    )


def _circle(radius: float) -> Outline:
    return tuple(
        (radius * math.cos(angle), radius * math.sin(angle))
        for angle in np.linspace(0, 2 * math.pi, 24, endpoint=False)
    )


def _tyre(generator: Generator) -> UnknownObject:
    outer, half = float(generator.uniform(0.33, 0.42)), float(generator.uniform(0.11, 0.15))
    black: Vector = (0.035, 0.035, 0.04)
    parts = [
        ring((0, 0, half), (0.0, 0.0, 1.0), outer, outer * 0.60, half, black, "rubber"),
        ring((0, 0, half), (0.0, 0.0, 1.0), outer * 0.93, outer * 0.66, half * 1.08, (0.05, 0.05, 0.055), "plaster"),
    ]
    return _still("tyre", parts, _circle(outer), 2.08 * half)


def _crate(generator: Generator) -> UnknownObject:
    x, y, z = (float(value) for value in generator.uniform((0.35, 0.3, 0.25), (0.6, 0.5, 0.45)))
    wood = pick(generator, ((0.52, 0.36, 0.20), (0.42, 0.30, 0.18)))
    dark: Vector = (wood[0] * 0.75, wood[1] * 0.75, wood[2] * 0.72)
    parts = [box((0, 0, z), (x - 0.02, y - 0.02, z), wood, "wood")]
    for side in (-1.0, 1.0):
        for end in (-1.0, 1.0):
            parts.append(box((side * (x - 0.04), end * (y - 0.04), z), (0.045, 0.045, z), dark, "wood"))
        for level in (0.05, 2 * z - 0.05):
            parts.append(box((0, side * (y - 0.02), level), (x, 0.022, 0.05), dark, "wood"))
            parts.append(box((side * (x - 0.02), 0, level), (0.022, y, 0.05), dark, "wood"))
    return _still("crate", parts, _rectangle(x, y), 2 * z)


def _sofa(generator: Generator) -> UnknownObject:
    half = float(generator.uniform(0.75, 1.0))
    cloth = pick(generator, ((0.40, 0.10, 0.08), (0.12, 0.22, 0.30), (0.45, 0.36, 0.22), (0.25, 0.30, 0.16)))
    light: Vector = (cloth[0] * 1.2, cloth[1] * 1.2, cloth[2] * 1.2)
    parts = [
        box((0, 0, 0.20), (0.42, half, 0.20), cloth, "cloth"),
        box((-0.36, 0, 0.58), (0.12, half, 0.30), cloth, "cloth", turn=pitch(-9)),
        *(box((0.02, side * (half - 0.11), 0.33), (0.42, 0.11, 0.30), cloth, "cloth") for side in (-1.0, 1.0)),
        *(
            rod((-0.40, side * (half - 0.11), 0.63), (0.44, side * (half - 0.11), 0.63), 0.12, cloth, "cloth")
            for side in (-1.0, 1.0)
        ),
        *(
            ball((0.08, side * (half - 0.22) / 2, 0.43), (0.36, (half - 0.22) / 2, 0.12), light, "cloth")
            for side in (-1.0, 1.0)
        ),
        *(
            ball((-0.22, side * (half - 0.22) / 2, 0.62), (0.13, (half - 0.22) / 2, 0.24), light, "cloth")
            for side in (-1.0, 1.0)
        ),
    ]
    return _still("sofa", parts, _rectangle(0.42, half), 0.88)


def _suitcase(generator: Generator) -> UnknownObject:
    colour = pick(generator, CLOTHES)
    parts = [
        box((0, 0, 0.14), (0.38, 0.26, 0.14), colour, "cloth"),
        *(box((x, 0, 0.14), (0.015, 0.265, 0.145), DARK, "metal") for x in (-0.2, 0.2)),
        rod((0.38, -0.1, 0.14), (0.46, -0.1, 0.14), 0.015, STEEL),
        rod((0.38, 0.1, 0.14), (0.46, 0.1, 0.14), 0.015, STEEL),
        rod((0.46, -0.1, 0.14), (0.46, 0.1, 0.14), 0.018, DARK),
    ]
    return _still("suitcase", parts, _rectangle(0.395, 0.265), 0.285)


def _boulder(generator: Generator) -> UnknownObject:
    x, y, z = (float(value) for value in generator.uniform((0.35, 0.3, 0.25), (0.6, 0.5, 0.45)))
    grey = pick(generator, ((0.36, 0.34, 0.31), (0.30, 0.26, 0.22)))
    rock = hull("boulder", (0, 0, z), (x, y, z), grey, "stone")
    return _still("boulder", [rock], _hull_outline("boulder", x, y), 2 * z)


def _hull_outline(name: str, x: float, y: float) -> Outline:
    """Where a convex shape meets z = -1: its half-spaces cut a far-off square, one after the other."""
    start, count = (int(value) for value in HULL_RANGE[name])
    corners = [(9.0, 9.0), (-9.0, 9.0), (-9.0, -9.0), (9.0, -9.0)]
    for nx, ny, nz, w in PLANES[start : start + count].tolist():
        inside = [nx * u + ny * v - nz - w for u, v in corners]
        cut = []
        for k, (corner, value) in enumerate(zip(corners, inside, strict=True)):
            other, further = corners[(k + 1) % len(corners)], inside[(k + 1) % len(corners)]
            if value <= 1e-12:
                cut.append(corner)
            if (value <= 1e-12) != (further <= 1e-12):
                share = value / (value - further)
                cut.append((corner[0] + share * (other[0] - corner[0]), corner[1] + share * (other[1] - corner[1])))
        corners = cut
    return tuple((u * x, v * y) for u, v in corners)


def _log(generator: Generator) -> UnknownObject:
    half, radius = float(generator.uniform(0.7, 1.0)), float(generator.uniform(0.13, 0.2))
    bark: Vector = (0.20, 0.14, 0.10)
    parts = [
        rod((0, -half, radius), (0, half, radius), radius, bark, "bark"),
        rod((0, half, radius), (0, half + 0.005, radius), radius * 0.9, (0.55, 0.42, 0.26), "wood"),
        rod((0, -half, radius), (0, -half - 0.005, radius), radius * 0.9, (0.55, 0.42, 0.26), "wood"),
        rod((0, half * 0.3, radius), (0.25, half * 0.45, radius * 2.4), radius * 0.35, bark, "bark", taper=0.6),
    ]
    return _still("log", parts, _rectangle(0.001, half), 2.4 * radius)


def _barrel(generator: Generator) -> UnknownObject:
    colour = pick(generator, ((0.05, 0.16, 0.36), (0.45, 0.12, 0.04), (0.10, 0.26, 0.14)))
    radius, half = 0.29, 0.44
    parts = [rod((0, -half, radius), (0, half, radius), radius * 0.97, colour, "metal", gloss=0.03)]
    for y in (-half, -half / 3, half / 3, half):
        parts.append(rod((0, y - 0.02, radius), (0, y + 0.02, radius), radius, colour, "metal", gloss=0.03))
    return _still("barrel", parts, _rectangle(0.001, half + 0.02), 2 * radius)


def _mattress(generator: Generator) -> UnknownObject:
    colour = pick(generator, ((0.66, 0.63, 0.56), (0.50, 0.55, 0.62)))
    stripe: Vector = (colour[0] * 0.6, colour[1] * 0.62, colour[2] * 0.72)
    parts = [box((0, 0, 0.11), (0.95, 0.5, 0.11), colour, "cloth")]
    parts += [box((0, y, 0.11), (0.953, 0.045, 0.113), stripe, "cloth") for y in np.linspace(-0.4, 0.4, 5)]
    return _still("mattress", parts, _rectangle(0.953, 0.5), 0.223)


def _chair(generator: Generator) -> UnknownObject:
    colour = pick(generator, ((0.45, 0.27, 0.12), (0.62, 0.60, 0.56), (0.42, 0.06, 0.06)))
    leg, half = 0.022, 0.21
    parts = [box((0, 0, 0.45), (half, half, 0.025), colour, "wood")]
    for x in (-1.0, 1.0):
        for y in (-1.0, 1.0):
            top = 0.9 if x < 0 else 0.45
            parts.append(box((x * (half - leg), y * (half - leg), top / 2), (leg, leg, top / 2), colour, "wood"))
    parts += [box((-half + leg, 0, level), (0.015, half, 0.045), colour, "wood") for level in (0.62, 0.74, 0.86)]
    return _still("chair", parts, _rectangle(half, half), 0.905)


def _cardboard_box(generator: Generator) -> UnknownObject:
    x, y, z = (float(value) for value in generator.uniform((0.25, 0.2, 0.15), (0.45, 0.35, 0.3)))
    card: Vector = (0.50, 0.36, 0.22)
    parts = [
        box((0, 0, z), (x, y, z), card, "plaster"),
        box((0, 0, 2 * z), (x + 0.001, 0.03, 0.003), (0.62, 0.56, 0.42), "plaster"),
        box((x + 0.08, 0, 2 * z + 0.05), (0.10, y, 0.006), (0.46, 0.33, 0.20), "plaster", turn=pitch(-30)),
    ]
    return _still("cardboard box", parts, _rectangle(x, y), 2 * z + 0.1)


def _animal(kind: str, scale: float, coat: Vector, neck: float, wool: bool) -> UnknownObject:
    """Four legs; `neck`: how far the head is above the back, in shoulder heights."""
    height, length = 0.62 * scale, 0.46 * scale
    dark: Vector = (coat[0] * 0.45, coat[1] * 0.42, coat[2] * 0.40)
    belly: Vector = (min(coat[0] * 1.3, 0.8), min(coat[1] * 1.3, 0.8), min(coat[2] * 1.3, 0.8))
    leg_radius = 0.055 * scale
    head = (length + 0.26 * scale, 0.0, height + neck * height)
    phases, footprints = [], []
    for k in range(WALK_PHASES):
        parts = [
            ball(
                (0, 0, height),
                (length * 1.08, 0.19 * scale * (1.25 if wool else 1), 0.20 * scale * (1.3 if wool else 1)),
                coat,
                "fur",
            ),
            ball((0.02, 0, height - 0.07 * scale), (length * 0.9, 0.16 * scale, 0.15 * scale), belly, "fur"),
            ball((length * 0.75, 0, height + 0.03), (0.20 * scale, 0.17 * scale, 0.22 * scale), coat, "fur"),
            rod(
                (length * 0.8, 0, height + 0.06),
                (head[0] - 0.06 * scale, 0, head[2] - 0.03),
                0.11 * scale,
                coat,
                "fur",
                taper=0.7,
            ),
            ball(head, (0.15 * scale, 0.10 * scale, 0.11 * scale), dark if wool else coat, "fur"),
            ball(
                (head[0] + 0.13 * scale, 0, head[2] - 0.05 * scale),
                (0.12 * scale, 0.055 * scale, 0.055 * scale),
                dark,
                "fur",
            ),
            *(
                ball(
                    (head[0] - 0.06 * scale, side * 0.10 * scale, head[2] + 0.09 * scale),
                    (0.03 * scale, 0.03 * scale, 0.08 * scale),
                    dark,
                    "fur",
                )
                for side in (-1.0, 1.0)
            ),
            rod(
                (-length, 0, height + 0.05),
                (-length - 0.22 * scale, 0, height + (0.20 if not wool else -0.15) * scale),
                0.035 * scale,
                coat,
                "fur",
                taper=0.4,
            ),
        ]
        feet = []
        for index, (x, y) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
            # Diagonal legs swing together; the foot that comes forward is lifted.
            angle = 2 * math.pi * k / WALK_PHASES + (0 if index in (0, 3) else math.pi)
            swing, lift = 0.13 * scale * math.sin(angle), max(math.cos(angle) - 1e-9, 0) * 0.05 * scale
            hip = (x * length * 0.72, y * 0.10 * scale, height - 0.05)
            foot = (hip[0] + swing, hip[1], lift)
            knee = ((hip[0] + foot[0]) / 2 + 0.03 * x * scale, hip[1], (hip[2] + foot[2]) / 2)
            parts.append(rod(hip, knee, leg_radius * 1.4, coat, "fur", taper=0.7))
            parts.append(rod((foot[0], foot[1], foot[2]), knee, leg_radius, dark if wool else coat, "fur", taper=1.0))
            if lift == 0:
                feet.append((foot[0], foot[1]))
        phases.append(Assembly.of(parts, _IDS, "unknown", (length, 0.18 * scale)))
        footprints.append(_outline_of_discs(feet, leg_radius))
    return UnknownObject(kind, tuple(phases), tuple(footprints), head[2] + 0.17 * scale)


def _outline_of_discs(centres: list[tuple[float, float]], radius: float) -> Outline:
    points = np.array([(x + u, y + v) for x, y in centres for u, v in _circle(radius)], np.float32)
    return tuple((float(x), float(y)) for x, y in cv2.convexHull(points)[:, 0].tolist())


def _dog(generator: Generator) -> UnknownObject:
    coat = pick(generator, ((0.42, 0.27, 0.14), (0.06, 0.05, 0.05), (0.50, 0.45, 0.38), (0.25, 0.14, 0.08)))
    return _animal("dog", float(generator.uniform(0.8, 1.05)), coat, 0.42, False)


def _sheep(generator: Generator) -> UnknownObject:
    return _animal("sheep", float(generator.uniform(1.05, 1.25)), (0.60, 0.56, 0.48), 0.22, True)


def _deer(generator: Generator) -> UnknownObject:
    return _animal("deer", float(generator.uniform(1.45, 1.7)), (0.34, 0.21, 0.12), 0.55, False)


KINDS: dict[str, Callable[[Generator], UnknownObject]] = {
    "tyre": _tyre,
    "dog": _dog,
    "crate": _crate,
    "sofa": _sofa,
    "boulder": _boulder,
    "sheep": _sheep,
    "barrel": _barrel,
    "suitcase": _suitcase,
    "log": _log,
    "deer": _deer,
    "mattress": _mattress,
    "chair": _chair,
    "cardboard box": _cardboard_box,
}
"""Every kind of unknown object by name."""
