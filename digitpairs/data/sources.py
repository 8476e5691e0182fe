"""Where the digits come from: MNIST, scikit-learn's digits, any idx files, any folder of images."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from digitpairs.checks import DataError, DigitPairsWarning, choice
from digitpairs.data import idx, image_checks
from digitpairs.data.image_checks import Composites, light_ink

SOURCES = ("auto", "mnist", "digits", "idx", "folder")
SIDE = 14  # the course's image side, in pixels
CONNECT_SECONDS = 3


@dataclass(frozen=True)
class Digits:
    """Images (n, height, width), uint8 from 0 (background) to 255, and their classes (n,), int64."""

    images: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def select(self, rows: Tensor | slice) -> Digits:
        """These digits alone."""
        return Digits(self.images[rows], self.classes[rows])


class Source(NamedTuple):
    """A named set of digits; `train` and `test` share no image."""

    name: str
    train: Digits
    test: Digits


def default_root() -> Path:
    """The folder of the data: the environment variable DIGITPAIRS_DATA, else `data`."""
    return Path(os.environ.get("DIGITPAIRS_DATA") or "data")


def resolve(source: str, root: str | Path | None = None) -> str:
    """The source that `source` stands for: "auto" is MNIST on disk, else MNIST downloaded, else scikit-learn's digits.

    Warns (DigitPairsWarning) when "auto" falls back to the digits. Raises InvalidValueError for an unknown source.
    """
    choice("source", source, SOURCES)
    root = Path(root) if root else default_root()
    if source != "auto":
        return source
    fault = None if idx.find_folder(root) else _download_fault(root)
    if fault is None:
        return "mnist"
    warnings.warn(
        f"USING THE SMALL 'digits' DATA, NOT MNIST: {fault}. Put MNIST there, or name a folder that has it in "
        "DIGITPAIRS_DATA; data=digits asks for the small data without this warning.",
        DigitPairsWarning,
        stacklevel=2,
    )
    return "digits"


def load(source: str, root: str | Path | None = None, polarity: str = "auto") -> Source:
    """The digits of `source`, kept in memory for the next call.

    `polarity` is that of the stored images: "light_on_dark", "dark_on_light" (these are inverted),
    or "auto", which finds one for all images from their borders. Warns (DigitPairsWarning) of what
    was done to the pixels and of files that were not read. Raises InvalidValueError for an unknown
    source or polarity, and DataError when the digits cannot be had whole, when an image is
    constant, or when a test image is a training image too.
    """
    root = Path(root) if root else default_root()
    choice("polarity", polarity, image_checks.POLARITIES)
    return _load(resolve(source, root), root.absolute(), polarity)


def to_unit_images(images: Tensor) -> Tensor:
    """uint8 images (n, height, width) as float32 (n, 14, 14) in [0, 1].

    28x28 is average-pooled by 2, as the course does; other sizes are resampled bilinearly (antialiased).
    """
    if images.shape[1:] == (
        2 * SIDE,
        2 * SIDE,
    ):  # sums of whole numbers are exact, and made in half of avg_pool2d's time
        top, bottom = images[:, 0::2].short(), images[:, 1::2].short()
        return (top[..., 0::2] + top[..., 1::2] + bottom[..., 0::2] + bottom[..., 1::2]).float() / (
            4 * 255
        )
    unit = images[:, None].float() / 255  # (n, 1, height, width)
    if images.shape[1:] != (SIDE, SIDE):
        unit = F.interpolate(unit, (SIDE, SIDE), mode="bilinear", antialias=True)
    return unit[:, 0]


@functools.lru_cache(maxsize=4)
def _load(source: str, root: Path, polarity: str) -> Source:
    readers = {"mnist": _mnist, "digits": _digits, "idx": _idx, "folder": _folder}
    return readers[source](root, polarity)


def _mnist(root: Path, polarity: str) -> Source:
    if idx.find_folder(root) is None:
        download_mnist(root)
    return _idx(root, polarity, "mnist")


def _idx(root: Path, polarity: str, name: str | None = None) -> Source:
    folder = idx.find_folder(root)
    if folder is None:
        names = ", ".join(name for pair in idx.FILES.values() for name in pair)
        raise DataError(
            f"{root} holds no idx files: expected {names} (or .gz), in it or in MNIST/raw below it"
        )
    splits = [idx.read_split(folder, split) for split in ("train", "test")]
    stretched, notes = image_checks.stretch([images for images, _ in splits])
    light, more = light_ink([Composites(images, images) for images in stretched], polarity)
    train, test = (Digits(images, classes) for images, (_, classes) in zip(light, splits))
    source = Source(name or f"idx:{root}", train, test)
    return _checked(source, functools.partial(idx.name_row, folder, len(train)), notes + more)


def _digits(root: Path, polarity: str) -> Source:
    """scikit-learn's 1,797 digits of 8x8 pixels. The last 600 are the test set: the file goes writer by writer, so
    most test digits are by hands that the training set has not seen.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (torch.from_numpy(bunch.images) * (255 / 16)).round().to(torch.uint8)
    (light,), notes = light_ink([Composites(images, images)], polarity)
    digits = Digits(light, torch.from_numpy(bunch.target).long())
    source = Source("digits", digits.select(slice(-600)), digits.select(slice(-600, None)))
    return _checked(source, lambda row: f"image {row} of the digits", notes)


def _folder(root: Path, polarity: str) -> Source:
    from digitpairs.data.image_folder import read_folder  # imports PIL, which only this needs

    paths, images, classes, is_test, notes = read_folder(root, polarity)
    digits = Digits(images, classes)
    source = Source(f"folder:{root}", digits.select(~is_test), digits.select(is_test))
    order = is_test.int().argsort(stable=True).tolist()  # the training images come first
    return _checked(source, lambda row: str(paths[order[row]]), notes)


def _checked(source: Source, name: Callable[[int], str], notes: Sequence[str]) -> Source:
    """The source, with its images checked and the notes given as one warning.

    `name` names an image by its row, the test images counted after the training images.
    """
    train, test = source.train.images, source.test.images
    image_checks.refuse_constant(train, test, name=name)
    image_checks.refuse_shared(train, test, name)
    if notes:
        warnings.warn(f"{source.name}: {'; '.join(notes)}", DigitPairsWarning, stacklevel=2)
    return source


def download_mnist(root: Path) -> None:
    """Fetch MNIST below `root` in torchvision's layout, whole or not at all. DataError within seconds if no host answers."""
    from torchvision.datasets import MNIST

    if not any(_answers(mirror) for mirror in MNIST.mirrors):
        raise DataError(f"MNIST is not in {root}, and no host of it could be reached")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as folder:
            MNIST(folder, download=True)
            shutil.copytree(Path(folder) / "MNIST", root / "MNIST", dirs_exist_ok=True)
    except (OSError, RuntimeError) as fault:
        raise DataError(f"MNIST could not be downloaded to {root} ({fault})") from fault


@functools.cache
def _download_fault(root: Path) -> str | None:
    """Why MNIST could not be downloaded, or None once it is there; asked once a process, since a try takes seconds."""
    try:
        download_mnist(root)
    except DataError as fault:
        return str(fault)
    return None


def _answers(url: str) -> bool:
    """Whether anything at all answers there within seconds, the look-up of the name included (it knows no time limit)."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(
                urllib.request.Request(url, method="HEAD"), timeout=CONNECT_SECONDS
            ).close()
        except urllib.error.HTTPError:
            pass  # it refuses the listing of its folder, but it is there
        except OSError:
            return
        answered.set()

    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(CONNECT_SECONDS)
