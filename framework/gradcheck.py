"""Check of every gradient against central differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from framework.contract import check_replicas, check_second_backward
from framework.losses import Loss
from framework.module import Module
from framework.objective import Objective, copies, double

# The error of a central difference is h^2 by its formula, and 1e-16 f / h by rounding.
STEP = 1e-6  # h, for which both are small
NOISE = 1e-9  # the error by rounding, as a multiple of f: some roundings over 2h
KINK = 1e-3  # f has a kink if the differences on both sides deviate by more; else by about h


def gradcheck(
    module: Module[Any] | Loss[Any],
    x: Tensor,
    *,
    loss: Loss[Any] | None = None,
    target: Any = None,
    tolerance: float = 1e-5,
    coordinates: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    """Compare the gradients of `backward` with (f(p + h) - f(p - h)) / 2h, in float64.

    f is the loss of the module's outputs or, without a loss, their sum weighted by random numbers.
    The check runs in training mode on a copy of the module, with the same dropout masks throughout.
    A second backward pass, with `input_gradient=False`, must add to the parameters' gradients, and
    no replica may depend on another.
    To check a loss alone: `gradcheck(loss, prediction, target=target)`.

    Args:
        module: a layer, a network or a loss.
        x: its input, (replicas, rows, ...).
        loss: the loss of the outputs.
        target: the loss's target.
        tolerance: the largest accepted deviation. Deviations that rounding explains always pass.
        coordinates: the largest number of a tensor's values to vary; they are drawn at random.
        seed: of the random numbers.

    Returns:
        For the input, "x", and for each parameter by its name, the largest deviation of a
        coordinate divided by the largest gradient of the tensor.

    Raises:
        AssertionError: names the tensors whose deviation is above the tolerance, those whose
            gradients the second pass replaced, and what depends on another replica. At a kink, such
            as ReLU's at 0, the derivatives of both sides differ and no gradient can be checked; the
            error says so.
        ValueError: if x is not one tensor, or dx has another shape.
    """
    _check_tensor(x)
    generator = Generator().manual_seed(seed + 987_654_321)  # x may be drawn with the seed itself
    objective = Objective(*copies(module, loss, generator), double(target))
    x = double(x)
    check_replicas(objective, x)
    gradients = objective.gradients(x)
    value = objective.value(x)
    noise = NOISE * max(1.0, abs(value))
    deviations, kinks = {}, []
    for name, tensor in {"x": x, **objective.parameters()}.items():
        gradient = gradients[name]
        if gradient is None:
            deviations[name] = math.nan
            continue
        chosen = torch.randperm(tensor.numel(), generator=generator)[:coordinates].tolist()
        pairs = [_neighbours(tensor.view(-1), i, lambda: objective.value(x)) for i in chosen]
        above, below = torch.tensor(pairs, dtype=torch.float64).T
        numeric = (above - below) / (2 * STEP)
        deviations[name] = _deviation(gradient.flatten()[chosen], numeric, noise / tolerance)
        sides = (above - value) / STEP, (value - below) / STEP
        if _deviation(*sides, smallest_scale=noise / KINK) > KINK:
            kinks.append(name)
    _check_deviations(type(module).__name__, deviations, tolerance, _hint(gradients["x"], kinks))
    check_second_backward(objective, x)
    return deviations


def _check_tensor(x: object) -> None:
    if not isinstance(x, Tensor):
        raise ValueError(
            f"the input of gradcheck is {type(x).__name__}, accepted is one tensor; check a loss "
            "of several outputs together with the network that computes them"
        )


def _neighbours(values: Tensor, coordinate: int, f: Callable[[], float]) -> tuple[float, float]:
    """f(p + h) and f(p - h) for one of the values p."""
    original = values[coordinate].item()
    values[coordinate] = original + STEP
    above = f()
    values[coordinate] = original - STEP
    below = f()
    values[coordinate] = original
    return above, below


def _deviation(gradient: Tensor, numeric: Tensor, smallest_scale: float) -> float:
    """The largest deviation, divided by the largest gradient or at least by `smallest_scale`."""
    scale = max(float(gradient.abs().max()), float(numeric.abs().max()), smallest_scale)
    return float((numeric - gradient).abs().max()) / scale


def _hint(dx: Tensor | None, kinks: list[str]) -> str:
    """What else an error says."""
    if dx is None:
        return "; its backward returned None, accepted is dL/dx"
    if kinks:
        return f"; there is a kink at a value of {', '.join(kinks)}: check at other values"
    return ""


def _check_deviations(
    checked: str, deviations: dict[str, float], tolerance: float, hint: str
) -> None:
    wrong = [
        f"of {name} by {deviation:.1e}"
        for name, deviation in deviations.items()
        if not deviation <= tolerance  # nan as well
    ]
    if wrong:
        raise AssertionError(
            f"gradients of {checked} deviate from central differences, {', '.join(wrong)} "
            f"(tolerance {tolerance:.0e}){hint}"
        )
