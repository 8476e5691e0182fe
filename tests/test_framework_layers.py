"""Every layer of the framework against torch.nn, replica by replica: one framework module, a twin each."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from framework import (
    GELU,
    SELU,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    he,
    xavier,
)
from tests.framework_twins import (
    TOLERANCE,
    assert_close,
    compare,
    compare_without_input_gradient,
    few,
    generator,
    generators,
    matrix,
    normal,
    seeds,
)

# --- layers


LAYERS = {  # of generators; the input's shape without replicas
    "linear": (lambda g: Linear(5, 4, g), (7, 5)),
    "linear-no-bias": (lambda g: Linear(5, 4, g, bias=False), (7, 5)),
    "linear-1-row": (lambda g: Linear(5, 4, g), (1, 5)),
    "linear-1-unit": (lambda g: Linear(1, 1, g), (6, 1)),
    "linear-xavier": (lambda g: Linear(3, 8, g, initialise=xavier), (2, 3)),
    "relu": (lambda g: ReLU(), (6, 5)),
    "relu-images": (lambda g: ReLU(), (2, 3, 4, 5)),
    "leaky": (lambda g: LeakyReLU(), (6, 5)),
    "leaky-0.3": (lambda g: LeakyReLU(0.3), (6, 5)),
    "leaky-negative": (lambda g: LeakyReLU(-0.5), (6, 5)),
    "tanh": (lambda g: Tanh(), (6, 5)),
    "sigmoid": (lambda g: Sigmoid(), (6, 5)),
    "selu": (lambda g: SELU(), (6, 5)),
    "gelu": (lambda g: GELU(), (6, 5)),
    "batch-norm": (lambda g: BatchNorm(5, len(g)), (7, 5)),
    "batch-norm-2-rows": (lambda g: BatchNorm(4, len(g), eps=0.1), (2, 4)),
    "batch-norm-settings": (lambda g: BatchNorm(5, len(g), eps=1e-2, momentum=0.7), (4, 5)),
    "batch-norm-images": (lambda g: BatchNorm(3, len(g)), (4, 3, 5, 2)),
    "batch-norm-1-image": (lambda g: BatchNorm(3, len(g)), (1, 3, 2, 3)),
    "flatten": (lambda g: Flatten(), (4, 3, 2, 5)),
    "flatten-flat": (lambda g: Flatten(), (4, 3)),
    "mlp": (
        lambda g: Sequential(
            Linear(5, 6, g), Tanh(), Linear(6, 4, g), SELU(), Linear(4, 2, g, bias=False)
        ),
        (7, 5),
    ),
    "nested": (
        lambda g: Sequential(
            Sequential(Linear(5, 6, g), GELU()), Sequential(Sequential(Linear(6, 2, g)))
        ),
        (7, 5),
    ),
    "normed": (
        lambda g: Sequential(Linear(5, 6, g), BatchNorm(6, len(g)), ReLU(), Linear(6, 2, g)),
        (9, 5),
    ),
    "cnn": (
        lambda g: Sequential(
            Conv2d(1, 3, 3, g),
            ReLU(),
            MaxPool2d(2),
            Conv2d(3, 4, 2, g, padding=1),
            Tanh(),
            Flatten(),
            Linear(48, 2, g),
        ),
        (3, 1, 8, 6),
    ),
    "cnn-normed": (
        lambda g: Sequential(
            Conv2d(2, 3, 3, g, stride=2), BatchNorm(3, len(g)), GELU(), MaxPool2d(2, 1)
        ),
        (4, 2, 9, 7),
    ),
    "cnn-pool-first": (
        lambda g: Sequential(MaxPool2d(3, 2), Conv2d(2, 3, 2, g), Sigmoid(), Flatten()),
        (2, 2, 9, 8),
    ),
}


@matrix
@pytest.mark.parametrize("case", LAYERS)
def test_a_layer_is_torchs(case, replicas, dtype):
    make, shape = LAYERS[case]
    layer = make(generators(replicas))
    for number, parameter in enumerate(
        layer.parameters()
    ):  # so that scales are not all 1, biases not all 0
        parameter.data += 0.5 * normal(*parameter.data.shape, dtype=torch.float32, seed=number)
    compare(layer, replicas, shape, dtype)


# kernel, stride, padding, channels in, out, height, width
CONVOLUTIONS = [
    (1, 1, 0, 1, 1, 1, 1), (1, 1, 0, 3, 2, 4, 5), (1, 3, 0, 2, 2, 5, 4), (2, 1, 0, 1, 2, 2, 2), (2, 2, 0, 2, 3, 6, 4), (2, 2, 0, 2, 3, 7, 5),
    (3, 1, 0, 1, 4, 5, 3), (3, 1, 1, 2, 3, 4, 6), (3, 2, 1, 2, 2, 7, 8), (3, 2, 2, 1, 3, 3, 6), (3, 4, 0, 2, 1, 8, 7), (3, 5, 1, 2, 1, 4, 9),
    (4, 3, 2, 1, 2, 5, 8), (5, 1, 2, 1, 2, 1, 3), (5, 2, 0, 3, 2, 9, 5), (2, 1, 3, 1, 1, 2, 1),
]  # fmt: skip


@matrix
@pytest.mark.parametrize("kernel, stride, padding, inputs, outputs, height, width", CONVOLUTIONS)
def test_a_convolution_is_torchs(
    kernel, stride, padding, inputs, outputs, height, width, replicas, dtype
):
    layer = Conv2d(inputs, outputs, kernel, generators(replicas), stride=stride, padding=padding)
    compare(layer, replicas, (2, inputs, height, width), dtype)


POOLS = [
    (1, None, 2, 3),
    (2, None, 4, 6),
    (2, None, 5, 7),
    (2, 1, 3, 4),
    (3, 1, 5, 3),
    (3, 2, 7, 8),
    (2, 3, 8, 6),
    (3, 3, 3, 3),
    (4, 2, 9, 4),
]


@matrix
@pytest.mark.parametrize("kernel, stride, height, width", POOLS)
def test_max_pooling_is_torchs(kernel, stride, height, width, replicas, dtype):
    compare(MaxPool2d(kernel, stride), replicas, (3, 2, height, width), dtype)


@pytest.mark.parametrize("kernel, stride", [(2, None), (3, 1), (3, 2), (4, 3)])
@pytest.mark.parametrize("values", [1, 2, 3])
def test_of_equal_values_in_a_window_the_first_gets_the_gradient(kernel, stride, values):
    x = torch.randint(values, (2, 4, 3, 10, 11), generator=generator()).double()
    compare(MaxPool2d(kernel, stride), 2, x.shape[1:], torch.float64, x=x)


def test_activations_at_zero_and_far_out_are_torchs():
    edges = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 50, -50, 800, -800]).expand(1, 2, 8)
    for layer in (ReLU(), LeakyReLU(), Tanh(), Sigmoid(), SELU(), GELU()):
        for dtype in TOLERANCE:
            compare(layer, 1, (2, 8), dtype, x=edges)


@pytest.mark.parametrize("case", LAYERS)
def test_without_the_input_gradient_the_parameters_get_theirs(case):
    make, shape = LAYERS[case]
    result = compare_without_input_gradient(make(generators(2)), 2, shape)
    if (
        case.startswith(("linear", "mlp", "cnn-normed")) or case == "cnn"
    ):  # a Linear or Conv2d comes first
        assert result is None


@pytest.mark.parametrize("kernel, stride, padding", [(1, 1, 0), (3, 2, 1)])
def test_a_convolution_alone_spares_itself_the_input_gradient(kernel, stride, padding):
    layer = Conv2d(2, 3, kernel, generators(2), stride=stride, padding=padding)
    assert compare_without_input_gradient(layer, 2, (3, 2, 5, 6)) is None


@pytest.mark.parametrize("case", LAYERS)
def test_a_gradient_that_is_not_contiguous_counts_as_its_copy(case):
    make, shape = LAYERS[case]
    layer, x = make(generators(2)), normal(2, *shape)
    layer.to(torch.float64)
    axes = layer.forward(x).shape
    strided = normal(*axes[::-1], seed=1).permute(*range(len(axes) - 1, -1, -1))
    first = layer.backward(strided)
    layer.train(True)
    layer.forward(x)
    assert_close(first, layer.backward(strided.contiguous()))


@few
@given(
    seed=seeds, replicas=st.integers(1, 4), rows=st.integers(1, 6), widths=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    bias=st.booleans(), activation=st.sampled_from([ReLU, LeakyReLU, Tanh, Sigmoid, SELU, GELU]),
)  # fmt: skip
def test_any_mlp_is_torchs(seed, replicas, rows, widths, bias, activation):
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [
            Linear(inputs, outputs, generators(replicas, seed), bias=bias, initialise=he),
            activation(),
        ]
    compare(Sequential(*layers), replicas, (rows, widths[0]), torch.float64, seed=seed)


@few
@given(
    seed=seeds, replicas=st.integers(1, 3), kernel=st.integers(1, 4), stride=st.integers(1, 4), padding=st.integers(0, 3),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)), more=st.tuples(st.integers(0, 6), st.integers(0, 6)), pool=st.booleans(),
)  # fmt: skip
def test_any_convolution_is_torchs(seed, replicas, kernel, stride, padding, channels, more, pool):
    layers = [Conv2d(*channels, kernel, generators(replicas, seed), stride=stride, padding=padding)]
    height, width = (max(1, kernel - 2 * padding) + each for each in more)
    if pool and min((size + 2 * padding - kernel) // stride + 1 for size in (height, width)) >= 2:
        layers.append(MaxPool2d(2, 1 + seed % 3))
    compare(
        Sequential(*layers), replicas, (2, channels[0], height, width), torch.float64, seed=seed
    )


@few
@given(
    seed=seeds, replicas=st.integers(1, 3), rows=st.integers(2, 6), channels=st.integers(1, 4),
    image=st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4)),
    eps=st.sampled_from([1e-5, 1e-3, 1.0]), momentum=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
)  # fmt: skip
def test_any_batch_norm_is_torchs(seed, replicas, rows, channels, image, eps, momentum):
    layer = BatchNorm(channels, replicas, eps=eps, momentum=momentum)
    twins = compare(layer, replicas, (rows, channels, *(image or ())), torch.float64, seed=seed)
    assert_same_statistics(layer, twins)


# --- batch norm's statistics, dropout


def assert_same_statistics(layer: BatchNorm, twins: list[nn.Module]) -> None:
    for replica, twin in enumerate(twins):
        assert_close(layer.running_mean[replica, 0], twin.running_mean)
        assert_close(layer.running_variance[replica, 0], twin.running_var)


@matrix
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 2, 5)], ids=["units", "images"])
def test_batch_norms_statistics_and_evaluation_are_torchs(shape, replicas, dtype):
    layer = BatchNorm(4, replicas, momentum=0.3)
    layer.scale.data += 1
    twins = compare(layer, replicas, shape, dtype)
    assert_same_statistics(layer, twins)
    assert layer.running_mean.abs().max() > 0.01
    before, x = (
        layer.state_dict(),
        2 + normal(replicas, 1, *shape[1:], dtype=dtype, seed=9),
    )  # one row is enough for evaluating
    layer.train(False)
    for replica, (y, twin) in enumerate(zip(layer.forward(x), twins)):
        assert_close(y, twin.eval()(x[replica]))
    assert all(torch.equal(value, before[name]) for name, value in layer.state().items())
    assert set(before) == {"scale", "shift", "running_mean", "running_variance"}


@matrix
@pytest.mark.parametrize("shape", [(40, 6), (5, 3, 4, 6)], ids=["units", "images"])
@pytest.mark.parametrize("probability", [0.0, 0.2, 0.5, 0.9])
def test_dropout_multiplies_by_its_generators_mask(
    probability, shape, replicas, dtype, global_generator_untouched
):
    layer, twins = Dropout(probability, generators(replicas, 5)), generators(replicas, 5)
    keep = 1 - probability
    for turn in range(2):  # the second masks are others
        x, dy = (
            normal(replicas, *shape, dtype=dtype, seed=turn),
            normal(replicas, *shape, dtype=dtype, seed=turn + 2),
        )
        mask = (
            torch.stack([torch.rand(shape, generator=twin) < keep for twin in twins]).to(dtype)
            / keep
        )
        assert_close(layer.forward(x), x * mask)
        assert_close(layer.backward(dy), dy * mask)
    layer.train(False)
    states = [each.get_state() for each in layer.generators]
    assert torch.equal(layer.forward(x), x)
    assert all(
        torch.equal(each.get_state(), state) for each, state in zip(layer.generators, states)
    )


def test_dropout_drops_the_share_and_keeps_the_mean():
    y = Dropout(0.3, generators(2)).forward(torch.ones(2, 100, 500))
    for replica in y:  # of 50,000 units: the share's standard deviation is 0.002
        assert (replica == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
        assert replica.mean().item() == pytest.approx(1, abs=0.015)
    assert not torch.equal(y[0], y[1])


# --- a replica alone and among others

ARRAYS = LAYERS | {
    "linear-1-output": (lambda g: Linear(128, 1, g), (25, 128)),
    "linear-1-input": (lambda g: Linear(1, 64, g), (25, 1)),
    "linear-1-row-1-output": (lambda g: Linear(600, 1, g), (1, 600)),
    "linear-odd": (lambda g: Linear(13, 9, g), (23, 13)),
    "linear-odd-1-row": (lambda g: Linear(33, 17, g), (1, 33)),
    "cnn-1-channel": (
        lambda g: Sequential(
            Conv2d(3, 1, 3, g), Tanh(), Conv2d(1, 5, 1, g), ReLU(), Conv2d(5, 1, 1, g)
        ),
        (3, 3, 9, 8),
    ),
    "sigmoid-odd": (lambda g: Sigmoid(), (3, 7)),
}


def outcome(case: str, replicas: range, dtype: torch.dtype) -> list[torch.Tensor]:
    """Outputs while training and evaluating, and all gradients, (replicas, ...) each."""
    make, shape = ARRAYS[case]
    layer = make([generator(replica) for replica in replicas])
    layer.to(dtype)
    x = torch.stack([normal(*shape, dtype=dtype, seed=replica) for replica in replicas])
    y = layer.forward(x)
    dx = layer.backward(
        torch.stack([normal(*y.shape[1:], dtype=dtype, seed=100 + replica) for replica in replicas])
    )
    layer.train(False)
    return [y, dx, layer.forward(x), *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["f64", "f32"])
@pytest.mark.parametrize("case", ARRAYS)
def test_a_replica_has_the_same_bits_in_any_array(case, dtype):
    torch.set_num_threads(1)
    together = outcome(case, range(5), dtype)
    for first, size in [(replica, 1) for replica in range(5)] + [(0, 2), (3, 2), (1, 3)]:
        for part, whole in zip(
            outcome(case, range(first, first + size), dtype), together, strict=True
        ):
            assert torch.equal(part, whole[first : first + size])


@pytest.mark.parametrize("wrong", [(1, 6, 1), (3, 1, 1), (3, 6), (3, 6, 2)])
def test_a_gradient_of_another_shape_is_refused_by_a_layer_of_one_output(wrong):
    """Which multiplies element by element, where torch would stretch the gradient."""
    layer = Linear(4, 1, generators(3))
    layer.forward(normal(3, 6, 4, dtype=torch.float32))
    with pytest.raises(RuntimeError):
        layer.backward(normal(*wrong, dtype=torch.float32))
