"""The light of a ray: compiled kernels for ground, solids and sky, in linear light."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sample_drive.ground_truth import CLASS_ID
from sample_drive.ray_casting import (
    BARS,
    FACADE,
    GLASS,
    LAMP,
    LEAVES,
    SIGN,
    TEXTURE_SIDE,
    compiled,
    dominant_plane,
    in_sun,
    sample,
    sample_grey,
)
from sample_drive.scene.street import (
    HALF_ROAD_M,
    LANE_M,
    PAVEMENT_M,
    STOREY_M,
    distance_to_road,
    street_coordinates,
)
from sample_drive.scene.textures import LAYER

ROAD, PAVEMENT, TREE = CLASS_ID["road"], CLASS_ID["pavement"], CLASS_ID["tree"]
ASPHALT, PAVING, GRASS, CLOUDS = LAYER["asphalt"], LAYER["paving"], LAYER["grass"], LAYER["clouds"]
BAY_M = 3.0
PARKING_LINE_M = LANE_M
ZEBRA_HALF_M = 1.6


class Lighting(NamedTuple):
    """The light of a day.

    Attributes:
        light: (3, 3), rows: two axes across the light, and the direction to the sun.
        sun, ambient: (3,) linear light of the sun, and of the sky from above.
        zenith, horizon: (3,) linear colour of the sky.
        cover: 0 blue sky, 1 overcast.
        haze_per_m: share of the light that the air takes.
    """

    light: NDArray[np.float64]
    sun: NDArray[np.float64]
    ambient: NDArray[np.float64]
    zenith: NDArray[np.float64]
    horizon: NDArray[np.float64]
    cover: float
    haze_per_m: float


@compiled
def fraction(integer):  # type: ignore[no-untyped-def]
    """A pseudo-random number in [0, 1), the same for the same integer."""
    bits = np.uint64(integer) * np.uint64(0x9E3779B97F4A7C15)
    bits ^= bits >> np.uint64(29)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(32)
    return float(bits & np.uint64(0xFFFFFF)) / 16777216.0


@compiled
def clamp(value):  # type: ignore[no-untyped-def]
    return min(max(value, 0.0), 1.0)


@compiled
def stripe(distance, half_width, footprint):  # type: ignore[no-untyped-def]
    """Share of a footprint that a stripe covers."""
    width = max(footprint, 1e-4)
    covered = min(distance + width * 0.5, half_width) - max(distance - width * 0.5, -half_width)
    return clamp(covered / width)


@compiled
def sky(dx, dy, dz, lighting, textures):  # type: ignore[no-untyped-def]
    """Colour of the sky in a unit direction."""
    up = max(dz, 0.0)
    share = math.sqrt(min(up * 1.6, 1.0))
    r = lighting.horizon[0] + (lighting.zenith[0] - lighting.horizon[0]) * share
    g = lighting.horizon[1] + (lighting.zenith[1] - lighting.horizon[1]) * share
    b = lighting.horizon[2] + (lighting.zenith[2] - lighting.horizon[2]) * share
    if dz > 0.0:
        scale = 0.22 / (dz + 0.12)
        level = math.log2(max(0.35 / (dz + 0.03), 1.0))
        cloud = sample_grey(textures, CLOUDS, dx * scale + 0.2, dy * scale + 0.7, level)
        share = clamp((cloud - 0.62 + 0.35 * lighting.cover) * 3.2) * (1.0 - 0.55 * lighting.cover)
        share *= clamp(dz * 9.0)
        r += share * (0.95 - r)
        g += share * (0.95 - g)
        b += share * (0.97 - b)
    towards = dx * lighting.light[2, 0] + dy * lighting.light[2, 1] + dz * lighting.light[2, 2]
    if towards > 0.0:
        glow = towards**8 * 0.25 + towards**256 * 3.0
        glow *= 1.0 - lighting.cover
        r, g, b = r + glow, g + glow * 0.95, b + glow * 0.8
    return r, g, b


@compiled
def ground_surface(x, y, distance, slant, pixel, ground, textures):  # type: ignore[no-untyped-def]
    """Class id and albedo of the ground at x, y; `slant`: cosine of the ray to the vertical."""
    s, d = street_coordinates(x, y, ground)
    edge, side = distance_to_road(s, d, ground)
    across = distance * pixel
    along = across / max(slant, 0.02)
    footprint = math.sqrt(across * along)
    if edge < 0.0:
        level = math.log2(max(footprint * TEXTURE_SIDE / 1.5, 1.0))
        grain = sample_grey(textures, ASPHALT, x / 1.5, y / 1.5, level)
        coarse = sample_grey(textures, CLOUDS, s / 37.0, d / 19.0, 0.0)
        patch = sample_grey(textures, ASPHALT, x / 61.0 + 0.3, y / 61.0, 2.0)
        value = grain * 0.165 * (0.65 + 0.45 * coarse + 0.25 * patch)
        # Wheels polish their tracks, engines drip between them.
        track = abs(abs(abs(d) - LANE_M * 0.5) - 0.78)
        value *= 1.0 + 0.10 * math.exp(-track * track * 9.0)
        middle = abs(abs(d) - LANE_M * 0.5)
        value *= 1.0 - 0.13 * math.exp(-middle * middle * 12.0) * coarse * 1.6
        # Trenches that were filled again, darker and with a seam.
        cell = math.floor(s / 23.0)
        if fraction(int(cell) * 7 + 3) < 0.55:
            begin = cell * 23.0 + 4.0 + 9.0 * fraction(int(cell) * 7 + 4)
            length = 2.0 + 7.0 * fraction(int(cell) * 7 + 5)
            left = -HALF_ROAD_M + 8.5 * fraction(int(cell) * 7 + 6)
            inside_s = stripe(s - begin - length * 0.5, length * 0.5, along)
            inside_d = stripe(d - left - 0.7, 0.7, across)
            seam_s = stripe(s - begin - length * 0.5, length * 0.5 + 0.05, along)
            seam_d = stripe(d - left - 0.7, 0.75, across)
            value *= 1.0 - 0.22 * inside_s * inside_d - 0.25 * (seam_s * seam_d - inside_s * inside_d)
        cell = math.floor(s / 31.0)
        hole_s = s - (cell * 31.0 + 5.0 + 20.0 * fraction(int(cell) * 5 + 1))
        hole_d = d + LANE_M * 0.5 - (LANE_M if fraction(int(cell) * 5 + 2) > 0.5 else 0.0)
        away = math.sqrt(hole_s * hole_s + hole_d * hole_d)
        if away < 0.6:
            rim = stripe(away - 0.33, 0.03, footprint)
            value *= 1.0 - 0.45 * stripe(away, 0.36, footprint) + 0.35 * rim
        # The gutter is darker.
        value *= 1.0 - 0.25 * stripe(edge, 0.35, across)
        paint = 0.0
        if side > 2.5:
            if abs(d) < 0.2:
                period = 6.0
                at = s - math.floor(s / period) * period - 1.5
                paint = stripe(d, 0.065, across) * stripe(at, 1.5, along)
            elif abs(abs(d) - PARKING_LINE_M) < 0.2 and side > 6.0:
                at = s - math.floor(s / 1.6) * 1.6 - 0.5
                paint = stripe(abs(d) - PARKING_LINE_M, 0.05, across) * stripe(at, 0.5, along)
            elif abs(edge + 0.32) < 0.2:
                paint = 0.75 * stripe(edge + 0.32, 0.05, across)
        for k in range(len(ground.crossings)):
            at = s - ground.crossings[k]
            if abs(at) < ZEBRA_HALF_M + 0.5 + along:
                bars = d - math.floor(d) - 0.5
                paint = stripe(at, ZEBRA_HALF_M, along) * stripe(bars, 0.25, across)
            stop = at + ZEBRA_HALF_M + 1.2
            if abs(stop) < 0.4 + along and d < 0.0 and d > -LANE_M:
                paint = max(paint, stripe(stop, 0.15, along))
        worn = paint * clamp(0.55 + 0.9 * grain * patch + 0.25 * coarse)
        value += worn * (0.62 - value)
        return ROAD, value, value * 0.99, value * 1.01
    if edge < PAVEMENT_M:
        if edge < 0.16:
            grain = sample_grey(textures, ASPHALT, x, y, math.log2(max(footprint * TEXTURE_SIDE, 1.0)))
            joint = stripe(s - math.floor(s) - 0.5, 0.012, along)
            value = 0.52 * (0.7 + 0.3 * grain) * (1.0 - 0.4 * joint)
            # The face of the kerb.
            value *= 1.0 - 0.35 * stripe(edge - 0.02, 0.03, across)
            return PAVEMENT, value, value, value * 0.98
        level = math.log2(max(footprint * TEXTURE_SIDE / 2.4, 1.0))
        slab = sample_grey(textures, PAVING, s / 2.4, d / 2.4, level)
        dirt = sample_grey(textures, CLOUDS, s / 13.0, d / 7.0, 1.0)
        value = slab * 0.46 * (0.75 + 0.5 * dirt)
        return PAVEMENT, value, value * 0.97, value * 0.92
    level = math.log2(max(footprint * TEXTURE_SIDE / 3.0, 1.0))
    r, g, b, _ = sample(textures, GRASS, x / 3.0, y / 3.0, level)
    dry = sample_grey(textures, CLOUDS, x / 23.0, y / 23.0, 1.0)
    return TREE, r * (0.09 + 0.11 * dry), g * 0.19, b * 0.07


@compiled
def occlusion(x, y, footprints):  # type: ignore[no-untyped-def]
    """Share of the sky that is visible from the ground at x, y: footprints (F, 6) x, y, cosine, sine, half length, half
    width."""
    open_sky = 1.0
    for k in range(len(footprints)):
        dx = x - footprints[k, 0]
        dy = y - footprints[k, 1]
        reach = footprints[k, 4] + 1.2
        if abs(dx) > reach or abs(dy) > reach:
            continue
        u = max(abs(dx * footprints[k, 2] + dy * footprints[k, 3]) - footprints[k, 4], -0.4)
        v = max(abs(-dx * footprints[k, 3] + dy * footprints[k, 2]) - footprints[k, 5], -0.4)
        outside = math.sqrt(max(u, 0.0) ** 2 + max(v, 0.0) ** 2) + min(max(u, v), 0.0)
        open_sky = min(open_sky, 0.30 + 0.70 * clamp((outside + 0.25) / 0.75))
    return open_sky


@compiled
def _sign(u, v, radius):  # type: ignore[no-untyped-def]
    """Albedo of a traffic sign's face, u and v in half sizes; the pattern is told by `radius` (of the ring)."""
    away = math.sqrt(u * u + v * v)
    if radius > 0.5:  # a ring: a prohibition
        if away > radius:
            return 0.55, 0.02, 0.03
        if abs(v) < 0.42 and (0.08 < abs(u) < 0.5):
            return 0.03, 0.03, 0.03
        return 0.8, 0.8, 0.8
    if radius > 0.2:  # blue with an arrow
        if (abs(u) < 0.12 and abs(v) < 0.55) or (v > 0.1 and abs(abs(u) + v - 0.62) < 0.14):
            return 0.8, 0.8, 0.8
        return 0.03, 0.10, 0.45
    if max(abs(u), abs(v)) > 0.86:
        return 0.7, 0.7, 0.7
    if (abs(v - 0.3) < 0.12 and abs(u) < 0.7) or (abs(v + 0.25) < 0.12 and abs(u) < 0.5):
        return 0.8, 0.8, 0.8
    return 0.02, 0.22, 0.10


