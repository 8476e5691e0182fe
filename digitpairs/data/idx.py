"""Reader of files in MNIST's idx format (http://yann.lecun.com/exdb/mnist, "file formats").

An idx file is a header and raw bytes. torchvision reads such files too, but its errors name neither
the file nor the fault, and importing it takes longer than a small run. The tests compare with it.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from digitpairs.checks import DataError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
NAMES = tuple(name for pair in FILES.values() for name in pair)
MAX_BYTES = 2**30  # of an array that is read; the largest of EMNIST has 640 million
_UNSIGNED_BYTE = 8


def find_folder(root: Path) -> Path | None:
    """The folder with all four files: `root/MNIST/raw`, `root/raw` or `root`, or None."""
    for folder in (root / "MNIST" / "raw", root / "raw", root):
        if all(find_file(folder, name) for name in NAMES):
            return folder
    return None


def find_file(folder: Path, name: str) -> Path | None:
    """`name`, else `name.gz`, in the folder; None if neither is a file there."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_split(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images (n, height, width) uint8 and classes (n,) int64 of the split "train" or "test".

    Raises DataError if a file is missing, unreadable or damaged, or if the two do not match.
    """
    image_path, class_path = (_existing_file(folder, name) for name in FILES[split])
    images, classes = read_idx(image_path, dimensions=3), read_idx(class_path, dimensions=1).long()
    if 0 in images.shape[1:]:
        size = f"{images.shape[1]} x {images.shape[2]}"
        raise DataError(f"{image_path} holds images of {size} pixels: download it again")
    if len(images) != len(classes):
        counts = f"holds {len(images)} images, but {class_path} holds {len(classes)} classes"
        raise DataError(f"{image_path} {counts}: download both again")
    if len(classes) and classes.max() > 9:
        raise DataError(f"{class_path} holds the class {int(classes.max())}: digits are 0 to 9")
    return images, classes


def _existing_file(folder: Path, name: str) -> Path:
    path = find_file(folder, name)
    if path is None:
        raise DataError(f"{folder / name} is missing: download it again")
    return path


def name_row(folder: Path, train: int, row: int) -> str:
    """The name of an image for messages; `row` counts the `train` training images first."""
    split, row = ("train", row) if row < train else ("test", row - train)
    return f"image {row} (from 0) of {find_file(folder, FILES[split][0])}"


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The uint8 array in an idx file, plain or gzip.

    No more is read or unpacked than the header states, which is at most MAX_BYTES. Raises
    DataError, which names the path, for a file that cannot be read or is damaged.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            shape = _parse_shape(path, file.read(4 + 4 * dimensions), dimensions)
            size = math.prod(shape)
            content = file.read(size + 1)  # one more byte shows a file that is too long
    except (OSError, EOFError, zlib.error) as fault:
        raise DataError(f"{path} cannot be read ({fault}): download it again") from fault
    if len(content) != size:
        actual = "more" if len(content) > size else len(content)
        damage = f"its header states {size} bytes, but {actual} follow"
        raise DataError(f"{path} is damaged: {damage}: remove it and download it again")
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy()).view(shape)


def _parse_shape(path: Path, header: bytes, dimensions: int) -> list[int]:
    """The shape of the array that follows the header."""
    if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        kind = f"idx file of bytes in {dimensions} dimension(s)"
        raise DataError(f"{path} is not an {kind}: download it again")
    shape = [int(size) for size in np.frombuffer(header, ">u4", dimensions, 4)]
    if math.prod(shape) > MAX_BYTES:
        damage = f"its header states {math.prod(shape)} bytes, more than {MAX_BYTES}"
        raise DataError(f"{path} is damaged: {damage}: download it again")
    return shape
