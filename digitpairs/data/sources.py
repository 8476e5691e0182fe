"""Sources of digits: MNIST, scikit-learn's digits, idx files, folders of images.

To add a source, write its reader, add it to READERS, and add `conf/data/<name>.yaml`.
"""

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

SIDE = 14  # of the course's images, in pixels
CONNECT_SECONDS = 3
_NAME_FOLDER = "name its folder by data.root or DIGITPAIRS_DATA"
_PROVIDED: dict[tuple[str, ...], Source] = {}  # see `provide`
SMALL_TEST_SET = 600  # of scikit-learn's digits


@dataclass(frozen=True)
class Digits:
    """Images (n, height, width), uint8 from 0 (background) to 255, and classes (n,), int64."""

    images: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def select(self, rows: Tensor | slice) -> Digits:
        """The digits in these rows."""
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
    """`source`, unless it is "auto": then "mnist", or "digits" if MNIST cannot be had.

    With "auto", MNIST is downloaded if it is not in `root`. Warns (DigitPairsWarning) if "auto"
    falls back to the digits. Raises InvalidValueError for an unknown source.
    """
    choice("source", source, SOURCES)
    root = Path(root) if root else default_root()
    if source != "auto":
        return source
    fault = None if idx.find_folder(root) else _download_fault(root)
    if fault is None:
        return "mnist"
    warnings.warn(
        f"USING THE SMALL 'digits' DATA, NOT MNIST: {fault}. Put MNIST there, or set "
        "DIGITPAIRS_DATA to its folder; data=digits selects the small data without this warning.",
        DigitPairsWarning,
        stacklevel=2,
    )
    return "digits"


def load(source: str, root: str | Path | None = None, polarity: str = "auto") -> Source:
    """The digits of `source`, cached in memory.

    `polarity` is that of the stored images: "light_on_dark", "dark_on_light" (these are inverted),
    or "auto", which finds one for all images from their borders. Warns (DigitPairsWarning) about
    changes to the pixels and about files that were not read. Raises InvalidValueError for an
    unknown source or polarity, and DataError for digits that are missing or damaged, for a constant
    image, and for an image that is both in the training and in the test data.
    """
    if (provided := _PROVIDED.get(_arguments(source, root, polarity))) is not None:
        return provided
    root = Path(root) if root else default_root()
    choice("polarity", polarity, image_checks.POLARITIES)
    return _load(resolve(source, root), root.absolute(), polarity)


def provide(source: str, root: str | Path | None, polarity: str, digits: Source) -> None:
    """Let `load` with these arguments return the digits, in a process without their files."""
    _PROVIDED[_arguments(source, root, polarity)] = digits


def _arguments(source: str, root: str | Path | None, polarity: str) -> tuple[str, ...]:
    return source, str(root or ""), polarity


def to_unit_images(images: Tensor) -> Tensor:
    """uint8 images (n, height, width) as float32 (n, 14, 14) in [0, 1].

    Images of 28x28 pixels are average-pooled by 2, as in the course. Other sizes are resampled
    bilinearly with antialiasing.
    """
    if images.shape[1:] == (2 * SIDE, 2 * SIDE):
        # Sums of integers are exact, and take half the time of avg_pool2d.
        top, bottom = images[:, 0::2].short(), images[:, 1::2].short()
        total = top[..., 0::2] + top[..., 1::2] + bottom[..., 0::2] + bottom[..., 1::2]
        return total.float() / (4 * 255)
    unit = images[:, None].float() / 255  # (n, 1, height, width)
    if images.shape[1:] != (SIDE, SIDE):
        unit = F.interpolate(unit, (SIDE, SIDE), mode="bilinear", antialias=True)
    return unit[:, 0]


@functools.lru_cache(maxsize=4)
def _load(source: str, root: Path, polarity: str) -> Source:
    return READERS[source](root, polarity)


