"""The course's second task: is a point of the unit square in a disk of half its area?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from digitpairs.checks import InvalidValueError, boolean, integer, number
from digitpairs.data.batches import EvaluationLoader, TrainLoader
from digitpairs.streams import check_seed, stream

RADIUS = 1 / math.sqrt(2 * math.pi)  # of a disk with area one half
CENTRE = 0.5


class Points(NamedTuple):
    """Points of the unit square and their labels."""

    inputs: Tensor  # (B, 2), float32
    target: Tensor  # (B, 1), float32, the label of the inside or of the outside

    def take(self, rows: Tensor | slice) -> Points:
        """The points in these rows."""
        return Points(self.inputs[rows], self.target[rows])

    def in_order(self, order: Tensor, batch_size: int) -> Iterator[Points]:
        """Batches of `batch_size` points in this order."""
        return map(self.take, order.split(batch_size))


def draw_points(count: int, generator: torch.Generator, outside: float = 0.0) -> Points:
    """`count` uniform points of the unit square, labelled 1 in the disk and `outside` elsewhere."""
    inputs = torch.rand(count, 2, generator=generator)
    inside = (inputs - CENTRE).square().sum(1, keepdim=True) < RADIUS**2
    return Points(inputs, torch.where(inside, 1.0, outside))


class DiskDataModule(LightningDataModule):
    """Points of the unit square, labelled by the disk of area one half about its centre, in memory.

    Args:
        points: number of training points, including those held out.
        test_points: number of test points.
        outside: label outside the disk, 0 or -1 (for a tanh output). The label inside is 1.
        validation: share of the training points that is held out, 0 to below 1.
        normalise: whether the points are normalised to mean 0 and standard deviation 1 over the
            training points.
        batch_size: points of a mini-batch.
        seed: seed of the points, and of their order if `order_seed` is None.
        order_seed: seed of the order of the points in the mini-batches.

    After `setup`, `train_set`, `validation_set` and `test_set` hold all points as tensors, also for
    trainers other than Lightning's. Raises InvalidValueError for a setting out of bounds.
    """

    train_set: Points
    validation_set: Points
    test_set: Points

    def __init__(
        self,
        points: int = 1000,
        test_points: int = 1000,
        outside: int = 0,
        validation: float = 0.0,
        normalise: bool = False,
        batch_size: int = 100,
        seed: int = 0,
        order_seed: int | None = None,
    ) -> None:
        super().__init__()
        self.points = integer("points", points, at_least=1)
        self.test_points = integer("test_points", test_points, at_least=1)
        if outside not in (0, -1) or isinstance(outside, bool):
            raise InvalidValueError("outside", outside, "0 or -1")
        self.outside = float(outside)
        self.held_out = round(self.points * number("validation", validation, at_most=1))
        self.train_points = self.points - self.held_out
        if self.train_points == 0:
            accepted = f"a share that leaves some of the {self.points} points for the training"
            raise InvalidValueError("validation", validation, accepted)
        self.normalise = boolean("normalise", normalise)
        if self.normalise and self.train_points < 2:
            accepted = "false with a single training point, which has no spread"
            raise InvalidValueError("normalise", normalise, accepted)
        self.batch_size = integer("batch_size", batch_size, at_least=1)
        self.seed = check_seed("seed", seed)
        self.order_seed = check_seed("order_seed", order_seed, self.seed)

    def setup(self, stage: str | None = None) -> None:
        """Draws the points, which are the same for every stage."""
        if hasattr(self, "train_set"):
            return
        points = draw_points(self.points, stream(self.seed, "data"), self.outside)
        test_points = draw_points(self.test_points, stream(self.seed, "test"), self.outside)
        train_points = points.take(slice(0, self.train_points))
        self.mean, self.std = torch.zeros(2), torch.ones(2)
        if self.normalise:
            self.mean, self.std = train_points.inputs.mean(0), train_points.inputs.std(0)
        self.train_set = self.normalised(train_points)
        self.validation_set = self.normalised(points.take(slice(self.train_points, None)))
        self.test_set = self.normalised(test_points)

    def normalised(self, points: Points) -> Points:
        """The points as the networks get them."""
        return points._replace(inputs=(points.inputs - self.mean) / self.std)

    def train_dataloader(self) -> TrainLoader:
        order = stream(self.order_seed, "order")
        return TrainLoader(self.train_set, self.train_points, self.batch_size, order)

    def val_dataloader(self) -> EvaluationLoader | list:
        return EvaluationLoader(self.validation_set, self.held_out) if self.held_out else []

    def test_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self.test_set, self.test_points)
