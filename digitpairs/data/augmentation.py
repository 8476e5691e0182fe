"""Random changes to a batch of pairs, made on the batch's device with an explicit generator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from digitpairs.checks import InvalidValueError, number
from digitpairs.data.pairs import Pairs, less_or_equal

_ELASTIC_NODES = 4  # per side: their distance is wider than a stroke and narrower than a digit


class Augmentation:
    """Transforms each image by itself, and swaps the two images of a pair.

    Args:
        shift: largest shift along each axis, pixels.
        rotation: largest rotation in either direction, degrees, at most 180.
        scale: largest relative change of size, from 0 to below 1.
        shear: largest shear along x in either direction, degrees, at most 89.
        elastic: largest displacement along each axis of a smooth random field, pixels (after
            Simard, Steinkraus and Platt 2003).
        swap: probability that the two images are exchanged, 0 to 1. The target is recomputed from
            the classes, so that a tie stays a tie.

    Each change is drawn uniformly between its bounds. Pixels from outside the image are background
    (0). Raises InvalidValueError for a setting out of bounds.
    """

    def __init__(
        self,
        shift: float = 0,
        rotation: float = 0,
        scale: float = 0,
        shear: float = 0,
        elastic: float = 0,
        swap: float = 0,
    ) -> None:
        self.shift = number("shift", shift)
        self.rotation = number("rotation", rotation, at_most=180)
        self.scale = number("scale", scale)
        if self.scale >= 1:
            raise InvalidValueError("scale", scale, "a number from 0 to below 1")
        self.shear = number("shear", shear, at_most=89)
        self.elastic = number("elastic", elastic)
        self.swap = number("swap", swap, at_most=1)
        self._transforms = any((self.shift, self.rotation, self.scale, self.shear, self.elastic))

    def __bool__(self) -> bool:
        """Whether any setting is above 0."""
        return self._transforms or self.swap > 0

    def __call__(self, pairs: Pairs, generator: torch.Generator) -> Pairs:
        """The pairs with random changes; `generator` is a CPU generator for pairs on any device."""
        if self.swap:
            uniform = torch.rand(len(pairs.target), generator=generator)
            pairs = swap_images(pairs, uniform.to(pairs.images.device) < self.swap)
        if self._transforms:
            images = pairs.images.flatten(0, 1)  # (B, 2, 14, 14) -> (2B, 14, 14)
            grid = self.draw_grid(len(images), images.shape[-1], generator).to(images)
            pairs = pairs._replace(images=resample(images, grid).view_as(pairs.images))
        return pairs

    def draw_grid(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        """Random sampling grids for `resample`, (count, side, side, 2).

        A grid has for each pixel the x and y it is sampled from, -1 to 1 over the image.
        """
        # In bfloat16, pixels would be misplaced, and runs on a GPU would draw other grids.
        with torch.autocast("cpu", enabled=False):
            return self._draw_grid(count, side, generator)

    def _draw_grid(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(5, count, generator=generator) * 2 - 1
        pixel = 2 / side
        theta = affine(
            angle=uniform[0] * math.radians(self.rotation),
            shear=uniform[1] * math.radians(self.shear),
            scale=1 + uniform[2] * self.scale,
            shift=uniform[3:].T * self.shift * pixel,
        )
        grid = F.affine_grid(theta, [count, 1, side, side], align_corners=False)
        if self.elastic:
            shape = (count, 2, _ELASTIC_NODES, _ELASTIC_NODES)
            nodes = torch.rand(shape, generator=generator) * 2 - 1
            field = F.interpolate(nodes, (side, side), mode="bilinear", align_corners=True)
            grid = grid + field.permute(0, 2, 3, 1) * self.elastic * pixel
        return grid


def affine(angle: Tensor, shear: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The matrices (n, 2, 3) for `F.affine_grid` that shear, then rotate, scale and shift.

    Angles (n,) are in radians, clockwise on the screen; shift (n, 2) is in half image sides. The
    content is mapped by A x + shift, so a pixel at x is sampled from A^-1 (x - shift).
    """
    cos, sin, tan = angle.cos(), angle.sin(), shear.tan()
    # A = scale * rotation * [[1, -tan], [0, 1]], and its determinant is scale ** 2.
    entries = torch.stack([cos - tan * sin, sin + tan * cos, -sin, cos], -1)
    inverse = entries.view(-1, 2, 2) / scale.view(-1, 1, 1)
    return torch.cat([inverse, -inverse @ shift[:, :, None]], -1)


def resample(images: Tensor, grid: Tensor) -> Tensor:
    """Images (n, side, side) sampled bilinearly at `grid` (n, side, side, 2), zero outside."""
    sampled = F.grid_sample(
        images[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return sampled[:, 0]


def swap_images(pairs: Pairs, swapped: Tensor) -> Pairs:
    """The pairs with the images exchanged where `swapped` (B,) is true, and new targets."""
    images = torch.where(swapped[:, None, None, None], pairs.images.flip(1), pairs.images)
    digits = torch.where(swapped[:, None], pairs.digits.flip(1), pairs.digits)
    return Pairs(images, digits, less_or_equal(digits))
