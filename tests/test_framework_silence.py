"""What would train nothing, or something else, without a word."""

import pytest
import torch

import framework as fw
from tests.framework_twins import generators, normal32

R = 2


def network() -> fw.Sequential:
    g = generators(R)
    return fw.Sequential(fw.Linear(3, 4, g), fw.Tanh(), fw.Linear(4, 1, g))


class Rebinding(fw.Optimizer):
    """Gradient descent that assigns its vectors."""

    state_names = ("velocity",)

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr)
        self.velocity = torch.zeros_like(self.values)

    def update(self, gradient):
        self.velocity = 0.5 * self.velocity + gradient
        self.values = self.values - self.lr * self.velocity


class Forgetting(Rebinding):
    state_names = ()


def test_optimiser_that_assigns_its_values_trains():
    own, known = network(), network()
    optimizers = [Rebinding(own.parameters(), 0.1), fw.SGD(known.parameters(), 0.1, momentum=0.5)]
    for _ in range(3):
        for net, optimizer in zip((own, known), optimizers):
            optimizer.zero_grad()
            net.backward(net.forward(normal32(R, 5, 3)))
            optimizer.step()
    for ours, theirs in zip(own.parameters(), known.parameters()):
        torch.testing.assert_close(ours.data, theirs.data)


def test_state_that_would_not_be_saved_is_named():
    optimizer = Forgetting(network().parameters(), 0.1)
    with pytest.raises(ValueError, match="velocity of Forgetting is a tensor that would not be"):
        optimizer.state_dict()


def test_parameter_of_a_torch_weight_is_trained():
    weight = torch.nn.Linear(3, 3).weight
    layer = fw.Linear(3, 3, generators(1), bias=False)
    layer.weight = fw.Parameter(weight[None].mT)
    assert not layer.weight.data.requires_grad
    optimizer = fw.SGD(layer.parameters(), 0.1)
    layer.backward(layer(normal32(1, 5, 3)))
    optimizer.step()


@pytest.mark.parametrize("loss", [fw.MSE(), fw.BinaryCrossEntropy()])
def test_input_that_autograd_records_is_refused(loss):
    x = normal32(R, 5, 3).requires_grad_()
    with pytest.raises(ValueError, match="requires a gradient of autograd.*x.detach"):
        loss(network()(x), torch.zeros(R, 5, 1))


def test_tensor_in_place_of_a_parameter_is_refused():
    layer = network()[0]
    message = r"weight of Linear is set to a Tensor of torch, .*weight.data = values$"
    with pytest.raises(ValueError, match=message):
        layer.weight = torch.zeros(R, 3, 4)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


@pytest.mark.parametrize("kind", [torch.nn.Parameter, torch.Tensor.requires_grad_])
def test_tensor_of_autograd_is_no_parameter_of_a_layer(kind):
    layer = fw.Tanh()
    with pytest.raises(ValueError, match=r"^slope of Tanh is set .*framework.Parameter\(values\)$"):
        layer.slope = kind(torch.ones(1, 1, 3))


OPERATIONS = {
    "mul": lambda a, x: a * x,
    "sub": lambda a, x: x - a,
    "matmul": lambda a, x: x @ a,
    "exp": lambda a, x: torch.exp(a),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_parameter_in_place_of_its_values_is_refused(name):
    with pytest.raises(ValueError, match=f"^r?{name} of a Parameter, accepted is .*: a.data$"):
        OPERATIONS[name](fw.Parameter(torch.ones(1, 3, 3)), torch.ones(1, 3, 3))


def fit(loss: fw.Loss, target: torch.Tensor, **settings) -> fw.Trainer:
    net = network()
    optimizer = fw.SGD(net.parameters(), 0.1)
    trainer = fw.Trainer(net, loss, optimizer, generators(R), **settings)
    trainer.fit((normal32(1, 6, 3), target), 3)
    return trainer


@pytest.mark.parametrize("wrong", [-1.0, 2.0, float("nan")])
def test_binary_target_outside_0_to_1_is_refused(wrong):
    target = torch.ones(1, 6, 1)
    target[0, 2] = wrong
    with pytest.raises(ValueError, match=r"target of BinaryCrossEntropy has values from .* 0 to 1"):
        fit(fw.BinaryCrossEntropy(), target)


@pytest.mark.parametrize("wrong", [-1, 4])
def test_class_out_of_range_is_named(wrong):
    target = torch.full((R, 5), wrong)
    loss = fw.CrossEntropy()
    with pytest.raises(ValueError, match=f"classes from {wrong} to {wrong}, accepted is 0 to 3"):
        loss(normal32(R, 5, 4), target)
    loss(normal32(R, 5, 4), target.clamp(0, 3))  # nothing was kept


def test_argmax_of_one_logit_is_refused():
    with pytest.raises(ValueError, match="at least two classes; logit_error is for one logit"):
        fw.argmax_error(normal32(R, 5, 1), torch.zeros(R, 5, dtype=torch.int64))


def test_rate_that_the_user_sets_is_the_next_fits_rate():
    data = normal32(1, 6, 3), normal32(1, 6, 1)
    trainer = fit(fw.MSE(), data[1], schedule=fw.Cosine())
    assert trainer.optimizer.lr == 0.1  # the cosine's last rate is lower
    trainer.optimizer.lr = 0.02
    assert trainer.fit(data, 4)[0][-1]["learning_rate"] <= 0.02
    assert trainer.optimizer.lr == 0.02


def test_after_an_error_train_discards_what_was_kept():
    net, x = network(), normal32(R, 5, 3)
    net(x)
    with pytest.raises(RuntimeError, match=r"After an error between the two, train\(\) discards"):
        net(x)
    net.train()(x)


def test_backward_twice_says_so():
    net, x = network(), normal32(R, 5, 3)
    dy = torch.ones(R, 5, 1)
    net(x)
    net.backward(dy)
    with pytest.raises(RuntimeError, match="another backward has used its values"):
        net.backward(dy)


def test_message_after_infinite_losses_has_both_causes():
    with pytest.raises(fw.NotFiniteError, match="lower learning rate may help if the data are fin"):
        fit(fw.MSE(), torch.full((1, 6, 1), float("nan")))
