"""Checks and conversions for the images of every source.

Images get light ink on a black background. A constant image, or an image both in the training and
in the test data, is an error. `parts` are the training and the test images, or all images as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from digitpairs.checks import DataError

POLARITIES = ("auto", "light_on_dark", "dark_on_light")
# Usual largest values: of 1, 2 and 4 bits (16 in scikit-learn's digits), 8, 12 and 16 bits.
FULL_SCALES = (1, 3, 16, 255, 4095, 65535)
_INVERTED = "dark ink on a light background is inverted (data.polarity=light_on_dark keeps it)"
_POLARITY_SAMPLE = 1000  # about the number of images of a part that are examined for the polarity
_CLEAR_CONTRAST = 16  # of 255; a smaller contrast does not show the polarity of a single image
_MIXED_SHARE = 0.1  # share of images of the other polarity above which a note says so


class Composites(NamedTuple):
    """Images over black and over white, (n, height, width) uint8; equal where they are opaque."""

    on_black: Tensor
    on_white: Tensor


def full_scale(peak: float) -> float:
    """The white level of a dataset whose largest value is `peak`: the next of FULL_SCALES."""
    return next((scale for scale in FULL_SCALES if peak <= scale), peak)


def stretch(parts: Sequence[Tensor]) -> tuple[list[Tensor], list[str]]:
    """The uint8 images of all parts with the `full_scale` of the dataset at 255, and notes."""
    scale = full_scale(max((int(part.max()) for part in parts if part.numel()), default=255))
    if scale == 255:
        return list(parts), []
    stretched = [(part * (255 / scale)).round().byte() for part in parts]
    return stretched, [f"pixels are read as 0 to {scale}"]


def light_ink(parts: Sequence[Composites], polarity: str) -> tuple[list[Tensor], list[str]]:
    """The images of each part with light ink on black, (n, height, width) uint8, and notes.

    With "auto", the polarity of the whole dataset is found from the borders of its images.
    """
    notes: list[str] = []
    if polarity == "auto":
        polarity, notes = find_polarity(torch.cat([_sample_contrasts(part) for part in parts]))
    light = polarity == "light_on_dark"
    return [part.on_black if light else 255 - part.on_white for part in parts], notes


def _sample_contrasts(part: Composites) -> Tensor:
    """The mean contrast over black and over white of evenly spaced images."""
    step = max(1, len(part.on_black) // _POLARITY_SAMPLE)
    return (contrast(part.on_black[::step]) + contrast(part.on_white[::step])) / 2


def contrast(images: Tensor) -> Tensor:
    """Mean of each image minus mean of its border, (n, height, width) -> (n,).

    It is positive for light ink on a dark background, and negative for dark ink on a light one.
    """
    border = torch.cat([images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], 1)
    return images.float().mean((1, 2)) - border.float().mean(1)


def find_polarity(contrasts: Tensor) -> tuple[str, list[str]]:
    """The polarity of a dataset from the contrasts (n,) of its images, and notes.

    It is "dark_on_light" if the mean contrast is below minus half the standard deviation.
    """
    dark = len(contrasts) > 0 and bool(contrasts.mean() < -contrasts.std(correction=0) / 2)
    polarity, notes = ("dark_on_light", [_INVERTED]) if dark else ("light_on_dark", [])
    others = int(((contrasts if dark else -contrasts) > _CLEAR_CONTRAST).sum())
    if others > _MIXED_SHARE * len(contrasts):
        share = f"{others} of {len(contrasts)} images examined"
        notes = [*notes, f"{share} have the other polarity, but all are read as {polarity}"]
    return polarity, notes


def refuse_constant(*parts: Tensor, name: Callable[[int], str]) -> None:
    """Raises DataError if all pixels of an image are equal; the parts are (n, height, width).

    `name` gives the name of an image from its row, counted over all parts.
    """
    constant = torch.cat([part.flatten(1).amax(1) == part.flatten(1).amin(1) for part in parts])
    rows = constant.nonzero().flatten().tolist()
    if rows:
        more = f" (nor have {len(rows) - 1} more)" if len(rows) > 1 else ""
        fault = f"has no contrast, all its pixels are equal{more}"
        raise DataError(f"{name(rows[0])} {fault}: repair or remove it")


def refuse_shared(train: Tensor, test: Tensor, name: Callable[[int], str]) -> None:
    """Raises DataError if a test image equals a training image; both are (n, height, width).

    `name` gives the name of an image from its row, counted over the training, then the test images.
    """
    first = first_equal(train, test)[len(train) :]
    rows = (first < len(train)).nonzero().flatten().tolist()
    if rows:
        train_name, test_name = name(int(first[rows[0]])), name(len(train) + rows[0])
        more = f" ({len(rows)} test images are training images too)" if len(rows) > 1 else ""
        same = f"{train_name}, for training, and {test_name}, for the test, are the same image"
        raise DataError(f"{same}{more}: remove one of the two")


def first_equal(*parts: Tensor) -> Tensor:
    """For each image, the row of the first image that equals it; rows count over all parts.

    Each part is (n, height, width), uint8. The result is int64, as long as all parts together. An
    image that equals no earlier one has its own row.
    """
    hashes = np.concatenate([_hashes(part) for part in parts])
    _, first_rows, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    first = first_rows[inverse]
    for row in np.flatnonzero(first != np.arange(len(first))).tolist():
        if not torch.equal(_image(parts, row), _image(parts, int(first[row]))):
            first[row] = row  # the hashes are equal by chance
    return torch.from_numpy(first)


def _hashes(images: Tensor) -> np.ndarray:
    """A hash of each image, (n, height, width) -> (n,) int64."""
    pixels = images.flatten(1)
    if odd := pixels.shape[1] % 8:
        pixels = F.pad(pixels, (0, 8 - odd))
    words = pixels.numpy().view(np.int64)
    factors = np.random.default_rng(0).integers(2**62, size=words.shape[1]) * 2 + 1
    return words @ factors  # modulo 2**64


def _image(parts: Sequence[Tensor], row: int) -> Tensor:
    for part in parts:
        if row < len(part):
            return part[row]
        row -= len(part)
    raise IndexError(row)
