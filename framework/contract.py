"""Checks of what every module and loss must do, besides computing correct gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from framework.data import tensors_in
from framework.errors import shape_of
from framework.objective import Objective


def check_replicas(objective: Objective, x: Tensor) -> None:
    """AssertionError unless all have x's axis of replicas, and no replica depends on another.

    Other values of the first replica, of the input and of the parameters, must change nothing for
    the others. The same values must give the same outputs again.
    """
    first = _outcome(objective, x)
    for name, values in (objective.parameters() | first).items():
        if values.shape[:1] != x.shape[:1]:
            raise AssertionError(
                f"{name} is {shape_of(values)}, accepted is ({len(x)}, ...) for {len(x)} replicas"
            )
    again = _outcome(objective, x)
    changed = [values[0] for values in (x, *objective.parameters().values())]
    before = [values.clone() for values in changed]
    for values in changed:
        values.mul_(0.75)
    other = _outcome(objective, x)
    for values, original in zip(changed, before):
        values.copy_(original)
    for name, values in first.items():
        if not _same(values, again[name]):
            raise AssertionError(
                f"{name} differs in a second forward of the same input; accepted are layers that "
                "draw random numbers from their attribute `generators`"
            )
        if not _same(values[1:], other[name][1:]):
            raise AssertionError(f"{name} of a replica depends on another replica's values")


def check_second_backward(objective: Objective, x: Tensor) -> None:
    """AssertionError unless a second backward pass adds to the parameters' gradients."""
    module, first = objective.module, objective.gradients(x)
    objective.value(x)
    module.backward(objective.loss.backward(), input_gradient=False)
    for name, parameter in module.named_parameters():
        once = first[name]
        if once is not None and not torch.allclose(parameter.grad, 2 * once, atol=1e-12):
            raise AssertionError(
                f"a second backward of {type(module).__name__} does not add to the "
                f"gradient of {name}, accepted is grad += ... or grad.add_(...)"
            )


def _outcome(objective: Objective, x: Tensor) -> dict[str, Tensor]:
    """The outputs and the losses by what they are called in an error."""
    y, losses = objective.losses(x)
    kind = type(objective.module).__name__
    outputs = {f"output {i} of {kind}": part for i, part in enumerate(tensors_in(y))}
    return outputs | {f"the loss of {type(objective.loss).__name__}": losses}


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-12, atol=1e-12, equal_nan=True)
