"""Casts rays against solids: compiled kernels for the first hit of a ray, and for whether a point is in the sun.

A solid is a unit shape under an affine map, so one table of 3 x 4 matrices describes every thing in the scene. Rays are
not of unit length: their component along the camera's axis is 1, so that the ray parameter `t` is the depth.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

compiled = njit(cache=True, nogil=True, error_model="numpy")
"""Options of the kernels: cached on disk, without Python's lock and without checks for division by zero. No fast-math,
so that results do not depend on the order of operations that a compiler chooses."""

BOX, ELLIPSOID, FRUSTUM, TUBE, HULL = range(5)
"""Unit shapes inside [-1, 1]^3. FRUSTUM: along z, radius 1 below and `parameter[0]` (0..1) above. TUBE: along z, outer
radius 1, inner radius `parameter[0]`. HULL: the half-spaces `planes[parameter[0] : parameter[0] + parameter[1]]`."""

PLAIN, FACADE, LEAVES, BARS, GLASS, SIGN, LAMP = range(7)
"""How a surface is shaded. LEAVES and BARS have holes that rays go through."""

TILE_PX = 16
NEAR_M = 0.1
FAR = 1e30

TEXTURE_SIDE = 256
LEVELS = 9
LEVEL_OFFSETS = np.cumsum([0] + [(TEXTURE_SIDE >> level) ** 2 for level in range(LEVELS)])


class Solids(NamedTuple):
    """N solids in world coordinates, metres.

    Attributes:
        kind, mode, layer: (N,) int64: unit shape, shading, texture layer.
        colour: (N, 3) float64, linear albedo 0..1.
        gloss: (N,) float64, reflectance of the sky at normal incidence.
        parameter: (N, 2) float64, of the shape or of the shading.
        size: (N, 3) float64, half extents.
        matrix: (N, 3, 3) float64: unit shape to world, without the translation `centre` (N, 3).
        inverse: (N, 12) float64: world to unit shape, a 3 x 4 matrix row by row.
        class_id: (N,) int64; 255 for an object of no class.
        instance: (N,) int64; 0 for all that is no single object.
    """

    kind: NDArray[np.int64]
    mode: NDArray[np.int64]
    layer: NDArray[np.int64]
    colour: NDArray[np.float64]
    gloss: NDArray[np.float64]
    parameter: NDArray[np.float64]
    size: NDArray[np.float64]
    matrix: NDArray[np.float64]
    centre: NDArray[np.float64]
    inverse: NDArray[np.float64]
    class_id: NDArray[np.int64]
    instance: NDArray[np.int64]


KIND, MODE, PARAMETER, LAYER_OF, SIZE = 12, 13, 14, 16, 17
COLUMNS = 20


def packed(solids: Solids) -> NDArray[np.float64]:
    """What the kernels of this module read of each solid, one row each: (N, `COLUMNS`).

    The inverse (12 columns), then at `KIND`, `MODE`, `PARAMETER` (2), `LAYER_OF`, `SIZE` (3). One array rather than the
    many of `Solids`: kernels are handed every array by value at every call.
    """
    columns = (solids.inverse, solids.kind, solids.mode, solids.parameter, solids.layer, solids.size)
    count = len(solids.kind)
    return np.concatenate([column.reshape(count, -1).astype(np.float64) for column in columns], axis=1)


class Cells(NamedTuple):
    """Which solids each cell of a grid may hold: those of cell c are `members[starts[c] : starts[c + 1]]`."""

    starts: NDArray[np.int64]
    members: NDArray[np.int64]


@compiled
def sample(textures, layer, u, v, level):  # type: ignore[no-untyped-def]
    """Trilinear: textures (L, texels, 4) uint8, u and v in tiles -> r, g, b, a in 0..1."""
    level = min(max(level, 0.0), LEVELS - 1.001)
    first = int(level)
    share = level - first
    r = g = b = a = 0.0
    for step in range(2):
        weight = (1.0 - share) if step == 0 else share
        if weight < 0.02:
            continue
        side = TEXTURE_SIDE >> (first + step)
        x = (u - math.floor(u)) * side - 0.5
        y = (v - math.floor(v)) * side - 0.5
        x0 = math.floor(x)
        y0 = math.floor(y)
        fx = x - x0
        fy = y - y0
        for k in range(4):
            column = (int(x0) + (k & 1)) & (side - 1)
            row = (int(y0) + (k >> 1)) & (side - 1)
            w = weight * (fx if k & 1 else 1.0 - fx) * (fy if k >> 1 else 1.0 - fy) * (1.0 / 255.0)
            index = LEVEL_OFFSETS[first + step] + row * side + column
            r += w * textures[layer, index, 0]
            g += w * textures[layer, index, 1]
            b += w * textures[layer, index, 2]
            a += w * textures[layer, index, 3]
    return r, g, b, a


@compiled
def sample_grey(textures, layer, u, v, level):  # type: ignore[no-untyped-def]
    """Bilinear in the nearest level, red alone: for layers without colour."""
    nearest = int(min(max(level, 0.0), LEVELS - 1.0) + 0.5)
    side = TEXTURE_SIDE >> nearest
    x = (u - math.floor(u)) * side - 0.5
    y = (v - math.floor(v)) * side - 0.5
    x0 = math.floor(x)
    y0 = math.floor(y)
    fx = x - x0
    fy = y - y0
    left = int(x0) & (side - 1)
    right = (left + 1) & (side - 1)
    row = int(y0) & (side - 1)
    low = LEVEL_OFFSETS[nearest] + row * side
    high = LEVEL_OFFSETS[nearest] + ((row + 1) & (side - 1)) * side
    first = textures[layer, low + left, 0] * (1.0 - fx) + textures[layer, low + right, 0] * fx
    second = textures[layer, high + left, 0] * (1.0 - fx) + textures[layer, high + right, 0] * fx
    return (first * (1.0 - fy) + second * fy) * (1.0 / 255.0)


@compiled
def sample_alpha(textures, layer, u, v, level):  # type: ignore[no-untyped-def]
    """The nearest texel's alpha."""
    nearest = int(min(max(level, 0.0), LEVELS - 1.0) + 0.5)
    side = TEXTURE_SIDE >> nearest
    column = int((u - math.floor(u)) * side) & (side - 1)
    row = int((v - math.floor(v)) * side) & (side - 1)
    return textures[layer, LEVEL_OFFSETS[nearest] + row * side + column, 3] * (1.0 / 255.0)


