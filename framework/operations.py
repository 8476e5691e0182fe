"""Operations whose results do not depend on the number of replicas, bit for bit, on one thread.

The same is true of torch's operations, with three exceptions that differ in the last bits:

- The matrix products of MKL, torch's library on x86, depend on the memory address of the matrices
  unless MKL_CBWR is set.
- A product with a matrix of one column, unless it is small, uses another kernel for one replica
  than for several.
- The sigmoid uses another kernel for a tensor's last elements than for the others.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from framework.errors import shape_of

os.environ.setdefault("MKL_CBWR", "AUTO")  # MKL reads it at its first call, after torch's import

SMALL = 256  # multiplications a replica; below 400 torch uses one loop for any number of replicas


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x W + b: (R, B, inputs), (R, inputs, outputs), (R, 1, outputs) -> (R, B, outputs).

    RuntimeError for other shapes, and for tensors of different types.
    """
    if weight.shape[2] > 1 or x.numel() < SMALL * weight.shape[0]:
        return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias, x, weight)
    if x.dim() != 3 or x.shape[::2] != weight.shape[:2] or x.dtype != weight.dtype:
        raise RuntimeError(f"{shape_of(x)} cannot be multiplied by {shape_of(weight)}")
    # W is one column w, so each value of y is a sum over the inputs: y = x_1 w_1 + x_2 w_2 + ...
    y = (x * weight.mT).sum(2, keepdim=True)
    return y if bias is None else y.add_(bias)


def add_product(total: Tensor, x: Tensor, dy: Tensor) -> None:
    """Add x^T dy to `total`: (R, B, inputs) and (R, B, outputs) -> (R, inputs, outputs)."""
    if total.shape[2] > 1:
        total.baddbmm_(x.mT, dy)
    else:  # total^T += dy^T x, the transpose of the same; a row is computed faster than a column
        total.mT.baddbmm_(dy.mT, x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return x.neg().exp_().add_(1).reciprocal_()


def sigmoid_derivative(x: Tensor) -> Tensor:
    """exp(-|x|) / (1 + exp(-|x|))^2, which is y (1 - y) without the difference from 1."""
    tail = x.abs().neg_().exp_()
    return tail / (1 + tail).square_()
