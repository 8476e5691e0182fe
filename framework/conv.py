"""Convolution of images (replicas, rows, channels, height, width), and flatten."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from framework.errors import at_least_one, check_input, integer, tensor_error
from framework.initialisers import Generators, Initialiser, draw, draw_bias, torch_uniform
from framework.module import Layer
from framework.operations import add_product, product
from framework.parameter import Parameter
from framework.windows import Margins, Pair, crop, fold, margin_of, pad, pair, spans, windows


class Conv2d(Layer):
    """Cross-correlation with `outputs` kernels: (R, B, inputs, H, W) -> (R, B, outputs, H', W').

    H' = (H + 2 padding - dilation (kernel - 1) - 1) / stride + 1, rounded down; W' likewise.

    Each patch of the image becomes a row, so that the convolution is one matrix product ("im2col",
    Chellapilla et al. 2006): y = P W + b, where P is (R, B H' W', inputs * kernel^2).
    Backward: dW = P^T dy, db = the sum of dy over rows and pixels, dP = dy W^T. dx is the sum of
    dP over all patches that contain the pixel.

    W is (R, inputs * kernel^2, outputs); its rows are in the order of channel, row and column.
    `generators` and `initialise` are as for `Linear`. One number stands for height and width, as in
    kernel=3 for (3, 3).

    Args:
        kernel: the height and width of the kernels.
        stride: the distance of neighbouring patches in pixels.
        padding: the width of the margin of zeros, or "same" for outputs of the input's size.
        dilation: the distance of neighbouring pixels of a patch (Yu and Koltun 2016).
        groups: the number of groups of channels. Each group of inputs has its own outputs; W is
            (R, inputs / groups * kernel^2, outputs) (Krizhevsky et al. 2012).
        bias: whether there is a b.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | Pair,
        generators: Generators,
        *,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        initialise: Initialiser = torch_uniform,
    ) -> None:
        self.inputs, outputs = at_least_one("inputs", inputs), at_least_one("outputs", outputs)
        self.kernel = pair("kernel", kernel, at_least_one)
        self.stride = pair("stride", stride, at_least_one)
        self.dilation = pair("dilation", dilation, at_least_one)
        self.groups = at_least_one("groups", groups)
        if inputs % groups or outputs % groups:
            accepted = f"a divisor of {inputs} inputs and {outputs} outputs"
            raise ValueError(f"groups is {groups}, accepted is {accepted}")
        self._margins = self._margins_of(padding)
        self.padding = padding
        top, bottom, left, right = self._margins
        height, width = spans(self.kernel, self.dilation)
        self._smallest = (height - top - bottom, width - left - right)
        size = self.kernel[0] * self.kernel[1]
        fans = (inputs // groups * size, outputs // groups * size)
        self.weight = Parameter(draw(initialise, (fans[0], outputs), fans, generators))
        self.bias: Parameter | None = None
        if bias:
            self.bias = Parameter(draw_bias(outputs, fans, generators, initialise))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.data
        check_input(self, x, (len(weight), "rows", self.inputs, "height", "width"), weight)
        self._check_size(x)
        parts = windows(pad(x, self._margins), self.kernel, self.stride, self.dilation)
        replicas, rows, _, height, width = parts.shape[:5]
        # (R, B, inputs, H', W', *kernel) -> (R, B, H', W', inputs, *kernel)
        patches = parts.permute(0, 1, 3, 4, 2, 5, 6).reshape(replicas, rows * height * width, -1)
        patches = self._grouped(patches)
        y = product(patches, self._grouped(weight), self._bias())
        y = self._ungrouped(y, replicas)  # (R, B H' W', outputs)
        y = y.view(replicas, rows, height, width, -1).permute(0, 1, 4, 2, 3)
        self.keep((patches, x.shape), y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor | None:
        patches, shape = self.take(dy)
        replicas, rows, outputs, height, width = dy.shape
        dy = dy.permute(0, 1, 3, 4, 2).reshape(replicas, rows * height * width, outputs)
        if self.bias is not None:
            self.bias.grad.add_(dy.sum(1, keepdim=True))
        dy = self._grouped(dy)
        self._add_weight_gradient(patches, dy)
        if not input_gradient:
            return None
        dpatches = self._ungrouped(product(dy, self._grouped(self.weight.data).mT), replicas)
        dpatches = dpatches.view(replicas, rows, height, width, self.inputs, *self.kernel)
        dx = margin_of(dpatches, shape, self._margins)
        dwindows = dpatches.permute(0, 1, 4, 2, 3, 5, 6)
        fold(dwindows, dx, self.kernel, self.stride, self.dilation)
        return crop(dx, self._margins)

    def _add_weight_gradient(self, patches: Tensor, dy: Tensor) -> None:
        if self.groups == 1:
            add_product(self.weight.grad, patches, dy)
            return
        replicas = len(self.weight.grad)
        self.weight.grad.add_(self._ungrouped(patches.mT @ dy, replicas))

    def _bias(self) -> Tensor | None:
        return None if self.bias is None else self._grouped(self.bias.data)

    def _grouped(self, x: Tensor) -> Tensor:
        """(R, n, groups * units) -> (R * groups, n, units)."""
        if self.groups == 1:
            return x
        return x.view(*x.shape[:2], self.groups, -1).transpose(1, 2).flatten(0, 1)

    def _ungrouped(self, x: Tensor, replicas: int) -> Tensor:
        """(R * groups, n, units) -> (R, n, groups * units)."""
        if self.groups == 1:
            return x
        return x.view(replicas, -1, *x.shape[1:]).transpose(1, 2).flatten(2)

    def _margins_of(self, padding: int | Pair | str) -> Margins:
        if padding != "same":
            if isinstance(padding, str):
                raise ValueError(f"padding is {padding!r}, accepted is 'same' or whole numbers")
            height, width = pair("padding", padding, partial(integer, at_least=0))
            return height, height, width, width
        if self.stride != (1, 1):
            raise ValueError(f"stride is {self.stride} with padding='same', accepted is 1")
        height, width = spans(self.kernel, self.dilation)
        # of an even size the larger half is below and on the right, as in torch
        return (height - 1) // 2, height // 2, (width - 1) // 2, width // 2

    def _check_size(self, x: Tensor) -> None:
        height, width = self._smallest
        if x.shape[3] < height or x.shape[4] < width:
            square = f"{height} pixels' height and width"
            least = square if height == width else f"({height}, {width}) pixels"
            raise tensor_error("the input of Conv2d", x, f"images of at least {least}")


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
