"""What stands on the features: the naming of the digits, and their comparison."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digitpairs.checks import InvalidValueError, choice, integers
from digitpairs.networks.layers import Linear, activation_layer, linear_stack
from digitpairs.networks.stacking import stackable

CLASSES = 10

# What the comparison part is given. "onehot" is the noise removal of the coukos report; no gradient passes through it.
COMPARISON_INPUTS = {
    "logits": lambda digits: digits,
    "probabilities": lambda digits: posteriors(digits),
    "onehot": lambda digits: F.one_hot(digits.argmax(-1), CLASSES).to(digits.dtype),
}


def digit_part(
    kind: str, features: int, hidden: Sequence[int], activation: str, batch_norm: bool
) -> nn.Sequential | None:
    """Features -> 10 logits of one digit ("per_image") or 20 of both ("joint"), after hidden layers of the given widths;
    None for "none".
    """
    if kind == "none":
        integers("digit_hidden", hidden)
        return None
    layers, width = linear_stack(
        features, hidden, key="digit_hidden", activation=activation, batch_norm=batch_norm
    )
    return nn.Sequential(*layers, Linear(width, 2 * CLASSES if kind == "joint" else CLASSES))


@stackable
class ComparisonPart(nn.Module):
    """Features of a pair and its digit logits -> comparison logits.

    Args:
        features: number of features of a pair.
        has_digits: whether there are digit logits.
        sees: "logits", "probabilities" or "onehot" (of both digits), or "features"; or "posterior": then nothing is
            learned, and the comparison follows from the two digit posteriors (`posterior_logit`).
        hidden: widths of the hidden layers.
        outputs: 1 or 2 logits; the posterior has 1.
        output_activation: None, or what the logits pass through: the coukos report lists a ReLU.

    While `detached` is set, no gradient passes from the comparison to what it sees.
    """

    def __init__(
        self,
        features: int,
        has_digits: bool,
        *,
        sees: str,
        hidden: Sequence[int],
        outputs: int,
        output_activation: str | None,
        activation: str,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        self.detached = False
        self.sees = choice("comparison_input", sees, [*COMPARISON_INPUTS, "posterior", "features"])
        if sees != "features" and not has_digits:
            raise InvalidValueError(
                "comparison_input",
                sees,
                "features, since digit_head=none leaves no digit logits to see",
            )
        if outputs not in (1, 2) or not isinstance(outputs, int) or isinstance(outputs, bool):
            raise InvalidValueError(
                "comparison_outputs", outputs, "1 (binary cross-entropy) or 2 (cross-entropy)"
            )
        integers("comparison_hidden", hidden)  # checked for the posterior, too, which has no layers
        last = [] if output_activation is None else [_output_activation(output_activation)]
        if sees != "posterior":
            inputs = features if sees == "features" else 2 * CLASSES
            layers, width = linear_stack(
                inputs,
                hidden,
                key="comparison_hidden",
                activation=activation,
                batch_norm=batch_norm,
            )
            self.layers = nn.Sequential(*layers, Linear(width, outputs), *last)

    def forward(self, features: Tensor | None, digits: Tensor | None) -> Tensor:
        """(..., B, features), unless the digits are what it sees, and (..., B, 2, 10) or None -> (..., B, outputs)."""
        if self.detached:
            features, digits = (
                each if each is None else each.detach() for each in (features, digits)
            )
        if self.sees == "posterior":
            return posterior_logit(digits)[..., None]
        if self.sees != "features":
            features = COMPARISON_INPUTS[self.sees](digits).flatten(
                -2
            )  # (..., B, 2, 10) -> (..., B, 20)
        return self.layers(features)


def _output_activation(name: str) -> nn.Module:
    try:
        return activation_layer(name)
    except InvalidValueError as fault:
        raise InvalidValueError(
            "comparison_output_activation", name, f"null, or {fault.accepted}"
        ) from None


def posteriors(digits: Tensor) -> Tensor:
    """Digit logits (..., 2, 10) or (..., B, 2, 10) -> the softmax, computed with the classes before the rows: of ten values at
    a time, torch's takes several times as long.
    """
    axis = max(0, digits.dim() - 3)
    return digits.movedim(-1, axis).softmax(axis).movedim(axis, -1)


def posterior_probability(digits: Tensor) -> Tensor:
    """Digit logits (..., 2, 10) -> P(first <= second), (...): the sum of p_i q_j over i <= j of the two posteriors."""
    first, second = posteriors(digits).unbind(-2)
    return (first.cumsum(-1) * second).sum(-1)


def posterior_logit(digits: Tensor) -> Tensor:
    """Digit logits (..., 2, 10) -> log P(first <= second) - log P(first > second), (...).

    The logit of `posterior_probability`, formed from logarithms so that it stays exact where the probability is 0 or 1
    to rounding. No parameters, nothing to learn.
    """
    wide = digits.float() if digits.dtype in (torch.bfloat16, torch.float16) else digits
    log_posterior = wide.log_softmax(-1)
    joint = (
        log_posterior[..., 0, :, None] + log_posterior[..., 1, None, :]
    )  # (..., 10, 10): first by second
    at_most = torch.ones(CLASSES, CLASSES, dtype=torch.bool, device=digits.device).triu()
    masked = [joint.masked_fill(outside, -torch.inf).flatten(-2) for outside in (~at_most, at_most)]
    return masked[0].logsumexp(-1) - masked[1].logsumexp(-1)
