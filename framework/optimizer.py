"""The base of optimisers.

An optimiser puts the values of all its parameters into one vector, and their gradients into
another. The parameters become views of both. A step then takes a few operations, however many
layers and replicas there are.

In the formulas p are the values, g their gradients and lr the learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from framework.errors import check_state, instance, not_negative
from framework.module import Module
from framework.parameter import Parameter
from framework.settings import Described


class Optimizer(Described):
    """Base: the two vectors and the state. `lr` may be changed before each step.

    A subclass overrides `update`, which changes `values`, and lists its state in `state_names`.
    An assignment to `values` copies into the existing vector.
    """

    state_names: tuple[str, ...] = ()  # attributes that are the state: tensors and numbers
    values = property(attrgetter("_values"), lambda self, values: self._values.copy_(values))

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        if isinstance(parameters, (Module, Parameter)):
            kind = type(parameters).__name__
            raise ValueError(f"the parameters are a {kind}, accepted is network.parameters()")
        self.parameters = [instance("a parameter", each, Parameter) for each in parameters]
        self.lr = not_negative("lr", lr)
        self.weight_decay = not_negative("weight_decay", weight_decay)
        self.maximize = instance("maximize", maximize, bool)
        if not self.parameters:
            raise ValueError("an optimiser needs at least one parameter, none was given")
        for parameter in self.parameters:
            if self.parameters.count(parameter) > 1:
                raise ValueError(f"{parameter} was given twice, accepted is each parameter once")
        self.retired = False
        self._own_parameters()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle, whose parameters are no longer views of the vectors."""
        vars(self).update(state)
        if not self.retired:
            self._own_parameters()

    def _own_parameters(self) -> None:
        """Copy all values into one vector and all gradients into another, and rebind to views.

        For parameters p and q, `values` is (p_1, p_2, ..., q_1, q_2, ...), and p.data is its first
        part. A step p -= lr g, q -= lr g is then one operation, values -= lr gradients, and what
        `backward` adds to p.grad is in `gradients` at once.
        """
        self._values = torch.cat([parameter.data.flatten() for parameter in self.parameters])
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
        self.update(self.gradients.neg() if self.maximize else self.gradients)

    def decayed(self, gradient: Tensor) -> Tensor:
        """Add the gradient of the L2 penalty."""
        return gradient.add(self.values, alpha=self.weight_decay) if self.weight_decay else gradient

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

    def _described(self) -> dict[str, str]:
        return super()._described() | {"parameters": str(len(self.parameters))}

    def _state(self) -> dict[str, Any]:
        forgotten = [name for name, value in vars(self).items() if isinstance(value, Tensor)]
        for name in set(forgotten) - {*self.state_names, "_values", "gradients"}:
            raise ValueError(
                f"{name} of {type(self).__name__} is a tensor that would not be saved, accepted "
                f'are tensors in state_names = ("{name}", ...)'
            )
        return {name: getattr(self, name) for name in self.state_names}


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
