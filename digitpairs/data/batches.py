"""Mini-batches out of memory. What Lightning sees as one batch is a chunk of many mini-batches.

Lightning spends about as long on a batch as a small network on a training step. A chunk passes through its loop
once, and `PairComparison` trains on the mini-batches in it one by one, so that this cost falls once a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

    def minibatches(self) -> Iterator[tuple]:
        """The mini-batches in order, (batch_size, ...) each but the last."""
        make = type(self.batch)._make
        for part in zip(*(tensor.split(self.batch_size) for tensor in self.batch)):
            yield self.transform(make(part)) if self.transform else make(part)


class TrainLoader(Generic[Batch]):
    """A new random order of all rows each epoch, in chunks."""

    def __init__(
        self,
        rows: Rows[Batch],
        count: int,
        batch_size: int,
        generator: torch.Generator,
        transform: Callable[[Batch], Batch] | None = None,
    ) -> None:
        self.rows, self.count, self.batch_size = rows, count, batch_size
        self.generator, self.transform = generator, transform
        self.chunk_rows = batch_size * max(1, CHUNK_ROWS // batch_size)

    def __len__(self) -> int:
        """The number of chunks an epoch."""
        return -(-self.count // self.chunk_rows)

    @property
    def steps_per_epoch(self) -> int:
        """The number of mini-batches an epoch, the last and possibly smaller one included."""
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Chunk]:
        for rows in torch.randperm(self.count, generator=self.generator).split(self.chunk_rows):
            yield Chunk(self.rows.take(rows), self.batch_size, self.transform)


class EvaluationLoader(Generic[Batch]):
    """All rows in their order, in batches as large as memory allows."""

    def __init__(self, rows: Rows[Batch], count: int) -> None:
        self.rows, self.count = rows, count

    def __len__(self) -> int:
        return -(-self.count // CHUNK_ROWS)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.count, CHUNK_ROWS):
            yield self.rows.take(slice(start, min(start + CHUNK_ROWS, self.count)))
