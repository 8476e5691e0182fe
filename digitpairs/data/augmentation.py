"""Random changes to a batch of pairs, made on the batch's device with explicit generators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from digitpairs.checks import InvalidValueError, integer, number
from digitpairs.data.pairs import Pairs, less_or_equal
from digitpairs.data.sources import SIDE

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
        erase: side of a square that becomes background, whole pixels (Cutout, DeVries and Taylor
            2017). Its centre is any pixel, and the image's border cuts it off.

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
        erase: int = 0,
    ) -> None:
        self.shift = number("shift", shift)
        self.rotation = number("rotation", rotation, at_most=180)
        self.scale = number("scale", scale)
        if self.scale >= 1:
            raise InvalidValueError("scale", scale, "a number from 0 to below 1")
        self.shear = number("shear", shear, at_most=89)
        self.elastic = number("elastic", elastic)
        self.swap = number("swap", swap, at_most=1)
        self.erase = integer("erase", erase, at_most=SIDE)
        self.transforms = any((self.shift, self.rotation, self.scale, self.shear, self.elastic))

    def __bool__(self) -> bool:
        """Whether any setting is above 0."""
        return self.transforms or self.swap > 0 or self.erase > 0

    def __call__(self, pairs: Pairs, generator: torch.Generator) -> Pairs:
        """The pairs with random changes; `generator` is a CPU generator for pairs on any device."""
        array = Pairs(*(tensor[None] for tensor in pairs))
        return Pairs(*(tensor[0] for tensor in augment(array, [self], [generator])))

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """The random numbers of `count` pairs; those of settings that are off are not drawn."""
        images = 2 * count
        return Draws(
            torch.rand(count, generator=generator) < self.swap if self.swap else None,
            self._draw_matrices(images, generator) if self.transforms else None,
            _draw_nodes(images, generator) if self.elastic else None,
            torch.randint(SIDE, (images, 2), generator=generator) if self.erase else None,
        )

    def _draw_matrices(self, images: int, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(5, images, generator=generator) * 2 - 1
        return affine(
            angle=uniform[0] * math.radians(self.rotation),
            shear=uniform[1] * math.radians(self.shear),
            scale=1 + uniform[2] * self.scale,
            shift=uniform[3:].T * self.shift * (2 / SIDE),
        )


class Draws(NamedTuple):
    """The random numbers of a batch of B pairs. None: a setting is off."""

    swapped: Tensor | None  # (B,) bool
    matrices: Tensor | None  # (2B, 2, 3), see `affine`
    nodes: Tensor | None  # (2B, 2, nodes, nodes), displacements from -1 to 1
    centres: Tensor | None  # (2B, 2) int64, the row and the column of the erased square's centre


def augment(
    pairs: Pairs, augmentations: Sequence[Augmentation], generators: Sequence[torch.Generator]
) -> Pairs:
    """The pairs of an array (members, B, ...), each member's with its own random changes.

    A member's changes are drawn from its own generator, and are the same bits in every array. They
    are made to the images of all members at once.
    """
    count, device = pairs.target.shape[1], pairs.images.device
    # In bfloat16, pixels would be misplaced, and runs on a GPU would draw other grids.
    with torch.autocast("cpu", enabled=False):
        draws = [each.draw(count, own) for each, own in zip(augmentations, generators)]
        swapped, matrices, nodes, centres = map(_stacked, zip(*draws))
        grid = None
        if matrices is not None:
            grid = sampling_grid(matrices, nodes, [each.elastic for each in augmentations])
    if swapped is not None:
        pairs = swap_images(pairs, swapped.to(device))
    images = pairs.images.flatten(1, 2)  # (members, B, 2, 14, 14) -> (members, 2B, 14, 14)
    if grid is not None:
        moved = resample(images.flatten(0, 1), grid.flatten(0, 1).to(images)).view_as(images)
        images = _where([each.transforms for each in augmentations], moved, images)
    if centres is not None:
        sides = torch.tensor([each.erase for each in augmentations], device=device)
        images = erase(images, centres.to(device), sides)
    return pairs._replace(images=images.view_as(pairs.images))


def sampling_grid(matrices: Tensor, nodes: Tensor | None, elastic: Sequence[float]) -> Tensor:
    """The grids for `resample` of an array, (members, n, 14, 14, 2).

    A grid has for each pixel the x and y it is sampled from, -1 to 1 over the image.

    Args:
        matrices: (members, n, 2, 3), see `affine`.
        nodes: displacements from -1 to 1 on a coarse grid, (members, n, 2, nodes, nodes).
        elastic: the largest displacement of each member, pixels.
    """
    flat = matrices.flatten(0, 1)
    grid = F.affine_grid(flat, [len(flat), 1, SIDE, SIDE], align_corners=False)
    grid = grid.view(*matrices.shape[:2], SIDE, SIDE, 2)
    if nodes is not None:
        # With x and y last in memory this takes two thirds of the time, and the sum an eighth.
        flat = nodes.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        field = F.interpolate(flat, (SIDE, SIDE), mode="bilinear", align_corners=True)
        pixels = torch.tensor(elastic).view(-1, 1, 1, 1, 1)
        grid += field.permute(0, 2, 3, 1).view_as(grid).mul_(pixels).mul_(2 / SIDE)
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


def _draw_nodes(images: int, generator: torch.Generator) -> Tensor:
    shape = (images, 2, _ELASTIC_NODES, _ELASTIC_NODES)
    return torch.rand(shape, generator=generator) * 2 - 1


def resample(images: Tensor, grid: Tensor) -> Tensor:
    """Images (n, side, side) sampled bilinearly at `grid` (n, side, side, 2), zero outside."""
    sampled = F.grid_sample(
        images[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return sampled[:, 0]


def _where(members: Sequence[bool], changed: Tensor, images: Tensor) -> Tensor:
    """The changed images of these members, and the images of the others as they are."""
    if all(members):
        return changed
    chosen = torch.tensor(members, device=images.device)
    return torch.where(chosen[:, None, None, None], changed, images)


def swap_images(pairs: Pairs, swapped: Tensor) -> Pairs:
    """The pairs with the images exchanged where `swapped` (..., B) is true, and new targets."""
    images = torch.where(swapped[..., None, None, None], pairs.images.flip(-3), pairs.images)
    digits = torch.where(swapped[..., None], pairs.digits.flip(-1), pairs.digits)
    return Pairs(images, digits, less_or_equal(digits))


def erase(images: Tensor, centres: Tensor, sides: Tensor) -> Tensor:
    """The images with a square of zeros each.

    Args:
        images: (members, n, side, side).
        centres: row and column of the squares' centres, (members, n, 2). The centre of an even side
            is the lower right one of the four in the middle.
        sides: of each member's squares, (members,); 0 erases nothing.
    """
    sides = sides.view(-1, 1, 1, 1)
    first = centres[..., None] - sides // 2  # (members, n, 2, 1)
    pixels = torch.arange(images.shape[-1], device=images.device)
    within = (pixels >= first) & (pixels < first + sides)  # (members, n, 2, side)
    rows, columns = within.unbind(2)
    return images.masked_fill(rows[..., :, None] & columns[..., None, :], 0.0)


def _stacked(members: Sequence[Tensor | None]) -> Tensor | None:
    """The members' tensors on a new first axis, zeros for members without; None without any."""
    like = next((member for member in members if member is not None), None)
    if like is None:
        return None
    return torch.stack([torch.zeros_like(like) if each is None else each for each in members])
