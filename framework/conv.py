"""Layers of images (replicas, rows, channels, height, width): convolution, max-pooling, flatten."""

from __future__ import annotations

import torch
from torch import Tensor

from framework.errors import at_least_one, check_input, integer, tensor_error
from framework.initialisers import Generators, Initialiser, draw, draw_bias, torch_uniform
from framework.module import Layer
from framework.operations import add_product, product
from framework.parameter import Parameter


class Conv2d(Layer):
    """Cross-correlation with `outputs` kernels: (R, B, inputs, H, W) -> (R, B, outputs, H', W').

    H' = (H + 2 padding - kernel) / stride + 1, rounded down; W' likewise.

    Each patch of the image becomes a row, so that the convolution is one matrix product ("im2col",
    Chellapilla et al. 2006): y = P W + b, where P is (R, B H' W', inputs * kernel^2).
    Backward: dW = P^T dy, db = the sum of dy over rows and pixels, dP = dy W^T. dx is the sum of
    dP over all patches that contain the pixel.

    W is (R, inputs * kernel^2, outputs); its rows are in the order of channel, row and column.
    `kernel` is the height and width of the kernels, `stride` the distance of neighbouring patches
    and `padding` the width of the margin of zeros, in pixels. `generators` and `initialise` are as
    for `Linear`.
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
        self.inputs, outputs = at_least_one("inputs", inputs), at_least_one("outputs", outputs)
        self.padding = integer("padding", padding, at_least=0)
        self.kernel, self.stride = at_least_one("kernel", kernel), at_least_one("stride", stride)
        fans = (inputs * kernel**2, outputs * kernel**2)
        self.weight = Parameter(draw(initialise, (fans[0], outputs), fans, generators))
        self.bias = Parameter(draw_bias(outputs, fans, generators, initialise))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.data
        check_input(self, x, (len(weight), "rows", self.inputs, "height", "width"), weight)
        if min(x.shape[3:]) + 2 * self.padding < self.kernel:
            smallest = self.kernel - 2 * self.padding
            accepted = f"images of at least {smallest} pixels' height and width"
            raise tensor_error("the input of Conv2d", x, accepted)
        windows = _windows(_pad(x, self.padding), self.kernel, self.stride)
        replicas, rows, _, height, width = windows.shape[:5]
        # (R, B, inputs, H', W', kernel, kernel) -> (R, B, H', W', inputs, kernel, kernel)
        patches = windows.permute(0, 1, 3, 4, 2, 5, 6).reshape(replicas, rows * height * width, -1)
        y = product(patches, weight, self.bias.data)  # (R, B H' W', outputs)
        y = y.view(replicas, rows, height, width, -1).permute(0, 1, 4, 2, 3)
        self.keep((patches, x.shape), y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor | None:
        patches, shape = self.take(dy)
        replicas, rows, outputs, height, width = dy.shape
        dy = dy.permute(0, 1, 3, 4, 2).reshape(replicas, rows * height * width, outputs)
        add_product(self.weight.grad, patches, dy)
        self.bias.grad.add_(dy.sum(1, keepdim=True))
        if not input_gradient:
            return None
        dpatches = product(dy, self.weight.data.mT)
        dpatches = dpatches.view(
            replicas, rows, height, width, self.inputs, self.kernel, self.kernel
        )
        return self._fold(dpatches.permute(0, 1, 4, 2, 3, 5, 6), shape)

    def _fold(self, dwindows: Tensor, shape: torch.Size) -> Tensor:
        """Sum the gradients of all windows that contain a pixel.

        (R, B, inputs, H', W', kernel, kernel) -> `shape`, (R, B, inputs, H, W).
        """
        dx = _zeros(dwindows, shape, self.padding)
        shifted = _windows(dx, self.kernel, self.stride)
        for i in range(self.kernel):
            for j in range(self.kernel):
                shifted[..., i, j].add_(dwindows[..., i, j])
        return _crop(dx, self.padding)


class MaxPool2d(Layer):
    """The largest value of each window: (R, B, C, H, W) -> (R, B, C, H', W').

    H' and W' are as in `Conv2d` without padding. Backward: dx is the sum of dy over the windows
    whose largest value is this pixel. If several values are the largest, only the first one gets
    the gradient.

    `kernel` is the height and width of the windows, and `stride` the distance of neighbouring ones
    in pixels, by default `kernel`.
    """

    def __init__(self, kernel: int, stride: int | None = None) -> None:
        self.kernel = at_least_one("kernel", kernel)
        self.stride = kernel if stride is None else at_least_one("stride", stride)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 5 or min(x.shape[3:]) < self.kernel:
            axes = "(replicas, rows, channels, height, width)"
            accepted = f"{axes} of at least {self.kernel} pixels' height and width"
            raise tensor_error("the input of MaxPool2d", x, accepted)
        windows = _windows(x, self.kernel, self.stride).flatten(-2)  # (R, B, C, H', W', kernel^2)
        y, index = windows.max(-1)
        self.keep((index, x.shape), y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        index, shape = self.take(dy)
        height, width = index.shape[-2:]
        top = torch.arange(height, device=dy.device)[:, None] * self.stride
        left = torch.arange(width, device=dy.device) * self.stride
        pixel = (top + index // self.kernel) * shape[-1] + left + index % self.kernel
        dx = dy.new_zeros(*shape[:3], shape[3] * shape[4])
        return dx.scatter_add_(-1, pixel.flatten(-2), dy.flatten(-2)).view(shape)


class Flatten(Layer):
    """(R, B, ...) -> (R, B, units), such as images to units."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 3:
            raise tensor_error("the input of Flatten", x, "(replicas, rows, ...)")
        y = x.flatten(2)
        self.keep(x.shape, y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        return dy.view(self.take(dy))


def _pad(x: Tensor, padding: int) -> Tensor:
    """Add rows and columns of zeros on each side of the images."""
    if not padding:
        return x
    padded = _zeros(x, x.shape, padding)
    _crop(padded, padding).copy_(x)
    return padded


def _crop(x: Tensor, padding: int) -> Tensor:
    """Remove rows and columns on each side of the images; a view."""
    height, width = x.shape[3:]
    return x[..., padding : height - padding, padding : width - padding]


def _zeros(like: Tensor, shape: torch.Size, padding: int) -> Tensor:
    """Images (R, B, C, H, W) of zeros, with the type of `like`, and padding on each side."""
    *axes, height, width = shape
    return like.new_zeros(*axes, height + 2 * padding, width + 2 * padding)


def _windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """(R, B, C, H, W) -> (R, B, C, H', W', kernel, kernel), a view."""
    return x.unfold(3, kernel, stride).unfold(4, kernel, stride)
