"""Frozen layers, and layers that stay in evaluation while the rest trains, against torch."""

import copy
import pickle

import pytest
import torch

import framework as fw
from tests.framework_twins import assert_close, generators, normal, twin_of

R = 2


def network(dtype: torch.dtype = torch.float64) -> fw.Sequential:
    g = generators(R)
    body = fw.Sequential(fw.Linear(3, 5, g), fw.BatchNorm(5, R), fw.Tanh())
    layers = [body, fw.Dropout(0.5, generators(R)), fw.Residual(fw.Linear(5, 5, g)), fw.ReLU()]
    made = fw.Sequential(*layers, fw.BatchNorm(5, R), fw.Linear(5, 1, g)).to(dtype)
    for _, module in made.modules():
        if isinstance(module, fw.BatchNorm):
            module.running_mean += 0.3
            module.running_variance *= 2
    return made


DATA = normal(R, 12, 3), normal(R, 12, 1, seed=1)
FROZEN = {  # the layers by their names in ours and in torch
    "none": [],
    "first": ["0"],
    "first-linear": ["0.0"],
    "first-layers": ["0", "1", "2"],
    "middle": ["2", "4"],
    "last": ["5"],
    "all-but-norm": ["0.0", "2", "5"],
}
EVALUATING = {"none": ["1"], "norms": ["0.1", "1", "4"], "body": ["0", "1"], "all": [""]}


def module_of(net: fw.Module, name: str) -> fw.Module:
    return dict(net.modules())[name]


def train_by_torch(net: fw.Sequential, replica: int, frozen, evaluating, epochs: int):
    """Train by autograd in batches of five; dropout stays in evaluation."""
    twin = twin_of(net, replica)
    for name in frozen:
        twin.get_submodule(name).requires_grad_(False)
    learned = [parameter for parameter in twin.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, 0.1, momentum=0.9, weight_decay=0.1)
    order = generators(R)[replica]
    for _ in range(epochs):
        twin.train()
        for name in evaluating:
            twin.get_submodule(name).eval()
        for rows in torch.randperm(12, generator=order).split(5):
            x, target = (part[replica, rows] for part in DATA)
            optimizer.zero_grad()
            (twin(x) - target).square().mean().backward()
            optimizer.step()
    return twin


def fitted(net: fw.Sequential, epochs: int = 2) -> fw.Sequential:
    optimizer = fw.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    trainer = fw.Trainer(net, fw.MSE(), optimizer, generators(R), batch_size=5)
    trainer.fit(DATA, epochs, validation=DATA)
    return net


@pytest.mark.parametrize("evaluating", EVALUATING)
@pytest.mark.parametrize("frozen", FROZEN)
def test_fit_is_the_training_of_torch(frozen, evaluating):
    net = network()
    before = copy.deepcopy(net)
    module_of(net, "1").stay_in_eval()  # dropout's masks are compared elsewhere
    for name in FROZEN[frozen]:
        module_of(net, name).freeze()
    for name in EVALUATING[evaluating]:
        module_of(net, name).stay_in_eval()
    fitted(net)
    for replica in range(R):
        twin = train_by_torch(before, replica, FROZEN[frozen], [*EVALUATING[evaluating], "1"], 2)
        assert_close(net.eval()(DATA[0])[replica], twin.eval()(DATA[0][replica]))
    for name in FROZEN[frozen]:
        frozen_values = module_of(before, name).named_parameters()
        for key, parameter in frozen_values:
            same = dict(module_of(net, name).named_parameters())[key]
            assert torch.equal(same.data, parameter.data)


@pytest.mark.slow
@pytest.mark.parametrize("evaluating", EVALUATING)
def test_gradients_pass_through_layers_in_evaluation(evaluating):
    net = network()
    for name in EVALUATING[evaluating]:
        module_of(net, name).stay_in_eval()
    net[2].freeze()
    assert {"x", "0.0.weight", "2.0.weight", "4.scale"} < set(fw.gradcheck(net, DATA[0]))


class Watch(fw.Tanh):
    calls = 0

    def backward(self, dy, input_gradient=True):
        self.calls += 1
        return super().backward(dy, input_gradient)


@pytest.mark.parametrize(
    "frozen, calls", [([], [1, 1]), (["0"], [0, 1]), (["0", "1", "2"], [0, 0]), (["2"], [1, 1])]
)
def test_backward_ends_at_the_first_layer_that_learns(frozen, calls):
    g = generators(R)
    inner, outer = Watch(), Watch()
    first = fw.Sequential(fw.Linear(3, 4, g), inner)
    net = fw.Sequential(first, fw.Linear(4, 4, g), outer, fw.Linear(4, 1, g)).to(torch.float64)
    for name in frozen:
        module_of(net, name).freeze()
    for _ in range(2):  # what was kept does not refuse a second forward
        net(DATA[0])
        assert net.backward(torch.ones(R, 12, 1, dtype=torch.float64), input_gradient=False) is None
    assert [inner.calls, outer.calls] == [2 * number for number in calls]
    net(DATA[0])
    assert net.backward(torch.ones(R, 12, 1, dtype=torch.float64)).abs().max() > 0


