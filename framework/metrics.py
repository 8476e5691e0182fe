"""Error rates in per cent, of each replica: (replicas, rows, ...) and targets -> {"error": (replicas,)}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Measure = Callable[[Any, Any], dict[str, Tensor]]


def threshold_error(threshold: float, label_threshold: float | None = None) -> Measure:
    """Of one output (R, B, 1): wrong where it and its target lie on different sides of the threshold.

    0.5 goes with the labels 0 and 1, and 0 with -1 and 1. `label_threshold`: that of the targets, where it is another.
    """
    between = threshold if label_threshold is None else label_threshold

    def measure(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return _error((prediction > threshold) != (target > between))

    return measure


def logit_error(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Of one logit (R, B, 1) for the labels 0 and 1: wrong where its sign is another than the label says."""
    return threshold_error(0.0, 0.5)(prediction, target)


def argmax_error(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Of outputs (R, B, classes) for classes (R, B): wrong where another class has the largest output."""
    return _error(prediction.argmax(-1) != target)


def _error(wrong: Tensor) -> dict[str, Tensor]:
    return {"error": 100 * wrong.flatten(1).double().mean(1)}
