"""The whole flow: 8-bit RGB patches to Gaussian latents and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.flow.activation_norm import ActivationNorm
from training.flow.affine_coupling import AffineCoupling
from training.flow.invertible_convolution import InvertibleConvolution
from training.flow.noise_augmentation import NoiseAugmentation
from training.flow.squeeze import Squeeze
from training.flow.transform import Transform

STRIDE = 8
LEVELS = 256


@dataclass(frozen=True)
class FlowConfig:
    """The size of a flow: three scales of units, and steps in each unit. Noise channels are added between units.

    A step is activation norm, invertible 1x1 convolution and affine coupling.

    >>> FlowConfig(units=(1, 1, 1), steps=(2, 3, 4)).couplings
    9

    Attributes:
        units: units of each scale.
        steps: steps of each unit, by scale.
        growth: noise channels added between two units of a scale; 0 keeps the likelihood exact.
        width, depth: channels and layers of the coupling networks, by scale.
    """

    units: tuple[int, int, int] = (3, 2, 1)
    steps: tuple[int, int, int] = (3, 3, 10)
    growth: int = 6
    width: tuple[int, int, int] = (128, 160, 224)
    depth: tuple[int, int, int] = (3, 3, 3)

    def __post_init__(self) -> None:
        for name in ("units", "steps", "width", "depth"):
            if any(value < 1 for value in getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; each must be at least 1")
        if self.growth < 0:
            raise ValueError(f"growth is {self.growth}; it must be at least 0")

    @property
    def couplings(self) -> int:
        """Number of affine couplings in the whole flow."""
        return sum(units * steps for units, steps in zip(self.units, self.steps, strict=True))


PAPER = FlowConfig()
"""25 couplings, growth 6: a DenseFlow of the size in Grcic et al., arXiv 2112.12833. How they divide the couplings over
the scales is not published; this division is ours."""

FAST = FlowConfig(units=(1, 1, 1), steps=(2, 3, 4), growth=0, width=(24, 48, 96), depth=(2, 2, 2))
"""Samples at least 20 times as fast as `PAPER`; `benchmark/flow.py` measures it."""


class Step(Transform):
    """Activation norm, invertible 1x1 convolution, affine coupling: one step of Glow (arXiv 1807.03039, figure 2).

    (N, C, H, W) <-> (N, C, H, W).
    """

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [ActivationNorm(channels), InvertibleConvolution(channels), AffineCoupling(channels, width, depth)]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) float -> (N, C, H, W) float and the sum of the log-determinants (N,)."""
        total = x.new_zeros(len(x))
        for layer in self.layers:
            x, log_determinant = layer(x)
            total = total + log_determinant
        return x, total

    def inverse(self, z: Tensor) -> Tensor:
        """(N, C, H, W) float -> (N, C, H, W) float."""
        for layer in reversed(self.layers):
            z = layer.inverse(z)  # type: ignore[operator]
        return z


