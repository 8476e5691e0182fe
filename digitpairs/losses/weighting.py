"""How the parts of the loss are weighted: fixed, scheduled, moving with the losses, learned, or random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from digitpairs.checks import InvalidValueError, positive
from digitpairs.losses.coefficients import Coefficient
from digitpairs.losses.parts import PARTS
from digitpairs.networks.stacking import stackable


@stackable
class Weighting(nn.Module):
    """The weighted sum of the loss's parts, in the order of PARTS; the weights (3,) are a buffer, which an array stacks.

    A subclass moves the weights in `start_epoch` or `start_step`, or replaces `forward`. A network without digit
    logits has the comparison's part alone, and needs a scheme that does without digits (`uses_digits` is False).
    """

    uses_digits = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.ones(len(PARTS)))

    def forward(self, parts: Tensor) -> Tensor:
        """Parts (..., 3), or (..., 1) of the comparison alone -> the loss (...)."""
        return (self.weights[..., -parts.shape[-1] :] * parts).sum(-1)

    def current(self) -> Tensor:
        """The weights in force (3,)."""
        return self.weights

    def start_epoch(self, epoch: int, history: Sequence[Tensor]) -> None:
        """Called before each epoch (counted from 0) with the mean parts (3,) of each earlier one."""

    def start_step(self, generator: torch.Generator) -> None:
        """Called before each mini-batch with the run's stream for random weights."""

    def _set(self, weights: Sequence[float] | Tensor) -> None:
        self.weights.copy_(torch.as_tensor(weights))


@stackable
class LambdaWeighting(Weighting):
    """digit1 + digit2 + lambda * comparison, as in the wang report. lambda: a `Coefficient` of at least 0.

    `lambda` is a keyword of Python, so that a notebook gives the value by place: LambdaWeighting(0.8).
    """

    def __init__(self, value: Any = None, /, **named: Any) -> None:
        super().__init__()
        for key in set(named) - {"lambda"}:
            raise InvalidValueError(
                key, named[key], "lambda, which is all that LambdaWeighting takes"
            )
        if (value is None) == ("lambda" not in named):
            given = "nothing" if value is None else value
            raise InvalidValueError("lambda", given, "one value, by place or as `lambda`")
        self.coefficient = Coefficient("lambda", named.get("lambda", value))

    def start_epoch(self, epoch: int, history: Sequence[Tensor]) -> None:
        self._set([1.0, 1.0, self.coefficient.at(epoch)])


@stackable
class GammaWeighting(Weighting):
    """comparison + gamma * (digit1 + digit2), as in the skura report. gamma: a `Coefficient` of at least 0."""

    def __init__(self, gamma: Any) -> None:
        super().__init__()
        self.coefficient = Coefficient("gamma", gamma)

    def start_epoch(self, epoch: int, history: Sequence[Tensor]) -> None:
        gamma = self.coefficient.at(epoch)
        self._set([gamma, gamma, 1.0])


@stackable
class ConvexWeighting(Weighting):
    """c * digit1 + c * digit2 + (1 - 2c) * comparison, as in the coukos report. c: a `Coefficient` from 0 to 0.5."""

    def __init__(self, c: Any) -> None:
        super().__init__()
        self.coefficient = Coefficient("c", c, at_most=0.5)

    def start_epoch(self, epoch: int, history: Sequence[Tensor]) -> None:
        c = self.coefficient.at(epoch)
        self._set([c, c, 1 - 2 * c])


@stackable
class FreeWeighting(Weighting):
    """digit1, digit2 and comparison each with a `Coefficient` of its own, of at least 0."""

    def __init__(self, digit1: Any, digit2: Any, comparison: Any) -> None:
        super().__init__()
        settings = {"digit1": digit1, "digit2": digit2, "comparison": comparison}
        self.coefficients = [Coefficient(key, settings[key]) for key in PARTS]

    def start_epoch(self, epoch: int, history: Sequence[Tensor]) -> None:
        self._set([coefficient.at(epoch) for coefficient in self.coefficients])


@stackable
class NoAuxWeighting(Weighting):
    """The comparison's loss alone; digit logits, where there are any, are measured but not trained."""

    uses_digits = False

    def __init__(self) -> None:
        super().__init__()
        self._set([0.0, 0.0, 1.0])


@stackable
class UncertaintyWeighting(Weighting):
    """Learned weights: sum of exp(-s) L + s / 2 over the parts, s = log sigma^2 (Kendall, Gal and Cipolla 2018, eq. 10).

    s starts at 0 and is clamped to [-limit, limit], since a part whose loss reaches zero would drive its weight to
    infinity.
    """

    def __init__(self, limit: float = 4.0) -> None:
        super().__init__()
        self.limit = positive("limit", limit)
        self.log_variance = nn.Parameter(torch.zeros(len(PARTS)))

    def forward(self, parts: Tensor) -> Tensor:
        return ((-self.log_variance).exp() * parts + self.log_variance / 2).sum(-1)

    def current(self) -> Tensor:
        return (-self.log_variance.detach()).exp()

    def start_step(self, generator: torch.Generator) -> None:
        # The parameter itself is clamped: a clamp in `forward` has no gradient beyond the limit, and s would stay there.
        with torch.no_grad():
            self.log_variance.clamp_(-self.limit, self.limit)


@stackable
class DynamicWeightAverage(Weighting):
    """Parts that fall more slowly weigh more: 3 softmax(r / temperature), r the ratio of a part's last two epoch means
    (DWA; Liu, Johns and Davison 2019, eq. 7). The first two epochs weigh all parts 1.
    """

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)

    def start_epoch(self, epoch: int, history: Sequence[Tensor]) -> None:
        if len(history) >= 2:
            ratio = history[-1] / history[-2].clamp_min(
                1e-8
            )  # a part that is learned to the last bit has loss 0
            self._set(len(PARTS) * (ratio / self.temperature).softmax(0))


@stackable
class RandomWeighting(Weighting):
    """Weights drawn anew each step, softmax of standard normals: a control for the learned ones (RLW; Lin et al. 2022).

    Evaluated, and recorded, with their expectation, 1/3 each.
    """

    def forward(self, parts: Tensor) -> Tensor:
        return super().forward(parts) if self.training else (self.current() * parts).sum(-1)

    def current(self) -> Tensor:
        return torch.full_like(self.weights, 1 / len(PARTS))

    def start_step(self, generator: torch.Generator) -> None:
        self._set(torch.randn(len(PARTS), generator=generator).softmax(0))


def check_fits(weighting: Weighting, has_digits: bool) -> None:
    """InvalidValueError where the scheme weighs digit losses and the network has no digit logits."""
    if weighting.uses_digits and not has_digits:
        name = type(weighting).__name__
        raise InvalidValueError(
            "aux",
            name,
            "NoAuxWeighting (aux=none) for a network without digit logits; or give it a model.digit_head",
        )
