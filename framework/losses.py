"""Losses: one number for each replica, and its gradient with respect to the predictions.

`forward(prediction, target)` returns the losses, (replicas,). `backward()` returns their gradient,
with the shape of the prediction; each replica's predictions affect only that replica's loss.
"""

from __future__ import annotations

from typing import Any, Generic

import torch
from torch import Tensor

from framework.errors import check_target
from framework.module import Differentiable, Output


class Loss(Differentiable, Generic[Output]):
    """Base of losses of a network's outputs."""

    reduction = "mean"  # of the rows' losses: "mean" or "sum"

    def forward(self, prediction: Output, target: Any) -> Tensor:
        """Compute each replica's loss, (replicas,)."""
        raise NotImplementedError

    def backward(self) -> Output:
        """Compute dL/dprediction."""
        raise NotImplementedError


class ElementwiseLoss(Loss[Tensor]):
    """Base of losses that are the mean, or the sum, of one value for each prediction."""

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum"):
            raise ValueError(f"the reduction is {reduction!r}, accepted is 'mean' or 'sum'")
        self.reduction = reduction

    def _reduce(self, values: Tensor) -> Tensor:
        """Reduce the values (R, B, ...) to (R,)."""
        axes = tuple(range(1, values.dim()))
        return values.mean(axes) if self.reduction == "mean" else values.sum(axes)

    def _weight(self, values: Tensor) -> float:
        """The gradient of the loss with respect to one value: 1 / n for the mean of n, else 1."""
        return len(values) / values.numel() if self.reduction == "mean" else 1.0


class MSE(ElementwiseLoss):
    """Squared error of predictions x and targets t: (x - t)^2; dL/dx = 2 (x - t).

    Both are (R, B, ...), of the same shape and type.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_target(type(self).__name__, target, prediction, prediction.dtype)
        difference = prediction - target
        self.keep(difference)
        return self._reduce(difference.square())

    def backward(self) -> Tensor:
        difference: Tensor = self.take()
        return difference * (2 * self._weight(difference))


class BinaryCrossEntropy(ElementwiseLoss):
    """Cross-entropy of logits x and targets t from 0 to 1; dL/dx = sigmoid(x) - t.

    -t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)) is computed as
    max(x, 0) - x t + log(1 + exp(-|x|)), which cannot overflow. Both are (R, B, ...), of the same
    shape and type.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_target(type(self).__name__, target, prediction, prediction.dtype)
        positive = prediction.clamp(min=0)
        tail = prediction.abs().neg_().exp_().log1p_()
        self.keep((prediction, target, tail))
        return self._reduce(positive.addcmul_(prediction, target, value=-1).add_(tail))

    def backward(self) -> Tensor:
        kept: tuple[Tensor, Tensor, Tensor] = self.take()
        prediction, target, tail = kept
        # log sigmoid(x) = min(x, 0) - log(1 + exp(-|x|))
        probability = prediction.clamp(max=0).sub_(tail).exp_()
        return probability.sub_(target).mul_(self._weight(target))


class CrossEntropy(ElementwiseLoss):
    """Cross-entropy of logits x and classes c: -log p_c with p = softmax(x); dL/dx = p - onehot(c).

    Logits are (R, B, ..., classes), targets (R, B, ...) int64 from 0 to classes - 1. A common
    offset of a row's logits changes neither loss nor gradient. A multiple of 64 near the largest
    logit is subtracted first, without rounding, so that log(sum(exp(x))) keeps its digits.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_target("CrossEntropy", target, prediction, torch.int64, classes=True)
        offset = prediction.amax(-1, keepdim=True).div(64, rounding_mode="trunc").mul_(64)
        logits = prediction - offset.nan_to_num_(0, 0, 0)
        log_probabilities = logits - logits.logsumexp(-1, keepdim=True)
        self.keep((log_probabilities, target))
        return self._reduce(-log_probabilities.gather(-1, target[..., None]).squeeze(-1))

    def backward(self) -> Tensor:
        kept: tuple[Tensor, Tensor] = self.take()
        log_probabilities, target = kept
        probabilities = log_probabilities.exp()
        minus_one = probabilities.new_full((1,), -1.0).expand(*target.shape, 1)
        probabilities.scatter_add_(-1, target[..., None], minus_one)
        return probabilities.mul_(self._weight(target))
