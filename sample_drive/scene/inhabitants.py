"""Objects of known classes: buildings, trees, poles, signs, fences, cars, pedestrians, cyclists."""

from __future__ import annotations

import math

import numpy as np

from sample_drive.ground_truth import CLASS_ID
from sample_drive.ray_casting import BARS, FACADE, GLASS, LEAVES, SIGN
from sample_drive.scene.assembly import Assembly, Part, Vector, ball, box, hull, pitch, ring, rod, yaw
from sample_drive.scene.street import STOREY_M
from sample_drive.scene.textures import LAYER

Generator = np.random.Generator

BRICKS: tuple[Vector, ...] = ((0.42, 0.19, 0.13), (0.50, 0.30, 0.20), (0.36, 0.17, 0.14), (0.56, 0.42, 0.28))
PLASTERS: tuple[Vector, ...] = (
    (0.72, 0.66, 0.54),
    (0.66, 0.50, 0.36),
    (0.62, 0.62, 0.60),
    (0.58, 0.60, 0.50),
    (0.74, 0.72, 0.68),
    (0.55, 0.40, 0.36),
)
PAINTS: tuple[Vector, ...] = (
    (0.55, 0.56, 0.58),
    (0.02, 0.02, 0.025),
    (0.62, 0.62, 0.62),
    (0.40, 0.03, 0.03),
    (0.03, 0.07, 0.24),
    (0.14, 0.15, 0.16),
    (0.06, 0.16, 0.10),
    (0.30, 0.27, 0.22),
    (0.12, 0.25, 0.42),
)
CLOTHES: tuple[Vector, ...] = (
    (0.05, 0.05, 0.07),
    (0.08, 0.11, 0.25),
    (0.45, 0.07, 0.07),
    (0.50, 0.48, 0.44),
    (0.10, 0.22, 0.14),
    (0.42, 0.30, 0.12),
    (0.26, 0.26, 0.28),
    (0.55, 0.36, 0.40),
)
SKINS: tuple[Vector, ...] = ((0.62, 0.40, 0.30), (0.45, 0.27, 0.18), (0.20, 0.11, 0.07), (0.68, 0.47, 0.37))
GREENS: tuple[Vector, ...] = ((0.13, 0.24, 0.05), (0.10, 0.20, 0.05), (0.18, 0.26, 0.05), (0.09, 0.17, 0.06))
HAIRS: tuple[Vector, ...] = ((0.03, 0.02, 0.02), (0.12, 0.07, 0.04), (0.30, 0.20, 0.10), (0.35, 0.35, 0.35))
STEEL: Vector = (0.30, 0.31, 0.32)
DARK: Vector = (0.02, 0.02, 0.022)


def pick(generator: Generator, options: tuple[Vector, ...]) -> Vector:
    """One of the colours, a little lighter or darker."""
    r, g, b = options[int(generator.integers(len(options)))]
    tone = float(generator.uniform(0.85, 1.15))
    return (min(r * tone, 0.9), min(g * tone, 0.9), min(b * tone, 0.9))


