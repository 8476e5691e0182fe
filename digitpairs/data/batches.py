"""Mini-batches out of memory. What Lightning sees as one batch is a chunk of many mini-batches.

Lightning spends about as long on a batch as a small network on a training step. A chunk passes through its loop
once, and `PairComparison` trains on the mini-batches in it one by one, so that this cost falls once a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

CHUNK_ROWS = 10_000  # bounds the memory that a chunk takes: 16 MB of pairs

Batch = TypeVar("Batch", bound=tuple)


class Rows(Protocol[Batch]):
    """A data set in memory, which gives the batch in any rows."""

    def take(self, rows: Tensor | slice) -> Batch: ...


class Chunk(NamedTuple):
    """Consecutive mini-batches as one tuple of tensors."""

    batch: tuple  # a NamedTuple of tensors with as many rows as the chunk has
    batch_size: int
    transform: Callable | None  # what is done to each mini-batch when its turn comes
    axis: int = 0  # of the rows; of an array's chunk 1, after the members

    def minibatches(self) -> Iterator[tuple]:
        """The mini-batches in order, batch_size rows each but the last."""
        make = type(self.batch)._make
        for part in zip(*(tensor.split(self.batch_size, self.axis) for tensor in self.batch)):
            yield self.transform(make(part)) if self.transform else make(part)


class TrainLoader(Generic[Batch]):
    """A new random order of all rows each epoch, in chunks. Given several generators, an array's: each member's order."""

    def __init__(
        self,
        rows: Rows[Batch],
        count: int,
        batch_size: int,
        generator: torch.Generator | Sequence[torch.Generator],
        transform: Callable[[Batch], Batch] | None = None,
    ) -> None:
        self.rows, self.count, self.batch_size = rows, count, batch_size
        self.generator, self.transform = generator, transform
        members = 1 if isinstance(generator, torch.Generator) else len(generator)
        self.chunk_rows = batch_size * max(1, CHUNK_ROWS // members // batch_size)

    def __len__(self) -> int:
        """The number of chunks an epoch."""
        return -(-self.count // self.chunk_rows)

    @property
    def steps_per_epoch(self) -> int:
        """The number of mini-batches an epoch, the last and possibly smaller one included."""
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Chunk]:
        order = self._order()
        for rows in order.split(self.chunk_rows, -1):
            yield Chunk(self.rows.take(rows), self.batch_size, self.transform, order.dim() - 1)

    def _order(self) -> Tensor:
        """(count,), or (members, count)."""
        if isinstance(self.generator, torch.Generator):
            return torch.randperm(self.count, generator=self.generator)
        return torch.stack([torch.randperm(self.count, generator=each) for each in self.generator])


class EvaluationLoader(Generic[Batch]):
    """All rows in their order, in batches as large as memory allows; of `members` at once, when they are an array's."""

    def __init__(self, rows: Rows[Batch], count: int, members: int = 1) -> None:
        self.rows, self.count, self.batch_size = rows, count, max(1, CHUNK_ROWS // members)

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.count, self.batch_size):
            yield self.rows.take(slice(start, min(start + self.batch_size, self.count)))
