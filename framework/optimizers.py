"""Optimisers: how gradients move parameters.

An optimiser lays the values of all its parameters in one vector, and their gradients in another, of which the parameters then
hold views: a step takes a few operations however many layers, and replicas, there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from framework.errors import not_negative, shape_of
from framework.module import Parameter


class Optimizer:
    """Base: the two vectors, and the state. `lr` may be set anew before each step."""

    state_names: tuple[str, ...] = ()  # tensors and numbers that belong to the state

    def __init__(
        self, parameters: Sequence[Parameter], lr: float, weight_decay: float = 0.0
    ) -> None:
        self.parameters, self.lr, self.weight_decay = (
            list(parameters),
            not_negative("lr", lr),
            not_negative("weight_decay", weight_decay),
        )
        if not self.parameters:
            raise ValueError("an optimiser needs at least one parameter, none was given")
        if len(set(map(id, self.parameters))) < len(self.parameters):
            raise ValueError("a parameter was given twice, accepted is each once")
        self.retired = False
        self._take_over()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy or a pickle, whose tensors are no views of one another."""
        vars(self).update(state)
        if not self.retired:
            self._take_over()

    def _take_over(self) -> None:
        """Lays all values in one vector and all gradients in another, of which the parameters' tensors become views."""
        self.values = torch.cat([parameter.data.flatten() for parameter in self.parameters])
        self.gradients = torch.cat([parameter.grad.flatten() for parameter in self.parameters])
        sizes = [parameter.data.numel() for parameter in self.parameters]
        for parameter, data, grad in zip(
            self.parameters, self.values.split(sizes), self.gradients.split(sizes)
        ):
            parameter.move(data, grad, self)

    def zero_grad(self) -> None:
        """Clears all gradients."""
        self.gradients.zero_()

    def step(self) -> None:
        """One step with the gradients that stand in the parameters. RuntimeError when it no longer has them."""
        if self.retired:
            raise RuntimeError(
                "another optimiser was made for one of these parameters later, or its type was changed, or its layer has another "
                "parameter in its place: make a new optimiser"
            )
        self.update(self.gradients)

    def update(self, gradient: Tensor) -> None:
        """The optimiser's own arithmetic."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The state, copied; the settings do not belong to it."""
        state = {name: getattr(self, name) for name in self.state_names}
        return {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in state.items()
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """KeyError or ValueError unless it is a state of such an optimiser."""
        if set(state) != set(self.state_names):
            raise KeyError(
                f"the state has {', '.join(state) or 'nothing'}; accepted is {', '.join(self.state_names) or 'nothing'}"
            )
        for name, value in state.items():
            own = getattr(self, name)
            if _kind(value) != _kind(own):
                raise ValueError(
                    f"{name} of the state does not fit this optimiser: it is {_kind(value)}, accepted is {_kind(own)}"
                )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave; see `check_state`."""
        self.check_state(state)
        for name, value in state.items():
            setattr(self, name, value.clone() if isinstance(value, Tensor) else value)


class SGD(Optimizer):
    """Gradient descent: g += weight_decay * p; v = momentum * v + g; p -= lr * v (Polyak 1964, as Sutskever et al. 2013 write it),
    or, with `nesterov`, p -= lr * (g + momentum * v).
    """

    state_names = ("velocity",)

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.momentum, self.nesterov = not_negative("momentum", momentum), nesterov
        if nesterov and not momentum:
            raise ValueError("nesterov=True needs a momentum above 0")
        super().__init__(parameters, lr, weight_decay)
        self.velocity = torch.zeros_like(self.values) if momentum else None

    def update(self, gradient: Tensor) -> None:
        if self.weight_decay:
            gradient = gradient.add(self.values, alpha=self.weight_decay)
        if self.velocity is not None:
            self.velocity.mul_(self.momentum).add_(gradient)
            gradient = (
                gradient.add(self.velocity, alpha=self.momentum) if self.nesterov else self.velocity
            )
        self.values.add_(gradient, alpha=-self.lr)


class Adam(Optimizer):
    """Kingma and Ba 2015, algorithm 1: moments m and v of the gradient, their bias corrected; p -= lr * m / (sqrt(v) + eps).

    Weight decay is added to the gradient.
    """

    state_names = ("first", "second", "steps")

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are {betas}, accepted are two numbers from 0 to below 1")
        self.betas, self.eps, self.steps = betas, not_negative("eps", eps), 0
        super().__init__(parameters, lr, weight_decay)
        self.first, self.second = torch.zeros_like(self.values), torch.zeros_like(self.values)

    def update(self, gradient: Tensor) -> None:
        self.steps += 1
        beta1, beta2 = self.betas
        gradient = self.decayed(gradient)
        self.first.lerp_(gradient, 1 - beta1)
        self.second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        correction = math.sqrt(
            1 - beta2**self.steps
        )  # of the second moment's root; multiplied out, as at the end of their section 2
        root = self.second.sqrt().add_(self.eps * correction)
        self.values.addcdiv_(
            self.first, root, value=-self.lr * correction / (1 - beta1**self.steps)
        )

    def decayed(self, gradient: Tensor) -> Tensor:
        """The gradient of an L2 penalty added."""
        return gradient.add(self.values, alpha=self.weight_decay) if self.weight_decay else gradient


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters themselves: p *= 1 - lr * weight_decay (Loshchilov and Hutter 2019). The other
    settings are Adam's.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float = 0.001,
        *,
        weight_decay: float = 0.01,
        **settings: Any,
    ) -> None:
        super().__init__(parameters, lr, weight_decay=weight_decay, **settings)

    def decayed(self, gradient: Tensor) -> Tensor:
        self.values.mul_(1 - self.lr * self.weight_decay)
        return gradient


def _kind(value: Any) -> str:
    return shape_of(value) if isinstance(value, Tensor) else type(value).__name__
