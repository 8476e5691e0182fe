"""Pooling of images (replicas, rows, channels, height, width)."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from framework.errors import at_least_one, check_input, integer, positive, tensor_error
from framework.module import Layer
from framework.windows import Margins, Pair, crop, fold, margin_of, pad, pair, windows


class _Pool2d(Layer):
    """Base: the windows' settings."""

    def __init__(
        self, kernel: int | Pair, stride: int | Pair | None, padding: int | Pair, ceil_mode: bool
    ) -> None:
        self.kernel = pair("kernel", kernel, at_least_one)
        self.stride = self.kernel if stride is None else pair("stride", stride, at_least_one)
        self.padding = pair("padding", padding, partial(integer, at_least=0))
        self.ceil_mode = ceil_mode
        if any(2 * margin > size for margin, size in zip(self.padding, self.kernel)):
            accepted = f"at most half of the kernel {self.kernel}"
            raise ValueError(f"padding is {self.padding}, accepted is {accepted}")

    def _margins(self, x: Tensor) -> Margins:
        """The padding, and what `ceil_mode` adds to it. ValueError for another x."""
        (top, left), (height, width) = self.padding, self.kernel
        if x.dim() != 5 or x.shape[3] + 2 * top < height or x.shape[4] + 2 * left < width:
            smallest = max(height - 2 * top, width - 2 * left)
            axes = "(replicas, rows, channels, height, width)"
            accepted = f"{axes} of at least {smallest} pixels' height and width"
            raise tensor_error(f"the input of {type(self).__name__}", x, accepted)
        if not self.ceil_mode:
            return top, top, left, left
        return top, top + self._more(x, 0), left, left + self._more(x, 1)

    def _more(self, x: Tensor, axis: int) -> int:
        """The pixels that a last window needs; it begins in the image or in the first margin."""
        margin, kernel, stride = self.padding[axis], self.kernel[axis], self.stride[axis]
        size = x.shape[3 + axis] + 2 * margin
        steps = math.ceil((size - kernel) / stride)
        if steps * stride >= size - margin:
            steps -= 1
        return max(steps * stride + kernel - size, 0)


class MaxPool2d(_Pool2d):
    """The largest value of each window: (R, B, C, H, W) -> (R, B, C, H', W').

    H' and W' are as in `Conv2d`. Backward: dx is the sum of dy over the windows whose largest value
    is this pixel. If several values are the largest, only the first one gets the gradient.

    Args:
        kernel: the height and width of the windows.
        stride: the distance of neighbouring windows in pixels, by default `kernel`.
        padding: the width of the margin of -inf.
        ceil_mode: round H' and W' up: a last window may reach beyond the margin.
    """

    def __init__(
        self,
        kernel: int | Pair,
        stride: int | Pair | None = None,
        *,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel, stride, padding, ceil_mode)

    def forward(self, x: Tensor) -> Tensor:
        margins = self._margins(x)
        padded = pad(x, margins, -math.inf)
        parts = windows(padded, self.kernel, self.stride).flatten(-2)  # (R, B, C, H', W', kernel^2)
        y, index = parts.max(-1)
        self.keep((index, x.shape, margins), y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        index, shape, margins = self.take(dy)
        dx = margin_of(dy, shape, margins)
        (height, width), columns = index.shape[-2:], self.kernel[1]
        top = torch.arange(height, device=dy.device)[:, None] * self.stride[0]
        left = torch.arange(width, device=dy.device) * self.stride[1]
        # the place of the largest value in its window is `index`; its row and column in the image
        # are those in the window plus those of the window's corner
        pixel = (top + index // columns) * dx.shape[-1] + left + index % columns
        dx.flatten(-2).scatter_add_(-1, pixel.flatten(-2), dy.flatten(-2))
        return crop(dx, margins)


class AvgPool2d(_Pool2d):
    """The mean of each window: (R, B, C, H, W) -> (R, B, C, H', W'); dx = dy / n in the window.

    n is the number of the window's pixels in the image and in its padding of zeros. Pixels beyond
    the padding, which `ceil_mode` adds, do not count.

    Args:
        kernel, stride, padding, ceil_mode: as in `MaxPool2d`.
        count_include_pad: whether the padding counts in n.
        divisor: takes the place of n.
    """

    def __init__(
        self,
        kernel: int | Pair,
        stride: int | Pair | None = None,
        *,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor: float | None = None,
    ) -> None:
        super().__init__(kernel, stride, padding, ceil_mode)
        self.count_include_pad = count_include_pad
        self.divisor = None if divisor is None else positive("divisor", divisor)

    def forward(self, x: Tensor) -> Tensor:
        margins = self._margins(x)
        n = self._counts(x, margins)
        y = windows(pad(x, margins), self.kernel, self.stride).sum((-2, -1)) / n
        self.keep((x.shape, margins, n), y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        shape, margins, n = self.take(dy)
        dx = margin_of(dy, shape, margins)
        dwindows = (dy / n)[..., None, None].expand(*dy.shape, *self.kernel)
        fold(dwindows, dx, self.kernel, self.stride)
        return crop(dx, margins)

    def _counts(self, x: Tensor, margins: Margins) -> Tensor | float:
        """The n of each window, (1, 1, 1, H', W'), or one n of all."""
        if self.divisor is not None:
            return self.divisor
        top, left = self.padding if self.count_include_pad else (0, 0)
        padding = (top, top, left, left)
        if margins == padding:
            return self.kernel[0] * self.kernel[1]
        counted = pad(x.new_ones(1, 1, 1, *x.shape[3:]), padding, 1.0)
        rest = (margins[0] - top, margins[1] - top, margins[2] - left, margins[3] - left)
        return windows(pad(counted, rest), self.kernel, self.stride).sum((-2, -1))


class GlobalAvgPool2d(Layer):
    """The mean of each channel: (R, B, C, H, W) -> (R, B, C); dx = dy / (H W).

    Lin et al. 2014, section 3.2.
    """

    def forward(self, x: Tensor) -> Tensor:
        check_input(self, x, ("replicas", "rows", "channels", "height", "width"))
        y = x.mean((3, 4))
        self.keep(x.shape, y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        shape: torch.Size = self.take(dy)
        return (dy / (shape[3] * shape[4]))[..., None, None].expand(shape)
