"""The body of a multi-layer perceptron: images -> linear layers -> features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from digitpairs.data.sources import SIDE
from digitpairs.networks.layers import Flatten, linear_stack


class MLPBody:
    """Settings of a body of linear layers; the network calls it to make its body.

    Args:
        hidden: widths of the layers.
        dropout: probability of dropout after each layer.
    """

    def __init__(self, hidden: Sequence[int], dropout: float = 0.0) -> None:
        self.hidden, self.dropout = hidden, dropout

    def __call__(
        self, in_channels: int, rows_per_pair: int, activation: str, batch_norm: bool
    ) -> tuple[nn.Module, int]:
        """The body (rows, in_channels, 14, 14) -> (rows, features), and the number of features."""
        layers, features = linear_stack(
            in_channels * SIDE * SIDE,
            self.hidden,
            key="hidden",
            activation=activation,
            batch_norm=batch_norm,
            dropout=self.dropout,
            rows_per_pair=rows_per_pair,
        )
        return nn.Sequential(Flatten(), *layers), features
