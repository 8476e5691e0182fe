"""PairDataModule: pairs of digits for Lightning, from any source."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

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
MEAN_AND_STD = {
    False: (0.0, 1.0),
    "bytes": (0.0, 1 / 255),
}  # where they do not follow from the training pairs


class PairDataModule(LightningDataModule):
    """Training, validation and test pairs drawn anew for each seed, held in memory.

    Args:
        source: "auto", "mnist", "digits", "idx" or "folder" (see `digitpairs.data.sources`).
        root: the folder of the data; by default DIGITPAIRS_DATA, else `data`.
        pairs: number of training pairs, the validation pairs among them; at least 2. Beyond half the number of
            training images these are paired again (with a warning).
        test_pairs: number of test pairs. No test image is used twice, so at most half the number of test images;
            None is 1000, or as many as there are.
        validation: share of the training pairs that is held out, 0 to below 1.
        folds: number of folds for cross-validation over the training pairs (then `validation` is 0); None is none.
        fold: which of the folds, from 0, is held out.
        batch_size: pairs a mini-batch.
        normalise: whether networks get mean 0 and standard deviation 1 over the training set (see `mean_and_std`), or pixels from 0
            to 1; or "bytes": pixels from 0 to 255, as files have them.
        augmentation: changes to the training batches, an `Augmentation` or its settings as a mapping.
        watch_test: whether the test pairs are measured after each epoch too, for curves such as the reports draw. Nothing may
            be chosen by them: there are no validation pairs then, and early stopping has nothing to look at.
        seed: of the draw of the pairs, and of what follows when it has no seed of its own.
        order_seed, augmentation_seed: of the order of the mini-batches, of the augmentation.
        polarity: of the stored images: "light_on_dark", "dark_on_light" or "auto" (see
            `digitpairs.data.sources.load`).

    Raises InvalidValueError for a setting out of bounds, and DataError from `prepare_data` when the digits cannot be had.
    """

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
        augmentation: Augmentation | Mapping[str, float] | None = None,
        watch_test: bool = False,
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
        self.test_pairs = (
            None if test_pairs is None else integer("test_pairs", test_pairs, at_least=1)
        )
        self.held_out = _held_out_rows(self.pairs, validation, folds, fold)
        self.batch_size = integer("batch_size", batch_size, at_least=1)
        if not isinstance(normalise, bool) and normalise != "bytes":
            raise InvalidValueError("normalise", normalise, "true, false or bytes")
        self.normalise = normalise
        self.augmentation = _augmentation(augmentation)
        self.watch_test = boolean("watch_test", watch_test)
        if self.watch_test and self.held_out:
            raise InvalidValueError(
                "watch_test",
                True,
                "false where validation or folds hold pairs out, which are what is watched then",
            )
        self.seed = check_seed("seed", seed)
        self.order_seed = check_seed("order_seed", order_seed, self.seed)
        self.augmentation_seed = check_seed("augmentation_seed", augmentation_seed, self.seed)
        self.train_set: PairSet | None = None
        self.validation_set: PairSet | None = None
        self.test_set: PairSet | None = None

    def prepare_data(self) -> None:
        """Read the digits (downloading MNIST when missing) and check that there are enough of them."""
        source = self._source()
        available = len(source.test) // 2
        if available < 1 or len(source.train) < 2:
            raise DataError(
                f"{source.name} has {len(source.train)} training and {len(source.test)} test images: two of each make a pair"
            )
        if self.held_out and 2 * self.pairs > len(source.train):
            held_out_images(len(source.train), self.pairs, self.held_out)
        if self.test_pairs is not None and self.test_pairs > available:
            raise InvalidValueError(
                "test_pairs",
                self.test_pairs,
                f"at most {available}, since {source.name} has {len(source.test)} distinct test images",
            )

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Numbers of training, held-out and test pairs, and pairs a mini-batch. Reads the digits."""
        test_pairs = self.test_pairs or min(COURSE_TEST_PAIRS, len(self._source().test) // 2)
        return self.pairs - len(self.held_out), len(self.held_out), test_pairs, self.batch_size

    def setup(self, stage: str | None = None) -> None:
        """Draw the pairs; the same ones each time, whatever the stage."""
        if self.train_set is not None:
            return
        source = self._source()
        if 2 * self.pairs > len(source.train):
            warnings.warn(
                f"{self.pairs} training pairs need {2 * self.pairs} distinct images, {source.name} has {len(source.train)}: "
                "images are paired more than once",
                DigitPairsWarning,
                stacklevel=2,
            )
        self.train_set, self.validation_set = draw_split(
            source.train, self.pairs, self.held_out, stream(self.seed, "data")
        )
        self.test_set = draw_pairs(source.test, self.sizes[2], stream(self.seed, "test"))

    @property
    def source(self) -> str:
        """The name of the digits that are in use, such as "mnist"."""
        return self._source().name

    @functools.cached_property
    def mean_and_std(self) -> tuple[float, float]:
        """What the networks subtract from and divide the pixels by: from the training pairs alone, unless `normalise` says otherwise."""
        return (
            self.train_set.mean_and_std()
            if self.normalise is True
            else MEAN_AND_STD[self.normalise]
        )

    def train_dataloader(self) -> TrainLoader:
        order, augmentation = (
            stream(self.order_seed, "order"),
            stream(self.augmentation_seed, "augmentation"),
        )
        change = self.augment(augmentation)
        return TrainLoader(
            self.train_set,
            len(self.train_set.index),
            self.batch_size,
            order,
            change,
            [augmentation],
        )

    def augment(self, generator: torch.Generator) -> Callable[[Pairs], Pairs] | None:
        """What changes each mini-batch at random, drawn from the generator; None where nothing does."""
        return (
            functools.partial(self.augmentation, generator=generator) if self.augmentation else None
        )

    @property
    def watched(self) -> str:
        """What is measured after each epoch: "validation", or "test"."""
        return "test" if self.watch_test else "validation"

    def val_dataloader(self) -> EvaluationLoader | list:
        if self.watch_test:
            return self.test_dataloader()
        count = len(self.validation_set.index)
        return EvaluationLoader(self.validation_set, count) if count else []

    def test_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self.test_set, len(self.test_set.index))

    predict_dataloader = test_dataloader

    def _source(self) -> sources.Source:
        return sources.load(self.source_name, self.root, self.polarity)


