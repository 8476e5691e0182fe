"""Pairs of digits as tensors: batches of them, sets of them, and how they are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from digitpairs.data.sources import Digits, to_unit_images


class Pairs(NamedTuple):
    """A batch of pairs; in an array, the members' axis comes before these axes."""

    images: Tensor  # (B, 2, 14, 14), float32 in [0, 1]
    digits: Tensor  # (B, 2), int64, the two classes
    target: Tensor  # (B,), int64, 1 if the first digit <= the second (also in a tie), else 0


class PairSet(NamedTuple):
    """n pairs of m images. Each image is stored once, however many pairs contain it.

    In an array, the images of all members follow one another, the same number for each member, and
    `indices` has the members' axis first.
    """

    images: Tensor  # (m, 14, 14), float32 in [0, 1]
    classes: Tensor  # (m,), int64
    indices: Tensor  # (..., n, 2), int64, rows of `images`

    @classmethod
    def stack(cls, sets: Sequence[PairSet]) -> PairSet:
        """The set of an array from the sets of its members, which have equal numbers of pairs."""
        # (members, most images, 14, 14)
        images = pad_sequence([member.images for member in sets], batch_first=True)
        classes = pad_sequence([member.classes for member in sets], batch_first=True)
        length = images.shape[1]
        indices = [member.indices + number * length for number, member in enumerate(sets)]
        return cls(images.flatten(0, 1), classes.flatten(), torch.stack(indices))

    def take(self, rows: slice | Tensor) -> Pairs:
        """The pairs in these rows; in an array, in these rows of every member."""
        indices = self.indices[..., rows, :]
        digits = self.classes[indices]
        return Pairs(self._gather_images(indices), digits, less_or_equal(digits))

    def in_order(self, order: Tensor, batch_size: int) -> Iterator[Pairs]:
        """Batches of `batch_size` pairs in the order (..., rows), in an array each member's own."""
        indices = self.indices.take_along_dim(order[..., None], -2)
        digits = self.classes[indices]
        axis = indices.dim() - 2
        columns = (indices, digits, less_or_equal(digits))
        for batch, *labels in zip(*(column.split(batch_size, axis) for column in columns)):
            yield Pairs(self._gather_images(batch), *labels)

    def _gather_images(self, indices: Tensor) -> Tensor:
        """(...) rows of `images` -> (..., 14, 14)."""
        # A look-up of whole rows takes a quarter of the time of indexing.
        images = F.embedding(indices, self.images.flatten(1))
        return images.unflatten(-1, self.images.shape[1:])

    def select(self, rows: Tensor | slice) -> PairSet:
        """The set with only the pairs in these rows."""
        return self._replace(indices=self.indices[rows])

    def paired_anew(
        self, generators: Sequence[torch.Generator], passes: Sequence[int | None]
    ) -> PairSet:
        """The images of the pairs in new pairs, each as often as before and never with itself.

        Args:
            generators: of the draws, one for each member.
            passes: for each member the most pairs in which no image occurs twice, half the number
                of its images (see `draw_pairs`); None keeps the member's pairs.
        """
        members = self.indices.view(len(passes), -1, 2)
        drawn = [
            pairs if count is None else _shuffled(pairs, count, generator)
            for pairs, count, generator in zip(members, passes, generators)
        ]
        return self._replace(indices=torch.stack(drawn).view_as(self.indices))

    def mean_and_std(self) -> tuple[float, float]:
        """Mean and standard deviation of all pixels of the images that occur in a pair."""
        shown = torch.zeros(len(self.images), dtype=torch.bool)
        shown.index_fill_(0, self.indices.flatten(), True)
        pixels = self.images if shown.all() else self.images[shown]
        mean = pixels.mean()
        # Tensor.var takes five times as long.
        variance = (pixels - mean).square_().sum() / (pixels.numel() - 1)
        return mean.item(), variance.sqrt().item()


def less_or_equal(digits: Tensor) -> Tensor:
    """(..., 2) classes -> (...) int64: 1 if the first is at most the second."""
    return (digits[..., 0] <= digits[..., 1]).long()


def draw_pairs(digits: Digits, count: int, generator: torch.Generator) -> PairSet:
    """`count` random pairs of distinct images, drawn without replacement as in the course.

    If there are fewer than 2 * count images, all of them are shuffled and paired again until there
    are enough pairs; no image occurs twice in one such pass. Raises ValueError for fewer than two
    images.
    """
    if len(digits) < 2:
        raise ValueError(f"pairs need two images, there are {len(digits)}")
    chosen = torch.randperm(len(digits), generator=generator)[: 2 * count]
    passes = [_pair_up(torch.arange(len(chosen)))]
    drawn = len(passes[0])
    while drawn < count:
        passes.append(_pair_up(torch.randperm(len(chosen), generator=generator)))
        drawn += len(passes[-1])
    images, classes = digits.images.index_select(0, chosen), digits.classes[chosen]
    return PairSet(to_unit_images(images), classes, torch.cat(passes)[:count])


def _shuffled(pairs: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Pairs (n, 2) with the images of every `count` pairs in random order."""
    shuffled = []
    for one in pairs.split(count):
        shuffled.append(one.flatten()[torch.randperm(one.numel(), generator=generator)])
    return torch.cat(shuffled).view(-1, 2)


def _pair_up(rows: Tensor) -> Tensor:
    """(n,) -> (n // 2, 2); the last of an odd number is left out."""
    return rows[: len(rows) // 2 * 2].view(-1, 2)
