"""Windows of images (replicas, rows, channels, height, width), and the sum over windows."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Pair = tuple[int, int]  # of height and width
Margins = tuple[int, int, int, int]  # pixels above, below, left and right of the image


def pair(name: str, value: int | Pair, check: Callable[[str, int], int]) -> Pair:
    """A setting of height and width from one number or two; `check` raises ValueError."""
    if not isinstance(value, (tuple, list)):
        return check(name, value), check(name, value)
    if len(value) != 2:
        raise ValueError(f"{name} is {value!r}, accepted is one whole number or two")
    return check(name, value[0]), check(name, value[1])


def pad(x: Tensor, margins: Margins, value: float = 0.0) -> Tensor:
    """Add pixels of this value around the images."""
    if not any(margins):
        return x
    padded = margin_of(x, x.shape, margins, value)
    crop(padded, margins).copy_(x)
    return padded


def margin_of(like: Tensor, shape: tuple[int, ...], margins: Margins, value: float = 0.0) -> Tensor:
    """Images of one value: `shape`, (R, B, C, H, W), with the margins, and the type of `like`."""
    *axes, height, width = shape
    top, bottom, left, right = margins
    return like.new_full((*axes, height + top + bottom, width + left + right), value)


def crop(x: Tensor, margins: Margins) -> Tensor:
    """Remove the margins; a view."""
    if not any(margins):
        return x
    top, bottom, left, right = margins
    height, width = x.shape[3:]
    return x[..., top : height - bottom, left : width - right]


def windows(x: Tensor, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Tensor:
    """(R, B, C, H, W) -> (R, B, C, H', W', *kernel), a view."""
    if dilation == (1, 1):
        return x.unfold(3, kernel[0], stride[0]).unfold(4, kernel[1], stride[1])
    height, width = spans(kernel, dilation)
    x = x.unfold(3, height, stride[0]).unfold(4, width, stride[1])
    return x[..., :: dilation[0], :: dilation[1]]


def spans(kernel: Pair, dilation: Pair) -> Pair:
    """The height and width in pixels that a dilated window covers."""
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1


def fold(dwindows: Tensor, dx: Tensor, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> None:
    """Add to each pixel of dx the gradients of all windows that contain it, as `windows` has them.

    dwindows is (R, B, C, H', W', *kernel), and dx (R, B, C, H, W).
    """
    shifted = windows(dx, kernel, stride, dilation)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            shifted[..., i, j].add_(dwindows[..., i, j])
