"""Checks of arguments: an error names the argument, its value and what is accepted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Kind = TypeVar("Kind")


class NotFiniteError(ArithmeticError):
    """Every replica's loss or weights became infinite or nan; `failures`: its epoch and loss."""

    def __init__(self, failures: Mapping[int, tuple[int, float]]) -> None:
        self.failures = dict(failures)
        losses = ", ".join(
            f"of replica {replica} is {loss} in epoch {epoch}"
            for replica, (epoch, loss) in self.failures.items()
        )
        super().__init__(
            f"the loss {losses}: a lower learning rate may help if the data are finite"
        )


def shape_of(tensor: Tensor) -> str:
    """The shape and type of a tensor, such as "(10, 100, 2) float32"."""
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def tensor_error(name: str, tensor: Tensor, accepted: str) -> ValueError:
    """The error for a tensor whose shape or type is not accepted."""
    return ValueError(f"{name} is {shape_of(tensor)}, accepted is {accepted}")


def check_target(
    user: str,
    target: Tensor,
    prediction: Tensor,
    dtype: torch.dtype | None = None,
    classes: bool = False,
) -> None:
    """ValueError unless the target of a loss or measure fits the prediction, (R, B, ...).

    It has the prediction's shape or, with `classes`, that without the last axis; and this type.
    """
    shape = prediction.shape[:-1] if classes else prediction.shape
    if prediction.requires_grad:
        raise ValueError(
            f"the prediction for {user} requires a gradient of autograd, which the framework does "
            "not use, accepted are inputs that do not: x.detach()"
        )
    if target.shape == shape and len(shape) >= 2 and dtype in (None, target.dtype):
        return
    kind = "" if dtype is None else " " + str(dtype).removeprefix("torch.")
    accepted = f"{tuple(shape)}{kind} for the prediction {shape_of(prediction)}"
    if len(shape) < 2:
        accepted += ", which needs axes of replicas and of rows"
    raise tensor_error(f"the target of {user}", target, accepted)


def check_classes(user: str, target: Tensor, classes: int) -> None:
    """ValueError unless all classes are from 0 to classes - 1; the meta device has no values."""
    if target.is_meta:
        return
    low, high = (int(limit) for limit in target.aminmax())
    if low < 0 or high >= classes:
        raise ValueError(
            f"the target of {user} has classes from {low} to {high}, accepted is 0 to "
            f"{classes - 1} for a prediction of {classes} classes"
        )


def instance(name: str, value: Any, kind: type[Kind]) -> Kind:
    """Return `value`; ValueError unless it is an instance of the class."""
    if isinstance(value, kind):
        return value
    described = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
    raise ValueError(f"{name} is {described}, accepted is an instance of {kind.__name__}")


def at_least_one(name: str, value: int) -> int:
    """Return `value`; ValueError unless it is a whole number of at least 1."""
    return integer(name, value, at_least=1)


def integer(name: str, value: int, at_least: int) -> int:
    """Return `value`; ValueError unless it is a whole number of at least `at_least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"{name} is {value!r}, accepted is a whole number of at least {at_least}")
    return value


def not_negative(name: str, value: float) -> float:
    """Return `value`; ValueError unless it is a finite number of at least 0."""
    if not _is_finite(value) or value < 0:
        raise ValueError(f"{name} is {value!r}, accepted is a number of at least 0")
    return value


def positive(name: str, value: float) -> float:
    """Return `value`; ValueError unless it is a finite number above 0."""
    if not _is_finite(value) or value <= 0:
        raise ValueError(f"{name} is {value!r}, accepted is a number above 0")
    return value


def fraction(name: str, value: float) -> float:
    """Return `value`; ValueError unless it is a number from 0 to 1."""
    if not _is_finite(value) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}, accepted is a number from 0 to 1")
    return value


def finite(name: str, value: float) -> float:
    """Return `value`; ValueError unless it is a finite number."""
    if not _is_finite(value):
        raise ValueError(f"{name} is {value!r}, accepted is a finite number")
    return value


def _is_finite(value: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check_input(
    layer: object, tensor: Tensor, axes: Sequence[str | int], like: Tensor | None = None
) -> None:
    """ValueError unless the layer's input has these axes and, with `like`, that tensor's type.

    Each axis is a size, or the name of an axis of any size.
    """
    fits = tensor.dim() == len(axes) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(axes, tensor.shape)
    )
    if fits and (like is None or tensor.dtype == like.dtype):
        return
    dtype = "" if like is None else " " + str(like.dtype).removeprefix("torch.")
    accepted = f"({', '.join(map(str, axes))}){dtype}"
    raise tensor_error(f"the input of {type(layer).__name__}", tensor, accepted)


def check_state(state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """KeyError if the names are not as in `own`, ValueError if shapes or types are not."""
    check_names(state, own)
    for name, value in own.items():
        if _kind(state[name]) != _kind(value):
            raise ValueError(f"{name} is {_kind(state[name])}, accepted is {_kind(value)}")


def check_names(state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """KeyError if the names are not as in `own`."""
    if state.keys() != own.keys():
        accepted = ", ".join(own) or "nothing"
        raise KeyError(f"the state has {', '.join(state) or 'nothing'}; accepted is {accepted}")


def _kind(value: Any) -> str:
    return shape_of(value) if isinstance(value, Tensor) else type(value).__name__
