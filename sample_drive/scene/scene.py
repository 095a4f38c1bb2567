"""Places static and moving objects along the street by a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sample_drive.ray_casting import Solids
from sample_drive.scene.assembly import Assembly, joined
from sample_drive.scene.inhabitants import (
    bollard,
    building,
    car,
    cyclist,
    fence,
    hedge,
    lamp_post,
    pedestrian,
    traffic_sign,
    tree,
)
from sample_drive.scene.street import HALF_ROAD_M, LANE_M, PAVEMENT_M, Street
from sample_drive.scene.unknown_objects import KINDS, UnknownObject

BEYOND_M = 170.0  # length of the street beyond the end of the drive
EGO_ACROSS_M = -LANE_M / 2
FIRST_UNKNOWN_M = 32.0
WALL_M = HALF_ROAD_M + PAVEMENT_M


@dataclass(frozen=True)
class Mover:
    """An object that moves evenly along the street.

    Attributes:
        phases: of its walk, or one.
        along, across: at time 0, metres.
        along_mps, across_mps: metres a second.
        step_m: distance of one walk through the phases.
        turn: of its x axis against its direction of motion, radians; or against the street where it stands.
        instance: id of an unknown object, else 0.
        unknown: the unknown object, or None.
        stops_after_s: seconds after which it stands still.
    """

    phases: tuple[Assembly, ...]
    along: float
    across: float
    along_mps: float = 0.0
    across_mps: float = 0.0
    step_m: float = 1.4
    turn: float = 0.0
    instance: int = 0
    unknown: UnknownObject | None = None
    starts_after_s: float = 0.0
    stops_after_s: float = math.inf

    def at(self, time_s: float) -> tuple[float, float, int]:
        """Along and across, metres, and the phase, at a time."""
        moved_s = min(max(time_s - self.starts_after_s, 0.0), self.stops_after_s)
        distance = moved_s * math.hypot(self.along_mps, self.across_mps)
        phase = int(distance / self.step_m * len(self.phases)) % len(self.phases)
        return self.along + moved_s * self.along_mps, self.across + moved_s * self.across_mps, phase

    def pose(self, street: Street, time_s: float) -> tuple[float, float, float, int]:
        """x, y, heading in the world, and the phase, at a time."""
        along, across, phase = self.at(time_s)
        x, y = street.place(along, across)
        direction = math.atan2(self.across_mps, self.along_mps) if self.along_mps or self.across_mps else 0.0
        return float(x), float(y), float(street.heading_at(along)) + direction + self.turn, phase


@dataclass(frozen=True)
class Scene:
    """A street and everything on it.

    Attributes:
        street: its course.
        still: solids that never move.
        still_footprints: (F, 6) as `shading.occlusion` takes them.
        movers: everything else; unknown objects that lie still are among them.
        swerves: (U, 2) where along the street, and how far to the left, the vehicle gives way to an unknown object.
    """

    street: Street
    still: Solids
    still_footprints: NDArray[np.float64]
    movers: tuple[Mover, ...]
    swerves: NDArray[np.float64]


@dataclass(frozen=True)
class Crowd:
    """How many ride and walk on a street, in times the usual number.

    Frames to train on need more of the classes that are rare and small on streets.
    """

    cyclists: float = 1.0
    pedestrians: float = 1.0


USUAL_CROWD = Crowd()


def ego_across(along: float, swerves: NDArray[np.float64]) -> float:
    """Position of the vehicle across the street: its lane, with a swerve around objects in it."""
    offset = 0.0
    for at, aside in swerves.tolist():
        away = abs(along - at)
        if away < 22.0:
            offset = max(offset, aside * 0.5 * (1 + math.cos(math.pi * max(away - 5.0, 0.0) / 17.0)))
    return EGO_ACROSS_M + offset


def make_scene(
    seed: int,
    driven_m: float,
    duration_s: float,
    unknown_objects: bool,
    crowd: Crowd = USUAL_CROWD,
    always_swerves: bool = False,
) -> Scene:
    """The scene of a seed. The streets of one seed with and without unknown objects are the same.

    Args:
        driven_m: how far along the vehicle gets.
        duration_s: of the drive.
        unknown_objects: whether there are any.
        crowd: how many ride and walk.
        always_swerves: without unknown objects the vehicle swerves as it does with them.
    """
    street = Street.winding(driven_m + BEYOND_M, np.random.default_rng([seed, 0]))
    still = _Placed(street)
    _house_rows(street, still, np.random.default_rng([seed, 1]))
    _street_furniture(street, still, np.random.default_rng([seed, 2]))
    _parked_cars(street, still, np.random.default_rng([seed, 3]))
    movers = _traffic(street, seed, driven_m / duration_s, duration_s, crowd)
    swerves = np.zeros((0, 2))
    if unknown_objects or always_swerves:
        unknown, swerves = _unknown(np.random.default_rng([seed, 5]), driven_m, duration_s)
        movers += unknown if unknown_objects else []
    return Scene(street, joined(still.solids), np.array(still.footprints).reshape(-1, 6), tuple(movers), swerves)


class _Placed:
    """Collects static objects."""

    def __init__(self, street: Street) -> None:
        self.street = street
        self.solids: list[Solids] = []
        self.footprints: list[Sequence[float]] = []

    def add(self, assembly: Assembly, along: float, across: float, turn: float = 0.0) -> None:
        """Place along and across the street; `turn`: of its x axis against the street."""
        x, y = self.street.place(along, across)
        heading = float(self.street.heading_at(along)) + turn
        self.solids.append(assembly.placed(float(x), float(y), heading))
        if assembly.footprint != (0.0, 0.0):
            self.footprints.append(footprint_row(assembly, float(x), float(y), heading))


def footprint_row(assembly: Assembly, x: float, y: float, heading: float) -> tuple[float, ...]:
    """One row of the footprints that `shading.occlusion` takes."""
    return (x, y, math.cos(heading), math.sin(heading), *assembly.footprint)


def _house_rows(street: Street, still: _Placed, generator: np.random.Generator) -> None:
    for side in (1, -1):
        facing = -side * math.pi / 2  # the front looks to the street
        along = -12.0
        while along < street.length_m - 12:
            width = float(generator.integers(3, 8)) * 3.0
            middle = along + width / 2
            if street.near_junction(middle, side, width / 2 + PAVEMENT_M + 0.5):
                _corner_trees(street, still, generator, along, side)
                along += 3.0
                continue
            kind = generator.random()
            if kind < 0.74:
                set_back = float(generator.choice([0.0, 0.0, 0.0, 2.5]))
                still.add(
                    building(generator, width - 0.05, float(generator.uniform(8, 12))),
                    middle,
                    side * (WALL_M + set_back),
                    facing,
                )
                if set_back:
                    make = hedge if generator.random() < 0.5 else fence
                    still.add(make(generator, width - 0.4), middle, side * (WALL_M + 0.2), facing)
                along += width + (float(generator.uniform(0.5, 4)) if generator.random() < 0.25 else 0.0)
            else:  # a garden or a small park
                make = fence if generator.random() < 0.6 else hedge
                still.add(make(generator, width - 0.3), middle, side * (WALL_M + 0.3), facing)
                for _ in range(int(width / 3.2)):
                    at = along + float(generator.uniform(1, width - 1))
                    still.add(
                        tree(generator, float(generator.uniform(6, 11))),
                        at,
                        side * (WALL_M + float(generator.uniform(3, 12))),
                    )
                along += width
    # Houses and trees at the far end close the view; the vehicle never gets there.
    for across in np.arange(-34.0, 35.0, 17.0):
        still.add(building(generator, 16.5, 10), street.length_m - 2, float(across), math.pi)
    # Down the side streets.
    for at, _half_width, left, right in street.junctions.tolist():
        for side, opens in ((1, left), (-1, right)):
            if opens:
                for offset in (-8.0, 0.0, 8.0):
                    still.add(
                        tree(generator, float(generator.uniform(8, 12))),
                        at + offset,
                        side * (46 + float(generator.uniform(0, 4))),
                    )
                still.add(building(generator, 30, 10), at, side * 56.0, facing if side < 0 else -math.pi / 2)
                for edge in (-1, 1):
                    for step in range(2):
                        away = WALL_M + 9.0 + 14.0 * step
                        place = at + edge * (_half_width + PAVEMENT_M + 5.0)
                        still.add(building(generator, 13.5, 9), place, side * (away + 6), 0.0 if edge < 0 else math.pi)


def _corner_trees(street: Street, still: _Placed, generator: np.random.Generator, along: float, side: int) -> None:
    if not street.near_junction(along, side, PAVEMENT_M + 1.5) and generator.random() < 0.5:
        still.add(hedge(generator, 2.8), along + 1.5, side * (WALL_M + 0.3), -side * math.pi / 2)


def _street_furniture(street: Street, still: _Placed, generator: np.random.Generator) -> None:
    for side in (1, -1):
        along = float(generator.uniform(-6, 6))
        while along < street.length_m - 15:
            kerb = side * (HALF_ROAD_M + 0.55)
            # A lamp's arm reaches over the road; a sign looks to those who come along its side.
            over_road, towards = -side * math.pi / 2, 0.0 if side < 0 else math.pi
            if not street.near_junction(along, side, 3.0):
                what = generator.random()
                if what < 0.34:
                    still.add(tree(generator, float(generator.uniform(5.5, 9))), along, side * (HALF_ROAD_M + 0.9))
                elif what < 0.62:
                    still.add(lamp_post(generator), along, kerb, over_road)
                elif what < 0.86:
                    still.add(traffic_sign(generator), along, kerb, towards)
                else:
                    for step in range(4):
                        still.add(bollard(), along + 1.5 * step, kerb)
            along += float(generator.uniform(7, 13))
    for at in street.crossings.tolist():
        for side in (1, -1):
            still.add(
                traffic_sign(generator), at - side * 2.2, side * (HALF_ROAD_M + 0.4), 0.0 if side < 0 else math.pi
            )


def _parked_cars(street: Street, still: _Placed, generator: np.random.Generator) -> None:
    for side in (1, -1):
        along = float(generator.uniform(-4, 8))
        while along < street.length_m - 20:
            clear = not street.near_junction(along, side, 9.0)
            clear &= bool((np.abs(street.crossings - along) > 7.5).all())
            if clear and generator.random() < 0.62:
                turn = float(generator.normal(0, 0.02)) + (0.0 if (side < 0) == (generator.random() < 0.9) else math.pi)
                still.add(car(generator), along, side * (HALF_ROAD_M - 1.12 + float(generator.normal(0, 0.06))), turn)
            along += float(generator.uniform(5.9, 7.4))


def _traffic(street: Street, seed: int, ego_mps: float, duration_s: float, crowd: Crowd) -> list[Mover]:
    generator = np.random.default_rng([seed, 4])
    movers = []
    # Oncoming cars meet the vehicle one after the other.
    meeting_s = float(generator.uniform(2, 4))
    while meeting_s < duration_s + 8:
        speed = float(generator.uniform(7, 11))
        movers.append(Mover((car(generator),), meeting_s * (ego_mps + speed), LANE_M / 2 + 0.25, -speed))
        meeting_s += float(generator.uniform(3.5, 8))
    # Cyclists ride between lane and parked cars on the other side, pedestrians walk on the pavements.
    for k in range(int(street.length_m * crowd.cyclists / 70)):
        speed = float(generator.uniform(3, 5))
        start = float(generator.uniform(0.1, 1.0)) * (street.length_m + speed * duration_s)
        movers.append(Mover(tuple(cyclist([seed, 40, k])), start, LANE_M - 0.25, -speed, step_m=3.5))
    for k in range(int(street.length_m * crowd.pedestrians / 6.5)):
        side = 1 if generator.random() < 0.5 else -1
        speed = float(generator.uniform(0.9, 1.6)) * (1 if generator.random() < 0.5 else -1)
        across = side * (HALF_ROAD_M + float(generator.uniform(0.9, 2.5)))
        start = float(generator.uniform(4, street.length_m)) - speed * duration_s / 2
        movers.append(Mover(tuple(pedestrian([seed, 41, k])), start, across, speed))
    # Some cross on a zebra, in front of the vehicle but not under it.
    for k, at in enumerate(street.crossings.tolist()):
        passes_s = at / ego_mps
        side = 1 if generator.random() < 0.6 else -1
        for n in range(int(generator.integers(1, 3))):
            speed = float(generator.uniform(1.2, 1.6))
            movers.append(
                Mover(
                    tuple(pedestrian([seed, 42, 10 * k + n])),
                    at + float(generator.uniform(-1, 1)),
                    side * (HALF_ROAD_M + 1.5),
                    0.0,
                    -side * speed,
                    starts_after_s=max(passes_s - 11.5 - 0.8 * n, 0.0),
                    stops_after_s=(2 * HALF_ROAD_M + 3.0) / speed,
                )
            )
    return movers


def _unknown(
    generator: np.random.Generator, driven_m: float, duration_s: float
) -> tuple[list[Mover], NDArray[np.float64]]:
    movers: list[Mover] = []
    swerves = []
    kinds: list[str] = []
    along = FIRST_UNKNOWN_M + float(generator.uniform(0, 8))
    while along < driven_m + 12:
        if not kinds:
            kinds = [str(name) for name in generator.permutation(list(KINDS))]
        thing = KINDS[kinds.pop()](generator)
        instance = len(movers) + 1
        where = generator.random()
        across = float(generator.uniform(-2.7, -2.2) if where < 0.6 else generator.uniform(-0.5, 0.3))
        if thing.walks:
            speed = float(generator.uniform(0.5, 1.0))
            passes_s = along / driven_m * duration_s
            ahead = float(generator.uniform(-0.6, 0.6))
            # It walks from the pavement into the lane and along it, and stays right of the vehicle's way.
            movers.append(
                Mover(
                    thing.phases,
                    along - ahead * 4,
                    -4.2,
                    ahead,
                    speed * 0.45,
                    0.9,
                    0.0,
                    instance,
                    thing,
                    starts_after_s=max(passes_s - 7.0, 0.0),
                    stops_after_s=1.5 / (speed * 0.45),
                )
            )
            swerves.append((along, 1.55))
        else:
            turn = float(generator.uniform(-0.5, 0.5)) + (math.pi / 2 if generator.random() < 0.3 else 0.0) + math.pi
            if where >= 0.6:
                across = (
                    float(generator.uniform(-4.6, -4.0))
                    if generator.random() < 0.5
                    else float(generator.uniform(-2.9, -2.4))
                )
            movers.append(Mover(thing.phases, along, across, turn=turn, instance=instance, unknown=thing))
            reach = float(np.hypot(*np.abs(np.array(thing.footprints[0])).max(axis=0)))
            needed = across + reach + 1.0 + 0.25 - EGO_ACROSS_M
            if needed > 0:
                swerves.append((along, min(needed, 1.75)))
        along += float(generator.uniform(17, 30))
    return movers, np.array(swerves).reshape(-1, 2)
