"""Objects made of solids, in their own frame: x forward, y left, z up, the ground at z = 0, metres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sample_drive.ray_casting import BOX, ELLIPSOID, FRUSTUM, HULL, PLAIN, TUBE, Solids
from sample_drive.scene.textures import LAYER

Vector = tuple[float, float, float]


def _profile(corners: Sequence[tuple[float, float]], side: float) -> list[tuple[float, float, float, float]]:
    """Half-spaces n . p <= w of a convex outline in x, z (counter-clockwise seen from -y), with sides that lean in.

    `side`: half width at z = 1; at z = -1 it is 1.
    """
    planes = []
    for (x0, z0), (x1, z1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        nx, nz = z1 - z0, x0 - x1
        planes.append((nx, 0.0, nz, nx * x0 + nz * z0))
    lean = (1 - side) / 2
    planes += [(0.0, 1.0, lean, (1 + side) / 2), (0.0, -1.0, lean, (1 + side) / 2)]
    return planes


_HULLS = {
    # A car below its windows: bonnet, boot, and bumpers drawn in.
    "car_body": _profile(
        [
            (-0.95, -1.0),
            (0.93, -1.0),
            (1.0, -0.45),
            (0.98, 0.25),
            (0.86, 0.62),
            (0.30, 1.0),
            (-0.86, 1.0),
            (-0.99, 0.6),
            (-1.0, -0.4),
        ],
        0.90,
    ),
    "hatch_cabin": _profile([(-0.96, -1.0), (1.0, -1.0), (0.40, 0.86), (0.22, 1.0), (-0.66, 1.0), (-0.84, 0.85)], 0.74),
    "sedan_cabin": _profile([(-1.0, -1.0), (1.0, -1.0), (0.42, 0.88), (0.26, 1.0), (-0.36, 1.0), (-0.52, 0.9)], 0.72),
    "van_body": _profile(
        [
            (-1.0, -1.0),
            (0.96, -1.0),
            (1.0, -0.55),
            (0.97, -0.15),
            (0.76, 0.0),
            (0.52, 0.82),
            (0.42, 1.0),
            (-0.97, 1.0),
            (-1.0, 0.9),
        ],
        0.92,
    ),
    "gable": _profile([(-1.0, -1.0), (1.0, -1.0), (0.0, 1.0)], 1.0),
    "wedge": _profile([(-1.0, -1.0), (1.0, -1.0), (0.7, 1.0), (-0.85, 1.0)], 0.9),
}
_HULLS["boulder"] = [
    (x / length, y / length, z / length, 0.80 + 0.17 * math.sin(7.1 * x + 3.3 * y + 5.7 * z + 1.0))
    for x, y, z in [
        (1, 0, 0),
        (-1, 0.2, 0),
        (0, 1, 0.1),
        (0.1, -1, 0),
        (0.5, 0.7, 0.6),
        (-0.7, 0.5, 0.6),
        (0.6, -0.6, 0.7),
        (-0.6, -0.7, 0.5),
        (0.1, 0.2, 1),
        (-0.3, -0.2, 1),
        (0.8, 0.1, 0.7),
        (-0.9, 0.1, 0.6),
        (0.7, 0.7, -0.1),
        (-0.7, -0.7, -0.1),
        (0.7, -0.7, 0.05),
        (-0.7, 0.75, 0.0),
    ]
    for length in [math.sqrt(x * x + y * y + z * z)]
] + [(0.0, 0.0, -1.0, 1.0)]
PLANES = np.array([plane for planes in _HULLS.values() for plane in planes], np.float64)
_starts = np.cumsum([0] + [len(planes) for planes in _HULLS.values()])
HULL_RANGE = {name: (float(_starts[k]), float(len(planes))) for k, (name, planes) in enumerate(_HULLS.items())}


@dataclass(frozen=True)
class Part:
    """One solid of an assembly.

    Attributes:
        kind: unit shape of `ray_casting`.
        centre: metres.
        size: half extents along its own axes, metres.
        colour: linear albedo, 0..1.
        layer: texture.
        mode: shading of `ray_casting`.
        turn: (3, 3) its own axes to the assembly's; None: as they are.
        gloss: reflectance of the sky.
        parameter: of shape or shading.
        class_name: where it is not the assembly's.
    """

    kind: int
    centre: Vector
    size: Vector
    colour: Vector
    layer: str = "plaster"
    mode: int = PLAIN
    turn: NDArray[np.float64] | None = None
    gloss: float = 0.0
    parameter: tuple[float, float] = (0.0, 0.0)
    class_name: str | None = None


def box(centre: Vector, size: Vector, colour: Vector, layer: str = "plaster", **more: object) -> Part:
    """A box by its half extents."""
    return replace(Part(BOX, centre, size, colour, layer), **more)  # type: ignore[arg-type]


def ball(centre: Vector, size: Vector, colour: Vector, layer: str = "plaster", **more: object) -> Part:
    """An ellipsoid by its half axes."""
    return replace(Part(ELLIPSOID, centre, size, colour, layer), **more)  # type: ignore[arg-type]


def hull(name: str, centre: Vector, size: Vector, colour: Vector, layer: str = "plaster", **more: object) -> Part:
    """A convex shape of `_HULLS`."""
    part = Part(HULL, centre, size, colour, layer, parameter=HULL_RANGE[name])
    return replace(part, **more)  # type: ignore[arg-type]


def rod(
    start: Vector,
    end: Vector,
    radius: float,
    colour: Vector,
    layer: str = "plaster",
    taper: float = 1.0,
    **more: object,
) -> Part:
    """A round rod from start to end; `taper`: radius at the end over that at the start, at most 1."""
    along = np.subtract(end, start)
    length = float(np.linalg.norm(along))
    part = Part(
        FRUSTUM,
        _middle(start, end),
        (radius, radius, length / 2),
        colour,
        layer,
        parameter=(taper, 0.0),
        turn=_axis_to(along / length),
    )
    return replace(part, **more)  # type: ignore[arg-type]


def ring(
    centre: Vector,
    axis: Vector,
    outer: float,
    inner: float,
    half_width: float,
    colour: Vector,
    layer: str,
    **more: object,
) -> Part:
    """A tube along an axis (of length 1)."""
    part = Part(
        TUBE,
        centre,
        (outer, outer, half_width),
        colour,
        layer,
        parameter=(inner / outer, 0.0),
        turn=_axis_to(np.array(axis)),
    )
    return replace(part, **more)  # type: ignore[arg-type]


def yaw(degrees: float) -> NDArray[np.float64]:
    """Turn about z, counter-clockwise."""
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]])


def pitch(degrees: float) -> NDArray[np.float64]:
    """Turn about y: positive lowers the front."""
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), 0, math.sin(angle)], [0, 1.0, 0], [-math.sin(angle), 0, math.cos(angle)]])


def _middle(start: Vector, end: Vector) -> Vector:
    return ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, (start[2] + end[2]) / 2)


def _axis_to(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Some rotation that turns z to a unit axis."""
    other = np.array([1.0, 0, 0]) if abs(axis[0]) < 0.9 else np.array([0, 1.0, 0])
    across = np.cross(other, axis)
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(axis, across), axis], axis=1)


