"""Batches from an iterable, such as a list, a generator or torch's DataLoader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from framework.data import Data
from framework.errors import instance


class Batches:
    """The batches of an iterable, which begins again for each epoch.

    `Trainer.fit` and `Trainer.evaluate` take `fw.Batches(loader)`, and any iterable of pairs with
    an axis of replicas as it is.

    Args:
        iterable: yields pairs (inputs, targets) of tensors.
        shared: the tensors are (rows, ...), as a DataLoader makes them; each replica gets the same
            batch. With False, they are (replicas, rows, ...) or (1, rows, ...), see `Data.of`.
    """

    def __init__(self, iterable: Iterable[Any], shared: bool = True) -> None:
        if not isinstance(iterable, Iterable):
            raise ValueError(f"the batches are {iterable!r}, accepted is an iterable of pairs")
        self.iterable = iterable
        self.shared = instance("shared", shared, bool)

    @classmethod
    def of(cls, data: Any) -> Batches | None:
        """The batches of an iterable; None for a pair of tensors, and for what is no iterable."""
        if isinstance(data, Batches):
            return data
        is_pair = isinstance(data, list) and not isinstance((*data, None)[0], (tuple, list))
        if is_pair or isinstance(data, (tuple, Tensor)) or not isinstance(data, Iterable):
            return None
        return cls(data, shared=False)

    @property
    def steps(self) -> int | None:
        """The number of batches, if the iterable has a length."""
        try:
            return len(self.iterable)  # type: ignore[arg-type]  # not every iterable has one
        except TypeError:
            return None

    def check_epochs(self, epochs: int) -> None:
        """ValueError if the iterable ends with the first of several epochs."""
        if epochs > 1 and isinstance(self.iterable, Iterator):
            raise ValueError(
                f"the batches are a {type(self.iterable).__name__}, which can be iterated once, "
                f"but there are {epochs} epochs; accepted is an iterable that begins again, such "
                "as a list, a DataLoader or a class whose __iter__ is a generator"
            )

    def data(self, replicas: int) -> Iterator[Data]:
        """Yield the batches of an epoch. ValueError for other shapes, and if there are none."""
        number, steps = -1, self.steps
        for number, batch in enumerate(self.iterable):
            if number == steps:
                raise ValueError(f"the batches are more than {steps}, their len()")
            yield self._data(number, batch, replicas)
        if number < 0:
            raise ValueError(
                "the iterable has no batches, accepted is at least one; an iterator that an "
                "earlier epoch has used up has none"
            )

    def _data(self, number: int, batch: Any, replicas: int) -> Data:
        try:
            return Data.of(_with_replicas(batch) if self.shared else batch, replicas)
        except ValueError as error:
            fits = self.shared or not isinstance(batch, (tuple, list))
            hint = "" if fits else "; fw.Batches(iterable) adds an axis of replicas"
            raise ValueError(f"batch {number}: {error}{hint}") from None


def _with_replicas(batch: Any) -> Any:
    """Tensors (1, rows, ...) from (rows, ...), in tuples also if a DataLoader made lists."""
    if isinstance(batch, (tuple, list)):
        return tuple(map(_with_replicas, batch))
    return batch[None] if isinstance(batch, Tensor) else batch
