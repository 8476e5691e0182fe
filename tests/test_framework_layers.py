"""Every layer, loss and initialiser of the framework against torch.nn, replica by replica: one framework module, a twin each."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from framework import (
    GELU,
    MSE,
    SELU,
    BatchNorm,
    BinaryCrossEntropy,
    Conv2d,
    CrossEntropy,
    Dropout,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool2d,
    PairLoss,
    ReLU,
    Sequential,
    Siamese,
    Sigmoid,
    Tanh,
    he,
    lecun,
    torch_uniform,
    xavier,
)
from framework.siamese import Answer

# How far values may be from torch's, relative and absolute. In float32 a number is rounded to 6e-8 of itself, and the longest sums
# here have some 500 terms of size 1; batch norm of few rows divides by small deviations, which enlarges that.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}

MATRIX = {"1-f64": (1, torch.float64), "3-f64": (3, torch.float64), "1-f32": (1, torch.float32), "3-f32": (3, torch.float32)}
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
    Conv2d: lambda own: nn.Conv2d(own.inputs, own.weight.data.shape[2], own.kernel, own.stride, own.padding),
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


def compare(own, replicas: int, shape: tuple, dtype: torch.dtype, *, seed: int = 0, x: torch.Tensor | None = None) -> list[nn.Module]:
    """Two rounds of forward and backward, whose gradients add up, as of each replica's twin; returns the twins."""
    own.to(dtype)
    twins = [twin_of(own, replica, len(shape)) for replica in range(replicas)]
    own.zero_grad()
    for turn in range(2):
        inputs = normal(replicas, *shape, dtype=dtype, seed=seed + turn) if x is None else x.to(dtype)
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
    "mlp": (lambda g: Sequential(Linear(5, 6, g), Tanh(), Linear(6, 4, g), SELU(), Linear(4, 2, g, bias=False)), (7, 5)),
    "nested": (lambda g: Sequential(Sequential(Linear(5, 6, g), GELU()), Sequential(Sequential(Linear(6, 2, g)))), (7, 5)),
    "normed": (lambda g: Sequential(Linear(5, 6, g), BatchNorm(6, len(g)), ReLU(), Linear(6, 2, g)), (9, 5)),
    "cnn": (
        lambda g: Sequential(Conv2d(1, 3, 3, g), ReLU(), MaxPool2d(2), Conv2d(3, 4, 2, g, padding=1), Tanh(), Flatten(), Linear(48, 2, g)),
        (3, 1, 8, 6),
    ),
    "cnn-normed": (lambda g: Sequential(Conv2d(2, 3, 3, g, stride=2), BatchNorm(3, len(g)), GELU(), MaxPool2d(2, 1)), (4, 2, 9, 7)),
    "cnn-pool-first": (lambda g: Sequential(MaxPool2d(3, 2), Conv2d(2, 3, 2, g), Sigmoid(), Flatten()), (2, 2, 9, 8)),
}


@matrix
@pytest.mark.parametrize("case", LAYERS)
def test_a_layer_is_torchs(case, replicas, dtype):
    make, shape = LAYERS[case]
    layer = make(generators(replicas))
    for number, parameter in enumerate(layer.parameters()):  # so that scales are not all 1, biases not all 0
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
def test_a_convolution_is_torchs(kernel, stride, padding, inputs, outputs, height, width, replicas, dtype):
    layer = Conv2d(inputs, outputs, kernel, generators(replicas), stride=stride, padding=padding)
    compare(layer, replicas, (2, inputs, height, width), dtype)