@compiled
def hit(i, far, ox, oy, oz, dx, dy, dz, table, planes):  # type: ignore[no-untyped-def]
    """Where a ray enters (`far`: leaves) solid i: t, then point and outward normal in the unit shape; t < 0: no hit."""
    px = table[i, 0] * ox + table[i, 1] * oy + table[i, 2] * oz + table[i, 3]
    py = table[i, 4] * ox + table[i, 5] * oy + table[i, 6] * oz + table[i, 7]
    pz = table[i, 8] * ox + table[i, 9] * oy + table[i, 10] * oz + table[i, 11]
    qx = table[i, 0] * dx + table[i, 1] * dy + table[i, 2] * dz
    qy = table[i, 4] * dx + table[i, 5] * dy + table[i, 6] * dz
    qz = table[i, 8] * dx + table[i, 9] * dy + table[i, 10] * dz
    kind = int(table[i, KIND])
    t = -1.0
    nx = ny = nz = 0.0
    if kind == ELLIPSOID:
        a = qx * qx + qy * qy + qz * qz
        b = px * qx + py * qy + pz * qz
        c = px * px + py * py + pz * pz - 1.0
        root = b * b - a * c
        if root >= 0.0:
            t = (-b + math.sqrt(root)) / a if far else (-b - math.sqrt(root)) / a
            nx, ny, nz = px + t * qx, py + t * qy, pz + t * qz
    elif kind == BOX:
        enter, leave, axis = -FAR, FAR, 0
        for k in range(3):
            p = px if k == 0 else (py if k == 1 else pz)
            q = qx if k == 0 else (qy if k == 1 else qz)
            if q == 0.0:
                if abs(p) > 1.0:
                    leave = -FAR
            else:
                inv = 1.0 / q
                t0 = (-1.0 - p) * inv
                t1 = (1.0 - p) * inv
                if t0 > t1:
                    t0, t1 = t1, t0
                if t0 > enter:
                    enter, axis = t0, k
                if t1 < leave:
                    leave = t1
        if enter <= leave:
            t = enter
            if axis == 0:
                nx = -1.0 if qx > 0 else 1.0
            elif axis == 1:
                ny = -1.0 if qy > 0 else 1.0
            else:
                nz = -1.0 if qz > 0 else 1.0
    elif kind == HULL:
        enter, leave, first = -FAR, FAR, -1
        begin = int(table[i, PARAMETER])
        for k in range(begin, begin + int(table[i, PARAMETER + 1])):
            against = planes[k, 0] * qx + planes[k, 1] * qy + planes[k, 2] * qz
            beyond = planes[k, 0] * px + planes[k, 1] * py + planes[k, 2] * pz - planes[k, 3]
            if against == 0.0:
                if beyond > 0.0:
                    leave = -FAR
            else:
                s = -beyond / against
                if against < 0.0:
                    if s > enter:
                        enter, first = s, k
                elif s < leave:
                    leave = s
        if enter <= leave and first >= 0:
            t = enter
            nx, ny, nz = planes[first, 0], planes[first, 1], planes[first, 2]
    else:
        best = FAR
        taper = table[i, PARAMETER] if kind == FRUSTUM else 1.0
        inner = table[i, PARAMETER] if kind == TUBE else 0.0
        # Radius along z: r0 + r1 z.
        for wall in range(2 if kind == TUBE else 1):
            r0 = inner if wall == 1 else (1.0 + taper) * 0.5
            r1 = 0.0 if wall == 1 else (taper - 1.0) * 0.5
            rp = r0 + r1 * pz
            rq = r1 * qz
            a = qx * qx + qy * qy - rq * rq
            b = px * qx + py * qy - rp * rq
            c = px * px + py * py - rp * rp
            root = b * b - a * c
            if root > 0.0 and a != 0.0:
                root = math.sqrt(root)
                for sign in (-1.0, 1.0):
                    s = (-b + sign * root) / a
                    z = pz + s * qz
                    if s > 0.0 and s < best and abs(z) <= 1.0 and rp + s * rq >= 0.0:
                        x, y = px + s * qx, py + s * qy
                        outward = x * qx + y * qy - (rp + s * rq) * rq
                        # The outer wall is seen from outside, the inner one from inside.
                        if (outward < 0.0) == (wall == 0):
                            best = s
                            flip = 1.0 if wall == 0 else -1.0
                            nx, ny, nz = flip * x, flip * y, -flip * r1 * (rp + s * rq)
        if qz != 0.0:
            cap = -1.0 if qz > 0.0 else 1.0
            s = (cap - pz) / qz
            x, y = px + s * qx, py + s * qy
            radius = taper if cap > 0 else 1.0
            square = x * x + y * y
            if 0.0 < s < best and inner * inner <= square <= radius * radius:
                best = s
                nx, ny, nz = 0.0, 0.0, cap
        if best < FAR:
            t = best
    return t, px + t * qx, py + t * qy, pz + t * qz, nx, ny, nz