def _read_mnist(root: Path, polarity: str) -> Source:
    if idx.find_folder(root) is None:
        try:
            download_mnist(root)
        except DataError as fault:
            advice = f"{_NAME_FOLDER}, or use data=digits, which needs no file"
            raise DataError(f"{fault}: {advice}") from fault
    return _read_idx(root, polarity, "mnist")


def _read_idx(root: Path, polarity: str, name: str | None = None) -> Source:
    folder = idx.find_folder(root)
    if folder is None:
        expected = f"expected {', '.join(idx.NAMES)} (or .gz), in it or in MNIST/raw below it"
        raise DataError(f"{root} holds no idx files: {expected}; {_NAME_FOLDER}")
    splits = [idx.read_split(folder, split) for split in ("train", "test")]
    stretched, range_notes = image_checks.stretch([images for images, _ in splits])
    light, polarity_notes = light_ink([Composites(part, part) for part in stretched], polarity)
    train, test = (Digits(images, classes) for images, (_, classes) in zip(light, splits))
    source = Source(name or f"idx:{root}", train, test)
    name_row = functools.partial(idx.name_row, folder, len(train))
    return _checked(source, name_row, [*range_notes, *polarity_notes])


def _read_digits(root: Path, polarity: str) -> Source:
    """scikit-learn's 1,797 digits of 8x8 pixels, the last 600 of which are the test set.

    The file is sorted by writer, so most test digits are by writers outside the training set.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (torch.from_numpy(bunch.images) * (255 / 16)).round().to(torch.uint8)
    (light,), notes = light_ink([Composites(images, images)], polarity)
    digits = Digits(light, torch.from_numpy(bunch.target).long())
    train = digits.select(slice(-SMALL_TEST_SET))
    test = digits.select(slice(-SMALL_TEST_SET, None))
    return _checked(Source("digits", train, test), "image {} of the digits".format, notes)


def _read_folder(root: Path, polarity: str) -> Source:
    from digitpairs.data.image_folder import read_folder  # imports PIL, which only this needs

    paths, images, classes, is_test, notes = read_folder(root, polarity)
    digits = Digits(images, classes)
    source = Source(f"folder:{root}", digits.select(~is_test), digits.select(is_test))
    order = is_test.int().argsort(stable=True).tolist()  # the training images come first
    return _checked(source, lambda row: str(paths[order[row]]), notes)


# How each source is read from the folder of the data, with the polarity of its images.
READERS: dict[str, Callable[[Path, str], Source]] = {
    "mnist": _read_mnist,
    "digits": _read_digits,
    "idx": _read_idx,
    "folder": _read_folder,
}
SOURCES = ("auto", *READERS)


def _checked(source: Source, name: Callable[[int], str], notes: Sequence[str]) -> Source:
    """The source after checks of its images; warns with the notes.

    `name` gives the name of an image from its row, counted over the training, then the test images.
    """
    train, test = source.train.images, source.test.images
    image_checks.refuse_constant(train, test, name=name)
    image_checks.refuse_shared(train, test, name)
    if notes:
        warnings.warn(f"{source.name}: {'; '.join(notes)}", DigitPairsWarning, stacklevel=2)
    return source


def download_mnist(root: Path) -> None:
    """Downloads MNIST to `root` in torchvision's layout, completely or not at all.

    Raises DataError, within seconds if no host answers.
    """
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
    """Why MNIST could not be downloaded; None after a download. Cached, since it takes seconds."""
    try:
        download_mnist(root)
    except DataError as fault:
        return str(fault)
    return None


def _answers(url: str) -> bool:
    """Whether the host answers within CONNECT_SECONDS.

    The request is made in a thread, since the look-up of the host's name has no timeout.
    """
    answered = threading.Event()
    request = urllib.request.Request(url, method="HEAD")

    def connect() -> None:
        try:
            urllib.request.urlopen(request, timeout=CONNECT_SECONDS).close()
        except urllib.error.HTTPError:
            pass  # the host answers, but does not list its folder
        except OSError:
            return
        answered.set()

    threading.Thread(target=connect, daemon=True).start()
    return answered.wait(CONNECT_SECONDS)
