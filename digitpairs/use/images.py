"""Images of any origin as what a network sees: pixels (n, 14, 14) in [0, 1], light ink on black."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from digitpairs.checks import DataError, InvalidValueError, choice
from digitpairs.data.image_files import grey_pixels
from digitpairs.data.sources import SIDE, to_unit_images
from digitpairs.use.reading import read_digit

READINGS = ("auto", "always", "none")
_PLAIN = f"{SIDE}x{SIDE} or {2 * SIDE}x{2 * SIDE} pixels"
_LEVELS = "integers from 0 to 255 (uint16: to 65535) or floats from 0 to 1"


def as_images(given: Any, reading: str = "auto", name: str = "image") -> Tensor:
    """The images as pixels (n, 14, 14), float32 in [0, 1].

    Args:
        given: an image, or a sequence of images. An image is a path of a file, a PIL image, or an
            array or tensor (height, width), (height, width, 3 or 4) in colour. An array or tensor
            can also hold n images: (n, height, width), (n, 1, height, width) or
            (n, height, width, 3 or 4). Pixels are integers from 0 to 255 (uint16: to 65535) or
            floats from 0 to 1.
        reading: "always" finds the digit in each image and centres and scales it as MNIST's makers
            did (`read_digit`). "none" takes the pixels as they are: 14x14, or 28x28, whose 2x2
            means are taken, with light ink on black. "auto" takes arrays and tensors of these two
            sizes as they are, and reads files, PIL images and arrays of other sizes.
        name: of the argument, for messages.

    Raises DataError for an image that cannot be read, and InvalidValueError for other values.
    """
    choice("reading", reading, READINGS)
    if isinstance(given, (str, Path, Image.Image)):
        given = [given]
    given = _joined(given)
    if isinstance(given, (np.ndarray, Tensor)):
        given = _stack_of(given, name)
        if reading != "always" and _is_plain(given):
            return _pooled(given, name)
    elif not isinstance(given, Sequence):
        raise InvalidValueError(name, given, "an image, or a list or an array of images")
    names = [name] if len(given) == 1 else [f"{name}[{row}]" for row in range(len(given))]
    images = [_as_image(each, reading, each_name) for each, each_name in zip(given, names)]
    return torch.cat(images) if images else torch.empty(0, SIDE, SIDE)


def _joined(given: Any) -> Any:
    """A list of grey arrays or tensors of one size and type as one array; others as they are."""
    if not isinstance(given, (list, tuple)):
        return given
    is_array = all(isinstance(each, (np.ndarray, Tensor)) and each.ndim == 2 for each in given)
    if not given or not is_array or len({(each.shape, each.dtype) for each in given}) > 1:
        return given
    return np.stack([np.asarray(each) for each in given])


def _as_image(image: Any, reading: str, name: str) -> Tensor:
    """(1, 14, 14)."""
    if isinstance(image, (np.ndarray, Tensor)):
        page = _stack_of(image, name)
        if len(page) != 1:
            raise InvalidValueError(name, f"{len(page)} images", "one image")
        if reading != "always" and _is_plain(page):
            return _pooled(page, name)
        page = _unit(page, name)[0]
    elif isinstance(image, (str, Path, Image.Image)):
        page = grey_pixels(Path(image) if isinstance(image, str) else image)
        name = str(image) if isinstance(image, (str, Path)) else name
    else:
        accepted = "the path of an image file, a PIL image, an array or a tensor"
        raise InvalidValueError(name, image, accepted)
    if reading != "none":
        return to_unit_images(torch.from_numpy(read_digit(page, name))[None])
    if not _is_plain(page[None]):
        size = f"{page.shape[1]}x{page.shape[0]}"
        raise DataError(f"{name} has {size} pixels: with reading=none it needs {_PLAIN}")
    return _pooled(page[None], name)


def _stack_of(array: np.ndarray | Tensor, name: str) -> np.ndarray:
    """The array as grey images (n, height, width)."""
    array = array.detach().cpu().numpy() if isinstance(array, Tensor) else array
    has_colours = array.ndim in (3, 4) and array.shape[-1] in (3, 4)
    if has_colours:
        coloured = [_bytes(each, name) for each in array.reshape(-1, *array.shape[-3:])]
        return np.stack([grey_pixels(Image.fromarray(each)) for each in coloured])
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or 0 in array.shape[1:]:
        accepted = "(height, width), (n, height, width), or with 3 or 4 colours as the last axis"
        raise InvalidValueError(name, f"an array of shape {array.shape}", accepted)
    return array


def _is_plain(images: np.ndarray) -> bool:
    return images.shape[1:] in ((SIDE, SIDE), (2 * SIDE, 2 * SIDE))


def _pooled(images: np.ndarray, name: str) -> Tensor:
    """Images (n, 14, 14), or (n, 28, 28) by 2x2 means, as pixels (n, 14, 14)."""
    if images.dtype == np.uint8:
        return to_unit_images(torch.tensor(images))
    unit = torch.from_numpy(_unit(images, name))
    if unit.shape[1] == SIDE:
        return unit
    return unit.unflatten(2, (SIDE, 2)).unflatten(1, (SIDE, 2)).mean((2, 4))


def _unit(images: np.ndarray, name: str) -> np.ndarray:
    """The pixels as float32 in [0, 1]."""
    kind = images.dtype.kind
    if kind not in "buif":
        raise InvalidValueError(name, f"an array of {images.dtype}", _LEVELS)
    scale = {"f": 1, "b": 1}.get(kind, 65535 if images.dtype == np.uint16 else 255)
    unit = images.astype(np.float32) / scale
    if unit.size and not (unit.min() >= 0 and unit.max() <= 1):  # also for NaN
        ends = f"pixels from {images.min():g} to {images.max():g}"
        raise InvalidValueError(name, ends, _LEVELS)
    return unit


def _bytes(image: np.ndarray, name: str) -> np.ndarray:
    return image if image.dtype == np.uint8 else np.rint(255 * _unit(image, name)).astype(np.uint8)
