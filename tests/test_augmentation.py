"""Augmentation compared with torchvision's affine transform, and its invariants."""

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


def make_batch(count: int = 50) -> Pairs:
    generator = stream(0, "data")
    digits = torch.randint(10, (count, 2), generator=generator)
    return Pairs(torch.rand(count, 2, 14, 14, generator=generator), digits, less_or_equal(digits))


@pytest.mark.parametrize("angle", [0, 20, -35])
@pytest.mark.parametrize("shear", [0, 15])
@pytest.mark.parametrize("scale", [1, 0.8, 1.3])
@pytest.mark.parametrize("shift", [(0, 0), (3, -2)])
def test_affine_agrees_with_torchvision(angle, shear, scale, shift):
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


def draw_displacements(count: int, **settings) -> torch.Tensor:
    """How far each pixel of random grids is from its place, in pixels, (count, 14, 14, 2)."""
    grid = Augmentation(**settings).draw_grid(count, 14, stream(0, "augmentation"))
    identity = Augmentation().draw_grid(1, 14, stream(0, "augmentation"))
    return (grid - identity) * 7


def test_shifts_have_the_given_bounds():
    pixels = draw_displacements(4000, shift=2)[:, 0, 0]
    assert 1.95 < pixels.abs().max() <= 2 + 1e-5
    assert pixels.mean(0).abs().max() < 0.1


def test_the_elastic_field_is_smooth_and_bounded():
    field = draw_displacements(200, elastic=2)
    assert 1.9 < field.abs().max() <= 2 + 1e-5
    steepest = 2 * 2 * 3 / 13  # from one bound to the other over a third of the image
    assert field.diff(dim=1).abs().max() <= steepest + 1e-5


def test_without_settings_nothing_changes():
    batch = make_batch()
    assert not Augmentation()
    unchanged = Augmentation()(batch, stream(0, "augmentation"))
    assert all(torch.equal(a, b) for a, b in zip(unchanged, batch))


def test_swap_keeps_ties_and_recomputes_the_target():
    batch = make_batch(500)
    swapped = swap_images(batch, torch.ones(500, dtype=torch.bool))
    assert torch.equal(swapped.images[:, 0], batch.images[:, 1])
    first, second = batch.digits.unbind(1)
    assert torch.equal(swapped.target, (second <= first).long())
    assert (swapped.target[first == second] == 1).all()
    half = Augmentation(swap=0.5)(batch, stream(0, "augmentation"))
    share = (half.images[:, 0] == batch.images[:, 1]).all(-1).all(-1).double().mean()
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(500)


def test_the_changes_depend_only_on_the_stream(global_generator_untouched):
    augment = Augmentation(shift=1, rotation=10, scale=0.1, shear=5, elastic=1, swap=0.5)
    one, same, other = (augment(make_batch(), stream(seed, "augmentation")) for seed in (1, 1, 2))
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
def test_invalid_settings_are_refused(key, value):
    with pytest.raises(InvalidValueError, match=f"^{key}="):
        Augmentation(**{key: value})
