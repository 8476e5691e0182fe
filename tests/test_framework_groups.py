"""Groups of parameters with settings of their own, against torch.optim's."""

import copy
import pickle

import pytest
import torch

import framework as fw
from tests.framework_twins import assert_close, dtypes, generators, normal32
from tests.test_framework_optimizers import (
    STEPS,
    equal,
    gradient,
    parameters_of,
    take_steps,
    torchs,
    values_of,
)

GROUPS = {  # the class, the common settings, and those of two groups
    "sgd-rate": (fw.SGD, {"lr": 0.1}, {}, {"lr": 0.02}),
    "sgd-own-rates": (fw.SGD, {}, {"lr": 0.1}, {"lr": 0.02}),
    "sgd-momentum": (fw.SGD, {"lr": 0.1, "momentum": 0.9}, {"momentum": 0.0}, {"nesterov": True}),
    "sgd-decay": (fw.SGD, {"lr": 0.1, "momentum": 0.5}, {"weight_decay": 0.1}, {"dampening": 0.3}),
    "sgd-maximize": (fw.SGD, {"lr": 0.01}, {"maximize": True}, {}),
    "adam": (fw.Adam, {"lr": 0.01}, {"betas": (0.5, 0.8)}, {"amsgrad": True, "eps": 1e-3}),
    "adamw": (fw.AdamW, {}, {"weight_decay": 0.0}, {"lr": 0.02, "weight_decay": 0.3}),
    "rmsprop": (fw.RMSprop, {"alpha": 0.8}, {"momentum": 0.5}, {"centered": True}),
    "adagrad": (fw.Adagrad, {"lr": 0.1}, {"lr_decay": 0.2}, {"weight_decay": 0.1}),
}
cases = pytest.mark.parametrize("case", GROUPS)


def grouped(case: str, parameters: list[fw.Parameter]) -> fw.Optimizer:
    """The last two parameters are the first group: groups need not be in the network's order."""
    kind, common, first, second = GROUPS[case]
    return kind(
        [{"params": parameters[2:], **first}, {"params": parameters[:2], **second}], **common
    )


def steps(optimizer: fw.Optimizer, number: int = STEPS, first: int = 0) -> None:
    for step in range(first, first + number):
        optimizer.zero_grad()
        for parameter in optimizer.parameters:
            parameter.grad.add_(gradient(parameter.data, step))
        optimizer.step()


@dtypes
@pytest.mark.parametrize("replicas", [1, 3])
@cases
def test_ten_steps(case, replicas, dtype):
    kind, common, first, second = GROUPS[case]
    parameters = parameters_of(replicas, dtype)
    before = values_of(parameters)
    steps(grouped(case, parameters))
    for replica in range(replicas):
        twins = [torch.nn.Parameter(values[replica].clone()) for values in before]
        groups = [{"params": twins[2:], **first}, {"params": twins[:2], **second}]
        optimizer = torchs(kind)(groups, **common, foreach=False)
        for step in range(STEPS):
            for twin in twins:
                twin.grad = gradient(twin.detach(), step)
            optimizer.step()
        for ours, twin in zip(parameters, twins):
            assert_close(ours.data[replica], twin)


@cases
def test_groups_with_equal_settings_have_the_bits_of_none(case):
    kind, common, _, own = GROUPS[case]
    settings = {**common, **own}
    alone, together = parameters_of(3), parameters_of(3)
    take_steps(kind(alone, **settings), STEPS)
    groups = [{"params": together[:1]}, {"params": together[1:]}]
    optimizer = kind(groups, **settings)
    for step in range(STEPS):  # as `take_steps`, which sets one rate
        optimizer.zero_grad()
        for parameter in optimizer.parameters:
            for _ in range(2):
                parameter.grad.add_(gradient(parameter.data, step) / 2)
        optimizer.step()
    assert all(equal(together, values_of(alone)))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@cases
def test_saved_states_and_copies_continue_bit_for_bit(case, copied):
    expected = parameters_of(3)
    steps(grouped(case, expected), 8)
    parameters = parameters_of(3)
    optimizer = grouped(case, parameters)
    steps(optimizer, 4)
    others, other = copied((parameters, optimizer))
    restored = [fw.Parameter(value) for value in values_of(parameters)]
    loaded = grouped(case, restored)
    loaded.load_state_dict(optimizer.state_dict())
    for each in (optimizer, other, loaded):
        steps(each, 4, first=4)
    for ours in (parameters, others, restored):
        assert all(equal(ours, values_of(expected)))


def network() -> fw.Sequential:
    return fw.mlp(3, [4], 1, generators(2))


def two_groups(net: fw.Sequential, **second) -> fw.Optimizer:
    last = {"params": net[2].parameters(), "lr": 0.3, **second}
    return fw.SGD([{"params": net[0].parameters()}, last], 0.1)


def trainer(schedule: fw.Schedule | None = None, make=two_groups) -> fw.Trainer:
    net = network()
    settings = {"batch_size": 4, "schedule": schedule}
    return fw.Trainer(net, fw.MSE(), make(net), generators(2), **settings)


