"""Layers of units: linear, activations, dropout, batch norm.

Inputs are (replicas, rows, units). Activations, dropout and batch norm also accept images,
(replicas, rows, channels, height, width). In the formulas R is the number of replicas and B that
of rows; dx is dL/dx, the gradient of the loss with respect to x.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from framework.errors import check_input
from framework.initialisers import Generators, Initialiser, as_list, draw, draw_bias, torch_uniform
from framework.module import Layer, Parameter
from framework.operations import add_product, product, sigmoid


class Linear(Layer):
    """y = x W + b: (R, B, inputs) -> (R, B, outputs).

    W is (R, inputs, outputs), b is (R, 1, outputs). Backward: dW = x^T dy, db = the sum of dy over
    the rows, dx = dy W^T.

    `generators` is one generator, or one for each replica. Each draws the weights by `initialise`,
    then the biases: as torch does with `torch_uniform`, otherwise biases start at 0.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        generators: Generators,
        *,
        bias: bool = True,
        initialise: Initialiser = torch_uniform,
    ) -> None:
        fans = (inputs, outputs)
        self.weight = Parameter(draw(initialise, fans, fans, generators))
        self.bias: Parameter | None = None
        if bias:
            self.bias = Parameter(draw_bias(outputs, fans, generators, initialise))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.data
        try:
            y = product(x, weight, None if self.bias is None else self.bias.data)
        except RuntimeError:
            check_input(self, x, (len(weight), "rows", weight.shape[1]), weight)
            raise
        self._keep(x)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor | None:
        x: Tensor = self._take()
        add_product(self.weight.grad, x, dy)
        if self.bias is not None:
            self.bias.grad.add_(dy if x.shape[1] == 1 else dy.sum(1, keepdim=True))
        return product(dy, self.weight.data.mT) if input_gradient else None


class ReLU(Layer):
    """y = max(x, 0); dx = dy where x > 0, else 0 (Nair and Hinton 2010)."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.relu()
        self._keep(y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        y: Tensor = self._take()
        return y.sign().mul_(dy)  # three times as fast as a boolean mask


class LeakyReLU(Layer):
    """y = x where x > 0, else slope * x; dx = dy or slope * dy likewise (Maas et al. 2013)."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        self._keep(x)
        return torch.where(x > 0, x, self.slope * x)

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        return torch.where(self._take() > 0, dy, self.slope * dy)


class Tanh(Layer):
    """y = tanh(x); dx = (1 - y^2) dy."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.tanh()
        self._keep(y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        y: Tensor = self._take()
        return dy - dy * y * y


class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x)); dx = y (1 - y) dy."""

    def forward(self, x: Tensor) -> Tensor:
        y = sigmoid(x)
        self._keep(y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        y: Tensor = self._take()
        return dy * y * (1 - y)


class SELU(Layer):
    """y = scale * x where x > 0, else scale * alpha * (exp(x) - 1).

    dx = scale * dy where x > 0, else (y + scale * alpha) dy. The constants are from Klambauer et
    al. 2017, equation 14.
    """

    ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805

    def forward(self, x: Tensor) -> Tensor:
        y = self.SCALE * torch.where(x > 0, x, self.ALPHA * x.clamp(max=0).expm1())
        self._keep(y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        y: Tensor = self._take()
        return dy * torch.where(y > 0, self.SCALE, y + self.SCALE * self.ALPHA)


class GELU(Layer):
    """y = x P(x); dx = (P(x) + x p(x)) dy (Hendrycks and Gimpel 2016).

    P is the cumulative distribution function of the standard normal, p its density.
    """

    def forward(self, x: Tensor) -> Tensor:
        cumulative = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        self._keep((x, cumulative))
        return x * cumulative

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        kept: tuple[Tensor, Tensor] = self._take()
        x, cumulative = kept
        density = (-0.5 * x * x).exp() / math.sqrt(2 * math.pi)
        return dy * (cumulative + x * density)


class Dropout(Layer):
    """y = m x during training, y = x during evaluation; dx = m dy (Srivastava et al. 2014).

    Each value of the mask m is 0 with the given probability, else 1 / (1 - probability). Each
    replica's generator draws a float32 number uniformly from [0, 1) for each unit of each row.
    """

    def __init__(self, probability: float, generators: Generators) -> None:
        if not 0 <= probability < 1:
            raise ValueError(
                f"the probability of dropout is {probability}, accepted is 0 to below 1"
            )
        self.probability, self.generators = probability, as_list(generators)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if len(x) != len(self.generators):
            check_input(self, x, (len(self.generators), "rows", "units"))
        uniform = torch.empty(x.shape, dtype=torch.float32)  # the mask is the same for any type
        for values, generator in zip(uniform, self.generators):
            torch.rand(values.shape, generator=generator, out=values)
        keep = 1 - self.probability
        mask = (uniform < keep).to(x.dtype).div_(keep)
        self._keep(mask)
        return x * mask

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        mask: Tensor = self._take()
        return dy * mask


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
        shape = (replicas, 1, channels)
        self.scale, self.shift = Parameter(torch.ones(shape)), Parameter(torch.zeros(shape))
        self.running_mean, self.running_variance = torch.zeros(shape), torch.ones(shape)
        self.eps, self.momentum = eps, momentum

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.scale.data, self.shift.data
        pixels = ("height", "width") if x.dim() > 3 else ()
        check_input(self, x, (len(scale), "rows", scale.shape[2], *pixels), scale)
        mean, variance = self.running_mean, self.running_variance
        if self.training:
            mean, variance = self._statistics(x)
        inverse_deviation = (_over_pixels(variance, x) + self.eps).rsqrt()
        z = (x - _over_pixels(mean, x)) * inverse_deviation
        self._keep((z, inverse_deviation))
        return z * _over_pixels(scale, x) + _over_pixels(shift, x)

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        kept: tuple[Tensor, Tensor] = self._take()
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
                f"{tuple(x.shape)}: at least 2 are needed"
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
