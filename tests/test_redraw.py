"""Pairs that are drawn anew in every epoch: their images, labels, chances, streams and refusals."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from digitpairs.data import PairDataModule, PairDataModuleArray, draw_pairs
from digitpairs.data.pairs import PairSet
from digitpairs.streams import stream
from tests.arguments import DIGITS, DISK, assert_refused
from tests.test_pairs import numbered_digits, numbers_in

pytestmark = pytest.mark.filterwarnings("ignore:.* training pairs need")


def module_of(mnist_like, **changes) -> PairDataModule:
    module = PairDataModule("mnist", mnist_like, **{"pairs": 20, "test_pairs": 10} | changes)
    module.setup()
    return module


def epochs_of(module, count: int = 3) -> list[PairSet]:
    """The pairs of each epoch, in their order."""
    loader, epochs = module.train_dataloader(), []
    for _ in range(count):
        (epoch,) = loader
        axis = epoch.order.dim() - 1
        ordered = epoch.rows.indices.take_along_dim(epoch.order[..., None], axis)
        epochs.append(epoch.rows._replace(indices=ordered))
    return epochs


@settings(deadline=None, max_examples=40)
@given(available=st.integers(2, 60), count=st.integers(1, 100), seed=st.integers(0, 2**32 - 1))
def test_new_pairs_have_the_same_images_as_often(available, count, seed):
    pairs = draw_pairs(numbered_digits(available), count, stream(seed, "data"))
    length = len(pairs.images) // 2
    anew = pairs.paired_anew([stream(seed, "order")], [length])
    assert torch.equal(anew.indices.flatten().sort().values, pairs.indices.flatten().sort().values)
    taken = anew.take(slice(None))
    shown = numbers_in(taken.images)
    assert torch.equal(shown % 10, taken.digits)
    assert torch.equal(taken.target, (shown[:, 0] % 10 <= shown[:, 1] % 10).long())
    for images, before in zip(anew.indices.split(length), pairs.indices.split(length)):
        assert len(images.unique()) == images.numel()  # in a pass, no image occurs twice
        assert set(images.flatten().tolist()) == set(before.flatten().tolist())


def test_every_pair_of_different_images_is_equally_likely():
    """Six images: 30 ordered pairs, each expected in a tenth of the epochs of three pairs."""
    pairs, epochs = draw_pairs(numbered_digits(6), 3, stream(0, "data")), 4000
    generator = stream(0, "order")
    drawn = Counter(
        tuple(pair)
        for _ in range(epochs)
        for pair in pairs.paired_anew([generator], [3]).indices.tolist()
    )
    assert len(drawn) == 30
    spread = (epochs * 0.1 * 0.9) ** 0.5
    assert all(abs(count - epochs / 10) < 5 * spread for count in drawn.values())


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_epochs_differ_and_all_else_stays(validation, mnist_like, global_generator_untouched):
    fixed = module_of(mnist_like, validation=validation)
    redrawn = module_of(mnist_like, validation=validation, redraw=True)
    for name in ("train_set", "validation_set", "test_set"):
        for one, other in zip(getattr(fixed, name), getattr(redrawn, name)):
            assert torch.equal(one, other)
    assert fixed.mean_and_std == redrawn.mean_and_std
    images = fixed.train_set.indices.flatten().sort().values
    kept, new = epochs_of(fixed), epochs_of(redrawn)
    sets = [{tuple(pair) for pair in epoch.indices.tolist()} for epoch in (*kept, *new)]
    assert sets[0] == sets[1] == sets[2]
    assert len({frozenset(each) for each in sets}) == 4
    for epoch in new:
        assert torch.equal(epoch.indices.flatten().sort().values, images)
        assert epoch.images is redrawn.train_set.images  # normalised once, see ComparisonModule


def test_new_pairs_follow_the_seed_of_the_order(mnist_like):
    def first(**seeds) -> list:
        return epochs_of(module_of(mnist_like, redraw=True, **seeds), 1)[0].indices.tolist()

    assert first(seed=0) == first(seed=0, augmentation_seed=5) != first(seed=0, order_seed=1)


def test_members_of_an_array_have_the_pairs_that_they_have_alone(mnist_like):
    """Also members that keep their pairs, and whose folds have other numbers of images."""
    changes = [{"redraw": True}, {}, {"redraw": True, "fold": 1}, {"redraw": True, "seed": 3}]
    modules = [module_of(mnist_like, **{"pairs": 99, "folds": 9} | each) for each in changes]
    assert len({module.pairs_of_pass for module in modules}) == 3
    array = PairDataModuleArray(modules)
    array.setup()
    for together, *alone in zip(epochs_of(array), *map(epochs_of, modules)):
        taken = together.take(slice(None))
        for member, epoch in enumerate(alone):
            for found, expected in zip(taken, epoch.take(slice(None))):
                assert torch.equal(found[member], expected)


@pytest.mark.parametrize(
    "base, argument, accepted",
    [
        (DIGITS, "data.redraw=2", "true or false"),
        (
            (*DIGITS, "model=siamese_mlp", "engine=framework"),
            "data.redraw=true",
            "false with engine=framework",
        ),
        (DISK, "+data.redraw=true", ""),
    ],
)
def test_new_pairs_that_cannot_be_drawn_are_refused(base, argument, accepted):
    assert_refused(base, argument, accepted)