def building(generator: Generator, width: float, depth: float) -> Assembly:
    """A house whose front (x = 0) looks to +x; it lies behind it. Whole storeys, bays of about three metres."""
    storeys = int(generator.integers(2, 6))
    height = storeys * STOREY_M
    style = ("sash", "modern", "office", "sash")[int(generator.integers(4))]
    brick = style == "sash" and generator.random() < 0.75
    colour = pick(generator, BRICKS if brick else PLASTERS)
    ground_floor = ("shop", "cafe", style)[int(generator.integers(3))]
    parts = [
        box(
            (-depth / 2, 0, height / 2),
            (depth / 2, width / 2, height / 2),
            colour,
            style,
            mode=FACADE,
            parameter=(float(LAYER[ground_floor]), 0.0),
        )
    ]
    red, green, blue = (0.4 * part + 0.45 for part in colour)
    trim = (red, green, blue)
    parts.append(box((-depth / 2, 0, height + 0.15), (depth / 2 + 0.22, width / 2, 0.16), trim, "plaster"))
    if ground_floor == "shop":
        board = pick(generator, CLOTHES)
        parts.append(box((0.15, 0, STOREY_M * 0.83), (0.16, width / 2 - 0.3, 0.32), board, "metal"))
        if generator.random() < 0.6:
            awning = pick(generator, CLOTHES)
            parts.append(
                box((0.75, 0, STOREY_M * 0.72), (0.85, width / 2 - 0.8, 0.03), awning, "cloth", turn=pitch(22))
            )
    if generator.random() < 0.55:
        roof = pick(generator, ((0.25, 0.13, 0.10), (0.13, 0.13, 0.15), (0.30, 0.20, 0.15)))
        rise = float(generator.uniform(1.0, 1.8))
        parts.append(
            hull("gable", (-depth / 2, 0, height + 0.3 + rise), (depth / 2 + 0.35, width / 2, rise), roof, "roof")
        )
        if generator.random() < 0.7:
            parts.append(box((-depth * 0.6, width * 0.3, height + 2 * rise + 0.5), (0.35, 0.6, 1.0), colour, "brick"))
    if generator.random() < 0.5:  # balconies
        for storey in range(1, storeys):
            level = storey * STOREY_M + 0.15
            parts.append(box((0.5, width * 0.2, level), (0.5, 1.5, 0.09), trim, "plaster"))
            parts.append(box((0.98, width * 0.2, level + 0.55), (0.02, 1.5, 0.45), STEEL, "metal", mode=BARS))
    parts.append(rod((0.1, width / 2 - 0.4, 0), (0.1, width / 2 - 0.4, height), 0.06, (0.18, 0.18, 0.18), "metal"))
    return Assembly.of(parts, CLASS_ID, "building")


def tree(generator: Generator, height: float) -> Assembly:
    """A trunk, two boughs, and a crown of clumps with holes."""
    green = pick(generator, GREENS)
    trunk = height * 0.38
    bark: Vector = (0.16, 0.12, 0.09)
    parts = [rod((0, 0, 0), (0, 0, trunk + 1.0), 0.06 + 0.016 * height, bark, "bark", taper=0.6)]
    for _ in range(2):
        angle = generator.uniform(0, 2 * math.pi)
        tip = (math.cos(angle) * height * 0.17, math.sin(angle) * height * 0.17, trunk + height * 0.25)
        parts.append(rod((0, 0, trunk * 0.85), tip, 0.03 + 0.006 * height, bark, "bark", taper=0.5))
    spread = height * 0.24
    for k in range(9):
        angle = 2.4 * k + generator.uniform(0, 0.8)
        out = spread * (0.25 + 0.75 * math.sqrt((k % 5) / 4)) * (1.0 if k < 6 else 0.5)
        level = trunk + height * (0.12 + 0.42 * k / 8) + generator.uniform(-0.3, 0.3)
        tone = generator.uniform(0.8, 1.25)
        size = height * generator.uniform(0.11, 0.17)
        parts.append(
            ball(
                (math.cos(angle) * out, math.sin(angle) * out, level),
                (size * 1.15, size * 1.1, size),
                (green[0] * tone, green[1] * tone, green[2] * tone),
                "leaves",
                mode=LEAVES,
                turn=yaw(float(generator.uniform(0, 360))),
            )
        )
    return Assembly.of(parts, CLASS_ID, "tree", (0.2, 0.2))


def hedge(generator: Generator, length: float) -> Assembly:
    """A clipped hedge along y."""
    green = pick(generator, GREENS)
    height = float(generator.uniform(0.5, 0.8))
    parts = [
        box(
            (0, 0, height - 0.05),
            (0.30, length / 2 - 0.1, height - 0.05),
            (green[0] * 0.5, green[1] * 0.5, green[2] * 0.5),
            "leaves",
        ),
        box((0, 0, height), (0.42, length / 2, height), green, "leaves", mode=LEAVES),
    ]
    return Assembly.of(parts, CLASS_ID, "tree")


