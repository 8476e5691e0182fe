"""Layers of images, (replicas, rows, channels, height, width): convolution, max-pooling, and flat units out of images."""

from __future__ import annotations

import torch
from torch import Tensor

from framework.errors import at_least_one, check_input, not_negative, refuse
from framework.initialisers import Generators, Initialiser, draw, draw_bias, torch_uniform
from framework.module import Module, Parameter
from framework.operations import add_product, product


class Conv2d(Module):
    """Cross-correlation with `outputs` kernels: (R, B, inputs, H, W) -> (R, B, outputs, H', W'), H' = (H + 2 padding - kernel) /
    stride + 1, rounded down.

    Each patch becomes a row, so that the convolution is one matrix product ("im2col", Chellapilla et al. 2006): y = P W + b,
    P (R, B H' W', inputs kernel^2). Backward: dW = P^T dy, db = the sum of dy, and dP = dy W^T, whose patches are added where they
    came from.

    Args: see `Linear`; the weight is (R, inputs * kernel^2, outputs), its rows in the order of channel, row, column.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        generators: Generators,
        *,
        stride: int = 1,
        padding: int = 0,
        initialise: Initialiser = torch_uniform,
    ) -> None:
        self.inputs, self.padding = inputs, int(not_negative("padding", padding))
        self.kernel, self.stride = at_least_one("kernel", kernel), at_least_one("stride", stride)
        fans = (inputs * kernel**2, outputs * kernel**2)
        self.weight = Parameter(draw(initialise, (fans[0], outputs), fans, generators))
        self.bias = Parameter(draw_bias(outputs, fans, generators, initialise))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.data
        check_input(self, x, (len(weight), "rows", self.inputs, "height", "width"), weight)
        if min(x.shape[3:]) + 2 * self.padding < self.kernel:
            raise refuse(
                "the input of Conv2d",
                x,
                f"images of at least {self.kernel - 2 * self.padding} pixels' height and width",
            )
        windows = _windows(
            _padded(x, self.padding), self.kernel, self.stride
        )  # (R, B, inputs, H', W', kernel, kernel)
        replicas, rows, _, height, width = windows.shape[:5]
        patches = windows.permute(0, 1, 3, 4, 2, 5, 6).reshape(replicas, rows * height * width, -1)
        self._keep((patches, x.shape))
        y = product(patches, weight, self.bias.data)  # (R, B H' W', outputs)
        return y.view(replicas, rows, height, width, -1).permute(0, 1, 4, 2, 3)

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor | None:
        patches, shape = self._take()
        replicas, rows, outputs, height, width = dy.shape
        flat = dy.permute(0, 1, 3, 4, 2).reshape(replicas, rows * height * width, outputs)
        add_product(self.weight.grad, patches, flat)
        self.bias.grad.add_(flat.sum(1, keepdim=True))
        if not input_gradient:
            return None
        dpatches = product(flat, self.weight.data.mT).view(
            replicas, rows, height, width, self.inputs, self.kernel, self.kernel
        )
        return self._added(dpatches.permute(0, 1, 4, 2, 3, 5, 6), shape)

    def _added(self, dwindows: Tensor, shape: torch.Size) -> Tensor:
        """(R, B, inputs, H', W', kernel, kernel) -> (R, B, inputs, H, W): what each pixel gets from all windows that show it."""
        replicas, rows, inputs, height, width = shape
        dx = dwindows.new_zeros(
            replicas, rows, inputs, height + 2 * self.padding, width + 2 * self.padding
        )
        down, across = (self.stride * (size - 1) + 1 for size in dwindows.shape[3:5])
        for i in range(self.kernel):
            for j in range(self.kernel):
                dx[..., i : i + down : self.stride, j : j + across : self.stride].add_(
                    dwindows[..., i, j]
                )
        return dx[..., self.padding : self.padding + height, self.padding : self.padding + width]


class MaxPool2d(Module):
    """The largest value of each window; its gradient goes to the place where that stood, the first of several.

    (R, B, C, H, W) -> (R, B, C, H', W') as in `Conv2d`, without padding; the stride is the window's size unless given.
    """

    def __init__(self, kernel: int, stride: int | None = None) -> None:
        self.kernel = at_least_one("kernel", kernel)
        self.stride = kernel if stride is None else at_least_one("stride", stride)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 5 or min(x.shape[3:]) < self.kernel:
            raise refuse(
                "the input of MaxPool2d",
                x,
                f"(replicas, rows, channels, height, width) of at least {self.kernel} pixels' height and width",
            )
        windows = _windows(x, self.kernel, self.stride).flatten(-2)  # (R, B, C, H', W', kernel^2)
        y, place = windows.max(-1)
        self._keep((place, x.shape))
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        place, shape = self._take()
        height, width = place.shape[-2:]
        top = torch.arange(height, device=dy.device)[:, None] * self.stride
        left = torch.arange(width, device=dy.device) * self.stride
        pixel = (top + place // self.kernel) * shape[-1] + left + place % self.kernel
        dx = dy.new_zeros(*shape[:3], shape[3] * shape[4])
        return dx.scatter_add_(-1, pixel.flatten(-2), dy.flatten(-2)).view(shape)


class Flatten(Module):
    """(R, B, channels, height, width) -> (R, B, units)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 3:
            raise refuse("the input of Flatten", x, "(replicas, rows, ...)")
        self._keep(x.shape)
        return x.flatten(2)

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        return dy.view(self._take())


def _padded(x: Tensor, padding: int) -> Tensor:
    """With so many zeros on each side of the last two axes."""
    if not padding:
        return x
    padded = x.new_zeros(*x.shape[:3], x.shape[3] + 2 * padding, x.shape[4] + 2 * padding)
    padded[..., padding:-padding, padding:-padding] = x
    return padded


def _windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """(R, B, C, H, W) -> a view (R, B, C, H', W', kernel, kernel)."""
    return x.unfold(3, kernel, stride).unfold(4, kernel, stride)
