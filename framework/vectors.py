"""The values of many parameters in one vector, and their gradients in another."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch

from framework.errors import instance
from framework.module import Module
from framework.parameter import Parameter
from framework.settings import Described


class ParameterVectors(Described):
    """Base of optimisers: two vectors, of which the parameters become views.

    A parameter belongs to one optimiser. One that loses a parameter to another is retired.

    Attributes:
        values, gradients: the vectors; an assignment to `values` copies into it.
        parameters: those in the vectors. Frozen parameters are left out.
    """

    values = property(attrgetter("_values"), lambda self, values: self._values.copy_(values))

    def take(self, parameters: Any) -> None:
        """Put the parameters that learn into the vectors. ValueError if there are none."""
        listed = [instance("a parameter", each, Parameter) for each in _listed(parameters)]
        for parameter in listed:
            if listed.count(parameter) > 1:
                raise ValueError(f"{parameter} was given twice, accepted is each parameter once")
        self.parameters = [parameter for parameter in listed if not parameter.frozen]
        if not self.parameters:
            given = f"{len(listed)} frozen ones were given" if listed else "none was given"
            raise ValueError(f"an optimiser needs at least one parameter that learns, {given}")
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


def _listed(parameters: Any) -> list[Any]:
    if isinstance(parameters, (Module, Parameter)):
        kind = type(parameters).__name__
        raise ValueError(f"the parameters are a {kind}, accepted is network.parameters()")
    return list(parameters)
