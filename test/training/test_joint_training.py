"""The joint objective: each loss moves what it should and nothing else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from synthetic_camvid import write_camvid
from test_train_segmenter import TINY
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from ros_ood_perception.bundle.model_bundle import read_bundle
from ros_ood_perception.files.strict_yaml import from_mapping
from ros_ood_perception.inference.opening import open_engine
from training.data.label_set import IGNORE
from training.export import main as export
from training.flow.image_flow import FlowConfig, ImageFlow
from training.joint.colouring import LARGEST_STEP, Colouring, Faces, channel_orders, channels_shuffled
from training.joint.gradients import scaled_gradient, within_range
from training.joint.negative_config import NegativeConfig
from training.joint.negative_draw import NegativeDraw, PlacedBatch
from training.joint.objective import JointObjective
from training.joint.placement import Placement, outline, place, polygons
from training.joint.procedural_textures import procedural_textures
from training.joint.sources import negative_source
from training.joint.training_config import JointTrainingConfig
from training.joint.uniformity_loss import uniformity_loss
from training.runs import training_run
from training.runs.checkpoint import load_checkpoint
from training.segmenter.cross_entropy import dense_cross_entropy
from training.segmenter.ladder_segmenter import LadderSegmenter, SegmenterConfig
from training.train_flow import main as train_flow
from training.train_joint import main as train_joint
from training.train_segmenter import main as train_segmenter

SEGMENTER: Any = TINY["segmenter"]
FLOW = {"units": [2, 1, 1], "steps": [1, 1, 1], "growth": 2, "width": [6, 6, 6], "depth": [1, 1, 1]}
SHARED = {"batch_size": 4, "passes_per_epoch": 2, "data": {"workers": 0}}


def joint_config(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": "joint",
        "epochs": 2,
        "input_size": [96, 128],
        "picture_frames": [0],
        "segmenter": SEGMENTER,
        "flow": FLOW,
        "augmentation": {"crop": [64, 64]},
        "negatives": {"sides": [192, 384]},
        "optimiser": {"learning_rate": 0.001, "warmup_steps": 1},
        "flow_optimiser": {"learning_rate": 0.001, "warmup_steps": 1},
        **SHARED,
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return config


def objective(**changes: Any) -> JointObjective:
    torch.manual_seed(0)
    negatives = NegativeConfig(**changes.pop("negatives", {"sides": (192, 384)}))
    config = JointTrainingConfig(
        name="joint",
        flow=FlowConfig(units=(1, 1, 1), steps=(1, 1, 1), growth=0, width=(6, 6, 6), depth=(1, 1, 1)),
        negatives=negatives,
        **changes,
    )
    segmenter = LadderSegmenter(from_mapping(SEGMENTER, SegmenterConfig, "tiny"), 11)
    flow = ImageFlow(config.flow)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    flow.bits_per_dim(torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8))
    initial_flow = deepcopy(flow).requires_grad_(False) if negatives.initial_flow_share else None
    made = JointObjective(segmenter, flow, torch.ones(11), config, initial_flow)
    return made.train()


def a_draw(made: JointObjective, seed: int = 0, count: int = 2) -> NegativeDraw:
    generator = torch.Generator().manual_seed(seed)
    placement = place(count, (64, 64), made.config.negatives, generator)
    latents = made.flow.draw_latents(count, placement.height, placement.width, generator)
    noise = torch.rand((count, 3, placement.height, placement.width), generator=generator)
    return NegativeDraw(placement, latents, None, noise)


def a_batch(seed: int = 1, count: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)
    return image, torch.randint(0, 11, (count, 64, 64), dtype=torch.uint8, generator=generator)


def moved(module: torch.nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())


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


def test_patches_are_sized_by_the_crop_and_lie_within_it() -> None:
    config = NegativeConfig()
    assert config.side_range((768, 768)) == (16, 216)
    assert config.side_range((320, 320)) == (8, 88)
    generator = torch.Generator().manual_seed(0)
    sizes = set()
    for _ in range(200):
        placement = place(3, (96, 128), NegativeConfig(sides=(64, 384)), generator)
        sizes.add((placement.height, placement.width))
        assert placement.height % 8 == 0
        assert placement.width % 8 == 0
        assert bool((placement.top + placement.height <= 96).all())
        assert bool((placement.left + placement.width <= 128).all())
    assert {h for h, _ in sizes} == {w for _, w in sizes} == set(range(8, 49, 8))


def test_pasting_changes_the_region_and_nothing_else() -> None:
    placement = place(2, (64, 96), NegativeConfig(sides=(300, 500), shape="blob"), torch.Generator().manual_seed(4))
    image = torch.rand(2, 3, 64, 96)
    patches = torch.full((2, 3, placement.height, placement.width), 7.0)
    pasted = placement.paste(image, patches)
    mask = placement.mask((64, 96))
    assert 0.4 < float(mask.sum()) / (2 * placement.height * placement.width) < 0.6
    assert torch.equal(pasted.permute(0, 2, 3, 1)[~mask], image.permute(0, 2, 3, 1)[~mask])
    assert bool((pasted.permute(0, 2, 3, 1)[mask] == 7).all())
    rectangle = Placement(
        placement.height, placement.width, placement.top, placement.left, torch.ones_like(placement.inside)
    )
    assert torch.equal(rectangle.take(rectangle.paste(image, patches)), patches)


def test_faded_patches_lie_between_themselves_and_the_colour_of_what_they_replace() -> None:
    made = objective(negatives={"sides": (192, 384), "faded": 0.5})
    batch_of = PlacedBatch(
        torch.zeros(200, 3, 64, 64, dtype=torch.uint8),
        slice(50, 150),
        place(200, (64, 64), made.config.negatives, torch.Generator().manual_seed(0)),
        torch.zeros(200, 3, 8, 8),
    )
    strength = (
        negative_source(made.config.negatives, made.flow).draw(batch_of, torch.Generator().manual_seed(1)).strength
    )
    assert strength is not None
    assert len(strength) == 100
    assert 0.35 < float((strength < 1).float().mean()) < 0.65
    assert 0.2 <= float(strength.min()) < 0.3
    draw = a_draw(made)
    images = torch.rand(2, 3, 64, 64) * 255
    patches = torch.rand(2, 3, draw.placement.height, draw.placement.width) * 255
    assert torch.equal(draw.faded(patches, images), patches)
    found = replace(draw, strength=torch.tensor([1.0, 0.25])).faded(patches, images)
    assert torch.allclose(found[0], patches[0], atol=1e-3)
    replaced = draw.placement.take(images)[1].mean(dim=(1, 2))[:, None, None]
    assert torch.allclose(found[1] - replaced, 0.25 * (patches[1] - replaced), atol=1e-3)


def test_a_soft_outline_mixes_patch_and_image_within_the_rectangle() -> None:
    config = NegativeConfig(sides=(300, 500), shape="varied", edges="soft")
    placement = place(4, (64, 96), config, torch.Generator().manual_seed(4))
    assert placement.part(slice(1, 3)).soft
    image = torch.zeros(4, 3, 64, 96)
    patches = torch.full((4, 3, placement.height, placement.width), 9.0)
    pasted = placement.paste(image, patches)[:, 0]
    mask = placement.mask((64, 96))
    eroded = functional.max_pool2d((~mask).float()[:, None], 3, stride=1, padding=1)[:, 0] == 0
    grown = functional.max_pool2d(mask.float()[:, None], 3, stride=1, padding=1)[:, 0] > 0
    # Within the outline the patch, outside of it the image, and along it a mixture.
    assert torch.allclose(pasted[eroded], torch.tensor(9.0))
    assert float(pasted[~grown].abs().max()) == 0
    edge = pasted[grown & ~eroded]
    assert float(edge.min()) >= 0
    assert float(edge.max()) < 9
    assert float((edge > 0).float().mean()) > 0.8
    rectangle = replace(placement, inside=torch.ones_like(placement.inside))
    outside = ~replace(rectangle, soft=False).mask((64, 96))
    assert float(rectangle.paste(image, patches)[:, 0][outside].abs().max()) == 0


def test_polygons_have_straight_edges_and_no_dents() -> None:
    for height, width in ((8, 8), (64, 96)):
        inside = polygons(200, height, width, torch.Generator().manual_seed(0))
        assert inside.shape == (200, height, width)
        assert bool(inside.flatten(1).any(dim=1).all())
        assert 0.3 < float(inside.float().mean()) < 0.6
        for lines in (inside, inside.transpose(1, 2)):
            # From outside to inside once at most: each row and each column of a convex figure is one stretch.
            begins = lines[:, :, 0].int() + (lines[:, :, 1:] & ~lines[:, :, :-1]).sum(dim=2)
            assert int(begins.max()) == 1


def test_varied_outlines_are_half_blobs_and_half_polygons() -> None:
    inside = outline(NegativeConfig(shape="varied"))(400, 32, 32, torch.Generator().manual_seed(1))
    # A blob fills exactly half of its rectangle.
    halves = inside.flatten(1).sum(dim=1) == 32 * 32 // 2
    assert 0.4 < float(halves.float().mean()) < 0.6


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


def test_a_magnification_that_no_patch_allows_is_refused() -> None:
    with pytest.raises(ValueError, match="lower negatives"):
        NegativeConfig(magnification=(8, 8)).side_range((32, 32), 8)
    with pytest.raises(ValueError, match=r"magnification is \(3, 4\)"):
        NegativeConfig(magnification=(3, 4))


def test_recoloured_patches_keep_their_structure_and_their_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    colouring = Colouring.draw(64, generator)
    patches = (40 + 20 * torch.randn((64, 3, 24, 16), generator=generator)).requires_grad_()
    found = colouring.apply(patches)
    torch.testing.assert_close(found.mean(dim=(2, 3)), colouring.mean[:, :, 0, 0], rtol=1e-3, atol=1e-2)
    # Three independent channels mixed by rows of unit length: a standard deviation of about the contrast.
    torch.testing.assert_close(found.std(dim=(2, 3)), colouring.contrast[:, :, 0, 0].expand(64, 3), rtol=0.2, atol=0)
    assert 20 <= float(colouring.mean.min()) < 60 < 195 < float(colouring.mean.max()) <= 235
    assert 3 <= float(colouring.contrast.min()) < 6 < 40 < float(colouring.contrast.max()) <= 60
    torch.testing.assert_close(colouring.part(slice(1, None, 2)).apply(patches[1::2]), found[1::2])
    found.square().sum().backward()
    assert patches.grad is not None
    assert float(patches.grad.abs().sum()) > 0


def test_faces_differ_in_lightness_on_the_two_sides_of_a_line() -> None:
    faces = Faces.draw(300, torch.Generator().manual_seed(0), 0.5)
    light = faces.light(9, 15)
    assert light.shape == (300, 1, 9, 15)
    lit = light.flatten(1).abs().amax(dim=1) > 0
    assert 0.4 < float(lit.float().mean()) < 0.6
    assert float(light.abs().max()) <= LARGEST_STEP / 2 + 2 * LARGEST_STEP / 2
    one = Faces(torch.tensor([[0.0, 1.0]]), torch.tensor([-0.5]), torch.tensor([10.0]), torch.zeros(1, 2))
    assert torch.equal(one.light(2, 5)[0, 0], torch.tensor([[-10.0, 0, 10, 10, 10]] * 2))


def test_faces_leave_the_other_draws_and_patches_as_they_are() -> None:
    plain, lit = (Colouring.draw(8, torch.Generator().manual_seed(3), 0.5, share) for share in (0.0, 1.0))
    assert plain.faces is None
    assert lit.faces is not None
    assert torch.equal(plain.mean, lit.mean)
    patches = torch.randn(8, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(
        lit.apply(patches) - plain.apply(patches), lit.faces.light(16, 24).expand(8, 3, 16, 24), atol=1e-4
    )
    assert torch.equal(lit.part(slice(2, 5)).apply(patches[2:5]), lit.apply(patches)[2:5])


def test_neutral_colours_are_near_grey_and_their_structure_is_one_of_lightness() -> None:
    generator = torch.Generator().manual_seed(0)
    vivid, neutral = (Colouring.draw(64, generator, share).mean.std(dim=1).mean() for share in (0.0, 1.0))
    assert float(neutral) < 15 < 40 < float(vivid)
    colouring = Colouring.draw(4, generator, 1.0)
    found = colouring.apply(40 + 20 * torch.randn((4, 3, 24, 16), generator=generator))
    lightness = (found - found.mean(dim=(2, 3), keepdim=True)).detach()
    torch.testing.assert_close(lightness[:, 0], lightness[:, 2], rtol=0, atol=1e-3)


def test_with_logarithmic_spacing_half_of_the_patches_are_below_the_middle_octave() -> None:
    generator = torch.Generator().manual_seed(0)
    config = NegativeConfig(sides=(24, 384), side_spacing="logarithmic")
    heights = [place(1, (256, 256), config, generator).height for _ in range(400)]
    assert set(heights) <= set(range(8, 129, 8))
    assert {8, 128} <= set(heights)
    assert 0.4 < sum(height <= 32 for height in heights) / 400 < 0.65
    enlarged = NegativeConfig(sides=(24, 384), side_spacing="logarithmic", magnification=(4, 4))
    assert {place(1, (256, 256), enlarged, generator).height for _ in range(100)} == {32, 64, 96, 128}


def test_only_the_chosen_samples_are_recoloured() -> None:
    made = objective()
    colouring = Colouring.draw(2, torch.Generator().manual_seed(0))
    draw = replace(a_draw(made), colouring=colouring, coloured=torch.tensor([False, True]))
    samples = 255 * torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    found = draw.colours(samples)
    assert torch.equal(found[0], samples[0])
    assert torch.equal(found[1], within_range(colouring.apply(samples))[1])
    assert torch.equal(draw.part(slice(1, 2)).colours(samples[1:]), found[1:])


def test_colours_for_what_is_no_sample_are_refused() -> None:
    with pytest.raises(ValueError, match="recolour is for the source flow; source is 'noise'"):
        NegativeConfig(source="noise", recolour=0.5)
    with pytest.raises(ValueError, match="shuffle_channels is for the sources flow, crops and folder"):
        NegativeConfig(source="textures", shuffle_channels=0.5)
    with pytest.raises(ValueError, match=r"shuffle_channels is 2.0; it must be from 0 to 1"):
        NegativeConfig(shuffle_channels=2.0)
    with pytest.raises(ValueError, match=r"recolour is 1.5; it must be from 0 to 1"):
        NegativeConfig(recolour=1.5)
    with pytest.raises(ValueError, match=r"faded is 1.1; it must be from 0 to 1"):
        NegativeConfig(faded=1.1)
    with pytest.raises(ValueError, match=r"faces is -0.1; it must be from 0 to 1"):
        NegativeConfig(recolour=1.0, faces=-0.1)
    with pytest.raises(ValueError, match="faces is a share of the recoloured samples; give recolour as well"):
        NegativeConfig(faces=0.5)
    with pytest.raises(ValueError, match=r"neutral is 1.5; it must be from 0 to 1"):
        NegativeConfig(recolour=1.0, neutral=1.5)
    with pytest.raises(ValueError, match="neutral is a share of the recoloured samples; give recolour as well"):
        NegativeConfig(neutral=0.5)


def test_textures_are_varied_and_within_the_cameras_range() -> None:
    textures = procedural_textures(16, 48, 72, torch.Generator().manual_seed(0))
    assert textures.shape == (16, 3, 48, 72)
    assert 0 <= float(textures.min()) <= float(textures.max()) <= 255
    colours = textures.mean(dim=(2, 3))
    assert float(colours.std(dim=0).min()) > 20
    again = procedural_textures(16, 48, 72, torch.Generator().manual_seed(0))
    assert torch.equal(textures, again)


def test_shuffled_channels_are_the_same_channels_in_another_order() -> None:
    patches = torch.arange(3.0)[None, :, None, None].expand(20, 3, 2, 2)
    orders = channel_orders(20, 1.0, torch.Generator().manual_seed(0))
    shuffled = channels_shuffled(patches, orders)[:, :, 0, 0]
    assert torch.equal(shuffled.sort(dim=1).values, torch.arange(3.0).expand(20, 3))
    assert not bool((shuffled == torch.arange(3.0)).all(dim=1).any())
    some = channel_orders(1000, 0.3, torch.Generator().manual_seed(0))
    assert 600 < int((some == torch.arange(3)).all(dim=1).sum()) < 800


def test_cutting_to_the_cameras_range_does_not_cut_the_gradient() -> None:
    values = torch.tensor([-20.0, 100.0, 300.0], requires_grad=True)
    cut = within_range(values)
    assert cut.tolist() == [0, 100, 255]
    scaled_gradient(cut, 0.5).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.5, 0.5, 0.5]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Data, and a pre-trained segmenter and flow."""
    folder = tmp_path_factory.mktemp("joint")
    tree = write_camvid(folder / "camvid")
    segmenter = {k: v for k, v in joint_config(name="seg").items() if k not in ("negatives", "flow", "flow_optimiser")}
    flow = {
        "name": "flow",
        "epochs": 2,
        "flow": FLOW,
        "augmentation": {"crop": [32, 32]},
        "validation_crops": 4,
        **SHARED,
    }
    for run, config, program in (("seg", segmenter, train_segmenter), ("flow", flow, train_flow)):
        (folder / f"{run}.yaml").write_text(yaml.safe_dump(config))
        arguments = ["--config", str(folder / f"{run}.yaml"), "--data", str(tree), "--out", str(folder / run)]
        assert program([*arguments, "--accelerator", "cpu"]) == 0
    return tree, folder / "seg" / "best.pt", folder / "flow" / "best.pt"