POOLS = [(1, None, 2, 3), (2, None, 4, 6), (2, None, 5, 7), (2, 1, 3, 4), (3, 1, 5, 3), (3, 2, 7, 8), (2, 3, 8, 6), (3, 3, 3, 3), (4, 2, 9, 4)]


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
    if case.startswith(("linear", "mlp", "cnn-normed")) or case == "cnn":  # a Linear or Conv2d comes first
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
        layers += [Linear(inputs, outputs, generators(replicas, seed), bias=bias, initialise=he), activation()]
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
    compare(Sequential(*layers), replicas, (2, channels[0], height, width), torch.float64, seed=seed)


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
    before, x = layer.state_dict(), 2 + normal(replicas, 1, *shape[1:], dtype=dtype, seed=9)  # one row is enough for evaluating
    layer.train(False)
    for replica, (y, twin) in enumerate(zip(layer.forward(x), twins)):
        assert_close(y, twin.eval()(x[replica]))
    assert all(torch.equal(value, before[name]) for name, value in layer.state().items())
    assert set(before) == {"scale", "shift", "running_mean", "running_variance"}


@matrix
@pytest.mark.parametrize("shape", [(40, 6), (5, 3, 4, 6)], ids=["units", "images"])
@pytest.mark.parametrize("probability", [0.0, 0.2, 0.5, 0.9])
def test_dropout_multiplies_by_its_generators_mask(probability, shape, replicas, dtype, global_generator_untouched):
    layer, twins = Dropout(probability, generators(replicas, 5)), generators(replicas, 5)
    keep = 1 - probability
    for turn in range(2):  # the second masks are others
        x, dy = normal(replicas, *shape, dtype=dtype, seed=turn), normal(replicas, *shape, dtype=dtype, seed=turn + 2)
        mask = torch.stack([torch.rand(shape, generator=twin) < keep for twin in twins]).to(dtype) / keep
        assert_close(layer.forward(x), x * mask)
        assert_close(layer.backward(dy), dy * mask)
    layer.train(False)
    states = [each.get_state() for each in layer.generators]
    assert torch.equal(layer.forward(x), x)
    assert all(torch.equal(each.get_state(), state) for each, state in zip(layer.generators, states))


