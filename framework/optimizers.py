"""Optimisers: how gradients change parameters.

In the formulas p are the values, g their gradients and lr the learning rate. `maximize` takes -g
for g.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from framework.errors import fraction, not_negative
from framework.optimizer import Optimizer
from framework.parameter import Parameter


class SGD(Optimizer):
    """Gradient descent with momentum: v = momentum * v + g; p -= lr * v.

    With `nesterov`, p -= lr * (g + momentum * v). Weight decay adds weight_decay * p to g first.
    From the second step on, v takes (1 - dampening) * g. Polyak 1964, in the form of Sutskever et
    al. 2013; the dampening is torch's.
    """

    state_names: tuple[str, ...] = ("velocity",)

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        self.momentum, self.nesterov = not_negative("momentum", momentum), nesterov
        self.dampening = fraction("dampening", dampening)
        if nesterov and (not momentum or dampening):
            raise ValueError("nesterov=True needs a momentum above 0, and no dampening")
        super().__init__(parameters, lr, weight_decay, maximize)
        if dampening:
            self.steps, self.state_names = 0, ("velocity", "steps")
        self.velocity = torch.zeros_like(self.values) if momentum else None

    def update(self, gradient: Tensor) -> None:
        if self.weight_decay:
            gradient = gradient.add(self.values, alpha=self.weight_decay)
        if self.velocity is not None:
            self.velocity.mul_(self.momentum).add_(self._dampened(gradient))
            if self.nesterov:
                gradient = gradient.add(self.velocity, alpha=self.momentum)
            else:
                gradient = self.velocity
        self.values.add_(gradient, alpha=-self.lr)

    def _dampened(self, gradient: Tensor) -> Tensor:
        if not self.dampening:
            return gradient
        self.steps += 1
        return gradient * (1 - self.dampening) if self.steps > 1 else gradient


class Adam(Optimizer):
    """Adam: p -= lr * m / (sqrt(v) + eps), with bias-corrected moments m and v of the gradient.

    m = beta1 m + (1 - beta1) g, divided by 1 - beta1^t in step t; v = beta2 v + (1 - beta2) g^2,
    divided by 1 - beta2^t. Weight decay adds weight_decay * p to g first. Kingma and Ba 2015,
    algorithm 1. With `amsgrad`, the largest v so far takes the place of v (Reddi et al. 2018).
    """

    state_names: tuple[str, ...] = ("first", "second", "steps")

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
    ) -> None:
        if not isinstance(betas, (list, tuple)) or len(betas) != 2 or 1 in betas:
            raise ValueError(f"betas are {betas}, accepted are two numbers from 0 to below 1")
        self.betas = (fraction("betas[0]", betas[0]), fraction("betas[1]", betas[1]))
        self.eps, self.steps = not_negative("eps", eps), 0
        super().__init__(parameters, lr, weight_decay, maximize)
        self.amsgrad = amsgrad
        if amsgrad:
            self.largest = torch.zeros_like(self.values)
            self.state_names = (*self.state_names, "largest")
        self.first, self.second = torch.zeros_like(self.values), torch.zeros_like(self.values)

    def update(self, gradient: Tensor) -> None:
        self.steps += 1
        beta1, beta2 = self.betas
        gradient = self.decayed(gradient)
        self.first.lerp_(gradient, 1 - beta1)  # m = beta1 m + (1 - beta1) g
        self.second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)  # v likewise, of g^2
        # p -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps). With c = sqrt(1 - beta2^t),
        # the root is sqrt(v) / c. Multiplying numerator and denominator by c gives
        # p -= (lr c / (1 - beta1^t)) m / (sqrt(v) + eps c), which saves two operations on vectors.
        correction = math.sqrt(1 - beta2**self.steps)
        second = self.second
        if self.amsgrad:
            second = torch.maximum(self.largest, second, out=self.largest)
        root = second.sqrt().add_(self.eps * correction)
        rate = self.lr * correction / (1 - beta1**self.steps)
        self.values.addcdiv_(self.first, root, value=-rate)


class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - lr * weight_decay before each step.

    Loshchilov and Hutter 2019. The other settings are as in `Adam`.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        maximize: bool = False,
    ) -> None:
        options = {"amsgrad": amsgrad, "maximize": maximize}
        super().__init__(parameters, lr, betas=betas, eps=eps, weight_decay=weight_decay, **options)

    def decayed(self, gradient: Tensor) -> Tensor:
        """Shrink the parameters, and return the gradient as it is."""
        self.values.mul_(1 - self.lr * self.weight_decay)
        return gradient


class RMSprop(Optimizer):
    """p -= lr * g / (sqrt(v) + eps) with v = alpha v + (1 - alpha) g^2 (Hinton 2012, lecture 6).

    With `centered`, v - m^2 takes the place of v, where m = alpha m + (1 - alpha) g (Graves 2013).
    With a momentum, u = momentum * u + g / (sqrt(v) + eps) and p -= lr * u. Weight decay adds
    weight_decay * p to g first.
    """

    state_names = ("second", "first", "velocity")

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float = 0.01,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        maximize: bool = False,
    ) -> None:
        self.alpha, self.eps = fraction("alpha", alpha), not_negative("eps", eps)
        self.momentum = not_negative("momentum", momentum)
        super().__init__(parameters, lr, weight_decay, maximize)
        self.second = torch.zeros_like(self.values)
        self.first = torch.zeros_like(self.values) if centered else None
        self.velocity = torch.zeros_like(self.values) if momentum else None

    def update(self, gradient: Tensor) -> None:
        gradient = self.decayed(gradient)
        self.second.mul_(self.alpha).addcmul_(gradient, gradient, value=1 - self.alpha)
        variance = self.second
        if self.first is not None:
            self.first.lerp_(gradient, 1 - self.alpha)
            variance = self.second.addcmul(self.first, self.first, value=-1)
        root = variance.sqrt().add_(self.eps)
        if self.velocity is None:
            self.values.addcdiv_(gradient, root, value=-self.lr)
        else:
            self.velocity.mul_(self.momentum).addcdiv_(gradient, root)
            self.values.add_(self.velocity, alpha=-self.lr)


class Adagrad(Optimizer):
    """p -= lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps) in step t, with s += g^2.

    s begins with `initial`. Weight decay adds weight_decay * p to g first. Duchi et al. 2011.
    """

    state_names = ("sum", "steps")

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float = 0.01,
        *,
        lr_decay: float = 0.0,
        initial: float = 0.0,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        self.lr_decay, self.eps = not_negative("lr_decay", lr_decay), not_negative("eps", eps)
        self.initial, self.steps = not_negative("initial", initial), 0
        super().__init__(parameters, lr, weight_decay, maximize)
        self.sum = torch.full_like(self.values, initial)

    def update(self, gradient: Tensor) -> None:
        gradient = self.decayed(gradient)
        rate = self.lr / (1 + self.steps * self.lr_decay)
        self.steps += 1
        self.sum.addcmul_(gradient, gradient)
        self.values.addcdiv_(gradient, self.sum.sqrt().add_(self.eps), value=-rate)
