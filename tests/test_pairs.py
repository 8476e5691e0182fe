"""Pairs, splits, batches and the disk."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from digitpairs.checks import DigitPairsWarning, InvalidValueError
from digitpairs.data import DiskDataModule, PairDataModule, draw_pairs
from digitpairs.data.batches import TrainLoader
from digitpairs.data.disk import Points
from digitpairs.data.sources import Digits
from digitpairs.streams import PURPOSES, stream


def digits_of(count: int) -> Digits:
    """Images that show their own number, so that a pair tells which images it was made of."""
    numbers = torch.arange(count)
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    images[:, 0, 0], images[:, 0, 2] = (numbers % 256).byte(), (numbers // 256).byte()
    return Digits(images, numbers % 10)


def numbers_in(images: torch.Tensor) -> torch.Tensor:
    return ((images[..., 0, 0] + 256 * images[..., 0, 1]) * 4 * 255).round().long()


@settings(deadline=None, max_examples=40)
@given(available=st.integers(2, 400), count=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_drawn_pairs(available, count, seed):
    pairs = draw_pairs(digits_of(available), count, stream(seed, "data")).take(slice(None))
    assert pairs.images.shape == (count, 2, 14, 14)
    shown = numbers_in(pairs.images)
    assert torch.equal(shown % 10, pairs.digits)
    assert torch.equal(pairs.target, torch.tensor([int(a <= b) for a, b in pairs.digits.tolist()]))
    a_pass = available // 2 if 2 * count > available else count
    for first in range(0, count, a_pass):  # within a pass over the images, none occurs twice
        block = shown[first : first + a_pass].flatten().tolist()
        assert len(set(block)) == len(block)


def test_prior_of_the_target():
    """45 of 100 pairs of uniform digits have the first above the second."""
    target = draw_pairs(digits_of(20_000), 10_000, stream(0, "data")).take(slice(None)).target
    assert abs(target.double().mean().item() - 0.55) < 4 * math.sqrt(0.55 * 0.45 / 10_000)


def test_streams_differ_by_seed_and_purpose_and_start_anew():
    draws = {
        (seed, purpose): torch.rand(4, generator=stream(seed, purpose)).tolist()
        for seed in range(50)
        for purpose in PURPOSES
    }
    assert len({tuple(draw) for draw in draws.values()}) == len(draws)
    assert torch.rand(4, generator=stream(7, "order")).tolist() == draws[7, "order"]


def test_the_same_seed_draws_the_same_pairs_and_another_does_not(
    mnist_like, global_generator_untouched
):
    def drawn(**settings):
        module = PairDataModule("mnist", mnist_like, pairs=20, test_pairs=10, **settings)
        module.setup()
        (epoch,) = module.train_dataloader()
        return module.train_set.images, module.test_set.images, next(epoch.minibatches()).images

    same = [torch.equal(a, b) for a, b in zip(drawn(seed=3), drawn(seed=3))]
    other = [torch.equal(a, b) for a, b in zip(drawn(seed=3), drawn(seed=4))]
    pinned = [torch.equal(a, b) for a, b in zip(drawn(seed=3), drawn(seed=3, order_seed=9))]
    assert (same, other, pinned) == ([True] * 3, [False] * 3, [True, True, False])


def test_pixels_can_be_left_as_they_are(mnist_like):
    expected = {False: (0.0, 1.0), "bytes": (0.0, 1 / 255)}
    for normalise, mean_and_std in expected.items():
        datamodule = PairDataModule(
            "mnist", mnist_like, pairs=10, test_pairs=5, normalise=normalise
        )
        datamodule.setup()
        assert datamodule.mean_and_std == mean_and_std
    for other in ("byte", 1, [True], None):
        with pytest.raises(
            InvalidValueError, match="normalise=.* is not accepted: true, false or bytes"
        ):
            PairDataModule("mnist", mnist_like, normalise=other)


def test_folds_partition_the_pairs(mnist_like):
    held_out, trained = [], []
    for fold in range(3):
        module = PairDataModule("mnist", mnist_like, pairs=20, folds=3, fold=fold)
        module.setup()
        held_out.append(module.validation_set.indices)
        trained.append(len(module.train_set.indices))
    whole = PairDataModule("mnist", mnist_like, pairs=20)
    whole.setup()
    assert torch.equal(torch.cat(held_out), whole.train_set.indices)
    assert sum(trained) == 2 * 20


def test_validation_pairs_are_not_trained_on_and_not_normalised_by(mnist_like):
    module = PairDataModule("mnist", mnist_like, pairs=20, validation=0.25)
    module.setup()
    assert (len(module.train_set.indices), len(module.validation_set.indices)) == (15, 5)
    assert set(module.train_set.indices.flatten().tolist()).isdisjoint(
        module.validation_set.indices.flatten().tolist()
    )
    pixels = module.train_set.take(slice(None)).images.double()
    mean, std = module.mean_and_std
    assert (mean, std) == pytest.approx((pixels.mean().item(), pixels.std().item()), rel=1e-5)
    assert PairDataModule("mnist", mnist_like, normalise=False).mean_and_std == (0, 1)


@pytest.mark.filterwarnings("ignore:.*paired more than once")
@pytest.mark.parametrize(
    "split", [{"validation": 0.2}, {"folds": 4, "fold": 0}, {"folds": 4, "fold": 3}]
)
def test_held_out_pairs_share_no_image_with_training_where_images_are_paired_again(
    mnist_like, split
):
    module = PairDataModule("mnist", mnist_like, pairs=200, **split)
    module.setup()
    sides = [
        {image.numpy().tobytes() for image in part.images[part.indices.unique()]}
        for part in (module.train_set, module.validation_set)
    ]
    assert sides[0].isdisjoint(sides[1]) and len(sides[0] | sides[1]) == 60
    held = round(200 * split.get("validation", 0.25))
    assert (len(module.train_set.indices), len(module.validation_set.indices)) == (200 - held, held)


def test_too_few_images_to_hold_out_are_said_before_anything_is_drawn(mnist_like):
    with pytest.raises(
        InvalidValueError,
        match="validation=1 pairs is not accepted: as many as leave two of the 60 images",
    ):
        PairDataModule(
            "mnist", mnist_like, pairs=200, test_pairs=10, validation=0.005
        ).prepare_data()


def test_the_test_pairs_do_not_depend_on_the_training_pairs(mnist_like):
    few, many = (PairDataModule("mnist", mnist_like, pairs=pairs) for pairs in (5, 25))
    few.setup(), many.setup()
    assert torch.equal(few.test_set.images, many.test_set.images)


def test_more_pairs_than_images_are_said(mnist_like):
    module = PairDataModule("mnist", mnist_like, pairs=200)
    with pytest.warns(
        DigitPairsWarning, match="200 training pairs need 400 distinct images, mnist has 60"
    ):
        module.setup()
    assert len(module.train_set.indices) == 200 and len(module.train_set.images) == 60


def test_test_pairs_never_share_an_image(mnist_like):
    module = PairDataModule("mnist", mnist_like, pairs=2)
    module.prepare_data()
    module.setup()
    assert len(module.test_set.indices.unique()) == 40  # all the test images there are
    with pytest.raises(InvalidValueError, match="test_pairs=21 is not accepted: at most 20"):
        PairDataModule("mnist", mnist_like, test_pairs=21).prepare_data()


@pytest.mark.parametrize(
    "count, batch_size", [(10, 3), (10, 10), (10, 50), (25_000, 100), (3, 20_000)]
)
def test_an_epoch_has_every_row_once_in_batches_of_the_size(count, batch_size):
    numbers = Points(torch.arange(count), torch.zeros(count))
    loader = TrainLoader(numbers, count, batch_size, stream(0, "order"))
    epochs = [[batch.inputs for epoch in loader for batch in epoch.minibatches()] for _ in range(2)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [batch_size] * (count // batch_size) + [
            count % batch_size
        ] * (count % batch_size > 0)
        assert torch.equal(torch.cat(batches).sort().values, torch.arange(count))
        assert len(batches) == loader.steps_per_epoch
    assert count < 10 or not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    assert len(loader) == len(list(loader)) == 1


@pytest.mark.parametrize(
    "key, value",
    [
        ("source", "cifar"), ("pairs", 1), ("pairs", "many"), ("test_pairs", 0), ("validation", 1.0), ("validation", -0.1),
        ("folds", 1), ("fold", 1), ("batch_size", 0), ("batch_size", 2.5), ("batch_size", True), ("normalise", 1),
        ("seed", -1), ("seed", 2**32), ("order_seed", "x"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(key, value):
    with pytest.raises(InvalidValueError) as caught:
        PairDataModule(**{key: value})
    assert str(caught.value).startswith(f"{key}={value} is not accepted: ")


def test_disk():
    module = DiskDataModule(points=20_000, test_points=100, outside=-1, batch_size=64, seed=1)
    module.setup()
    inputs, target = module.train_set
    inside = [math.hypot(x - 0.5, y - 0.5) < math.sqrt(0.5 / math.pi) for x, y in inputs.tolist()]
    assert target.flatten().tolist() == [1.0 if each else -1.0 for each in inside]
    assert abs(sum(inside) / len(inside) - 0.5) < 4 * 0.5 / math.sqrt(20_000)
    assert (
        sum(
            len(batch.target)
            for epoch in module.train_dataloader()
            for batch in epoch.minibatches()
        )
        == 20_000
    )
    with pytest.raises(InvalidValueError, match="outside=2"):
        DiskDataModule(outside=2)
