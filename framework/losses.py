"""Losses: how wrong predictions are, one number a replica, and how that changes with them.

`forward(prediction, target)` -> (replicas,); `backward()` -> its gradient with respect to the prediction. Each replica's loss is
its own: the gradient is that of their sum. As for layers, one backward belongs to one forward.
"""

from __future__ import annotations

import torch
from torch import Tensor

from framework.errors import refuse, shape_of
from framework.module import Module


class Loss(Module):
    """Base: the mean, or the sum, over all but the replicas' axis."""

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum"):
            raise ValueError(f"the reduction is {reduction!r}, accepted is 'mean' or 'sum'")
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def backward(self) -> Tensor:
        raise NotImplementedError

    def _reduced(self, each: Tensor) -> Tensor:
        axes = tuple(range(1, each.dim()))
        return each.mean(axes) if self.reduction == "mean" else each.sum(axes)

    def _share(self, each: Tensor) -> float:
        """What one of a replica's numbers weighs."""
        return len(each) / each.numel() if self.reduction == "mean" else 1.0


class MSE(Loss):
    """(prediction - target)^2. d = 2 (prediction - target), over n for the mean. Any shape (R, B, ...), equal for both."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        _check_equal(self, prediction, target)
        difference = prediction - target
        self._keep(difference)
        return self._reduced(difference.square())

    def backward(self) -> Tensor:
        difference = self._take()
        return difference * (2 * self._share(difference))


class BinaryCrossEntropy(Loss):
    """Of logits x and targets t from 0 to 1: max(x, 0) - x t + log(1 + exp(-|x|)), which overflows nowhere.
    d = sigmoid(x) - t. Any shape (R, B, ...), equal for both.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        _check_equal(self, prediction, target)
        above, tail = prediction.clamp(min=0), prediction.abs().neg_().exp_().log1p_()
        self._keep((prediction, target, tail))
        return self._reduced(above.addcmul_(prediction, target, value=-1).add_(tail))

    def backward(self) -> Tensor:
        prediction, target, tail = self._take()
        probability = (
            prediction.clamp(max=0).sub_(tail).exp_()
        )  # log sigmoid(x) = min(x, 0) - log(1 + exp(-|x|))
        return probability.sub_(target).mul_(self._share(target))


class CrossEntropy(Loss):
    """Of logits x and classes c: log(sum of exp x) - x_c. d = softmax(x) - onehot(c).

    Logits (R, B, ..., classes), targets (R, B, ...) int64 from 0 to classes - 1.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        if prediction.shape[:-1] != target.shape or target.dtype != torch.int64:
            raise refuse(
                "the target of CrossEntropy",
                target,
                f"{tuple(prediction.shape[:-1])} int64 for logits {shape_of(prediction)}",
            )
        logarithms = prediction - prediction.logsumexp(-1, keepdim=True)  # of the probabilities
        self._keep((logarithms, target))
        return self._reduced(-logarithms.gather(-1, target[..., None]).squeeze(-1))

    def backward(self) -> Tensor:
        logarithms, target = self._take()
        probabilities = logarithms.exp()
        probabilities.scatter_add_(
            -1, target[..., None], probabilities.new_full((1,), -1.0).expand(*target.shape, 1)
        )
        return probabilities.mul_(self._share(target))


def _check_equal(loss: Loss, prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape or prediction.dtype != target.dtype:
        raise refuse(
            f"the target of {type(loss).__name__}",
            target,
            f"{shape_of(prediction)}, as the prediction",
        )