DATA = normal32(2, 12, 3), normal32(2, 12, 1, seed=1)
SCHEDULES = {  # ours, and torch's for three steps in each of four epochs
    "cosine": (
        fw.Cosine(eta_min=0.05),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 4, eta_min=0.05),
    ),
    "step": (fw.StepDecay(2), lambda o: torch.optim.lr_scheduler.StepLR(o, 2)),
    "one-cycle": (
        fw.OneCycle(),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, [0.1, 0.3], 12, cycle_momentum=False),
    ),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_schedule_begins_with_the_rate_of_each_group(case):
    seen, (own, theirs) = [], SCHEDULES[case]

    class Watched(fw.ParameterGroups):
        def update(self, gradient):
            seen.append([group.lr for group in self.groups])
            super().update(gradient)

    trained = trainer(own, lambda net: Watched(two_groups(net).groups))
    history = trained.fit(DATA, 4)
    twins = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.3)]
    optimizer = torch.optim.SGD(twins)
    schedule, expected = theirs(optimizer), []
    for step in range(12):
        expected.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if own.interval == "step" or step % 3 == 2:
            schedule.step()
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(expected))
    assert [row["learning_rate"] for row in history[0]] == pytest.approx([r[0] for r in seen[::3]])
    assert [group.lr for group in trained.optimizer.groups] == [0.1, 0.3]  # restored after fit


def test_training_continues_from_a_checkpoint_and_another_is_refused(tmp_path):
    def momentum(net):
        return two_groups(net, momentum=0.9)

    path = tmp_path / "state.pt"
    whole, first, second = (trainer(make=momentum) for _ in range(3))
    expected = whole.fit(DATA, 4)
    first.fit(DATA, 2, checkpoint=path)
    second.load(path)
    assert second.fit(DATA, 4) == expected
    for name, value in whole.network.state().items():
        assert torch.equal(second.network.state()[name], value), name

    def one_group(net):
        return fw.SGD(net.parameters(), 0.1)

    def other_rate(net):
        optimizer = momentum(net)
        optimizer.groups[1].lr = 0.4
        return optimizer

    with pytest.raises(ValueError, match="learning_rate.1=0.3, accepted is None"):
        trainer(make=one_group).load(path)
    with pytest.raises(ValueError, match="learning_rate.1=0.3, accepted is 0.4"):
        trainer(make=other_rate).load(path)
    with pytest.raises(ValueError, match="optimizer.1.momentum=0.9, accepted is 0.0"):
        trainer().load(path)


def test_optimisers_of_two_kinds_step_together():
    net, twin = network(), network()
    groups = [fw.SGD(net[0].parameters(), 0.1), fw.Adam(net[2].parameters(), 0.01)]
    together = fw.ParameterGroups(groups)
    alone = [fw.SGD(twin[0].parameters(), 0.1), fw.Adam(twin[2].parameters(), 0.01)]
    for _ in range(3):
        for module, optimizers in ((net, [together]), (twin, alone)):
            module.zero_grad()
            module.backward(module(DATA[0]))
            for optimizer in optimizers:
                optimizer.step()
    assert all(equal(net.parameters(), values_of(twin.parameters())))


def test_groups_notice_that_a_parameter_was_replaced():
    net = network()
    optimizer = two_groups(net)
    net[2].weight = fw.Parameter(torch.zeros(2, 4, 1))
    with pytest.raises(RuntimeError, match="the optimiser has lost a parameter"):
        optimizer.step()


NET = network()
FIRST, LAST = NET[0].parameters(), NET[2].parameters()
WRONG = {  # the error, and what is called
    'group 1 of parameters is .*, accepted is a dict with "params"': lambda: fw.SGD(
        [{"params": FIRST}, LAST[0]], 0.1
    ),
    'group 0 of parameters is {"?\'?lr.*accepted is a dict with "params"': lambda: fw.SGD(
        [{"lr": 0.1}], 0.1
    ),
    "was given twice, accepted is each": lambda: fw.SGD(
        [{"params": FIRST}, {"params": FIRST}], 0.1
    ),
    "lr is -1, accepted": lambda: fw.SGD([{"params": FIRST}, {"params": LAST, "lr": -1}], 0.1),
    "the parameters are a Sequential, accepted is": lambda: fw.SGD([{"params": NET}], 0.1),
    "needs at least one parameter that learns, none": lambda: fw.SGD([{"params": []}], 0.1),
    "lr of 2 groups is set to 0.2, accepted is the rate of one": lambda: setattr(
        two_groups(network()), "lr", 0.2
    ),
    "unexpected keyword argument 'rate'": lambda: fw.SGD([{"params": FIRST, "rate": 1}], 0.1),
    "missing 1 required positional argument: 'lr'": lambda: fw.SGD([{"params": FIRST}]),
    "a group is 'sgd', accepted is an instance of": lambda: fw.ParameterGroups(["sgd"]),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_groups_are_named(message):
    with pytest.raises((ValueError, TypeError), match=message):
        WRONG[message]()
