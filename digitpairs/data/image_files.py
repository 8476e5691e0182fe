"""Reader of image files of any mode and range, as 8-bit grey images of one size."""

from __future__ import annotations

import os
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
_SIDE = 28  # of the images that are returned, in pixels
MAX_PIXELS = 2**26  # of a file: more than most photographs, at most about 1 GB of memory
_USUAL_SCALES = {"8-bit": 255, "16- or 32-bit": 65535, "float": 1}  # white level by pixel type
_TRANSPARENT = "with transparent pixels, read as background"
_TURNED = "rotated as their EXIF orientation says"
_FRAMES = "of several frames, the first of which is read"


class _Decoded(NamedTuple):
    """The first frame of a file, upright."""

    grey: Image.Image  # of mode L, F, or one of I
    alpha: Image.Image | None  # opacity, of mode L; None if all pixels are opaque
    counts_for_range: bool  # whether its largest value counts for the range of the dataset
    remarks: list[str]


class _Reading(NamedTuple):
    """The image of a file."""

    on_black: Tensor  # (28, 28), uint8
    on_white: Tensor
    pixel_type: str  # a key of _USUAL_SCALES
    peak: float | None  # the largest value; None if it does not count for the range
    remarks: list[str]


def read_images(paths: Sequence[Path]) -> tuple[Composites, list[str]]:
    """The images of a dataset, and notes on how they were read.

    Pixels of 8 bits are taken as they are, unless all of them are far below 255. Others are scaled
    to 8 bits by the `full_scale` of all images of the same pixel type. Raises DataError, which
    names the file, if one cannot be read.
    """
    readings = [_read(path, _USUAL_SCALES) for path in paths]
    scales = _scales(readings)
    for row, reading in enumerate(readings):
        if scales[reading.pixel_type] != _USUAL_SCALES[reading.pixel_type]:
            readings[row] = _read(paths[row], scales)
    on_black = torch.stack([reading.on_black for reading in readings])
    on_white = torch.stack([reading.on_white for reading in readings])
    return Composites(on_black, on_white), _notes(paths, readings)


def grey_pixels(image: Path | Image.Image) -> np.ndarray:
    """The grey levels (height, width) of a single image, upright, float32 in [0, 1].

    Transparent pixels become background: they get the median level of the opaque pixels if most
    pixels are opaque, else black or white, whichever is farther from it. Raises DataError for an
    image that cannot be decoded.
    """
    if isinstance(image, Path):
        grey, alpha, *_ = _decode(image)
    else:
        try:
            grey, alpha, *_ = _decode_image(image)
        except (ValueError, OSError) as fault:
            raise DataError(f"an image cannot be decoded ({fault})") from fault
    pixels: np.ndarray = np.asarray(grey, dtype=np.float32)
    if not np.isfinite(pixels).all():
        name = image if isinstance(image, Path) else "an image"
        raise DataError(f"{name} holds infinite or NaN pixels: repair or remove it")
    pixels = pixels / (255 if grey.mode == "L" else full_scale(float(pixels.max())))
    if alpha is not None:
        opacity = np.asarray(alpha, dtype=np.float32) / 255
        pixels = opacity * pixels + (1 - opacity) * _background(pixels, opacity)
    return pixels.clip(0, 1)


def _background(pixels: np.ndarray, opacity: np.ndarray) -> float:
    """The level of the transparent pixels in `grey_pixels`."""
    opaque = opacity > 0.5
    level = float(np.median(pixels[opaque])) if opaque.any() else 0.0
    return level if opaque.mean() > 0.5 else float(level < 0.5)


def _notes(paths: Sequence[Path], readings: Sequence[_Reading]) -> list[str]:
    """Each remark with the number of its images, and the first of them."""
    by_remark: dict[str, list[Path]] = defaultdict(list)
    for path, reading in zip(paths, readings):
        for remark in reading.remarks:
            by_remark[remark].append(path)
    return [
        f"{len(noted)} image{'s' * (len(noted) > 1)} {remark}, such as {noted[0]}"
        for remark, noted in by_remark.items()
    ]


def _scales(readings: Sequence[_Reading]) -> dict[str, float]:
    """The white level of each pixel type, from all readings."""
    peaks: dict[str, float] = {}
    for reading in readings:
        if reading.peak is not None:
            peaks[reading.pixel_type] = max(reading.peak, peaks.get(reading.pixel_type, 0))
    return {**_USUAL_SCALES, **{name: full_scale(peak) for name, peak in peaks.items()}}


def _read(path: Path, scales: Mapping[str, float]) -> _Reading:
    """The image of a file, with the white level of its pixel type from `scales`."""
    grey, alpha, counts_for_range, remarks = _decode(path)
    pixel_type = {"L": "8-bit", "F": "float"}.get(grey.mode, "16- or 32-bit")
    scale = scales[pixel_type] if counts_for_range else _USUAL_SCALES[pixel_type]
    pixels = np.asarray(grey)
    if not (np.isfinite(pixels).all() and pixels.min() >= 0):
        raise DataError(f"{path} holds negative, infinite or NaN pixels: repair or remove it")
    if grey.mode != "L" or scale != 255:
        unit = np.minimum(pixels.astype(np.float32) / scale, 1)
        grey = Image.fromarray(np.rint(255 * unit).astype(np.uint8))
        remarks = [f"of {pixel_type} pixels, read as 0 to {scale:g}", *remarks]
    peak = float(pixels.max()) if counts_for_range else None
    if alpha is None:
        on_black = on_white = _resized(grey)
    else:
        on_black, on_white = (_resized(_composite(grey, alpha, level)) for level in (0, 255))
    return _Reading(on_black, on_white, pixel_type, peak, remarks)


def _composite(grey: Image.Image, alpha: Image.Image, background: int) -> Image.Image:
    return Image.composite(grey, Image.new("L", grey.size, background), alpha)


def _resized(grey: Image.Image) -> Tensor:
    """(28, 28), uint8."""
    return torch.from_numpy(np.array(grey.resize((_SIDE, _SIDE))))


def _decode(path: Path) -> _Decoded:
    if not os.path.lexists(path):
        raise DataError(f"{path} is missing")
    try:
        if not path.is_file():
            raise ValueError("it is a broken link or not a file")
        with Image.open(path) as image:
            return _decode_image(image)
    except Exception as fault:  # a damaged file makes Pillow raise errors of almost any class
        message = f"{path} cannot be read as an image ({fault}): repair or remove it"
        raise DataError(message) from fault


def _decode_image(image: Image.Image) -> _Decoded:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        raise ValueError(f"it has {size} pixels, more than {MAX_PIXELS}")
    remarks = [_FRAMES] if getattr(image, "n_frames", 1) > 1 else []
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    remarks += [_TURNED] if orientation in range(2, 9) else []
    return _separate_alpha(ImageOps.exif_transpose(image), remarks)


def _separate_alpha(image: Image.Image, remarks: list[str]) -> _Decoded:
    wide, transparent_value, alpha = image.mode[0] in "IF", image.info.get("transparency"), None
    if wide and transparent_value is not None:
        alpha = Image.fromarray((np.asarray(image) != transparent_value).astype(np.uint8) * 255)
    elif image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
    image.info.pop("transparency", None)  # it is in alpha now
    grey = image if wide else image.convert("L")
    if alpha is None or alpha.getextrema()[0] == 255:
        return _Decoded(grey, None, image.mode != "1", remarks)
    # Transparent pixels may have any value, so that 8-bit images do not show the range.
    return _Decoded(grey, alpha, wide, [*remarks, _TRANSPARENT])
