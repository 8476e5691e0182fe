"""The base of optimisers.

A step takes a few operations on the vectors of all values and gradients, however many layers and
replicas there are. With groups of parameters, it takes these operations for each group, on the
group's part of both vectors.

In the formulas p are the values, g their gradients and lr the learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from textwrap import indent
from typing import Any

from torch import Tensor, split

from framework.errors import check_state, instance, not_negative
from framework.parameter import Parameter
from framework.vectors import ParameterVectors

Parameters = Sequence[Parameter] | Sequence[Mapping[str, Any]]  # or groups of them


class Optimizer(ParameterVectors):
    """Base: the two vectors and the state. `lr` may be changed before each step.

    A subclass overrides `update`, which changes `values`, and lists its state in `state_names`.
    An assignment to `values` copies into the existing vector.

    In place of the parameters, an optimiser takes torch's list of dicts: groups of parameters with
    settings of their own. The result is then a `ParameterGroups` of optimisers of this class.
    """

    state_names: tuple[str, ...] = ()  # attributes that are the state: tensors and numbers

    def __new__(cls, parameters: Parameters = (), *lr: Any, **settings: Any) -> Optimizer:
        is_list = isinstance(parameters, (list, tuple))
        if is_list and any(isinstance(each, dict) for each in parameters):
            given = signature(cls.__init__).bind_partial(None, (), *lr, **settings).arguments
            return ParameterGroups.of(cls, parameters, dict(list(given.items())[2:]))
        return super().__new__(cls)

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        self.lr = not_negative("lr", lr)
        self.weight_decay = not_negative("weight_decay", weight_decay)
        self.maximize = instance("maximize", maximize, bool)
        self.take(parameters)

    @property
    def groups(self) -> list[Optimizer]:
        """The optimisers of the groups of parameters; this one alone if there are no groups."""
        return [self]

    def step(self) -> None:
        """Update the parameters with their gradients.

        RuntimeError if a parameter no longer belongs to this optimiser.
        """
        if self.retired:
            raise RuntimeError(
                "the optimiser has lost a parameter: another optimiser was made for it, its type "
                "was changed, it was frozen, or its layer got another parameter in its place; make "
                "a new optimiser"
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


class ParameterGroups(Optimizer):
    """Optimisers of groups of parameters, which make their steps together.

    `fw.SGD([{"params": a}, {"params": b, "lr": 0.1}], lr=0.01)` makes one of two `SGD`, which are
    its `groups`. Each has settings and a state of its own. A schedule begins with each group's
    rate. `groups[1].lr = 0.2` changes the rate of one.
    """

    def __new__(cls, groups: Sequence[Optimizer] = ()) -> ParameterGroups:
        return object.__new__(cls)

    def __init__(self, groups: Sequence[Optimizer]) -> None:
        self._groups = [instance("a group", group, Optimizer) for group in groups]
        self.maximize = False  # each group has its own
        self.take([parameter for group in self._groups for parameter in group.parameters])

    @classmethod
    def of(
        cls, kind: type[Optimizer], dicts: Parameters, settings: Mapping[str, Any]
    ) -> ParameterGroups:
        """Make optimisers of this kind; a group's own settings go before the common ones."""
        groups = []
        for number, own in enumerate(dicts):
            if not isinstance(own, dict) or "params" not in own:
                accepted = 'a dict with "params", as each of the list'
                raise ValueError(f"group {number} of parameters is {own!r}, accepted is {accepted}")
            own = dict(own)
            groups.append(kind(own.pop("params"), **{**settings, **own}))
        return cls(groups)

    @property
    def groups(self) -> list[Optimizer]:
        return self._groups

    @property
    def lr(self) -> float:
        """The rate of the first group."""
        return self.groups[0].lr

    @lr.setter
    def lr(self, rate: float) -> None:
        accepted = "the rate of one group: optimizer.groups[0].lr = ..."
        raise ValueError(
            f"lr of {len(self.groups)} groups is set to {rate}, accepted is {accepted}"
        )

    def update(self, gradient: Tensor) -> None:
        for group in self.groups:
            group.update(group.gradients.neg() if group.maximize else group.gradients)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.check_state(state)
        for number, group in enumerate(self.groups):
            group.load_state_dict({name: state[f"{number}.{name}"] for name in group._state()})

    def __repr__(self) -> str:
        lines = [f"({number}): {group!r}" for number, group in enumerate(self.groups)]
        return "\n".join(["ParameterGroups(", *(indent(line, "  ") for line in lines), ")"])

    def _own_parameters(self) -> None:
        """Own all parameters; the vectors of the groups are parts of this one's."""
        super()._own_parameters()
        sizes = [len(group.values) for group in self.groups]
        parts = zip(self.groups, split(self.values, sizes), split(self.gradients, sizes))
        for group, values, gradients in parts:
            group._values, group.gradients = values, gradients

    def _state(self) -> dict[str, Any]:
        return {
            f"{number}.{name}": value
            for number, group in enumerate(self.groups)
            for name, value in group._state().items()
        }


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
