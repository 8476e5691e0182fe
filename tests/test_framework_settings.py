"""The framework's constructors refuse what cannot work, when they are called."""

import re
import subprocess
import sys

import pytest
import torch

import framework as fw
from tests.conftest import ROOT
from tests.framework_twins import generators, normal32

R = 3
G = generators(R)


def network() -> fw.Sequential:
    return fw.mlp(2, [4], 1, generators(R))


def trainer(net=None, **settings) -> fw.Trainer:
    net = network() if net is None else net
    arguments = {"loss": fw.MSE(), "optimizer": fw.SGD(net.parameters(), 0.1), "generators": G}
    return fw.Trainer(net, **arguments | settings)


SETTINGS = {  # the error, and what is called
    "probability of dropout is 1.0, accepted is 0 to below": lambda: fw.Dropout(1.0, G),
    "probability of dropout is -0.1, accepted": lambda: fw.Dropout(-0.1, G),
    "probability of dropout is nan, accepted": lambda: fw.Dropout(float("nan"), G),
    "probability of dropout is 'half', accepted": lambda: fw.Dropout("half", G),
    "reduction is 'max', accepted is 'mean', 'sum' or 'none'": lambda: fw.MSE("max"),
    "comparison sees 'images', accepted": lambda: fw.Siamese(
        fw.Flatten(), fw.Flatten(), sees="images"
    ),
    "output_activation is 'sin', accepted is one of": lambda: fw.mlp(
        2, [], 1, G, output_activation="sin"
    ),
    "inputs is 0, accepted is a whole number": lambda: fw.Linear(0, 3, G),
    "outputs is -1, accepted": lambda: fw.Linear(3, -1, G),
    "inputs is 2.0, accepted": lambda: fw.Linear(2.0, 3, G),
    "initialise is 'he', accepted is a function such as": lambda: fw.Linear(
        2, 3, G, initialise="he"
    ),
    "the generators are 0, accepted": lambda: fw.Linear(2, 3, 0),
    "padding is 1.9, accepted is a whole number": lambda: fw.Conv2d(1, 2, 3, G, padding=1.9),
    "padding is -1, accepted": lambda: fw.Conv2d(1, 2, 3, G, padding=-1),
    "stride is 0, accepted": lambda: fw.Conv2d(1, 2, 3, G, stride=0),
    "inputs is 0, accepted is a whole": lambda: fw.Conv2d(0, 2, 3, G),
    "outputs is 0, accepted": lambda: fw.Conv2d(1, 0, 3, G),
    "kernel is (2, 2, 2), accepted is one whole": lambda: fw.MaxPool2d((2, 2, 2)),
    "kernel is 0, accepted": lambda: fw.MaxPool2d((2, 0)),
    "padding is (2, 2), accepted is at most half": lambda: fw.MaxPool2d(3, padding=2),
    "padding is 'valid', accepted is 'same'": lambda: fw.Conv2d(1, 2, 3, G, padding="valid"),
    "stride is (2, 2) with padding='same'": lambda: fw.Conv2d(1, 2, 3, G, padding="same", stride=2),
    "groups is 2, accepted is a divisor of 3 inputs": lambda: fw.Conv2d(3, 2, 3, G, groups=2),
    "channels is 0, accepted": lambda: fw.BatchNorm(0),
    "replicas is 0, accepted": lambda: fw.BatchNorm(3, 0),
    "eps is -1, accepted": lambda: fw.BatchNorm(3, eps=-1),
    "momentum is 1.5, accepted is a number from 0 to 1": lambda: fw.BatchNorm(3, momentum=1.5),
    "slope is 'small', accepted is a finite number": lambda: fw.LeakyReLU("small"),
    "Sequential has no layers": lambda: fw.Sequential(),
    "Sequential has a list, accepted are layers": lambda: fw.Sequential([fw.ReLU(), fw.ReLU()]),
    "a layer of Sequential is 'relu', accepted is": lambda: fw.Sequential("relu"),
    "a layer of Sequential is the class Tanh, accepted is an": lambda: fw.Sequential(fw.Tanh),
    "Sequential has the same Tanh twice": lambda: fw.Sequential(*2 * [fw.Tanh()]),
    "hidden is 5, accepted is a list of widths": lambda: fw.mlp(2, 5, 1, G),
    "the body is 'cnn', accepted is an instance of Module": lambda: fw.Siamese("cnn", fw.Flatten()),
    "the comparison is the class Flatten, accepted": lambda: fw.Siamese(fw.Flatten(), fw.Flatten),
    "weights is [1, 1, 1], accepted is an instance": lambda: fw.PairLoss([1, 1, 1]),
    "a parameter is 1.0, accepted is a tensor (replicas, ...)": lambda: fw.Parameter(1.0),
    "a parameter is (3,) int64, accepted is a tensor": lambda: fw.Parameter(torch.arange(3)),
    "a parameter is () float32, accepted is a tensor": lambda: fw.Parameter(torch.ones(())),
    "the parameters are a Sequential, accepted is network.": lambda: fw.SGD(network(), 0.1),
    "a parameter is 'weight', accepted is an instance": lambda: fw.SGD(["weight"], 0.1),
    "betas are 0.9, accepted": lambda: fw.Adam(network().parameters(), betas=0.9),
    "eta_min is '0', accepted is a finite number": lambda: fw.Cosine("0"),
    "warmup is 1, accepted is a share": lambda: fw.OneCycle(1),
    "the network is the class Sequential, accepted": lambda: fw.Trainer(
        fw.Sequential, fw.MSE(), fw.SGD(network().parameters(), 0.1), G
    ),
    "the loss is 'mse', accepted is an instance of Loss": lambda: trainer(loss="mse"),
    "the loss is the class MSE, accepted is an instance": lambda: trainer(loss=fw.MSE),
    "optimizer is 'adam', accepted is an instance of Opt": lambda: trainer(optimizer="adam"),
    "schedule is 'cosine', accepted is an instance": lambda: trainer(schedule="cosine"),
    "a listener is the class Progress, accepted": lambda: trainer(listeners=[fw.Progress]),
    "the measure is 'error', accepted is a function": lambda: trainer(measure="error"),
    "drop_last is 'no', accepted is an instance of bool": lambda: trainer(drop_last="no"),
}


