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
STEP = 1e-6  # where the error of the difference, h^2, and that of rounding, 1e-16 / h, are both small


def gradcheck(
    module: Module, x: Tensor, *, loss: Module | None = None, target: Any = None, tolerance: float = 1e-5, coordinates: int = 100, seed: int = 0
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
        raise ValueError("gradcheck varies one tensor; check a loss of several outputs together with the network that gives them")
    module, loss = copy.deepcopy(module), copy.deepcopy(loss)
    module.to(torch.float64)
    x, target = _double(x), _double(target)
    generator = Generator().manual_seed(seed + 987_654_321)  # not a stream that x may have been drawn from
    objective = _objective(module, x, loss, target, generator)
    analytic, noise = objective(x, True), NOISE * max(1.0, objective(x, False).abs().item())
    tensors = {"x": x} | {name: parameter.data for name, parameter in module.named_parameters()}
    deviations = {}
    for name, tensor in tensors.items():
        if analytic[name] is None:
            deviations[name] = math.nan
            continue
        chosen = torch.randperm(tensor.numel(), generator=generator)[:coordinates].tolist()
        numeric = torch.stack([_difference(tensor.view(-1), place, lambda: objective(x, False)) for place in chosen])
        expected = analytic[name].flatten()[chosen]
        scale = max(expected.abs().max().item(), numeric.abs().max().item(), noise / tolerance)
        deviations[name] = (numeric - expected).abs().max().item() / scale
    wrong = {name: deviation for name, deviation in deviations.items() if not deviation <= tolerance}
    if wrong:
        told = ", ".join(f"of {name} by {deviation:.1e}" for name, deviation in wrong.items())
        raise AssertionError(f"gradients of {type(module).__name__} deviate from central differences, {told} (tolerance {tolerance:.0e})")
    return deviations


def _double(value: Any) -> Any:
    """In float64 and a copy, whose values can be varied; classes as they are."""
    if isinstance(value, tuple):
        return tuple(map(_double, value))
    return value.to(torch.float64, copy=True).contiguous() if isinstance(value, Tensor) and value.is_floating_point() else value


def _objective(module: Module, x: Tensor, loss: Module | None, target: Any, generator: Generator) -> Callable[[Tensor, bool], Any]:
    """A function of x: the value f, or the gradients by name."""
    state, streams = module.state_dict(), [each for _, layer in module.modules() for each in getattr(layer, "generators", [])]
    beginnings = [stream.get_state() for stream in streams]
    weights: list[Tensor] = []

    def evaluate(x: Tensor, gradients: bool) -> Any:
        for stream, beginning in zip(streams, beginnings):
            stream.set_state(beginning)
        buffers = {name: value for name, value in state.items() if name not in dict(module.named_parameters())}
        for name, value in module.state().items():
            if name in buffers:
                value.copy_(buffers[name])
        module.train(True)
        y = module.forward(x) if loss is not None or target is None else module.forward(x, target)
        if loss is not None:
            loss.train(True)
            value = loss.forward(y, target)
        else:
            parts = y if isinstance(y, tuple) else (y,)
            weights.extend(torch.randn(part.shape, dtype=torch.float64, generator=generator) for part in parts[len(weights) :])
            value = sum((part * weight).sum() for part, weight in zip(parts, weights))
        if not gradients:
            return value.sum()
        module.zero_grad()
        if loss is None and target is not None:
            dx = module.backward() * weights[0].view(-1, *[1] * (x.dim() - 1))
        elif loss is not None:
            dx = module.backward(loss.backward())
        else:
            dx = module.backward(type(y)(*weights) if isinstance(y, tuple) else weights[0])
        return {"x": dx} | {name: parameter.grad.clone() for name, parameter in module.named_parameters()}

    return evaluate


def _difference(values: Tensor, place: int, objective: Callable[[], Tensor]) -> Tensor:
    """The central difference in one coordinate."""
    before = values[place].item()
    results = []
    for sign in (1, -1):
        values[place] = before + sign * STEP
        results.append(objective())
    values[place] = before
    return (results[0] - results[1]) / (2 * STEP)
