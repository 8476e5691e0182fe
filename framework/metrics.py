"""Error rates of each replica, in per cent.

A measure takes outputs and targets, (replicas, rows, ...) each, and returns {"error": (replicas,)}.
A row with a prediction that is nan is wrong. ValueError for targets of another shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from framework.errors import check_target, tensor_error

Measure = Callable[[Any, Any], dict[str, Tensor]]  # prediction and target have the network's types


def threshold_error(threshold: float, label_threshold: float | None = None) -> Measure:
    """Make a measure for one output, (R, B, 1), that is compared with a threshold.

    A row is wrong if its output and its target are on different sides of the threshold: 0.5 for
    the labels 0 and 1, 0 for -1 and 1. `label_threshold`, if given, is the threshold of the target.
    """
    if label_threshold is None:
        label_threshold = threshold

    def measure(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        check_target("threshold_error", target, prediction)
        wrong = (prediction > threshold) != (target > label_threshold)
        return _error(wrong | prediction.isnan())

    return measure


def logit_error(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Error of one logit, (R, B, 1), whose sign decides between the labels 0 and 1."""
    return threshold_error(0.0, 0.5)(prediction, target)


def argmax_error(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Error of outputs (R, B, classes) and classes (R, B): the largest output is predicted."""
    check_target("argmax_error", target, prediction, classes=True)
    if prediction.shape[-1] < 2:
        accepted = "at least two classes; logit_error is for one logit"
        raise tensor_error("the prediction for argmax_error", prediction, accepted)
    wrong = prediction.argmax(-1) != target
    return _error(wrong | prediction.isnan().any(-1))


def _error(wrong: Tensor) -> dict[str, Tensor]:
    return {"error": 100 * wrong.flatten(1).double().mean(1)}
