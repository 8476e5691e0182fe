"""Layers one after another, and the chain rule through them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any, overload

from torch import Tensor

from framework.errors import instance, tensor_error
from framework.module import Layer, Module


class Sequential(Layer):
    """Layers one after another: y = f_n(... f_1(x)).

    The backward pass goes through them in reverse order, by the chain rule. If the first layer is
    frozen and nothing needs dL/dx, it ends at the first layer that learns.
    """

    def __init__(self, *layers: Layer) -> None:
        if not layers:
            raise ValueError("Sequential has no layers, accepted is at least one")
        if isinstance(layers[0], (list, tuple)):
            raise ValueError("Sequential has a list, accepted are layers: Sequential(*layers)")
        for layer in layers:
            instance("a layer of Sequential", layer, Module)
            if layers.count(layer) > 1:
                raise ValueError(
                    f"Sequential has the same {type(layer).__name__} twice, but a layer keeps the "
                    "values of one forward; accepted are two layers, which may share a parameter: "
                    "second.weight = first.weight"
                )
        self.sequence = layers

    def __len__(self) -> int:
        return len(self.sequence)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.sequence)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Layer:
        """The layer with this number, or a `Sequential` of several, which are not copied."""
        return (
            Sequential(*self.sequence[index]) if isinstance(index, slice) else self.sequence[index]
        )

    def children(self) -> dict[str, Module[Any]]:
        return {str(index): layer for index, layer in enumerate(self.sequence)}

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.sequence:
            x = layer.forward(x)
        return x

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor | None:
        layers = self.sequence
        if layers[0].frozen and not input_gradient:
            layers = self._from_the_first_that_learns()
            if not layers:
                return None
        first, *others = layers
        for layer in reversed(others):
            dy = input_gradient_of(layer, dy)
        return first.backward(dy, input_gradient)

    def _from_the_first_that_learns(self) -> tuple[Layer, ...]:
        """The layers without those before the first that learns, which discard what they kept."""
        skipped = list(takewhile(_learns_nothing, self.sequence))
        for layer in skipped:
            layer.train(layer.keeps)  # discards what it kept
        return self.sequence[len(skipped) :]


class Residual(Sequential):
    """Layers with a connection past them: y = x + f(x); dx = dy + df/dx dy (He et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if y.shape != x.shape:
            raise tensor_error("the output within Residual", y, f"{tuple(x.shape)}, as the input")
        return x + y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor | None:
        dx = super().backward(dy, input_gradient)
        return None if dx is None else dy + dx


def _learns_nothing(layer: Layer) -> bool:
    return all(parameter.frozen for parameter in layer.parameters())


def input_gradient_of(layer: Layer, dy: Tensor) -> Tensor:
    """The dL/dx that `layer.backward(dy)` returns; RuntimeError if it returns None."""
    dx = layer.backward(dy)
    if dx is None:
        raise RuntimeError(f"backward of {type(layer).__name__} returned None, accepted is dL/dx")
    return dx
