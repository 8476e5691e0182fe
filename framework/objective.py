"""The function of an input and of parameters whose gradients `gradcheck` checks."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Generator, Tensor

from framework.data import map_tensors, tensors_in
from framework.errors import tensor_error
from framework.losses import Loss
from framework.module import Layer, Module


class _Identity(Layer):
    """y = x; precedes a loss that is checked alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        return dy


class _WeightedSum(Loss[Any]):
    """The sum of all outputs, weighted by random numbers that are drawn at the first forward."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.weights: Any = None

    def forward(self, prediction: Any, target: Any) -> Tensor:
        if self.weights is None:
            self.weights = map_tensors(self._random_like, prediction)
        products = tensors_in(map_tensors(torch.mul, prediction, self.weights))
        sums = [product.flatten(1).sum(1) for product in products]
        return torch.stack(sums).sum(0)

    def backward(self) -> Any:
        return self.weights

    def _random_like(self, part: Tensor) -> Tensor:
        return torch.randn(part.shape, dtype=torch.float64, generator=self.generator)


class Objective:
    """f as a function of x and of the parameters, and its gradients by `backward`."""

    def __init__(self, module: Module[Any], loss: Loss[Any], target: Any) -> None:
        self.module, self.loss, self.target = module, loss, target
        self.mask_generators = module.all_generators()
        self.mask_states = [generator.get_state() for generator in self.mask_generators]

    def parameters(self) -> dict[str, Tensor]:
        """The values of the parameters by name."""
        return {name: parameter.data for name, parameter in self.module.named_parameters()}

    def value(self, x: Tensor) -> float:
        """Compute f."""
        return float(self.losses(x)[1].sum())

    def losses(self, x: Tensor) -> tuple[Any, Tensor]:
        """Compute the outputs, and the loss of each replica; the sum of these is f."""
        for generator, state in zip(self.mask_generators, self.mask_states):
            generator.set_state(state)
        self.module.train()
        self.loss.train()
        y = self.module.forward(x)
        return y, self.loss.forward(y, self.target)

    def gradients(self, x: Tensor) -> dict[str, Tensor | None]:
        """The gradients of x, as "x", and of the parameters by name."""
        self.value(x)
        self.module.zero_grad()
        dx = self.module.backward(self.loss.backward())
        if dx is not None and dx.shape != x.shape:
            accepted = f"{tuple(x.shape)}, as x"
            raise tensor_error(f"the dx of {type(self.module).__name__}", dx, accepted)
        gradients: dict[str, Tensor | None] = {"x": dx}
        for name, parameter in self.module.named_parameters():
            gradients[name] = parameter.grad.clone()
        return gradients


def copies(
    module: Module[Any] | Loss[Any], loss: Loss[Any] | None, generator: Generator
) -> tuple[Module[Any], Loss[Any]]:
    """A float64 copy of the module, and a copy of the loss.

    A loss alone gets the identity as its module, and a module alone gets a random weighted sum as
    its loss. The copy learns all its parameters: the gradients of frozen ones are checked as well.
    """
    if isinstance(module, Loss):
        return _Identity(), copy.deepcopy(module)
    module = copy.deepcopy(module).freeze(False)
    module.to(torch.float64)
    return module, _WeightedSum(generator) if loss is None else copy.deepcopy(loss)


def double(value: Any) -> Any:
    """A contiguous float64 copy of floating-point tensors; other values as they are."""

    def convert(part: Any) -> Any:
        if isinstance(part, Tensor) and part.is_floating_point():
            return part.to(torch.float64, copy=True).contiguous()
        return part

    return map_tensors(convert, value)
