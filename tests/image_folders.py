"""Folders of small images, for the tests of their reader."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from digitpairs.checks import DigitPairsWarning
from digitpairs.data import sources

DIGITS = (3, 8)
PER_CLASS = 5  # images; every fifth is for the test
INVERTED = "dark ink on a light background is inverted"


def ink(seed: int) -> np.ndarray:
    """A different image for each seed, light ink on black, (28, 28) uint8 from 0 to 255."""
    random = np.random.default_rng(seed)
    image = np.zeros((28, 28), np.uint8)
    image[6:22, 7:20] = random.integers(0, 256, (16, 13))
    image[10:14, 8:16] = 255
    return image


def all_ink() -> np.ndarray:
    """The images of a folder that `write` makes, in the order in which they are read."""
    return np.stack([ink(10 * digit + number) for digit in DIGITS for number in range(PER_CLASS)])


def save_plain(array: np.ndarray, path: Path) -> None:
    Image.fromarray(array).save(path)


def write(
    root: Path,
    save: Callable[[np.ndarray, Path], None] = save_plain,
    ending: str = "png",
    seeds: int = 0,
) -> Path:
    """A folder of PER_CLASS images for each of DIGITS."""
    for digit in DIGITS:
        folder = root / str(digit)
        folder.mkdir(parents=True)
        for number in range(PER_CLASS):
            save(ink(seeds + 10 * digit + number), folder / f"{number}.{ending}")
    return root


def write_divided(root: Path) -> Path:
    """Folders train and test of different images."""
    write(root / "train")
    write(root / "test", seeds=1000)
    return root


def read(root: Path, **settings) -> torch.Tensor:
    """All images of an undivided folder in their order."""
    source = sources.load("folder", root, **settings)
    parts = [part.images.unflatten(0, (len(DIGITS), -1)) for part in (source.train, source.test)]
    return torch.cat(parts, 1).flatten(0, 1)


def read_with_warning(root: Path) -> tuple[torch.Tensor, str]:
    """The images of `read`, and the text of the only warning, "" if there is none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DigitPairsWarning)
        images = read(root)
    texts = [str(each.message) for each in caught if each.category is DigitPairsWarning]
    assert len(texts) <= 1 and all("\n" not in text for text in texts)
    return images, "".join(texts)
