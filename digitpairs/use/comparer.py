"""Comparer: compares pairs of images with a trained network, or with an ensemble of seeds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from digitpairs.checks import InvalidValueError
from digitpairs.networks import Prediction
from digitpairs.networks.heads import posteriors
from digitpairs.training import PairComparison
from digitpairs.use.images import as_images

BATCH = 250  # pairs that are computed at once; larger batches leave the cache and take longer


@dataclass(frozen=True)
class Comparison:
    """The answers for n pairs of m networks; an ensemble's probabilities are the networks' means.

    Attributes:
        names: of the networks, m: "seed=0" and so on in an ensemble.
        images: what the networks see, (n, 2, 14, 14) in [0, 1].
        probability_by_seed: P(first <= second) of each network, (m, n).
        digit_probabilities_by_seed: (m, n, 2, 10); None for networks that name no digits, since
            they have no digit head or were trained without a loss of the digits.
    """

    names: tuple[str, ...]
    images: np.ndarray
    probability_by_seed: np.ndarray
    digit_probabilities_by_seed: np.ndarray | None

    def __len__(self) -> int:
        return len(self.images)

    @functools.cached_property
    def probability(self) -> np.ndarray:
        """P(first <= second), (n,)."""
        return self.probability_by_seed.mean(0)

    @functools.cached_property
    def less_or_equal(self) -> np.ndarray:
        """Whether the first digit is at most the second, (n,)."""
        return self.probability > 0.5

    @functools.cached_property
    def digit_probabilities(self) -> np.ndarray | None:
        """Probabilities of the ten digits for both images, (n, 2, 10), or None."""
        by_seed = self.digit_probabilities_by_seed
        return None if by_seed is None else by_seed.mean(0)

    @functools.cached_property
    def digits(self) -> np.ndarray | None:
        """The most probable digits, (n, 2), or None."""
        probabilities = self.digit_probabilities
        return None if probabilities is None else probabilities.argmax(-1)


class Comparer:
    """Compares pairs of images of digits.

    Args:
        models: trained models; several are an ensemble.
        names: a name for each model, "0", "1" and so on by default.
    """

    def __init__(
        self, models: Sequence[PairComparison], names: Sequence[str] | None = None
    ) -> None:
        if not models:
            raise InvalidValueError("models", list(models), "at least one model")
        self.models = tuple(model.eval() for model in models)
        self.names = tuple(map(str, range(len(models)) if names is None else names))
        # Without a loss of the digits, the outputs of a digit head are in no order.
        self.names_digits = all(model.aux.uses_digits for model in models)

    def compare(self, first: Any, second: Any, reading: str = "auto") -> Comparison:
        """Is the first digit at most the second, for each pair?

        Args:
            first: an image, or a sequence or an array of images, see `digitpairs.use.as_images`.
            second: as many images.
            reading: "auto", "always" or "none", see `digitpairs.use.as_images`.

        Raises DataError for an image that cannot be read, and InvalidValueError for other values.
        """
        images = [
            as_images(each, reading, name) for name, each in (("first", first), ("second", second))
        ]
        if len(images[0]) != len(images[1]):
            accepted = f"as many images as in first ({len(images[0])})"
            raise InvalidValueError("second", f"{len(images[1])} images", accepted)
        return self.compare_images(torch.stack(images, 1))

    def compare_images(self, pairs: Tensor) -> Comparison:
        """The answers for pairs (n, 2, 14, 14) of pixels in [0, 1]."""
        comparisons, digits = zip(*(self._answers(model, pairs) for model in self.models))
        return Comparison(
            self.names,
            pairs.numpy(),
            np.stack(comparisons),
            np.stack(digits) if self.names_digits else None,
        )

    @torch.inference_mode()
    def _answers(self, model: PairComparison, pairs: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """P(first <= second) (n,), and the digits' probabilities (n, 2, 10) if it names them."""
        logits = (_in_double(model(batch)) for batch in pairs.split(BATCH))
        outputs = [probabilities(model.calibrated(each)) for each in logits]
        comparison = torch.cat([each for each, _ in outputs])
        digits = [each for _, each in outputs if each is not None]
        return comparison.numpy(), torch.cat(digits).numpy() if digits else np.empty(0)


def probabilities(prediction: Prediction) -> tuple[Tensor, Tensor | None]:
    """P(first <= second) (B,), and the probabilities of the digits (B, 2, 10), or None."""
    logits = prediction.comparison  # (B, 1) or (B, 2)
    is_single = logits.shape[-1] == 1
    comparison = logits[..., 0].sigmoid() if is_single else logits.softmax(-1)[..., 1]
    return comparison, None if prediction.digits is None else posteriors(prediction.digits)


def _in_double(prediction: Prediction) -> Prediction:
    """In float32 a probability near 0.5 may round to it, which is another answer."""
    digits = prediction.digits
    return Prediction(prediction.comparison.double(), None if digits is None else digits.double())
