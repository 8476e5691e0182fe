"""The parts of the loss: one for each digit, one for the comparison."""

from __future__ import annotations

import functools
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from digitpairs.networks import Prediction

PARTS = ("digit1", "digit2", "comparison")


def loss_parts(
    prediction: Prediction, digits: Tensor, target: Tensor, smoothing: Tensor | None = None
) -> Tensor:
    """The mean losses over the batch in nats, (..., 3) in the order of PARTS.

    Without digit logits (..., 1), of the comparison alone. An array has a leading axis of members.

    The networks of an `Ensemble` in training each have their own loss, and the mean over them is
    returned. Its gradient reaches each network as if it trained alone, not divided by their number.

    Args:
        prediction: the network's logits; an ensemble's are (..., networks, B, ...).
        digits: (..., B, 2), int64.
        target: (..., B), int64.
        smoothing: (...), the share of each label that is spread evenly over all classes (Szegedy
            et al. 2016, section 7), a number for each member; None is no smoothing.
    """
    if prediction.comparison.dim() > target.dim() + 1:
        return _mean_of_networks(prediction, digits, target, smoothing)
    losses = comparison_losses(prediction.comparison, target, smoothing)[..., None]
    if prediction.digits is not None:
        digit_losses = cross_entropies(prediction.digits, digits, 2, smoothing)
        losses = torch.cat([digit_losses, losses], -1)
    return losses.mean(-2)


def _mean_of_networks(
    prediction: Prediction, digits: Tensor, target: Tensor, smoothing: Tensor | None
) -> Tensor:
    networks = prediction.comparison.shape[-3]
    rows = target.unsqueeze(-2).expand(*target.shape[:-1], networks, -1)
    both = digits.unsqueeze(-3).expand(*rows.shape, 2)
    shares = None if smoothing is None else smoothing[..., None]
    return _MeanOfOwn.apply(loss_parts(prediction, both, rows, shares))


class _MeanOfOwn(torch.autograd.Function):
    """Parts (..., networks, 3) -> their mean (..., 3), whose gradient each network gets whole."""

    @staticmethod
    def forward(context: Any, parts: Tensor) -> Tensor:
        context.shape = parts.shape
        return functools.reduce(operator.add, parts.unbind(-2)) / parts.shape[-2]

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient.unsqueeze(-2).expand(context.shape)


def comparison_losses(logits: Tensor, target: Tensor, smoothing: Tensor | None = None) -> Tensor:
    """The loss of each pair, (..., B).

    Binary cross-entropy of one logit (..., B, 1), or cross-entropy of two (..., B, 2).
    """
    if logits.shape[-1] != 1:
        return cross_entropies(logits, target, 1, smoothing)
    # The cross-entropy of a label 0 or 1 is -log sigmoid(logit) with the label's sign. torch's own
    # has a gradient that rounds the last elements of a tensor differently than the others.
    signed = logits.squeeze(-1) * (2 * target - 1)
    losses = -F.logsigmoid(signed)
    if smoothing is None:
        return losses
    return losses + smoothing[..., None] / 2 * signed  # the loss is linear in the label


def cross_entropies(
    logits: Tensor, classes: Tensor, row_axes: int, smoothing: Tensor | None = None
) -> Tensor:
    """The cross-entropy of each row: logits (..., classes) and classes (...) -> (...).

    A network's rows have the last `row_axes` axes, and `smoothing` the axes before them. The
    classes are moved before the rows, which is their layout in an array, and for which torch's
    softmax works on many rows at once.
    """
    classes_first = logits.movedim(-1, -1 - row_axes)
    losses = F.cross_entropy(
        classes_first.reshape(-1, *classes_first.shape[-1 - row_axes :]),
        classes.reshape(-1, *classes.shape[-row_axes:]),
        reduction="none",
    ).view(classes.shape)
    if smoothing is None:
        return losses
    # -log p of the label and of the mean class differ by the label's logit less the mean logit:
    # this needs no second softmax.
    label = logits.gather(-1, classes[..., None]).squeeze(-1)
    per_member = smoothing.view(*smoothing.shape, *[1] * row_axes)
    return losses + per_member * (label - logits.mean(-1))