@compiled
def shade(  # type: ignore[no-untyped-def]
    i, t, hx, hy, hz, nx, ny, nz, ox, oy, oz, dx, dy, dz, pixel, scene, lighting, footprints
):
    """Light along a ray of unit direction from distance t.

    i: a solid with its hit in the unit shape; -1 the ground; -2 the sky.

    Returns:
        r, g, b linear; class id of the ground (-1 elsewhere); 1 in the sun, else 0.
    """
    solids, table, cells, shadows, grid, ground, textures, planes = scene
    if i == -2:
        r, g, b = sky(dx, dy, dz, lighting, textures)
        return r, g, b, -1, 1
    x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
    light = lighting.light
    gloss = 0.0
    ground_class = -1
    ambient_share = 1.0
    if i == -1:
        wx, wy, wz = 0.0, 0.0, 1.0
        ground_class, r, g, b = ground_surface(x, y, t, -dz, pixel, ground, textures)
        ambient_share = occlusion(x, y, footprints)
    else:
        wx = table[i, 0] * nx + table[i, 4] * ny + table[i, 8] * nz
        wy = table[i, 1] * nx + table[i, 5] * ny + table[i, 9] * nz
        wz = table[i, 2] * nx + table[i, 6] * ny + table[i, 10] * nz
        length = math.sqrt(wx * wx + wy * wy + wz * wz)
        wx, wy, wz = wx / length, wy / length, wz / length
        facing = -(wx * dx + wy * dy + wz * dz)
        if facing < 0.0:  # the far side of leaves
            wx, wy, wz, facing = -wx, -wy, -wz, -facing
        r, g, b = solids.colour[i, 0], solids.colour[i, 1], solids.colour[i, 2]
        gloss = solids.gloss[i]
        mode = solids.mode[i]
        size = solids.size[i]
        u, v, axis = dominant_plane(i, hx, hy, hz, nx, ny, nz, table)
        footprint = t * pixel / math.sqrt(max(facing, 0.05))
        if mode == FACADE and axis != 2:
            half_width = size[1] if axis == 0 else size[0]
            bays = max(math.floor(half_width * 2.0 / BAY_M + 0.5), 1.0)
            bay = (u / half_width * 0.5 + 0.5) * bays
            storey = (v + size[2]) / STOREY_M
            layer = int(solids.parameter[i, 0]) if storey < 1.0 else solids.layer[i]
            level = math.log2(max(footprint * TEXTURE_SIDE / BAY_M, 1.0))
            tr, tg, tb, alpha = sample(textures, layer, bay, storey, level)
            glass = clamp(1.0 - 2.0 * alpha)
            tint = clamp(2.0 * alpha - 1.0)
            number = int(math.floor(bay)) * 131 + int(math.floor(storey)) * 7919 + i * 104729 + axis
            room = fraction(number)
            behind = 0.02 + 0.05 * room
            if room > 0.55:  # curtains or a blind, down to somewhere
                down = 0.35 + 0.5 * fraction(number + 17)
                if storey - math.floor(storey) > down:
                    behind = 0.30 + 0.25 * fraction(number + 5)
            r = tr * ((r - 1.0) * tint + 1.0) * (1.0 - glass) + glass * behind
            g = tg * ((g - 1.0) * tint + 1.0) * (1.0 - glass) + glass * behind * 0.97
            b = tb * ((b - 1.0) * tint + 1.0) * (1.0 - glass) + glass * behind * 0.9
            gloss = 0.10 * glass
            # Rain splashes the foot of a wall, and the street hides some sky from it.
            foot = clamp(z / 1.2)
            r, g, b = r * (0.72 + 0.28 * foot), g * (0.72 + 0.28 * foot), b * (0.72 + 0.28 * foot)
            ambient_share = 0.55 + 0.45 * clamp(z / 12.0)
        elif mode == SIGN:
            if abs(nz) > 0.9 or axis == 0:
                if axis == 0:
                    r, g, b = _sign(hy, hz, solids.parameter[i, 1])
                else:
                    r, g, b = _sign(-hx, hy, solids.parameter[i, 1])
            else:
                r, g, b = 0.3, 0.3, 0.3
        elif mode == LAMP:
            return r, g, b, -1, 1
        else:
            layer = solids.layer[i]
            level = math.log2(max(footprint * TEXTURE_SIDE, 1.0))
            tr, tg, tb, _ = sample(textures, layer, u + 0.31 * i, v + 0.17 * i, level)
            r, g, b = r * tr, g * tg, b * tb
            if mode == LEAVES:
                # Leaves inside a crown see less sky.
                inner = 0.45 + 0.55 * clamp(0.5 + 0.5 * wz)
                r, g, b = r * inner, g * inner, b * inner
            if z < 0.6 and mode != BARS:
                ambient_share = 0.45 + 0.55 * clamp(z / 0.6)
    slope = wx * light[2, 0] + wy * light[2, 1] + wz * light[2, 2]
    translucent = i >= 0 and solids.mode[i] == LEAVES
    if translucent:
        slope = 0.35 + 0.65 * max(slope, 0.0)
    lit = 0
    sun = 0.0
    if slope > 0.0 and lighting.sun[1] > 0.0:
        lift = 0.004 if i == -1 else 0.012
        if translucent:
            lift = 0.25
        lit = (
            1
            if in_sun(x + wx * lift, y + wy * lift, z + wz * lift, light, grid, cells, shadows, table, planes, textures)
            else 0
        )
        sun = slope * lit
        if translucent:
            sun = slope * (0.25 + 0.75 * lit)
    # The sky from above, and what the ground gives back from below.
    above = (0.5 + 0.5 * wz) * ambient_share
    below = (0.5 - 0.5 * wz) * 0.30 * ambient_share
    r *= lighting.sun[0] * sun + lighting.ambient[0] * (above + below)
    g *= lighting.sun[1] * sun + lighting.ambient[1] * (above + below * 0.95)
    b *= lighting.sun[2] * sun + lighting.ambient[2] * (above + below * 0.85)
    if gloss > 0.0:
        facing = clamp(-(wx * dx + wy * dy + wz * dz))
        rx, ry, rz = dx + 2.0 * facing * wx, dy + 2.0 * facing * wy, dz + 2.0 * facing * wz
        share = gloss + (1.0 - gloss) * (1.0 - facing) ** 5 * 0.8
        sr, sg, sb = sky(rx, ry, max(rz, 0.0), lighting, textures)
        # Streets reflect houses up to some height.
        house = clamp((rz - 0.12) * 4.0) * 0.8 + 0.2
        r += share * (sr * house - r)
        g += share * (sg * house - g)
        b += share * (sb * house - b)
    if i >= 0 and solids.mode[i] == GLASS:
        r, g, b = r * 0.9, g * 0.95, b
    clear = math.exp(-t * lighting.haze_per_m)
    r = r * clear + lighting.horizon[0] * (1.0 - clear)
    g = g * clear + lighting.horizon[1] * (1.0 - clear)
    b = b * clear + lighting.horizon[2] * (1.0 - clear)
    return r, g, b, ground_class, lit
