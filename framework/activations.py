"""Activations: functions of each value; inputs are (replicas, rows, ...).

In the formulas dx is dL/dx, the gradient of the loss with respect to x.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from framework.errors import finite
from framework.module import Layer
from framework.operations import sigmoid


class ReLU(Layer):
    """y = max(x, 0); dx = dy where x > 0, else 0 (Nair and Hinton 2010)."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.relu()
        self.keep(y, y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        y: Tensor = self.take(dy)
        return y.sign().mul_(dy)  # three times as fast as a boolean mask


class LeakyReLU(Layer):
    """y = x where x > 0, else slope * x; dx = dy or slope * dy likewise (Maas et al. 2013)."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = finite("slope", slope)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.where(x > 0, x, self.slope * x)
        self.keep(x, y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        return torch.where(self.take(dy) > 0, dy, self.slope * dy)


class Tanh(Layer):
    """y = tanh(x); dx = (1 - y^2) dy."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.tanh()
        self.keep(y, y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        y: Tensor = self.take(dy)
        return dy - dy * y * y


class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x)); dx = y (1 - y) dy."""

    def forward(self, x: Tensor) -> Tensor:
        y = sigmoid(x)
        self.keep(y, y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        y: Tensor = self.take(dy)
        return dy * y * (1 - y)


class SELU(Layer):
    """y = scale * x where x > 0, else scale * alpha * (exp(x) - 1).

    dx = scale * dy where x > 0, else (y + scale * alpha) dy. The constants are from Klambauer et
    al. 2017, equation 14.
    """

    ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805

    def forward(self, x: Tensor) -> Tensor:
        y = self.SCALE * torch.where(x > 0, x, self.ALPHA * x.clamp(max=0).expm1())
        self.keep(y, y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        y: Tensor = self.take(dy)
        return dy * torch.where(y > 0, self.SCALE, y + self.SCALE * self.ALPHA)


class GELU(Layer):
    """y = x P(x); dx = (P(x) + x p(x)) dy (Hendrycks and Gimpel 2016).

    P is the cumulative distribution function of the standard normal, p its density.
    """

    def forward(self, x: Tensor) -> Tensor:
        cumulative = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        y = x * cumulative
        self.keep((x, cumulative), y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        kept: tuple[Tensor, Tensor] = self.take(dy)
        x, cumulative = kept
        density = (-0.5 * x * x).exp() / math.sqrt(2 * math.pi)
        return dy * (cumulative + x * density)
