"""The flow's layers are bijections with the log-determinants that they say, and the whole is a density."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from training.flow.activation_norm import ActivationNorm
from training.flow.affine_coupling import AffineCoupling
from training.flow.image_flow import FAST, PAPER, FlowConfig, ImageFlow, Step
from training.flow.invertible_convolution import InvertibleConvolution
from training.flow.noise_augmentation import NoiseAugmentation
from training.flow.squeeze import Squeeze
from training.flow.transform import Transform

TINY = FlowConfig(units=(1, 1, 1), steps=(1, 1, 2), growth=0, width=(6, 6, 6), depth=(1, 1, 1))
TINY_WITH_NOISE = FlowConfig(units=(2, 2, 1), steps=(1, 1, 1), growth=3, width=(6, 6, 6), depth=(1, 1, 1))

LAYERS: dict[str, Callable[[], Transform]] = {
    "squeeze": Squeeze,
    "activation norm": lambda: ActivationNorm(4),
    "invertible convolution": lambda: InvertibleConvolution(4),
    "affine coupling": lambda: AffineCoupling(4, width=5, depth=2),
    "affine coupling of an odd number": lambda: AffineCoupling(5, width=5, depth=1),
    "step": lambda: Step(4, width=5, depth=1),
}


def stirred(module: nn.Module, strength: float = 0.3) -> nn.Module:
    """No parameter at its start: a layer that begins as the identity would pass any test."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            # As training would: by less where more of them add up.
            size = strength / math.sqrt(parameter[0].numel())
            parameter.add_(size * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    for part in module.modules():
        if isinstance(part, ActivationNorm):
            part.initialised.fill_(True)
    return module


def channels_of(name: str) -> int:
    return 5 if name.endswith("odd number") else 4


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("name", LAYERS)
def test_the_inverse_gives_back_what_went_in(name: str, dtype: torch.dtype, error: float) -> None:
    torch.manual_seed(0)
    layer = stirred(LAYERS[name]()).to(dtype)
    x = torch.randn(3, channels_of(name), 6, 8, dtype=dtype)
    z, _ = layer(x)
    assert (layer.inverse(z) - x).abs().max() < error  # type: ignore[operator]


@pytest.mark.parametrize("name", LAYERS)
def test_the_log_determinant_is_the_jacobians(name: str) -> None:
    torch.manual_seed(0)
    layer = stirred(LAYERS[name]()).double()
    x = torch.randn(2, channels_of(name), 2, 4, dtype=torch.float64)
    _, claimed = layer(x)
    for index in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda one: layer(one[None])[0].flatten(), x[index])
        determinant = torch.linalg.slogdet(jacobian.reshape(x[index].numel(), -1)).logabsdet
        assert float(claimed[index].detach()) == pytest.approx(float(determinant), abs=1e-9)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("config", [TINY, TINY_WITH_NOISE, FAST], ids=["tiny", "with noise", "fast"])
@pytest.mark.parametrize("size", [(8, 8), (16, 40)])
def test_the_whole_flow_gives_back_the_patch(
    config: FlowConfig, size: tuple[int, int], dtype: torch.dtype, error: float
) -> None:
    torch.manual_seed(0)
    flow = stirred(ImageFlow(config), 0.1).to(dtype)
    patches = torch.rand(2, 3, *size, dtype=dtype) * 256
    latents, _ = flow.transform(patches)  # type: ignore[operator]
    assert [tuple(z.shape[1:]) for z in latents] == flow.latent_shapes(*size)  # type: ignore[operator]
    # In units of the flow's own input, -1 to 1.
    assert (flow.inverse(latents) - patches).abs().max() / 128 < error  # type: ignore[operator]


def test_the_whole_flows_log_determinant_is_the_jacobians() -> None:
    torch.manual_seed(0)
    flow = stirred(ImageFlow(TINY), 0.1).double()
    patch = torch.rand(3, 8, 8, dtype=torch.float64) * 256

    def flat(one: Tensor) -> Tensor:
        return torch.cat([z.flatten() for z in flow.transform(one[None])[0]])  # type: ignore[operator]

    jacobian = torch.autograd.functional.jacobian(flat, patch).reshape(192, 192)
    _, claimed = flow.transform(patch[None])  # type: ignore[operator]
    assert float(claimed.detach()) == pytest.approx(float(torch.linalg.slogdet(jacobian).logabsdet), abs=1e-8)


def test_a_tiny_flows_density_integrates_to_one_on_a_grid() -> None:
    torch.manual_seed(3)
    steps = [stirred(Step(2, width=4, depth=1)).double() for _ in range(3)]
    side = torch.linspace(-14, 14, 561, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).reshape(-1, 2, 1, 1)
    with torch.no_grad():
        z, log_density = grid, torch.zeros(len(grid), dtype=torch.float64)
        for step in steps:
            z, log_determinant = step(z)
            log_density += log_determinant
        log_density += -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)
    cell = float(side[1] - side[0]) ** 2
    assert float(log_density.exp().sum()) * cell == pytest.approx(1.0, abs=2e-3)