@compiled
def dominant_plane(i, hx, hy, hz, nx, ny, nz, table):  # type: ignore[no-untyped-def]
    """Texture coordinates in metres on the side of the unit shape that the normal points to most, and that axis."""
    sx, sy, sz = table[i, SIZE], table[i, SIZE + 1], table[i, SIZE + 2]
    ax, ay, az = abs(nx / sx), abs(ny / sy), abs(nz / sz)
    if ax >= ay and ax >= az:
        return hy * sy, hz * sz, 0
    if ay >= az:
        return hx * sx, hz * sz, 1
    return hx * sx, hy * sy, 2


@compiled
def is_hole(i, hx, hy, hz, nx, ny, nz, facing, level, table, textures):  # type: ignore[no-untyped-def]
    """Whether a ray goes through the surface there; `facing` is |cosine| of ray and normal, `level` of the texture."""
    u, v, axis = dominant_plane(i, hx, hy, hz, nx, ny, nz, table)
    if int(table[i, MODE]) == BARS:
        if axis == 2:
            return False
        rail = abs(hz) > 0.72 and abs(hz) < 0.9
        return not rail and (u * 6.0 - math.floor(u * 6.0)) > 0.34
    alpha = sample_alpha(textures, int(table[i, LAYER_OF]), u * 0.7 + 0.37 * i, v * 0.7 + 0.61 * i, level)
    return alpha < 0.62 - 0.34 * facing


