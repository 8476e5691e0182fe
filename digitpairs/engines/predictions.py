"""The file with a run's predictions for its test pairs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from digitpairs.data.pairs import PairSet, less_or_equal
from digitpairs.networks import Prediction

MOST_IMAGES = 32  # of wrong pairs


def predictions_file(
    prediction: Prediction, test_set: PairSet, calibrated: Prediction | None = None
) -> bytes:
    """An archive of NumPy arrays, for n test pairs of which k are kept as images.

    - `comparison` (n, 1 or 2) float32: the logits of "first <= second",
    - `digit_logits` (n, 2, 10) float16, where the network classifies digits,
    - `digits` (n, 2) uint8: the classes,
    - `wrong` (k,) int64: the rows of the wrong comparisons, the most confident one first,
    - `images` (k, 2, 14, 14) uint8: their images, 0 to 255,
    - `calibrated_comparison` and `calibrated_digit_logits`: the logits after `calibrate`, if the
      run has temperatures. The other arrays are of the logits before.

    Logits are kept and not probabilities: they are the same bits whichever runs train together.
    """
    digits = test_set.classes[test_set.indices].cpu()
    wrong = _most_confidently_wrong(prediction.comparison.float(), digits)[:MOST_IMAGES]
    pairs = test_set.take(wrong)
    arrays: dict[str, Any] = {
        "comparison": prediction.comparison.float().numpy(),
        "digits": digits.to(torch.uint8).numpy(),
        "wrong": wrong.numpy(),
        "images": (pairs.images * 255).round().to(torch.uint8).cpu().numpy(),
    }
    if prediction.digits is not None:
        arrays["digit_logits"] = prediction.digits.half().numpy()
    if calibrated is not None:
        arrays["calibrated_comparison"] = calibrated.comparison.float().numpy()
        if calibrated.digits is not None:
            arrays["calibrated_digit_logits"] = calibrated.digits.half().numpy()
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _most_confidently_wrong(comparison: Tensor, digits: Tensor) -> Tensor:
    """The rows whose comparison is wrong, by the difference of the two answers' logits."""
    margin = comparison[:, -1] - (comparison[:, 0] if comparison.shape[1] == 2 else 0)
    rows = ((margin > 0) != less_or_equal(digits)).nonzero()[:, 0]
    return rows[margin[rows].abs().argsort(descending=True, stable=True)]
