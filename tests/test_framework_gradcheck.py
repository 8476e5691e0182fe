"""The gradient check passes what is right: every layer, loss and whole network."""

import pytest
import torch

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
    Module,
    PairLoss,
    ReLU,
    Sequential,
    Siamese,
    Sigmoid,
    Tanh,
    gradcheck,
)
from tests.framework_twins import generators, normal

R = 2  # replicas; of each replica its own generator


LAYERS = {  # of generators; the input's shape without replicas
    "linear": (lambda g: Linear(4, 3, g), (5, 4)),
    "linear-no-bias": (lambda g: Linear(4, 3, g, bias=False), (5, 4)),
    "linear-1-row": (lambda g: Linear(4, 3, g), (1, 4)),
    "relu": (lambda g: ReLU(), (5, 4)),
    "leaky": (lambda g: LeakyReLU(0.2), (5, 4)),
    "tanh": (lambda g: Tanh(), (5, 4)),
    "sigmoid": (lambda g: Sigmoid(), (5, 4)),
    "selu": (lambda g: SELU(), (5, 4)),
    "gelu": (lambda g: GELU(), (5, 4)),
    "dropout": (lambda g: Dropout(0.4, g), (5, 4)),
    "dropout-images": (lambda g: Dropout(0.4, g), (3, 2, 3, 2)),
    "batch-norm": (lambda g: BatchNorm(4, R), (5, 4)),
    "batch-norm-images": (lambda g: BatchNorm(2, R), (3, 2, 3, 2)),
    "flatten": (lambda g: Flatten(), (3, 2, 3, 2)),
    "conv": (lambda g: Conv2d(2, 3, 3, g), (2, 2, 4, 5)),
    "conv-strided": (lambda g: Conv2d(2, 2, 3, g, stride=2, padding=1), (2, 2, 6, 5)),
    "pool": (lambda g: MaxPool2d(2), (3, 2, 5, 4)),
    "pool-overlapping": (lambda g: MaxPool2d(3, 1), (2, 2, 5, 4)),
    "mlp": (lambda g: Sequential(Linear(4, 6, g), BatchNorm(6, R), GELU(), Dropout(0.3, g), Linear(6, 3, g), Tanh()), (6, 4)),
    "cnn": (
        lambda g: Sequential(Conv2d(1, 2, 3, g, padding=1), BatchNorm(2, R), SELU(), MaxPool2d(2), Dropout(0.2, g), Flatten(), Linear(12, 3, g)),
        (4, 1, 6, 4),
    ),
}  # fmt: skip


def parameters(module: Module) -> set[str]:
    return {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize("case", LAYERS)
def test_every_layer_passes(case, global_generator_untouched):
    make, shape = LAYERS[case]
    layer = make(generators(R))
    deviations = gradcheck(layer, normal(R, *shape), tolerance=1e-7)
    assert set(deviations) == {"x"} | parameters(layer)
    assert max(deviations.values()) < 1e-7


LOSSES = {
    "mse": (MSE(), torch.sin),
    "mse-sum": (MSE("sum"), torch.sin),
    "bce": (BinaryCrossEntropy(), torch.sigmoid),
    "bce-sum": (BinaryCrossEntropy("sum"), lambda p: (p > 0).to(p.dtype)),
    "ce": (CrossEntropy(), lambda p: p.argmin(-1)),
    "ce-sum": (CrossEntropy("sum"), lambda p: p.argmin(-1)),
}


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3)], ids=["rows", "places"])
@pytest.mark.parametrize("case", LOSSES)
def test_every_loss_passes_alone_and_behind_a_network(case, shape):
    loss, target_of = LOSSES[case]
    prediction = normal(R, *shape)
    assert set(gradcheck(loss, prediction, target=target_of(prediction), tolerance=1e-7)) == {"x"}
    if len(shape) == 2:
        network = Sequential(
            Linear(4, 6, generators(R)),
            Tanh(),
            Dropout(0.3, generators(R)),
            Linear(6, 3, generators(R)),
        )
        deviations = gradcheck(
            network, normal(R, 5, 4), loss=loss, target=target_of(prediction), tolerance=1e-7
        )
        assert set(deviations) == {"x", "0.weight", "0.bias", "3.weight", "3.bias"}


def siamese(body: str, sees: str) -> Siamese:
    g = generators(R)
    bodies = {
        "mlp": lambda: (
            Flatten(),
            Linear(20, 6, g),
            BatchNorm(6, R),
            ReLU(),
            Dropout(0.3, g),
            Linear(6, 10, g),
        ),
        "cnn": lambda: (
            Conv2d(1, 2, 2, g),
            BatchNorm(2, R),
            Tanh(),
            MaxPool2d(2, 1),
            Flatten(),
            Dropout(0.3, g),
            Linear(12, 10, g),
        ),
    }
    return Siamese(
        Sequential(*bodies[body]()),
        Sequential(Linear(20, 5, g), GELU(), Linear(5, 1, g)),
        sees=sees,
    )


def pair_targets(rows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    digits = torch.randint(10, (R, rows, 2), generator=generators(1)[0])
    return (digits[..., :1] <= digits[..., 1:]).double(), digits


@pytest.mark.parametrize(
    "weights", [[1.0, 1.0, 1.0], [[0.2, 0.3, 1.5], [1.0, 0.0, 0.5]]], ids=["shared", "each"]
)
@pytest.mark.parametrize("sees", ["probabilities", "logits"])
@pytest.mark.parametrize("body", ["mlp", "cnn"])
def test_the_siamese_network_passes(body, sees, weights):
    network = siamese(body, sees)
    loss = PairLoss(torch.tensor(weights, dtype=torch.float64))
    deviations = gradcheck(
        network, normal(R, 4, 2, 4, 5), loss=loss, target=pair_targets(), coordinates=10
    )
    assert set(deviations) == {"x"} | parameters(network)
    gradcheck(network, normal(R, 4, 2, 4, 5), coordinates=5)  # of both outputs, without a loss


def test_the_check_changes_neither_network_nor_input():
    network = Sequential(Linear(4, 3, generators(R)), BatchNorm(3, R), Dropout(0.5, generators(R)))
    network.train(False)
    before, x = network.state_dict(), normal(R, 5, 4)
    copy, states = x.clone(), [each.get_state() for each in network.sequence[2].generators]
    gradcheck(network, x)
    assert all(
        torch.equal(value, before[name]) and value.dtype == torch.float32
        for name, value in network.state().items()
    )
    assert all(
        torch.equal(each.get_state(), state)
        for each, state in zip(network.sequence[2].generators, states)
    )
    assert torch.equal(x, copy) and not any(module.training for _, module in network.modules())
    assert all(not parameter.grad.any() for parameter in network.parameters())


def test_float32_data_are_checked_in_float64():
    network, x = (
        Sequential(Linear(4, 3, generators(R)), Tanh()),
        normal(R, 5, 4, dtype=torch.float32),
    )
    gradcheck(network, x, tolerance=1e-7)
    for loss in (MSE(), BinaryCrossEntropy()):
        gradcheck(network, x, loss=loss, target=torch.full((R, 5, 3), 0.5), tolerance=1e-7)
    comparison, digits = pair_targets()
    gradcheck(
        siamese("mlp", "logits"),
        normal(R, 4, 2, 4, 5),
        loss=PairLoss(torch.ones(3)),
        target=(comparison.float(), digits),
        coordinates=5,
    )


def test_an_input_that_is_not_contiguous_is_checked():
    gradcheck(Linear(4, 3, generators(R)), normal(R, 4, 5).mT, tolerance=1e-7)
