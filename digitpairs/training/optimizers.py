"""Optimisers as recipes: checked settings now, torch's optimiser once the parameters are there.

torch's fused kernels do the same arithmetic in one call a step, where the default loops over the parameters in Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from digitpairs.checks import InvalidValueError, boolean, number, positive


class SGD:
    """Stochastic gradient descent; `torch.optim.SGD`.

    Args: lr: learning rate, above 0. momentum: 0 to 1. nesterov: Nesterov's momentum, with a momentum above 0.
    weight_decay: L2 penalty.
    """

    def __init__(
        self, lr: float, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        self.settings: dict[str, Any] = {
            "lr": positive("lr", lr),
            "momentum": number("momentum", momentum, at_most=1),
            "nesterov": boolean("nesterov", nesterov),
            "weight_decay": number("weight_decay", weight_decay),
        }
        if nesterov and not momentum:
            raise InvalidValueError("nesterov", nesterov, "false, unless momentum is above 0")

    def __call__(
        self, parameters: Iterable[nn.Parameter] | Iterable[dict]
    ) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, **self.settings, fused=True)


class Adam:
    """Adam (Kingma and Ba 2015); `torch.optim.Adam`.

    Args: lr: learning rate, above 0. betas: decay of the two moments' averages, each from 0 to below 1. eps: added to
    the root of the second moment, above 0. weight_decay: L2 penalty.
    """

    make: type[torch.optim.Optimizer] = torch.optim.Adam

    def __init__(
        self,
        lr: float,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.settings: dict[str, Any] = {
            "lr": positive("lr", lr),
            "betas": _betas(betas),
            "eps": positive("eps", eps),
            "weight_decay": number("weight_decay", weight_decay),
        }

    def __call__(
        self, parameters: Iterable[nn.Parameter] | Iterable[dict]
    ) -> torch.optim.Optimizer:
        return self.make(parameters, **self.settings, fused=True)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019); `torch.optim.AdamW`."""

    make = torch.optim.AdamW


def _betas(betas: Sequence[float]) -> tuple[float, float]:
    accepted = "two numbers from 0 to below 1"
    if not isinstance(betas, Sequence) or isinstance(betas, str) or len(betas) != 2:
        raise InvalidValueError("betas", betas, accepted)
    try:
        checked = tuple(number("betas", beta, at_most=1) for beta in betas)
    except InvalidValueError:
        raise InvalidValueError("betas", list(betas), accepted) from None
    if 1.0 in checked:
        raise InvalidValueError("betas", list(betas), accepted)
    return checked
