"""The gradient check passes every layer, loss and whole network of the framework."""

import pytest
import torch

import framework as fw
from tests.framework_twins import (
    LAYERS,
    assert_state,
    generators,
    normal,
    normal32,
    small_siamese,
)

R = 2  # replicas

BODIES = {
    "mlp": lambda g: fw.Sequential(
        fw.Flatten(),
        fw.Linear(20, 6, g),
        fw.BatchNorm(6, R),
        fw.ReLU(),
        fw.Dropout(0.3, g),
        fw.Linear(6, 10, g),
    ),
    "cnn": lambda g: fw.Sequential(
        fw.Conv2d(1, 2, 2, g),
        fw.BatchNorm(2, R),
        fw.Tanh(),
        fw.MaxPool2d(2, 1),
        fw.Flatten(),
        fw.Dropout(0.3, g),
        fw.Linear(12, 10, g),
    ),
}
CHECKED = LAYERS | {  # made from generators; the input's shape without replicas
    "dropout": (lambda g: fw.Dropout(0.4, g), (5, 4)),
    "dropout-images": (lambda g: fw.Dropout(0.4, g), (3, 2, 3, 2)),
    "conv": (lambda g: fw.Conv2d(2, 3, 3, g), (2, 2, 4, 5)),
    "conv-strided": (lambda g: fw.Conv2d(2, 2, 3, g, stride=2, padding=1), (2, 2, 6, 5)),
    "pool": (lambda g: fw.MaxPool2d(2), (3, 2, 5, 4)),
    "pool-overlapping": (lambda g: fw.MaxPool2d(3, 1), (2, 2, 5, 4)),
    "mlp-dropout": (BODIES["mlp"], (4, 1, 4, 5)),
    "cnn-dropout": (BODIES["cnn"], (4, 1, 4, 5)),
}


def names_in(module: fw.Module) -> set[str]:
    return {"x"} | {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize("case", CHECKED)
def test_layer_passes(case, global_generator_untouched):
    make, shape = CHECKED[case]
    layer = make(generators(R))
    deviations = fw.gradcheck(layer, normal(R, *shape), tolerance=1e-7)
    assert set(deviations) == names_in(layer)
    assert max(deviations.values()) < 1e-7


LOSSES = {
    "mse": (fw.MSE(), torch.sin),
    "mse-sum": (fw.MSE("sum"), torch.sin),
    "bce": (fw.BinaryCrossEntropy(), torch.sigmoid),
    "bce-sum": (fw.BinaryCrossEntropy("sum"), lambda p: (p > 0).to(p.dtype)),
    "ce": (fw.CrossEntropy(), lambda p: p.argmin(-1)),
    "ce-sum": (fw.CrossEntropy("sum"), lambda p: p.argmin(-1)),
    "ce-settings": (
        fw.CrossEntropy(
            label_smoothing=0.2, class_weights=torch.tensor([0.5, 2, 1]), ignore_index=1
        ),
        lambda p: p.argmin(-1),
    ),
    "ce-probabilities": (fw.CrossEntropy(label_smoothing=0.1), lambda p: p.sin().softmax(-1)),
    "bce-weights": (
        fw.BinaryCrossEntropy(pos_weight=3.0, weight=torch.tensor([0.5, 2, 1])),
        torch.sigmoid,
    ),
    "huber": (fw.Huber(delta=0.4), torch.sin),
    "l1": (fw.L1(), torch.cos),
    "mse-none": (fw.MSE("none"), torch.sin),
}


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3)], ids=["rows", "places"])
@pytest.mark.parametrize("case", LOSSES)
def test_loss_passes_alone(case, shape):
    loss, target_of = LOSSES[case]
    prediction = normal(R, *shape)
    target = target_of(prediction)
    assert set(fw.gradcheck(loss, prediction, target=target, tolerance=1e-7)) == {"x"}


@pytest.mark.parametrize("case", LOSSES)
def test_loss_passes_behind_a_network(case):
    loss, target_of = LOSSES[case]
    g = generators(R)
    network = fw.Sequential(
        fw.Linear(4, 6, g), fw.Tanh(), fw.Dropout(0.3, generators(R)), fw.Linear(6, 3, g)
    )
    target = target_of(normal(R, 5, 3))
    deviations = fw.gradcheck(network, normal(R, 5, 4), loss=loss, target=target, tolerance=1e-7)
    assert set(deviations) == {"x", "0.weight", "0.bias", "3.weight", "3.bias"}


def pair_targets(rows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    digits = torch.randint(10, (R, rows, 2), generator=generators(1)[0])
    return (digits[..., :1] <= digits[..., 1:]).double(), digits


@pytest.mark.slow
@pytest.mark.parametrize(
    "weights", [[1.0, 1.0, 1.0], [[0.2, 0.3, 1.5], [1.0, 0.0, 0.5]]], ids=["shared", "each"]
)
@pytest.mark.parametrize("sees", ["probabilities", "logits"])
@pytest.mark.parametrize("body", BODIES)
def test_siamese_network_passes(body, sees, weights):
    g = generators(R)
    network = fw.Siamese(BODIES[body](g), fw.mlp(20, [5], 1, g, activation="gelu"), sees=sees)
    loss = fw.PairLoss(torch.tensor(weights, dtype=torch.float64))
    x = normal(R, 4, 2, 4, 5)
    deviations = fw.gradcheck(network, x, loss=loss, target=pair_targets(), coordinates=10)
    assert set(deviations) == names_in(network)
    fw.gradcheck(network, x, coordinates=5)  # both outputs, without a loss


def test_check_changes_neither_network_nor_input():
    dropout = fw.Dropout(0.5, generators(R))
    network = fw.Sequential(fw.Linear(4, 3, generators(R)), fw.BatchNorm(3, R), dropout)
    network.train(False)
    before, x = network.state_dict(), normal(R, 5, 4)
    x_before, states = x.clone(), [each.get_state() for each in dropout.generators]
    fw.gradcheck(network, x)
    assert_state(network, before)
    assert all(value.dtype == torch.float32 for value in network.state().values())
    for generator, state in zip(dropout.generators, states):
        assert torch.equal(generator.get_state(), state)
    assert torch.equal(x, x_before) and not any(module.training for _, module in network.modules())
    assert not any(parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("loss", [None, fw.MSE(), fw.BinaryCrossEntropy()])
def test_float32_data_are_checked_in_float64(loss):
    network = fw.Sequential(fw.Linear(4, 3, generators(R)), fw.Tanh())
    target = torch.full((R, 5, 3), 0.5)
    fw.gradcheck(network, normal32(R, 5, 4), loss=loss, target=target, tolerance=1e-7)


def test_float32_data_of_pairs_are_checked_in_float64():
    comparison, digits = pair_targets()
    fw.gradcheck(
        small_siamese(generators(R)),
        normal32(R, 4, 2, 4, 5),
        loss=fw.PairLoss(torch.ones(3)),
        target=(comparison.float(), digits),
        coordinates=5,
    )


def test_input_that_is_not_contiguous_is_checked():
    fw.gradcheck(fw.Linear(4, 3, generators(R)), normal(R, 4, 5).mT, tolerance=1e-7)
