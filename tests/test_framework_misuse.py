"""The errors of the framework's layers and losses: order of calls, inputs, targets, settings."""

import re

import pytest
import torch

import framework as fw
from framework.siamese import Answer
from tests.framework_twins import ACTIVATIONS, assert_state, generators, normal, normal32

R = 3


def siamese() -> fw.Siamese:
    g = generators(R)
    return fw.Siamese(fw.Sequential(fw.Flatten(), fw.Linear(12, 10, g)), fw.mlp(20, [4], 1, g))


# --- order of calls

UNITS, IMAGES = (R, 5, 4), (R, 5, 2, 3, 4)
LAYERS = {  # how it is made; the shape of an accepted input
    "Linear": (lambda: fw.Linear(4, 2, generators(R)), UNITS),
    **{kind.__name__: (kind, UNITS) for kind in ACTIVATIONS},
    "Dropout": (lambda: fw.Dropout(0.5, generators(R)), UNITS),
    "BatchNorm": (lambda: fw.BatchNorm(4, R), UNITS),
    "Flatten": (fw.Flatten, IMAGES),
    "Conv2d": (lambda: fw.Conv2d(2, 3, 2, generators(R)), IMAGES),
    "MaxPool2d": (lambda: fw.MaxPool2d(2), IMAGES),
    "Sequential": (lambda: fw.Sequential(fw.Linear(4, 2, generators(R)), fw.Tanh()), UNITS),
    "Siamese": (siamese, IMAGES),
    "PosteriorComparison": (fw.PosteriorComparison, UNITS),
}


def ones_like(y):
    return type(y)(*map(torch.ones_like, y)) if isinstance(y, tuple) else torch.ones_like(y)


def assert_trains(layer, x: torch.Tensor) -> None:
    """After train() a forward and a backward pass succeed, whatever came before."""
    layer.train()
    layer.zero_grad()
    y = layer.forward(x)
    assert layer.backward(ones_like(y)).shape == x.shape
    if not isinstance(layer, fw.BatchNorm):
        assert all(parameter.grad.any() for parameter in layer.parameters())


def evaluate(layer, x: torch.Tensor):
    layer.train(False)
    return layer.forward(x)


@pytest.mark.parametrize("case", LAYERS)
def test_backward_without_a_forward(case):
    make, shape = LAYERS[case]
    layer, x = make(), normal32(*shape)
    dy = ones_like(evaluate(layer, x))
    layer.train()
    message = r"^\w+: backward cannot be computed, no forward came before it, or another backward"
    for _ in range(2):  # before any forward; a second time after one
        with pytest.raises(RuntimeError, match=message):
            layer.backward(dy)
        assert_trains(layer, x)


@pytest.mark.parametrize("case", LAYERS)
def test_second_forward_before_the_backward(case):
    make, shape = LAYERS[case]
    layer, x = make(), normal32(*shape)
    layer.forward(x)
    with pytest.raises(RuntimeError, match=r"^\w+: a second forward before the backward of the"):
        layer.forward(x)
    assert_trains(layer, x)


def test_kept_shows_what_forward_kept_until_backward_takes_it():
    layer, x = fw.LeakyReLU(), torch.tensor([[[1.0, -2.0]]])
    assert layer.kept is None
    y = layer.forward(x)
    assert layer.kept is x
    layer.backward(torch.ones_like(y))
    assert layer.kept is None
    layer.eval().forward(x)
    assert layer.kept is None


@pytest.mark.parametrize("case", LAYERS)
def test_backward_during_evaluation(case):
    make, shape = LAYERS[case]
    layer, x = make(), normal32(*shape)
    layer.forward(x)
    for _ in range(2):  # evaluation may be repeated
        y = evaluate(layer, x)
    assert all(module._kept is None for _, module in layer.modules())
    message = (
        r"^\w+: backward cannot be computed, "
        r"forward keeps nothing during evaluation; call train\(\) first$"
    )
    with pytest.raises(RuntimeError, match=message):
        layer.backward(ones_like(y))
    assert_trains(layer, x)


