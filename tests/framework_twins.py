"""Torch's twin of a framework module for each replica, and the comparison of the two."""

import copy

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

import framework as fw

# Relative and absolute deviations from torch's values. In float32 a number is rounded to 6e-8 of
# itself, and the longest sums have some 500 terms of size 1. Adam and batch norm of few rows divide
# by small numbers, which enlarges that.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}

dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=["f64", "f32"])
few = settings(deadline=None, max_examples=25, derandomize=True)
seeds = st.integers(0, 10**6)


def matrix(test):
    return pytest.mark.parametrize("replicas", [1, 3])(dtypes(test))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generators(replicas: int, start: int = 0) -> list[torch.Generator]:
    return [generator(start + replica) for replica in range(replicas)]


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed)).to(dtype)


def normal32(*shape: int, seed: int = 0) -> torch.Tensor:
    return normal(*shape, dtype=torch.float32, seed=seed)


ACTIVATIONS = [fw.ReLU, fw.LeakyReLU, fw.Tanh, fw.Sigmoid, fw.SELU, fw.GELU]
LAYERS = {  # made from generators; the input's shape without replicas
    "linear": (lambda g: fw.Linear(5, 4, g), (7, 5)),
    "linear-no-bias": (lambda g: fw.Linear(5, 4, g, bias=False), (7, 5)),
    "linear-1-row": (lambda g: fw.Linear(5, 4, g), (1, 5)),
    "linear-1-unit": (lambda g: fw.Linear(1, 1, g), (6, 1)),
    "linear-xavier": (lambda g: fw.Linear(3, 8, g, initialise=fw.xavier), (2, 3)),
    "relu": (lambda g: fw.ReLU(), (6, 5)),
    "relu-images": (lambda g: fw.ReLU(), (2, 3, 4, 5)),
    "leaky": (lambda g: fw.LeakyReLU(), (6, 5)),
    "leaky-0.3": (lambda g: fw.LeakyReLU(0.3), (6, 5)),
    "leaky-negative": (lambda g: fw.LeakyReLU(-0.5), (6, 5)),
    "tanh": (lambda g: fw.Tanh(), (6, 5)),
    "sigmoid": (lambda g: fw.Sigmoid(), (6, 5)),
    "selu": (lambda g: fw.SELU(), (6, 5)),
    "gelu": (lambda g: fw.GELU(), (6, 5)),
    "batch-norm": (lambda g: fw.BatchNorm(5, len(g)), (7, 5)),
    "batch-norm-2-rows": (lambda g: fw.BatchNorm(4, len(g), eps=0.1), (2, 4)),
    "batch-norm-settings": (lambda g: fw.BatchNorm(5, len(g), eps=1e-2, momentum=0.7), (4, 5)),
    "batch-norm-images": (lambda g: fw.BatchNorm(3, len(g)), (4, 3, 5, 2)),
    "batch-norm-1-image": (lambda g: fw.BatchNorm(3, len(g)), (1, 3, 2, 3)),
    "batch-norm-plain": (lambda g: fw.BatchNorm(5, len(g), affine=False), (7, 5)),
    "batch-norm-length": (lambda g: fw.BatchNorm(4, len(g)), (3, 4, 5)),
    "batch-norm-cumulative": (lambda g: fw.BatchNorm(4, len(g), momentum=None), (6, 4)),
    "layer-norm": (lambda g: fw.LayerNorm(5, len(g), eps=1e-3), (7, 5)),
    "layer-norm-places": (lambda g: fw.LayerNorm(5, len(g)), (3, 4, 5)),
    "layer-norm-axes": (lambda g: fw.LayerNorm((4, 5), len(g)), (3, 2, 4, 5)),
    "layer-norm-plain": (lambda g: fw.LayerNorm(5, affine=False), (6, 5)),
    "softmax": (lambda g: fw.Softmax(), (6, 5)),
    "posterior": (lambda g: fw.PosteriorComparison(), (6, 8)),
    "residual": (lambda g: fw.Residual(fw.Linear(5, 5, g), fw.Tanh()), (6, 5)),
    "flatten": (lambda g: fw.Flatten(), (4, 3, 2, 5)),
    "flatten-flat": (lambda g: fw.Flatten(), (4, 3)),
    "mlp": (lambda g: fw.mlp(5, [6, 4], 2, g, activation="selu", output_activation="tanh"), (7, 5)),
    "nested": (
        lambda g: fw.Sequential(
            fw.Sequential(fw.Linear(5, 6, g), fw.GELU()), fw.Sequential(fw.mlp(6, [], 2, g))
        ),
        (7, 5),
    ),
    "normed": (
        lambda g: fw.Sequential(
            fw.Linear(5, 6, g), fw.BatchNorm(6, len(g)), fw.ReLU(), fw.Linear(6, 2, g, bias=False)
        ),
        (9, 5),
    ),
    "cnn": (
        lambda g: fw.Sequential(
            fw.Conv2d(1, 3, 3, g),
            fw.ReLU(),
            fw.MaxPool2d(2),
            fw.Conv2d(3, 4, 2, g, padding=1),
            fw.Tanh(),
            fw.Flatten(),
            fw.Linear(48, 2, g),
        ),
        (3, 1, 8, 6),
    ),
    "cnn-normed": (
        lambda g: fw.Sequential(
            fw.Conv2d(2, 3, 3, g, stride=2), fw.BatchNorm(3, len(g)), fw.GELU(), fw.MaxPool2d(2, 1)
        ),
        (4, 2, 9, 7),
    ),
    "conv-same": (lambda g: fw.Conv2d(2, 3, (3, 4), g, padding="same", bias=False), (2, 2, 5, 6)),
    "conv-dilated": (
        lambda g: fw.Conv2d(2, 3, (2, 3), g, dilation=(3, 2), stride=(1, 2), padding=(1, 2)),
        (2, 2, 6, 7),
    ),
    "conv-same-dilated": (
        lambda g: fw.Conv2d(1, 2, (2, 3), g, padding="same", dilation=(3, 2)),
        (2, 1, 5, 6),
    ),
    "conv-groups": (lambda g: fw.Conv2d(4, 6, 2, g, groups=2, padding=1), (3, 4, 4, 3)),
    "conv-depthwise": (lambda g: fw.Conv2d(3, 3, 3, g, groups=3, bias=False), (2, 3, 5, 4)),
    "pool-padded": (lambda g: fw.MaxPool2d((3, 2), (2, 1), padding=(1, 0)), (2, 2, 7, 5)),
    "pool-ceil": (lambda g: fw.MaxPool2d(3, 2, padding=1, ceil_mode=True), (2, 2, 6, 8)),
    "pool-ceil-far": (lambda g: fw.MaxPool2d(2, 3, padding=1, ceil_mode=True), (2, 2, 5, 7)),
    "pool-mean": (lambda g: fw.AvgPool2d((2, 3), (1, 2), padding=(1, 0)), (2, 2, 5, 7)),
    "pool-divisor": (lambda g: fw.AvgPool2d(2, divisor=3), (2, 2, 5, 7)),
    "pool-mean-ceil": (
        lambda g: fw.AvgPool2d(3, 2, padding=1, ceil_mode=True),
        (2, 2, 6, 8),
    ),
    "pool-mean-image": (
        lambda g: fw.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False),
        (2, 2, 6, 9),
    ),
    "pool-global": (lambda g: fw.GlobalAvgPool2d(), (2, 3, 5, 4)),
    "cnn-pool-first": (
        lambda g: fw.Sequential(
            fw.MaxPool2d(3, 2), fw.Conv2d(2, 3, 2, g), fw.Sigmoid(), fw.Flatten()
        ),
        (2, 2, 9, 8),
    ),
}