def joint_arguments(trained: tuple[Path, Path, Path], folder: Path, **changes: Any) -> list[str]:
    tree, segmenter, flow = trained
    (folder / "joint.yaml").write_text(yaml.safe_dump(joint_config(**changes)))
    arguments = ["--config", str(folder / "joint.yaml"), "--data", str(tree), "--out", str(folder / "run")]
    return [*arguments, "--accelerator", "cpu", "--segmenter", str(segmenter), "--flow", str(flow)]


def test_the_flow_learns_and_its_likelihood_is_logged(trained: tuple[Path, Path, Path]) -> None:
    history = load_checkpoint(trained[2])["progression"]["history"]
    assert history[-1]["bits_per_dim"] < history[0]["bits_per_dim"]
    assert history[0].keys() == {"epoch", "L_mle", "bits_per_dim"}


def test_a_folder_in_place_of_the_flows_checkpoint_is_refused(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, segmenter, flow = trained
    assert train_joint(joint_arguments((tree, segmenter, flow.parent), tmp_path)) == 2
    assert f"{flow.parent}: is no file; give a checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "negatives": {
                "recolour": 0.5,
                "faces": 0.5,
                "shape": "varied",
                "edges": "soft",
                "faded": 0.5,
                "shuffle_channels": 0.5,
                "initial_flow_share": 0.5,
            }
        },
    ],
)
def test_joint_training_in_bf16_leaves_the_flow_in_single_precision(
    changes: dict[str, Any], trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    histories = []
    for precision in ("32-true", "bf16-mixed"):
        (tmp_path / precision).mkdir()
        assert train_joint([*joint_arguments(trained, tmp_path / precision, **changes), "--precision", precision]) == 0
        histories.append(load_checkpoint(tmp_path / precision / "run" / "last.pt")["progression"]["history"])
    single, mixed = (history[0] for history in histories)
    assert mixed["L_mle"] == pytest.approx(single["L_mle"], rel=1e-3)
    assert mixed["L_cls"] == pytest.approx(single["L_cls"], rel=0.05)
    assert mixed["L_jsd"] == pytest.approx(single["L_jsd"], rel=0.2)


@pytest.mark.parametrize("slow", [True, False])
def test_a_run_whose_steps_wait_for_crops_says_so(
    slow: bool,
    trained: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Loader(DataLoader[Any]):
        def __iter__(self) -> Any:
            # All crops are made before the first step, or each only after a pause.
            for batch in list(super().__iter__()):
                time.sleep(1.0 if slow else 0.0)
                yield batch

    monkeypatch.setattr(training_run, "DataLoader", Loader)
    assert train_joint(joint_arguments(trained, tmp_path, epochs=1, passes_per_epoch=4)) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert ("the steps waited for crops" in shown) == slow
    assert ("data.workers is 0: more processes make them faster" in shown) == slow


def test_joint_training_trains_both_and_exports(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    from ros_ood_perception.bundle.model_bundle import read_bundle

    assert train_joint(joint_arguments(trained, tmp_path)) == 0
    saved = load_checkpoint(tmp_path / "run" / "last.pt")
    before, flow_before = load_checkpoint(trained[1]), load_checkpoint(trained[2])
    assert any(not torch.equal(saved["segmenter"][k], v) for k, v in before["exported"].items())
    assert any(not torch.equal(saved["flow"][k], v) for k, v in flow_before["flow"].items())
    for name, value in saved["segmenter"].items():
        if "running_" in name:
            assert torch.equal(value, before["exported"][name]), f"{name}: batch statistics are frozen"
    assert saved["command"].count("python -m training.") == 3
    assert saved["command"].endswith("--segmenter CHECKPOINT --flow CHECKPOINT")
    assert {"L_cls", "L_mle", "L_jsd", "mIoU", "negative_AP"} <= set(saved["progression"]["history"][0])
    assert export([str(tmp_path / "run" / "last.pt"), str(tmp_path / "bundle"), "--data", str(trained[0])]) == 0
    assert "train_joint" in read_bundle(tmp_path / "bundle").description.training.command


@pytest.mark.parametrize("initial_flow_share", [0.0, 0.5])
def test_a_resumed_joint_run_has_the_numbers_of_an_uninterrupted_one(
    initial_flow_share: float, trained: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.joint.trainer import JointTrainer

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    negatives = {"initial_flow_share": initial_flow_share}
    assert train_joint(joint_arguments(trained, whole, negatives=negatives)) == 0
    close_epoch = JointTrainer._close_epoch

    def interrupt_after_one(self: JointTrainer, *arguments: Any) -> None:
        close_epoch(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(JointTrainer, "_close_epoch", interrupt_after_one)
    assert train_joint(joint_arguments(trained, parts, negatives=negatives)) == 130
    monkeypatch.undo()
    assert train_joint([*joint_arguments(trained, parts, negatives=negatives), "--resume"]) == 0
    a, b = (load_checkpoint(folder / "run" / "last.pt") for folder in (whole, parts))
    assert a["progression"]["history"] == b["progression"]["history"]
    for part in ("segmenter", "flow"):
        assert all(torch.equal(value, b[part][name]) for name, value in a[part].items())


@pytest.mark.parametrize(
    "changes",
    [
        {"negatives": {"source": "noise"}},
        {"negatives": {"source": "crops", "shape": "blob"}},
        {"negatives": {"source": "crops", "shuffle_channels": 0.7}},
        {"negatives": {"source": "textures"}},
        {"negatives": {"source": "none"}},
        {"negatives": {"train_flow": False}},
        {"divergence": "kullback_leibler"},
    ],
    ids=["noise", "crops", "crops in other colours", "textures", "nothing", "frozen flow", "KL"],
)
def test_what_is_there_for_comparison_runs(
    changes: dict[str, Any], trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    assert train_joint(joint_arguments(trained, tmp_path, epochs=1, **changes)) == 0
    saved = load_checkpoint(tmp_path / "run" / "last.pt")
    flow_moved = any(not torch.equal(saved["flow"][k], v) for k, v in load_checkpoint(trained[2])["flow"].items())
    assert flow_moved == ("divergence" in changes)


def test_crops_of_other_images_need_other_images(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_joint(joint_arguments(trained, tmp_path, batch_size=1, negatives={"source": "crops"})) == 2
    assert "batch_size 1 leaves each process one image" in capsys.readouterr().err


def test_validation_frames_may_differ_in_size(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    tree = Path(shutil.copytree(trained[0], tmp_path / "camvid"))
    for part in ("images", "labels"):
        for number in (0, 4):
            path = tree / "val" / part / f"val_{number:03d}.png"
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(path), cv2.resize(image, (100, 64 + number), interpolation=cv2.INTER_NEAREST))
    assert train_joint(joint_arguments((tree, *trained[1:]), tmp_path, epochs=1)) == 0
    assert 0 < load_checkpoint(tmp_path / "run" / "last.pt")["progression"]["history"][0]["negative_AP"] <= 1


def test_a_folder_of_real_negatives(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder = str(trained[0] / "val" / "images")
    assert (
        train_joint(joint_arguments(trained, tmp_path, epochs=1, negatives={"source": "folder", "folder": folder})) == 0
    )


def test_nothing_pasted_is_cross_entropy_alone(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    assert train_joint(joint_arguments(trained, tmp_path, epochs=1, negatives={"source": "none"})) == 0
    [losses] = load_checkpoint(tmp_path / "run" / "last.pt")["progression"]["history"]
    assert losses["L_jsd"] == losses["L_mle"] == 0
    assert losses["L_cls"] > 0


def test_joint_training_starts_from_a_bundle_and_keeps_what_it_knows(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    assert export([str(trained[1]), str(bundle)]) == 0
    # A learning rate that moves nothing: what is exported again is what was there.
    still = {"epochs": 1, "optimiser": {"learning_rate": 1e-12, "warmup_steps": 1}, "ema_decay": 0.0}
    arguments = joint_arguments(trained, tmp_path, **still)
    arguments[arguments.index("--segmenter") + 1] = str(bundle)
    assert train_joint(arguments) == 0
    again = tmp_path / "again"
    assert export([str(tmp_path / "run" / "last.pt"), str(again)]) == 0
    image = np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3), np.uint8)
    before, after = (open_engine(read_bundle(folder), "onnxruntime").run(image) for folder in (bundle, again))
    np.testing.assert_allclose(after.anomaly_score, before.anomaly_score, atol=1e-4)

    (tmp_path / "other").mkdir()
    arguments = joint_arguments(trained, tmp_path / "other", frozen_batch_norm=False)
    arguments[arguments.index("--segmenter") + 1] = str(bundle)
    assert train_joint(arguments) == 2
    assert "set frozen_batch_norm: true" in capsys.readouterr().err


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


def test_joint_training_keeps_the_initial_flow_as_it_was(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    assert train_joint(joint_arguments(trained, tmp_path, epochs=1, negatives={"initial_flow_share": 0.5})) == 0
    saved, before = load_checkpoint(tmp_path / "run" / "last.pt"), load_checkpoint(trained[2])["flow"]
    assert all(torch.equal(saved["initial_flow"][name], value) for name, value in before.items())
    assert any(not torch.equal(saved["flow"][name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial_flow_share": 1.5}, "initial_flow_share is 1.5; it must be from 0 to 1"),
        ({"initial_flow_share": 0.5, "train_flow": False}, "initial_flow_share is for a flow that learns"),
        ({"initial_flow_share": 0.5, "source": "noise"}, "initial_flow_share is for a flow that learns"),
    ],
)
def test_an_initial_flow_where_none_learns_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NegativeConfig(**settings)


def test_a_missing_checkpoint_is_asked_for(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = joint_arguments(trained, tmp_path)
    assert train_joint(arguments[: arguments.index("--flow")]) == 2
    assert "give --flow: joint training starts from pre-trained checkpoints" in capsys.readouterr().err
    swapped = joint_arguments(trained, tmp_path)
    swapped[swapped.index("--flow") + 1] = str(trained[1])
    assert train_joint(swapped) == 2
    assert "holds no flow (it is of a segmenter run)" in capsys.readouterr().err


def test_micro_batches_take_the_step_of_the_batch(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    results = []
    for parts in (1, 2):
        folder = tmp_path / str(parts)
        folder.mkdir()
        changes = {
            "accumulation_steps": parts,
            "negatives": {"recolour": 0.5, "shuffle_channels": 0.7, "initial_flow_share": 0.5},
        }
        assert train_joint(joint_arguments(trained, folder, epochs=1, **changes)) == 0
        results.append(load_checkpoint(folder / "run" / "last.pt"))
    one, two = results
    # How a batch is divided shapes no result: a run may go on with other numbers of micro-batches.
    assert one["config_digest"] == two["config_digest"]
    assert_same_training(one, two)


def test_two_processes_under_torchrun_take_the_step_of_one(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Each with two micro-batches."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    negatives = {"recolour": 0.5, "shuffle_channels": 0.7, "initial_flow_share": 0.5}
    assert train_joint(joint_arguments(trained, one, epochs=1, negatives=negatives)) == 0
    arguments = joint_arguments(trained, two, epochs=1, accumulation_steps=2, negatives=negatives)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    log = run_program([*launcher, "-m", "training.train_joint", *arguments])
    assert log.count("epoch    1/1") == 1, "processes that know of each other log once"
    assert_same_training(*(load_checkpoint(folder / "run" / "last.pt") for folder in (one, two)))


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def run_program(arguments: list[str]) -> str:
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def assert_same_training(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Same losses and same weights after an epoch, up to the order of floating-point sums."""
    a, b = (saved["progression"]["history"][0] for saved in (one, other))
    # Both logged figures are those of the whole batch.
    assert {name: b[name] for name in a} == {name: pytest.approx(value, rel=1e-3) for name, value in a.items()}
    for part in ("segmenter", "flow"):
        for name, value in one.get(part, {}).items():
            if value.is_floating_point():
                torch.testing.assert_close(other[part][name], value, rtol=1e-3, atol=2e-5, msg=f"{part}.{name}")


def flow_arguments(tree: Path, folder: Path, **changes: Any) -> list[str]:
    config = {"name": "flow", "flow": FLOW, "augmentation": {"crop": [32, 32]}, "validation_crops": 4, **SHARED}
    folder.mkdir()
    (folder / "flow.yaml").write_text(yaml.safe_dump({**config, "epochs": 1, **changes}))
    arguments = ["--config", str(folder / "flow.yaml"), "--data", str(tree), "--out", str(folder / "run")]
    return [*arguments, "--accelerator", "cpu"]


def test_a_flow_is_pre_trained_the_same_in_two_processes_and_in_micro_batches(
    trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """From the activation norms' first statistics on, and with noise channels."""
    assert train_flow(flow_arguments(trained[0], tmp_path / "one")) == 0
    assert train_flow(flow_arguments(trained[0], tmp_path / "parts", accumulation_steps=4)) == 0
    arguments = flow_arguments(trained[0], tmp_path / "two")
    run_program(["-m", "training.train_flow", *arguments, "--devices", "2"])
    one, parts, two = (load_checkpoint(tmp_path / name / "run" / "last.pt") for name in ("one", "parts", "two"))
    assert_same_training(one, parts)
    assert_same_training(one, two)


def test_a_batch_that_cannot_be_divided_is_refused(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_flow(flow_arguments(trained[0], tmp_path / "run", accumulation_steps=3)) == 2
    assert "batch_size 4 cannot be shared by 1 process(es) in 3 micro-batch(es) each" in capsys.readouterr().err


def test_options_that_contradict_torchrun_are_refused(
    trained: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    assert train_flow([*flow_arguments(trained[0], tmp_path / "run"), "--devices", "1"]) == 2
    assert "torchrun started 2 process(es) on each of 3 host(s)" in capsys.readouterr().err
