"""The joint objective: each loss moves what it should and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_joint_training import (
    a_batch,
    a_draw,
    moved,
    objective,
)
from torch import Tensor

from training.data.label_set import IGNORE
from training.joint.colouring import channels_shuffled
from training.joint.negative_config import NegativeConfig
from training.joint.placement import place
from training.joint.uniformity_loss import uniformity_loss
from training.segmenter.cross_entropy import dense_cross_entropy


@pytest.mark.parametrize(
    ("loss", "segmenter_moves", "flow_moves"),
    [("classes", True, True), ("likelihood", False, True), ("unsure", True, True)],
)
def test_each_loss_reaches_what_it_should(loss: str, segmenter_moves: bool, flow_moves: bool) -> None:
    """L_cls reaches the flow too: its sample stands in the receptive field of pixels outside the patch."""
    made = objective()
    classes, likelihood, unsure = made(*a_batch(), a_draw(made))
    {"classes": classes, "likelihood": likelihood, "unsure": unsure}[loss].backward()
    assert moved(made.segmenter) == segmenter_moves
    assert moved(made.flow) == flow_moves


def test_the_flow_gets_a_gradient_from_l_jsd_alone_in_every_coupling() -> None:
    made = objective()
    made(*a_batch(), a_draw(made))[2].backward()
    without = [n for n, p in made.flow.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not without


def test_a_frozen_flow_gets_none_and_pays_nothing() -> None:
    made = objective(negatives={"sides": (192, 384), "train_flow": False})
    made.flow.requires_grad_(False)
    classes, likelihood, unsure = made(*a_batch(), a_draw(made))
    (classes + likelihood + unsure).backward()
    assert float(likelihood) == 0
    assert not moved(made.flow)
    assert moved(made.segmenter)


@pytest.mark.parametrize("parts", [2, 4])
def test_the_gradients_of_micro_batches_add_up_to_the_batchs(parts: int) -> None:
    """Though they hold unequal numbers of valid and of pasted pixels."""
    gradients, losses = [], []
    for count in (1, parts):
        made = objective(negatives={"sides": (192, 384), "shape": "blob"})
        image, labels = a_batch(count=4)
        labels[0, :40] = IGNORE
        draw = a_draw(made, count=4)
        draw.placement.inside[0, :8] = False
        denominators = made.denominators(labels, draw)
        total = torch.zeros(3)
        for start in range(0, 4, 4 // count):
            part = slice(start, start + 4 // count)
            classes, likelihood, unsure = made(image[part], labels[part], draw.part(part), denominators)
            found = torch.stack([classes, likelihood / count, unsure])
            (found * torch.tensor([1.0, 1.0, 0.3])).sum().backward()
            total += found.detach()
        losses.append(total)
        gradients.append({n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None})
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-6)
    assert gradients[1].keys() == gradients[0].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_the_push_scales_the_gradient_that_reaches_the_flow_and_nothing_else() -> None:
    gradients = []
    for push in (1.0, 0.25):
        made = objective(negatives={"sides": (192, 384), "push": push})
        made(*a_batch(), a_draw(made))[2].backward()
        gradients.append(
            [
                torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None])
                for part in (made.flow, made.segmenter)
            ]
        )
    torch.testing.assert_close(gradients[1][0], 0.25 * gradients[0][0], rtol=1e-3, atol=1e-8)
    torch.testing.assert_close(gradients[1][1], gradients[0][1])


def test_the_losses_are_those_of_the_formulas() -> None:
    made = objective()
    image, labels = a_batch()
    draw = a_draw(made)
    classes, likelihood, unsure = made(image, labels, draw)
    placement = draw.placement
    patches = (made.flow.inverse(draw.latents) - 0.5).clamp(0, 255)
    mixed = image.float().clone()
    crops = []
    inside = torch.zeros(2, 64, 64, dtype=torch.bool)
    for i in range(2):
        rows = slice(int(placement.top[i]), int(placement.top[i]) + placement.height)
        columns = slice(int(placement.left[i]), int(placement.left[i]) + placement.width)
        crops.append(image[i, :, rows, columns])
        mixed[i, :, rows, columns] = patches[i]
        inside[i, rows, columns] = True
    dense = made.segmenter.dense_logits(made.segmenter.normalise(mixed))
    p = dense.softmax(dim=1)
    m = (p + 1 / 11) / 2
    divergence = 0.5 * (1 / 11 * (1 / 11 / m).log()).sum(1) + 0.5 * (p * (p / m).log()).sum(1)
    torch.testing.assert_close(unsure, divergence[inside].mean(), rtol=1e-4, atol=1e-6)
    outside = labels.clone()
    outside[inside] = IGNORE
    torch.testing.assert_close(classes, dense_cross_entropy(dense, outside, torch.ones(11)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(likelihood, made.flow.bits_per_dim(torch.stack(crops), draw.noise).mean())


def test_the_gradient_of_the_divergence_is_the_closed_form() -> None:
    logits = torch.randn(1, 12, 2, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, 2, 3, dtype=torch.bool)
    (gradient,) = torch.autograd.grad(uniformity_loss(logits.double(), mask, "jensen_shannon") * 6, logits)
    p = logits.detach().softmax(dim=1)
    r = (p / ((p + 1 / 12) / 2)).log()
    expected = 0.5 * p * (r - (p * r).sum(dim=1, keepdim=True))
    # The loss is computed in float32, as in training.
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-6)


def test_a_certain_prediction_is_left_alone_by_the_divergence_but_not_by_kullback_leibler() -> None:
    mask = torch.ones(1, 1, 1, dtype=torch.bool)
    gradients = {}
    for divergence in ("jensen_shannon", "kullback_leibler"):
        logits = torch.zeros(1, 11, 1, 1)
        logits[0, 4] = 30.0
        logits.requires_grad_()
        (gradients[divergence],) = torch.autograd.grad(uniformity_loss(logits, mask, divergence), logits)  # type: ignore[arg-type]
    assert gradients["jensen_shannon"].abs().max() < 1e-6
    assert gradients["kullback_leibler"].abs().max() > 0.05


def test_the_softmax_of_the_divergence_is_over_classes() -> None:
    """Uniform over classes at every pixel but of other size from pixel to pixel: no divergence at all."""
    logits = torch.arange(6.0).reshape(1, 1, 2, 3).expand(1, 11, 2, 3).contiguous()
    assert float(uniformity_loss(logits, torch.ones(1, 2, 3, dtype=torch.bool), "jensen_shannon")) < 1e-6


def test_only_what_is_pasted_is_pushed_towards_uniform() -> None:
    logits = torch.randn(2, 11, 8, 8, requires_grad=True)
    mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    mask[0, 2:4, 3:7] = True
    uniformity_loss(logits, mask, "jensen_shannon").backward()
    assert logits.grad is not None
    assert bool((logits.grad.abs().sum(1) > 0)[mask].all())
    assert not bool((logits.grad.abs().sum(1) > 0)[~mask].any())


def test_enlarged_samples_fill_the_patch_and_the_flow_learns_the_reduced_crop() -> None:
    config = NegativeConfig(sides=(300, 700), magnification=(4, 4))
    placement = place(2, (128, 160), config, torch.Generator().manual_seed(3))
    assert placement.magnification == 4
    assert placement.height % 32 == placement.width % 32 == 0
    sampled = (placement.height // 4, placement.width // 4)
    image = torch.randint(0, 256, (2, 3, 128, 160), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    reduced = placement.take_reduced(image)
    assert reduced.shape == (2, 3, *sampled)
    assert reduced.dtype == torch.uint8
    corner = placement.take(image)[:, :, :4, :4].float().mean(dim=(2, 3))
    torch.testing.assert_close(reduced[:, :, 0, 0].float(), corner, atol=0.5, rtol=0)
    sample = torch.rand(2, 3, *sampled, requires_grad=True)
    enlarged = placement.enlarge(sample)
    assert enlarged.shape == (2, 3, placement.height, placement.width)
    enlarged.sum().backward()
    assert sample.grad is not None
    assert bool((sample.grad > 0).all())


def test_samples_of_the_flow_are_pasted_with_their_channels_in_the_drawn_order() -> None:
    made = objective()
    draw = a_draw(made)
    image, labels = torch.zeros((2, 3, 64, 64), dtype=torch.uint8), torch.zeros((2, 64, 64), dtype=torch.uint8)
    seen: list[Tensor] = []
    made.segmenter.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    orders = torch.tensor([[1, 2, 0], [0, 2, 1]])
    made(image, labels, draw)
    made(image, labels, replace(draw, channels=orders))
    zero, one = (made.segmenter.normalise(torch.full((1, 3, 1, 1), value)) for value in (0.0, 1.0))
    plain, shuffled = ((found - zero) / (one - zero) for found in seen)
    assert float(plain.std()) > 1
    torch.testing.assert_close(shuffled, channels_shuffled(plain, orders), rtol=1e-4, atol=1e-3)


def test_the_initial_flow_makes_the_patches_that_are_drawn_for_it_and_the_flow_the_others() -> None:
    made = objective(negatives={"sides": (192, 384), "initial_flow_share": 0.5})
    draw = a_draw(made)
    image, labels = torch.zeros((2, 3, 64, 64), dtype=torch.uint8), torch.zeros((2, 64, 64), dtype=torch.uint8)
    seen: list[Tensor] = []
    made.segmenter.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    made(image, labels, draw)
    with torch.no_grad():
        for parameter in made.flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    made(image, labels, draw)
    made(image, labels, replace(draw, from_initial_flow=torch.tensor([False, True])))
    before, learnt, mixed = seen
    assert not torch.equal(before[0], learnt[0])
    assert not torch.equal(before[1], learnt[1])
    assert torch.equal(mixed, torch.stack([learnt[0], before[1]]))


def test_samples_of_the_initial_flow_give_the_flow_no_gradient() -> None:
    made = objective(negatives={"sides": (192, 384), "initial_flow_share": 1.0})
    draw = replace(a_draw(made), from_initial_flow=torch.tensor([True, True]))
    made(*a_batch(), draw)[2].backward()
    assert moved(made.segmenter)
    assert not moved(made.flow)
    assert made.initial_flow is not None
    assert not moved(made.initial_flow)