@dataclass(frozen=True)
class Assembly:
    """Parts as arrays, ready to be placed; `solids` are placed at the origin of the world.

    Attributes:
        solids: of the parts.
        footprint: (half length, half width) of what shades the ground around it, metres; (0, 0) for none.
    """

    solids: Solids
    footprint: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(
        cls,
        parts: Sequence[Part],
        class_ids: dict[str, int],
        class_name: str,
        footprint: tuple[float, float] = (0.0, 0.0),
    ) -> Assembly:
        """Arrays from parts; `class_name` is the class of parts without one."""
        size = np.array([part.size for part in parts], np.float64)
        turn = np.array([np.eye(3) if part.turn is None else part.turn for part in parts])
        matrix = turn * size[:, None, :]
        centre = np.array([part.centre for part in parts], np.float64)
        return cls(
            Solids(
                kind=np.array([part.kind for part in parts], np.int64),
                mode=np.array([part.mode for part in parts], np.int64),
                layer=np.array([LAYER[part.layer] for part in parts], np.int64),
                colour=np.array([part.colour for part in parts], np.float64),
                gloss=np.array([part.gloss for part in parts], np.float64),
                parameter=np.array([part.parameter for part in parts], np.float64),
                size=size,
                matrix=matrix,
                centre=centre,
                inverse=_inverse(matrix, centre),
                class_id=np.array([class_ids[part.class_name or class_name] for part in parts], np.int64),
                instance=np.zeros(len(parts), np.int64),
            ),
            footprint,
        )

    def placed(self, x: float, y: float, heading: float, instance: int = 0, z: float = 0.0) -> Solids:
        """The solids of this assembly at a place in the world."""
        turn = yaw(math.degrees(heading))
        matrix = turn @ self.solids.matrix
        centre = self.solids.centre @ turn.T + (x, y, z)
        return self.solids._replace(
            matrix=matrix,
            centre=centre,
            inverse=_inverse(matrix, centre),
            instance=np.full(len(centre), instance, np.int64),
        )


def _inverse(matrix: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    # The columns are at right angles: the inverse is the transpose over the squared lengths. No solver is needed, and
    # the result is the same on every machine.
    transposed = (matrix / (matrix**2).sum(axis=1, keepdims=True)).transpose(0, 2, 1)
    offset = -(transposed * centre[:, None, :]).sum(axis=2)
    return np.concatenate([transposed, offset[:, :, None]], axis=2).reshape(len(matrix), 12)


def joined(solids: Sequence[Solids]) -> Solids:
    """Several tables as one."""
    return Solids(*(np.ascontiguousarray(np.concatenate(column)) for column in zip(*solids, strict=True)))
