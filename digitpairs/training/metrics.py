"""What is measured of predictions: error rates in per cent, counted as tensors (the tests check them against torchmetrics)."""

from __future__ import annotations

import torch
from torch import Tensor

from digitpairs.losses import PARTS
from digitpairs.networks import Prediction
from digitpairs.networks.heads import posterior_probability


def says_less_or_equal(comparison: Tensor) -> Tensor:
    """Comparison logits (B, 1) or (B, 2) -> (B,) int64: 1 where the network holds the first digit for at most the second."""
    return (comparison[:, 0] > 0).long() if comparison.shape[1] == 1 else comparison.argmax(1)


def error_rates(prediction: Prediction, digits: Tensor, target: Tensor) -> dict[str, float]:
    """Error rates in per cent: of the comparison and, with digit logits, of each digit, of both digits together
    ("digit_error"), and of the comparison that follows from the digits alone ("posterior_error")."""
    wrong = {"comparison_error": says_less_or_equal(prediction.comparison) != target}
    if prediction.digits is not None:
        wrong_digits = prediction.digits.argmax(-1) != digits
        wrong["digit1_error"], wrong["digit2_error"] = wrong_digits.unbind(1)
        wrong["digit_error"] = wrong_digits
        wrong["posterior_error"] = (posterior_probability(prediction.digits.float()) > 0.5) != target
    return {name: 100 * each.count_nonzero().item() / each.numel() for name, each in wrong.items()}


class Tally:
    """Gathers what is needed to measure an epoch, batch by batch, and measures it once at the end."""

    def __init__(self) -> None:
        self._seen: list[tuple[Prediction, Tensor, Tensor]] = []
        self._losses: list[Tensor] = []

    def add(self, prediction: Prediction, digits: Tensor, target: Tensor, parts: Tensor, loss: Tensor) -> None:
        """A batch: its prediction, digits (B, 2), target (B,), the loss's parts (3,) or (1,), and the loss."""
        self._seen.append((Prediction(*(x if x is None else x.detach() for x in prediction)), digits, target))
        self._losses.append(torch.cat([parts.detach(), loss.detach()[None]]))

    def measure(self) -> dict[str, float]:
        """Losses (nats, over all rows) and error rates (per cent)."""
        *parts, total = self._mean_losses().tolist()
        metrics = {"loss": total}
        metrics |= {f"{part}_loss": loss for part, loss in zip(PARTS[-len(parts) :], parts)}
        return metrics | error_rates(*self._concatenated())

    def _mean_losses(self) -> Tensor:
        """The parts and the loss over all rows so far, each batch weighing as its rows: (4,) or (2,), float64."""
        rows = torch.tensor([len(target) for _, _, target in self._seen], dtype=torch.float64)
        losses = torch.stack(self._losses).to("cpu", torch.float64)  # (batches, losses)
        return (rows @ losses) / rows.sum()

    def _concatenated(self) -> tuple[Prediction, Tensor, Tensor]:
        predictions, digits, targets = zip(*self._seen)
        comparison = torch.cat([prediction.comparison for prediction in predictions])
        has_digits: bool = predictions[0].digits is not None
        digit_logits = torch.cat([prediction.digits for prediction in predictions]) if has_digits else None
        return Prediction(comparison, digit_logits), torch.cat(digits), torch.cat(targets)

