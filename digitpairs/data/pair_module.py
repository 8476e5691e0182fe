"""PairDataModule: pairs of digits for Lightning, from any source."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule

from digitpairs.checks import (
    DataError,
    DigitPairsWarning,
    InvalidValueError,
    boolean,
    choice,
    integer,
    mapping,
    number,
)
from digitpairs.data import sources
from digitpairs.data.augmentation import Augmentation
from digitpairs.data.batches import EvaluationLoader, TrainLoader
from digitpairs.data.image_checks import POLARITIES
from digitpairs.data.pairs import Pairs, PairSet, draw_pairs
from digitpairs.data.sources import Digits
from digitpairs.streams import check_seed, stream

COURSE_TEST_PAIRS = 1000
# By `normalise`; with True they follow from the training pairs.
MEAN_AND_STD: dict[bool | str, tuple[float, float]] = {False: (0.0, 1.0), "bytes": (0.0, 1 / 255)}


class PairDataModule(LightningDataModule):
    """Training, validation and test pairs of digits, drawn for each seed and held in memory.

    Args:
        source: "auto" or a key of `digitpairs.data.sources.READERS`.
        root: folder of the data; None is DIGITPAIRS_DATA, else `data`.
        pairs: number of training pairs, including those held out; at least 2. For more than half
            the number of training images, images are paired again (with a warning).
        test_pairs: number of test pairs. No test image is used twice, so it is at most half the
            number of test images. None is 1000, or as many as possible.
        validation: share of the training pairs that is held out, 0 to below 1.
        folds: number of folds for cross-validation over the training pairs, with `validation` 0.
        fold: the fold that is held out, from 0.
        batch_size: pairs of a mini-batch.
        normalise: True for inputs of mean 0 and standard deviation 1 over the training images,
            False for inputs from 0 to 1, "bytes" for inputs from 0 to 255.
        augmentation: changes to the training batches, an `Augmentation` or its settings.
        watch_test: whether the test pairs are measured after each epoch, for learning curves.
            Nothing can be chosen by them: there are no validation pairs then, and early stopping
            cannot monitor them.
        redraw: whether each epoch pairs the training images anew, each as often as before. The
            pairs are drawn from the stream of the order; held-out and test pairs stay.
        seed: seed of the pairs, and of what has no seed of its own.
        order_seed: seed of the order of the mini-batches, and of the pairs of `redraw`.
        augmentation_seed: seed of the augmentation.
        polarity: polarity of the stored images (see `digitpairs.data.sources.load`).

    After `setup`, `train_set`, `validation_set` and `test_set` hold the pairs. Raises
    InvalidValueError for a setting out of bounds; `prepare_data` raises DataError for digits that
    are missing or damaged.
    """

    train_set: PairSet
    validation_set: PairSet
    test_set: PairSet

    def __init__(
        self,
        source: str = "auto",
        root: str | Path | None = None,
        pairs: int = 1000,
        test_pairs: int | None = None,
        validation: float = 0.0,
        folds: int | None = None,
        fold: int = 0,
        batch_size: int = 100,
        normalise: bool | str = True,
        augmentation: Augmentation | Mapping[str, Any] | None = None,
        watch_test: bool = False,
        redraw: bool = False,
        seed: int = 0,
        order_seed: int | None = None,
        augmentation_seed: int | None = None,
        polarity: str = "auto",
    ) -> None:
        super().__init__()
        self.source_name = choice("source", source, sources.SOURCES)
        self.root = root
        self.polarity = choice("polarity", polarity, POLARITIES)
        self.pairs = integer("pairs", pairs, at_least=2)
        self.test_pairs = test_pairs
        if test_pairs is not None:
            self.test_pairs = integer("test_pairs", test_pairs, at_least=1)
        self.held_out = _held_out_rows(self.pairs, validation, folds, fold)
        self.batch_size = integer("batch_size", batch_size, at_least=1)
        if not isinstance(normalise, bool) and normalise != "bytes":
            raise InvalidValueError("normalise", normalise, "true, false or bytes")
        self.normalise = normalise
        self.augmentation = _make_augmentation(augmentation)
        self.watch_test = boolean("watch_test", watch_test)
        if self.watch_test and self.held_out:
            accepted = "false where validation or folds hold pairs out, which are measured instead"
            raise InvalidValueError("watch_test", True, accepted)
        self.redraw = boolean("redraw", redraw)
        self.seed = check_seed("seed", seed)
        self.order_seed = check_seed("order_seed", order_seed, self.seed)
        self.augmentation_seed = check_seed("augmentation_seed", augmentation_seed, self.seed)

    def prepare_data(self) -> None:
        """Reads the digits (MNIST is downloaded if missing) and checks that there are enough."""
        source = self._source()
        train, test = len(source.train), len(source.test)
        if train < 2 or test < 2:
            counts = f"{train} training and {test} test images"
            raise DataError(f"{source.name} has {counts}: a pair needs two of each")
        if self.held_out and 2 * self.pairs > train:
            held_out_images(train, self.pairs, self.held_out)
        if self.test_pairs is not None and self.test_pairs > test // 2:
            accepted = f"at most {test // 2}, since {source.name} has {test} distinct test images"
            raise InvalidValueError("test_pairs", self.test_pairs, accepted)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Numbers of training, held-out and test pairs, and the batch size. Reads the digits."""
        test_pairs = self.test_pairs or min(COURSE_TEST_PAIRS, len(self._source().test) // 2)
        return self.pairs - len(self.held_out), len(self.held_out), test_pairs, self.batch_size

    def setup(self, stage: str | None = None) -> None:
        """Draws the pairs, which are the same for every stage."""
        if hasattr(self, "train_set"):
            return
        source = self._source()
        if 2 * self.pairs > len(source.train):
            warnings.warn(
                f"{self.pairs} training pairs need {2 * self.pairs} distinct images, {source.name} "
                f"has {len(source.train)}: images are paired more than once",
                DigitPairsWarning,
                stacklevel=2,
            )
        self.train_set, self.validation_set = draw_split(
            source.train, self.pairs, self.held_out, stream(self.seed, "data")
        )
        self.test_set = draw_pairs(source.test, self.sizes[2], stream(self.seed, "test"))

    @property
    def source(self) -> str:
        """The name of the digits, such as "mnist"."""
        return self._source().name

    @functools.cached_property
    def mean_and_std(self) -> tuple[float, float]:
        """The mean and standard deviation with which the networks normalise the pixels.

        With `normalise` they are those of the images in the training pairs.
        """
        if self.normalise is True:
            return self.train_set.mean_and_std()
        return MEAN_AND_STD[self.normalise]

    def train_dataloader(self) -> TrainLoader:
        order = stream(self.order_seed, "order")
        generator = stream(self.augmentation_seed, "augmentation")
        return TrainLoader(
            self.train_set,
            len(self.train_set.indices),
            self.batch_size,
            order,
            self.transform(generator),
            [generator],
            redrawing(self.train_set, [self]),
        )

    def transform(self, generator: torch.Generator) -> Callable[[Pairs], Pairs] | None:
        """The augmentation of a batch with random numbers from the generator; None if it is off."""
        if not self.augmentation:
            return None
        return functools.partial(self.augmentation, generator=generator)

    @property
    def pairs_of_pass(self) -> int | None:
        """`passes` of `PairSet.paired_anew`: None without `redraw`."""
        return len(self.train_set.images) // 2 if self.redraw else None

    @property
    def watched(self) -> str:
        """The pairs that are measured after each epoch: "validation" or "test"."""
        return "test" if self.watch_test else "validation"

    def val_dataloader(self) -> EvaluationLoader | list:
        if self.watch_test:
            return self.test_dataloader()
        count = len(self.validation_set.indices)
        return EvaluationLoader(self.validation_set, count) if count else []

    def test_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self.test_set, len(self.test_set.indices))

    predict_dataloader = test_dataloader

    def _source(self) -> sources.Source:
        return sources.load(self.source_name, self.root, self.polarity)