def fence(generator: Generator, length: float) -> Assembly:
    """Iron railings on a low wall, or boards, along y."""
    if generator.random() < 0.6:
        wall = pick(generator, BRICKS)
        parts = [
            box((0, 0, 0.25), (0.14, length / 2, 0.25), wall, "brick"),
            box((0, 0, 0.95), (0.03, length / 2, 0.48), (0.03, 0.035, 0.03), "metal", mode=BARS),
        ]
        parts += [
            box((0, y, 0.8), (0.16, 0.18, 0.8), wall, "brick") for y in np.arange(-length / 2, length / 2 + 0.1, 3.0)
        ]
    else:
        board: Vector = (0.36, 0.26, 0.17)
        parts = [box((0, 0, 0.8), (0.03, length / 2, 0.75), board, "wood", turn=None)]
        parts += [
            box((0.05, y, 0.82), (0.05, 0.05, 0.82), board, "wood") for y in np.arange(-length / 2, length / 2, 2.0)
        ]
    return Assembly.of(parts, CLASS_ID, "fence")


def lamp_post(generator: Generator) -> Assembly:
    """A street lamp whose arm reaches to +x."""
    height = float(generator.uniform(6.0, 8.0))
    parts = [
        rod((0, 0, 0), (0, 0, 1.2), 0.11, STEEL, "metal"),
        rod((0, 0, 1.2), (0, 0, height), 0.07, STEEL, "metal", taper=0.7),
        rod((0, 0, height - 0.05), (1.5, 0, height + 0.25), 0.045, STEEL, "metal"),
        box((1.75, 0, height + 0.25), (0.38, 0.13, 0.07), (0.2, 0.2, 0.2), "metal"),
    ]
    return Assembly.of(parts, CLASS_ID, "pole", (0.12, 0.12))


def bollard() -> Assembly:
    """A bollard at the kerb."""
    parts = [
        rod((0, 0, 0), (0, 0, 0.9), 0.07, (0.05, 0.05, 0.05), "metal"),
        ball((0, 0, 0.92), (0.08, 0.08, 0.06), STEEL),
    ]
    return Assembly.of(parts, CLASS_ID, "pole", (0.08, 0.08))


def traffic_sign(generator: Generator) -> Assembly:
    """A sign on its post, facing -x (towards traffic along +x)."""
    height = float(generator.uniform(2.2, 2.7))
    parts = [rod((0, 0, 0), (0, 0, height + 0.35), 0.035, STEEL, "metal", class_name="pole")]
    pattern = float((0.74, 0.3, 0.0)[int(generator.integers(3))])
    if pattern > 0:
        # Its axis (z) is turned to -x, its y stays up.
        turn = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        parts.append(
            rod(
                (-0.05, 0, height),
                (-0.08, 0, height),
                0.33,
                STEEL,
                "metal",
                mode=SIGN,
                turn=turn,
                parameter=(1.0, pattern),
            )
        )
    else:
        parts.append(box((-0.06, 0, height), (0.02, 0.62, 0.36), STEEL, "metal", mode=SIGN))
    return Assembly.of(parts, CLASS_ID, "sign", (0.06, 0.06))