ONES = torch.ones(R, 5)
CLASSES = torch.ones(R, 5, dtype=torch.int64)
PAIRS = torch.ones(R, 5, 2, dtype=torch.int64)
LOSSES = {  # the loss, a prediction, its target
    "MSE": (fw.MSE, normal32(R, 5, 2), normal32(R, 5, 2, seed=1)),
    "BinaryCrossEntropy": (fw.BinaryCrossEntropy, normal32(R, 5, 1), ONES[..., None]),
    "CrossEntropy": (fw.CrossEntropy, normal32(R, 5, 4), CLASSES),
    "PairLoss": (
        lambda: fw.PairLoss(torch.ones(3)),
        Answer(normal32(R, 5, 1), normal32(R, 5, 2, 4)),
        (ONES[..., None], PAIRS),
    ),
}


@pytest.mark.parametrize("case", LOSSES)
def test_calls_of_a_loss_out_of_order(case):
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
    with pytest.raises(RuntimeError, match="forward keeps nothing during evaluation"):
        loss.backward()
    loss.train()
    loss.forward(prediction, target)
    assert isinstance(loss.backward(), type(prediction))


# --- inputs

LINEAR = "(3, rows, 4) float32"
CONV = "(3, rows, 2, height, width) float32"
POOL = "(replicas, rows, channels, height, width) of at least 2 pixels' height and width"
PAIR = "(replicas, rows, 2, height, width)"
INPUTS = {  # the input; the start of what the error says is accepted, or the error
    "Linear-units": (normal32(R, 5, 3), LINEAR),
    "Linear-replicas": (normal32(2, 5, 4), LINEAR),
    "Linear-one-replica": (normal32(1, 5, 4), LINEAR),
    "Linear-no-replicas": (normal32(5, 4), LINEAR),
    "Linear-images": (normal32(R, 5, 1, 2, 2), LINEAR),
    "Linear-float64": (normal(R, 5, 4), LINEAR),
    "Linear-uint8": (torch.ones(R, 5, 4, dtype=torch.uint8), LINEAR),
    "Conv2d-channels": (normal32(R, 5, 1, 3, 4), CONV),
    "Conv2d-replicas": (normal32(1, 5, 2, 3, 4), CONV),
    "Conv2d-flat": (normal32(R, 5, 24), CONV),
    "Conv2d-float64": (normal(R, 5, 2, 3, 4), CONV),
    "Conv2d-small": (normal32(R, 5, 2, 3, 1), "images of at least 2 pixels' height and width"),
    "MaxPool2d-flat": (normal32(R, 5, 4), POOL),
    "MaxPool2d-no-replicas": (normal32(5, 2, 4, 4), POOL),
    "MaxPool2d-small": (normal32(R, 5, 2, 1, 4), POOL),
    "BatchNorm-units": (normal32(R, 5, 3), LINEAR),
    "BatchNorm-replicas": (normal32(1, 5, 4), "3 replicas; BatchNorm(4, replicas=1) has 1"),
    "BatchNorm-no-replicas": (normal32(5, 4), LINEAR),
    "BatchNorm-float64": (normal(R, 5, 4), LINEAR),
    "BatchNorm-channels": (normal32(R, 5, 3, 2, 2), "(3, rows, 4, height, width) float32"),
    "BatchNorm-length": (normal32(R, 5, 3, 4), "(3, rows, 4, length) float32"),
    "BatchNorm-one-row": (
        normal32(R, 1, 4),
        "batch norm cannot train on 1 number a channel, from an input of shape (3, 1, 4): at least",
    ),
    "BatchNorm-one-pixel": (
        normal32(R, 1, 4, 1, 1),
        "batch norm cannot train on 1 number a channel, from an input of shape (3, 1, 4, 1, 1):",
    ),
    "Dropout-replicas": (normal32(2, 5, 4), "(3, rows, units)"),
    "Flatten-no-replicas": (normal32(4), "(replicas, rows, ...)"),
    "PosteriorComparison-flat": (normal32(5, 4), "(replicas, rows, 2 classes)"),
    "PosteriorComparison-pairs": (normal32(R, 5, 2, 2), "(replicas, rows, 2 classes)"),
    "PosteriorComparison-odd": (normal32(R, 5, 7), "(replicas, rows, an even number of at"),
    "PosteriorComparison-one-class": (normal32(R, 5, 2), "(replicas, rows, an even number of at"),
    "Siamese-one-image": (normal32(R, 5, 1, 3, 4), PAIR),
    "Siamese-flat": (normal32(R, 5, 2, 12), PAIR),
    "Siamese-size": (
        normal32(R, 5, 2, 3, 3),
        "input of Linear is (3, 10, 9) float32, accepted is (3, rows, 12) float32",
    ),
    "Siamese-replicas": (
        normal32(2, 5, 2, 3, 4),
        "input of Linear is (2, 10, 12) float32, accepted is (3, rows, 12) float32",
    ),
}


