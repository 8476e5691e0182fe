"""What makes the framework pleasant by hand: repr, calls, indexing, the table of a network."""

import pytest
import torch

import framework as fw
from tests.framework_twins import generators, normal32, small_siamese

R = 2


def cnn(replicas: int = R) -> fw.Sequential:
    g = generators(replicas)
    return fw.Sequential(
        fw.Conv2d(1, 3, 3, g),
        fw.ReLU(),
        fw.MaxPool2d(2),
        fw.Flatten(),
        fw.Sequential(fw.Linear(12, 4, g), fw.Dropout(0.5, g)),
    )


REPRS = {
    "LeakyReLU(slope=0.1)": lambda: fw.LeakyReLU(0.1),
    "Tanh()": lambda: fw.Tanh(),
    "weight=(2, 3, 4), bias=(2, 1, 4)": lambda: fw.Linear(3, 4, generators(R)),
    "weight=(2, 3, 4))": lambda: fw.Linear(3, 4, generators(R), bias=False),
    "Sequential(\n  (0): Tanh()\n  (1): ReLU()\n)": lambda: fw.Sequential(fw.Tanh(), fw.ReLU()),
    "  (4): Sequential(\n    (0): Linear(": cnn,
    "Siamese(sees='probabilities'\n  (body): Sequential(\n    (0): F": (
        lambda: small_siamese(generators(R))
    ),
    "Parameter((2, 1, 3) float32)": lambda: fw.Parameter(torch.zeros(2, 1, 3)),
    "reduction='sum'": lambda: fw.MSE("sum"),
    "momentum=0.9": lambda: fw.SGD(cnn().parameters(), 0.1, momentum=0.9),
    "parameters=4)": lambda: fw.Adam(cnn().parameters()),
    "Cosine(interval='epoch', eta_min=0.0)": lambda: fw.Cosine(),
    "EarlyStopping(patience=3, monitor=": lambda: fw.EarlyStopping(3),
}


@pytest.mark.parametrize("part", REPRS)
def test_repr_has_the_settings_and_shapes(part):
    described = repr(REPRS[part]())
    assert part in described
    assert not any(word in described for word in ("training", "retired", "_kept", " object at "))


def test_calling_a_network_or_a_loss_is_forward():
    network, loss, x = cnn().eval(), fw.MSE(), normal32(R, 3, 1, 6, 6)
    y = network(x)
    assert torch.equal(y, network.forward(x))
    assert loss.eval()(y, y).tolist() == [0, 0]


def test_modes_and_types_return_the_module():
    network, loss = cnn(), fw.PairLoss(torch.ones(3))
    assert network.eval() is network and not network[4][1].training
    assert network.train() is network and network[4][1].training
    assert network.to(torch.float64) is network
    assert loss.eval() is loss and loss.train() is loss


def test_sequential_is_a_sequence_of_its_layers():
    network = cnn()
    assert len(network) == 5 and network[-1] is network.sequence[4]
    assert list(network) == list(network.sequence)
    part = network[1:3]
    assert isinstance(part, fw.Sequential) and part.sequence == network.sequence[1:3]
    with pytest.raises(IndexError):
        network[5]


def test_size_is_the_number_of_values_that_a_replica_learns():
    assert cnn(1).size == cnn(3).size == 3 * 9 + 3 + 12 * 4 + 4
    assert fw.Tanh().size == 0


def test_summary_has_the_shapes_of_a_row_and_changes_nothing():
    network = cnn()
    network.forward(normal32(R, 1, 1, 6, 6))  # kept values do not matter
    before = network.state_dict()
    lines = fw.summary(network, (1, 6, 6)).splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == [
        "layer", "input", "0 Conv2d", "1 ReLU", "2 MaxPool2d", "3 Flatten", "4.0 Linear",
        "4.1 Dropout", "all",
    ]  # fmt: skip  # one line of short words
    assert [line.split()[-1] for line in lines[2:]] == ["30", "0", "0", "0", "52", "0", "82"]
    assert "(3, 4, 4)" in lines[2] and "(3, 2, 2)" in lines[4] and "(4,)" in lines[-1]
    assert network.training and "forward" not in vars(network[0])
    assert all(torch.equal(network.state()[name], value) for name, value in before.items())


def test_summary_of_two_outputs_and_of_a_wrong_input():
    assert "(1,) and (2, 10)" in fw.summary(small_siamese(generators(R)), (2, 4, 5))
    with pytest.raises(ValueError, match="input of Conv2d"):
        fw.summary(cnn(), (2, 6, 6))
    with pytest.raises(ValueError, match="a size of the input is 0, accepted"):
        fw.summary(cnn(), (1, 0, 6))
