"""What images of digits must be, whatever source they come from: light ink on a dark background, none constant, none on both
sides of the split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from digitpairs.checks import DataError

POLARITIES = ("auto", "light_on_dark", "dark_on_light")
# Customary largest values: 1 and 2 bits, 4 bits or scikit-learn's digits, 8, 12 and 16 bits.
FULL_SCALES = (1, 3, 16, 255, 4095, 65535)
_SAMPLE = 1000  # about how many images of a side are examined for the polarity
_CLEAR = 16  # contrast, of 255, that tells the polarity of a single image
_MINORITY = 0.1  # share of images of the other polarity above which a data set is said to be mixed


class Composites(NamedTuple):
    """Images over a black and over a white background, equal where nothing is transparent: (n, height, width) uint8."""

    on_black: Tensor
    on_white: Tensor


def full_scale(peak: float) -> float:
    """The value that is white in a data set whose largest value is `peak`: the next customary one, else the peak."""
    return next((scale for scale in FULL_SCALES if peak <= scale), peak)


def stretch(sides: Sequence[Tensor]) -> tuple[list[Tensor], list[str]]:
    """uint8 images of all sides of a data set, scaled so that its `full_scale` is 255, and what to say of it."""
    scale = full_scale(max((int(side.max()) for side in sides if side.numel()), default=255))
    if scale == 255:
        return list(sides), []
    return [(side * (255 / scale)).round().byte() for side in sides], [f"pixels are read as 0 to {scale}"]


def light_ink(sides: Sequence[Composites], polarity: str) -> tuple[list[Tensor], list[str]]:
    """The images of each side with light ink on black, (n, height, width) uint8, and what to say of it.

    With the polarity "auto" it is found from the borders, one for all sides.
    """
    notes: list[str] = []
    if polarity == "auto":
        samples = [[images[:: max(1, len(images) // _SAMPLE)] for images in side] for side in sides]
        polarity, notes = find_polarity(torch.cat([contrast(black) + contrast(white) for black, white in samples]) / 2)
    return [side.on_black if polarity == "light_on_dark" else 255 - side.on_white for side in sides], notes


def contrast(images: Tensor) -> Tensor:
    """Mean of each image minus mean of its border, (n, height, width) -> (n,): negative for dark ink on light."""
    border = torch.cat([images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], 1)
    return images.float().mean((1, 2)) - border.float().mean(1)


def find_polarity(contrasts: Tensor) -> tuple[str, list[str]]:
    """The polarity of the images that have these contrasts (n,), and what to say of it.

    It is "dark_on_light" where the mean contrast is negative by more than half the standard deviation.
    """
    dark = len(contrasts) > 0 and bool(contrasts.mean() < -contrasts.std(correction=0) / 2)
    polarity = "dark_on_light" if dark else "light_on_dark"
    notes = ["dark ink on a light background is inverted (data.polarity=light_on_dark leaves it as it is)"] if dark else []
    others = int(((contrasts if dark else -contrasts) > _CLEAR).sum())
    if others > _MINORITY * len(contrasts):
        notes.append(f"{others} of {len(contrasts)} images examined have the other polarity, but all are read as {polarity}: make them alike")
    return polarity, notes


def refuse_constant(*sides: Tensor, name: Callable[[int], str]) -> None:
    """DataError naming the first image (n, height, width) of all sides whose pixels are all equal.

    `name` names a row, counted over all sides.
    """
    constant = torch.cat([side.flatten(1).amax(1) == side.flatten(1).amin(1) for side in sides]).nonzero().flatten().tolist()
    if constant:
        more = f" (nor have {len(constant) - 1} more)" if len(constant) > 1 else ""
        raise DataError(f"{name(constant[0])} has no contrast, all its pixels are equal{more}: mend or remove it")


def refuse_shared(train: Tensor, test: Tensor, name: Callable[[int], str]) -> None:
    """DataError naming a training image that is a test image too, both (n, height, width).

    `name` names a row, the test images counted after the training images.
    """
    first = first_equal(train, test)[len(train) :]
    shared = (first < len(train)).nonzero().flatten().tolist()
    if shared:
        one, other = name(int(first[shared[0]])), name(len(train) + shared[0])
        more = f" ({len(shared)} test images are training images too)" if len(shared) > 1 else ""
        raise DataError(f"{one}, for training, and {other}, for the test, are the same image{more}: remove one of the two")


def first_equal(*sides: Tensor) -> Tensor:
    """For each image of all sides, one after another, the row of the first that has the same pixels.

    Each side is (n, height, width), uint8; the result (sum of n,), int64, holds the own row of most images.
    """
    _, places, inverse = np.unique(np.concatenate([_keys(side) for side in sides]), return_index=True, return_inverse=True)
    first = places[inverse]
    for row in np.flatnonzero(first != np.arange(len(first))).tolist():
        if not torch.equal(_image(sides, row), _image(sides, int(first[row]))):  # equal keys by chance
            first[row] = row
    return torch.from_numpy(first)


def _keys(images: Tensor) -> np.ndarray:
    """A number for each image (n, height, width), (n,) int64, that equal images share and others hardly ever."""
    pixels = images.flatten(1)
    if odd := pixels.shape[1] % 8:
        pixels = F.pad(pixels, (0, 8 - odd))
    words = pixels.numpy().view(np.int64)
    return words @ (np.random.default_rng(0).integers(2**62, size=words.shape[1]) * 2 + 1)  # overflow is meant


def _image(sides: Sequence[Tensor], row: int) -> Tensor:
    for side in sides:
        if row < len(side):
            return side[row]
        row -= len(side)
    raise IndexError(row)
