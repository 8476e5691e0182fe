"""What is measured of predictions: error rates in per cent, counted as tensors (the tests check them against torchmetrics)."""

from __future__ import annotations

import torch
from torch import Tensor

from digitpairs.losses import PARTS
from digitpairs.networks import Prediction
from digitpairs.networks.heads import CLASSES, posterior_probability


def predicts_less_or_equal(comparison: Tensor) -> Tensor:
    """Comparison logits (..., B, 1) or (..., B, 2) -> (..., B) int64: 1 where the network holds the first digit for at most
    the second.
    """
    return (comparison[..., 0] > 0).long() if comparison.shape[-1] == 1 else comparison.argmax(-1)


def error_rates(prediction: Prediction, digits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Error rates in per cent over the batch (...), float64: of the comparison and, with digit logits, of each digit, of
    both digits together ("digit_error"), and of the comparison that follows from the digits alone ("posterior_error").
    """
    wrong = {
        "comparison_error": predicts_less_or_equal(prediction.comparison) != target
    }  # (..., B)
    if prediction.digits is not None:
        wrong_digits = prediction.digits.argmax(-1) != digits  # (..., B, 2)
        wrong["digit1_error"], wrong["digit2_error"] = wrong_digits.unbind(-1)
        wrong["digit_error"] = wrong_digits.flatten(-2)
        wrong["posterior_error"] = (
            posterior_probability(prediction.digits.float()) > 0.5
        ) != target
    return {
        name: 100 * each.count_nonzero(-1).double() / each.shape[-1] for name, each in wrong.items()
    }


def confusion(prediction: Prediction, digits: Tensor) -> Tensor:
    """How often each digit got each answer: (..., 2, 10, 10) int64, a table for each of the two images, a row a digit."""
    cells = (CLASSES * digits + prediction.digits.argmax(-1)).transpose(
        -1, -2
    )  # (..., 2, B): each image's place in its table
    tables = cells.reshape(-1, cells.shape[-1])
    places = tables + CLASSES**2 * torch.arange(len(tables), device=tables.device)[:, None]
    return torch.bincount(places.flatten(), minlength=len(tables) * CLASSES**2).view(
        *cells.shape[:-1], CLASSES, CLASSES
    )


class MetricAccumulator:
    """Gathers what is needed to measure an epoch, batch by batch, and measures it once at the end.

    Shapes are those of one network; an array's have the members' axis before them.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[Prediction, Tensor, Tensor]] = []
        self._losses: list[tuple[Tensor, Tensor]] = []

    def add(
        self, prediction: Prediction, digits: Tensor, target: Tensor, parts: Tensor, loss: Tensor
    ) -> None:
        """A batch: its prediction, digits (..., B, 2), target (..., B), the loss's parts (..., 3) or (..., 1), and the loss (...)."""
        self._seen.append(
            (Prediction(*(x if x is None else x.detach() for x in prediction)), digits, target)
        )
        self._losses.append((parts.detach(), loss.detach()))

    def measure(self) -> list[dict[str, float]]:
        """Losses (nats, over all rows) and error rates (per cent), a dict a member; of one network, a single one."""
        losses = self._mean_losses()
        names = [f"{part}_loss" for part in PARTS[1 - losses.shape[-1] :]]
        metrics = dict(zip([*names, "loss"], losses.unbind(-1))) | error_rates(
            *self._concatenated()
        )
        table = torch.stack([value.cpu() for value in metrics.values()], -1)  # (..., metrics)
        return [dict(zip(metrics, row)) for row in table.view(-1, len(metrics)).tolist()]

    def confusions(self) -> list[list | None]:
        """See `confusion`: one a member, as lists; None without digit logits."""
        prediction, digits, _ = self._concatenated()
        if prediction.digits is None:
            return [None] * prediction.comparison[..., 0, 0].numel()
        return confusion(prediction, digits).view(-1, 2, CLASSES, CLASSES).tolist()

    def _mean_losses(self) -> Tensor:
        """The parts and the loss over all rows so far, each batch weighing as its rows: (..., 4) or (..., 2), float64."""
        rows = torch.tensor([target.shape[-1] for _, _, target in self._seen], dtype=torch.float64)
        parts, sums = (
            torch.stack(each, -1) for each in zip(*self._losses)
        )  # (..., parts, batches) and (..., batches)
        losses = torch.cat([parts, sums[..., None, :]], -2).to("cpu", torch.float64)
        return (losses * rows).sum(-1) / rows.sum()

    def _concatenated(self) -> tuple[Prediction, Tensor, Tensor]:
        predictions, digits, targets = zip(*self._seen)
        axis = targets[0].dim() - 1  # of the rows
        comparison = torch.cat([prediction.comparison for prediction in predictions], axis)
        has_digits: bool = predictions[0].digits is not None
        digit_logits = (
            torch.cat([prediction.digits for prediction in predictions], axis)
            if has_digits
            else None
        )
        return (
            Prediction(comparison, digit_logits),
            torch.cat(digits, axis),
            torch.cat(targets, axis),
        )
