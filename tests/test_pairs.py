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


def numbered_digits(count: int) -> Digits:
    """Images that encode their own number in two pixels, so that a pair shows its images."""
    numbers = torch.arange(count)
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    images[:, 0, 0], images[:, 0, 2] = (numbers % 256).byte(), (numbers // 256).byte()
    return Digits(images, numbers % 10)


def numbers_in(images: torch.Tensor) -> torch.Tensor:
    return ((images[..., 0, 0] + 256 * images[..., 0, 1]) * 4 * 255).round().long()


@settings(deadline=None, max_examples=40)
@given(available=st.integers(2, 400), count=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_drawn_pairs(available, count, seed):
    pairs = draw_pairs(numbered_digits(available), count, stream(seed, "data")).take(slice(None))
    assert pairs.images.shape == (count, 2, 14, 14)
    shown = numbers_in(pairs.images)
    assert torch.equal(shown % 10, pairs.digits)
    assert torch.equal(pairs.target, torch.tensor([int(a <= b) for a, b in pairs.digits.tolist()]))
    for images in shown.split(available // 2 if 2 * count > available else count):
        assert len(images.unique()) == images.numel()  # in a pass, no image occurs twice


def test_prior_of_the_target():
    """45 of 100 pairs of uniform digits have the first above the second."""
    target = draw_pairs(numbered_digits(20_000), 10_000, stream(0, "data")).take(slice(None)).target
    assert abs(target.double().mean().item() - 0.55) < 4 * math.sqrt(0.55 * 0.45 / 10_000)


def test_streams_depend_on_seed_and_purpose():
    draws = {
        (seed, purpose): torch.rand(4, generator=stream(seed, purpose)).tolist()
        for seed in range(50)
        for purpose in PURPOSES
    }
    assert len({tuple(draw) for draw in draws.values()}) == len(draws)
    assert torch.rand(4, generator=stream(7, "order")).tolist() == draws[7, "order"]


def test_pairs_and_order_depend_on_their_seeds(mnist_like, global_generator_untouched):
    def draw(**settings):
        module = PairDataModule("mnist", mnist_like, pairs=20, test_pairs=10, **settings)
        module.setup()
        (epoch,) = module.train_dataloader()
        return module.train_set.images, module.test_set.images, next(epoch.minibatches()).images

    def equal_to_seed_3(**settings):
        return [torch.equal(a, b) for a, b in zip(draw(seed=3), draw(**settings))]

    assert equal_to_seed_3(seed=3) == [True, True, True]
    assert equal_to_seed_3(seed=4) == [False, False, False]
    assert equal_to_seed_3(seed=3, order_seed=9) == [True, True, False]


@pytest.mark.parametrize("normalise, expected", [(False, (0.0, 1.0)), ("bytes", (0.0, 1 / 255))])
def test_without_normalisation_the_mean_is_zero(normalise, expected):
    assert PairDataModule(normalise=normalise).mean_and_std == expected


def test_folds_partition_the_pairs(mnist_like):
    folds = [{"folds": 3, "fold": fold} for fold in range(3)]
    modules = [PairDataModule("mnist", mnist_like, pairs=20, **fold) for fold in [*folds, {}]]
    for module in modules:
        module.setup()
    *modules, undivided = modules
    held_out = torch.cat([module.validation_set.indices for module in modules])
    assert torch.equal(held_out, undivided.train_set.indices)
    assert sum(len(module.train_set.indices) for module in modules) == 2 * 20


def test_validation_pairs_are_used_neither_for_training_nor_for_normalisation(mnist_like):
    module = PairDataModule("mnist", mnist_like, pairs=20, validation=0.25)
    module.setup()
    assert (len(module.train_set.indices), len(module.validation_set.indices)) == (15, 5)
    rows = torch.cat([module.train_set.indices, module.validation_set.indices])
    assert len(rows.unique()) == rows.numel()
    pixels = module.train_set.take(slice(None)).images.double()
    mean, std = module.mean_and_std
    assert (mean, std) == pytest.approx((pixels.mean().item(), pixels.std().item()), rel=1e-5)


@pytest.mark.filterwarnings("ignore:.*paired more than once")
@pytest.mark.parametrize(
    "split", [{"validation": 0.2}, {"folds": 4, "fold": 0}, {"folds": 4, "fold": 3}]
)
def test_held_out_pairs_share_no_image_with_training_if_images_are_paired_again(mnist_like, split):
    module = PairDataModule("mnist", mnist_like, pairs=200, **split)
    module.setup()
    train, validation = (
        {image.numpy().tobytes() for image in pairs.images[pairs.indices.unique()]}
        for pairs in (module.train_set, module.validation_set)
    )
    assert train.isdisjoint(validation) and len(train | validation) == 60
    held = round(200 * split.get("validation", 0.25))
    assert (len(module.train_set.indices), len(module.validation_set.indices)) == (200 - held, held)


def test_too_few_held_out_images_are_refused_before_the_draw(mnist_like):
    module = PairDataModule("mnist", mnist_like, pairs=200, test_pairs=10, validation=0.005)
    message = "validation=1 pairs is not accepted: as many as leave two of the 60 images"
    with pytest.raises(InvalidValueError, match=message):
        module.prepare_data()


def test_the_test_pairs_do_not_depend_on_the_training_pairs(mnist_like):
    few, many = (PairDataModule("mnist", mnist_like, pairs=pairs) for pairs in (5, 25))
    few.setup()
    many.setup()
    assert torch.equal(few.test_set.images, many.test_set.images)


def test_more_pairs_than_distinct_images_give_a_warning(mnist_like):
    module = PairDataModule("mnist", mnist_like, pairs=200)
    message = "200 training pairs need 400 distinct images, mnist has 60"
    with pytest.warns(DigitPairsWarning, match=message):
        module.setup()
    assert len(module.train_set.indices) == 200 and len(module.train_set.images) == 60


def test_test_pairs_never_share_an_image(mnist_like):
    module = PairDataModule("mnist", mnist_like, pairs=2)
    module.prepare_data()
    module.setup()
    assert len(module.test_set.indices.unique()) == 40  # all the test images there are
    with pytest.raises(InvalidValueError, match="test_pairs=21 is not accepted: at most 20"):
        PairDataModule("mnist", mnist_like, test_pairs=21).prepare_data()


def inputs_of(loader: TrainLoader) -> list[torch.Tensor]:
    """The inputs of each mini-batch of an epoch."""
    return [batch.inputs for epoch in loader for batch in epoch.minibatches()]


@pytest.mark.parametrize(
    "count, batch_size", [(10, 3), (10, 10), (10, 50), (25_000, 100), (3, 20_000)]
)
def test_an_epoch_has_every_row_once_in_batches_of_the_size(count, batch_size):
    numbers = Points(torch.arange(count), torch.zeros(count))
    loader = TrainLoader(numbers, count, batch_size, stream(0, "order"))
    epochs = [inputs_of(loader) for _ in range(2)]
    for batches in epochs:
        *others, last = map(len, batches)
        assert all(size == batch_size for size in others) and 0 < last <= batch_size
        assert torch.equal(torch.cat(batches).sort().values, torch.arange(count))
        assert len(batches) == loader.steps_per_epoch
    assert count < 10 or not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    assert len(loader) == len(list(loader)) == 1


@pytest.mark.parametrize(
    "key, value",
    [
        *(("source", "cifar"), ("pairs", 1), ("pairs", "many"), ("test_pairs", 0)),
        *(("validation", 1.0), ("validation", -0.1), ("folds", 1), ("fold", 1)),
        *(("batch_size", 0), ("batch_size", 2.5), ("batch_size", True)),
        *(("normalise", "byte"), ("normalise", 1), ("normalise", [True]), ("normalise", None)),
        *(("seed", -1), ("seed", 2**32), ("order_seed", "x")),
    ],
)
def test_invalid_settings_are_refused(key, value):
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
    assert sum(map(len, inputs_of(module.train_dataloader()))) == 20_000
    with pytest.raises(InvalidValueError, match="outside=2"):
        DiskDataModule(outside=2)
