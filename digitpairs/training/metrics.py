"""Losses and error rates in per cent, as tensor operations that the tests check by torchmetrics."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from digitpairs.losses import PARTS
from digitpairs.networks import Prediction
from digitpairs.networks.heads import CLASSES, posterior_probability

# The names of what `MetricAccumulator` computes; without digit logits, "loss" and the comparison's.
LOSSES = (*(f"{part}_loss" for part in PARTS), "loss")
ERRORS = ("comparison_error", "digit1_error", "digit2_error", "digit_error", "posterior_error")


def predicts_less_or_equal(comparison: Tensor) -> Tensor:
    """Comparison logits (..., B, 1 or 2) -> (..., B) int64, 1 to predict first <= second."""
    return (comparison[..., 0] > 0).long() if comparison.shape[-1] == 1 else comparison.argmax(-1)


def error_rates(prediction: Prediction, digits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Error rates (...) of B pairs in per cent, float64, by the names in ERRORS.

    "digit_error" counts both digits, and "posterior_error" the comparison that follows from the
    digit logits alone.
    """
    wrong = [predicts_less_or_equal(prediction.comparison) != target]  # (..., B)
    if prediction.digits is not None:
        wrong_digits = prediction.digits.argmax(-1) != digits  # (..., B, 2)
        posterior = posterior_probability(prediction.digits.float()) > 0.5
        wrong += [*wrong_digits.unbind(-1), wrong_digits.flatten(-2), posterior != target]
    rates = [100 * each.count_nonzero(-1).double() / each.shape[-1] for each in wrong]
    return dict(zip(ERRORS, rates))


def confusion(prediction: Prediction, digits: Tensor) -> Tensor:
    """Counts (..., 2, 10, 10), int64, of a prediction with digit logits for digits (..., B, 2).

    One table for each of the two images: a row for each digit, a column for each predicted digit.
    """
    assert prediction.digits is not None
    cells = (CLASSES * digits + prediction.digits.argmax(-1)).transpose(-1, -2)  # (..., 2, B)
    tables = cells.reshape(-1, cells.shape[-1])
    offsets = CLASSES**2 * torch.arange(len(tables), device=tables.device)[:, None]
    counts = torch.bincount((tables + offsets).flatten(), minlength=len(tables) * CLASSES**2)
    return counts.view(*cells.shape[:-1], CLASSES, CLASSES)


class MetricAccumulator:
    """Collects an epoch's predictions and losses, and computes its metrics once at the end.

    Shapes are those of one network; an array's have a leading axis of members.

    Args:
        average: of the predictions (..., networks, B, ...) of an ensemble in training, whose errors
            are those of the average; None if the predictions have no such axis.
    """

    def __init__(self, average: Callable[[Prediction], Prediction] | None = None) -> None:
        self._average = average
        self._predictions: list[tuple[Prediction, Tensor, Tensor]] = []
        self._losses: list[tuple[Tensor, Tensor]] = []

    def update(
        self, prediction: Prediction, digits: Tensor, target: Tensor, parts: Tensor, loss: Tensor
    ) -> None:
        """Add a batch: digits (..., B, 2), target (..., B), loss (...) and its parts (..., 3)."""
        comparison, logits = prediction
        detached = Prediction(comparison.detach(), None if logits is None else logits.detach())
        self._predictions.append((detached, digits, target))
        self._losses.append((parts.detach(), loss.detach()))

    def compute(self) -> list[dict[str, float]]:
        """Losses in nats and error rates in per cent over all rows: a dict for each member."""
        losses = self._mean_losses()
        metrics = dict(zip(LOSSES[-losses.shape[-1] :], losses.unbind(-1)))
        metrics |= error_rates(*self._concatenated())
        table = torch.stack([value.cpu() for value in metrics.values()], -1)  # (..., metrics)
        return [dict(zip(metrics, row)) for row in table.view(-1, len(metrics)).tolist()]

    def predictions(self) -> list[Prediction]:
        """The logits of all rows for each member, on the CPU."""
        (comparison, logits), _, target = self._concatenated()
        rows = target.shape[-1]
        comparisons = comparison.cpu().view(-1, rows, comparison.shape[-1])
        if logits is None:
            return [Prediction(each, None) for each in comparisons]
        digits = logits.cpu().view(-1, rows, *logits.shape[-2:])
        return [Prediction(*each) for each in zip(comparisons, digits)]

    def labels(self) -> list[tuple[Tensor, Tensor]]:
        """The digits (rows, 2) and targets (rows,) of each member, on the CPU."""
        _, digits, target = self._concatenated()
        rows = target.shape[-1]
        return list(zip(digits.cpu().view(-1, rows, 2), target.cpu().view(-1, rows)))

    def confusions(self) -> list[list[list[list[int]]] | None]:
        """The two tables of `confusion` for each member, as lists; None without digit logits."""
        prediction, digits, _ = self._concatenated()
        if prediction.digits is None:
            return [None] * prediction.comparison[..., 0, 0].numel()
        return confusion(prediction, digits).view(-1, 2, CLASSES, CLASSES).tolist()

    def _mean_losses(self) -> Tensor:
        """Parts and loss, weighted by the batches' rows: (..., 4) or (..., 2), float64."""
        rows = [target.shape[-1] for _, _, target in self._predictions]
        weights = torch.tensor(rows, dtype=torch.float64)
        parts, sums = (torch.stack(values, -1) for values in zip(*self._losses))
        losses = torch.cat([parts, sums[..., None, :]], -2)  # (..., parts and sum, batches)
        return (losses.to("cpu", torch.float64) * weights).sum(-1) / weights.sum()

    def _concatenated(self) -> tuple[Prediction, Tensor, Tensor]:
        predictions, digits, targets = zip(*self._predictions)
        comparisons, logits = zip(*predictions)
        joint_logits = None if logits[0] is None else torch.cat(logits, -3)
        joint = Prediction(torch.cat(comparisons, -2), joint_logits)
        if self._average is not None:
            joint = self._average(joint)
        return joint, torch.cat(digits, -2), torch.cat(targets, -1)