def input_error(case: str) -> str:
    """The pattern of the error: the layer, its input, what is accepted."""
    x, message = INPUTS[case]
    if message.startswith(("(", "images", "3 replicas")):
        message = f"the input of {case.split('-')[0]} is {described(x)}, accepted is {message}"
    return re.escape(message)


HINTS = {  # the shape of an input for three replicas, and what the error says at its end
    "x.expand(3, -1, -1) is the same input for each, as trainer.predict has it": (1, 5, 4),
    "x[None] adds the axis of one replica": (5, 4),
    "accepted is (3, rows, 4) float32": (2, 5, 4),
}


@pytest.mark.parametrize("hint", HINTS)
def test_an_input_without_its_replicas_is_told_how_to_get_them(hint):
    with pytest.raises(ValueError, match=f"{re.escape(hint)}$"):
        fw.mlp(4, [2], 1, generators(R))(torch.zeros(HINTS[hint]))


def test_the_expanded_input_is_predicted_as_by_the_trainer():
    network, x = fw.mlp(4, [8], 1, generators(R)), normal32(1, 5, 4)
    trainer = fw.Trainer(network, fw.MSE(), fw.SGD(network.parameters(), 0.1), generators(R))
    assert torch.equal(trainer.predict(x), network.eval()(x.expand(3, -1, -1)))


def described(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).split('.')[1]}"


@pytest.mark.parametrize("case", INPUTS)
def test_wrong_input_is_named_and_changes_nothing(case):
    make, shape = LAYERS[case.split("-")[0]]
    layer = make()
    before = layer.state_dict()
    with pytest.raises(ValueError, match=input_error(case)):
        layer.forward(INPUTS[case][0])
    assert_state(layer, before)
    assert_trains(layer, normal32(*shape))
    if not case.startswith(("BatchNorm-one", "Dropout")):  # which evaluation accepts
        with pytest.raises(ValueError, match=input_error(case)):
            evaluate(layer, INPUTS[case][0])


@pytest.mark.parametrize("again", [False, True], ids=["at-once", "after-another"])
def test_gradients_after_an_error_deep_in_a_network_are_as_before(again):
    g = generators(R)
    norm = fw.Sequential(fw.BatchNorm(5, R), fw.Linear(5, 3, g))
    network = fw.Sequential(fw.Linear(4, 5, g), fw.Tanh(), norm, fw.SELU(), fw.Linear(3, 2, g))
    x = normal32(R, 6, 4)
    expected = gradients_of(network, x)
    *others, good = network.sequence
    network.sequence = (*others, fw.Linear(7, 2, generators(R)))
    message = r"input of Linear is \(3, 6, 3\) float32, accepted is \(3, rows, 7\)"
    with pytest.raises(ValueError, match=message):
        network.forward(x)
    network.sequence = (*others, good)
    if again:
        with pytest.raises(RuntimeError, match="Linear: a second forward"):
            network.forward(x)
    for ours, theirs in zip(gradients_of(network, x), expected):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def gradients_of(network, x: torch.Tensor) -> list[torch.Tensor]:
    network.train()
    network.zero_grad()
    dx = network.backward(ones_like(network.forward(x)))
    return [dx, *(parameter.grad.clone() for parameter in network.parameters())]


