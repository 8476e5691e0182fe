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

ENDINGS = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
_SIDE = 28  # pixels of the images as they are given
MOST_PIXELS = 2**26  # of one file: more than the photographs of most cameras have, and little enough for the memory
_USUAL_SCALES = {"8-bit": 255, "16- or 32-bit": 65535, "float": 1}  # by what the pixels are stored as
_TRANSPARENT = "with transparent pixels, read as background"
_TURNED = "turned as their EXIF orientation says"
_FRAMES = "of several frames, the first of which is read"


class _Decoded(NamedTuple):
    """The first frame of a file, upright."""

    grey: Image.Image  # of mode L, F, or one of I
    alpha: Image.Image | None  # opacity, of mode L; None where all pixels are opaque
    ranged: bool  # whether the largest value counts for the range of the set
    remarks: list[str]


class _Reading(NamedTuple):
    """The image of a file."""

    on_black: Tensor  # (28, 28), uint8
    on_white: Tensor
    stored: str  # a key of _USUAL_SCALES
    peak: float | None  # the largest value, where it counts for the range of the set
    remarks: list[str]


def read_images(paths: Sequence[Path]) -> tuple[Composites, list[str]]:
    """The images, all of one data set, and what to say of how they were read.

    8-bit pixels are taken as they are; those stored otherwise, and those of a set that stays far below 255, are scaled to
    it by the range of the whole set. Raises DataError that names the file where one cannot be read.
    """
    readings = [_read(path, _USUAL_SCALES) for path in paths]
    scales = _scales(readings)
    readings = [
        reading if scales[reading.stored] == _USUAL_SCALES[reading.stored] else _read(path, scales)
        for path, reading in zip(paths, readings)
    ]
    remarks: dict[str, list[Path]] = defaultdict(list)
    for path, reading in zip(paths, readings):
        if reading.stored != "8-bit" or (scales["8-bit"] != 255 and reading.peak is not None):
            remarks[f"of {reading.stored} pixels, read as 0 to {scales[reading.stored]:g}"].append(path)
        for remark in reading.remarks:
            remarks[remark].append(path)
    notes = [f"{len(those)} image{'s' * (len(those) > 1)} {remark}, such as {those[0]}" for remark, those in remarks.items()]
    on_black, on_white = (torch.stack([getattr(each, name) for each in readings]) for name in Composites._fields)
    return Composites(on_black, on_white), notes


def _scales(readings: Sequence[_Reading]) -> dict[str, float]:
    """The value that is white, by what the pixels are stored as, from the whole set."""
    peaks: dict[str, float] = {}
    for reading in readings:
        if reading.peak is not None:
            peaks[reading.stored] = max(reading.peak, peaks.get(reading.stored, 0))
    return {**_USUAL_SCALES, **{stored: full_scale(peak) for stored, peak in peaks.items()}}


def _read(path: Path, scales: Mapping[str, float]) -> _Reading:
    """The image of a file, with `scales[stored]` as white."""
    grey, alpha, ranged, remarks = _decode(path)
    stored = {"L": "8-bit", "F": "float"}.get(grey.mode, "16- or 32-bit")
    scale, pixels = scales[stored] if ranged else _USUAL_SCALES[stored], np.asarray(grey)
    if not (np.isfinite(pixels).all() and pixels.min() >= 0):
        raise DataError(f"{path} holds values that are negative, infinite or NaN: mend it, pixels are from 0 up")
    if grey.mode != "L" or scale != 255:
        grey = Image.fromarray(np.rint(np.minimum(pixels.astype(np.float32) * (255 / scale), 255)).astype(np.uint8))
    layers = [Image.composite(grey, Image.new("L", grey.size, level), alpha) for level in (0, 255)] if alpha else [grey]
    shrunk = [torch.from_numpy(np.array(layer.resize((_SIDE, _SIDE)))) for layer in layers]
    return _Reading(shrunk[0], shrunk[-1], stored, float(pixels.max()) if ranged else None, remarks)


def _decode(path: Path) -> _Decoded:
    if not path.is_file():
        raise DataError(f"{path} cannot be read as an image (it is a broken link or no file): mend or remove it")
    try:
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has {image.width} x {image.height} pixels, more than {MOST_PIXELS}")
            remarks = [_FRAMES] if getattr(image, "n_frames", 1) > 1 else []
            remarks += [_TURNED] if image.getexif().get(ExifTags.Base.Orientation) in range(2, 9) else []
            return _grey(ImageOps.exif_transpose(image), remarks)
    except Exception as fault:  # Pillow's decoders raise errors of any kind where a file is damaged
        raise DataError(f"{path} cannot be read as an image ({fault}): mend or remove it") from fault


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
    return _Decoded(grey, alpha, wide, [*remarks, _TRANSPARENT])  # transparent pixels may be of any colour
