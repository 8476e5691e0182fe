"""Augmentation compared with torchvision's affine transform, and its invariants."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine as torchvision_affine

from digitpairs.checks import InvalidValueError
from digitpairs.data import Augmentation, Pairs
from digitpairs.data.augmentation import affine, augment, resample, sampling_grid, swap_images
from digitpairs.data.pairs import less_or_equal
from digitpairs.streams import stream


def make_batch(count: int = 50, seed: int = 0) -> Pairs:
    generator = stream(seed, "data")
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
    draws = Augmentation(**settings).draw(count // 2, stream(0, "augmentation"))
    nodes = None if draws.nodes is None else draws.nodes[None]
    (grid,) = sampling_grid(draws.matrices[None], nodes, [settings.get("elastic", 0.0)])
    identity = F.affine_grid(torch.eye(2, 3)[None], (1, 1, 14, 14), align_corners=False)
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


def changed_by_hand(pairs: Pairs, settings: dict, generator: torch.Generator) -> Pairs:
    """The changes of one member in their order; a setting of 0 draws nothing."""
    if settings.get("swap"):
        pairs = swap_images(pairs, torch.rand(len(pairs.target), generator=generator) < 0.3)
    images, n = pairs.images.flatten(0, 1), 2 * len(pairs.target)
    if any(settings.get(key) for key in ("shift", "rotation", "scale", "shear", "elastic")):
        shift, rotation, scale, shear = (
            settings.get(key, 0) for key in ("shift", "rotation", "scale", "shear")
        )
        draw = torch.rand(5, n, generator=generator) * 2 - 1
        angles = draw[0] * math.radians(rotation), draw[1] * math.radians(shear)
        theta = affine(*angles, 1 + draw[2] * scale, draw[3:].T * shift * (2 / 14))
        grid = F.affine_grid(theta, [n, 1, 14, 14], align_corners=False)
        if settings.get("elastic"):
            nodes = torch.rand(n, 2, 4, 4, generator=generator) * 2 - 1
            field = F.interpolate(nodes, (14, 14), mode="bilinear", align_corners=True)
            grid = grid + field.permute(0, 2, 3, 1) * settings["elastic"] * (2 / 14)
        images = resample(images, grid)
    if settings.get("erase"):
        side, images = settings["erase"], images.clone()
        for image, centre in zip(images, torch.randint(14, (n, 2), generator=generator)):
            top, left = (centre - side // 2).tolist()
            image[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 0
    return pairs._replace(images=images.view_as(pairs.images))


MIXED = [
    {
        "shift": 1,
        "rotation": 15,
        "scale": 0.1,
        "shear": 10,
        "elastic": 0.5,
        "swap": 0.3,
        "erase": 5,
    },
    {},
    {"rotation": 10, "erase": 4},
    {"swap": 0.3, "elastic": 1.5},
    {"erase": 14},
]


@pytest.mark.parametrize("members", [MIXED, MIXED[:1] * 3, MIXED[4:], MIXED[1:2], MIXED[3:4]])
@pytest.mark.parametrize("count", [1, 16, 25])
def test_an_array_changes_each_members_pairs_as_if_it_were_alone(members, count):
    pairs = [make_batch(count, seed) for seed in range(len(members))]
    streams = [[stream(seed, "augmentation") for seed in range(len(members))] for _ in range(3)]
    stacked = Pairs(*map(torch.stack, zip(*pairs)))
    array = augment(stacked, [Augmentation(**each) for each in members], streams[0])
    for i, (settings, own) in enumerate(zip(members, pairs)):
        alone = Augmentation(**settings)(own, streams[1][i])
        expected = changed_by_hand(own, settings, streams[2][i])
        for place in range(3):
            assert torch.equal(array[place][i], alone[place])
            assert torch.equal(alone[place], expected[place])
        states = [streams[use][i].get_state() for use in range(3)]
        assert torch.equal(states[0], states[1]) and torch.equal(states[0], states[2])


def test_squares_are_erased_anywhere_and_cut_at_the_border():
    """A square of 5 is whole if its centre is within 2 pixels of none of the borders."""
    batch = make_batch(2000)
    batch = batch._replace(images=torch.ones_like(batch.images))
    erased = Augmentation(erase=5)(batch, stream(0, "augmentation")).images == 0
    sizes = erased.flatten(0, 1).sum((1, 2))
    assert sizes.min() == 9 and sizes.max() == 25
    expected = (sum(min(14, c + 3) - max(0, c - 2) for c in range(14)) / 14) ** 2
    error = sizes.double().std() / len(sizes) ** 0.5
    assert abs(sizes.double().mean() - expected) < 4 * error
    assert erased.flatten(0, 1).any(0).all()


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
    settings = {"shift": 1, "rotation": 10, "scale": 0.1, "shear": 5, "elastic": 1, "swap": 0.5}
    change = Augmentation(**settings, erase=3)
    one, same, other = (change(make_batch(), stream(seed, "augmentation")) for seed in (1, 1, 2))
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
        ("erase", 15),
        ("erase", 1.5),
    ],
)
def test_invalid_settings_are_refused(key, value):
    with pytest.raises(InvalidValueError, match=f"^{key}="):
        Augmentation(**{key: value})
