"""Optimisers as recipes: a recipe checks its settings first and makes torch's optimiser later.

All recipes use torch's fused kernels, which update all parameters in one call a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from digitpairs.checks import InvalidValueError, boolean, number, positive
from digitpairs.training.array_optimizers import ArrayAdam, ArrayAdamW, ArrayOptimizer, ArraySGD


class Recipe:
    """Base: parameters -> an optimiser of `torch_class` with the recipe's settings.

    A recipe whose class sets `array_class` can train arrays of runs. Subclasses do not inherit
    `array_class`: each sets its own, or trains each run alone.
    """

    torch_class: type[torch.optim.Optimizer]
    array_class: type[ArrayOptimizer]

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def __call__(
        self, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]]
    ) -> torch.optim.Optimizer:
        settings = self.settings | {"fused": True}
        return self.torch_class(parameters, **settings)


class SGD(Recipe):
    """Stochastic gradient descent; `torch.optim.SGD`.

    Args:
        lr: learning rate, above 0.
        momentum: 0 to 1.
        nesterov: whether the momentum is Nesterov's; needs a momentum above 0.
        weight_decay: L2 penalty.
    """

    torch_class = torch.optim.SGD
    array_class = ArraySGD

    def __init__(
        self, lr: float, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        super().__init__(
            lr=positive("lr", lr),
            momentum=number("momentum", momentum, at_most=1),
            nesterov=boolean("nesterov", nesterov),
            weight_decay=number("weight_decay", weight_decay),
        )
        if nesterov and not momentum:
            raise InvalidValueError("nesterov", nesterov, "false, unless momentum is above 0")


class Adam(Recipe):
    """Adam (Kingma and Ba 2015); `torch.optim.Adam`.

    Args:
        lr: learning rate, above 0.
        betas: decay rates of the averages of the two moments, each from 0 to below 1.
        eps: added to the root of the second moment, above 0.
        weight_decay: L2 penalty.
    """

    torch_class: type[torch.optim.Optimizer] = torch.optim.Adam
    array_class: type[ArrayOptimizer] = ArrayAdam

    def __init__(
        self,
        lr: float,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            lr=positive("lr", lr),
            betas=_betas(betas),
            eps=positive("eps", eps),
            weight_decay=number("weight_decay", weight_decay),
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019); `torch.optim.AdamW`."""

    torch_class = torch.optim.AdamW
    array_class = ArrayAdamW


def array_class_of(recipe: Any) -> type[ArrayOptimizer] | None:
    """The array optimiser that the recipe's own class declares, or None."""
    return vars(type(recipe)).get("array_class")


def _betas(betas: Any) -> tuple[float, float]:
    accepted = "two numbers from 0 to below 1"
    if not isinstance(betas, Sequence) or isinstance(betas, str) or len(betas) != 2:
        raise InvalidValueError("betas", betas, accepted)
    try:
        first, second = (number("betas", beta, at_most=math.nextafter(1, 0)) for beta in betas)
    except InvalidValueError:
        raise InvalidValueError("betas", list(betas), accepted) from None
    return first, second
