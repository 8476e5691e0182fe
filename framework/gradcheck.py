"""Every gradient against central differences."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from framework.module import Module

NOISE = 1e-9  # of a difference over 2h, times f: some roundings of 1e-16, over h
STEP = (
    1e-6  # where the error of the difference, h^2, and that of rounding, 1e-16 / h, are both small
)


def gradcheck(
    module: Module,
    x: Tensor,
    *,
    loss: Module | None = None,
    target: Any = None,
    tolerance: float = 1e-5,
    coordinates: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    """Compares the gradients that `backward` gives with (f(p + h) - f(p - h)) / 2h, in float64.

    f is the loss of the outputs, or, without a loss, the sum of the outputs, each times a random number of its own. It is done in
    training mode, on a copy. Dropout has the same masks throughout.

    Args:
        module: a layer or a network; the check works on a copy.
        x: its input (replicas, rows, ...).
        loss, target: as in training. To check a loss by itself: `gradcheck(loss, prediction, target=target)`.
        tolerance: largest deviation that passes, over the largest gradient of the same tensor; what rounding makes of f always passes.
        coordinates: how many of a tensor's values are varied, at most; drawn with `seed`.

    Returns the deviation for the input ("x") and each parameter by its name. Raises AssertionError naming those above the tolerance.
    """
    if isinstance(x, tuple):
        raise ValueError(
            "gradcheck varies one tensor; check a loss of several outputs together with the network that gives them"
        )
    checked, x = type(module).__name__, _double(x)
    if loss is None and target is not None:
        module, loss = _Identity(), module
    generator = Generator().manual_seed(
        seed + 987_654_321
    )  # not a stream that x may have been drawn from
    objective = _Objective(copy.deepcopy(module), copy.deepcopy(loss), _double(target), generator)
    analytic, noise = objective.gradients(x), NOISE * max(1.0, abs(objective.value(x)))
    tensors = {"x": x} | {
        name: parameter.data for name, parameter in objective.module.named_parameters()
    }
    deviations = {}
    for name, tensor in tensors.items():
        if analytic[name] is None:
            deviations[name] = math.nan
            continue
        chosen = torch.randperm(tensor.numel(), generator=generator)[:coordinates].tolist()
        numeric = torch.tensor(
            [_difference(tensor.view(-1), place, lambda: objective.value(x)) for place in chosen],
            dtype=torch.float64,
        )
        expected = analytic[name].flatten()[chosen]
        scale = max(expected.abs().max().item(), numeric.abs().max().item(), noise / tolerance)
        deviations[name] = (numeric - expected).abs().max().item() / scale
    wrong = {
        name: deviation for name, deviation in deviations.items() if not deviation <= tolerance
    }
    if wrong:
        told = ", ".join(f"of {name} by {deviation:.1e}" for name, deviation in wrong.items())
        raise AssertionError(
            f"gradients of {checked} deviate from central differences, {told} (tolerance {tolerance:.0e})"
        )
    return deviations


def _double(value: Any) -> Any:
    """In float64 and a copy, whose values can be varied; classes as they are."""
    if isinstance(value, tuple):
        return tuple(map(_double, value))
    return (
        value.to(torch.float64, copy=True).contiguous()
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
    )


class _Identity(Module):
    """What stands before a loss that is checked by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        return dy


class _Objective:
    """f as a function of x and of the parameters as they stand, and its gradients by `backward`."""

    def __init__(
        self, module: Module, loss: Module | None, target: Any, generator: Generator
    ) -> None:
        self.module, self.loss, self.target, self.generator = module, loss, target, generator
        module.to(torch.float64)
        self.streams = [
            each for _, layer in module.modules() for each in getattr(layer, "generators", [])
        ]
        self.beginnings = [stream.get_state() for stream in self.streams]
        self.weights: list[Tensor] = []  # of the outputs, without a loss

    def value(self, x: Tensor) -> float:
        """F."""
        y = self._outputs(x)
        if self.loss is not None:
            self.loss.train(True)
            return self.loss.forward(y, self.target).sum().item()
        return sum((part * weight).sum().item() for part, weight in zip(_parts(y), self.weights))

    def gradients(self, x: Tensor) -> dict[str, Tensor | None]:
        """By name, "x" for the input."""
        y = self._outputs(x)
        if self.loss is not None:
            self.loss.train(True)
            self.loss.forward(y, self.target)
            dy = self.loss.backward()
        else:
            self.weights = [
                torch.randn(part.shape, dtype=torch.float64, generator=self.generator)
                for part in _parts(y)
            ]
            dy = type(y)(*self.weights) if isinstance(y, tuple) else self.weights[0]
        self.module.zero_grad()
        dx = self.module.backward(dy)
        return {"x": dx} | {
            name: parameter.grad.clone() for name, parameter in self.module.named_parameters()
        }

    def _outputs(self, x: Tensor) -> Any:
        """Those of training, with the same masks each time."""
        for stream, beginning in zip(self.streams, self.beginnings):
            stream.set_state(beginning)
        self.module.train(True)
        return self.module.forward(x)


def _parts(y: Any) -> tuple[Tensor, ...]:
    return y if isinstance(y, tuple) else (y,)


def _difference(values: Tensor, place: int, value: Callable[[], float]) -> float:
    """The central difference in one coordinate."""
    before = values[place].item()
    results = []
    for sign in (1, -1):
        values[place] = before + sign * STEP
        results.append(value())
    values[place] = before
    return (results[0] - results[1]) / (2 * STEP)
