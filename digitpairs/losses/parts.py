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
    each = comparison_losses(prediction.comparison, target)[..., None]
    if prediction.digits is not None:
        each = torch.cat([cross_entropies(prediction.digits, digits, 2), each], -1)
    return each.mean(-2)


def comparison_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Of each pair: binary cross-entropy of one logit (..., B, 1), or cross-entropy of two (..., B, 2) -> (..., B)."""
    if logits.shape[-1] == 1:
        return F.binary_cross_entropy_with_logits(logits.squeeze(-1), target.to(logits.dtype), reduction="none")
    return cross_entropies(logits, target, 1)


def cross_entropies(logits: Tensor, classes: Tensor, axes: int) -> Tensor:
    """Of each row: logits (..., classes), classes (...) -> (...); the rows of a network lie along so many last axes.

    With the classes before the rows, where torch's softmax works on many rows at once, and where they lie in an array's
    memory.
    """
    classes_first = logits.movedim(-1, -1 - axes)
    batches = (-1, *classes_first.shape[-1 - axes :])  # a member each
    each = F.cross_entropy(classes_first.reshape(batches), classes.reshape(-1, *classes.shape[-axes:]), reduction="none")
    return each.view(classes.shape)
