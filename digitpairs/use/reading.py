"""Reading of a digit on a page of any size, as MNIST's makers read theirs.

A page is a photograph, a scan or a drawing with one digit: of either polarity, with margins, noise
and uneven light. The digit is found, scaled to a box of 20x20 pixels, and centred in 28x28 by its
centre of mass (LeCun et al. 1998, Gradient-based learning applied to document recognition, III.A).
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from digitpairs.checks import DataError

SIDE, BOX = 28, 20  # of the image that is returned and of the digit in it, in pixels
CENTRE = 14  # row and column of the centre of mass, in MNIST to within half a pixel
WORKING_SIDE = 400  # a larger page is reduced to it, which keeps a digit of a tenth of the page
_GRID = 50  # rows and columns from which the background is estimated
_LEAST_CONTRAST = 0.1  # between ink and paper, where black and white have 1
_LEAST_AREA = 0.03  # of the largest part; smaller separate parts are specks
_THIN = 2.0  # pixels of the 20x20 box; 6 % of MNIST's digits have thinner strokes


def read_digit(page: np.ndarray, name: str = "the image") -> np.ndarray:
    """The digit on a page (height, width) of floats in [0, 1] as MNIST stores it, (28, 28) uint8.

    The result has light ink on black, whatever the page's polarity. Raises DataError, with the
    `name`, for a page without a digit.
    """
    ink = find_ink(_reduced(page), name)
    rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    thick = _thickened(digit, max(digit.shape) / BOX)
    return _centred(thick, max(thick.shape) / BOX)


def find_ink(page: np.ndarray, name: str = "the image") -> np.ndarray:
    """How much ink is at each pixel of a page, in [0, 1] and 0 outside the digit."""
    smooth = ndimage.gaussian_filter(page, max(page.shape) / 300, mode="nearest")  # less noise
    contrast = smooth - background(smooth)
    if (contrast**3).sum() < 0:  # ink covers less than paper, and deviates more
        contrast = -contrast
    ink = contrast > otsu_threshold(contrast)
    level = float(np.median(contrast[ink])) if ink.any() else 0.0
    if level < _LEAST_CONTRAST:
        raise DataError(f"{name} has no digit: there is no contrast between ink and paper")
    return np.where(_strokes(ink, contrast > level / 4), contrast / level, 0).clip(0, 1)


def background(page: np.ndarray) -> np.ndarray:
    """The levels of the page without ink: a quadratic surface.

    It is fitted several times to a grid of pixels, each time without those far from the last fit.
    """
    rows, columns = (np.linspace(0, side - 1, min(side, _GRID)).astype(int) for side in page.shape)
    y, x = (np.linspace(-1, 1, side) for side in page.shape)
    terms = _quadratic(y[rows], x[columns]).reshape(6, -1).T
    levels = page[np.ix_(rows, columns)].ravel()
    distance = np.abs(levels - np.median(levels))
    for _ in range(6):
        kept = distance <= max(2.5 * float(np.median(distance)), 0.02)
        coefficients = np.linalg.lstsq(terms[kept], levels[kept], rcond=None)[0]
        distance = np.abs(levels - terms @ coefficients)
    return np.tensordot(coefficients, _quadratic(y, x), 1)


def otsu_threshold(values: np.ndarray) -> float:
    """The threshold with the largest variance between the two classes (Otsu 1979)."""
    counts, edges = np.histogram(values, 256)
    below, sums = counts.cumsum(), (counts * (edges[1:] + edges[:-1]) / 2).cumsum()
    above = below[-1] - below
    inner = (below > 0) & (above > 0)
    means = sums[inner] / below[inner], (sums[-1] - sums[inner]) / above[inner]
    between = below[inner] * above[inner] * (means[0] - means[1]) ** 2
    return float(edges[1:][inner][between.argmax()]) if inner.any() else float(edges[-1])


def _quadratic(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The terms 1, x, y, x^2, xy, y^2 on a grid, (6, rows, columns)."""
    x, y = np.meshgrid(x, y)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])


def _strokes(ink: np.ndarray, faint: np.ndarray) -> np.ndarray:
    """The pixels of the digit: its parts with their faint edges.

    Specks are left out, and what touches the edge of the page, unless all parts do.
    """
    parts, count = ndimage.label(faint, np.ones((3, 3)))
    areas = np.bincount(parts[ink], minlength=count + 1)
    areas[0] = 0
    inside = areas.copy()
    inside[np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])] = 0
    areas = inside if inside.any() else areas
    return np.isin(parts, np.flatnonzero(areas > _LEAST_AREA * areas.max()))


def _thickened(ink: np.ndarray, scale: float) -> np.ndarray:
    """The ink with strokes of at least _THIN pixels of the box, each of `scale` pixels."""
    depth = ndimage.distance_transform_edt(np.pad(ink, 1) > 0.5)
    width = 4 * depth.sum() / max(1, np.count_nonzero(depth))  # the mean depth is a quarter of it
    missing = round(_THIN * scale - width)
    if missing < 1:
        return ink
    return ndimage.grey_dilation(np.pad(ink, missing), (missing + 1, missing + 1))


def _centred(digit: np.ndarray, scale: float) -> np.ndarray:
    """The digit in 28x28 pixels, each of `scale` pixels, moved by whole pixels to the centre."""
    offsets = [
        CENTRE - round((centre + 0.5) / scale - 0.5) for centre in ndimage.center_of_mass(digit)
    ]
    margin = int(SIDE * scale) + 1  # the frame is within the padded image wherever the centre is
    padded = Image.fromarray(np.pad(digit, margin).astype(np.float32))
    top, left = (margin - offset * scale for offset in offsets)
    frame = (left, top, left + SIDE * scale, top + SIDE * scale)
    small = np.asarray(padded.resize((SIDE, SIDE), Image.Resampling.BOX, box=frame))
    return np.rint(255 * small / small.max()).astype(np.uint8)


def _reduced(page: np.ndarray) -> np.ndarray:
    """The page with at most WORKING_SIDE pixels a side."""
    factor = WORKING_SIDE / max(page.shape)
    if factor >= 1:
        return page
    size = tuple(max(1, round(side * factor)) for side in reversed(page.shape))
    return np.asarray(Image.fromarray(page.astype(np.float32)).resize(size, Image.Resampling.BOX))
