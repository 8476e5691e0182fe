"""Normalisation of units or channels over the rows of a batch."""

from __future__ import annotations

from torch import Tensor, ones, zeros

from framework.errors import at_least_one, check_input, fraction, not_negative
from framework.module import Layer
from framework.parameter import Parameter


class BatchNorm(Layer):
    """y = scale * z + shift with z = (x - mean) / sqrt(variance + eps), for each unit or channel.

    From Ioffe and Szegedy 2015, algorithm 1. During training, mean and variance are over the n
    numbers that the batch has for a unit (rows) or a channel (rows and pixels). They update the
    running mean and variance: running += momentum * (batch - running), where the variance has the
    divisor n - 1. Evaluation uses the running mean and variance.

    Backward: dx = scale / sqrt(variance + eps) * (dy - mean(dy) - z mean(dy z)),
    dscale = the sum of dy z, dshift = the sum of dy.

    Inputs are (R, B, channels) or (R, B, channels, height, width). ValueError for a batch with
    fewer than two numbers a channel during training.
    """

    buffer_names = ("running_mean", "running_variance")

    def __init__(
        self, channels: int, replicas: int = 1, *, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        shape = (at_least_one("replicas", replicas), 1, at_least_one("channels", channels))
        self.scale, self.shift = Parameter(ones(shape)), Parameter(zeros(shape))
        self.running_mean, self.running_variance = zeros(shape), ones(shape)
        self.eps, self.momentum = not_negative("eps", eps), fraction("momentum", momentum)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.scale.data, self.shift.data
        pixels = ("height", "width") if x.dim() > 3 else ()
        check_input(self, x, (len(scale), "rows", scale.shape[2], *pixels), scale)
        mean, variance = self.running_mean, self.running_variance
        if self.training:
            mean, variance = self._statistics(x)
        inverse_deviation = (_over_pixels(variance, x) + self.eps).rsqrt()
        z = (x - _over_pixels(mean, x)) * inverse_deviation
        self.keep((z, inverse_deviation), x)
        return z * _over_pixels(scale, x) + _over_pixels(shift, x)

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        kept: tuple[Tensor, Tensor] = self.take(dy)
        z, inverse_deviation = kept
        axes = _averaged_axes(dy)
        dshift, dscale = dy.sum(axes, keepdim=True), (dy * z).sum(axes, keepdim=True)
        self.shift.grad.add_(dshift.view_as(self.shift.grad))
        self.scale.grad.add_(dscale.view_as(self.scale.grad))
        n = dy.numel() // dscale.numel()
        centred = dy - (dshift + z * dscale) / n
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
        self.running_mean.lerp_(mean, self.momentum)
        self.running_variance.lerp_(variance * (n / (n - 1)), self.momentum)
        return mean, variance


def _averaged_axes(x: Tensor) -> tuple[int, ...]:
    """All axes except replicas and channels."""
    return (1, 3, 4) if x.dim() == 5 else (1,)


def _over_pixels(statistic: Tensor, x: Tensor) -> Tensor:
    """A statistic (R, 1, channels), with axes of height and width if x is of images."""
    return statistic[..., None, None] if x.dim() == 5 else statistic
