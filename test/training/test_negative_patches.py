"""What is pasted into the training images: place, outline, colours, edges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_joint_training import (
    a_draw,
    objective,
)
from torch.nn import functional

from training.joint.colouring import LARGEST_STEP, Colouring, Faces, channel_orders, channels_shuffled
from training.joint.gradients import scaled_gradient, within_range
from training.joint.negative_config import NegativeConfig
from training.joint.negative_draw import PlacedBatch
from training.joint.placement import Placement, foot, outline, place, polygons, standing
from training.joint.procedural_textures import procedural_textures
from training.joint.sources import negative_source


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


def test_patches_stand_on_the_ground_near_and_far() -> None:
    """In each image the ground is one row of its own far ahead, wide nearby; one image has none with room above it."""
    ground = torch.zeros(100, 64, 96, dtype=torch.bool)
    ground[:, 30, 50] = ground[:, 50:, 20:80] = True
    ground[7:9] = False
    ground[8, :10] = True
    config = NegativeConfig(sides=(192, 300), shape="varied")
    placed = place(200, (64, 96), config, torch.Generator().manual_seed(0))
    found = standing(placed, ground, slice(50, 150), 1.0, torch.Generator().manual_seed(1))
    moved = torch.tensor([50 + i for i in range(100) if i not in (7, 8)])
    stayed = torch.tensor([i for i in range(200) if i not in moved])
    assert torch.equal(found.top[stayed], placed.top[stayed])
    assert torch.equal(found.left[stayed], placed.left[stayed])
    own_feet = torch.tensor([foot(inside) for inside in found.inside])
    feet = found.top + own_feet[:, 0], found.left + own_feet[:, 1]
    mask = found.mask((64, 96))
    assert bool(mask[torch.arange(200), feet[0], feet[1]].all())
    assert not any(bool(one[row + 1 :].any()) for one, row in zip(mask, feet[0].tolist(), strict=True))
    assert bool(ground[moved - 50, feet[0][moved], feet[1][moved]].all())
    assert bool(((found.left >= 0) & (found.left + found.width <= 96)).all())
    assert bool(((found.top >= 0) & (found.top + found.height <= 64)).all())
    assert 1 <= int((feet[0][moved] == 30).sum()) <= 20, "one row of fifteen, though it has one pixel of 841"
    half = standing(placed, ground, slice(50, 150), 0.5, torch.Generator().manual_seed(1))
    assert 30 < int((half.top[moved] != placed.top[moved]).sum()) < 70


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
    with pytest.raises(ValueError, match=r"standing is 1.1; it must be from 0 to 1"):
        NegativeConfig(standing=1.1)
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