def redrawing(
    train_set: PairSet, members: Sequence[PairDataModule]
) -> Callable[[Sequence[torch.Generator]], PairSet] | None:
    """`redraw` of the `TrainLoader` of these members' pairs; None if all keep their pairs."""
    if not any(member.redraw for member in members):
        return None
    passes = [member.pairs_of_pass for member in members]
    return functools.partial(train_set.paired_anew, passes=passes)


def draw_split(
    digits: Digits, pairs: int, held_out: range, generator: torch.Generator
) -> tuple[PairSet, PairSet]:
    """Training and held-out pairs, which share no image.

    If there are enough images for distinct ones, `held_out` are rows of a single draw. If images
    must be paired again, the images are split first, in the same proportion, and the pairs of each
    part are drawn from its images.
    """
    if 2 * pairs <= len(digits) or not held_out:
        drawn, rows = draw_pairs(digits, pairs, generator), torch.arange(pairs)
        is_held_out = (rows >= held_out.start) & (rows < held_out.stop)
        return drawn.select(rows[~is_held_out]), drawn.select(rows[is_held_out])
    order = torch.randperm(len(digits), generator=generator)
    images = held_out_images(len(digits), pairs, held_out)
    train_rows = torch.cat([order[: images.start], order[images.stop :]])
    held_out_rows = order[images.start : images.stop]
    train = draw_pairs(digits.select(train_rows), pairs - len(held_out), generator)
    return train, draw_pairs(digits.select(held_out_rows), len(held_out), generator)


def held_out_images(available: int, pairs: int, held_out: range) -> range:
    """The held-out images: the share of `available` that `held_out` is of the pairs.

    Raises InvalidValueError unless there are two images for each part.
    """
    images = range(held_out.start * available // pairs, held_out.stop * available // pairs)
    if not 2 <= len(images) <= available - 2:
        accepted = f"as many as leave two of the {available} images for each part"
        raise InvalidValueError("validation", f"{len(held_out)} pairs", accepted)
    return images


def _held_out_rows(pairs: int, validation: float, folds: int | None, fold: int) -> range:
    """The rows of the held-out pairs: those of the fold, else the last ones.

    Pairs are drawn at random, so that these rows are a random choice.
    """
    validation = number("validation", validation, at_most=1)
    if folds is None:
        start = pairs - round(pairs * validation)
        if start < 1 or (validation > 0 and start == pairs):
            accepted = f"0, or a share below 1 that holds out a pair of {pairs} and leaves one"
            raise InvalidValueError("validation", validation, accepted)
        if integer("fold", fold) != 0:
            raise InvalidValueError("fold", fold, "0, unless folds is given")
        return range(start, pairs)
    folds = integer("folds", folds, at_least=2, at_most=pairs)
    fold = integer("fold", fold, at_most=folds - 1)
    if validation:
        accepted = "0 when folds is given, since a fold is held out"
        raise InvalidValueError("validation", validation, accepted)
    return range(pairs * fold // folds, pairs * (fold + 1) // folds)


def _make_augmentation(settings: Augmentation | Mapping[str, Any] | None) -> Augmentation:
    if isinstance(settings, Augmentation):
        return settings
    settings = {} if settings is None else settings
    mapping("augmentation", settings, tuple(inspect.signature(Augmentation).parameters))
    try:
        return Augmentation(**settings)
    except InvalidValueError as fault:
        raise fault.within("augmentation") from None
