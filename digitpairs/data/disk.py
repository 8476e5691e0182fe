"""The second task of the course: is a point of the unit square in a disk of half its area?"""

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

RADIUS = 1 / math.sqrt(2 * math.pi)  # so that the area is one half
CENTRE = 0.5


class Points(NamedTuple):
    """Points of the unit square and whether the disk has them."""

    inputs: Tensor  # (B, 2), float32
    target: Tensor  # (B, 1), float32, the label of the inside or of the outside

    def take(self, rows: Tensor | slice) -> Points:
        """The points in these rows."""
        return Points(self.inputs[rows], self.target[rows])

    def in_order(self, order: Tensor, batch_size: int) -> Iterator[Points]:
        """The points in this order, `batch_size` at a time."""
        return map(self.take, order.split(batch_size))


def draw_points(count: int, generator: torch.Generator, outside: float = 0.0) -> Points:
    """`count` points uniform in the unit square; label 1 inside the disk and `outside` outside."""
    inputs = torch.rand(count, 2, generator=generator)
    inside = (inputs - CENTRE).square().sum(1, keepdim=True) < RADIUS**2
    return Points(inputs, torch.where(inside, 1.0, outside))


class DiskDataModule(LightningDataModule):
    """Points in the unit square, labelled by the disk of area one half about its centre, held in memory.

    Args:
        points, test_points: numbers of training and test points.
        outside: the label outside the disk, 0 or -1 (the latter goes with a tanh output); inside it is 1.
        validation: share of the training points that is held out, 0 to below 1.
        normalise: whether the points are shifted and scaled to mean 0 and standard deviation 1 over the training points.
        batch_size: points a mini-batch.
        seed: of the draw of the points, and of the order when `order_seed` is None.
        order_seed: of the order of the mini-batches.

    After `setup`, `train_set`, `validation_set` and `test_set` hold all points as tensors, for trainers that know no Lightning.
    """

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
        if self.held_out == self.points:
            raise InvalidValueError(
                "validation",
                validation,
                f"a share that leaves some of the {self.points} points for the training",
            )
        self.normalise = boolean("normalise", normalise)
        if self.normalise and self.points - self.held_out < 2:
            raise InvalidValueError(
                "normalise", normalise, "false with a single training point, which has no spread"
            )
        self.batch_size = integer("batch_size", batch_size, at_least=1)
        self.seed = check_seed("seed", seed)
        self.order_seed = check_seed("order_seed", order_seed, self.seed)
        self.train_set: Points | None = None
        self.validation_set: Points | None = None
        self.test_set: Points | None = None

    def setup(self, stage: str | None = None) -> None:
        """Draw the points; the same ones each time, whatever the stage."""
        if self.train_set is None:
            points = draw_points(self.points, stream(self.seed, "data"), self.outside)
            training = slice(0, self.points - self.held_out)
            self.mean, self.std = torch.zeros(2), torch.ones(2)
            if self.normalise:
                self.mean, self.std = (
                    points.inputs[training].mean(0),
                    points.inputs[training].std(0),
                )
            self.train_set = self.normalised(points.take(training))
            self.validation_set = self.normalised(points.take(slice(training.stop, None)))
            self.test_set = self.normalised(
                draw_points(self.test_points, stream(self.seed, "test"), self.outside)
            )

    def normalised(self, points: Points) -> Points:
        """The points as the networks see them."""
        return points._replace(inputs=(points.inputs - self.mean) / self.std)

    def train_dataloader(self) -> TrainLoader:
        return TrainLoader(
            self.train_set,
            self.points - self.held_out,
            self.batch_size,
            stream(self.order_seed, "order"),
        )

    def val_dataloader(self) -> EvaluationLoader | list:
        return EvaluationLoader(self.validation_set, self.held_out) if self.held_out else []

    def test_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self.test_set, self.test_points)
