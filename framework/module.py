"""Modules: layers, and networks of layers, each with an explicit forward and backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import indent
from typing import Any, Generic, TypeVar

import torch
from torch import Generator, Tensor

from framework.differentiable import Differentiable
from framework.errors import check_state
from framework.parameter import Parameter

Output = TypeVar("Output")  # what a module computes: a tensor, or a NamedTuple of tensors
Own = TypeVar("Own", bound="Module[Any]")


class Module(Differentiable, Generic[Output]):
    """A layer, or a network of layers: y = f(x), and its gradients by the chain rule.

    `forward(x)` computes y. `backward(dy)` takes dL/dy, the gradient of a loss L, adds dL/dp to
    the `grad` of each parameter p, and returns dL/dx.

    A subclass sets its parameters, buffers and layers as attributes. Buffers are tensors of its
    state that are not learned; `buffer_names` lists them. Parameters and layers may also be in
    lists, tuples and dicts. A layer that draws random numbers draws them from its attribute
    `generators`, a list with one for each replica: a checkpoint saves their states, and
    `gradcheck` restores them.
    """

    buffer_names: tuple[str, ...] = ()
    frozen = False  # whether `freeze` was called
    stays_in_eval = False  # whether `stay_in_eval` was called

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, and retire the optimiser of each parameter that is replaced.

        The optimiser would go on to update the old parameter. ValueError if a tensor replaces a
        parameter, because it would not be learned.
        """
        if isinstance(value, Tensor) and isinstance(vars(self).get(name), Parameter):
            raise ValueError(
                f"{name} of {type(self).__name__} is a parameter, accepted is a Parameter in its "
                f"place, or new values for it: {name}.data = values"
            )
        for parameter in _parameters_in(vars(self).get(name)) - _parameters_in(value):
            parameter.rebind(parameter.data, parameter.grad)
        super().__setattr__(name, value)

    def __call__(self, x: Tensor) -> Output:
        return self.forward(x)

    def forward(self, x: Tensor) -> Output:
        """Compute y = f(x); x is (replicas, rows, ...)."""
        raise NotImplementedError

    def backward(self, dy: Output, input_gradient: bool = True) -> Tensor | None:
        """Add to the gradients of the parameters, and return dL/dx.

        With `input_gradient=False` a module may return None instead, which saves time: nothing
        needs dL/dx of a network's first layer.
        """
        raise NotImplementedError

    def modules(self) -> Iterator[tuple[str, Module[Any]]]:
        """Yield this module and all layers in it with their names, such as "", "0", "0.1"."""
        yield "", self
        for name, layer in self.children().items():
            for inner, module in layer.modules():
                yield _path(name, inner), module

    def children(self) -> dict[str, Module[Any]]:
        """The layers directly in this module, by name, in the order in which they were set."""
        return {name: part for name, part in self._parts() if isinstance(part, Module)}

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield each parameter with its name, such as "0.weight".

        A parameter of several layers is yielded once: their gradients add up in it.
        """
        found: set[Parameter] = set()
        for prefix, module in self.modules():
            for name, part in module._parts():
                if isinstance(part, Parameter) and part not in found:
                    found.add(part)
                    yield _path(prefix, name), part

    def parameters(self) -> list[Parameter]:
        """All parameters, for an optimiser, which leaves out those that are frozen."""
        return [parameter for _, parameter in self.named_parameters()]

    def freeze(self: Own, frozen: bool = True) -> Own:
        """Freeze all parameters or, with False, let them learn again: torch's `requires_grad_`.

        An optimiser made afterwards does not move frozen parameters; one made before can make no
        step any more. Batch norm still updates its running values, see `stay_in_eval`. `Sequential`
        skips the backward pass of its first layers if they are frozen and nothing needs dL/dx.
        """
        for parameter in self.parameters():
            parameter.freeze(frozen)
        for _, module in self.modules():
            module.frozen = frozen
        return self

    def stay_in_eval(self: Own, stay: bool = True) -> Own:
        """Compute as in evaluation while the rest of the network trains; undone by stay=False.

        `train()` does not end it, so that it lasts through `Trainer.fit`. Dropout keeps all units,
        batch norm uses its running values and does not update them. Parameters learn nevertheless,
        unless they are frozen.
        """
        for _, module in self.modules():
            module.stays_in_eval = stay
        return self.train(self.keeps)

    @property
    def size(self) -> int:
        """The number of values that a replica learns."""
        return sum(parameter.data[0].numel() for parameter in self.parameters())

    def all_generators(self) -> list[Generator]:
        """The generators from which the layers draw during training, such as dropout's."""
        generators: list[Generator] = []
        for _, module in self.modules():
            generators += getattr(module, "generators", [])
        return generators

    def zero_grad(self) -> None:
        """Set all gradients to 0."""
        for parameter in self.parameters():
            parameter.grad.zero_()

    def train(self: Own, mode: bool = True) -> Own:
        """Switch all layers to training or evaluation, which differ for dropout and batch norm."""
        super().train(mode)
        self.training = mode and not self.stays_in_eval
        for layer in self.children().values():
            layer.train(mode)
        return self

    def to(self: Own, target: torch.dtype | torch.device | str) -> Own:
        """Convert all parameters and buffers to a type, or move them to a device such as "cuda".

        Their optimiser must be made afterwards.
        """
        for parameter in self.parameters():
            parameter.rebind(parameter.data.to(target), parameter.grad.to(target))
        for _, module in self.modules():
            for name in module.buffer_names:
                setattr(module, name, getattr(module, name).to(target))
        return self

    def state(self) -> dict[str, Tensor]:
        """All parameters and buffers by name: the tensors themselves, (replicas, ...) each."""
        state = {name: parameter.data for name, parameter in self.named_parameters()}
        for prefix, module in self.modules():
            for name in module.buffer_names:
                state[_path(prefix, name)] = getattr(module, name)
        return state

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all parameters and buffers by name."""
        return {name: value.clone() for name, value in self.state().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy the values of a state into this module; raises what `check_state` raises."""
        self.check_state(state)
        for name, value in self.state().items():
            value.copy_(state[name])

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """KeyError or ValueError unless the state has this module's names, shapes and types."""
        check_state(state, self.state())

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield the attributes by name, and the items of lists and dicts, such as "layers.0"."""
        return _parts_in("", vars(self))

    def _described(self) -> dict[str, str]:
        parameters = {
            name: str(tuple(part.data.shape))
            for name, part in self._parts()
            if isinstance(part, Parameter)
        }
        return super()._described() | parameters

    def __repr__(self) -> str:
        own, layers = super().__repr__(), self.children().items()
        lines = [indent(f"({name}): {layer!r}", "  ") for name, layer in layers]
        return "\n".join([own[:-1], *lines, ")"]) if lines else own


Layer = Module[Tensor]  # a module whose output is one tensor


def _path(*names: str) -> str:
    return ".".join(name for name in names if name)


def _parts_in(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The items of lists, tuples and dicts, nested as they may be; or the value itself."""
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        yield name, value
        return
    for key, item in value.items():
        yield from _parts_in(_path(name, str(key)), item)


def _parameters_in(value: Any) -> set[Parameter]:
    """The parameters in an attribute, and in the layers in it."""
    parts = [part for _, part in _parts_in("", value)]
    parameters = {part for part in parts if isinstance(part, Parameter)}
    return parameters.union(*(part.parameters() for part in parts if isinstance(part, Module)))