def small_siamese(g: list[torch.Generator], kind: type[fw.Siamese] = fw.Siamese) -> fw.Siamese:
    """For images of 20 pixels."""
    return kind(fw.Sequential(fw.Flatten(), fw.Linear(20, 10, g)), fw.Linear(20, 1, g))


# --- twins: torch's module for a framework module, with the weights of one replica


class PosteriorTwin(nn.Module):
    def forward(self, x):
        first, second = x.unflatten(-1, (2, -1)).softmax(-1).unbind(-2)
        classes = range(first.shape[-1])
        pairs = [(i, j) for i in classes for j in classes]
        less_or_equal = sum(first[:, i] * second[:, j] for i, j in pairs if i <= j)
        greater = sum(first[:, i] * second[:, j] for i, j in pairs if i > j)
        return (less_or_equal / greater).log()[:, None]


TWINS = {
    fw.PosteriorComparison: lambda own: PosteriorTwin(),
    fw.Linear: lambda own: nn.Linear(*own.weight.data.shape[1:], bias=own.bias is not None),
    fw.Conv2d: lambda own: nn.Conv2d(
        own.inputs,
        own.weight.data.shape[2],
        own.kernel,
        own.stride,
        own.padding,
        own.dilation,
        own.groups,
        own.bias is not None,
    ),
    fw.MaxPool2d: lambda own: nn.MaxPool2d(
        own.kernel, own.stride, own.padding, ceil_mode=own.ceil_mode
    ),
    fw.AvgPool2d: lambda own: nn.AvgPool2d(
        own.kernel,
        own.stride,
        own.padding,
        own.ceil_mode,
        own.count_include_pad,
        own.divisor,
    ),
    fw.GlobalAvgPool2d: lambda own: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    fw.Flatten: lambda own: nn.Flatten(),
    fw.Dropout: lambda own: nn.Dropout(own.probability),
    fw.ReLU: lambda own: nn.ReLU(),
    fw.LeakyReLU: lambda own: nn.LeakyReLU(own.slope),
    fw.Tanh: lambda own: nn.Tanh(),
    fw.Sigmoid: lambda own: nn.Sigmoid(),
    fw.SELU: lambda own: nn.SELU(),
    fw.GELU: lambda own: nn.GELU(),
    fw.Softmax: lambda own: nn.Softmax(-1),
    fw.LayerNorm: lambda own: nn.LayerNorm(
        own.units, eps=own.eps, elementwise_affine=own.scale is not None
    ),
}


