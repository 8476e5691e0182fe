"""Torch's twin of a framework module, replica by replica, and the comparison of the two."""

import copy

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from framework import (
    GELU,
    SELU,
    BatchNorm,
    Conv2d,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)

# How far values may be from torch's, relative and absolute. In float32 a number is rounded to 6e-8 of itself, and the longest sums
# here have some 500 terms of size 1; batch norm of few rows divides by small deviations, which enlarges that.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}

MATRIX = {
    "1-f64": (1, torch.float64),
    "3-f64": (3, torch.float64),
    "1-f32": (1, torch.float32),
    "3-f32": (3, torch.float32),
}
matrix = pytest.mark.parametrize("replicas, dtype", MATRIX.values(), ids=MATRIX.keys())
few = settings(deadline=None, max_examples=25, derandomize=True)
seeds = st.integers(0, 10**6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generators(replicas: int, start: int = 0) -> list[torch.Generator]:
    return [generator(start + replica) for replica in range(replicas)]


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed)).to(dtype)


# --- twins: torch's module for a framework module, with the weights of one replica

TWINS = {
    Linear: lambda own: nn.Linear(*own.weight.data.shape[1:], bias=own.bias is not None),
    Conv2d: lambda own: nn.Conv2d(
        own.inputs, own.weight.data.shape[2], own.kernel, own.stride, own.padding
    ),
    MaxPool2d: lambda own: nn.MaxPool2d(own.kernel, own.stride),
    Flatten: lambda own: nn.Flatten(),
    ReLU: lambda own: nn.ReLU(),
    LeakyReLU: lambda own: nn.LeakyReLU(own.slope),
    Tanh: lambda own: nn.Tanh(),
    Sigmoid: lambda own: nn.Sigmoid(),
    SELU: lambda own: nn.SELU(),
    GELU: lambda own: nn.GELU(),
}


def batch_norm_twin(own: BatchNorm, dimensions: int) -> nn.Module:
    kind = nn.BatchNorm2d if dimensions == 4 else nn.BatchNorm1d
    return kind(own.scale.data.shape[2], eps=own.eps, momentum=own.momentum)


def twin_of(own, replica: int, dimensions: int = 2) -> nn.Module:
    """`dimensions`: of what batch norm in it gets, without replicas."""
    if isinstance(own, Sequential):
        return nn.Sequential(*(twin_of(layer, replica, dimensions) for layer in own.sequence))
    twin = batch_norm_twin(own, dimensions) if isinstance(own, BatchNorm) else TWINS[type(own)](own)
    for ours, theirs in zip(own.parameters(), twin.parameters(), strict=True):
        theirs.data = as_torch(ours.data[replica], theirs)
    return twin.to(own.parameters()[0].data.dtype) if own.parameters() else twin


def as_torch(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A replica's weight (inputs, outputs), bias (1, outputs) in torch's layout: (outputs, inputs...), (outputs,)."""
    return values.T.reshape(like.shape).clone()


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float | None = None) -> None:
    tolerance = tolerance or TOLERANCE[ours.dtype]
    torch.testing.assert_close(ours, theirs.detach(), rtol=tolerance, atol=tolerance)


def assert_gradients(own, twin: nn.Module, replica: int) -> None:
    for ours, theirs in zip(own.parameters(), twin.parameters(), strict=True):
        assert_close(as_torch(ours.grad[replica], theirs), theirs.grad)


def compare(
    own,
    replicas: int,
    shape: tuple,
    dtype: torch.dtype,
    *,
    seed: int = 0,
    x: torch.Tensor | None = None,
) -> list[nn.Module]:
    """Two rounds of forward and backward, whose gradients add up, as of each replica's twin; returns the twins."""
    own.to(dtype)
    twins = [twin_of(own, replica, len(shape)) for replica in range(replicas)]
    own.zero_grad()
    for turn in range(2):
        inputs = (
            normal(replicas, *shape, dtype=dtype, seed=seed + turn) if x is None else x.to(dtype)
        )
        y = own.forward(inputs)
        dy = normal(*y.shape, dtype=dtype, seed=seed + 2 + turn)
        dx = own.backward(dy)
        assert (y.dtype, dx.dtype, dx.shape) == (dtype, dtype, inputs.shape)
        for replica, twin in enumerate(twins):
            theirs = inputs[replica].clone().requires_grad_()
            output = twin(theirs)
            output.backward(dy[replica])
            assert_close(y[replica], output)
            assert_close(dx[replica], theirs.grad)
            assert_gradients(own, twin, replica)
    return twins


def compare_without_input_gradient(own, replicas: int, shape: tuple) -> torch.Tensor | None:
    """The parameters' gradients are the same; returns what backward returns."""
    own.to(torch.float64)
    other, x = copy.deepcopy(own), normal(replicas, *shape)
    dy = normal(*own.forward(x).shape, seed=1)
    other.forward(x)
    own.backward(dy)
    result = other.backward(dy, input_gradient=False)
    for ours, theirs in zip(own.parameters(), other.parameters(), strict=True):
        assert ours.grad.abs().max() > 0 and torch.equal(ours.grad, theirs.grad)
    return result
