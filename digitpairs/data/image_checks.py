"""What holds for images of every source: light ink on black, none constant, none on both sides."""

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
_INVERTED = "dark ink on a light background is inverted (data.polarity=light_on_dark keeps it)"
_SAMPLE = 1000  # about how many images of a side are examined for the polarity
_CLEAR = 16  # contrast, of 255, that tells the polarity of a single image
_MINORITY = 0.1  # share of images of the other polarity above which a data set is said to be mixed


class Composites(NamedTuple):
    """Images over black and over white, (n, height, width) uint8; equal where all is opaque."""

    on_black: Tensor
    on_white: Tensor


def full_scale(peak: float) -> float:
    """The value that is white where the largest of a data set is `peak`: the next customary one."""
    return next((scale for scale in FULL_SCALES if peak <= scale), peak)


def stretch(sides: Sequence[Tensor]) -> tuple[list[Tensor], list[str]]:
    """The uint8 images of all sides with the `full_scale` of the data set at 255, and notes."""
    scale = full_scale(max((int(side.max()) for side in sides if side.numel()), default=255))
    if scale == 255:
        return list(sides), []
    stretched = [(side * (255 / scale)).round().byte() for side in sides]
    return stretched, [f"pixels are read as 0 to {scale}"]


def light_ink(sides: Sequence[Composites], polarity: str) -> tuple[list[Tensor], list[str]]:
    """The images of each side with light ink on black, (n, height, width) uint8, and notes.

    The polarity "auto" is found from the borders of the images, one for all sides.
    """
    notes: list[str] = []
    if polarity == "auto":
        samples = [[images[:: max(1, len(images) // _SAMPLE)] for images in side] for side in sides]
        contrasts = [
            (contrast(on_black) + contrast(on_white)) / 2 for on_black, on_white in samples
        ]
        polarity, notes = find_polarity(torch.cat(contrasts))
    light = polarity == "light_on_dark"
    return [side.on_black if light else 255 - side.on_white for side in sides], notes


def contrast(images: Tensor) -> Tensor:
    """Mean of each image minus mean of its border, (n, height, width) -> (n,).

    It is positive for light ink on a dark background, and negative for dark ink on a light one.
    """
    border = torch.cat([images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], 1)
    return images.float().mean((1, 2)) - border.float().mean(1)


def find_polarity(contrasts: Tensor) -> tuple[str, list[str]]:
    """The polarity of a data set whose images have these contrasts (n,), and notes.

    It is "dark_on_light" where the mean is negative by more than half the standard deviation.
    """
    dark = len(contrasts) > 0 and bool(contrasts.mean() < -contrasts.std(correction=0) / 2)
    polarity, notes = ("dark_on_light", [_INVERTED]) if dark else ("light_on_dark", [])
    others = int(((contrasts if dark else -contrasts) > _CLEAR).sum())
    if others > _MINORITY * len(contrasts):
        share = f"{others} of {len(contrasts)} images examined"
        notes = [*notes, f"{share} have the other polarity, but all are read as {polarity}"]
    return polarity, notes


def refuse_constant(*sides: Tensor, name: Callable[[int], str]) -> None:
    """Raise DataError where all pixels of an image are equal; the sides are (n, height, width).

    `name` names an image by its row, counted over all sides.
    """
    pixels = [side.flatten(1) for side in sides]
    equal = torch.cat([each.amax(1) == each.amin(1) for each in pixels])
    rows = equal.nonzero().flatten().tolist()
    if rows:
        more = f" (nor have {len(rows) - 1} more)" if len(rows) > 1 else ""
        fault = f"has no contrast, all its pixels are equal{more}"
        raise DataError(f"{name(rows[0])} {fault}: mend or remove it")


def refuse_shared(train: Tensor, test: Tensor, name: Callable[[int], str]) -> None:
    """Raise DataError where a test image equals a training image; both are (n, height, width).

    `name` names an image by its row, the test images counted after the training images.
    """
    first = first_equal(train, test)[len(train) :]
    rows = (first < len(train)).nonzero().flatten().tolist()
    if rows:
        one, other = name(int(first[rows[0]])), name(len(train) + rows[0])
        more = f" ({len(rows)} test images are training images too)" if len(rows) > 1 else ""
        same = f"{one}, for training, and {other}, for the test, are the same image{more}"
        raise DataError(f"{same}: remove one of the two")


def first_equal(*sides: Tensor) -> Tensor:
    """For each image of all sides, one after another, the row of the first one that equals it.

    Each side is (n, height, width), uint8. The result is int64, as long as all sides together;
    an image that equals none before it has its own row.
    """
    keys = np.concatenate([_keys(side) for side in sides])
    _, places, inverse = np.unique(keys, return_index=True, return_inverse=True)
    first = places[inverse]
    for row in np.flatnonzero(first != np.arange(len(first))).tolist():
        if not torch.equal(_image(sides, row), _image(sides, int(first[row]))):
            first[row] = row  # the keys are equal by chance
    return torch.from_numpy(first)


def _keys(images: Tensor) -> np.ndarray:
    """A hash of each image, (n, height, width) -> (n,) int64."""
    pixels = images.flatten(1)
    if odd := pixels.shape[1] % 8:
        pixels = F.pad(pixels, (0, 8 - odd))
    words = pixels.numpy().view(np.int64)
    factors = np.random.default_rng(0).integers(2**62, size=words.shape[1]) * 2 + 1
    return words @ factors  # modulo 2**64


def _image(sides: Sequence[Tensor], row: int) -> Tensor:
    for side in sides:
        if row < len(side):
            return side[row]
        row -= len(side)
    raise IndexError(row)
