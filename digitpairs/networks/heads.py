"""What stands on the features: the naming of the digits, and their comparison."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digitpairs.checks import InvalidValue, choice
from digitpairs.networks.layers import linear_stack

CLASSES = 10

# What the comparison part is given. "onehot" is the noise removal of the coukos report; no gradient passes through it.
COMPARISON_INPUTS = {
    "logits": lambda digits: digits,
    "probabilities": lambda digits: digits.softmax(-1),
    "onehot": lambda digits: F.one_hot(digits.argmax(-1), CLASSES).to(digits.dtype),
}


def digit_head(features: int, digits: int, hidden: Sequence[int], activation: str, batch_norm: bool) -> nn.Sequential:
    """Features -> the logits of `digits` digits, 10 each, after hidden layers of the given widths."""
    layers, width = linear_stack(features, hidden, key="digit_hidden", activation=activation, batch_norm=batch_norm)
    return nn.Sequential(*layers, nn.Linear(width, CLASSES * digits))


def comparison_head(inputs: int, outputs: int, hidden: Sequence[int], activation: str, batch_norm: bool) -> nn.Sequential:
    """What it sees -> one comparison logit, or two, after hidden layers of the given widths."""
    if outputs not in (1, 2) or isinstance(outputs, bool):
        raise InvalidValue("comparison_outputs", outputs, "1 (binary cross-entropy) or 2 (cross-entropy)")
    layers, width = linear_stack(inputs, hidden, key="comparison_hidden", activation=activation, batch_norm=batch_norm)
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def comparison_input(name: str, has_digits: bool) -> str:
    """The checked name of what the comparison part sees: "features", or (with digit logits) a key of COMPARISON_INPUTS."""
    choice("comparison_input", name, [*COMPARISON_INPUTS, "posterior", "features"])
    if name != "features" and not has_digits:
        raise InvalidValue("comparison_input", name, "features, since digit_head=none leaves no digit logits to see")
    return name


def posterior_probability(digits: Tensor) -> Tensor:
    """Digit logits (..., 2, 10) -> P(first <= second), (...): the sum of p_i q_j over i <= j of the two posteriors."""
    first, second = digits.softmax(-1).unbind(-2)
    return (first.cumsum(-1) * second).sum(-1)


def posterior_logit(digits: Tensor) -> Tensor:
    """Digit logits (..., 2, 10) -> log P(first <= second) - log P(first > second), (...).

    The logit of `posterior_probability`, formed from logarithms so that it stays exact where the probability is 0 or 1
    to rounding. No parameters, nothing to learn.
    """
    wide = digits.float() if digits.dtype in (torch.bfloat16, torch.float16) else digits
    log_posterior = wide.log_softmax(-1)
    joint = log_posterior[..., 0, :, None] + log_posterior[..., 1, None, :]  # (..., 10, 10): first by second
    at_most = torch.ones(CLASSES, CLASSES, dtype=torch.bool, device=digits.device).triu()
    masked = [joint.masked_fill(outside, -torch.inf).flatten(-2) for outside in (~at_most, at_most)]
    return masked[0].logsumexp(-1) - masked[1].logsumexp(-1)
