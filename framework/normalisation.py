"""Normalisation of units or channels over the rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, ones, zeros

from framework.errors import at_least_one, check_input, fraction, not_negative, tensor_error
from framework.module import Layer
from framework.parameter import Parameter


class BatchNorm(Layer):
    """y = scale * z + shift with z = (x - mean) / sqrt(variance + eps), for each unit or channel.

    From Ioffe and Szegedy 2015, algorithm 1. During training, mean and variance are over the n
    numbers that the batch has for a unit (rows) or a channel (rows and pixels). They update the
    running mean and variance: running += momentum * (batch - running), where the variance has the
    divisor n - 1. Evaluation uses the running mean and variance.

    Backward: dx = scale / sqrt(variance + eps) * (dy - mean(dy) - z mean(dy z)),
    dscale = the sum of dy z, dshift = the sum of dy. Within a network that trains, a layer that
    stays in evaluation has dx = scale / sqrt(variance + eps) * dy.

    Inputs are (R, B, channels), (R, B, channels, length) or (R, B, channels, height, width).
    ValueError for a batch with fewer than two numbers a channel during training.

    Without `affine`, y = z. With the momentum None, the running values are the means of those of
    all batches so far, whose number is the buffer `batches`.
    """

    buffer_names: tuple[str, ...] = ("running_mean", "running_variance")

    def __init__(
        self,
        channels: int,
        replicas: int = 1,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
    ) -> None:
        shape = (at_least_one("replicas", replicas), 1, at_least_one("channels", channels))
        self.scale: Parameter | None = None
        self.shift: Parameter | None = None
        if affine:
            self.scale, self.shift = Parameter(ones(shape)), Parameter(zeros(shape))
        self.running_mean, self.running_variance = zeros(shape), ones(shape)
        self.eps, self.momentum = not_negative("eps", eps), momentum
        if momentum is None:
            self.batches = zeros(shape[0], 1, 1)
            self.buffer_names = (*self.buffer_names, "batches")
        else:
            fraction("momentum", momentum)

    def forward(self, x: Tensor) -> Tensor:
        like = self.running_mean
        if x.dim() > 2 and len(x) != len(like):
            replicas = f"BatchNorm({like.shape[2]}, replicas={len(x)})"
            accepted = f"{len(like)} replicas; {replicas} has {len(x)}"
            raise tensor_error("the input of BatchNorm", x, accepted)
        pixels = {3: (), 4: ("length",)}.get(x.dim(), ("height", "width") if x.dim() > 3 else ())
        check_input(self, x, (len(like), "rows", like.shape[2], *pixels), like)
        mean, variance = self.running_mean, self.running_variance
        if self.training:
            mean, variance = self._statistics(x)
        inverse_deviation = (_over_pixels(variance, x) + self.eps).rsqrt()
        z = (x - _over_pixels(mean, x)) * inverse_deviation
        self.keep((z, inverse_deviation), x)
        if self.scale is None or self.shift is None:
            return z
        return z * _over_pixels(self.scale.data, x) + _over_pixels(self.shift.data, x)

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        kept: tuple[Tensor, Tensor] = self.take(dy)
        z, inverse_deviation = kept
        axes = _averaged_axes(dy)
        dshift, dscale = dy.sum(axes, keepdim=True), (dy * z).sum(axes, keepdim=True)
        if self.scale is not None and self.shift is not None:
            self.shift.grad.add_(dshift.view_as(self.shift.grad))
            self.scale.grad.add_(dscale.view_as(self.scale.grad))
        n = dy.numel() // dscale.numel()  # numbers a channel: dshift / n is mean(dy)
        centred = dy - (dshift + z * dscale) / n if self.training else dy
        if self.scale is None:
            return inverse_deviation * centred
        return _over_pixels(self.scale.data, dy) * inverse_deviation * centred

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the batch's mean and variance, (R, 1, channels); update the running ones."""
        n = x.numel() // self.running_mean.numel()
        if n < 2:
            raise ValueError(
                f"batch norm cannot train on {n} number a channel, from an input of shape "
                f"{tuple(x.shape)}: at least 2 are needed, as by another batch size or "
                "Trainer(..., drop_last=True)"
            )
        axes = _averaged_axes(x)
        mean = x.mean(axes, keepdim=True)
        variance = (x - mean).square().mean(axes, keepdim=True).view_as(self.running_variance)
        mean = mean.view_as(self.running_mean)
        momentum = 1 / self.batches.add_(1) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_variance.lerp_(variance * (n / (n - 1)), momentum)
        return mean, variance


class LayerNorm(Layer):
    """y = scale * z + shift with z = (x - mean) / sqrt(variance + eps), for each row.

    Mean and variance are over the units of a row, (R, B, ..., units). Backward, with means over the
    units: dz = scale * dy, dx = (dz - mean(dz) - z mean(dz z)) / sqrt(variance + eps); dscale is
    the sum of dy z over the rows, dshift that of dy. Ba et al. 2016.

    `units` is a number or, for several axes, their sizes. Without `affine`, y = z.
    """

    def __init__(
        self,
        units: int | Sequence[int],
        replicas: int = 1,
        *,
        eps: float = 1e-5,
        affine: bool = True,
    ) -> None:
        listed = [units] if isinstance(units, int) else list(units)
        self.units = tuple(at_least_one("units", size) for size in listed)
        shape = (at_least_one("replicas", replicas), 1, math.prod(self.units))
        self.scale: Parameter | None = None
        self.shift: Parameter | None = None
        if affine:
            self.scale, self.shift = Parameter(ones(shape)), Parameter(zeros(shape))
        self.eps = not_negative("eps", eps)

    def forward(self, x: Tensor) -> Tensor:
        like = None if self.scale is None else self.scale.data
        replicas = "replicas" if like is None else len(like)
        between = [f"axis {axis}" for axis in range(2, x.dim() - len(self.units))]
        check_input(self, x, (replicas, "rows", *between, *self.units), like)
        rows = x.reshape(len(x), -1, math.prod(self.units))
        centred = rows - rows.mean(-1, keepdim=True)
        inverse_deviation = (centred.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        z = centred * inverse_deviation
        self.keep((z, inverse_deviation), x)
        if self.scale is not None and self.shift is not None:
            z = z * self.scale.data + self.shift.data
        return z.view(x.shape)

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        kept: tuple[Tensor, Tensor] = self.take(dy)
        z, inverse_deviation = kept
        dz = dy.reshape(z.shape)
        if self.scale is not None and self.shift is not None:
            self.shift.grad.add_(dz.sum(1, keepdim=True))
            self.scale.grad.add_((dz * z).sum(1, keepdim=True))
            dz = dz * self.scale.data
        dz = dz - dz.mean(-1, keepdim=True) - z * (dz * z).mean(-1, keepdim=True)
        return (inverse_deviation * dz).view(dy.shape)


def _averaged_axes(x: Tensor) -> tuple[int, ...]:
    """All axes except replicas and channels."""
    return (1, *range(3, x.dim()))


def _over_pixels(statistic: Tensor, x: Tensor) -> Tensor:
    """A statistic (R, 1, channels), with the axes of x after that of the channels."""
    return statistic[(..., *[None] * (x.dim() - 3))] if x.dim() > 3 else statistic
