"""Every layer of the framework, replica by replica, against its twin in torch.nn."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import framework as fw
from tests.framework_twins import (
    ACTIVATIONS,
    LAYERS,
    assert_close,
    assert_state,
    compare,
    dtypes,
    few,
    generator,
    generators,
    matrix,
    normal,
    normal32,
    seeds,
    without_input_gradient,
)


@matrix
@pytest.mark.parametrize("case", LAYERS)
def test_layer(case, replicas, dtype):
    make, shape = LAYERS[case]
    layer = make(generators(replicas))
    for number, parameter in enumerate(layer.parameters()):  # scales are not all 1, biases not 0
        parameter.data += 0.5 * normal32(*parameter.data.shape, seed=number)
    compare(layer, replicas, shape, dtype)


# kernel, stride, padding, channels in, out, height, width
CONVOLUTIONS = [
    (1, 1, 0, 1, 1, 1, 1), (1, 1, 0, 3, 2, 4, 5), (1, 3, 0, 2, 2, 5, 4), (2, 1, 0, 1, 2, 2, 2),
    (2, 2, 0, 2, 3, 6, 4), (2, 2, 0, 2, 3, 7, 5), (3, 1, 0, 1, 4, 5, 3), (3, 1, 1, 2, 3, 4, 6),
    (3, 2, 1, 2, 2, 7, 8), (3, 2, 2, 1, 3, 3, 6), (3, 4, 0, 2, 1, 8, 7), (3, 5, 1, 2, 1, 4, 9),
    (4, 3, 2, 1, 2, 5, 8), (5, 1, 2, 1, 2, 1, 3), (5, 2, 0, 3, 2, 9, 5), (2, 1, 3, 1, 1, 2, 1),
]  # fmt: skip  # a table of numbers


@matrix
@pytest.mark.parametrize("kernel, stride, padding, inputs, outputs, height, width", CONVOLUTIONS)
def test_convolution(kernel, stride, padding, inputs, outputs, height, width, replicas, dtype):
    layer = fw.Conv2d(inputs, outputs, kernel, generators(replicas), stride=stride, padding=padding)
    compare(layer, replicas, (2, inputs, height, width), dtype)


# kernel, stride, height, width
POOLS = [
    (1, None, 2, 3), (2, None, 4, 6), (2, None, 5, 7), (2, 1, 3, 4), (3, 1, 5, 3),
    (3, 2, 7, 8), (2, 3, 8, 6), (3, 3, 3, 3), (4, 2, 9, 4),
]  # fmt: skip  # a table of numbers


@matrix
@pytest.mark.parametrize("kernel, stride, height, width", POOLS)
def test_max_pooling(kernel, stride, height, width, replicas, dtype):
    compare(fw.MaxPool2d(kernel, stride), replicas, (3, 2, height, width), dtype)


@pytest.mark.parametrize("kernel, stride", [(2, None), (3, 1), (3, 2), (4, 3)])
@pytest.mark.parametrize("values", [1, 2, 3])
def test_first_of_equal_values_in_a_window_gets_the_gradient(kernel, stride, values):
    x = torch.randint(values, (2, 4, 3, 10, 11), generator=generator()).double()
    compare(fw.MaxPool2d(kernel, stride), 2, x.shape[1:], torch.float64, x=x)


@dtypes
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_of_zero_and_of_large_values(activation, dtype):
    values = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 50, -50, 800, -800])
    compare(activation(), 1, (2, 8), dtype, x=values.expand(1, 2, 8))


def normal_tail(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * torch.erfc(-x / 2**0.5)


def normal_density(x: torch.Tensor) -> torch.Tensor:
    return (-0.5 * x * x).exp() / (2 * torch.pi) ** 0.5


SELU = 1.0507009873554805, 1.7580993408473766  # the slopes on both sides of 0
PRECISE = {  # y and its derivative in float64, without differences of nearly equal numbers
    fw.ReLU: (torch.relu, lambda x: (x > 0).double()),
    fw.LeakyReLU: (F.leaky_relu, lambda x: torch.where(x > 0, 1.0, 0.01).double()),
    fw.Tanh: (torch.tanh, lambda x: x.cosh() ** -2),
    fw.Sigmoid: (torch.sigmoid, lambda x: 0.25 * (x / 2).cosh() ** -2),
    fw.SELU: (torch.selu, lambda x: torch.where(x > 0, SELU[0], SELU[1] * x.exp())),
    fw.GELU: (lambda x: x * normal_tail(x), lambda x: normal_tail(x) + x * normal_density(x)),
}


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-5), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("kind", PRECISE)
def test_activation_keeps_its_relative_precision_over_the_whole_range(kind, dtype, tolerance):
    sizes = torch.cat([torch.logspace(-37, 38, 1000), torch.linspace(0.1, 120, 1000)])
    x = torch.cat([sizes, -sizes]).to(dtype)[None, :, None]
    if kind is fw.GELU:  # its derivative is 0 at -0.752
        x = x[:, (x[0, :, 0] + 0.752).abs() > 0.05]
    layer = kind()
    y = layer.forward(x)
    dx = layer.backward(torch.ones_like(x))
    function, derivative = PRECISE[kind]
    for ours, exact in ((y, function(x.double())), (dx, derivative(x.double()))):
        tiny = torch.finfo(dtype).tiny  # smaller numbers have fewer digits
        torch.testing.assert_close(ours.double(), exact, rtol=tolerance, atol=tiny)


@pytest.mark.parametrize("case", LAYERS)
def test_parameters_get_their_gradients_without_the_input_gradient(case):
    make, shape = LAYERS[case]
    result = without_input_gradient(make(generators(2)), 2, shape)
    if case.startswith(("linear", "mlp", "normed", "cnn-normed")) or case == "cnn":
        assert result is None  # a Linear or Conv2d is first


@pytest.mark.parametrize("kernel, stride, padding", [(1, 1, 0), (3, 2, 1)])
def test_convolution_skips_the_input_gradient(kernel, stride, padding):
    layer = fw.Conv2d(2, 3, kernel, generators(2), stride=stride, padding=padding)
    assert without_input_gradient(layer, 2, (3, 2, 5, 6)) is None


@pytest.mark.parametrize("case", LAYERS)
def test_gradient_that_is_not_contiguous_counts_as_its_copy(case):
    make, shape = LAYERS[case]
    layer, x = make(generators(2)), normal(2, *shape)
    layer.to(torch.float64)
    axes = layer.forward(x).shape
    strided = normal(*axes[::-1], seed=1).permute(*reversed(range(len(axes))))
    dx = layer.backward(strided)
    layer.train(True)
    layer.forward(x)
    assert_close(dx, layer.backward(strided.contiguous()))


@pytest.mark.slow
@few
@given(
    seed=seeds,
    replicas=st.integers(1, 4),
    rows=st.integers(1, 6),
    widths=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    bias=st.booleans(),
    activation=st.sampled_from(ACTIVATIONS),
)
def test_any_mlp(seed, replicas, rows, widths, bias, activation):
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        g = generators(replicas, seed)
        layers.append(fw.Linear(inputs, outputs, g, bias=bias, initialise=fw.he))
        layers.append(activation())
    compare(fw.Sequential(*layers), replicas, (rows, widths[0]), torch.float64, seed=seed)


@few
@given(
    seed=seeds,
    replicas=st.integers(1, 3),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    more=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    pool=st.booleans(),
)
def test_any_convolution(seed, replicas, kernel, stride, padding, channels, more, pool):
    g = generators(replicas, seed)
    layers = [fw.Conv2d(*channels, kernel, g, stride=stride, padding=padding)]
    smallest = max(1, kernel - 2 * padding)
    height, width = smallest + more[0], smallest + more[1]
    if pool and (min(height, width) + 2 * padding - kernel) // stride + 1 >= 2:
        layers.append(fw.MaxPool2d(2, 1 + seed % 3))
    shape = (2, channels[0], height, width)
    compare(fw.Sequential(*layers), replicas, shape, torch.float64, seed=seed)


@few
@given(
    seed=seeds,
    replicas=st.integers(1, 3),
    rows=st.integers(2, 6),
    channels=st.integers(1, 4),
    image=st.just(()) | st.tuples(st.integers(1, 4), st.integers(1, 4)),
    eps=st.sampled_from([1e-5, 1e-3, 1.0]),
    momentum=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
)
def test_any_batch_norm(seed, replicas, rows, channels, image, eps, momentum):
    layer = fw.BatchNorm(channels, replicas, eps=eps, momentum=momentum)
    twins = compare(layer, replicas, (rows, channels, *image), torch.float64, seed=seed)
    assert_statistics(layer, twins)


# --- batch norm's statistics, dropout


def assert_statistics(layer: fw.BatchNorm, twins: list[nn.Module]) -> None:
    for replica, twin in enumerate(twins):
        assert_close(layer.running_mean[replica, 0], twin.running_mean)
        assert_close(layer.running_variance[replica, 0], twin.running_var)


@matrix
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 2, 5)], ids=["units", "images"])
def test_statistics_and_evaluation_of_batch_norm(shape, replicas, dtype):
    layer = fw.BatchNorm(4, replicas, momentum=0.3)
    layer.scale.data += 1
    twins = compare(layer, replicas, shape, dtype)
    assert_statistics(layer, twins)
    assert layer.running_mean.abs().max() > 0.01
    before = layer.state_dict()
    assert set(before) == {"scale", "shift", "running_mean", "running_variance"}
    x = 2 + normal(replicas, 1, *shape[1:], dtype=dtype, seed=9)  # one row is enough to evaluate
    layer.train(False)
    for replica, (y, twin) in enumerate(zip(layer.forward(x), twins)):
        assert_close(y, twin.eval()(x[replica]))
    assert_state(layer, before)


@matrix
@pytest.mark.parametrize("shape", [(40, 6), (5, 3, 4, 6)], ids=["units", "images"])
@pytest.mark.parametrize("probability", [0.0, 0.2, 0.5, 0.9])
def test_dropout_multiplies_by_the_mask_of_its_generators(
    probability, shape, replicas, dtype, global_generator_untouched
):
    layer, twins = fw.Dropout(probability, generators(replicas, 5)), generators(replicas, 5)
    keep = 1 - probability
    for number in range(2):  # the second masks differ from the first
        x = normal(replicas, *shape, dtype=dtype, seed=number)
        dy = normal(replicas, *shape, dtype=dtype, seed=number + 2)
        masks = torch.stack([torch.rand(shape, generator=twin) < keep for twin in twins])
        mask = masks.to(dtype) / keep
        assert_close(layer.forward(x), x * mask)
        assert_close(layer.backward(dy), dy * mask)
    layer.train(False)
    assert torch.equal(layer.forward(x), x)
    for own, twin in zip(layer.generators, twins):
        assert torch.equal(own.get_state(), twin.get_state())


def test_dropout_drops_the_share_and_keeps_the_mean():
    y = fw.Dropout(0.3, generators(2)).forward(torch.ones(2, 100, 500))
    for replica in y:  # the standard deviation of the share of 50,000 units is 0.002
        assert (replica == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
        assert replica.mean().item() == pytest.approx(1, abs=0.015)
    assert not torch.equal(y[0], y[1])


# --- a replica alone and in an array

ARRAYS = LAYERS | {
    "linear-1-output": (lambda g: fw.Linear(128, 1, g), (25, 128)),
    "linear-1-input": (lambda g: fw.Linear(1, 64, g), (25, 1)),
    "linear-1-row-1-output": (lambda g: fw.Linear(600, 1, g), (1, 600)),
    "linear-odd": (lambda g: fw.Linear(13, 9, g), (23, 13)),
    "linear-odd-1-row": (lambda g: fw.Linear(33, 17, g), (1, 33)),
    "cnn-1-channel": (
        lambda g: fw.Sequential(
            fw.Conv2d(3, 1, 3, g), fw.Tanh(), fw.Conv2d(1, 5, 1, g), fw.Conv2d(5, 1, 1, g)
        ),
        (3, 3, 9, 8),
    ),
    "sigmoid-odd": (lambda g: fw.Sigmoid(), (3, 7)),
}


def outcome(case: str, replicas: range, dtype: torch.dtype) -> list[torch.Tensor]:
    """Outputs in training and in evaluation, and all gradients, (replicas, ...) each."""
    make, shape = ARRAYS[case]
    layer = make([generator(replica) for replica in replicas])
    layer.to(dtype)
    x = torch.stack([normal(*shape, dtype=dtype, seed=replica) for replica in replicas])
    y = layer.forward(x)
    axes = y.shape[1:]
    dy = torch.stack([normal(*axes, dtype=dtype, seed=100 + replica) for replica in replicas])
    dx = layer.backward(dy)
    layer.train(False)
    return [y, dx, layer.forward(x), *(parameter.grad for parameter in layer.parameters())]


@dtypes
@pytest.mark.parametrize("case", ARRAYS)
def test_replica_has_the_same_bits_in_any_array(case, dtype):
    torch.set_num_threads(1)
    together = outcome(case, range(5), dtype)
    for first, last in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 2), (3, 5), (1, 4)]:
        part = outcome(case, range(first, last), dtype)
        for ours, expected in zip(part, together, strict=True):
            assert torch.equal(ours, expected[first:last])
