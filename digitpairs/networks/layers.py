"""The layers that all networks are made of: activations, dropout with masks of its own, stacks of linear layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from digitpairs.checks import InvalidValue, choice, integers, number

ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
}


# A max-pool commutes with an activation that never falls. Pooling first, the activation has a quarter of the work.
NOT_MONOTONE = {"gelu"}


def activation_layer(name: str) -> nn.Module:
    """The activation of that name (a key of ACTIVATIONS), or InvalidValue."""
    return ACTIVATIONS[choice("activation", name, ACTIVATIONS)]()


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) whose mask is a buffer, drawn before each step by `draw_masks`.

    torch's own draws from the global generator inside `forward`; a mask that is a buffer comes from the run's own
    stream, and can be stacked like any other buffer when an array of networks trains at once.

    Args:
        probability: of dropping a unit, 0 to below 1.
        units: number of units, the size of the input's last axis.
        rows_per_pair: 2 where both images of a pair are stacked on the batch axis, else 1.
    """

    def __init__(self, probability: float, units: int, rows_per_pair: int = 1) -> None:
        super().__init__()
        self.probability, self.units, self.rows_per_pair = probability, units, rows_per_pair
        self.register_buffer("mask", torch.ones(1, units), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.mask if self.training else inputs

    def draw_mask(self, pairs: int, generator: torch.Generator) -> None:
        """A new mask (pairs * rows_per_pair, units): 0 with the probability, else 1 / (1 - probability)."""
        keep = 1 - self.probability
        kept = torch.rand(pairs * self.rows_per_pair, self.units, generator=generator) < keep  # a third of bernoulli_'s time
        self.mask = kept.to(self.mask).div_(keep)

    def extra_repr(self) -> str:
        return f"probability={self.probability}, units={self.units}"


def dropout_layers(network: nn.Module) -> list[Dropout]:
    """The network's dropout layers, in the order in which their masks are drawn."""
    return [layer for layer in network.modules() if isinstance(layer, Dropout)]


def draw_masks(layers: Sequence[Dropout], pairs: int, generator: torch.Generator) -> None:
    """Masks for a mini-batch of `pairs` pairs, in each of the layers."""
    for layer in layers:
        layer.draw_mask(pairs, generator)


def dropout_layer(probability: float, units: int, rows_per_pair: int) -> list[nn.Module]:
    """The dropout layer as a list: empty where the probability is 0. InvalidValue unless 0 <= probability < 1."""
    if number("dropout", probability, at_most=1) == 1:
        raise InvalidValue("dropout", probability, "a probability from 0 to below 1")
    return [Dropout(probability, units, rows_per_pair)] if probability else []


def linear_stack(
    inputs: int,
    widths: Sequence[int],
    *,
    key: str,
    activation: str,
    batch_norm: bool,
    dropout: float = 0.0,
    rows_per_pair: int = 1,
) -> tuple[list[nn.Module], int]:
    """Hidden layers, each linear, batch norm, activation, dropout, as a list; and the number of units that come out.

    `key` names the widths' setting in errors.
    """
    layers: list[nn.Module] = []
    for width in integers(key, widths):
        layers.append(nn.Linear(inputs, width))
        layers += [nn.BatchNorm1d(width)] if batch_norm else []
        layers.append(activation_layer(activation))
        layers += dropout_layer(dropout, width, rows_per_pair)
        inputs = width
    return layers, inputs
