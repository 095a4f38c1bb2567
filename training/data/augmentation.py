"""Random crops of labelled frames. Every random choice comes from the generator that is passed in."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.label_set import IGNORE

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class AugmentationConfig:
    """Ranges of the random changes to a crop.

    Attributes:
        crop: height and width of a training crop, pixels; multiples of 32.
        scale: range of the factor on the frame's size, drawn uniformly in its logarithm.
        flip: probability of a left-right flip.
        brightness, contrast, saturation: largest relative change, uniform in [1 - x, 1 + x].
        hue: largest shift of the hue, as a fraction of the colour circle.
        gamma: largest factor of the exponent, log-uniform in [1/x, x].
        blur: probability of a slight Gaussian blur.
        noise: largest standard deviation of Gaussian noise, grey levels, added to every second crop.
        class_mix: probability that half the classes of another crop are pasted into this one.
    """

    crop: tuple[int, int] = (256, 256)
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gamma: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    class_mix: float = 0.0

    def __post_init__(self) -> None:
        if any(side < 32 or side % 32 for side in self.crop):
            raise ValueError(f"crop is {self.crop}; height and width must be positive multiples of 32")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {self.scale}; it must be (smallest, largest) with 0 < smallest <= largest")
        for name in ("flip", "blur", "class_mix"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a probability, 0 to 1")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1)")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue is {self.hue}; it must be in [0, 0.5]")
        if self.gamma < 1 or self.noise < 0:
            raise ValueError(f"gamma is {self.gamma} (must be >= 1), noise is {self.noise} (must be >= 0)")


def random_crop(
    image: Image, labels: Image, config: AugmentationConfig, generator: np.random.Generator
) -> tuple[Image, Image]:
    """Scale, crop, flip and colour.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8.

    Returns:
        image (h, w, 3) uint8 and labels (h, w) uint8, with (h, w) = `config.crop`. If the scaled frame is smaller than
        the crop, the rest has the frame's mean colour and the label 255.
    """
    image, labels = _scaled_crop(image, labels, config, generator)
    if generator.random() < config.flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return recoloured(np.ascontiguousarray(image), config, generator), np.ascontiguousarray(labels)


def class_mixed(
    image: Image, labels: Image, other: Image, other_labels: Image, generator: np.random.Generator
) -> tuple[Image, Image]:
    """Paste the pixels of a random half of the other crop's classes (ClassMix, Olsson et al., arXiv 2007.07936).

    So objects appear in front of new backgrounds, and rare objects appear more often.

    Args:
        image, other: (h, w, 3) uint8, one size.
        labels, other_labels: (h, w) uint8; pixels of the other crop labelled 255 are never pasted.

    Returns:
        image (h, w, 3) uint8 and labels (h, w) uint8.
    """
    classes = np.unique(other_labels[other_labels != IGNORE])
    chosen = generator.permutation(classes)[: (len(classes) + 1) // 2]
    pasted = np.isin(other_labels, chosen)
    return np.where(pasted[..., None], other, image), np.where(pasted, other_labels, labels)


def _scaled_crop(
    image: Image, labels: Image, config: AugmentationConfig, generator: np.random.Generator
) -> tuple[Image, Image]:
    height, width = config.crop
    scale = float(np.exp(generator.uniform(*np.log(config.scale))))
    # The window of the frame that becomes the crop. At a small scale it is larger than the frame.
    window_height, window_width = (max(round(side / scale), 1) for side in (height, width))
    top = int(generator.integers(0, max(image.shape[0] - window_height, 0) + 1))
    left = int(generator.integers(0, max(image.shape[1] - window_width, 0) + 1))
    part = image[top : top + window_height, left : left + window_width]
    part_labels = labels[top : top + window_height, left : left + window_width]
    inner_height = min(round(part.shape[0] * scale), height)
    inner_width = min(round(part.shape[1] * scale), width)
    if part.shape[0] == window_height:
        inner_height = height
    if part.shape[1] == window_width:
        inner_width = width
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    part = cv2.resize(part, (inner_width, inner_height), interpolation=method)
    part_labels = cv2.resize(part_labels, (inner_width, inner_height), interpolation=cv2.INTER_NEAREST_EXACT)
    if (inner_height, inner_width) == (height, width):
        return part, part_labels
    down = int(generator.integers(0, height - inner_height + 1))
    right = int(generator.integers(0, width - inner_width + 1))
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = np.rint(part.mean(axis=(0, 1))).astype(np.uint8)
    canvas_labels = np.full((height, width), IGNORE, np.uint8)
    canvas[down : down + inner_height, right : right + inner_width] = part
    canvas_labels[down : down + inner_height, right : right + inner_width] = part_labels
    return canvas, canvas_labels


def recoloured(image: Image, config: AugmentationConfig, generator: np.random.Generator) -> Image:
    """Random light and camera: brightness, contrast, gamma, colours, blur and noise. (h, w, 3) uint8 -> the same."""
    brightness = generator.uniform(1 - config.brightness, 1 + config.brightness)
    contrast = generator.uniform(1 - config.contrast, 1 + config.contrast)
    gamma = config.gamma ** generator.uniform(-1, 1)
    levels = np.linspace(0, 1, 256) ** gamma * brightness
    centre = float(np.interp(float(image.mean()), np.arange(256), levels))
    table = np.rint(np.clip(((levels - centre) * contrast + centre) * 255, 0, 255)).astype(np.uint8)
    image = cv2.LUT(image, table)
    if config.saturation or config.hue:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        # OpenCV's 8-bit hue has 180 steps.
        shift = round(generator.uniform(-config.hue, config.hue) * 180)
        factor = generator.uniform(1 - config.saturation, 1 + config.saturation)
        hsv[..., 0] = cv2.LUT(hsv[..., 0], ((np.arange(256) + shift) % 180).astype(np.uint8))
        hsv[..., 1] = cv2.LUT(hsv[..., 1], np.rint(np.clip(np.arange(256) * factor, 0, 255)).astype(np.uint8))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if generator.random() < config.blur:
        image = cv2.GaussianBlur(image, (0, 0), float(generator.uniform(0.3, 1.2)))
    if config.noise and generator.random() < 0.5:
        deviation = generator.uniform(0, config.noise)
        noise = generator.standard_normal(image.shape, np.float32) * np.float32(deviation)
        image = np.rint(np.clip(image + noise, 0, 255)).astype(np.uint8)
    return image
