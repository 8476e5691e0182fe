"""The parts after the body: digit logits from features, and comparison logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digitpairs.checks import InvalidValueError, choice, integers
from digitpairs.networks.layers import Linear, activation_layer, linear_stack
from digitpairs.networks.stacking import stackable

CLASSES = 10

# Digit logits (..., 2, 10) -> the input of the comparison part. "onehot" is the noise removal of
# the coukos report; no gradient passes through it.
COMPARISON_INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda digits: digits,
    "probabilities": lambda digits: posteriors(digits),
    "onehot": lambda digits: F.one_hot(digits.argmax(-1), CLASSES).to(digits.dtype),
}


def digit_part(
    kind: str, features: int, hidden: Sequence[int], activation: str, batch_norm: bool
) -> nn.Sequential | None:
    """Features -> hidden layers -> 10 logits of a digit ("per_image") or 20 of both ("joint").

    None for the kind "none".
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

    While `detached` is set, no gradient passes from the comparison to its inputs.

    Args:
        features: number of features of a pair.
        has_digits: whether there are digit logits.
        sees: the input: "logits", "probabilities" or "onehot" of both digits, or "features".
            "posterior" has no parameters: the comparison follows from the two digit posteriors
            (`posterior_logit`). It has one output, and ignores the settings of layers.
        hidden: widths of the hidden layers.
        outputs: 1 or 2 logits.
        output_activation: an activation of the logits (the coukos report lists a ReLU), or None.
        activation: of the hidden layers.
        batch_norm: after each hidden layer.
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
            accepted = "features, since digit_head=none leaves no digit logits to see"
            raise InvalidValueError("comparison_input", sees, accepted)
        if outputs not in (1, 2) or not isinstance(outputs, int) or isinstance(outputs, bool):
            accepted = "1 (binary cross-entropy) or 2 (cross-entropy)"
            raise InvalidValueError("comparison_outputs", outputs, accepted)
        integers("comparison_hidden", hidden)  # checked even if there are no layers
        last = [] if output_activation is None else [_output_activation(output_activation)]
        if sees != "posterior":
            layers, width = linear_stack(
                features if sees == "features" else 2 * CLASSES,
                hidden,
                key="comparison_hidden",
                activation=activation,
                batch_norm=batch_norm,
            )
            self.layers = nn.Sequential(*layers, Linear(width, outputs), *last)

    def forward(self, features: Tensor | None, digits: Tensor | None) -> Tensor:
        """Features (..., B, features) and digit logits (..., B, 2, 10) -> (..., B, outputs).

        Either may be None if the comparison does not see it.
        """
        if self.detached:
            features = None if features is None else features.detach()
            digits = None if digits is None else digits.detach()
        if digits is None or self.sees == "features":
            return self.layers(features)
        if self.sees == "posterior":
            return posterior_logit(digits)[..., None]
        return self.layers(COMPARISON_INPUTS[self.sees](digits).flatten(-2))  # (..., B, 20)


def check_posterior(settings: Mapping[str, Any]) -> None:
    """Raise InvalidValueError for settings of a comparison that is learned, beside "posterior".

    The networks ignore them, so that checkpoints load that were trained with them.

    Args:
        settings: of a network, such as `comparison_input`.
    """
    if settings.get("comparison_input") != "posterior":
        return
    needed = {
        "comparison_hidden": ([], "[]"),
        "comparison_outputs": (1, "1"),
        "comparison_output_activation": (None, "null"),
    }
    for key, (value, text) in needed.items():
        given = settings.get(key, value)
        if given != value:
            accepted = f"{text} with comparison_input=posterior, which learns nothing"
            accepted += "; to learn a comparison, set comparison_input=probabilities"
            raise InvalidValueError(key, given, accepted)


def _output_activation(name: str) -> nn.Module:
    try:
        return activation_layer(name)
    except InvalidValueError as fault:
        accepted = f"null, or {fault.accepted}"
        raise InvalidValueError("comparison_output_activation", name, accepted) from None


def posteriors(digits: Tensor) -> Tensor:
    """The softmax of digit logits (..., 2, 10) or (..., B, 2, 10).

    It is computed with the classes before the rows: torch's softmax over a last axis of ten values
    takes several times as long.
    """
    axis = max(0, digits.dim() - 3)
    return digits.movedim(-1, axis).softmax(axis).movedim(axis, -1)


def posterior_probability(digits: Tensor) -> Tensor:
    """Digit logits (..., 2, 10) -> P(first <= second), (...).

    The sum of p_i q_j over i <= j of the two posteriors.
    """
    first, second = posteriors(digits).unbind(-2)
    return (first.cumsum(-1) * second).sum(-1)


def posterior_logit(digits: Tensor) -> Tensor:
    """Digit logits (..., 2, 10) -> log P(first <= second) - log P(first > second), (...).

    The logit of `posterior_probability`, computed from logarithms so that it stays exact if the
    probability rounds to 0 or 1.
    """
    wide = digits.float() if digits.dtype in (torch.bfloat16, torch.float16) else digits
    first, second = wide.log_softmax(-1).unbind(-2)
    joint = first[..., :, None] + second[..., None, :]  # (..., 10, 10)
    at_most = torch.ones(CLASSES, CLASSES, dtype=torch.bool, device=digits.device).triu()
    less_or_equal = joint.masked_fill(~at_most, -torch.inf).flatten(-2).logsumexp(-1)
    greater = joint.masked_fill(at_most, -torch.inf).flatten(-2).logsumexp(-1)
    return less_or_equal - greater