def draw_split(
    digits: Digits, pairs: int, held_out: range, generator: torch.Generator
) -> tuple[PairSet, PairSet]:
    """Training and held-out pairs, which share no image.

    Where the images suffice for distinct ones, `held_out` are rows of one draw. Where they have to be paired again, the
    images are divided first, in the same proportion and place, and each side is drawn from its own.
    """
    if 2 * pairs <= len(digits) or not held_out:
        drawn, rows = draw_pairs(digits, pairs, generator), torch.arange(pairs)
        inside = (rows >= held_out.start) & (rows < held_out.stop)
        return drawn.select(rows[~inside]), drawn.select(rows[inside])
    order = torch.randperm(len(digits), generator=generator)
    images = held_out_images(len(digits), pairs, held_out)
    kept = torch.cat([order[: images.start], order[images.stop :]])
    train = draw_pairs(digits.select(kept), pairs - len(held_out), generator)
    return train, draw_pairs(
        digits.select(order[images.start : images.stop]), len(held_out), generator
    )


def held_out_images(available: int, pairs: int, held_out: range) -> range:
    """The share of the images that the held-out rows have of the pairs; InvalidValueError unless each side can form a pair."""
    images = range(held_out.start * available // pairs, held_out.stop * available // pairs)
    if not 2 <= len(images) <= available - 2:
        raise InvalidValueError(
            "validation",
            f"{len(held_out)} pairs",
            f"as many as leave two of the {available} images on each side",
        )
    return images


def _held_out_rows(pairs: int, validation: float, folds: int | None, fold: int) -> range:
    """The rows of the validation pairs: the last ones, or the fold's. Pairs are drawn at random, so any rows are as good."""
    validation = number("validation", validation, at_most=1)
    if folds is None:
        start = pairs - round(pairs * validation)
        if start < 1 or (validation > 0 and start == pairs):
            raise InvalidValueError(
                "validation",
                validation,
                f"0, or a share below 1 that holds out a pair of {pairs} and leaves one",
            )
        if integer("fold", fold) != 0:
            raise InvalidValueError("fold", fold, "0, unless folds is given")
        return range(start, pairs)
    folds = integer("folds", folds, at_least=2, at_most=pairs)
    fold = integer("fold", fold, at_most=folds - 1)
    if validation:
        raise InvalidValueError(
            "validation", validation, "0 when folds is given, since a fold is held out"
        )
    return range(pairs * fold // folds, pairs * (fold + 1) // folds)


def _augmentation(settings: Augmentation | Mapping[str, float] | None) -> Augmentation:
    if isinstance(settings, Augmentation):
        return settings
    settings = {} if settings is None else settings
    mapping("augmentation", settings, tuple(inspect.signature(Augmentation).parameters))
    try:
        return Augmentation(**settings)
    except InvalidValueError as fault:
        raise fault.within("augmentation") from None
