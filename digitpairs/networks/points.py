"""A network for points of the unit square."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from digitpairs.checks import boolean, choice
from digitpairs.networks.initialise import SCHEMES
from digitpairs.networks.layers import Linear, activation_layer, linear_stack


class PointMLP(nn.Module):
    """Points (B, 2) -> one output (B, 1), by linear layers.

    Args:
        hidden: widths of the hidden layers.
        activation, dropout, batch_norm: after each hidden layer.
        output_activation: tanh or sigmoid; None is none.
        initialise: scheme of the initial weights, a key of `networks.initialise.SCHEMES`.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        output_activation: str | None = None,
        initialise: str = "torch",
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        batch_norm = boolean("batch_norm", batch_norm)
        layers, width = linear_stack(
            2, hidden, key="hidden", activation=activation, batch_norm=batch_norm, dropout=dropout
        )
        layers.append(Linear(width, 1))
        if output_activation is not None:
            name = choice("output_activation", output_activation, ["tanh", "sigmoid"])
            layers.append(activation_layer(name))
        self.layers = nn.Sequential(*layers)
        scheme = choice("initialise", initialise, SCHEMES)
        for layer in layers:
            if isinstance(layer, Linear):
                layer.scheme = scheme

    def forward(self, points: Tensor) -> Tensor:
        return self.layers(points)