@pytest.mark.parametrize("message", SETTINGS)
def test_wrong_setting_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SETTINGS[message]()


class Nested(fw.Module):
    """Layers in a dict of lists, and a parameter in a nested tuple."""

    def __init__(self):
        self.layers = {
            "in": [fw.Linear(3, 4, generators(2))],
            "out": [fw.Linear(4, 3, generators(2))],
        }
        self.factors = ((fw.Parameter(torch.full((2, 1, 3), 1.5)),),)

    def forward(self, x):
        y = self.layers["out"][0].forward(self.layers["in"][0].forward(x))
        self.keep(y, y)
        return y * self.factors[0][0].data

    def backward(self, dy, input_gradient=True):
        factor = self.factors[0][0]
        factor.grad += (dy * self.take(dy)).sum(1, keepdim=True)
        dy = self.layers["out"][0].backward(dy * factor.data)
        return self.layers["in"][0].backward(dy, input_gradient)


def test_layers_in_dicts_and_nested_lists_are_trained():
    layer = Nested()
    names = [f"layers.{key}.0.{name}" for key in ("in", "out") for name in ("weight", "bias")]
    assert [name for name, _ in layer.named_parameters()] == ["factors.0.0", *names]
    assert set(fw.gradcheck(layer, normal32(2, 5, 3))) == {"x", "factors.0.0", *names}
    optimizer = fw.SGD(layer.parameters(), 0.1)
    layer.layers = {**layer.layers, "in": [fw.Linear(3, 4, generators(2))]}
    with pytest.raises(RuntimeError, match="make a new optimiser"):
        optimizer.step()


# --- a last batch of one row, a failed step


def normed(*layers) -> fw.Sequential:
    return fw.Sequential(fw.Linear(2, 4, generators(R)), fw.BatchNorm(4, R), *layers)


@pytest.mark.parametrize("rows, batch_size", [(21, 10), (11, 10), (5, 1), (1, 10)])
def test_batch_norm_refuses_a_last_batch_of_one_row_before_the_first_step(rows, batch_size):
    net = normed()
    before = net.state_dict()
    x, y = normal32(R, rows, 2), normal32(R, rows, 4)
    learner = trainer(net, batch_size=batch_size)
    with pytest.raises(ValueError, match="cannot train on 1 number a channel.*drop_last=True"):
        learner.fit((x, y), 1)
    for name, value in net.state().items():
        assert torch.equal(value, before[name]), name


def test_batch_norm_over_pixels_trains_on_one_image():
    net = fw.Sequential(fw.BatchNorm(2, R), fw.Flatten(), fw.Linear(8, 1, generators(R)))
    trainer(net, batch_size=2).fit((normal32(R, 5, 2, 2, 2), normal32(R, 5, 1)), 1)


def test_drop_last_leaves_out_the_last_rows():
    seen = []

    class Watch(fw.Tanh):
        def forward(self, x):
            seen.append(x.shape[1])
            return super().forward(x)

    learner = trainer(normed(Watch()), batch_size=10, drop_last=True)
    (row, *_), *_ = learner.fit((normal32(R, 21, 2), normal32(R, 21, 4)), 2)
    assert seen == [10, 10, 10, 10] and row["train/loss"] > 0
    with pytest.raises(ValueError, match="batch_size is 10, accepted is at most 9, the number of"):
        learner.fit((normal32(R, 9, 2), normal32(R, 9, 4)), 3)


def test_failed_step_leaves_the_network_usable():
    class Fails(fw.Tanh):
        fails = True

        def backward(self, dy, input_gradient=True):
            if self.fails:
                raise KeyboardInterrupt
            return super().backward(dy, input_gradient)

    net = fw.Sequential(fw.Linear(2, 4, generators(R)), Fails(), fw.Linear(4, 1, generators(R)))
    before, learner = net.state_dict(), trainer(net)
    x, y = normal32(R, 5, 2), normal32(R, 5, 1)
    for wrong in ((x, y[:, :, [0, 0]]), (x[..., :1], y)):
        with pytest.raises(ValueError):
            learner.step(*wrong)
    with pytest.raises(KeyboardInterrupt):
        learner.step(x, y)
    for name, value in net.state().items():
        assert torch.equal(value, before[name]), name
    Fails.fails = False
    _, first = learner.step(x, y)
    _, second = learner.step(x, y)
    assert (second < first).all()


@pytest.mark.slow
def test_tensorboard_is_needed_only_by_its_listener():
    code = """
import sys
sys.modules["tensorboard"] = None
import framework as fw
fw.Progress()
try:
    fw.TensorBoard(["folder"])
except ImportError as error:
    print("tensorboard" in str(error).lower())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
