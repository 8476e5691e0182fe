"""Errors that say what arrived and what is accepted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor


class NotFiniteError(ArithmeticError):
    """A loss became infinite or not a number. `failures`: of each replica that it befell, the epoch and the loss."""

    def __init__(self, failures: Mapping[int, tuple[int, float]]) -> None:
        self.failures = dict(failures)
        told = ", ".join(
            f"of replica {replica} is {loss} in epoch {epoch}"
            for replica, (epoch, loss) in self.failures.items()
        )
        super().__init__(f"the loss {told}: a lower learning rate may help")


def shape_of(tensor: Tensor) -> str:
    """Such as "(10, 100, 2) float32"."""
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def refuse(what: str, tensor: Tensor, accepted: str) -> ValueError:
    """The error for a tensor of another shape or type than is accepted."""
    return ValueError(f"{what} is {shape_of(tensor)}, accepted is {accepted}")


def at_least_one(name: str, value: int) -> int:
    """`value`, or ValueError when it is no whole number or below 1."""
    return integer(name, value, at_least=1)


def integer(name: str, value: int, at_least: int) -> int:
    """`value`, or ValueError when it is no whole number or below `at_least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"{name} is {value!r}, accepted is a whole number of at least {at_least}")
    return value


def not_negative(name: str, value: float) -> float:
    """`value`, or ValueError when it is no finite number or below 0."""
    if not _is_finite(value) or value < 0:
        raise ValueError(f"{name} is {value!r}, accepted is a number of at least 0")
    return value


def positive(name: str, value: float) -> float:
    """`value`, or ValueError when it is no finite number above 0."""
    if not _is_finite(value) or value <= 0:
        raise ValueError(f"{name} is {value!r}, accepted is a number above 0")
    return value


def _is_finite(value: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check_input(
    owner: object, tensor: Tensor, axes: Sequence[str | int], like: Tensor | None = None
) -> None:
    """ValueError unless the tensor has these axes, each of the given size or, where a name stands, of any; and, with `like`,
    its type.
    """
    fits = tensor.dim() == len(axes) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(axes, tensor.shape)
    )
    if not fits or (like is not None and tensor.dtype != like.dtype):
        kind = "" if like is None else " " + str(like.dtype).removeprefix("torch.")
        raise refuse(
            f"the input of {type(owner).__name__}", tensor, f"({', '.join(map(str, axes))}){kind}"
        )
