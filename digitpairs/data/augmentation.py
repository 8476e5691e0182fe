"""Random changes to a batch of pairs, on the batch and on its device, from an explicit generator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from digitpairs.checks import InvalidValueError, number
from digitpairs.data.pairs import Pairs, less_or_equal

_COARSE = 4  # nodes a side of the elastic field: wider than a stroke, narrower than a digit


class Augmentation:
    """Moves every image by itself, and swaps the two images of a pair.

    Args:
        shift: largest shift along each axis, pixels.
        rotation: largest rotation either way, degrees.
        scale: largest relative change of size, from 0 to below 1.
        shear: largest shear along x either way, degrees, below 90.
        elastic: largest displacement along each axis of a smooth random field (after Simard, Steinkraus and Platt 2003), pixels.
        swap: probability that the two images change places, 0 to 1; the target then follows from the classes, so
            that a tie stays a tie.

    Every change is uniform between its bounds. What comes in from outside the image is background (0).
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
        self._moves = any((self.shift, self.rotation, self.scale, self.shear, self.elastic))

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self._moves or self.swap > 0

    def __call__(self, pairs: Pairs, generator: torch.Generator) -> Pairs:
        """The pairs changed at random; `generator` is a CPU generator, whatever the pairs' device."""
        if self.swap:
            swapped = (
                torch.rand(len(pairs.target), generator=generator).to(pairs.images.device)
                < self.swap
            )
            pairs = swap_images(pairs, swapped)
        if self._moves:
            images = pairs.images.flatten(0, 1)  # (B, 2, 14, 14) -> (2B, 14, 14)
            grid = self.draw_grid(len(images), images.shape[-1], generator).to(images)
            pairs = pairs._replace(images=move(images, grid).view_as(pairs.images))
        return pairs

    def draw_grid(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        """For each image, where each pixel is fetched from: (count, side, side, 2), x and y, -1 to 1 over the image."""
        with torch.autocast(
            "cpu", enabled=False
        ):  # bf16 would misplace pixels, and a GPU's run would draw other grids
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
        grid = F.affine_grid(theta, (count, 1, side, side), align_corners=False)
        if self.elastic:
            nodes = torch.rand(count, 2, _COARSE, _COARSE, generator=generator) * 2 - 1
            field = F.interpolate(nodes, (side, side), mode="bilinear", align_corners=True)
            grid = grid + field.permute(0, 2, 3, 1) * self.elastic * pixel
        return grid


def affine(angle: Tensor, shear: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The matrices (n, 2, 3) that `F.affine_grid` wants for shear, then rotation, scale and shift.

    Angles (n,) in radians, clockwise on the screen; shift (n, 2) in units of half an image. The content moves by
    A x + shift, so that each pixel is fetched from A^-1 (x - shift).
    """
    cos, sin, tan = angle.cos(), angle.sin(), shear.tan()
    # A = scale * rotation * [[1, -tan], [0, 1]]; its inverse by hand, since the determinant is scale ** 2.
    inverse = torch.stack([cos - tan * sin, sin + tan * cos, -sin, cos], -1).view(
        -1, 2, 2
    ) / scale.view(-1, 1, 1)
    return torch.cat([inverse, -inverse @ shift[:, :, None]], -1)


def move(images: Tensor, grid: Tensor) -> Tensor:
    """Images (n, side, side) fetched bilinearly at `grid` (n, side, side, 2), zero outside."""
    return F.grid_sample(
        images[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )[:, 0]


def swap_images(pairs: Pairs, swapped: Tensor) -> Pairs:
    """The pairs with the two images exchanged where `swapped` (B,) is true; the target follows from the classes."""
    images = torch.where(swapped[:, None, None, None], pairs.images.flip(1), pairs.images)
    digits = torch.where(swapped[:, None], pairs.digits.flip(1), pairs.digits)
    return Pairs(images, digits, less_or_equal(digits))
