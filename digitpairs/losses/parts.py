"""The parts of the loss: one for each digit, one for the comparison."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from digitpairs.networks import Prediction

PARTS = ("digit1", "digit2", "comparison")


def loss_parts(prediction: Prediction, digits: Tensor, target: Tensor) -> Tensor:
    """The mean losses over the batch, nats: (3,) in the order of PARTS, or (1,) of the comparison alone without digit logits.

    `digits` (B, 2) and `target` (B,) are int64.
    """
    comparison = comparison_loss(prediction.comparison, target)[None]
    if prediction.digits is None:
        return comparison
    return torch.cat([digit_losses(prediction.digits, digits), comparison])


def comparison_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of one logit (B, 1), or cross-entropy of two (B, 2); a scalar."""
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], target.to(logits.dtype))
    return F.cross_entropy(logits, target)


def digit_losses(logits: Tensor, digits: Tensor) -> Tensor:
    """Cross-entropy of each digit: logits (B, 2, 10), classes (B, 2) -> (2,)."""
    each = F.cross_entropy(logits.flatten(0, 1), digits.flatten(), reduction="none")  # (2B,)
    return each.view(-1, 2).mean(0)
