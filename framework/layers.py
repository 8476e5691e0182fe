"""Layers of units: linear, activations, dropout, batch norm. Inputs are (replicas, rows, units).

Activations and batch norm take images (replicas, rows, channels, height, width) as well.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from framework.errors import check_input
from framework.initialisers import Generators, Initialiser, as_list, draw, draw_bias, torch_uniform
from framework.module import Module, Parameter
from framework.operations import add_product, product, sigmoid


class Linear(Module):
    """y = x W + b: (R, B, inputs) -> (R, B, outputs), with W (R, inputs, outputs) and b (R, 1, outputs).

    Backward: dW = x^T dy, db = the sum of dy over the rows, dx = dy W^T.

    Args:
        generators: one, or one a replica; weights are drawn first, then biases.
        initialise: of the weights; biases are drawn as torch does where the weights are, and start at 0 elsewhere.
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
        self.weight = Parameter(draw(initialise, (inputs, outputs), (inputs, outputs), generators))
        self.bias = (
            Parameter(draw_bias(outputs, (inputs, outputs), generators, initialise))
            if bias
            else None
        )

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
        x = self._take()
        add_product(self.weight.grad, x, dy)
        if self.bias is not None:
            self.bias.grad.add_(dy if x.shape[1] == 1 else dy.sum(1, keepdim=True))
        return product(dy, self.weight.data.mT) if input_gradient else None


class ReLU(Module):
    """y = max(x, 0). dx = dy where x > 0, else 0 (Nair and Hinton 2010)."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.relu()
        self._keep(y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        return (
            self._take().sign().mul_(dy)
        )  # 0 or 1; a mask of truth values takes torch three times as long


class LeakyReLU(Module):
    """y = x where x > 0, else slope * x (Maas et al. 2013)."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        self._keep(x)
        return torch.where(x > 0, x, self.slope * x)

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        return torch.where(self._take() > 0, dy, self.slope * dy)


class Tanh(Module):
    """y = tanh x. dx = (1 - y^2) dy."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.tanh()
        self._keep(y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        y = self._take()
        return dy - dy * y * y


class Sigmoid(Module):
    """y = 1 / (1 + exp(-x)). dx = y (1 - y) dy."""

    def forward(self, x: Tensor) -> Tensor:
        y = sigmoid(x)
        self._keep(y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        y = self._take()
        return dy * y * (1 - y)


class SELU(Module):
    """y = scale * x where x > 0, else scale * alpha * (exp x - 1); constants of Klambauer et al. 2017, equation 14."""

    ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805

    def forward(self, x: Tensor) -> Tensor:
        y = self.SCALE * torch.where(x > 0, x, self.ALPHA * x.clamp(max=0).expm1())
        self._keep(y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        y = self._take()
        return dy * torch.where(y > 0, self.SCALE, y + self.SCALE * self.ALPHA)


class GELU(Module):
    """y = x P(x), P the distribution function of the standard normal (Hendrycks and Gimpel 2016). dx = (P(x) + x p(x)) dy."""

    def forward(self, x: Tensor) -> Tensor:
        below = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        self._keep((x, below))
        return x * below

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        x, below = self._take()
        density = (-0.5 * x * x).exp() / math.sqrt(2 * math.pi)
        return dy * (below + x * density)


class Dropout(Module):
    """While training each unit is 0 with the probability, else 1 / (1 - probability) as large (Srivastava et al. 2014).

    The masks come from the generators, one a replica: of each row and unit one number that is uniform in [0, 1).
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
        keep, uniform = (
            1 - self.probability,
            torch.empty(x.shape, dtype=torch.float32),
        )  # the same masks whatever x is
        for row, generator in zip(uniform, self.generators):
            torch.rand(row.shape, generator=generator, out=row)
        mask = (uniform < keep).to(x.dtype).div_(keep)
        self._keep(mask)
        return x * mask

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        return dy * self._take()


class BatchNorm(Module):
    """y = scale * (x - mean) / sqrt(variance + eps) + shift, of each unit or channel (Ioffe and Szegedy 2015, algorithm 1).

    While training, mean and variance are the batch's own, over the rows (and pixels), and running ones follow them with the
    given momentum (the variance with its divisor less one); evaluating uses the running ones. With n numbers a channel and
    z = (x - mean) / sqrt(variance + eps): dx = scale / sqrt(variance + eps) * (dy - mean(dy) - z mean(dy z)).

    (R, B, channels) or (R, B, channels, height, width). ValueError while training with fewer than two numbers a channel.
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
        scale = self.scale.data
        axes = (len(scale), "rows", scale.shape[2], *(("height", "width") if x.dim() > 3 else ()))
        check_input(self, x, axes, scale)
        mean, variance = (
            self._statistics(x) if self.training else (self.running_mean, self.running_variance)
        )
        mean, variance, scale, shift = (
            self._like(each, x) for each in (mean, variance, scale, self.shift.data)
        )
        root = (variance + self.eps).rsqrt()
        z = (x - mean) * root
        self._keep((z, root))
        return z * scale + shift

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        z, root = self._take()
        axes = self._over(dy)
        total, along = dy.sum(axes, keepdim=True), (dy * z).sum(axes, keepdim=True)
        self.shift.grad.add_(total.view_as(self.shift.grad))
        self.scale.grad.add_(along.view_as(self.scale.grad))
        n = dy[:, :, 0].numel() // len(dy)
        return self._like(self.scale.data, dy) * root * (dy - (total + z * along) / n)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        n = x[:, :, 0].numel() // len(x)
        if n < 2:
            raise ValueError(
                f"batch norm cannot train on {n} number a channel, from an input of shape {tuple(x.shape)}: at least 2 are needed"
            )
        mean = x.mean(self._over(x), keepdim=True)
        variance = (x - mean).square().mean(self._over(x), keepdim=True)
        mean, variance = mean.view_as(self.running_mean), variance.view_as(self.running_variance)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_variance.lerp_(variance * (n / (n - 1)), self.momentum)
        return mean, variance

    @staticmethod
    def _over(x: Tensor) -> tuple[int, ...]:
        return (1, 3, 4) if x.dim() == 5 else (1,)

    @staticmethod
    def _like(statistic: Tensor, x: Tensor) -> Tensor:
        return statistic[..., None, None] if x.dim() == 5 else statistic
