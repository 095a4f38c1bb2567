"""Procedural textures: tiles of 256 x 256 with their mip levels. Nothing is read from a file.

Red, green and blue are multiplied with a solid's colour where alpha is 1. In the layers of façades alpha says what a
texel is: 1 wall (tinted), 0.5 frame or trim (as it is), 0 glass (reflects the sky).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sample_drive.ray_casting import LEVELS, TEXTURE_SIDE

Tile = NDArray[np.float64]

N = TEXTURE_SIDE
LAYERS = (
    "asphalt",
    "paving",
    "grass",
    "brick",
    "plaster",
    "leaves",
    "bark",
    "cloth",
    "wood",
    "fur",
    "roof",
    "sash",
    "modern",
    "office",
    "shop",
    "cafe",
    "clouds",
    "rubber",
    "metal",
    "stone",
)
LAYER = {name: index for index, name in enumerate(LAYERS)}


def make_textures() -> NDArray[np.uint8]:
    """Every layer with its mip levels one after the other: (layers, texels, 4) uint8. The same at every call."""
    generator = np.random.default_rng(20_240_607)
    layers = []
    for name in LAYERS:
        tile = _MAKERS[name](generator)
        levels = []
        for _ in range(LEVELS):
            levels.append(tile.reshape(-1, 4))
            if len(tile) > 1:
                tile = (tile[::2, ::2] + tile[1::2, ::2] + tile[::2, 1::2] + tile[1::2, 1::2]) / 4
        layers.append(np.concatenate(levels))
    return np.ascontiguousarray(np.rint(np.clip(np.stack(layers), 0, 1) * 255).astype(np.uint8))


def noise(generator: np.random.Generator, falloff: float, stretch: tuple[float, float] = (1, 1)) -> Tile:
    """A tile (N, N) that repeats, mean 0, standard deviation 1, with amplitudes that fall as frequency^-falloff."""
    v = np.fft.fftfreq(N)[:, None] * N * stretch[0]
    u = np.fft.fftfreq(N)[None] * N * stretch[1]
    amplitude = np.maximum(np.hypot(u, v), 1.0) ** -falloff
    amplitude[0, 0] = 0
    spectrum = np.fft.fft2(generator.standard_normal((N, N))) * amplitude
    tile = np.fft.ifft2(spectrum).real
    return tile / tile.std()


def _grey(value: Tile, alpha: Tile | float = 1.0) -> Tile:
    return np.stack([value, value, value, np.broadcast_to(alpha, value.shape)], axis=2)


def _tinted(value: Tile, colour: tuple[float, float, float], alpha: Tile | float = 1.0) -> Tile:
    return np.stack([*(value * part for part in colour), np.broadcast_to(alpha, value.shape)], axis=2)


def _asphalt(generator: np.random.Generator) -> Tile:
    grain = noise(generator, 0.3)
    value = 0.66 + 0.09 * grain + 0.05 * noise(generator, 1.6)
    value += np.where(generator.random((N, N)) > 0.985, 0.25, 0)
    return _grey(value)


def _slabs(generator: np.random.Generator, rows: int, columns: int, joint: int, shift: bool) -> tuple[Tile, Tile]:
    """Brightness of each slab, and 1 in the joints."""
    height, width = N // rows, N // columns
    y, x = np.mgrid[:N, :N]
    row = y // height
    x = (x + (row % 2) * (width // 2) * shift) % N
    tone = generator.standard_normal((rows, columns))[row, x // width]
    joints = ((y % height) < joint) | ((x % width) < joint)
    return tone, joints.astype(np.float64)


def _paving(generator: np.random.Generator) -> Tile:
    tone, joints = _slabs(generator, 4, 4, 3, True)
    return _grey(0.74 + 0.05 * tone + 0.04 * noise(generator, 0.6) + 0.03 * noise(generator, 1.5) - 0.28 * joints)


def _grass(generator: np.random.Generator) -> Tile:
    value = 0.62 + 0.14 * noise(generator, 0.5, (0.5, 1)) + 0.09 * noise(generator, 1.4)
    return np.stack([value * 0.95, value * 1.05, value * 0.7, np.ones_like(value)], axis=2)


def _brick(generator: np.random.Generator) -> Tile:
    tone, joints = _slabs(generator, 32, 8, 1, True)
    value = 0.72 + 0.10 * tone + 0.05 * noise(generator, 0.4) + 0.05 * noise(generator, 1.6)
    return _grey(value * (1 - joints) + 0.82 * joints)


def _plaster(generator: np.random.Generator) -> Tile:
    streaks = noise(generator, 1.3, (0.25, 1))
    return _grey(0.82 + 0.025 * noise(generator, 0.5) + 0.035 * noise(generator, 1.8) + 0.025 * streaks)


def _leaves(generator: np.random.Generator) -> Tile:
    clumps = noise(generator, 1.1)
    fine = noise(generator, 0.6)
    alpha = 0.5 + 0.16 * clumps + 0.10 * fine
    value = 0.60 + 0.16 * clumps + 0.13 * fine
    return np.stack([value * 0.96, value, value * 0.8, alpha], axis=2)


def _bark(generator: np.random.Generator) -> Tile:
    return _grey(0.62 + 0.16 * noise(generator, 0.9, (0.25, 1)) + 0.05 * noise(generator, 0.3))


def _cloth(generator: np.random.Generator) -> Tile:
    y, x = np.mgrid[:N, :N]
    weave = 0.03 * (((x // 2 + y // 2) % 2) * 2 - 1)
    return _grey(0.78 + weave + 0.06 * noise(generator, 1.5))


def _wood(generator: np.random.Generator) -> Tile:
    tone, joints = _slabs(generator, 4, 1, 6, False)
    joints = ((np.arange(N)[:, None] % (N // 4)) < 6) * np.ones((1, N))
    grain = noise(generator, 1.0, (1, 0.12))
    value = 0.72 + 0.07 * tone + 0.09 * grain - 0.5 * joints
    return _tinted(value, (1.0, 0.95, 0.88))


def _fur(generator: np.random.Generator) -> Tile:
    return _grey(0.68 + 0.12 * noise(generator, 0.8, (0.35, 1)) + 0.16 * noise(generator, 2.0))


def _roof(generator: np.random.Generator) -> Tile:
    tone, joints = _slabs(generator, 16, 16, 2, True)
    return _grey(0.66 + 0.08 * tone + 0.05 * noise(generator, 1.2) - 0.25 * joints)


def _wall(generator: np.random.Generator, kind: str) -> Tile:
    return _brick(generator) if kind == "brick" else _plaster(generator)


def _rectangle(tile: Tile, x0: float, x1: float, y0: float, y1: float, value: float, alpha: float) -> None:
    """Paint part of a façade, in shares of the tile; y from the floor up."""
    tile[int(y0 * N) : int(y1 * N), int(x0 * N) : int(x1 * N)] = (value, value, value, alpha)


def _window(tile: Tile, x0: float, x1: float, y0: float, y1: float, bars: tuple[int, int], frame: float) -> None:
    """A window with a reveal, a sill, a frame and glazing bars (columns, rows)."""
    _rectangle(tile, x0 - 0.02, x1 + 0.02, y0 - 0.01, y1 + 0.035, 0.30, 1.0)  # shadow under the lintel
    _rectangle(tile, x0 - 0.05, x1 + 0.05, y0 - 0.05, y0, 0.88, 1.0)  # sill
    _rectangle(tile, x0, x1, y0, y1, frame, 0.5)
    columns, rows = bars
    for column in range(columns):
        for row in range(rows):
            left = x0 + (x1 - x0) * column / columns + 0.014
            low = y0 + (y1 - y0) * row / rows + 0.014
            right = x0 + (x1 - x0) * (column + 1) / columns - 0.014
            high = y0 + (y1 - y0) * (row + 1) / rows - 0.014
            _rectangle(tile, left, right, low, high, 0.5, 0.0)


def _sash(generator: np.random.Generator) -> Tile:
    tile = _wall(generator, "brick")
    _rectangle(tile, 0.24, 0.76, 0.79, 0.87, 0.86, 1.0)  # lintel
    _window(tile, 0.30, 0.70, 0.28, 0.80, (2, 2), 0.85)
    return tile


def _modern(generator: np.random.Generator) -> Tile:
    tile = _wall(generator, "plaster")
    _rectangle(tile, 0.0, 1.0, 0.0, 0.05, 0.62, 1.0)  # edge of the floor slab
    _window(tile, 0.16, 0.84, 0.26, 0.84, (2, 1), 0.30)
    return tile


def _office(generator: np.random.Generator) -> Tile:
    tile = _wall(generator, "plaster")
    _rectangle(tile, 0.0, 1.0, 0.30, 0.95, 0.35, 0.5)
    for column in range(2):
        _rectangle(tile, column / 2 + 0.02, column / 2 + 0.48, 0.33, 0.92, 0.5, 0.0)
    return tile


def _shop(generator: np.random.Generator) -> Tile:
    tile = _wall(generator, "plaster")
    tile[..., :3] *= 0.8
    _rectangle(tile, 0.0, 1.0, 0.72, 0.92, 0.95, 1.0)  # fascia, in the house's colour
    _rectangle(tile, 0.20, 0.80, 0.78, 0.86, 0.92, 0.5)  # its lettering, from far away
    for letter in range(9):
        _rectangle(tile, 0.215 + letter * 0.065, 0.235 + letter * 0.065, 0.78, 0.86, 0.25, 0.5)
    _rectangle(tile, 0.04, 0.96, 0.08, 0.70, 0.22, 0.5)
    _rectangle(tile, 0.07, 0.60, 0.14, 0.66, 0.5, 0.0)
    _rectangle(tile, 0.66, 0.92, 0.02, 0.66, 0.12, 0.5)
    _rectangle(tile, 0.69, 0.89, 0.20, 0.62, 0.5, 0.0)
    return tile


def _cafe(generator: np.random.Generator) -> Tile:
    tile = _wall(generator, "brick")
    _rectangle(tile, 0.08, 0.36, 0.0, 0.74, 0.80, 1.0)
    _rectangle(tile, 0.11, 0.33, 0.0, 0.70, 0.16, 0.5)  # door
    _rectangle(tile, 0.14, 0.30, 0.46, 0.66, 0.5, 0.0)
    _window(tile, 0.50, 0.92, 0.26, 0.72, (3, 1), 0.9)
    return tile


def _clouds(generator: np.random.Generator) -> Tile:
    return _grey(0.5 + 0.17 * noise(generator, 1.7) + 0.02 * noise(generator, 0.8))


def _rubber(generator: np.random.Generator) -> Tile:
    y, x = np.mgrid[:N, :N]
    grooves = ((x + (y % 64) // 2) % 32 < 7) | (y % 64 < 6)
    return _grey(0.75 - 0.4 * grooves + 0.05 * noise(generator, 0.6))


def _metal(generator: np.random.Generator) -> Tile:
    rust = np.clip(noise(generator, 1.5) - 0.9, 0, 1)
    value = 0.76 + 0.04 * noise(generator, 0.8, (1, 0.15))
    return np.stack([value - 0.1 * rust, value - 0.35 * rust, value - 0.5 * rust, np.ones_like(value)], axis=2)


def _stone(generator: np.random.Generator) -> Tile:
    return _grey(0.66 + 0.12 * noise(generator, 1.1) + 0.07 * noise(generator, 0.4))


_MAKERS: dict[str, Callable[[np.random.Generator], Tile]] = {
    "asphalt": _asphalt,
    "paving": _paving,
    "grass": _grass,
    "brick": _brick,
    "plaster": _plaster,
    "leaves": _leaves,
    "bark": _bark,
    "cloth": _cloth,
    "wood": _wood,
    "fur": _fur,
    "roof": _roof,
    "sash": _sash,
    "modern": _modern,
    "office": _office,
    "shop": _shop,
    "cafe": _cafe,
    "clouds": _clouds,
    "rubber": _rubber,
    "metal": _metal,
    "stone": _stone,
}
