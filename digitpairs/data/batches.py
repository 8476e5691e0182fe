"""Mini-batches out of memory. What Lightning sees as one batch is a whole epoch of mini-batches.

Lightning spends about as long on a batch as a small network on a training step. An `Epoch` passes through its loop once,
and the training goes through the mini-batches in it, so that this cost falls once an epoch. Each mini-batch is gathered when
its turn comes: while it is small it stays in the processor's cache, where a whole epoch's images would not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

# Rows of each member in an evaluation's mini-batch: few enough for the processor's cache. The number must not follow from the
# number of members, since products of other sizes round differently.
EVALUATION_ROWS = 200

Batch = TypeVar("Batch", bound=tuple)


class Rows(Protocol[Batch]):
    """A data set in memory, a NamedTuple of tensors; of an array, with the members' axis before the rows."""

    def take(self, rows: slice) -> Batch:
        """The rows in these places, of all members."""

    def in_order(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        """The rows in this order, (..., rows), `batch_size` at a time."""


class Epoch(NamedTuple):
    """All mini-batches of an epoch, as one tuple of tensors that can be moved to a device."""

    rows: Rows
    order: Tensor  # (rows,); of an array (members, rows)
    batch_size: int
    transform: Callable | None  # what is done to each mini-batch when its turn comes

    def minibatches(self) -> Iterator[tuple]:
        """The mini-batches in order, batch_size rows each but the last."""
        for batch in self.rows.in_order(self.order, self.batch_size):
            yield self.transform(batch) if self.transform else batch


class TrainLoader(Generic[Batch]):
    """A new random order of all rows each epoch. Given several generators, an array's: each member's own order.

    Args:
        rows, count: the data set and its number of rows (of each member).
        batch_size: rows a mini-batch.
        generator: of the order; of an array one a member.
        transform: what is done to each mini-batch.
        transform_generators: those that `transform` draws from, for `state_dict`.
    """

    def __init__(
        self,
        rows: Rows[Batch],
        count: int,
        batch_size: int,
        generator: torch.Generator | Sequence[torch.Generator],
        transform: Callable[[Batch], Batch] | None = None,
        transform_generators: Sequence[torch.Generator] = (),
    ) -> None:
        self.rows, self.count, self.batch_size = rows, count, batch_size
        self.generator, self.transform = generator, transform
        orders = [generator] if isinstance(generator, torch.Generator) else generator
        self._generators = [*orders, *transform_generators]

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Where the random streams are, so that a fit can go on with the next epoch."""
        return {"generators": [each.get_state() for each in self._generators]}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Goes on from a `state_dict`."""
        for generator, each in zip(self._generators, state["generators"], strict=True):
            generator.set_state(each)

    def __len__(self) -> int:
        """The number of epochs in an epoch, as Lightning counts batches."""
        return 1

    @property
    def steps_per_epoch(self) -> int:
        """The number of mini-batches an epoch, the last and possibly smaller one included."""
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Epoch]:
        yield Epoch(self.rows, self._order(), self.batch_size, self.transform)

    def _order(self) -> Tensor:
        """(count,), or (members, count)."""
        if isinstance(self.generator, torch.Generator):
            return torch.randperm(self.count, generator=self.generator)
        return torch.stack([torch.randperm(self.count, generator=each) for each in self.generator])


class EvaluationLoader(Generic[Batch]):
    """All rows in their order, as one `Epoch`; of `members` at once, when they are an array's."""

    def __init__(self, rows: Rows[Batch], count: int, members: int | None = None) -> None:
        order = torch.arange(count)
        self._epoch = Epoch(
            rows, order if members is None else order.expand(members, -1), EVALUATION_ROWS, None
        )

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Epoch]:
        yield self._epoch


def minibatches(batch: Epoch | Batch) -> Iterable[Batch]:
    """What Lightning hands on as one batch: the mini-batches of an `Epoch`, or an ordinary batch."""
    return batch.minibatches() if isinstance(batch, Epoch) else [batch]
