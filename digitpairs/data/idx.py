"""Files in MNIST's idx format (http://yann.lecun.com/exdb/mnist, "file formats"): a header and raw bytes.

torchvision reads them too, but by bare assertions that name neither the file nor the fault, and its import takes
longer than a small run; it is the reference in the tests.
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
MAX_BYTES = 2**30  # of an array that is read; the largest of EMNIST has 640 million
_UNSIGNED_BYTE = 8


def find_folder(root: Path) -> Path | None:
    """The folder with all four files: `root` itself or torchvision's `root/MNIST/raw` or `root/raw`; None if none has."""
    names = [name for pair in FILES.values() for name in pair]
    for folder in (root / "MNIST" / "raw", root / "raw", root):
        if all(find_file(folder, name) for name in names):
            return folder
    return None


def find_file(folder: Path, name: str) -> Path | None:
    """`name` or `name.gz` in the folder, whichever is there."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_split(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images (n, height, width) uint8 and classes (n,) int64 of the split "train" or "test".

    Raises DataError when a file is unreadable or truncated, or when the two do not fit each other.
    """
    image_path, class_path = (find_file(folder, name) for name in FILES[split])
    images, classes = read_idx(image_path, dimensions=3), read_idx(class_path, dimensions=1).long()
    if 0 in images.shape[1:]:
        size = f"{images.shape[1]} x {images.shape[2]}"
        raise DataError(f"{image_path} holds images of {size} pixels: fetch it anew")
    if len(images) != len(classes):
        raise DataError(
            f"{image_path} holds {len(images)} images, but {class_path} holds {len(classes)} classes: fetch both anew"
        )
    if len(classes) and classes.max() > 9:
        raise DataError(f"{class_path} holds the class {int(classes.max())}: digits are 0 to 9")
    return images, classes


def name_row(folder: Path, train: int, row: int) -> str:
    """What a message calls the image in a row, counted over the `train` training images first."""
    split, row = ("train", row) if row < train else ("test", row - train)
    return f"image {row} (from 0) of {find_file(folder, FILES[split][0])}"


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The uint8 array in an idx file (plain or gzip), or DataError naming the path, the fault and the way out.

    No more is read, or unpacked, than the header promises, and that is bounded.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            shape = _shape(path, file.read(4 + 4 * dimensions), dimensions)
            content = file.read(math.prod(shape) + 1)  # one byte more shows whether there are more
    except (OSError, EOFError, zlib.error) as fault:
        raise DataError(f"{path} cannot be read ({fault}): fetch it anew") from fault
    if len(content) != math.prod(shape):
        follow = "more" if len(content) > math.prod(shape) else len(content)
        raise DataError(
            f"{path} is damaged: its header promises {math.prod(shape)} bytes, {follow} follow: remove it and fetch it anew"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy()).view(shape)


def _shape(path: Path, header: bytes, dimensions: int) -> list[int]:
    """The array's, as the header has it."""
    if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise DataError(
            f"{path} is no idx file of bytes in {dimensions} dimension(s): fetch it anew"
        )
    shape = [int(size) for size in np.frombuffer(header, ">u4", dimensions, 4)]
    if math.prod(shape) > MAX_BYTES:
        raise DataError(
            f"{path} is damaged: its header promises {math.prod(shape)} bytes, more than {MAX_BYTES}: fetch it anew"
        )
    return shape