def test_noise_channels_are_paid_for_at_their_density() -> None:
    torch.manual_seed(0)
    layer = stirred(NoiseAugmentation(context=3, growth=2, width=4)).double()
    x, context = torch.randn(2, 4, 2, 2, dtype=torch.float64), torch.randn(2, 3, 2, 2, dtype=torch.float64)
    z, term = layer(x, context)
    assert torch.equal(layer.inverse(z), x)  # type: ignore[operator]
    raw, shift = layer.last(nn.functional.silu(layer.first(context))).chunk(2, dim=1)  # type: ignore[operator]
    scale = (2 * torch.tanh(raw / 2)).exp()
    density = torch.distributions.Normal(shift, scale).log_prob(z[:, 4:]).sum(dim=(1, 2, 3))
    torch.testing.assert_close(term, -density)


def test_the_first_batch_sets_the_activation_norm_and_the_second_does_not() -> None:
    layer = ActivationNorm(3)
    first = torch.randn(8, 3, 4, 4) * torch.tensor([1.0, 5.0, 0.1])[:, None, None] + 7
    z, _ = layer(first)
    assert z.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (z.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-2
    before = layer.shift.clone()
    layer(torch.randn(8, 3, 4, 4))
    assert torch.equal(layer.shift, before)
    evaluated = ActivationNorm(3).eval()
    evaluated(first)
    assert not evaluated.initialised


def test_bits_per_dim_of_a_uniform_density_is_eight() -> None:
    """An identity flow with latents that are uniform would need exactly 8 bits; the Gaussian one is checked against
    its own formula."""
    flow = ImageFlow(TINY).double()
    with torch.no_grad():
        for part in flow.modules():
            if isinstance(part, InvertibleConvolution):
                part.lower.zero_()
                part.upper.zero_()
                part.log_diagonal.zero_()
                part.sign.fill_(1)
                part.permutation.copy_(torch.eye(len(part.sign)))
            if isinstance(part, ActivationNorm):
                part.initialised.fill_(True)
    crops = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    torch.manual_seed(5)
    found = flow.bits_per_dim(crops)
    torch.manual_seed(5)
    x = (crops.double() + torch.rand(2, 3, 8, 8, dtype=torch.float64)) / 128 - 1
    nats = torch.distributions.Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1) - 192 * math.log(128)
    torch.testing.assert_close(found, -nats / (192 * math.log(2)))


@pytest.mark.parametrize(
    "crops",
    [torch.rand(1, 3, 8, 8), torch.randint(0, 256, (1, 3, 8, 8)) * 255.0, torch.full((1, 3, 8, 8), -1.0)],
    ids=["scaled to 0..1", "scaled twice", "normalised"],
)
def test_crops_enter_as_the_camera_gave_them_or_not_at_all(crops: Tensor) -> None:
    with pytest.raises(ValueError, match="crops must hold the integers 0 to 255"):
        ImageFlow(TINY).bits_per_dim(crops)


def test_integers_in_floating_point_are_the_same_crops() -> None:
    flow = ImageFlow(TINY).eval()
    crops = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    torch.manual_seed(0)
    a = flow.bits_per_dim(crops)
    torch.manual_seed(0)
    torch.testing.assert_close(flow.bits_per_dim(crops.float()), a)


@pytest.mark.parametrize("size", [(12, 16), (0, 8), (8, 20)])
def test_a_size_that_is_no_multiple_of_eight_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="height and width must be positive multiples of 8"):
        ImageFlow(TINY).sample(1, *size)


@pytest.mark.parametrize("config", [TINY, TINY_WITH_NOISE], ids=["exact", "with noise"])
def test_a_loss_on_the_sample_reaches_every_layer_of_the_flow(config: FlowConfig) -> None:
    torch.manual_seed(0)
    flow = stirred(ImageFlow(config), 0.05)
    sample = flow.sample(2, 16, 24)  # type: ignore[operator]
    assert sample.shape == (2, 3, 16, 24)
    assert not torch.equal(sample, sample.round())
    sample.square().mean().backward()
    unused = {
        name
        for name, parameter in flow.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    }
    # Noise channels are dropped on the way back, so what conditions them has no say in a sample.
    assert all(".noise." in name for name in unused)


def test_a_tiny_flow_learns_its_data() -> None:
    torch.manual_seed(0)
    flow = ImageFlow(FlowConfig(units=(1, 1, 1), steps=(2, 2, 2), growth=0, width=(16, 16, 16), depth=(1, 1, 1)))
    optimiser = torch.optim.Adamax(flow.parameters(), lr=5e-3)
    ramp = torch.linspace(40, 200, 16)
    bits = []
    for _ in range(60):
        crops = (ramp + torch.randn(16, 3, 16, 1) * 12).clamp(0, 255).to(torch.uint8).expand(16, 3, 16, 16)
        loss = flow.bits_per_dim(crops).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bits.append(float(loss.detach()))
    assert bits[0] > 6.5
    assert bits[-1] < bits[0] - 1.5


def test_the_paper_configuration_has_the_papers_size() -> None:
    assert PAPER.couplings == 25
    assert PAPER.growth == 6
    assert sum(p.numel() for p in ImageFlow(PAPER).parameters()) == pytest.approx(35.7e6, rel=0.03)
