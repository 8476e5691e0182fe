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
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from digitpairs.checks import DataError, DigitPairsWarning, choice
from digitpairs.data import idx

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

    Warns (DigitPairsWarning) when "auto" falls back to the digits. Raises InvalidValue for an unknown source.
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


def load(source: str, root: str | Path | None = None) -> Source:
    """The digits of `source`, kept in memory for the next call. Raises DataError when they cannot be had whole."""
    root = Path(root) if root else default_root()
    return _load(resolve(source, root), root.absolute())


def to_unit_images(images: Tensor) -> Tensor:
    """uint8 images (n, height, width) as float32 (n, 14, 14) in [0, 1].

    28x28 is average-pooled by 2, as the course does; other sizes are resampled bilinearly (antialiased).
    """
    if images.shape[1:] == (2 * SIDE, 2 * SIDE):  # sums of whole numbers are exact, and made in half of avg_pool2d's time
        top, bottom = images[:, 0::2].short(), images[:, 1::2].short()
        return (top[..., 0::2] + top[..., 1::2] + bottom[..., 0::2] + bottom[..., 1::2]).float() / (4 * 255)
    unit = images[:, None].float() / 255  # (n, 1, height, width)
    if images.shape[1:] != (SIDE, SIDE):
        unit = F.interpolate(unit, (SIDE, SIDE), mode="bilinear", antialias=True)
    return unit[:, 0]


@functools.lru_cache(maxsize=4)
def _load(source: str, root: Path) -> Source:
    return {"mnist": _mnist, "digits": _digits, "idx": _idx, "folder": _folder}[source](root)


def _mnist(root: Path) -> Source:
    if idx.find_folder(root) is None:
        download_mnist(root)
    return _idx(root)._replace(name="mnist")


def _idx(root: Path) -> Source:
    folder = idx.find_folder(root)
    if folder is None:
        names = ", ".join(name for pair in idx.FILES.values() for name in pair)
        raise DataError(f"{root} holds no idx files: expected {names} (or .gz), in it or in MNIST/raw below it")
    return Source(f"idx:{root}", Digits(*idx.read_split(folder, "train")), Digits(*idx.read_split(folder, "test")))


def _digits(root: Path) -> Source:
    """scikit-learn's 1,797 digits of 8x8 pixels. The last 600 are the test set: the file goes writer by writer, so
    most test digits are by hands that the training set has not seen."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (torch.from_numpy(bunch.images) * (255 / 16)).round().to(torch.uint8)
    digits = Digits(images, torch.from_numpy(bunch.target).long())
    return Source("digits", digits.select(slice(-600)), digits.select(slice(-600, None)))


def _folder(root: Path) -> Source:
    """Images in folders 0 to 9, below `train` and `test`; without these two, every fifth image of a class is for the test."""
    if not root.is_dir():
        raise DataError(f"{root} is no folder: name one with folders 0 to 9 of images (or train/0 to test/9) in data.root")
    if (root / "train").is_dir() and (root / "test").is_dir():
        return Source(f"folder:{root}", _images_below(root / "train"), _images_below(root / "test"))
    digits = _images_below(root)
    place = torch.cat([torch.arange(int(count)) for count in torch.bincount(digits.classes)])  # within its class
    held_out = place % 5 == 4
    return Source(f"folder:{root}", digits.select(~held_out), digits.select(held_out))


def _images_below(root: Path) -> Digits:
    """All images in the folders 0 to 9, by class and then by name, grey, 28x28."""
    from PIL import Image, UnidentifiedImageError
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor

    try:
        files = ImageFolder(root).samples
    except FileNotFoundError as fault:
        raise DataError(f"{root} has no images in folders 0 to 9 ({fault})") from fault
    images, classes = [], []
    for path, _ in files:
        name = Path(path).relative_to(root).parts[0]
        if name not in list("0123456789"):
            raise DataError(f"{root / name} is no class: the folders of images are 0 to 9")
        try:
            with Image.open(path) as image:
                images.append(pil_to_tensor(image.convert("L").resize((2 * SIDE, 2 * SIDE)))[0])
        except (OSError, UnidentifiedImageError) as fault:
            raise DataError(f"{path} cannot be read as an image ({fault}): mend or remove it") from fault
        classes.append(int(name))
    return Digits(torch.stack(images), torch.tensor(classes))


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
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=CONNECT_SECONDS).close()
        except urllib.error.HTTPError:
            pass  # it refuses the listing of its folder, but it is there
        except OSError:
            return
        answered.set()

    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(CONNECT_SECONDS)
