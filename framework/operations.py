"""Operations that give each replica the same numbers, bit for bit, however many replicas there are; on one thread.

Torch's operations do so too, with three exceptions, whose results differ in the last bits:

- the products of MKL, torch's library for them on x86, depend on where in memory a matrix begins, unless MKL_CBWR is set;
- a product with a single column, unless it is small, is computed by another kernel for one replica than for several;
- the sigmoid of a tensor's last elements is computed by another kernel than that of the others.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from framework.errors import shape_of

os.environ.setdefault(
    "MKL_CBWR", "AUTO"
)  # MKL reads it at its first call, which importing torch is not

SMALL = 256  # multiplications of a replica; below 400 torch has a loop of its own for any number of replicas


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X W + b: (R, B, inputs), (R, inputs, outputs) and (R, 1, outputs) -> (R, B, outputs). RuntimeError for other shapes or
    types.
    """
    if weight.shape[2] > 1 or x.numel() < SMALL * len(weight):
        return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias, x, weight)
    if x.dim() != 3 or x.shape[::2] != weight.shape[:2] or x.dtype != weight.dtype:
        raise RuntimeError(f"{shape_of(x)} cannot be multiplied by {shape_of(weight)}")
    y = (x * weight.mT).sum(2, keepdim=True)
    return y if bias is None else y.add_(bias)


def add_product(total: Tensor, x: Tensor, dy: Tensor) -> None:
    """Total += x^T dy: (R, B, inputs) and (R, B, outputs) -> (R, inputs, outputs)."""
    if total.shape[2] > 1:
        total.baddbmm_(x.mT, dy)
    else:  # a row takes less time than a column
        total.mT.baddbmm_(dy.mT, x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return x.neg().exp_().add_(1).reciprocal_()
