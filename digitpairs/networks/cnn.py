"""The convolutional body: images -> convolutions and pools -> linear layers -> features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from digitpairs.checks import InvalidValueError, integers
from digitpairs.data.sources import SIDE
from digitpairs.networks.layers import (
    NON_MONOTONIC,
    BatchNorm2d,
    Conv2d,
    Flatten,
    MaxPool2d,
    activation_layer,
    dropout_layer,
    linear_stack,
)


class CNNBody:
    """Settings of a convolutional body; the network calls it to make its body.

    Args:
        channels: output channels of each convolution.
        kernels: side of each convolution's kernel; one number applies to all layers.
        paddings: zero padding of each convolution; one number applies to all.
        pools: side and stride of the max-pool after each convolution; one number applies to all,
            and 1 is no pool.
        hidden: widths of the linear layers after the convolutions.
        dropout: probability of dropout on the flattened images and after each linear layer.
    """

    def __init__(
        self,
        channels: Sequence[int],
        kernels: int | Sequence[int] = 3,
        paddings: int | Sequence[int] = 0,
        pools: int | Sequence[int] = 2,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        self.channels, self.kernels, self.paddings, self.pools = channels, kernels, paddings, pools
        self.hidden, self.dropout = hidden, dropout

    def __call__(
        self, in_channels: int, rows_per_pair: int, activation: str, batch_norm: bool
    ) -> tuple[nn.Module, int]:
        """The body (rows, in_channels, 14, 14) -> (rows, features), and the number of features."""
        convolutions, units = self._convolutions(in_channels, activation, batch_norm)
        linear, features = linear_stack(
            units,
            self.hidden,
            key="hidden",
            activation=activation,
            batch_norm=batch_norm,
            dropout=self.dropout,
            rows_per_pair=rows_per_pair,
        )
        dropout = dropout_layer(self.dropout, units, rows_per_pair)
        return nn.Sequential(*convolutions, Flatten(), *dropout, *linear), features

    def _convolutions(
        self, in_channels: int, activation: str, batch_norm: bool
    ) -> tuple[list[nn.Module], int]:
        """Convolutions, each with batch norm, activation and max-pool.

        Returns the layers and the number of units of the last. Raises InvalidValueError if a
        kernel or a pool is larger than its image.
        """
        channels = integers("channels", self.channels)
        if not channels:
            raise InvalidValueError("channels", [], "at least one number of channels")
        kernels = integers("kernels", self.kernels, 1, len(channels))
        pools = integers("pools", self.pools, 1, len(channels))
        paddings = integers("paddings", self.paddings, 0, len(channels))
        layers: list[nn.Module] = []
        side = SIDE
        sizes = zip(channels, kernels, paddings, pools)
        for number, (out_channels, kernel, padding, pool) in enumerate(sizes, 1):
            side += 2 * padding
            if kernel > side:
                image = f"padded image is {side}x{side}"
                accepted = f"at most {side} in layer {number}, whose {image}"
                raise InvalidValueError("kernels", list(kernels), accepted)
            side -= kernel - 1
            if pool > side:
                accepted = f"at most {side} in layer {number}, whose image is {side}x{side}"
                raise InvalidValueError("pools", list(pools), accepted)
            side //= pool
            layers.append(Conv2d(in_channels, out_channels, kernel, padding=padding))
            if batch_norm:
                layers.append(BatchNorm2d(out_channels))
            layers += _activation_and_pool(activation, pool)
            in_channels = out_channels
        return layers, in_channels * side * side


def _activation_and_pool(activation: str, pool: int) -> list[nn.Module]:
    """The max-pool comes first if the activation is monotonic, which gives the same outputs."""
    layers = [activation_layer(activation)]
    if pool > 1:
        layers.insert(1 if activation in NON_MONOTONIC else 0, MaxPool2d(pool))
    return layers
