"""The parts of the loss: one for each digit, one for the comparison."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from digitpairs.networks import Prediction

PARTS = ("digit1", "digit2", "comparison")


def loss_parts(
    prediction: Prediction, digits: Tensor, target: Tensor, smoothing: Tensor | None = None
) -> Tensor:
    """The mean losses over the batch, nats: (..., 3) in the order of PARTS, or (..., 1) of the comparison alone without
    digit logits; the leading axis, if there is one, is an array's members.

    `digits` (..., B, 2) and `target` (..., B) are int64. `smoothing` (...) is the share of each label that is spread evenly
    over all classes (Szegedy et al. 2016, section 7), one number a member; None is none.
    """
    each = comparison_losses(prediction.comparison, target, smoothing)[..., None]
    if prediction.digits is not None:
        each = torch.cat([cross_entropies(prediction.digits, digits, 2, smoothing), each], -1)
    return each.mean(-2)


def comparison_losses(logits: Tensor, target: Tensor, smoothing: Tensor | None = None) -> Tensor:
    """Of each pair: binary cross-entropy of one logit (..., B, 1), or cross-entropy of two (..., B, 2) -> (..., B); `smoothing` (...)."""
    if logits.shape[-1] == 1:
        # The cross-entropy of a label 0 or 1 is -log sigmoid(logit) with the label's sign. torch's
        # own has a gradient that rounds the last elements of a tensor differently than the others.
        signed = logits.squeeze(-1) * (2 * target - 1)
        each = -F.logsigmoid(signed)
        return (
            each if smoothing is None else each + smoothing[..., None] / 2 * signed
        )  # linear in the label
    return cross_entropies(logits, target, 1, smoothing)


def cross_entropies(
    logits: Tensor, classes: Tensor, axes: int, smoothing: Tensor | None = None
) -> Tensor:
    """Of each row: logits (..., classes), classes (...) -> (...); the rows of a network lie along so many last axes. `smoothing`
    has the axes before them.

    With the classes before the rows, where torch's softmax works on many rows at once, and where they lie in an array's
    memory.
    """
    classes_first = logits.movedim(-1, -1 - axes)
    batches = (-1, *classes_first.shape[-1 - axes :])  # a member each
    each = F.cross_entropy(
        classes_first.reshape(batches),
        classes.reshape(-1, *classes.shape[-axes:]),
        reduction="none",
    )
    each = each.view(classes.shape)
    if smoothing is None:
        return each
    # -log p of the label and of the mean class differ by label's logit less mean logit: no second softmax is needed
    label = logits.gather(-1, classes[..., None]).squeeze(-1)
    return each + smoothing.view(*smoothing.shape, *[1] * axes) * (label - logits.mean(-1))
