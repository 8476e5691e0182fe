"""What a layer is, and layers one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from framework.errors import refuse, shape_of


class Parameter:
    """Values that are learned and their gradient, (replicas, ...) each.

    Setting `data` or `grad` copies the given values into the tensor that stands there, since an optimiser moves that tensor.
    ValueError for values of another shape or type. A copy or a pickle of a parameter belongs to no optimiser, unless the
    optimiser is copied with it.
    """

    def __init__(self, data: Tensor) -> None:
        self._data, self._grad = data, data.new_zeros(data.shape)
        self.owner: Any = None  # the optimiser in whose vectors both lie

    @property
    def data(self) -> Tensor:
        return self._data

    @data.setter
    def data(self, values: Tensor) -> None:
        _copy("data", values, self._data)

    @property
    def grad(self) -> Tensor:
        return self._grad

    @grad.setter
    def grad(self, values: Tensor) -> None:
        _copy("grad", values, self._grad)

    def move(self, data: Tensor, grad: Tensor, owner: Any = None) -> None:
        """Replaces both tensors by others of the same shape, which belong to `owner`. The optimiser that had them can make no step
        any more.
        """
        if self.owner is not None:
            self.owner.retired = True
        self._data, self._grad, self.owner = (
            data.view(self._data.shape),
            grad.view(self._grad.shape),
            owner,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Copies, since a view would be pickled with all of the optimiser's vector."""
        return {"_data": self._data.clone(), "_grad": self._grad.clone(), "owner": None}


class Module:
    """A layer, or a network of layers: y = f(x), and how a loss changes with x and with the parameters.

    `forward(x)` keeps, while training, what the gradient needs; `backward(dy)` takes dL/dy, adds dL/dp to the `grad` of each
    parameter p and returns dL/dx. One backward belongs to one forward: a second forward before it raises RuntimeError, as does a
    backward without a forward. When evaluating nothing is kept.

    A subclass sets its parameters, buffers (tensors that belong to its state and are not learned) and layers as attributes, the
    parameters and layers also in lists or tuples, and names the buffers in `buffer_names`.
    """

    buffer_names: tuple[str, ...] = ()
    training = True
    _kept: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        """An optimiser whose parameter is replaced by another, alone or with its layer, can make no step any more: it would move
        the old one.
        """
        for parameter in set(_parameters_in(vars(self).get(name))) - set(_parameters_in(value)):
            parameter.move(parameter.data, parameter.grad)
        super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """X -> y = f(x); a leading axis of replicas, then one of rows."""
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
        """The layers directly in this one, by name."""
        return {name: part for name, part in self._parts() if isinstance(part, Module)}

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Each parameter with its name, such as "0.weight"."""
        for prefix, module in self.modules():
            for name, part in module._parts():
                if isinstance(part, Parameter):
                    yield f"{prefix}.{name}".lstrip("."), part

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
        for parameter in self.parameters():
            parameter.move(parameter.data.to(dtype), parameter.grad.to(dtype))
        for _, module in self.modules():
            for name in module.buffer_names:
                setattr(module, name, getattr(module, name).to(dtype))

    def state(self) -> dict[str, Tensor]:
        """All parameters and buffers by name: the tensors themselves, each (replicas, ...)."""
        state = {name: parameter.data for name, parameter in self.named_parameters()}
        for prefix, module in self.modules():
            state |= {
                f"{prefix}.{name}".lstrip("."): getattr(module, name)
                for name in module.buffer_names
            }
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
            raise KeyError(
                f"the state has {', '.join(state) or 'nothing'}; accepted is {', '.join(own)}"
            )
        for name, value in own.items():
            if shape_of(value) != shape_of(state[name]):
                raise ValueError(
                    f"{name} is {shape_of(state[name])}, accepted is {shape_of(value)}"
                )

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """The attributes by name, those in a list or tuple with their places in it: "weight", "layers.0"."""
        for name, value in vars(self).items():
            if isinstance(value, (list, tuple)):
                yield from ((f"{name}.{place}", each) for place, each in enumerate(value))
            else:
                yield name, value

    def _keep(self, kept: Any) -> None:
        if self.training:
            if self._kept is not None:
                raise RuntimeError(
                    f"{type(self).__name__}: a second forward before the backward of the first, whose values it would lose"
                )
            self.__dict__["_kept"] = kept  # without the cost of __setattr__

    def _take(self) -> Any:
        kept, self.__dict__["_kept"] = self._kept, None
        if kept is None:
            reason = (
                "no forward came before it"
                if self.training
                else "while evaluating forward keeps nothing; call train() first"
            )
            raise RuntimeError(f"{type(self).__name__}: backward cannot be computed, {reason}")
        return kept


def _parameters_in(value: Any) -> list[Parameter]:
    """Those of an attribute of a module: a parameter, a layer, or a list or tuple of them."""
    if isinstance(value, (list, tuple)):
        return [parameter for each in value for parameter in _parameters_in(each)]
    return (
        [value]
        if isinstance(value, Parameter)
        else value.parameters()
        if isinstance(value, Module)
        else []
    )


def _copy(name: str, values: Tensor, into: Tensor) -> None:
    if not isinstance(values, Tensor):
        raise ValueError(
            f"the {name} of a parameter is {values!r}, accepted is a tensor {shape_of(into)}"
        )
    if shape_of(values) != shape_of(into):
        raise refuse(f"the {name} of a parameter", values, shape_of(into))
    into.copy_(values.detach())


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
