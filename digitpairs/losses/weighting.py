"""Weights of the loss's parts: fixed, scheduled, from the losses, learned, or random."""

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
    """The weighted sum of the loss's parts; the weights (3,), in the order of PARTS, are a buffer.

    A subclass changes the weights in `start_epoch` or `start_step`, or overrides `forward`. It
    trains in arrays if it is declared `digitpairs.networks.stackable`. A network without digit
    logits has the comparison's part alone, and needs a scheme whose `uses_digits` is False.
    """

    uses_digits = True
    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.ones(len(PARTS)))

    def forward(self, parts: Tensor) -> Tensor:
        """Parts (..., 3), or (..., 1) of the comparison alone, -> the loss (...)."""
        return (self.weights[..., -parts.shape[-1] :] * parts).sum(-1)

    def current(self) -> Tensor:
        """The present weights (3,)."""
        return self.weights

    def start_epoch(self, epoch: int, history: Sequence[Tensor]) -> None:
        """Set an epoch's weights, given the mean parts (3,) of each earlier epoch."""

    def start_step(self, generator: torch.Generator) -> None:
        """Set the weights of a mini-batch; `generator` is the run's stream of random weights."""

    def _set(self, weights: Sequence[float] | Tensor) -> None:
        self.weights.copy_(torch.as_tensor(weights))


@stackable
class LambdaWeighting(Weighting):
    """digit1 + digit2 + lambda * comparison (wang report); lambda is a `Coefficient` >= 0.

    `lambda` is a keyword of Python: code passes a positional argument, LambdaWeighting(0.8).
    """

    def __init__(self, value: Any = None, /, **settings: Any) -> None:
        super().__init__()
        for key in settings.keys() - {"lambda"}:
            accepted = "lambda, which is all that LambdaWeighting takes"
            raise InvalidValueError(key, settings[key], accepted)
        if (value is None) == ("lambda" not in settings):
            shown = "nothing" if value is None else value
            raise InvalidValueError("lambda", shown, "one value, by place or as `lambda`")
        self.coefficient = Coefficient("lambda", settings.get("lambda", value))

    def start_epoch(self, epoch: int, history: Sequence[Tensor]) -> None:
        self._set([1.0, 1.0, self.coefficient.at(epoch)])


@stackable
class GammaWeighting(Weighting):
    """comparison + gamma * (digit1 + digit2) (skura report); gamma is a `Coefficient` >= 0."""

    def __init__(self, gamma: Any) -> None:
        super().__init__()
        self.coefficient = Coefficient("gamma", gamma)

    def start_epoch(self, epoch: int, history: Sequence[Tensor]) -> None:
        gamma = self.coefficient.at(epoch)
        self._set([gamma, gamma, 1.0])


@stackable
class ConvexWeighting(Weighting):
    """c * (digit1 + digit2) + (1 - 2c) * comparison (coukos report); c is from 0 to 0.5."""

    def __init__(self, c: Any) -> None:
        super().__init__()
        self.coefficient = Coefficient("c", c, at_most=0.5)

    def start_epoch(self, epoch: int, history: Sequence[Tensor]) -> None:
        c = self.coefficient.at(epoch)
        self._set([c, c, 1 - 2 * c])


@stackable
class FreeWeighting(Weighting):
    """A `Coefficient` of at least 0 for each of digit1, digit2 and comparison."""

    def __init__(self, digit1: Any, digit2: Any, comparison: Any) -> None:
        super().__init__()
        settings = {"digit1": digit1, "digit2": digit2, "comparison": comparison}
        self.coefficients = [Coefficient(key, settings[key]) for key in PARTS]

    def start_epoch(self, epoch: int, history: Sequence[Tensor]) -> None:
        self._set([coefficient.at(epoch) for coefficient in self.coefficients])


@stackable
class NoAuxWeighting(Weighting):
    """The comparison's loss alone; digit logits, if there are any, are measured but not trained."""

    uses_digits = False

    def __init__(self) -> None:
        super().__init__()
        self._set([0.0, 0.0, 1.0])


@stackable
class UncertaintyWeighting(Weighting):
    """Learned weights (Kendall, Gal and Cipolla 2018, eq. 10).

    The loss is the sum of exp(-s) L + s / 2 over the parts, with s = log sigma^2. s starts at 0
    and is clamped to [-limit, limit], since the weight of a part whose loss reaches zero would
    grow to infinity.
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
        # The parameter is clamped, not its use in `forward`: that clamp has no gradient beyond the
        # limit, and s would stay there.
        with torch.no_grad():
            self.log_variance.clamp_(-self.limit, self.limit)


@stackable
class DynamicWeightAverage(Weighting):
    """Larger weights for parts that fall more slowly (DWA; Liu, Johns and Davison 2019, eq. 7).

    The weights are 3 softmax(r / temperature), where r is the ratio of a part's last two epoch
    means. They are 1 in the first two epochs.
    """

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)

    def start_epoch(self, epoch: int, history: Sequence[Tensor]) -> None:
        if len(history) >= 2:
            ratio = history[-1] / history[-2].clamp_min(1e-8)  # a part's loss may be 0
            self._set(len(PARTS) * (ratio / self.temperature).softmax(0))


@stackable
class RandomWeighting(Weighting):
    """The softmax of standard normals drawn at each step (RLW; Lin et al. 2022).

    A control for learned weights. Evaluation and history use the expectation, 1/3 each.
    """

    def forward(self, parts: Tensor) -> Tensor:
        return super().forward(parts) if self.training else (self.current() * parts).sum(-1)

    def current(self) -> Tensor:
        return torch.full_like(self.weights, 1 / len(PARTS))

    def start_step(self, generator: torch.Generator) -> None:
        self._set(torch.randn(len(PARTS), generator=generator).softmax(0))


WEIGHTING = (
    f"a Weighting sets its weights ({len(PARTS)},) in start_epoch(epoch, history) or "
    f"start_step(generator), and forward(parts) turns the parts ({len(PARTS)},) into the loss ()"
)


def try_weighting(weighting: Weighting, has_digits: bool) -> None:
    """Call the methods of the scheme as training does.

    Raises TypeError or ValueError for what they must not return, and any exception of theirs.
    """
    if "_buffers" not in vars(weighting):
        raise TypeError("its __init__ does not call super().__init__()")
    parts = torch.ones(len(PARTS) if has_digits else 1, requires_grad=True)
    for epoch in range(3):
        weighting.start_epoch(epoch, [parts.detach()] * epoch)
    weighting.start_step(torch.Generator())
    if weighting.current().shape != (len(PARTS),):
        raise ValueError(f"current() gives the shape {tuple(weighting.current().shape)}")
    loss = weighting(parts)
    if not isinstance(loss, Tensor):
        raise TypeError(f"forward(parts) gives a {type(loss).__name__}")
    if loss.shape != ():
        raise ValueError(f"forward(parts) gives the shape {tuple(loss.shape)}")
    loss.backward()


def check_fits(weighting: Weighting, has_digits: bool) -> None:
    """Raises InvalidValueError if the scheme needs digit logits and the network has none."""
    if weighting.uses_digits and not has_digits:
        accepted = (
            "NoAuxWeighting (aux=none) for a network without digit logits; "
            "or give it a model.digit_head"
        )
        raise InvalidValueError("aux", type(weighting).__name__, accepted)
