"""Pairs of digits as tensors: how they are drawn, and what a network is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from digitpairs.data.sources import Digits, to_unit_images


class Pairs(NamedTuple):
    """A batch of pairs: what a network is given. An array's has the members' axis before these."""

    images: Tensor  # (B, 2, 14, 14), float32 in [0, 1]
    digits: Tensor  # (B, 2), int64, the two classes
    target: Tensor  # (B,), int64, 1 where the first digit <= the second (ties count), else 0


class PairSet(NamedTuple):
    """n pairs over m images: each image is stored once, however many pairs show it.

    Of an array: the images of all members one after another, as many of each, and the members' axis before the index.
    """

    images: Tensor  # (m, 14, 14), float32 in [0, 1]
    classes: Tensor  # (m,), int64
    index: Tensor  # (..., n, 2), int64, rows of `images`

    @classmethod
    def stack(cls, sets: Sequence[PairSet]) -> PairSet:
        """One set for an array whose members have these, of as many pairs each."""
        images = pad_sequence(
            [each.images for each in sets], batch_first=True
        )  # (members, most images, 14, 14)
        classes = pad_sequence([each.classes for each in sets], batch_first=True)
        index = torch.stack(
            [each.index + member * images.shape[1] for member, each in enumerate(sets)]
        )
        return cls(images.flatten(0, 1), classes.flatten(), index)

    def take(self, rows: slice | Tensor) -> Pairs:
        """The pairs in these rows; of an array, in these rows of every member."""
        (pairs,) = self._pairs(self.index[..., rows, :], None)
        return pairs

    def in_order(self, order: Tensor, batch_size: int) -> Iterator[Pairs]:
        """The pairs in this order, (..., rows), `batch_size` at a time; of an array each member's in its own order."""
        return self._pairs(self.index.take_along_dim(order[..., None], -2), batch_size)

    def _pairs(self, index: Tensor, batch_size: int | None) -> Iterator[Pairs]:
        """The pairs of images that `index` (..., n, 2) names, all at once or in batches."""
        digits = self.classes[index]
        target = less_or_equal(digits)
        axis, flat = index.dim() - 2, self.images.flatten(1)
        for part, *others in zip(
            *(
                each.split(batch_size or max(1, index.shape[axis]), axis)
                for each in (index, digits, target)
            )
        ):
            images = F.embedding(
                part, flat
            )  # a look-up of whole rows, in a quarter of the time that `flat[part]` takes
            yield Pairs(images.unflatten(-1, self.images.shape[1:]), *others)

    def select(self, rows: Tensor | slice) -> PairSet:
        """The set of these pairs alone."""
        return self._replace(index=self.index[rows])

    def mean_and_std(self) -> tuple[float, float]:
        """Mean and standard deviation of all pixels of the images that occur in a pair."""
        shown = torch.zeros(len(self.images), dtype=torch.bool).index_fill_(
            0, self.index.flatten(), True
        )
        pixels = self.images if shown.all() else self.images[shown]
        mean = pixels.mean()
        std = (
            (pixels - mean).square_().sum() / (pixels.numel() - 1)
        ).sqrt()  # Tensor.std takes five times as long
        return mean.item(), std.item()


def less_or_equal(digits: Tensor) -> Tensor:
    """(..., 2) classes -> (...) int64: 1 where the first is at most the second."""
    return (digits[..., 0] <= digits[..., 1]).long()


def draw_pairs(digits: Digits, count: int, generator: torch.Generator) -> PairSet:
    """`count` pairs as the course draws them: 2 * count distinct images, without replacement, two by two.

    Beyond the distinct images, all of them are shuffled and paired again as often as it takes; within one such
    pass no image occurs twice.
    """
    if len(digits) < 2:
        raise ValueError(f"pairs need two images, there are {len(digits)}")
    chosen = torch.randperm(len(digits), generator=generator)[: 2 * count]
    passes, drawn = [_two_by_two(torch.arange(len(chosen)))], len(chosen) // 2
    while drawn < count:
        passes.append(_two_by_two(torch.randperm(len(chosen), generator=generator)))
        drawn += len(passes[-1])
    images, classes = digits.images.index_select(0, chosen), digits.classes[chosen]
    return PairSet(to_unit_images(images), classes, torch.cat(passes)[:count])


def _two_by_two(rows: Tensor) -> Tensor:
    return rows[: len(rows) // 2 * 2].view(-1, 2)