def test_layer_without_an_input_gradient_within_a_network_is_named():
    class NoInputGradient(fw.Tanh):
        def backward(self, dy, input_gradient=True):
            super().backward(dy, input_gradient)

    network = fw.Sequential(fw.Tanh(), NoInputGradient())
    y = network.forward(normal32(*UNITS))
    with pytest.raises(RuntimeError, match="backward of NoInputGradient returned None"):
        network.backward(y)


# --- gradients of the output


def wrong_gradients(dy: torch.Tensor) -> list[torch.Tensor]:
    """Shapes that torch would broadcast, and others."""
    shapes = [
        (1, *dy.shape[1:]),
        (dy.shape[0], 1, *dy.shape[2:]),
        dy.shape[1:],
        (*dy.shape[:-1], 7),
    ]
    return [torch.ones(shape) for shape in (*shapes, (*dy.shape, 1))]


@pytest.mark.parametrize("case", LAYERS)
def test_gradient_of_another_shape_is_refused_and_the_right_one_may_follow(case):
    make, shape = LAYERS[case]
    layer, x = make(), normal32(*shape)
    y = layer.forward(x)
    dy = normal32(*y.shape) if isinstance(y, torch.Tensor) else y
    for wrong in wrong_gradients(dy if isinstance(y, torch.Tensor) else dy.digits):
        message = rf"output's gradient of \w+ is {re.escape(described(wrong))}, accepted is \("
        with pytest.raises(ValueError, match=message):
            layer.backward(dy._replace(digits=wrong) if isinstance(y, Answer) else wrong)
    assert layer.backward(dy).shape == x.shape


# --- targets

TARGETS = {  # the target; what the error says is accepted, or the end of the error
    "MSE-shape": (normal32(R, 5, 1), "(3, 5, 2) float32"),
    "MSE-flat": (normal32(R, 5), "(3, 5, 2) float32"),
    "MSE-replicas": (normal32(1, 5, 2), "(3, 5, 2) float32"),
    "MSE-dtype": (normal(R, 5, 2), "(3, 5, 2) float32"),
    "BinaryCrossEntropy-shape": (ONES, "(3, 5, 1) float32"),
    "BinaryCrossEntropy-dtype": (CLASSES[..., None], "(3, 5, 1) float32"),
    "CrossEntropy-one-hot": (
        CLASSES[..., None].expand(R, 5, 4),
        "(3, 5) int64 for the prediction (3, 5, 4) float32",
    ),
    "CrossEntropy-replicas": (CLASSES[:1], "(3, 5) int64"),
    "CrossEntropy-float": (ONES, "(3, 5) int64"),
    "CrossEntropy-int32": (CLASSES.int(), "(3, 5) int64"),
    "PairLoss-digits": ((ONES[..., None], CLASSES), "(3, 5) int64, accepted is (3, 5, 2) int64"),
    "PairLoss-digits-float": (
        (ONES[..., None], PAIRS.float()),
        "is (3, 5) float32, accepted is (3, 5) int64",
    ),
    "PairLoss-order": ((ONES, PAIRS), "is (3, 5) float32, accepted is (3, 5, 1) float32"),
    "PairLoss-order-int": (
        (CLASSES[..., None], PAIRS),
        "is (3, 5, 1) int64, accepted is (3, 5, 1) float32",
    ),
}


