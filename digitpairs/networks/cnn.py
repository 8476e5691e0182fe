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
    """Settings of a convolutional body; called by the network that it is part of.

    Args:
        channels: output channels of each convolution.
        kernels, paddings, pools: side of each convolution's kernel, its zero padding, and the side and stride of the
            max-pool after it (1 is none); one number stands for all layers.
        hidden: widths of the linear layers after the convolutions.
        dropout: its probability on the flattened images and after each linear layer.
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
        convolutions, side = convolution_stack(
            in_channels,
            self.channels,
            self.kernels,
            self.paddings,
            self.pools,
            activation,
            batch_norm,
        )
        flat = self.channels[-1] * side * side
        linear, features = linear_stack(
            flat,
            self.hidden,
            key="hidden",
            activation=activation,
            batch_norm=batch_norm,
            dropout=self.dropout,
            rows_per_pair=rows_per_pair,
        )
        dropped = dropout_layer(self.dropout, flat, rows_per_pair)
        return nn.Sequential(*convolutions, Flatten(), *dropped, *linear), features


def convolution_stack(
    in_channels: int,
    channels: Sequence[int],
    kernels: int | Sequence[int],
    paddings: int | Sequence[int],
    pools: int | Sequence[int],
    activation: str,
    batch_norm: bool,
) -> tuple[list[nn.Module], int]:
    """Convolution, batch norm, activation, max-pool for each of the channels, as a list; and the side that comes out.

    Raises InvalidValueError where a kernel or a pool is larger than the image that reaches it.
    """
    channels = integers("channels", channels)
    if not channels:
        raise InvalidValueError("channels", [], "at least one number of channels")
    kernels, pools = (
        integers(key, value, 1, len(channels))
        for key, value in (("kernels", kernels), ("pools", pools))
    )
    paddings = integers("paddings", paddings, 0, len(channels))
    layers: list[nn.Module] = []
    side = SIDE
    for number, (out_channels, kernel, padding, pool) in enumerate(
        zip(channels, kernels, paddings, pools), 1
    ):
        image = side + 2 * padding
        if kernel > image:
            raise InvalidValueError(
                "kernels",
                list(kernels),
                f"at most {image} in layer {number}, whose padded image is {image}x{image}",
            )
        side = image - kernel + 1
        if pool > side:
            raise InvalidValueError(
                "pools",
                list(pools),
                f"at most {side} in layer {number}, whose image is {side}x{side}",
            )
        side //= pool
        layers.append(Conv2d(in_channels, out_channels, kernel, padding=padding))
        layers += [BatchNorm2d(out_channels)] if batch_norm else []
        pooling = [MaxPool2d(pool)] if pool > 1 else []
        activating = [activation_layer(activation)]
        layers += activating + pooling if activation in NON_MONOTONIC else pooling + activating
        in_channels = out_channels
    return layers, side
