"""Losses: one number for each replica, and its gradient with respect to the predictions.

`forward(prediction, target)` returns the losses, (replicas,). `backward()` returns their gradient,
with the shape of the prediction; each replica's predictions affect only that replica's loss.
"""

from __future__ import annotations

from typing import Any, Generic

from torch import Tensor

from framework.differentiable import Differentiable
from framework.errors import check_target, positive
from framework.module import Output


class Loss(Differentiable, Generic[Output]):
    """Base of losses of a network's outputs."""

    reduction = "mean"  # of the rows' losses: "mean" or "sum"

    def __call__(self, prediction: Output, target: Any) -> Tensor:
        return self.forward(prediction, target)

    def forward(self, prediction: Output, target: Any) -> Tensor:
        """Compute each replica's loss, (replicas,)."""
        raise NotImplementedError

    def backward(self) -> Output:
        """Compute dL/dprediction."""
        raise NotImplementedError

    def check_values(self, target: Any) -> None:
        """ValueError if a target has values for which the loss has no meaning.

        `Trainer.fit` calls this once for all training data, since it takes as long as a step.
        """


class ElementwiseLoss(Loss[Tensor]):
    """Base of losses that are the mean, or the sum, of one value for each prediction.

    With the reduction "none", `forward` returns the values (R, B, ...), and `backward` the gradient
    of their sum.
    """

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum", "none"):
            accepted = "accepted is 'mean', 'sum' or 'none'"
            raise ValueError(f"the reduction is {reduction!r}, {accepted}")
        self.reduction = reduction

    def reduce(self, values: Tensor) -> Tensor:
        """Reduce the values (R, B, ...) to (R,), unless the reduction is "none"."""
        if self.reduction == "none":
            return values
        if values.numel() == values.shape[0]:  # the mean, or the sum, of one value is that value
            return values.reshape(-1)
        axes = tuple(range(1, values.dim()))
        return values.mean(axes) if self.reduction == "mean" else values.sum(axes)

    def share(self, values: Tensor) -> float:
        """The gradient of the loss with respect to one value: 1 / n for the mean of n, else 1."""
        return values.shape[0] / values.numel() if self.reduction == "mean" else 1.0


class MSE(ElementwiseLoss):
    """Squared error of predictions x and targets t: (x - t)^2; dL/dx = 2 (x - t).

    Both are (R, B, ...), of the same shape and type.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_target(type(self).__name__, target, prediction, prediction.dtype)
        difference = prediction - target
        self.keep(difference)
        return self.reduce(difference.square())

    def backward(self) -> Tensor:
        difference: Tensor = self.take()
        share = self.share(difference)
        # Of a single value it is 2 d; d + d is computed faster than a product with a number.
        return difference * (2 * share) if share != 1 else difference + difference


class L1(ElementwiseLoss):
    """Absolute error of predictions x and targets t: |x - t|; dL/dx = sign(x - t).

    Both are (R, B, ...), of the same shape and type.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_target(type(self).__name__, target, prediction, prediction.dtype)
        difference = prediction - target
        self.keep(difference)
        return self.reduce(difference.abs())

    def backward(self) -> Tensor:
        difference: Tensor = self.take()
        return difference.sign() * self.share(difference)


class Huber(ElementwiseLoss):
    """Squared error near the target, absolute error elsewhere (Huber 1964), with d = x - t.

    d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2). dL/dx is d, limited to +-delta. Both
    are (R, B, ...), of the same shape and type.
    """

    def __init__(self, reduction: str = "mean", *, delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = positive("delta", delta)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_target(type(self).__name__, target, prediction, prediction.dtype)
        difference = prediction - target
        self.keep(difference)
        limited = difference.clamp(-self.delta, self.delta)  # e: the loss is e (d - e / 2)
        return self.reduce(limited * (difference - limited / 2))

    def backward(self) -> Tensor:
        difference: Tensor = self.take()
        return difference.clamp(-self.delta, self.delta) * self.share(difference)