@pytest.mark.parametrize("case", TARGETS)
def test_wrong_target_is_named_and_the_loss_can_go_on(case):
    make, prediction, target = LOSSES[case.split("-")[0]]
    loss = make()
    wrong, message = TARGETS[case]
    if isinstance(wrong, torch.Tensor):
        kind = type(loss).__name__
        message = f"the target of {kind} is {described(wrong)}, accepted is {message}"
    with pytest.raises(ValueError, match=re.escape(message)):
        loss.forward(prediction, wrong)
    loss.train()
    loss.forward(prediction, target)
    assert isinstance(loss.backward(), type(prediction))


ONE_AXIS = {  # a prediction without an axis of rows, whose mean would be over replicas
    "MSE": (ONES[:, 0], ONES[:, 0]),
    "BinaryCrossEntropy": (ONES[:, 0], ONES[:, 0]),
    "CrossEntropy": (ONES, CLASSES[:, 0]),
}


@pytest.mark.parametrize("kind", ONE_AXIS)
def test_prediction_without_rows_is_refused(kind):
    with pytest.raises(ValueError, match="needs axes of replicas and of rows"):
        getattr(fw, kind)().forward(*ONE_AXIS[kind])


@pytest.mark.parametrize("measure, prediction, target", [
    (fw.logit_error, (1, 4, 1), (1, 4)),
    (fw.logit_error, (3, 4, 1), (1, 4, 1)),
    (fw.threshold_error(0.5), (3, 4, 1), (3, 1, 1)),
    (fw.argmax_error, (3, 4, 5), (3, 1)),
    (fw.argmax_error, (3, 4, 5), (4,)),
    (fw.argmax_error, (3, 5), (3,)),
])  # fmt: skip  # one case a line
def test_measure_does_not_broadcast(measure, prediction, target):
    message = rf"the target of \w+ is {re.escape(str(target))} float32, accepted is \("
    with pytest.raises(ValueError, match=message):
        measure(torch.zeros(prediction), torch.zeros(target))


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_prediction_that_is_not_a_number_is_wrong(target):
    prediction = torch.full((2, 4, 1), target * 2 - 1)
    prediction[1, 2] = float("nan")
    errors = fw.logit_error(prediction, torch.full((2, 4, 1), target))["error"]
    assert errors.tolist() == [0, 25]
    logits = normal32(2, 4, 3)
    classes = logits.argmax(-1)
    logits[1, 2, classes[1, 2]] = float("nan")
    assert fw.argmax_error(logits, classes)["error"].tolist() == [0, 25]


@pytest.mark.parametrize("wrong", [-1, 4, 100])
def test_class_out_of_range_is_an_error(wrong):
    target = CLASSES.clone()
    target[1, 2] = wrong
    with pytest.raises((ValueError, RuntimeError, IndexError), match=f"{wrong}.*4"):
        fw.CrossEntropy().forward(normal32(R, 5, 4), target)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (R, 4)], ids=["2", "2-replicas", "4"])
def test_wrong_weights_of_a_pair_loss_are_named(shape):
    _, prediction, target = LOSSES["PairLoss"]
    with pytest.raises(ValueError, match=f"weights.*{re.escape(str(shape))}.*accepted"):
        fw.PairLoss(torch.ones(shape)).forward(prediction, target)


def test_state_that_does_not_fit_is_named_and_changes_nothing():
    network = fw.mlp(4, [3], 2, generators(R))
    before = network.state_dict()
    other = {name: 1 + value for name, value in before.items()}
    first = {name: value for name, value in other.items() if name.startswith("0")}
    message = "the state has 0.weight, 0.bias; accepted is 0.weight, 0.bias, 2.weight, 2.bias"
    with pytest.raises(KeyError, match=message):
        network.load_state_dict(first)
    message = "2.bias is (3, 1, 5) float32, accepted is (3, 1, 2) float32"
    with pytest.raises(ValueError, match=re.escape(message)):
        network.load_state_dict(other | {"2.bias": torch.ones(R, 1, 5)})
    assert_state(network, before)
