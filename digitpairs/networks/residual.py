"""The residual body: images -> a stem, stages of residual blocks, a pool -> features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from digitpairs.checks import InvalidValueError, choice, integer, integers
from digitpairs.data.sources import SIDE
from digitpairs.networks.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAveragePool,
    Linear,
    MaxPool2d,
    Sigmoid,
    activation_layer,
    drop_path_layer,
    dropout_layer,
)
from digitpairs.networks.stacking import stackable

MOST_STAGES = SIDE.bit_length()  # a further one would see no pixel
GLOBAL_POOLS = ("average", "max", "none")


class ResidualBody:
    """Settings of a residual body; the network calls it to make its body.

    A convolution of 3x3, then stages of `ResidualBlock`s with a max-pool of 2x2 between them, then
    batch norm, the activation and a pool over all pixels. Unlike `ResNetBody` it can be stacked.

    Args:
        channels: of each stage, at most four: they see 14, 7, 3 and 1 pixels a side.
        blocks: residual blocks of each stage; one number applies to all.
        squeeze: the ratio of `SqueezeExcitation` at the end of each block; None is none.
        drop_path: probability that the last block is skipped for an image (stochastic depth, Huang
            et al. 2016, equation 4): that of the l-th of L blocks is l / L of it.
        global_pool: "average" or "max" over the pixels of each channel, or "none" to flatten them.
        dropout: probability of dropout on the features.
    """

    def __init__(
        self,
        channels: Sequence[int],
        blocks: int | Sequence[int] = 1,
        squeeze: int | None = None,
        drop_path: float = 0.0,
        global_pool: str = "average",
        dropout: float = 0.0,
    ) -> None:
        self.channels, self.blocks, self.squeeze = channels, blocks, squeeze
        self.drop_path, self.global_pool, self.dropout = drop_path, global_pool, dropout

    def __call__(
        self, in_channels: int, rows_per_pair: int, activation: str, batch_norm: bool
    ) -> tuple[nn.Module, int]:
        """The body (rows, in_channels, 14, 14) -> (rows, features), and the number of features."""
        channels = integers("channels", self.channels)
        if not 1 <= len(channels) <= MOST_STAGES:
            accepted = f"one to {MOST_STAGES} numbers of channels: each stage halves the image"
            raise InvalidValueError("channels", list(channels), accepted)
        depths = integers("blocks", self.blocks, 1, len(channels))
        drop_path_layer(self.drop_path, rows_per_pair)  # checked before a share of it is
        layers: list[nn.Module] = [Conv2d(in_channels, channels[0], 3, padding=1)]
        width, side, done = channels[0], SIDE, 0
        for stage, (out_channels, depth) in enumerate(zip(channels, depths)):
            if stage:
                layers.append(MaxPool2d(2))
                side //= 2
            for _ in range(depth):
                done += 1
                drop_path = self.drop_path * done / sum(depths)
                path = drop_path_layer(drop_path, rows_per_pair)
                sizes = width, out_channels, self.squeeze
                layers.append(ResidualBlock(*sizes, activation, batch_norm, path))
                width = out_channels
        layers += _normalised_activation(width, activation, batch_norm)
        pool, features = _global_pool(self.global_pool, width, side)
        dropout = dropout_layer(self.dropout, features, rows_per_pair)
        return nn.Sequential(*layers, *pool, *dropout), features


@stackable
class ResidualBlock(nn.Module):
    """x + F(a(x)), where a is batch norm and the activation: full pre-activation.

    F is a convolution of 3x3, batch norm, the activation and a second convolution (He et al. 2016,
    Identity Mappings in Deep Residual Networks, figure 4e). If the number of channels changes, x
    is replaced by a convolution of 1x1 of a(x), as in Zagoruyko and Komodakis 2016.

    Args:
        in_channels, out_channels: of the block.
        squeeze: the ratio of `SqueezeExcitation` after F; None is none.
        activation, batch_norm: as in the networks.
        path: the layers after F and `squeeze`: a `DropPath`, or none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        squeeze: int | None,
        activation: str,
        batch_norm: bool,
        path: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        changes = in_channels != out_channels
        self.shortcut = Conv2d(in_channels, out_channels, 1) if changes else None
        self.activated = nn.Sequential(*_normalised_activation(in_channels, activation, batch_norm))
        self.residual = nn.Sequential(
            Conv2d(in_channels, out_channels, 3, padding=1),
            *_normalised_activation(out_channels, activation, batch_norm),
            Conv2d(out_channels, out_channels, 3, padding=1),
            *([] if squeeze is None else [SqueezeExcitation(out_channels, squeeze)]),
            *path,
        )

    def forward(self, inputs: Tensor) -> Tensor:
        activated = self.activated(inputs)
        shortcut = inputs if self.shortcut is None else self.shortcut(activated)
        return shortcut + self.residual(activated)


@stackable
class SqueezeExcitation(nn.Module):
    """Each channel times a factor from 0 to 1, which follows from the means of all channels.

    Hu, Shen and Sun 2018: the mean over the pixels, a linear layer to channels / ratio units,
    ReLU, a linear layer back, sigmoid.
    """

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        units = channels // integer("squeeze", ratio, at_least=1, at_most=channels)
        self.layers = nn.Sequential(
            GlobalAveragePool(),
            Linear(channels, units),
            nn.ReLU(),
            Linear(units, channels),
            Sigmoid(),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.layers(inputs)[..., None, None]


def _normalised_activation(channels: int, activation: str, batch_norm: bool) -> list[nn.Module]:
    norm = [BatchNorm2d(channels)] if batch_norm else []
    return [*norm, activation_layer(activation)]


def _global_pool(kind: str, channels: int, side: int) -> tuple[list[nn.Module], int]:
    """The layers from images (rows, channels, side, side) to features, and their number."""
    if choice("global_pool", kind, GLOBAL_POOLS) == "average":
        return [GlobalAveragePool()], channels
    if kind == "max":
        return [MaxPool2d(side), Flatten()], channels
    return [Flatten()], channels * side * side
