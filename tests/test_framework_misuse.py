"""What the framework says to wrong use."""

import re

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
    PairLoss,
    ReLU,
    Sequential,
    Siamese,
    Sigmoid,
    Tanh,
    mlp,
)
from framework.siamese import Answer
from tests.framework_twins import generators, normal

R = 3


def float32(*shape: int, seed: int = 0) -> torch.Tensor:
    return normal(*shape, dtype=torch.float32, seed=seed)


def siamese() -> Siamese:
    g = generators(R)
    return Siamese(
        Sequential(Flatten(), Linear(12, 10, g)),
        Sequential(Linear(20, 4, g), ReLU(), Linear(4, 1, g)),
    )


# --- order of calls

LAYERS = {  # how it is made, an input that it takes
    "Linear": (lambda: Linear(4, 2, generators(R)), (R, 5, 4)),
    "ReLU": (ReLU, (R, 5, 4)),
    "LeakyReLU": (LeakyReLU, (R, 5, 4)),
    "Tanh": (Tanh, (R, 5, 4)),
    "Sigmoid": (Sigmoid, (R, 5, 4)),
    "SELU": (SELU, (R, 5, 4)),
    "GELU": (GELU, (R, 5, 4)),
    "Dropout": (lambda: Dropout(0.5, generators(R)), (R, 5, 4)),
    "BatchNorm": (lambda: BatchNorm(4, R), (R, 5, 4)),
    "Flatten": (Flatten, (R, 5, 2, 3, 4)),
    "Conv2d": (lambda: Conv2d(2, 3, 2, generators(R)), (R, 5, 2, 3, 4)),
    "MaxPool2d": (lambda: MaxPool2d(2), (R, 5, 2, 3, 4)),
    "Sequential": (lambda: Sequential(Linear(4, 2, generators(R)), Tanh()), (R, 5, 4)),
    "Siamese": (siamese, (R, 5, 2, 3, 4)),
}


def gradient(y):
    return type(y)(*map(torch.ones_like, y)) if isinstance(y, tuple) else torch.ones_like(y)


def works(layer, x: torch.Tensor) -> None:
    """After train() a forward and a backward go through, whatever came before."""
    layer.train()
    layer.zero_grad()
    y = layer.forward(x)
    assert layer.backward(gradient(y)).shape == x.shape
    assert all(
        parameter.grad.any() for parameter in layer.parameters() if not isinstance(layer, BatchNorm)
    )


def evaluated(layer, x: torch.Tensor):
    layer.train(False)
    return layer.forward(x)


@pytest.mark.parametrize("case", LAYERS)
def test_a_backward_without_a_forward_says_so(case):
    make, shape = LAYERS[case]
    layer, x = make(), float32(*shape)
    dy = gradient(evaluated(layer, x))
    layer.train()
    for _ in range(2):  # before any forward; a second time after one
        with pytest.raises(
            RuntimeError, match=r"^\w+: backward cannot be computed, no forward came before it$"
        ):
            layer.backward(dy)
        works(layer, x)


@pytest.mark.parametrize("case", LAYERS)
def test_a_second_forward_before_the_backward_says_so(case):
    make, shape = LAYERS[case]
    layer, x = make(), float32(*shape)
    layer.forward(x)
    with pytest.raises(
        RuntimeError, match=r"^\w+: a second forward before the backward of the first"
    ):
        layer.forward(x)
    works(layer, x)


@pytest.mark.parametrize("case", LAYERS)
def test_a_forward_while_evaluating_keeps_nothing_and_backward_says_so(case):
    make, shape = LAYERS[case]
    layer, x = make(), float32(*shape)
    layer.forward(x)
    for _ in range(2):  # as often as one likes
        y = evaluated(layer, x)
    assert all(module._kept is None for _, module in layer.modules())
    with pytest.raises(
        RuntimeError,
        match=r"^\w+: backward cannot be computed, while evaluating forward keeps nothing; call train\(\) first$",
    ):
        layer.backward(gradient(y))
    works(layer, x)