def test_dropout_drops_the_share_and_keeps_the_mean():
    y = Dropout(0.3, generators(2)).forward(torch.ones(2, 100, 500))
    for replica in y:  # of 50,000 units: the share's standard deviation is 0.002
        assert (replica == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
        assert replica.mean().item() == pytest.approx(1, abs=0.015)
    assert not torch.equal(y[0], y[1])


# --- losses

LOSSES = {  # ours; torch's; the prediction's shape without replicas; the target of a prediction
    "mse-mean": (MSE, functional.mse_loss, (6, 3), torch.sin),
    "mse-sum": (lambda: MSE("sum"), lambda p, t: functional.mse_loss(p, t, reduction="sum"), (6, 3), torch.sin),
    "mse-images": (MSE, functional.mse_loss, (2, 3, 4, 5), torch.sin),
    "bce": (BinaryCrossEntropy, functional.binary_cross_entropy_with_logits, (6, 1), lambda p: (p.sin() > 0).to(p.dtype)),
    "bce-soft": (BinaryCrossEntropy, functional.binary_cross_entropy_with_logits, (6, 2), torch.sigmoid),
    "bce-sum": (
        lambda: BinaryCrossEntropy("sum"),
        lambda p, t: functional.binary_cross_entropy_with_logits(p, t, reduction="sum"), (6, 1), lambda p: (p > 0.3).to(p.dtype),
    ),
    "ce": (CrossEntropy, functional.cross_entropy, (6, 10), lambda p: p.sin().argmax(-1)),
    "ce-sum": (lambda: CrossEntropy("sum"), lambda p, t: functional.cross_entropy(p, t, reduction="sum"), (6, 4), lambda p: p.sin().argmax(-1)),
    "ce-1-row": (CrossEntropy, functional.cross_entropy, (1, 3), lambda p: p.argmin(-1)),
    "ce-places": (CrossEntropy, lambda p, t: functional.cross_entropy(p.flatten(0, 1), t.flatten()), (4, 2, 5), lambda p: p.argmin(-1)),
}  # fmt: skip


def compare_loss(case: str, prediction: torch.Tensor) -> None:
    make, theirs, _, target_of = LOSSES[case]
    loss, target = make(), target_of(prediction)
    for _ in range(2):  # one backward to each forward, and nothing left over
        values = loss.forward(prediction, target)
        gradient = loss.backward()
        assert values.shape == prediction.shape[:1] and gradient.shape == prediction.shape
        for replica in range(len(prediction)):
            twin = prediction[replica].clone().requires_grad_()
            value = theirs(twin, target[replica])
            value.backward()
            assert_close(values[replica], value)
            assert_close(gradient[replica], twin.grad)


@matrix
@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_is_torchs(case, replicas, dtype):
    compare_loss(case, normal(replicas, *LOSSES[case][2], dtype=dtype))


@few
@given(case=st.sampled_from(list(LOSSES)), replicas=st.integers(1, 4), rows=st.integers(1, 7), size=st.floats(1e-3, 30), seed=seeds)
def test_a_loss_of_any_size_is_torchs(case, replicas, rows, size, seed):
    compare_loss(case, size * normal(replicas, rows, *LOSSES[case][2][1:], seed=seed))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", ["bce", "bce-soft", "bce-sum", "ce", "ce-sum"])
def test_extreme_logits_give_finite_losses(case, dtype):
    make, theirs, shape, target_of = LOSSES[case]
    prediction = 1000 * normal(2, *shape, dtype=dtype).sign()
    target = target_of(-prediction)
    loss = make()
    values, gradient = loss.forward(prediction, target), loss.backward()
    assert values.isfinite().all() and gradient.isfinite().all() and values.max() > 300
    assert_close(values, torch.stack([theirs(*each) for each in zip(prediction, target)]))


# --- the siamese network and its loss


class SiameseTwin(nn.Module):
    """Written down the other way: each image through the body by itself."""

    def __init__(self, own: Siamese, replica: int) -> None:
        super().__init__()
        self.body, self.comparison, self.sees = twin_of(own.body, replica, 4), twin_of(own.comparison, replica), own.sees

    def forward(self, x):
        logits = [self.body(image[:, None]) for image in x.unbind(1)]
        seen = torch.cat([each.softmax(-1) if self.sees == "probabilities" else each for each in logits], -1)
        return self.comparison(seen), logits


def siamese(body: str, sees: str, g: list) -> Siamese:
    bodies = {
        "mlp": lambda: Sequential(Flatten(), Linear(20, 8, g), ReLU(), Linear(8, 10, g)),
        "cnn": lambda: Sequential(Conv2d(1, 2, 3, g), GELU(), MaxPool2d(2, 1), Flatten(), Linear(4, 10, g)),
    }
    return Siamese(bodies[body](), Sequential(Linear(20, 6, g), Tanh(), Linear(6, 1, g)), sees=sees)


@matrix
@pytest.mark.parametrize("own_weights", [False, True], ids=["shared", "each"])
@pytest.mark.parametrize("sees", ["probabilities", "logits"])
@pytest.mark.parametrize("body", ["mlp", "cnn"])
def test_the_siamese_network_and_its_loss_are_torchs(body, sees, own_weights, replicas, dtype):
    network = siamese(body, sees, generators(replicas))
    network.to(dtype)
    weights = torch.tensor([0.3, 0.7, 1.5], dtype=dtype) * (1 + torch.arange(replicas)[:, None] if own_weights else 1)
    loss, twins = PairLoss(weights), [SiameseTwin(network, replica) for replica in range(replicas)]
    for turn in range(2):
        x = normal(replicas, 6, 2, 4, 5, dtype=dtype, seed=turn)
        digits = torch.randint(10, (replicas, 6, 2), generator=generator(turn))
        order = (digits[..., :1] <= digits[..., 1:]).to(dtype)
        answer = network.forward(x)
        values = loss.forward(answer, (order, digits))
        dx = network.backward(loss.backward())
        for replica, twin in enumerate(twins):
            theirs = x[replica].clone().requires_grad_()
            comparison, logits = twin(theirs)
            parts = [functional.cross_entropy(each, digits[replica, :, place]) for place, each in enumerate(logits)]
            parts.append(functional.binary_cross_entropy_with_logits(comparison, order[replica]))
            value = (weights.expand(replicas, 3)[replica] * torch.stack(parts)).sum()
            value.backward()
            assert_close(answer.comparison[replica], comparison)
            assert_close(answer.digits[replica], torch.stack(logits, 1))
            assert_close(values[replica], value)
            assert_close(dx[replica], theirs.grad)
            assert_gradients(network, twin, replica)
    network.forward(x)
    gradients = Answer(*map(torch.ones_like, answer))
    assert (network.backward(gradients, input_gradient=False) is None) == (body == "cnn")


# --- initial weights

FAN_IN, FAN_OUT = 60, 500
INITIALISERS = {  # of the weights: variance; largest magnitude, if bounded
    "torch": (torch_uniform, 1 / (3 * FAN_IN), 1 / math.sqrt(FAN_IN)),
    "xavier": (xavier, 2 / (FAN_IN + FAN_OUT), math.sqrt(6 / (FAN_IN + FAN_OUT))),
    "he": (he, 2 / FAN_IN, None),
    "lecun": (lecun, 1 / FAN_IN, None),
}


@pytest.mark.parametrize("case", INITIALISERS)
def test_initial_weights_have_their_papers_variance_and_bounds(case, global_generator_untouched):
    initialise, variance, bound = INITIALISERS[case]
    layer = Linear(FAN_IN, FAN_OUT, generators(2), initialise=initialise)
    for replica, bias in zip(layer.weight.data, layer.bias.data):  # 30,000 values
        assert replica.mean().item() == pytest.approx(0, abs=0.03 * math.sqrt(variance))
        assert replica.var().item() == pytest.approx(variance, rel=0.04)
        if bound is not None:
            assert replica.abs().max().item() == pytest.approx(bound, rel=1e-3)
        else:  # of a normal distribution 4.6 % are more than two standard deviations out
            assert (replica.abs() > 2 * math.sqrt(variance)).float().mean().item() == pytest.approx(0.0455, abs=0.006)
        assert (bias.abs().max() == 0) == (case != "torch")


@pytest.mark.parametrize("case", INITIALISERS)
@pytest.mark.parametrize("inputs, outputs", [(1, 1), (3, 5), (16, 33)])
def test_a_seed_gives_the_same_weights_in_any_array(inputs, outputs, case):
    make = {
        "linear": lambda g: Linear(inputs, outputs, g, initialise=INITIALISERS[case][0]),
        "conv": lambda g: Conv2d(inputs, outputs, 2, g, initialise=INITIALISERS[case][0]),
    }
    for of in make.values():
        alone = {seed: of(generator(seed)).state() for seed in range(4)}
        for array in ([0, 1, 2, 3], [3, 1], [2], [0, 0]):
            together = of([generator(seed) for seed in array]).state()
            for name, values in together.items():
                assert all(torch.equal(values[place], alone[seed][name][0]) for place, seed in enumerate(array))
        assert not torch.equal(alone[0]["weight"], alone[1]["weight"])


@pytest.mark.parametrize("make, twin", [
    (lambda g: Linear(50, 900, g), lambda: nn.Linear(50, 900)),
    (lambda g: Conv2d(4, 900, 3, g), lambda: nn.Conv2d(4, 900, 3)),
], ids=["linear", "conv"])  # fmt: skip
def test_the_default_has_torchs_bounds(make, twin):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = twin()
    for ours, like in zip(make(generator()).parameters(), theirs.parameters(), strict=True):
        assert ours.data.abs().max().item() == pytest.approx(like.abs().max().item(), rel=0.01)
        assert ours.data.std().item() == pytest.approx(like.std().item(), rel=0.05)
