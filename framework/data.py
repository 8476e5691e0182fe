"""Inputs and targets in memory, either the same for all replicas or one set for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from framework.errors import shape_of

EVALUATION_ROWS = 200  # the batch size; results depend on it in the last bits
GATHERED_ROWS = 256  # rows of an epoch in memory at once; one by one is slow, all need much memory
Targets = Tensor | tuple[Tensor, ...]
Examples = tuple[Tensor, Targets]  # inputs and targets, such as `Data`


class Data(NamedTuple):
    """n rows of each replica: inputs (replicas, n, ...) and targets (replicas, n, ...).

    If a row has several targets, `targets` is a tuple of such tensors.
    """

    inputs: Tensor
    targets: Targets

    @classmethod
    def of(cls, data: Any, replicas: int) -> Data:
        """Make data from a pair (inputs, targets), (replicas, n, ...) or (1, n, ...) each.

        Tensors (1, n, ...) are shared by all replicas, and not copied. ValueError for other shapes.
        """
        try:
            inputs, targets = data
        except (TypeError, ValueError):
            kind, accepted = type(data).__name__, "a pair (inputs, targets) of tensors"
            raise ValueError(f"the data are {kind}, accepted is {accepted}") from None
        parts = (inputs, *tensors_in(targets))
        if not all(isinstance(part, Tensor) for part in parts):
            kinds = " and ".join(type(part).__name__ for part in parts)
            raise ValueError(f"the data are {kinds}, accepted are tensors")
        if any(part.dim() < 2 or len(part) not in (1, replicas) for part in parts) or (
            len({part.shape[1] for part in parts}) > 1
        ):
            raise ValueError(
                f"the data are {' and '.join(map(shape_of, parts))}, accepted is "
                f"({replicas}, n, ...), where {replicas} is the number of replicas, or "
                "(1, n, ...), such as x[None], for data that all replicas share"
            )
        if 0 in inputs.shape[:2]:
            raise ValueError(f"the inputs are {shape_of(inputs)}, accepted is at least one row")
        return cls(inputs, targets).expand(replicas)

    @property
    def rows(self) -> int:
        return self.inputs.shape[1]

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Data]:
        """Yield batches of `size` rows; the last one may have fewer.

        `order`, (replicas, n), has the numbers of each replica's rows in their new order.
        """
        if order is not None:
            for rows in torch.split(order, max(GATHERED_ROWS // size, 1) * size, 1):
                yield from self.take(rows).batches(size)
            return
        parts = (self.inputs, *tensors_in(self.targets))
        for inputs, *targets in zip(*(torch.split(part, size, 1) for part in parts)):
            yield Data(inputs, tuple(targets) if isinstance(self.targets, tuple) else targets[0])

    def expand(self, replicas: int) -> Data:
        """Views with an axis of replicas of this length, from tensors (1, n, ...)."""
        data: Data = map_tensors(lambda part: part.expand(replicas, *part.shape[1:]), self)
        return data

    def take(self, rows: Tensor) -> Data:
        """The rows with these numbers, (replicas, m), of each replica."""
        replicas = torch.arange(len(rows), device=rows.device)[:, None]
        taken: Data = map_tensors(lambda part: part[replicas, rows], self)
        return taken

    def evaluation_batches(self) -> Iterator[Data]:
        """Yield all rows in their order."""
        return self.batches(EVALUATION_ROWS)


def joined(batches: Sequence[Any]) -> Any:
    """Concatenate batches along the axis of rows; they are tensors, or tuples of tensors."""
    return map_tensors(lambda *parts: torch.cat(parts, 1), *batches)


def map_tensors(function: Callable[..., Any], *values: Any) -> Any:
    """Apply a function to tensors or, if the values are tuples, to each of their parts."""
    first = values[0]
    if not isinstance(first, tuple):
        return function(*values)
    parts = [map_tensors(function, *parts) for parts in zip(*values)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def tensors_in(value: Any) -> tuple[Any, ...]:
    """The parts of a tuple of tensors; a tuple of one for a tensor."""
    return value if isinstance(value, tuple) else (value,)