@compiled
def surface(i, ox, oy, oz, dx, dy, dz, pixel, table, planes, textures):  # type: ignore[no-untyped-def]
    """As `hit`, with holes. `pixel`: angle of a pixel, radians, which gives the level of the texture."""
    t, hx, hy, hz, nx, ny, nz = hit(i, False, ox, oy, oz, dx, dy, dz, table, planes)
    mode = int(table[i, MODE])
    if t < 0.0 or (mode != LEAVES and mode != BARS):
        return t, hx, hy, hz, nx, ny, nz
    for attempt in range(2):
        if attempt == 1:
            if int(table[i, KIND]) != ELLIPSOID:
                return -1.0, hx, hy, hz, nx, ny, nz
            t, hx, hy, hz, nx, ny, nz = hit(i, True, ox, oy, oz, dx, dy, dz, table, planes)
            if t < 0.0:
                return t, hx, hy, hz, nx, ny, nz
            qx = table[i, 0] * dx + table[i, 1] * dy + table[i, 2] * dz
        qy = table[i, 4] * dx + table[i, 5] * dy + table[i, 6] * dz
        qz = table[i, 8] * dx + table[i, 9] * dy + table[i, 10] * dz
        lengths = (nx * nx + ny * ny + nz * nz) * (qx * qx + qy * qy + qz * qz)
        facing = abs(nx * qx + ny * qy + nz * qz) / math.sqrt(lengths + 1e-12)
        level = math.log2(max(t * pixel * TEXTURE_SIDE * 0.7, 1.0))
        if not is_hole(i, hx, hy, hz, nx, ny, nz, facing, level, table, textures):
            return t, hx, hy, hz, nx, ny, nz
    return -1.0, hx, hy, hz, nx, ny, nz


@compiled
def in_sun(x, y, z, light, grid, cells, shadows, table, planes, textures):  # type: ignore[no-untyped-def]
    """Whether no solid is between a point and the sun.

    Args:
        light: (3, 3), rows: two axes across the light, and the direction to the sun.
        grid: (5,) first a, first b, cell size (metres), cells along a, cells along b.
        shadows: of the solids, from `shadow_bounds`.
    """
    a = light[0, 0] * x + light[0, 1] * y + light[0, 2] * z
    b = light[1, 0] * x + light[1, 1] * y + light[1, 2] * z
    towards = light[2, 0] * x + light[2, 1] * y + light[2, 2] * z
    column = int(math.floor((a - grid[0]) / grid[2]))
    row = int(math.floor((b - grid[1]) / grid[2]))
    if column < 0 or row < 0 or column >= grid[3] or row >= grid[4]:
        return True
    cell = column * int(grid[4]) + row
    for k in range(cells.starts[cell], cells.starts[cell + 1]):
        i = cells.members[k]
        if a < shadows[i, 0] or a > shadows[i, 1] or b < shadows[i, 2] or b > shadows[i, 3] or towards > shadows[i, 4]:
            continue
        t, _, _, _, _, _, _ = surface(i, x, y, z, light[2, 0], light[2, 1], light[2, 2], 0.0, table, planes, textures)
        if t > 1e-4:
            return False
    return True


@compiled
def tangent_bounds(solids, rotation, position):  # type: ignore[no-untyped-def]
    """Bounds of each solid in the image: (N, 5) least and largest x / z, y / z, and least depth.

    rotation: (3, 3) camera's optical frame to world; position: (3,). A depth of -1: behind the camera.
    """
    count = len(solids.kind)
    bounds = np.empty((count, 5))
    corner = np.empty((8, 3))
    for i in range(count):
        for k in range(8):
            x, y, z = (1.0 if k & 1 else -1.0), (1.0 if k & 2 else -1.0), (1.0 if k & 4 else -1.0)
            m = solids.matrix[i]
            wx = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + solids.centre[i, 0] - position[0]
            wy = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + solids.centre[i, 1] - position[1]
            wz = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + solids.centre[i, 2] - position[2]
            for axis in range(3):
                corner[k, axis] = rotation[0, axis] * wx + rotation[1, axis] * wy + rotation[2, axis] * wz
        x0 = y0 = nearest = FAR
        x1 = y1 = -FAR
        for k in range(8):
            for axis in range(3):
                other = k ^ (1 << axis)
                if other < k:
                    continue
                za, zb = corner[k, 2], corner[other, 2]
                if za < NEAR_M and zb < NEAR_M:
                    continue
                # The part of the edge in front of the camera.
                begin = (NEAR_M - za) / (zb - za) if za < NEAR_M else 0.0
                end = (NEAR_M - za) / (zb - za) if zb < NEAR_M else 1.0
                for share in (begin, end):
                    zc = max(za + share * (zb - za), NEAR_M)
                    xc = (corner[k, 0] + share * (corner[other, 0] - corner[k, 0])) / zc
                    yc = (corner[k, 1] + share * (corner[other, 1] - corner[k, 1])) / zc
                    x0, x1, y0, y1 = min(x0, xc), max(x1, xc), min(y0, yc), max(y1, yc)
                    nearest = min(nearest, zc)
        bounds[i, 0], bounds[i, 1], bounds[i, 2], bounds[i, 3] = x0, x1, y0, y1
        bounds[i, 4] = nearest if nearest < FAR else -1.0
    return bounds