def car(generator: Generator) -> Assembly:
    """A car or a van, facing +x."""
    paint = pick(generator, PAINTS)
    van = generator.random() < 0.16
    sedan = generator.random() < 0.4
    half_length = float(generator.uniform(2.35, 2.6) if van else generator.uniform(1.95, 2.3))
    half_width = 0.95 if van else float(generator.uniform(0.83, 0.90))
    glass: Vector = (0.02, 0.025, 0.03)
    wheel = 0.33
    parts: list[Part] = []
    if van:
        top = 2.2
        parts.append(
            hull(
                "van_body",
                (0, 0, 0.28 + (top - 0.28) / 2),
                (half_length, half_width, (top - 0.28) / 2),
                paint,
                gloss=0.05,
            )
        )
        parts.append(
            hull(
                "wedge",
                (half_length * 0.62, 0, 1.55),
                (half_length * 0.20, half_width * 0.99, 0.34),
                glass,
                gloss=0.12,
                mode=GLASS,
            )
        )
    else:
        belt = float(generator.uniform(0.86, 0.95))
        roof = belt + float(generator.uniform(0.48, 0.58))
        cabin = "sedan_cabin" if sedan else "hatch_cabin"
        middle = -half_length * (0.12 if sedan else 0.22)
        reach = half_length * (0.62 if sedan else 0.72)
        half_height = (roof - belt) / 2
        parts.append(
            hull("car_body", (0, 0, (0.22 + belt) / 2), (half_length, half_width, (belt - 0.22) / 2), paint, gloss=0.05)
        )
        parts.append(
            hull(
                cabin,
                (middle, 0, belt + half_height),
                (reach, half_width * 0.90, half_height),
                glass,
                gloss=0.14,
                mode=GLASS,
            )
        )
        # Roof and pillars, a little outside the glass.
        parts.append(
            hull(cabin, (middle * 1.02, 0, roof - 0.035), (reach * 0.56, half_width * 0.68, 0.05), paint, gloss=0.05)
        )
        for share in (-0.62, -0.02):
            parts.append(
                hull(
                    "wedge",
                    (middle + share * reach, 0, belt + half_height),
                    (0.05, half_width * 0.905, half_height),
                    paint,
                )
            )
    for x in (-half_length * 0.62, half_length * 0.60):
        for side in (-1.0, 1.0):
            y = side * (half_width - 0.10)
            parts.append(rod((x, y - side * 0.10, wheel), (x, y + side * 0.115, wheel), wheel, DARK, "rubber"))
            parts.append(
                rod((x, y, wheel), (x, y + side * 0.125, wheel), wheel * 0.62, (0.36, 0.37, 0.38), "metal", gloss=0.08)
            )
    end = half_length - 0.02
    for side in (-1.0, 1.0):
        parts.append(box((-end, side * half_width * 0.74, 0.74), (0.05, 0.16, 0.10), (0.45, 0.02, 0.02), gloss=0.08))
        parts.append(
            box((end - 0.08, side * half_width * 0.70, 0.64), (0.06, 0.20, 0.08), (0.72, 0.74, 0.76), gloss=0.15)
        )
        parts.append(box((half_length * 0.30, side * (half_width + 0.09), 0.98), (0.07, 0.09, 0.07), paint))
    parts.append(box((-end - 0.03, 0, 0.52), (0.02, 0.26, 0.06), (0.72, 0.68, 0.25)))
    parts.append(box((end, 0, 0.44), (0.02, 0.26, 0.06), (0.72, 0.72, 0.72)))
    parts.append(box((end - 0.02, 0, 0.60), (0.03, 0.34, 0.07), DARK))
    parts.append(box((0, 0, 0.27), (half_length * 0.95, half_width * 0.98, 0.09), DARK))
    return Assembly.of(parts, CLASS_ID, "car", (half_length, half_width))


def _person(generator: Generator, stride: float, hip: float, lean: float) -> list[Part]:
    """A pedestrian walking along +x with legs `stride` radians apart; hips at `hip` metres."""
    top, trousers = pick(generator, CLOTHES), pick(generator, CLOTHES)
    skin, hair = pick(generator, SKINS), pick(generator, HAIRS)
    shoulder = hip + 0.55
    parts = []
    for side, swing in ((1.0, stride), (-1.0, -stride)):
        knee = (math.sin(swing) * hip * 0.5, side * 0.09, hip - math.cos(swing) * hip * 0.5)
        bend = swing - max(-swing, 0) * 0.9
        reach = (hip * 0.5 - 0.05) / max(math.cos(bend), 0.5)
        foot = (knee[0] + math.sin(bend) * reach, side * 0.09, max(knee[2] - math.cos(bend) * reach, 0.05))
        parts.append(rod((0, side * 0.09, hip + 0.03), knee, 0.085, trousers, "cloth", taper=0.75))
        parts.append(rod(knee, foot, 0.064, trousers, "cloth", taper=0.75))
        parts.append(ball((foot[0] + 0.06, side * 0.09, foot[2]), (0.13, 0.05, 0.05), DARK))
        hand = (lean - math.sin(swing) * 0.5, side * 0.24, shoulder - math.cos(swing) * 0.52)
        parts.append(rod((lean, side * 0.19, shoulder), hand, 0.055, top, "cloth", taper=0.7))
        parts.append(ball(hand, (0.05, 0.04, 0.06), skin))
    parts.append(ball((lean / 2, 0, (hip + shoulder) / 2 + 0.02), (0.14, 0.20, 0.36), top, "cloth"))
    parts.append(ball((lean, 0, shoulder), (0.11, 0.22, 0.10), top, "cloth"))
    parts.append(rod((lean, 0, shoulder), (lean, 0, shoulder + 0.16), 0.05, skin))
    parts.append(ball((lean + 0.02, 0, shoulder + 0.26), (0.105, 0.085, 0.13), skin))
    parts.append(ball((lean - 0.01, 0, shoulder + 0.30), (0.112, 0.095, 0.11), hair, "fur"))
    return parts