LOSSES = {  # the loss, a prediction, its target
    "MSE": (MSE, float32(R, 5, 2), float32(R, 5, 2, seed=1)),
    "BinaryCrossEntropy": (BinaryCrossEntropy, float32(R, 5, 1), torch.ones(R, 5, 1)),
    "CrossEntropy": (CrossEntropy, float32(R, 5, 4), torch.ones(R, 5, dtype=torch.int64)),
    "PairLoss": (
        lambda: PairLoss(torch.ones(3)),
        Answer(float32(R, 5, 1), float32(R, 5, 2, 4)), (torch.ones(R, 5, 1), torch.ones(R, 5, 2, dtype=torch.int64)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_says_what_is_called_out_of_order(case):
    make, prediction, target = LOSSES[case]
    loss = make()
    with pytest.raises(RuntimeError, match="no forward came before it"):
        loss.backward()
    loss.train()
    loss.forward(prediction, target)
    with pytest.raises(RuntimeError, match="a second forward before the backward"):
        loss.forward(prediction, target)
    loss.train(False)
    loss.forward(prediction, target)
    loss.forward(prediction, target)
    with pytest.raises(RuntimeError, match="while evaluating forward keeps nothing"):
        loss.backward()
    loss.train()
    loss.forward(prediction, target)
    assert isinstance(loss.backward(), type(prediction))


# --- inputs

INPUTS = {  # what arrives, and what the error says is accepted; or all of it
    "Linear-units": (float32(R, 5, 3), "(3, rows, 4) float32"),
    "Linear-replicas": (float32(2, 5, 4), "(3, rows, 4) float32"),
    "Linear-one-replica": (float32(1, 5, 4), "(3, rows, 4) float32"),
    "Linear-no-replicas": (float32(5, 4), "(3, rows, 4) float32"),
    "Linear-images": (float32(R, 5, 1, 2, 2), "(3, rows, 4) float32"),
    "Linear-float64": (normal(R, 5, 4), "(3, rows, 4) float32"),
    "Linear-uint8": (torch.ones(R, 5, 4, dtype=torch.uint8), "(3, rows, 4) float32"),
    "Conv2d-channels": (float32(R, 5, 1, 3, 4), "(3, rows, 2, height, width) float32"),
    "Conv2d-replicas": (float32(1, 5, 2, 3, 4), "(3, rows, 2, height, width) float32"),
    "Conv2d-flat": (float32(R, 5, 24), "(3, rows, 2, height, width) float32"),
    "Conv2d-float64": (normal(R, 5, 2, 3, 4), "(3, rows, 2, height, width) float32"),
    "Conv2d-small": (float32(R, 5, 2, 3, 1), "images of at least 2 pixels' height and width"),
    "MaxPool2d-flat": (
        float32(R, 5, 4),
        "(replicas, rows, channels, height, width) of at least 2 pixels' height and width",
    ),
    "MaxPool2d-no-replicas": (
        float32(5, 2, 4, 4),
        "(replicas, rows, channels, height, width) of at least 2 pixels' height and width",
    ),
    "MaxPool2d-small": (
        float32(R, 5, 2, 1, 4),
        "(replicas, rows, channels, height, width) of at least 2 pixels' height and width",
    ),
    "BatchNorm-units": (float32(R, 5, 3), "(3, rows, 4) float32"),
    "BatchNorm-replicas": (float32(1, 5, 4), "(3, rows, 4) float32"),
    "BatchNorm-no-replicas": (float32(5, 4), "(3, rows, 4) float32"),
    "BatchNorm-float64": (normal(R, 5, 4), "(3, rows, 4) float32"),
    "BatchNorm-channels": (float32(R, 5, 3, 2, 2), "(3, rows, 4, height, width) float32"),
    "BatchNorm-four-axes": (float32(R, 5, 4, 4), ""),
    "BatchNorm-one-row": (
        float32(R, 1, 4),
        "batch norm cannot train on 1 number a channel, from an input of shape (3, 1, 4): at least 2",
    ),
    "BatchNorm-one-pixel": (
        float32(R, 1, 4, 1, 1),
        "batch norm cannot train on 1 number a channel, from an input of shape (3, 1, 4, 1, 1): at least 2",
    ),
    "Dropout-replicas": (float32(2, 5, 4), "(3, rows, units)"),
    "Flatten-no-replicas": (float32(4), ""),
    "Siamese-one-image": (float32(R, 5, 1, 3, 4), "(replicas, rows, 2, height, width)"),
    "Siamese-flat": (float32(R, 5, 2, 12), "(replicas, rows, 2, height, width)"),
    "Siamese-size": (
        float32(R, 5, 2, 3, 3),
        "input of Linear is (3, 10, 9) float32, accepted is (3, rows, 12) float32",
    ),
    "Siamese-replicas": (
        float32(2, 5, 2, 3, 4),
        "input of Linear is (2, 10, 12) float32, accepted is (3, rows, 12) float32",
    ),
}


def told_of(case: str) -> str:
    """The pattern of the error: which layer, what arrived, what is accepted."""
    arrives, told = INPUTS[case]
    if told[:1] in ("(", ""):
        told = f"the input of {case.split('-')[0]} is {described(arrives)}, accepted is {told}"
    return re.escape(told)


def described(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).split('.')[1]}"


@pytest.mark.parametrize("case", INPUTS)
def test_a_wrong_input_is_named_and_the_network_goes_on(case):
    make, shape = LAYERS[case.split("-")[0]]
    layer = make()
    before = layer.state_dict()
    with pytest.raises(ValueError, match=told_of(case)):
        layer.forward(INPUTS[case][0])
    assert all(torch.equal(value, before[name]) for name, value in layer.state().items())
    works(layer, float32(*shape))


@pytest.mark.parametrize(
    "case", [case for case in INPUTS if not case.startswith(("BatchNorm-one", "Dropout"))]
)
def test_a_wrong_input_is_named_while_evaluating(case):
    layer = LAYERS[case.split("-")[0]][0]()
    with pytest.raises(ValueError, match=told_of(case)):
        evaluated(layer, INPUTS[case][0])


@pytest.mark.parametrize("again", [False, True], ids=["at-once", "after-another"])
def test_after_an_error_deep_in_a_network_training_gives_what_it_gave_before(again):
    g = generators(R)
    network = Sequential(
        Linear(4, 5, g),
        Tanh(),
        Sequential(BatchNorm(5, R), Linear(5, 3, g)),
        SELU(),
        Linear(3, 2, g),
    )
    x = float32(R, 6, 4)
    expected = gradients_of(network, x)
    good = network.sequence[4]
    network.sequence = (*network.sequence[:4], Linear(7, 2, generators(R)))
    with pytest.raises(
        ValueError, match=r"input of Linear is \(3, 6, 3\) float32, accepted is \(3, rows, 7\)"
    ):
        network.forward(x)
    network.sequence = (*network.sequence[:4], good)
    if again:
        with pytest.raises(RuntimeError, match="Linear: a second forward"):
            network.forward(x)
    for ours, theirs in zip(gradients_of(network, x), expected):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def gradients_of(network, x) -> list[torch.Tensor]:
    network.train()
    network.zero_grad()
    dx = network.backward(gradient(network.forward(x)))
    return [dx, *(parameter.grad.clone() for parameter in network.parameters())]


# --- targets, settings

ONES = torch.ones(R, 5, dtype=torch.int64)
PAIRS = ONES[..., None].expand(R, 5, 2)
TARGETS = {  # what arrives as the target; what the error says is accepted, or how it says so
    "MSE-shape": (float32(R, 5, 1), "(3, 5, 2) float32"),
    "MSE-flat": (float32(R, 5), "(3, 5, 2) float32"),
    "MSE-replicas": (float32(1, 5, 2), "(3, 5, 2) float32"),
    "MSE-dtype": (normal(R, 5, 2), "(3, 5, 2) float32"),
    "BinaryCrossEntropy-shape": (torch.ones(R, 5), "(3, 5, 1) float32"),
    "BinaryCrossEntropy-dtype": (ONES[..., None], "(3, 5, 1) float32"),
    "CrossEntropy-one-hot": (
        ONES[..., None].expand(R, 5, 4),
        "(3, 5) int64 for logits (3, 5, 4) float32",
    ),
    "CrossEntropy-replicas": (ONES[:1], "(3, 5) int64"),
    "CrossEntropy-float": (torch.ones(R, 5), "(3, 5) int64"),
    "CrossEntropy-int32": (torch.ones(R, 5, dtype=torch.int32), "(3, 5) int64"),
    "PairLoss-digits": (
        (torch.ones(R, 5, 1), ONES),
        "digits are (3, 5) int64, accepted is (3, 5, 2) int64",
    ),
    "PairLoss-digits-float": (
        (torch.ones(R, 5, 1), torch.ones(R, 5, 2)),
        "is (3, 5) float32, accepted is (3, 5) int64",
    ),
    "PairLoss-order": (
        (torch.ones(R, 5), PAIRS),
        "is (3, 5) float32, accepted is (3, 5, 1) float32",
    ),
    "PairLoss-order-int": (
        (ONES[..., None], PAIRS),
        "is (3, 5, 1) int64, accepted is (3, 5, 1) float32",
    ),
}


@pytest.mark.parametrize("case", TARGETS)
def test_a_wrong_target_is_named_and_the_loss_goes_on(case):
    make, prediction, target = LOSSES[case.split("-")[0]]
    loss = make()
    arrives, told = TARGETS[case]
    if isinstance(arrives, torch.Tensor):
        told = f"the target of {type(loss).__name__} is {described(arrives)}, accepted is {told}"
    with pytest.raises(ValueError, match=re.escape(told)):
        loss.forward(prediction, arrives)
    loss.train()
    loss.forward(prediction, target)
    assert isinstance(loss.backward(), type(prediction))


@pytest.mark.parametrize("place", [-1, 4, 100])
def test_a_class_that_does_not_exist_is_an_error(place):
    target = torch.ones(R, 5, dtype=torch.int64)
    target[1, 2] = place
    with pytest.raises(
        (ValueError, RuntimeError, IndexError), match=f"{place}.*4"
    ):  # names the class and how many there are
        CrossEntropy().forward(float32(R, 5, 4), target)


@pytest.mark.parametrize(
    "weights", [torch.ones(2), torch.ones(2, 3), torch.ones(R, 4)], ids=["2", "2-replicas", "4"]
)
def test_weights_of_a_pair_loss_that_do_not_fit_are_named(weights):
    _, prediction, target = LOSSES["PairLoss"]
    shape = re.escape(str(tuple(weights.shape)))
    with pytest.raises(ValueError, match=f"weights.*{shape}.*accepted"):
        loss = PairLoss(weights)
        loss.forward(prediction, target)


SETTINGS = {
    "dropout.*1.0.*accepted": lambda: Dropout(1.0, generators(R)),
    "dropout.*-0.1.*accepted": lambda: Dropout(-0.1, generators(R)),
    "dropout.*nan.*accepted": lambda: Dropout(float("nan"), generators(R)),
    "reduction.*'max'.*'mean' or 'sum'": lambda: MSE("max"),
    "sees.*'images'.*'probabilities' or 'logits'": lambda: Siamese(
        Flatten(), Flatten(), sees="images"
    ),
}


@pytest.mark.parametrize("told", SETTINGS)
def test_a_wrong_setting_is_named(told):
    with pytest.raises(ValueError, match=told):
        SETTINGS[told]()


def test_a_state_that_does_not_fit_is_named_and_changes_nothing():
    network = mlp(4, [3], 2, generators(R))
    before = network.state_dict()
    with pytest.raises(
        KeyError,
        match="the state has 0.weight, 0.bias; accepted is 0.weight, 0.bias, 2.weight, 2.bias",
    ):
        network.load_state_dict(
            {name: 1 + value for name, value in before.items() if name.startswith("0")}
        )
    with pytest.raises(
        ValueError, match=re.escape("2.bias is (3, 1, 5) float32, accepted is (3, 1, 2) float32")
    ):
        network.load_state_dict(
            {name: 1 + value for name, value in before.items()} | {"2.bias": torch.ones(R, 1, 5)}
        )
    assert all(torch.equal(value, before[name]) for name, value in network.state().items())
