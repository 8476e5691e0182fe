"""Cross-entropies: losses of the logits of labels and of classes."""

from __future__ import annotations

import torch
from torch import Tensor

from framework.errors import check_classes, check_target, fraction
from framework.losses import ElementwiseLoss
from framework.operations import sigmoid


class BinaryCrossEntropy(ElementwiseLoss):
    """Cross-entropy of logits x and targets t from 0 to 1; dL/dx = sigmoid(x) - t.

    -t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)) is computed as
    max(x, 0) - x t + log(1 + exp(-|x|)), which cannot overflow. Both are (R, B, ...), of the same
    shape and type.

    Args:
        reduction: "mean", "sum" or "none".
        pos_weight: a factor of the first term, for each unit of a row. With 3, a label 1 counts
            as three rows with it.
        weight: a factor of both terms, for each unit of a row; the mean divides by the number of
            values.
    """

    def __init__(
        self,
        reduction: str = "mean",
        *,
        pos_weight: Tensor | float = 1.0,
        weight: Tensor | float = 1.0,
    ) -> None:
        super().__init__(reduction)
        self.pos_weight, self.weight = pos_weight, weight
        self._plain = not any(isinstance(w, Tensor) or w != 1 for w in (pos_weight, weight))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_target(type(self).__name__, target, prediction, prediction.dtype)
        if not self._plain:
            return self._weighted(prediction, target)
        positive = prediction.clamp(min=0)  # max(x, 0)
        tail = prediction.abs().neg_().exp_().log1p_()  # log(1 + exp(-|x|))
        self.keep((prediction, target, tail))
        # max(x, 0) - x t + log(1 + exp(-|x|))
        return self.reduce(positive.addcmul_(prediction, target, value=-1).add_(tail))

    def check_values(self, target: Tensor) -> None:
        low, high = (float(limit) for limit in target.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"the target of {type(self).__name__} has values from {low:g} to {high:g}, "
                "accepted is 0 to 1"
            )

    def backward(self) -> Tensor:
        if not self._plain:
            gradient: Tensor = self.take()
            return gradient * self.share(gradient)
        kept: tuple[Tensor, Tensor, Tensor] = self.take()
        prediction, target, tail = kept
        # sigmoid(x) = exp(min(x, 0) - log(1 + exp(-|x|))); dx = (sigmoid(x) - t) / n
        probability = prediction.clamp(max=0).sub_(tail).exp_()
        return probability.sub_(target).mul_(self.share(target))

    def _weighted(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss with weights: w ((1 - t) x + u log(1 + exp(-x))) with u = (1 - t) + p t.

        Its gradient is w (1 - t - u sigmoid(-x)).
        """
        negative = 1 - target
        both = negative + self.pos_weight * target
        softplus = prediction.neg().clamp(min=0) + prediction.abs().neg().exp().log1p()
        self.keep(self.weight * (negative - both * sigmoid(-prediction)))
        return self.reduce(self.weight * (negative * prediction + both * softplus))


class CrossEntropy(ElementwiseLoss):
    """Cross-entropy of logits x and classes c: -log p_c with p = softmax(x); dL/dx = p - onehot(c).

    Logits are (R, B, ..., classes), targets (R, B, ...) int64 from 0 to classes - 1. A common
    offset of a row's logits changes neither loss nor gradient. A multiple of 64 near the largest
    logit is subtracted first, without rounding, so that log(sum(exp(x))) keeps its digits.

    Targets may also be probabilities q of the classes, with shape and type of the logits. The loss
    is then -sum(q log p), and dL/dx = p sum(q) - q.

    Args:
        reduction: "mean", "sum" or "none".
        label_smoothing: e in q = (1 - e) onehot(c) + e / classes (Szegedy et al. 2016).
        class_weights: w, (classes,), a factor of each class's term in -sum(w q log p). The mean
            divides by the sum of w_c or, for probabilities, by the number of rows.
        ignore_index: a class whose rows do not count.
    """

    def __init__(
        self,
        reduction: str = "mean",
        *,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(reduction)
        self.label_smoothing = fraction("label_smoothing", label_smoothing)
        self.class_weights, self.ignore_index = class_weights, ignore_index
        self._plain = not label_smoothing and class_weights is None and ignore_index is None

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        if not self._plain or target.is_floating_point():
            return self._weighted(prediction, target)
        check_target("CrossEntropy", target, prediction, torch.int64, classes=True)
        log_probabilities = _log_softmax(prediction)
        try:
            chosen = log_probabilities.gather(-1, target[..., None])
        except RuntimeError:
            check_classes("CrossEntropy", target, prediction.shape[-1])
            raise
        self.keep((log_probabilities, target, None))
        return self.reduce(-chosen.squeeze(-1))

    def backward(self) -> Tensor:
        kept: tuple[Tensor, Tensor, Tensor | None] = self.take()
        log_probabilities, target, divisor = kept
        probabilities: Tensor = log_probabilities.exp()
        if divisor is not None:
            gradient: Tensor = probabilities * target.sum(-1, keepdim=True) - target
            return gradient / divisor.view(-1, *[1] * (gradient.dim() - 1))
        # p - onehot(c): 1 is subtracted from the probability of the right class
        minus_one = probabilities.new_full((1,), -1.0).expand(*target.shape, 1)
        probabilities.scatter_add_(-1, target[..., None], minus_one)
        return probabilities.mul_(self.share(target))

    def _weighted(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss -sum(q log p), where q contains the weights; q is 0 in rows that are ignored."""
        soft = target.shape == prediction.shape and target.dtype == prediction.dtype
        q = target if soft else self._onehot(target, prediction)
        weights = self.class_weights
        weights = q.new_ones(q.shape[-1]) if weights is None else weights.to(q)
        counted = torch.ones_like(q[..., :1]) if soft else q.sum(-1, keepdim=True)  # 0 or 1
        divisor = counted[..., 0] if soft else (q * weights).sum(-1)
        smoothing = self.label_smoothing
        q = weights * ((1 - smoothing) * q + smoothing / q.shape[-1] * counted)
        log_probabilities = _log_softmax(prediction)
        values = torch.where(q == 0, 0, -q * log_probabilities).sum(-1)
        divisor = divisor.flatten(1).sum(1) if self.reduction == "mean" else q.new_ones(1)
        self.keep((log_probabilities, q, divisor))
        return values if self.reduction == "none" else values.flatten(1).sum(1) / divisor

    def _onehot(self, target: Tensor, prediction: Tensor) -> Tensor:
        """The classes as probabilities 0 and 1; all are 0 in rows that are ignored."""
        check_target("CrossEntropy", target, prediction, torch.int64, classes=True)
        counted = (
            torch.ones_like(target) if self.ignore_index is None else target != self.ignore_index
        )
        target = target * counted
        check_classes("CrossEntropy", target, prediction.shape[-1])
        onehot = torch.zeros_like(prediction)
        return onehot.scatter_(-1, target[..., None], counted[..., None].to(onehot.dtype))


def _log_softmax(x: Tensor) -> Tensor:
    """The logarithm of softmax, log p = x - log(sum(exp(x))).

    A common offset of all x cancels; it is subtracted first, so that exp(x) cannot overflow.
    """
    offset = x.amax(-1, keepdim=True).div(64, rounding_mode="trunc").mul_(64)
    logits = x - offset.nan_to_num_(0, 0, 0)
    return logits - logits.logsumexp(-1, keepdim=True)
