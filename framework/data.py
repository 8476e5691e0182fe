"""Inputs and targets in memory, either the same for all replicas or one set for each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from framework.errors import shape_of

EVALUATION_ROWS = 200  # the batch size; results depend on it in the last bits
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
        """Make data from a pair (inputs, targets), (replicas, n, ...) each or (n, ...) each.

        Data of shape (n, ...) are shared by all replicas. The first axis counts replicas if inputs
        and targets both begin with (replicas, n). ValueError if inputs and targets do not fit each
        other, or have no rows.
        """
        try:
            inputs, targets = data
        except (TypeError, ValueError):
            kind, accepted = type(data).__name__, "a pair (inputs, targets) of tensors"
            raise ValueError(f"the data are {kind}, accepted is {accepted}") from None
        first = tensors_in(targets)[0]
        if not isinstance(inputs, Tensor) or not isinstance(first, Tensor):
            kinds = f"{type(inputs).__name__} and {type(first).__name__}"
            raise ValueError(f"the data are {kinds}, accepted are tensors")
        if 0 in inputs.shape[:2]:
            raise ValueError(f"the inputs are {shape_of(inputs)}, accepted is at least one row")
        if inputs.dim() >= 2 and inputs.shape[:2] == first.shape[:2] and len(inputs) == replicas:
            return cls(inputs, targets)
        if len(inputs) == len(first) and not _have_replicas(inputs, first, replicas):
            expand = functools.partial(_expand, replicas=replicas)
            return cls(expand(inputs), map_tensors(expand, targets))
        raise ValueError(
            f"the inputs are {shape_of(inputs)} and the targets {shape_of(first)}, accepted is "
            f"({replicas}, n, ...) or (n, ...) for both, where {replicas} is the number of replicas"
        )

    @property
    def rows(self) -> int:
        return self.inputs.shape[1]

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Data]:
        """Yield batches of `size` rows; the last one may have fewer.

        `order`, (replicas, n), has the numbers of each replica's rows in their new order.
        """
        data = self
        if order is not None:
            replicas = torch.arange(len(order))[:, None]
            data = map_tensors(lambda part: part[replicas, order], self)
        parts = (data.inputs, *tensors_in(data.targets))
        for inputs, *targets in zip(*(torch.split(part, size, 1) for part in parts)):
            yield Data(inputs, tuple(targets) if isinstance(self.targets, tuple) else targets[0])

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


def _expand(part: Tensor, replicas: int) -> Tensor:
    """(n, ...) -> (replicas, n, ...)."""
    return part.expand(replicas, *part.shape)


def _have_replicas(inputs: Tensor, targets: Tensor, replicas: int) -> bool:
    """Whether the first axis, which is equally long in both, is meant to count replicas."""
    if not len(inputs) == replicas > 1:
        return False
    return inputs.dim() > 2 and targets.dim() > 1 and targets.shape[1] > 1
