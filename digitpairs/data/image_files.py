"""Image files of any mode and range as 8-bit grey images of one size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from digitpairs.checks import DataError
from digitpairs.data.image_checks import Composites, full_scale

_ENDINGS = "bmp gif jfif jpeg jpg pbm pgm png pnm ppm tif tiff webp"
ENDINGS = tuple(f".{ending}" for ending in _ENDINGS.split())
_SIDE = 28  # pixels of the images as they are given
MAX_PIXELS = 2**26  # of a file: above most photographs, and about a gigabyte at most to read
_USUAL_SCALES = {"8-bit": 255, "16- or 32-bit": 65535, "float": 1}  # the value that is white
_TRANSPARENT = "with transparent pixels, read as background"
_TURNED = "turned as their EXIF orientation says"
_FRAMES = "of several frames, the first of which is read"


class _Decoded(NamedTuple):
    """The first frame of a file, upright."""

    grey: Image.Image  # of mode L, F, or one of I
    alpha: Image.Image | None  # opacity, of mode L; None where all pixels are opaque
    ranged: bool  # whether its largest value counts for the range of the data set
    remarks: list[str]


class _Reading(NamedTuple):
    """The image of a file."""

    on_black: Tensor  # (28, 28), uint8
    on_white: Tensor
    stored: str  # a key of _USUAL_SCALES
    peak: float | None  # the largest value, where it counts for the range of the data set
    remarks: list[str]


def read_images(paths: Sequence[Path]) -> tuple[Composites, list[str]]:
    """The images of a data set, and notes on how they were read.

    Pixels of 8 bits are taken as they are. Others are scaled to 8 bits by the `full_scale` of all
    of their kind in the data set, as are 8-bit pixels that are all far below 255. Raises DataError,
    which names the file, where one cannot be read.
    """
    readings = [_read(path, _USUAL_SCALES) for path in paths]
    scales = _scales(readings)
    unusual = {stored for stored, scale in scales.items() if scale != _USUAL_SCALES[stored]}
    readings = [
        _read(path, scales) if reading.stored in unusual else reading
        for path, reading in zip(paths, readings)
    ]
    on_black = torch.stack([reading.on_black for reading in readings])
    on_white = torch.stack([reading.on_white for reading in readings])
    return Composites(on_black, on_white), _notes(paths, readings)


def _notes(paths: Sequence[Path], readings: Sequence[_Reading]) -> list[str]:
    """Each remark with the number of images that it is on, and the first of them."""
    by_remark: dict[str, list[Path]] = defaultdict(list)
    for path, reading in zip(paths, readings):
        for remark in reading.remarks:
            by_remark[remark].append(path)
    return [
        f"{len(those)} image{'s' * (len(those) > 1)} {remark}, such as {those[0]}"
        for remark, those in by_remark.items()
    ]


def _scales(readings: Sequence[_Reading]) -> dict[str, float]:
    """The value that is white, for each way to store pixels, from all readings."""
    peaks: dict[str, float] = {}
    for reading in readings:
        if reading.peak is not None:
            peaks[reading.stored] = max(reading.peak, peaks.get(reading.stored, 0))
    return {**_USUAL_SCALES, **{stored: full_scale(peak) for stored, peak in peaks.items()}}


def _read(path: Path, scales: Mapping[str, float]) -> _Reading:
    """The image of a file, with the value of its kind in `scales` as white."""
    grey, alpha, ranged, remarks = _decode(path)
    stored = {"L": "8-bit", "F": "float"}.get(grey.mode, "16- or 32-bit")
    scale, pixels = scales[stored] if ranged else _USUAL_SCALES[stored], np.asarray(grey)
    if not (np.isfinite(pixels).all() and pixels.min() >= 0):
        raise DataError(f"{path} holds negative, infinite or NaN pixels: mend or remove it")
    if grey.mode != "L" or scale != 255:
        unit = np.minimum(pixels.astype(np.float32) / scale, 1)
        grey = Image.fromarray(np.rint(255 * unit).astype(np.uint8))
        remarks = [f"of {stored} pixels, read as 0 to {scale:g}", *remarks]
    peak = float(pixels.max()) if ranged else None
    if alpha is None:
        image = _resized(grey)
        return _Reading(image, image, stored, peak, remarks)
    on_black, on_white = (
        _resized(Image.composite(grey, Image.new("L", grey.size, background), alpha))
        for background in (0, 255)
    )
    return _Reading(on_black, on_white, stored, peak, remarks)


def _resized(grey: Image.Image) -> Tensor:
    """(28, 28), uint8."""
    return torch.from_numpy(np.array(grey.resize((_SIDE, _SIDE))))


def _decode(path: Path) -> _Decoded:
    if not path.is_file():
        fault = "it is a broken link or no file"
        raise DataError(f"{path} cannot be read as an image ({fault}): mend or remove it")
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height}"
                raise ValueError(f"it has {size} pixels, more than {MAX_PIXELS}")
            remarks = [_FRAMES] if getattr(image, "n_frames", 1) > 1 else []
            orientation = image.getexif().get(ExifTags.Base.Orientation)
            remarks += [_TURNED] if orientation in range(2, 9) else []
            return _grey(ImageOps.exif_transpose(image), remarks)
    except Exception as fault:  # a damaged file makes Pillow raise errors of almost any class
        raise DataError(
            f"{path} cannot be read as an image ({fault}): mend or remove it"
        ) from fault


def _grey(image: Image.Image, remarks: list[str]) -> _Decoded:
    wide, key, alpha = image.mode[0] in "IF", image.info.get("transparency"), None
    if wide and key is not None:
        alpha = Image.fromarray((np.asarray(image) != key).astype(np.uint8) * 255)
    elif image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
    image.info.pop("transparency", None)  # it is in alpha now
    grey = image if wide else image.convert("L")
    if alpha is None or alpha.getextrema()[0] == 255:
        return _Decoded(grey, None, image.mode != "1", remarks)
    # Transparent pixels may be of any colour, which tells nothing of the range.
    return _Decoded(grey, alpha, wide, [*remarks, _TRANSPARENT])
