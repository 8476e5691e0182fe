"""What a layer is, and layers one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from framework.errors import shape_of


class Parameter:
    """Values that are learned and their gradient, (replicas, ...) each."""

    def __init__(self, data: Tensor) -> None:
        self.data, self.grad = data, data.new_zeros(data.shape)
        self.owner: Any = None  # the optimiser in whose vector both lie

    def give_to(self, owner: Any) -> None:
        """Another optimiser's, or nobody's: the one that had it can move nothing any more."""
        if self.owner is not None:
            self.owner.retired = True
        self.owner = owner


class Module:
    """A layer, or a network of layers: y = f(x), and how a loss changes with x and with the parameters.

    `forward(x)` keeps, while training, what the gradient needs; `backward(dy)` takes dL/dy, adds dL/dp to the `grad` of each
    parameter p and returns dL/dx. One backward belongs to one forward: a second forward before it raises RuntimeError, as does a
    backward without a forward. When evaluating nothing is kept.

    A subclass sets its parameters, buffers (tensors that belong to its state and are not learned) and layers as attributes, and
    names the buffers in `buffer_names`.
    """

    buffer_names: tuple[str, ...] = ()
    training = True
    _kept: Any = None

    def forward(self, x: Tensor) -> Tensor:
        """x -> y = f(x); a leading axis of replicas, then one of rows."""
        raise NotImplementedError

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor | None:
        """dL/dy -> dL/dx. Without `input_gradient` a layer may spare itself the latter and return None: a network's first."""
        raise NotImplementedError

    def modules(self) -> Iterator[tuple[str, Module]]:
        """This and all layers in it with their names, in the order in which they were set: "", "0", "0.1"."""
        yield "", self
        for name, layer in self.children().items():
            for inner, module in layer.modules():
                yield f"{name}.{inner}".rstrip("."), module

    def children(self) -> dict[str, Module]:
        """The layers directly in this one, by name; those in a list or tuple with their places in it."""
        found = {}
        for name, value in vars(self).items():
            parts = {f"{name}.{place}": each for place, each in enumerate(value)} if isinstance(value, (list, tuple)) else {name: value}
            found |= {each: part for each, part in parts.items() if isinstance(part, Module)}
        return found

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Each parameter with its name, such as "0.weight"."""
        for prefix, module in self.modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    yield f"{prefix}.{name}".lstrip("."), value

    def parameters(self) -> list[Parameter]:
        """What an optimiser is given."""
        return [parameter for _, parameter in self.named_parameters()]

    def zero_grad(self) -> None:
        """Clears all gradients."""
        for parameter in self.parameters():
            parameter.grad.zero_()

    def train(self, mode: bool = True) -> None:
        """Training, or (False) evaluating: dropout and batch norm differ. What a forward kept is forgotten."""
        for _, module in self.modules():
            module.training, module._kept = mode, None

    def to(self, dtype: torch.dtype) -> None:
        """Changes the type of all parameters and buffers; before an optimiser is made for them."""
        for _, module in self.modules():
            for value in vars(module).values():
                if isinstance(value, Parameter):
                    value.data, value.grad = value.data.to(dtype), value.grad.to(dtype)
                    value.give_to(None)
            for name in module.buffer_names:
                setattr(module, name, getattr(module, name).to(dtype))

    def state(self) -> dict[str, Tensor]:
        """All parameters and buffers by name: the tensors themselves, each (replicas, ...)."""
        state = {name: parameter.data for name, parameter in self.named_parameters()}
        for prefix, module in self.modules():
            state |= {f"{prefix}.{name}".lstrip("."): getattr(module, name) for name in module.buffer_names}
        return state

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all parameters and buffers by name."""
        return {name: value.clone() for name, value in self.state().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copies the values in, after `check_state`."""
        self.check_state(state)
        for name, value in self.state().items():
            value.copy_(state[name])

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """KeyError or ValueError unless names, shapes and types are those of this network's state."""
        own = self.state()
        if own.keys() != state.keys():
            raise KeyError(f"the state has {', '.join(state) or 'nothing'}; accepted is {', '.join(own)}")
        for name, value in own.items():
            if shape_of(value) != shape_of(state[name]):
                raise ValueError(f"{name} is {shape_of(state[name])}, accepted is {shape_of(value)}")

    def _keep(self, kept: Any) -> None:
        if self.training:
            if self._kept is not None:
                raise RuntimeError(f"{type(self).__name__}: a second forward before the backward of the first, whose values it would lose")
            self._kept = kept

    def _take(self) -> Any:
        kept, self._kept = self._kept, None
        if kept is None:
            reason = "no forward came before it" if self.training else "while evaluating forward keeps nothing; call train() first"
            raise RuntimeError(f"{type(self).__name__}: backward cannot be computed, {reason}")
        return kept


class Sequential(Module):
    """Layers one after another; backward goes through them in reverse order, which is the chain rule."""

    def __init__(self, *layers: Module) -> None:
        if not layers:
            raise ValueError("Sequential has no layers, accepted is at least one")
        self.sequence = layers

    def children(self) -> dict[str, Module]:
        return {str(place): layer for place, layer in enumerate(self.sequence)}

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.sequence:
            x = layer.forward(x)
        return x

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor | None:
        first, *others = self.sequence
        for layer in reversed(others):
            dy = layer.backward(dy)
        return first.backward(dy, input_gradient)
