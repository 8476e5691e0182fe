"""Optimisers: how gradients change parameters.

An optimiser puts the values of all its parameters into one vector, and their gradients into
another. The parameters become views of both. A step then takes a few operations, however many
layers and replicas there are.

In the formulas p are the values, g their gradients and lr the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from framework.errors import check_state, fraction, instance, not_negative
from framework.module import Module
from framework.parameter import Parameter


class Optimizer:
    """Base: the two vectors and the state. `lr` may be changed before each step."""

    state_names: tuple[str, ...] = ()  # attributes that are the state: tensors and numbers

    def __init__(
        self, parameters: Sequence[Parameter], lr: float, weight_decay: float = 0.0
    ) -> None:
        if isinstance(parameters, (Module, Parameter)):
            kind = type(parameters).__name__
            raise ValueError(f"the parameters are a {kind}, accepted is network.parameters()")
        self.parameters = [instance("a parameter", each, Parameter) for each in parameters]
        self.lr = not_negative("lr", lr)
        self.weight_decay = not_negative("weight_decay", weight_decay)
        if not self.parameters:
            raise ValueError("an optimiser needs at least one parameter, none was given")
        if len(set(map(id, self.parameters))) < len(self.parameters):
            raise ValueError("a parameter was given twice, accepted is each once")
        self.retired = False
        self._own_parameters()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle, whose parameters are no longer views of the vectors."""
        vars(self).update(state)
        if not self.retired:
            self._own_parameters()

    def _own_parameters(self) -> None:
        """Copy all values into one vector and all gradients into another, and rebind to views."""
        self.values = torch.cat([parameter.data.flatten() for parameter in self.parameters])
        self.gradients = torch.cat([parameter.grad.flatten() for parameter in self.parameters])
        sizes = [parameter.data.numel() for parameter in self.parameters]
        values, gradients = torch.split(self.values, sizes), torch.split(self.gradients, sizes)
        for parameter, data, grad in zip(self.parameters, values, gradients):
            parameter.rebind(data, grad, self)

    def has(self, parameter: Parameter) -> bool:
        """Whether steps change this parameter: its tensors are views of the two vectors.

        They are not after another optimiser was made for it, or after `parameter.data.data = ...`.
        """
        pairs = ((parameter.data, self.values), (parameter.grad, self.gradients))
        return parameter.owner is self and all(
            view.untyped_storage().data_ptr() == vector.untyped_storage().data_ptr()
            for view, vector in pairs
        )

    def zero_grad(self) -> None:
        """Set all gradients to 0."""
        self.gradients.zero_()

    def step(self) -> None:
        """Update the parameters with their gradients.

        RuntimeError if a parameter no longer belongs to this optimiser.
        """
        if self.retired:
            raise RuntimeError(
                "the optimiser has lost a parameter: another optimiser was made for it, its type "
                "was changed, or its layer got another parameter in its place; make a new optimiser"
            )
        self.update(self.gradients)

    def update(self, gradient: Tensor) -> None:
        """Update `values` with the gradient, a vector of the same length."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state; settings are not part of it."""
        return {name: _copy(value) for name, value in self._state().items()}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """KeyError or ValueError unless the state has this optimiser's names, shapes and types."""
        check_state(state, self._state())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy a state into this optimiser; raises what `check_state` raises."""
        self.check_state(state)
        for name, value in state.items():
            setattr(self, name, _copy(value))

    def _state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.state_names}


class SGD(Optimizer):
    """Gradient descent with momentum: v = momentum * v + g; p -= lr * v.

    With `nesterov`, p -= lr * (g + momentum * v). Weight decay adds weight_decay * p to g first.
    Polyak 1964, in the form of Sutskever et al. 2013.
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
            if self.nesterov:
                gradient = gradient.add(self.velocity, alpha=self.momentum)
            else:
                gradient = self.velocity
        self.values.add_(gradient, alpha=-self.lr)


class Adam(Optimizer):
    """Adam: p -= lr * m / (sqrt(v) + eps), with bias-corrected moments m and v of the gradient.

    m = beta1 m + (1 - beta1) g, divided by 1 - beta1^t in step t; v = beta2 v + (1 - beta2) g^2,
    divided by 1 - beta2^t. Weight decay adds weight_decay * p to g first. Kingma and Ba 2015,
    algorithm 1.
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
        if not isinstance(betas, (list, tuple)) or len(betas) != 2 or 1 in betas:
            raise ValueError(f"betas are {betas}, accepted are two numbers from 0 to below 1")
        self.betas = (fraction("betas[0]", betas[0]), fraction("betas[1]", betas[1]))
        self.eps, self.steps = not_negative("eps", eps), 0
        super().__init__(parameters, lr, weight_decay)
        self.first, self.second = torch.zeros_like(self.values), torch.zeros_like(self.values)

    def update(self, gradient: Tensor) -> None:
        self.steps += 1
        beta1, beta2 = self.betas
        gradient = self.decayed(gradient)
        self.first.lerp_(gradient, 1 - beta1)
        self.second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # The bias corrections are factors of the rate, as at the end of the paper's section 2.
        correction = math.sqrt(1 - beta2**self.steps)
        root = self.second.sqrt().add_(self.eps * correction)
        rate = self.lr * correction / (1 - beta1**self.steps)
        self.values.addcdiv_(self.first, root, value=-rate)

    def decayed(self, gradient: Tensor) -> Tensor:
        """Add the gradient of the L2 penalty."""
        return gradient.add(self.values, alpha=self.weight_decay) if self.weight_decay else gradient


class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - lr * weight_decay before each step.

    Loshchilov and Hutter 2019. The other settings are as in `Adam`.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def decayed(self, gradient: Tensor) -> Tensor:
        """Shrink the parameters, and return the gradient as it is."""
        self.values.mul_(1 - self.lr * self.weight_decay)
        return gradient


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
