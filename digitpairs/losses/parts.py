"""The parts of the loss: one for each digit, one for the comparison."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from digitpairs.networks import Prediction

PARTS = ("digit1", "digit2", "comparison")


def loss_parts(prediction: Prediction, digits: Tensor, target: Tensor) -> Tensor:
    """The mean losses over the batch, nats: (..., 3) in the order of PARTS, or (..., 1) of the comparison alone without
    digit logits; the leading axis, if there is one, is an array's members.

    `digits` (..., B, 2) and `target` (..., B) are int64.
    """
    comparison = comparison_loss(prediction.comparison, target)[..., None]
    if prediction.digits is None:
        return comparison
    return torch.cat([digit_losses(prediction.digits, digits), comparison], -1)


def comparison_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of one logit (..., B, 1), or cross-entropy of two (..., B, 2); mean over the batch (...)."""
    if logits.shape[-1] == 1:
        each = F.binary_cross_entropy_with_logits(logits[..., 0], target.to(logits.dtype), reduction="none")
    else:
        each = _cross_entropy(logits, target)
    return each.mean(-1)


def digit_losses(logits: Tensor, digits: Tensor) -> Tensor:
    """Cross-entropy of each digit: logits (..., B, 2, 10), classes (..., B, 2) -> mean over the batch (..., 2)."""
    return _cross_entropy(logits, digits).mean(-2)


def _cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Of each row: logits (..., classes), classes (...) -> (...).

    With the classes on the second axis, where torch's softmax works on many rows at once.
    """
    rows = logits.flatten(0, -2).T[None]  # (1, classes, rows)
    return F.cross_entropy(rows, classes.flatten()[None], reduction="none").view(classes.shape)
