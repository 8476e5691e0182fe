"""Operations that give each replica the same numbers, bit for bit, however many replicas there are; on one thread.

Torch's operations do so too, with three exceptions, whose results differ in the last bits:

- the products of MKL, torch's library for them on x86, depend on where in memory a matrix begins, unless MKL_CBWR is set;
- a product with a single row or column is computed by another kernel for one replica than for several;
- the sigmoid of a tensor's last elements is computed by another kernel than that of the others.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from framework.errors import shape_of

os.environ.setdefault("MKL_CBWR", "AUTO")  # MKL reads it at its first call, which importing torch is not


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W + b: (R, B, inputs), (R, inputs, outputs) and (R, 1, outputs) -> (R, B, outputs). RuntimeError for other shapes or
    types."""
    _, inputs, outputs = weight.shape
    if inputs > 1 and outputs > 1:
        return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias, x, weight)
    if x.dim() != 3 or x.shape[::2] != weight.shape[:2] or x.dtype != weight.dtype:
        raise RuntimeError(f"{shape_of(x)} cannot be multiplied by {shape_of(weight)}")
    y = x * weight if inputs == 1 else (x * weight.mT).sum(2, keepdim=True)
    return y if bias is None else y.add_(bias)


def add_product(total: Tensor, x: Tensor, dy: Tensor) -> None:
    """total += x^T dy: (R, B, inputs) and (R, B, outputs) -> (R, inputs, outputs)."""
    replicas, inputs, outputs = total.shape
    if x.shape[1] == 1:  # every pair of numbers
        total.addcmul_(x.mT, dy)
    elif inputs > 1 and outputs > 1:
        total.baddbmm_(x.mT, dy)
    elif x.shape[:2] != dy.shape[:2]:
        raise RuntimeError(f"{shape_of(x)} and {shape_of(dy)} have other rows")
    else:
        total.view(replicas, 1, -1).add_((x * dy).sum(1, keepdim=True))


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return x.neg().exp_().add_(1).reciprocal_()