def test_frozen_body_of_a_siamese_network_stays_and_the_comparison_learns():
    g = generators(R)
    body = fw.Sequential(fw.Flatten(), fw.Linear(9, 10, g)).freeze()
    net = fw.Siamese(body, fw.mlp(20, [4], 1, g))
    before = net.state_dict()
    optimizer = fw.Adam(net.parameters(), 0.1)
    data = torch.rand(R, 8, 2, 3, 3), (torch.ones(R, 8, 1), torch.zeros(R, 8, 2, dtype=torch.int64))
    fw.Trainer(net, fw.PairLoss(torch.ones(3)), optimizer, g).fit(data, 2)
    changed = {name for name, value in net.state().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("comparison")}


def test_unfrozen_layers_learn_again_with_a_new_optimiser():
    net = network()
    net[0].freeze()
    fitted(net)
    before = net.state_dict()
    net[0].freeze(False)
    fitted(net)
    assert not torch.equal(net.state()["0.0.weight"], before["0.0.weight"])


def test_layer_that_stayed_in_evaluation_trains_again():
    net = network()
    net[4].stay_in_eval()
    assert not net[4].training and net.training
    net.train()
    net(DATA[0])
    before = net[4].running_mean.clone()
    net.train()
    net.stay_in_eval(False)(DATA[0])
    assert net[4].training and not torch.equal(net[4].running_mean, before)


def test_freezing_retires_an_optimiser_made_before():
    net = network()
    optimizer = fw.SGD(net.parameters(), 0.1)
    trainer = fw.Trainer(net, fw.MSE(), optimizer, generators(R))
    net[0].freeze()
    with pytest.raises(ValueError, match="optimiser has lost a parameter, which was frozen"):
        trainer.fit(DATA, 1)
    with pytest.raises(RuntimeError, match="it was frozen.*make a new optimiser"):
        optimizer.step()
    net.freeze()
    with pytest.raises(ValueError, match="one parameter that learns, 10 frozen ones were given"):
        fw.SGD(net.parameters(), 0.1)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_frozen_and_stay_in_evaluation(copied):
    net = network()
    net[0].freeze().stay_in_eval()
    other = copied(net).train()
    assert other[0].frozen and all(parameter.frozen for parameter in other[0].parameters())
    assert not other[0][1].training and other[4].training
    assert "frozen=True" in repr(other[0]) and "stays_in_eval=True" in repr(other[0])


# --- a layer or a parameter with several uses

TWICE = {
    "sequential": lambda layer: fw.Sequential(layer, layer),
    "nested": lambda layer: fw.Sequential(fw.Sequential(layer), fw.Residual(layer)),
    "deep": lambda layer: fw.Sequential(layer, fw.Tanh(), fw.Sequential(fw.Residual(layer))),
}


@pytest.mark.parametrize("layer", [fw.Linear(3, 3, generators(R)), fw.Tanh(), fw.BatchNorm(3, R)])
@pytest.mark.parametrize("case", TWICE)
def test_layer_with_two_places_in_a_network_is_refused(case, layer):
    with pytest.raises((ValueError, RuntimeError), match="second.weight = first.weight"):
        TWICE[case](layer.train())(DATA[0].float())


@pytest.mark.parametrize("groups", [False, True])
def test_gradients_of_a_parameter_in_nested_layers_add_up(groups):
    g = generators(R)
    first, second, third = (fw.Linear(3, 3, g) for _ in range(3))
    second.weight = third.weight = first.weight
    third.bias = second.bias
    inner = fw.Sequential(fw.Tanh(), second)
    net = fw.Sequential(first, fw.Residual(inner), third).to(torch.float64)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.0.1.bias"]
    fw.gradcheck(net, DATA[0])
    w, b, c = (torch.nn.Parameter(p.data.clone()) for p in net.parameters())
    given = net.parameters()
    if groups:
        given = [{"params": given[:1]}, {"params": given[1:]}]
    optimizers = fw.Adam(given, 0.01), torch.optim.Adam([w, b, c], 0.01)
    x, target, loss = DATA[0], normal(R, 12, 3, seed=2), fw.MSE()
    for _ in range(4):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss(net(x), target)
        net.backward(loss.backward(), input_gradient=False)
        hidden = x @ w + b
        y = (hidden + hidden.tanh() @ w + c) @ w + c
        (y - target).square().mean((1, 2)).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    for ours, twin in zip(net.parameters(), (w, b, c)):
        assert_close(ours.data, twin)
