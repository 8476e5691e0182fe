"""Two images through one network, and their comparison: the sharing of weights, written out.

Both images of a pair are stacked on the axis of rows and go through the body once; its gradient is then that of both uses together,
since each row adds its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from framework.errors import check_input, shape_of
from framework.losses import BinaryCrossEntropy, CrossEntropy
from framework.module import Module


class Answer(NamedTuple):
    """What a network says of pairs, or how a loss changes with that."""

    comparison: Tensor  # (R, B, 1), the logit of "first <= second"
    digits: Tensor  # (R, B, 2, classes), the logits of the two digits


class Siamese(Module):
    """Pairs of images (R, B, 2, H, W) -> Answer.

    The body turns an image (R, 2B, 1, H, W) into the logits of its digit (R, 2B, classes); the comparison sees both digits'
    probabilities (or logits), (R, B, 2 classes), and gives (R, B, 1).
    """

    def __init__(self, body: Module, comparison: Module, *, sees: str = "probabilities") -> None:
        if sees not in ("probabilities", "logits"):
            raise ValueError(
                f"the comparison sees {sees!r}, accepted is 'probabilities' or 'logits'"
            )
        self.body, self.comparison, self.sees = body, comparison, sees

    def forward(self, x: Tensor) -> Answer:
        check_input(self, x, ("replicas", "rows", 2, "height", "width"))
        logits = self.body.forward(
            x.flatten(1, 2).unsqueeze(2)
        )  # (R, 2B, 1, H, W) -> (R, 2B, classes)
        seen = logits.softmax(-1) if self.sees == "probabilities" else logits
        comparison = self.comparison.forward(seen.reshape(len(x), x.shape[1], -1))
        self._keep(seen)
        return Answer(comparison, logits.unflatten(1, (-1, 2)))

    def backward(self, dy: Answer, input_gradient: bool = True) -> Tensor | None:
        seen = self._take()
        dseen = self.comparison.backward(dy.comparison).view(seen.shape)
        dlogits = (
            seen * (dseen - (dseen * seen).sum(-1, keepdim=True))
            if self.sees == "probabilities"
            else dseen
        )
        dx = self.body.backward(dlogits + dy.digits.flatten(1, 2), input_gradient)
        return None if dx is None else dx.squeeze(2).unflatten(1, (-1, 2))


class PairLoss(Module):
    """The weighted sum of three parts: cross-entropy of either digit, and of the comparison.

    `weights` (3,) or (replicas, 3) may be set anew at any time. Targets: (comparison (R, B, 1) of 0 and 1, digits (R, B, 2) int64).
    """

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights
        self.digit_losses = (CrossEntropy(), CrossEntropy())
        self.comparison_loss = BinaryCrossEntropy()

    def children(self) -> dict[str, Module]:
        return {
            "digit1": self.digit_losses[0],
            "digit2": self.digit_losses[1],
            "comparison": self.comparison_loss,
        }

    def forward(self, answer: Answer, targets: tuple[Tensor, Tensor]) -> Tensor:
        """-> (replicas,)."""
        if tuple(self.weights.shape) not in ((3,), (1, 3), (len(answer.comparison), 3)):
            raise ValueError(
                f"the weights are {shape_of(self.weights)}, accepted is (3,) or ({len(answer.comparison)}, 3)"
            )
        return (self.weights * self.parts(answer, targets)).sum(-1)

    def parts(self, answer: Answer, targets: tuple[Tensor, Tensor]) -> Tensor:
        """The parts by themselves (replicas, 3): first digit, second digit, comparison."""
        comparison, digits = targets
        if digits.shape != answer.digits.shape[:-1]:
            raise ValueError(
                f"the digits are {shape_of(digits)}, accepted is {tuple(answer.digits.shape[:-1])} int64"
            )
        parts = [
            loss.forward(answer.digits[:, :, place], digits[:, :, place])
            for place, loss in enumerate(self.digit_losses)
        ]
        return torch.stack(
            [*parts, self.comparison_loss.forward(answer.comparison, comparison)], -1
        )

    def backward(self) -> Answer:
        first, second, comparison = self.weights.expand(
            -1 if self.weights.dim() == 2 else 1, 3
        ).unbind(-1)
        digits = [
            weight[:, None, None] * loss.backward()
            for weight, loss in zip((first, second), self.digit_losses)
        ]
        return Answer(
            comparison[:, None, None] * self.comparison_loss.backward(), torch.stack(digits, 2)
        )