@compiled
def bin_by_tile(order, bounds, tiles):  # type: ignore[no-untyped-def]
    """Solids by image tile, in the given order (the nearest first). tiles: (T, 4) as the first four of `bounds`."""
    count = len(tiles)
    starts = np.zeros(count + 1, np.int64)
    members = np.empty(0, np.int64)
    for fill in range(2):
        cursor = starts[:-1].copy()
        for i in order:
            if bounds[i, 4] < 0.0:
                continue
            for tile in range(count):
                if (
                    bounds[i, 0] <= tiles[tile, 1]
                    and bounds[i, 1] >= tiles[tile, 0]
                    and bounds[i, 2] <= tiles[tile, 3]
                    and bounds[i, 3] >= tiles[tile, 2]
                ):
                    if fill:
                        members[cursor[tile]] = i
                        cursor[tile] += 1
                    else:
                        starts[tile + 1] += 1
        if not fill:
            starts = np.cumsum(starts)
            members = np.empty(starts[-1], np.int64)
    return Cells(starts, members)


@compiled
def shadow_bounds(solids, light):  # type: ignore[no-untyped-def]
    """Bounds of each solid's shadow: (N, 5) least and largest coordinate along the two axes across the light, and the
    largest towards the sun, metres."""
    count = len(solids.kind)
    bounds = np.empty((count, 5))
    for i in range(count):
        for axis in range(3):
            centre = extent = 0.0
            for k in range(3):
                centre += light[axis, k] * solids.centre[i, k]
                reach = 0.0
                for j in range(3):
                    reach += light[axis, j] * solids.matrix[i, j, k]
                extent += abs(reach)
            if axis < 2:
                bounds[i, 2 * axis] = centre - extent
                bounds[i, 2 * axis + 1] = centre + extent
            else:
                bounds[i, 4] = centre + extent
    return bounds


@compiled
def bin_by_light(shadows, grid):  # type: ignore[no-untyped-def]
    """Solids by cell of the grid across the light, for `in_sun`; shadows: from `shadow_bounds`."""
    across, along = int(grid[3]), int(grid[4])
    count = len(shadows)
    ranges = np.empty((count, 4), np.int64)
    starts = np.zeros(across * along + 1, np.int64)
    for i in range(count):
        for axis in range(2):
            cells = across if axis == 0 else along
            low = int(math.floor((shadows[i, 2 * axis] - grid[axis]) / grid[2]))
            high = int(math.floor((shadows[i, 2 * axis + 1] - grid[axis]) / grid[2]))
            ranges[i, 2 * axis] = max(low, 0)
            ranges[i, 2 * axis + 1] = min(high, cells - 1)
        for a in range(ranges[i, 0], ranges[i, 1] + 1):
            for b in range(ranges[i, 2], ranges[i, 3] + 1):
                starts[a * along + b + 1] += 1
    starts = np.cumsum(starts)
    members = np.empty(starts[-1], np.int64)
    cursor = starts[:-1].copy()
    for i in range(count):
        for a in range(ranges[i, 0], ranges[i, 1] + 1):
            for b in range(ranges[i, 2], ranges[i, 3] + 1):
                members[cursor[a * along + b]] = i
                cursor[a * along + b] += 1
    return Cells(starts, members)
