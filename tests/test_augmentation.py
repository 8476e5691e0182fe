"""Augmentation against torchvision's affine transform, and against what must not change."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine as torchvision_affine

from digitpairs.checks import InvalidValueError
from digitpairs.data import Augmentation, Pairs
from digitpairs.data.augmentation import affine, resample, swap_images
from digitpairs.data.pairs import less_or_equal
from digitpairs.streams import stream


def a_batch(count: int = 50) -> Pairs:
    generator = stream(0, "data")
    digits = torch.randint(10, (count, 2), generator=generator)
    return Pairs(torch.rand(count, 2, 14, 14, generator=generator), digits, less_or_equal(digits))


@pytest.mark.parametrize("angle", [0, 20, -35])
@pytest.mark.parametrize("shear", [0, 15])
@pytest.mark.parametrize("scale", [1, 0.8, 1.3])
@pytest.mark.parametrize("shift", [(0, 0), (3, -2)])
def test_affine_moves_as_torchvision_does(angle, shear, scale, shift):
    image = torch.rand(1, 14, 14, generator=stream(0, "data"))
    theta = affine(
        torch.tensor([math.radians(angle)]),
        torch.tensor([math.radians(shear)]),
        torch.tensor([float(scale)]),
        torch.tensor([shift]) * 2 / 14,
    )
    ours = resample(image, F.affine_grid(theta, (1, 1, 14, 14), align_corners=False))
    theirs = torchvision_affine(
        image, angle, list(shift), scale, [shear, 0.0], interpolation=InterpolationMode.BILINEAR
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_bounds_hold_and_are_reached():
    grid = Augmentation(shift=2).draw_grid(4000, 14, stream(0, "augmentation"))
    still = Augmentation().draw_grid(1, 14, stream(0, "augmentation"))
    pixels = (grid - still)[:, 0, 0] * 7
    assert 1.95 < pixels.abs().max() <= 2 + 1e-5
    assert pixels.mean(0).abs().max() < 0.1


def test_elastic_is_smooth_and_bounded():
    still = Augmentation().draw_grid(1, 14, stream(0, "augmentation"))
    field = (Augmentation(elastic=2).draw_grid(200, 14, stream(0, "augmentation")) - still) * 7
    assert 1.9 < field.abs().max() <= 2 + 1e-5
    assert (
        field.diff(dim=1).abs().max() <= 2 * 2 * 3 / 13 + 1e-5
    )  # from one end to the other over a third of the image


def test_nothing_asked_changes_nothing():
    batch = a_batch()
    assert not Augmentation()
    assert all(
        torch.equal(a, b) for a, b in zip(Augmentation()(batch, stream(0, "augmentation")), batch)
    )


def test_swap_keeps_ties_and_recomputes_the_target():
    batch = a_batch(500)
    swapped = swap_images(batch, torch.ones(500, dtype=torch.bool))
    assert torch.equal(swapped.images[:, 0], batch.images[:, 1])
    first, second = batch.digits.unbind(1)
    assert torch.equal(swapped.target, (second <= first).long())
    assert (swapped.target[first == second] == 1).all()
    half = Augmentation(swap=0.5)(batch, stream(0, "augmentation"))
    share = (half.images[:, 0] == batch.images[:, 1]).all(-1).all(-1).double().mean()
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(500)


def test_the_stream_alone_decides(global_generator_untouched):
    every = Augmentation(shift=1, rotation=10, scale=0.1, shear=5, elastic=1, swap=0.5)
    one, same, other = (every(a_batch(), stream(seed, "augmentation")) for seed in (1, 1, 2))
    assert torch.equal(one.images, same.images) and not torch.equal(one.images, other.images)


@pytest.mark.parametrize(
    "key, value",
    [
        ("shift", -1),
        ("rotation", 181),
        ("scale", 1),
        ("shear", 90),
        ("swap", 1.1),
        ("elastic", "x"),
    ],
)
def test_bad_settings_are_named(key, value):
    with pytest.raises(InvalidValueError, match=f"^{key}="):
        Augmentation(**{key: value})