WALK_PHASES = 8


def pedestrian(seed: list[int]) -> list[Assembly]:
    """The phases of a pedestrian's walk along +x."""
    phases = []
    for k in range(WALK_PHASES):
        # The same looks in every phase.
        generator = np.random.default_rng(seed)
        hip = float(generator.uniform(0.80, 0.92))
        stride = 0.42 * math.sin(2 * math.pi * k / WALK_PHASES)
        parts = _person(generator, stride, hip, 0.02)
        if generator.random() < 0.4:
            parts.append(box((-0.17, 0, hip + 0.36), (0.09, 0.15, 0.2), pick(generator, CLOTHES), "cloth"))
        phases.append(Assembly.of(parts, CLASS_ID, "pedestrian", (0.22, 0.22)))
    return phases


def cyclist(seed: list[int]) -> list[Assembly]:
    """The phases of a cyclist riding along +x."""
    phases = []
    for k in range(WALK_PHASES):
        generator = np.random.default_rng(seed)
        frame = pick(generator, CLOTHES)
        pedal = 2 * math.pi * k / WALK_PHASES
        top, trousers, skin = pick(generator, CLOTHES), pick(generator, CLOTHES), pick(generator, SKINS)
        parts = [ring((x, 0, 0.34), (0.0, 1.0, 0.0), 0.34, 0.30, 0.025, DARK, "rubber") for x in (-0.52, 0.55)]
        tubes = [
            ((-0.52, 0, 0.34), (-0.15, 0, 0.88)),
            ((-0.05, 0, 0.30), (-0.18, 0, 0.92)),
            ((-0.15, 0, 0.84), (0.42, 0, 0.84)),
            ((-0.05, 0, 0.30), (0.42, 0, 0.82)),
            ((0.55, 0, 0.34), (0.40, 0, 0.98)),
            ((-0.52, 0, 0.34), (-0.05, 0, 0.30)),
            ((0.40, -0.28, 1.0), (0.40, 0.28, 1.0)),
        ]
        parts += [rod(start, end, 0.022, frame, "metal") for start, end in tubes]
        for side, angle in ((1.0, pedal), (-1.0, pedal + math.pi)):
            foot = (-0.05 + 0.17 * math.cos(angle), side * 0.12, 0.33 + 0.17 * math.sin(angle))
            hip = (-0.18, side * 0.10, 0.98)
            knee = ((hip[0] + foot[0]) / 2 + 0.24, side * 0.12, (hip[2] + foot[2]) / 2 + 0.06)
            parts.append(rod(hip, knee, 0.085, trousers, "cloth", taper=0.75))
            parts.append(rod(knee, foot, 0.062, trousers, "cloth", taper=0.7))
            parts.append(ball((foot[0] + 0.05, foot[1], foot[2]), (0.12, 0.05, 0.04), DARK))
            parts.append(rod((0.10, side * 0.19, 1.44), (0.40, side * 0.24, 1.03), 0.05, top, "cloth", taper=0.7))
        parts.append(ball((-0.05, 0, 1.22), (0.17, 0.18, 0.34), top, "cloth", turn=pitch(28)))
        parts.append(ball((0.15, 0, 1.66), (0.11, 0.085, 0.13), skin))
        parts.append(ball((0.13, 0, 1.72), (0.14, 0.11, 0.10), pick(generator, CLOTHES), gloss=0.04))
        phases.append(Assembly.of(parts, CLASS_ID, "bicyclist", (0.7, 0.15)))
    return phases