class ResidualTwin(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def twin_of(own, replica: int, axes: int = 2) -> nn.Module:
    """`axes`: the number of axes of the input without the replicas'."""
    if isinstance(own, fw.Sequential):
        kind = ResidualTwin if isinstance(own, fw.Residual) else nn.Sequential
        return kind(*(twin_of(layer, replica, axes) for layer in own.sequence))
    if isinstance(own, fw.BatchNorm):
        kind = nn.BatchNorm2d if axes == 4 else nn.BatchNorm1d
        channels, affine = own.running_mean.shape[2], own.scale is not None
        twin = kind(channels, eps=own.eps, momentum=own.momentum, affine=affine)
        twin.running_mean = own.running_mean[replica, 0].clone()
        twin.running_var = own.running_variance[replica, 0].clone()
    else:
        twin = TWINS[type(own)](own)
    for ours, theirs in zip(own.parameters(), twin.parameters(), strict=True):
        theirs.data = as_torch(ours.data[replica], theirs)
    state = list(own.state().values())
    return twin.to(state[0].dtype) if state else twin


def as_torch(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A replica's weight (inputs, outputs), or bias (1, outputs), in torch's layout."""
    return values.T.reshape(like.shape).clone()


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    tolerance = TOLERANCE[ours.dtype]
    torch.testing.assert_close(ours, theirs.detach(), rtol=tolerance, atol=tolerance)


def assert_gradients(own, twin: nn.Module, replica: int) -> None:
    for ours, theirs in zip(own.parameters(), twin.parameters(), strict=True):
        assert_close(as_torch(ours.grad[replica], theirs), theirs.grad)


def assert_state(module: fw.Module, state: dict[str, torch.Tensor]) -> None:
    """The module has exactly this state, bit for bit."""
    own = module.state()
    assert own.keys() == state.keys()
    for name, value in own.items():
        assert torch.equal(value, state[name]), name


def compare(
    own,
    replicas: int,
    shape: tuple,
    dtype: torch.dtype,
    *,
    seed: int = 0,
    x: torch.Tensor | None = None,
) -> list[nn.Module]:
    """Compare two forward and backward passes with each replica's twin; return the twins.

    The gradients of both passes add up.
    """
    own.to(dtype)
    twins = [twin_of(own, replica, len(shape)) for replica in range(replicas)]
    own.zero_grad()
    for number in range(2):
        inputs = normal(replicas, *shape, dtype=dtype, seed=seed + number)
        if x is not None:
            inputs = x.to(dtype)
        y = own.forward(inputs)
        dy = normal(*y.shape, dtype=dtype, seed=seed + 2 + number)
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


def without_input_gradient(own, replicas: int, shape: tuple) -> torch.Tensor | None:
    """Return what backward returns; assert that the parameters' gradients are the same."""
    own.to(torch.float64)
    other, x = copy.deepcopy(own), normal(replicas, *shape)
    dy = normal(*own.forward(x).shape, seed=1)
    other.forward(x)
    own.backward(dy)
    result = other.backward(dy, input_gradient=False)
    for ours, theirs in zip(own.parameters(), other.parameters(), strict=True):
        assert ours.grad.abs().max() > 0 and torch.equal(ours.grad, theirs.grad)
    return result