class Scale(nn.Module):
    """Units of steps at one resolution, with noise between the units.

    (N, C, H, W) -> (N, C + (units - 1) growth, H, W).
    """

    def __init__(self, channels: int, units: int, steps: int, growth: int, width: int, depth: int) -> None:
        super().__init__()
        self.units = nn.ModuleList()
        self.noise = nn.ModuleList()
        context = 0
        for unit in range(units):
            if unit and growth:
                self.noise.append(NoiseAugmentation(context, growth, width))
                channels += growth
            context += channels
            self.units.append(nn.ModuleList(Step(channels, width, depth) for _ in range(steps)))
        self.channels = channels

    def forward(self, x: Tensor, augmentation: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Apply all units.

        Args:
            x: (N, C, H, W) float.
            augmentation: noise channels, one tensor (N, growth, H, W) between each two units; None draws them.

        Returns:
            z (N, C + (units - 1) growth, H, W) float and the sum of the log-determinants and noise terms (N,), in nats.
        """
        total = x.new_zeros(len(x))
        seen: list[Tensor] = []
        for number, unit in enumerate(self.units):
            if number and len(self.noise):
                noise = None if augmentation is None else augmentation[number - 1]
                x, term = self.noise[number - 1](x, torch.cat(seen, dim=1), noise)
                total = total + term
            seen.append(x)
            for step in unit:  # type: ignore[attr-defined]
                x, log_determinant = step(x)
                total = total + log_determinant
        return x, total

    def inverse(self, z: Tensor) -> Tensor:
        """(N, C + (units - 1) growth, H, W) float -> (N, C, H, W) float; the noise channels are dropped."""
        for number in reversed(range(len(self.units))):
            for step in reversed(list(self.units[number])):  # type: ignore[call-overload]
                z = step.inverse(z)
            if number and len(self.noise):
                z = self.noise[number - 1].inverse(z)  # type: ignore[operator]
        return z


class ImageFlow(nn.Module):
    """A normalizing flow of 8-bit RGB patches. Height and width are any multiples of 8.

    Three times a squeeze and a scale of units. After the first two scales, half of the channels are factored out to the
    latents (RealNVP, arXiv 1605.08803, section 3.6). All latents are standard normal.

    >>> flow = ImageFlow(FlowConfig(units=(1, 1, 1), steps=(1, 1, 1), width=(8, 8, 8)))
    >>> crops = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    >>> flow.bits_per_dim(crops).shape
    torch.Size([2])
    >>> flow.sample(4, 32, 48).shape  # a gradient flows from the samples to the parameters
    torch.Size([4, 3, 32, 48])
    >>> latents, _ = flow.transform(crops.float())
    >>> [tuple(z.shape) for z in latents]
    [(2, 6, 8, 12), (2, 12, 4, 6), (2, 48, 2, 3)]
    >>> torch.allclose(flow.inverse(latents), crops.float(), atol=0.01)
    True
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.squeeze = Squeeze()
        self.scales = nn.ModuleList()
        channels = 3
        for level in range(3):
            channels *= 4
            scale = Scale(
                channels,
                config.units[level],
                config.steps[level],
                config.growth,
                config.width[level],
                config.depth[level],
            )
            self.scales.append(scale)
            # Factored out: the larger half when the number is odd.
            channels = scale.channels // 2 if level < 2 else scale.channels
        self.last_channels = channels

    def latent_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """(channels, height, width) of the latents of each scale, for patches of that size.

        Raises:
            ValueError: the size is not a positive multiple of 8.
        """
        if height < STRIDE or width < STRIDE or height % STRIDE or width % STRIDE:
            raise ValueError(f"patches of {height}x{width}: height and width must be positive multiples of {STRIDE}")
        shapes = []
        for level, scale in enumerate(self.scales):
            channels: int = scale.channels  # type: ignore[assignment]
            kept = channels // 2 if level < 2 else 0
            shapes.append((channels - kept, height >> (level + 1), width >> (level + 1)))
        return shapes

    def transform(self, patches: Tensor, augmentation: Sequence[Tensor] | None = None) -> tuple[list[Tensor], Tensor]:
        """Map continuous patches to latents.

        Args:
            patches: (N, 3, h, w) float in [0, 256].
            augmentation: noise channels, as `draw_augmentation` gives them; None draws them.

        Returns:
            The latents of each scale, with the shapes of `latent_shapes` after N, and the sum of the log-determinants
            and noise terms (N,), in nats.

        Raises:
            ValueError: the size is not a positive multiple of 8.
        """
        self.latent_shapes(*patches.shape[2:])
        x = patches / (LEVELS / 2) - 1
        total = x.new_full((len(x),), -math.log(LEVELS / 2) * x[0].numel())
        latents = []
        for level, scale in enumerate(self.scales):
            x, _ = self.squeeze(x)
            own = self.augmented(level)
            x, term = scale(x, None if augmentation is None else augmentation[own.start : own.stop])
            total = total + term
            if level < 2:
                kept = x.shape[1] // 2
                latents.append(x[:, kept:])
                x = x[:, :kept]
        return [*latents, x], total

    def forward(self, patches: Tensor, augmentation: Sequence[Tensor] | None = None) -> Tensor:
        """Log-likelihood of continuous patches, in nats: (N, 3, h, w) float in [0, 256] -> (N,) float.

        With growth it is a lower bound from one sample of the noise (see `NoiseAugmentation`). The density is over the
        values 0..256.
        """
        latents, total = self.transform(patches, augmentation)
        for z in latents:
            total = total + _standard_normal(z)
        return total

    def bits_per_dim(
        self, crops: Tensor, noise: Tensor | None = None, augmentation: Sequence[Tensor] | None = None
    ) -> Tensor:
        """-log2 p / (3 h w) of 8-bit crops with uniform dequantisation: (N, 3, h, w) uint8 or integers 0..255 -> (N,).

        An upper bound of the discrete model's bits (Theis et al., arXiv 1511.01844, section 3.1).

        Args:
            noise: (N, 3, h, w) float in [0, 1) to dequantise with; None draws it.
            augmentation: noise channels, as `draw_augmentation` gives them; None draws them.

        Raises:
            ValueError: values other than the integers 0 to 255 (a crop scaled to 0..1, for example), or another size.
        """
        values = crops.detach().to(next(self.parameters()).dtype)
        integers = (values == values.round()) & (values >= 0) & (values < LEVELS)
        if crops.dtype != torch.uint8 and not bool(integers.all()):
            raise ValueError("crops must hold the integers 0 to 255; they enter the flow as the camera gave them")
        noise = torch.rand_like(values) if noise is None else noise.to(values)
        return -self(values + noise, augmentation) / (math.log(2) * crops[0].numel())

    def augmented(self, level: int) -> range:
        """Places of the tensors that scale `level` takes, among those of `draw_augmentation`."""
        counts = [len(scale.noise) for scale in self.scales]  # type: ignore[arg-type]
        return range(sum(counts[:level]), sum(counts[: level + 1]))

    def draw_augmentation(
        self, count: int, height: int, width: int, generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """Standard normal noise channels for `bits_per_dim`, on the CPU.

        Returns:
            One tensor (count, growth, h', w') for each place between two units of a scale, with (h', w') the scale's
            size; an empty list without growth.
        """
        dtype = next(self.parameters()).dtype
        return [
            torch.randn(
                (count, self.config.growth, height >> (level + 1), width >> (level + 1)),
                dtype=dtype,
                generator=generator,
            )
            for level in range(3)
            for _ in self.augmented(level)
        ]

    def draw_latents(
        self, count: int, height: int, width: int, generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """Standard normal latents for `inverse`, on the CPU: (count, *shape) for each of `latent_shapes`."""
        dtype = next(self.parameters()).dtype
        return [
            torch.randn((count, *shape), dtype=dtype, generator=generator)
            for shape in self.latent_shapes(height, width)
        ]

    def sample(self, count: int, height: int, width: int, temperature: float = 1.0) -> Tensor:
        """Draw patches: (count, 3, height, width) float in the units of 0..256, neither rounded nor clipped.

        Differentiable: x = f^-1(z) is reparametrised, so a loss on the sample reaches the flow's parameters. Rounding
        would cut this path.

        Args:
            temperature: standard deviation of the latents.
        """
        device = next(self.parameters()).device
        return self.inverse([temperature * z.to(device) for z in self.draw_latents(count, height, width)])

    def inverse(self, latents: list[Tensor]) -> Tensor:
        """Latents of each scale, shaped (N, *shape) as in `latent_shapes` -> patches (N, 3, h, w) float, 0..256."""
        x = latents[-1]
        for level in reversed(range(3)):
            if level < 2:
                x = torch.cat([x, latents[level]], dim=1)
            x = self.scales[level].inverse(x)  # type: ignore[operator]
            x = self.squeeze.inverse(x)
        return (x + 1) * (LEVELS / 2)


def _standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) of each element of a batch, in nats: (N, ...) -> (N,)."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(dim=1)
