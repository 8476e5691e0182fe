"""Inputs and targets in memory, for each replica its own or the same for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from framework.errors import shape_of

EVALUATION_ROWS = 200  # of each replica, at once: bounds the memory, and is the same however many replicas there are


class Data(NamedTuple):
    """n rows: inputs (replicas, n, ...) and targets (replicas, n, ...); several targets of a row as a tuple of tensors."""

    inputs: Tensor
    targets: Any

    @classmethod
    def of(cls, data: Any, replicas: int) -> Data:
        """From a pair (inputs, targets), of each replica or, without that axis, `(n, ...)`, the same for all.

        The first axis is the replicas' where inputs and targets both begin with (replicas, n). ValueError where they do not agree, or
        have no rows.
        """
        try:
            inputs, targets = data
        except (TypeError, ValueError):
            raise ValueError(
                f"the data are {type(data).__name__}, accepted is a pair (inputs, targets) of tensors"
            ) from None
        first = targets[0] if isinstance(targets, tuple) else targets
        if not isinstance(inputs, Tensor) or not isinstance(first, Tensor):
            raise ValueError(
                f"the data are {type(inputs).__name__} and {type(first).__name__}, accepted are tensors"
            )
        if 0 in inputs.shape[:2]:
            raise ValueError(f"the inputs are {shape_of(inputs)}, accepted is at least one row")
        if inputs.dim() >= 2 and inputs.shape[:2] == first.shape[:2] and len(inputs) == replicas:
            return cls(inputs, targets)
        meant_for_each = (
            len(inputs) == replicas > 1
            and inputs.dim() > 2
            and first.dim() > 1
            and first.shape[1] > 1
        )  # of unequal rows
        if len(inputs) == len(first) and not meant_for_each:
            return cls(
                *(
                    _map(lambda each: each.expand(replicas, *each.shape), part)
                    for part in (inputs, targets)
                )
            )
        accepted = f"({replicas}, n, ...) or (n, ...) for both, as the network has {replicas} replica{'s' * (replicas > 1)}"
        raise ValueError(
            f"the inputs are {shape_of(inputs)} and the targets {shape_of(first)}, accepted is {accepted}"
        )

    @property
    def rows(self) -> int:
        return self.inputs.shape[1]

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Data]:
        """`size` rows at a time, the last ones perhaps fewer; in the order (replicas, n) if one is given."""
        inputs, targets = self.inputs, self.targets
        if order is not None:
            members = torch.arange(len(order))[:, None]
            inputs, targets = (
                inputs[members, order],
                _map(lambda each: each[members, order], targets),
            )
        parts = [
            each.split(size, 1)
            for each in (inputs, *(targets if isinstance(targets, tuple) else (targets,)))
        ]
        for batch, *labels in zip(*parts):
            yield Data(batch, tuple(labels) if isinstance(targets, tuple) else labels[0])

    def evaluation_batches(self) -> Iterator[Data]:
        """All rows in their order."""
        return self.batches(EVALUATION_ROWS)


def joined(batches: list[Any]) -> Any:
    """The rows of all batches together, (replicas, n, ...): of tensors, or of tuples of them."""
    if isinstance(batches[0], tuple):
        return tuple(joined(list(each)) for each in zip(*batches))
    return torch.cat(batches, 1)


def _map(change: Any, part: Any) -> Any:
    return tuple(map(change, part)) if isinstance(part, tuple) else change(part)
