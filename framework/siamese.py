"""A siamese network, which compares two images with shared weights, its comparison and its loss.

Both images of a pair are stacked along the axis of rows and pass through the body together. Each
row adds to the body's gradient, which is thus the sum over both images.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from framework.cross_entropy import BinaryCrossEntropy, CrossEntropy
from framework.errors import check_input, instance, shape_of, tensor_error
from framework.losses import Loss
from framework.module import Layer, Module
from framework.sequential import input_gradient_of


class Answer(NamedTuple):
    """The outputs for pairs of images, or a loss's gradients with respect to them."""

    comparison: Tensor  # (R, B, 1), the logit of "first <= second"
    digits: Tensor  # (R, B, 2, classes), the logits of the two digits


class Siamese(Module[Answer]):
    """A body for each image, and a comparison of both digits: (R, B, 2, H, W) -> Answer.

    Args:
        body: computes the logits of the digits, (R, 2B, 1, H, W) -> (R, 2B, classes).
        comparison: computes the logit of the comparison, (R, B, 2 classes) -> (R, B, 1).
        sees: the input of the comparison, the digits' "probabilities" or "logits".
    """

    def __init__(self, body: Layer, comparison: Layer, *, sees: str = "probabilities") -> None:
        if sees not in ("probabilities", "logits"):
            raise ValueError(
                f"the comparison sees {sees!r}, accepted is 'probabilities' or 'logits'"
            )
        self.body = instance("the body", body, Module)
        self.comparison, self.sees = instance("the comparison", comparison, Module), sees

    def forward(self, x: Tensor) -> Answer:
        check_input(self, x, ("replicas", "rows", 2, "height", "width"))
        replicas, rows = x.shape[:2]
        logits = self.body.forward(x.flatten(1, 2).unsqueeze(2))
        seen = logits.softmax(-1) if self.sees == "probabilities" else logits
        comparison = self.comparison.forward(seen.reshape(replicas, rows, -1))
        digits = logits.view(replicas, rows, 2, -1)
        self.keep(seen, digits)
        return Answer(comparison, digits)

    def backward(self, dy: Answer, input_gradient: bool = True) -> Tensor | None:
        seen = self.take(dy.digits)
        dlogits = input_gradient_of(self.comparison, dy.comparison).view(seen.shape)
        if self.sees == "probabilities":  # y = softmax(x): dx = y (dy - the sum of y dy)
            dlogits = seen * (dlogits - (dlogits * seen).sum(-1, keepdim=True))
        dx = self.body.backward(dlogits + dy.digits.flatten(1, 2), input_gradient)
        return None if dx is None else dx.view(len(dx), -1, 2, *dx.shape[3:])


class PosteriorComparison(Layer):
    """y = log P(first <= second) - log P(first > second): (R, B, 2 classes) -> (R, B, 1).

    x has the logits of both digits, u and v. Nothing is learned: both probabilities follow from
    those of the digits. P(first = i, second = j) is exp(u_i + v_j) times a constant, so that with
    s_ij = u_i + v_j

        y = log(sum of exp(s_ij) over i <= j) - log(sum of exp(s_ij) over i > j).

    Its derivative by s_ij is w_ij: exp(s_ij) over the first sum where i <= j, else minus exp(s_ij)
    over the second. du_i = dy * the sum of w_ij over j, and dv_j = dy * the sum of w_ij over i.
    """

    def forward(self, x: Tensor) -> Tensor:
        check_input(self, x, ("replicas", "rows", "2 classes"))
        if x.shape[2] < 4 or x.shape[2] % 2:
            accepted = "(replicas, rows, an even number of at least 4)"
            raise tensor_error("the input of PosteriorComparison", x, accepted)
        first, second = x.reshape(*x.shape[:2], 2, -1).unbind(-2)
        pairs = first[..., :, None] + second[..., None, :]
        at_most = torch.ones(pairs.shape[-2:], dtype=torch.bool, device=x.device).triu()
        less_or_equal = pairs.masked_fill(~at_most, -torch.inf).flatten(-2)
        greater = pairs.masked_fill(at_most, -torch.inf).flatten(-2)
        y = less_or_equal.logsumexp(-1, True) - greater.logsumexp(-1, True)
        self.keep((less_or_equal, greater), y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        kept: tuple[Tensor, Tensor] = self.take(dy)
        less_or_equal, greater = (each.softmax(-1) for each in kept)
        classes = round(less_or_equal.shape[-1] ** 0.5)
        weights = (less_or_equal - greater).view(*dy.shape[:-1], classes, classes)
        return torch.cat([weights.sum(-1), weights.sum(-2)], -1) * dy


class PairLoss(Loss[Answer]):
    """The weighted sum of the cross-entropies of the first digit, the second and the comparison.

    Targets are (comparison, digits): (R, B, 1) from 0 to 1, and (R, B, 2) int64.

    Args:
        weights: of the three parts, (3,) or (replicas, 3). They may be changed at any time.
    """

    def __init__(self, weights: Tensor) -> None:
        self.weights = instance("weights", weights, Tensor)
        self.digit_losses = (CrossEntropy(), CrossEntropy())
        self.comparison_loss = BinaryCrossEntropy()

    def train(self, mode: bool = True) -> PairLoss:
        super().train(mode)
        for loss in (*self.digit_losses, self.comparison_loss):
            loss.train(mode)
        return self

    def forward(self, prediction: Answer, target: tuple[Tensor, Tensor]) -> Tensor:
        replicas = len(prediction.comparison)
        if tuple(self.weights.shape) not in ((3,), (1, 3), (replicas, 3)):
            raise ValueError(
                f"the weights are {shape_of(self.weights)}, accepted is (3,) or ({replicas}, 3)"
            )
        return (self.weights * self.parts(prediction, target)).sum(-1)

    def parts(self, prediction: Answer, target: tuple[Tensor, Tensor]) -> Tensor:
        """Compute the parts without their weights, (replicas, 3)."""
        comparison, digits = target
        if digits.shape != prediction.digits.shape[:-1]:
            accepted = tuple(prediction.digits.shape[:-1])
            raise ValueError(f"the digits are {shape_of(digits)}, accepted is {accepted} int64")
        parts = [
            loss.forward(prediction.digits[:, :, image], digits[:, :, image])
            for image, loss in enumerate(self.digit_losses)
        ]
        parts.append(self.comparison_loss.forward(prediction.comparison, comparison))
        return torch.stack(parts, -1)

    def check_values(self, target: tuple[Tensor, Tensor]) -> None:
        self.comparison_loss.check_values(target[0])

    def backward(self) -> Answer:
        weights = self.weights.view(-1, 3)[:, :, None, None]  # (R or 1, 3, 1, 1)
        digits = [
            weights[:, image] * loss.backward() for image, loss in enumerate(self.digit_losses)
        ]
        comparison = weights[:, 2] * self.comparison_loss.backward()
        return Answer(comparison, torch.stack(digits, 2))
