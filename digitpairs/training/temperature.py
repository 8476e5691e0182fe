"""Temperature scaling: probabilities calibrated on held-out pairs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digitpairs.networks import Prediction
from digitpairs.networks.heads import posterior_logit

METHODS = ("none", "temperature")  # values of the setting `calibrate`
BOUND = 100.0  # temperatures are from 1 / BOUND to BOUND
_BISECTIONS = 40  # of the logarithm; leave an error of 1e-11


class TemperatureScaling(nn.Module):
    """Divides logits by a temperature of the comparison and one of the digits, 1 before `fit`.

    Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2. Dividing logits by a
    number changes no answer.

    Args:
        names_digits: whether the digits have a temperature: the network gives digit logits and was
            trained with a loss of the digits.
        from_digits: whether the comparison follows from the two digit posteriors. With a
            temperature of the digits, the comparison's logit is then that of the scaled digits
            and has no temperature of its own, so that P(first <= second) stays the sum over the
            posteriors. This may change the answer to pairs near 0.5.
    """

    comparison: Tensor
    digits: Tensor

    def __init__(self, names_digits: bool, from_digits: bool) -> None:
        super().__init__()
        self.names_digits, self.from_digits = names_digits, names_digits and from_digits
        self.register_buffer("comparison", torch.ones(()))
        self.register_buffer("digits", torch.ones(()))

    def forward(self, prediction: Prediction) -> Prediction:
        comparison, digits = prediction
        if self.names_digits and digits is not None:
            digits = digits / self.digits
            if self.from_digits:
                return Prediction(posterior_logit(digits)[..., None], digits)
        return Prediction(comparison / self.comparison, digits)

    def fit(self, prediction: Prediction, digits: Tensor, target: Tensor) -> None:
        """Fit the temperatures on held-out pairs: digits (B, 2) and target (B,), int64."""
        if self.names_digits and prediction.digits is not None:
            logits, classes = prediction.digits.flatten(0, 1), digits.flatten()  # (2B, 10), (2B,)
            self.digits.fill_(fit_temperature(logits, classes))
        if not self.from_digits:
            self.comparison.fill_(fit_temperature(prediction.comparison, target))

    def temperatures(self) -> dict[str, float]:
        """The fitted temperatures, by the names that results have."""
        values = {}
        if not self.from_digits:
            values["calibration/comparison_temperature"] = self.comparison.item()
        if self.names_digits:
            values["calibration/digit_temperature"] = self.digits.item()
        return values


def fit_temperature(logits: Tensor, classes: Tensor) -> float:
    """The temperature T with the smallest mean negative log likelihood of logits / T.

    The likelihood is convex in 1 / T, so T is found by bisection of the sign of its slope, in
    float64, between 1 / BOUND and BOUND.

    Args:
        logits: (n, classes), or (n, 1) for the logit of class 1 of two.
        classes: (n,), int64.

    Returns 1 if every class has the largest logit, since the likelihood then has no minimum (it
    falls without end as T goes to 0), and for logits that are not finite.
    """
    logits = logits.detach().double().cpu().contiguous()
    if logits.shape[1] == 1:
        logits = F.pad(logits, (1, 0))  # class 0 has the logit 0
    rows, classes = torch.arange(len(logits)), classes.cpu()
    label, others = logits[rows, classes], logits.clone()
    others[rows, classes] = -math.inf
    if not logits.isfinite().all() or (label > others.amax(1)).all():
        return 1.0
    low, high = -math.log(BOUND), math.log(BOUND)  # of log(1 / T)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        expected = ((logits * math.exp(middle)).softmax(1) * logits).sum(1)
        if (expected - label).sum() > 0:  # the slope: past the minimum
            high = middle
        else:
            low = middle
    return math.exp(-(low + high) / 2)
