"""Linear layers and dropout.

In the formulas R is the number of replicas and B that of rows; dx is dL/dx, the gradient of the
loss with respect to x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from framework.errors import at_least_one, check_input, fraction
from framework.initialisers import Generators, Initialiser, as_list, draw, draw_bias, torch_uniform
from framework.module import Layer
from framework.operations import add_product, product
from framework.parameter import Parameter


class Linear(Layer):
    """y = x W + b: (R, B, inputs) -> (R, B, outputs).

    W is (R, inputs, outputs), b is (R, 1, outputs). Backward: dW = x^T dy, db = the sum of dy over
    the rows, dx = dy W^T.

    `generators` is one generator, or one for each replica. Each draws the weights by `initialise`,
    then the biases: as torch does with `torch_uniform`, otherwise biases start at 0.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        generators: Generators,
        *,
        bias: bool = True,
        initialise: Initialiser = torch_uniform,
    ) -> None:
        fans = (at_least_one("inputs", inputs), at_least_one("outputs", outputs))
        self.weight = Parameter(draw(initialise, fans, fans, generators))
        self.bias: Parameter | None = None
        if bias:
            self.bias = Parameter(draw_bias(outputs, fans, generators, initialise))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.data
        try:
            y = product(x, weight, None if self.bias is None else self.bias.data)
        except RuntimeError:
            check_input(self, x, (len(weight), "rows", weight.shape[1]), weight)
            raise
        self.keep(x, y)
        return y

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor | None:
        x: Tensor = self.take(dy)
        add_product(self.weight.grad, x, dy)  # dW += x^T dy
        if self.bias is not None:  # db += the sum of dy over the rows; a single row is its own sum
            self.bias.grad.add_(dy if x.shape[1] == 1 else dy.sum(1, keepdim=True))
        return product(dy, self.weight.data.mT) if input_gradient else None


class Dropout(Layer):
    """y = m x during training, y = x during evaluation; dx = m dy (Srivastava et al. 2014).

    Each value of the mask m is 0 with the given probability, else 1 / (1 - probability). Each
    replica's generator draws a float32 number uniformly from [0, 1) for each unit of each row.
    Within a network that trains, a layer that stays in evaluation has y = x and dx = dy.
    """

    def __init__(self, probability: float, generators: Generators) -> None:
        if fraction("the probability of dropout", probability) == 1:
            raise ValueError(
                f"the probability of dropout is {probability}, accepted is 0 to below 1"
            )
        self.probability, self.generators = probability, as_list(generators)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            self.keep(None, x)
            return x
        if len(x) != len(self.generators):
            check_input(self, x, (len(self.generators), "rows", "units"))
        uniform = torch.empty(x.shape, dtype=torch.float32)  # the mask is the same for any type
        for values, generator in zip(uniform, self.generators):
            torch.rand(values.shape, generator=generator, out=values)
        keep = 1 - self.probability
        mask = (uniform < keep).to(x.device, x.dtype).div_(keep)
        self.keep(mask, x)
        return x * mask

    def backward(self, dy: Tensor, input_gradient: bool = True) -> Tensor:
        mask: Tensor | None = self.take(dy)
        return dy if mask is None else dy * mask
