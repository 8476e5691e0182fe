"""Mini-batches from memory. Lightning gets a whole epoch of mini-batches as one batch.

Lightning's overhead for a batch is as long as a training step of a small network. An `Epoch` goes
through Lightning's loop once, and the training step iterates over its mini-batches, so that the
overhead occurs once an epoch. A mini-batch is gathered just before it is used: unlike the images of
a whole epoch, it fits in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

# Rows of each member in a mini-batch of an evaluation, few enough for the processor's cache.
# They do not depend on the number of members, since products of other sizes round differently.
EVALUATION_ROWS = 200

Batch = tuple[Tensor, ...]


class Rows(Protocol):
    """A dataset in memory: a NamedTuple of tensors, in an array with the members' axis first."""

    def in_order(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        """Batches of `batch_size` rows (the last may be smaller) in the order (..., rows)."""


class Epoch(NamedTuple):
    """All mini-batches of an epoch, as one tuple of tensors that can be moved to a device."""

    rows: Rows
    order: Tensor  # (rows,), or (members, rows) in an array
    batch_size: int
    transform: Callable[[Any], Batch] | None  # applied to each mini-batch

    def minibatches(self) -> Iterator[Batch]:
        """The mini-batches in order, of batch_size rows; the last may be smaller."""
        for batch in self.rows.in_order(self.order, self.batch_size):
            yield self.transform(batch) if self.transform else batch


class TrainLoader:
    """One `Epoch` with a new random order of all rows, each time it is iterated.

    Args:
        rows: the dataset.
        count: number of rows (of each member).
        batch_size: rows of a mini-batch.
        generator: the generator of the order; in an array one for each member.
        transform: applied to each mini-batch.
        transform_generators: the generators of `transform`, which `state_dict` saves as well.
        redraw: gives the rows of an epoch, drawn with the generators of the order before the order
            is; None for the same rows in each epoch.
    """

    def __init__(
        self,
        rows: Rows,
        count: int,
        batch_size: int,
        generator: torch.Generator | Sequence[torch.Generator],
        transform: Callable[[Any], Batch] | None = None,
        transform_generators: Sequence[torch.Generator] = (),
        redraw: Callable[[Sequence[torch.Generator]], Rows] | None = None,
    ) -> None:
        self.rows, self.count, self.batch_size = rows, count, batch_size
        self.generator, self.transform, self.redraw = generator, transform, redraw
        self._orders = [generator] if isinstance(generator, torch.Generator) else generator
        self._generators = [*self._orders, *transform_generators]

    def state_dict(self) -> dict[str, list[Tensor]]:
        """The states of all generators, so that a fit can be resumed at the next epoch."""
        return {"generators": [generator.get_state() for generator in self._generators]}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Restores the generators from a `state_dict`."""
        for generator, saved in zip(self._generators, state["generators"], strict=True):
            generator.set_state(saved)

    def __len__(self) -> int:
        """1: the number of batches in an epoch as Lightning counts them."""
        return 1

    @property
    def steps_per_epoch(self) -> int:
        """The number of mini-batches in an epoch, including a smaller last one."""
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Epoch]:
        rows = self.rows if self.redraw is None else self.redraw(self._orders)
        yield Epoch(rows, self._order(), self.batch_size, self.transform)

    def _order(self) -> Tensor:
        """A random order, (count,) or (members, count)."""
        if isinstance(self.generator, torch.Generator):
            return torch.randperm(self.count, generator=self.generator)
        orders = [torch.randperm(self.count, generator=generator) for generator in self.generator]
        return torch.stack(orders)


class EvaluationLoader:
    """All rows in their stored order, as one `Epoch`; `members` is the size of an array."""

    def __init__(self, rows: Rows, count: int, members: int | None = None) -> None:
        order = torch.arange(count)
        if members is not None:
            order = order.expand(members, -1)
        self._epoch = Epoch(rows, order, EVALUATION_ROWS, None)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Epoch]:
        yield self._epoch


def minibatches(batch: Epoch | Batch) -> Iterable[Batch]:
    """The mini-batches of an `Epoch`, or an ordinary batch as the only one."""
    return batch.minibatches() if isinstance(batch, Epoch) else [batch]
