"""Optimisers and schedules of the framework against torch.optim, step by step."""

import copy
import io
import math
import pickle

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from framework import (
    MSE,
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Exponential,
    Linear,
    Module,
    OneCycle,
    Parameter,
    Sequential,
    StepDecay,
    Tanh,
    WarmRestarts,
)
from tests.framework_twins import generator, generators, normal

# After ten steps, relative and absolute. In float32 each step rounds to 6e-8 of the values; Adam divides small moments by each other.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}
SHAPES = [(4, 3), (1, 3), (2, 1, 5), (1, 1)]  # of the parameters, without replicas
STEPS = 10

# --- optimisers

OPTIMIZERS = {  # ours, torch's and the settings of both
    "sgd": (SGD, torch.optim.SGD, {"lr": 0.1}),
    "sgd-decay": (SGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.05}),
    "sgd-momentum": (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "sgd-momentum-decay": (
        SGD,
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1},
    ),
    "sgd-nesterov": (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "sgd-nesterov-decay": (
        SGD,
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.3, "nesterov": True, "weight_decay": 0.2},
    ),
    "sgd-still": (SGD, torch.optim.SGD, {"lr": 0.0, "momentum": 0.9}),
    "adam": (Adam, torch.optim.Adam, {}),
    "adam-betas": (Adam, torch.optim.Adam, {"lr": 0.02, "betas": (0.5, 0.8)}),
    "adam-beta-0": (Adam, torch.optim.Adam, {"lr": 0.02, "betas": (0.0, 0.9)}),
    "adam-eps": (Adam, torch.optim.Adam, {"lr": 0.02, "eps": 0.1}),
    "adam-decay": (Adam, torch.optim.Adam, {"lr": 0.02, "weight_decay": 0.3}),
    "adamw": (AdamW, torch.optim.AdamW, {}),
    "adamw-decay": (AdamW, torch.optim.AdamW, {"lr": 0.02, "weight_decay": 0.3}),
    "adamw-no-decay": (
        AdamW,
        torch.optim.AdamW,
        {"lr": 0.02, "weight_decay": 0.0, "betas": (0.7, 0.9), "eps": 1e-3},
    ),
}


def parameters_of(
    replicas: int, dtype: torch.dtype = torch.float64, seed: int = 0
) -> list[Parameter]:
    return [
        Parameter(normal(replicas, *shape, dtype=dtype, seed=seed + place))
        for place, shape in enumerate(SHAPES)
    ]


def slope(values: torch.Tensor, step: int) -> torch.Tensor:
    """Some gradient that depends on the values and on the step."""
    return (3 * values + step).sin() + 0.3 * values


def move(
    optimizer,
    parameters: list[Parameter],
    steps: int,
    rates: list[float] | None = None,
    first: int = 0,
) -> None:
    for step in range(first, first + steps):
        optimizer.lr = rates[step] if rates else optimizer.lr
        optimizer.zero_grad()
        for parameter in parameters:
            for _ in range(2):  # in two parts, which add up
                parameter.grad.add_(slope(parameter.data, step) / 2)
        optimizer.step()


def compare(
    ours,
    theirs,
    options: dict,
    replicas: int,
    dtype: torch.dtype,
    rates: list[float] | None = None,
    seed: int = 0,
) -> None:
    parameters = parameters_of(replicas, dtype, seed)
    twins = [
        [torch.nn.Parameter(parameter.data[replica].clone()) for parameter in parameters]
        for replica in range(replicas)
    ]
    before = [parameter.data.clone() for parameter in parameters]
    move(ours(parameters, **{"lr": 0.001} | options), parameters, STEPS, rates)
    for replica, twin in enumerate(twins):
        optimizer = theirs(twin, **{"lr": 0.001} | options, foreach=False)
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = (
                rates[step] if rates else optimizer.param_groups[0]["lr"]
            )
            for each in twin:
                each.grad = slope(each.detach(), step)
            optimizer.step()
        for parameter, each in zip(parameters, twin):
            torch.testing.assert_close(
                parameter.data[replica], each.detach(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
            )
    moved = [not torch.equal(parameter.data, start) for parameter, start in zip(parameters, before)]
    assert all(moved) or options.get("lr") == 0


@pytest.mark.parametrize("changing", [False, True], ids=["constant", "changing"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["f64", "f32"])
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("case", OPTIMIZERS)
def test_ten_steps_are_torchs(case, replicas, dtype, changing):
    ours, theirs, options = OPTIMIZERS[case]
    rates = [options.get("lr", 0.01) * (1 + step % 3) / (1 + 0.2 * step) for step in range(STEPS)]
    compare(ours, theirs, options, replicas, dtype, rates if changing else None)


share = st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99])


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    lr=st.just(0.0) | st.floats(1e-3, 0.3),
    momentum=share,
    nesterov=st.booleans(),
    decay=share,
    seed=st.integers(0, 10**6),
)
def test_any_sgd_is_torchs(lr, momentum, nesterov, decay, seed):
    options = {
        "lr": lr,
        "momentum": momentum,
        "nesterov": nesterov and momentum > 0,
        "weight_decay": decay,
    }
    compare(SGD, torch.optim.SGD, options, 1, torch.float64, seed=seed)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    decoupled=st.booleans(), lr=st.floats(1e-3, 0.3), betas=st.tuples(share, share), eps=st.sampled_from([1e-8, 1e-3, 1.0]), decay=share,
    seed=st.integers(0, 10**6),
)  # fmt: skip
def test_any_adam_is_torchs(decoupled, lr, betas, eps, decay, seed):
    ours, theirs = (AdamW, torch.optim.AdamW) if decoupled else (Adam, torch.optim.Adam)
    options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": decay}
    compare(ours, theirs, options, 1, torch.float64, seed=seed)


def test_the_defaults_are_torchs():
    for ours, theirs in ((Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)):
        own, like = (
            ours(parameters_of(1)),
            theirs([torch.nn.Parameter(torch.zeros(1))]).param_groups[0],
        )
        assert (own.lr, own.betas, own.eps, own.weight_decay) == tuple(
            like[name] for name in ("lr", "betas", "eps", "weight_decay")
        )


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_a_saved_state_goes_on_bit_for_bit(case):
    make, _, options = OPTIMIZERS[case]
    options = {"lr": 0.001} | options
    whole, halves = parameters_of(3), parameters_of(3)
    move(make(whole, **options), whole, 8)
    first = make(halves, **options)
    move(first, halves, 4)
    state = first.state_dict()
    move(first, halves, 1, first=4)  # the state is a copy: what comes after does not change it
    loaded = parameters_of(3)
    move(make(loaded, **options), loaded, 4)
    second = make(loaded, **options)
    second.load_state_dict(state)
    move(second, loaded, 4, first=4)
    assert all(torch.equal(ours.data, theirs.data) for ours, theirs in zip(loaded, whole))
    if options["lr"] and case not in ("sgd", "sgd-decay"):  # without the state it is another way
        forgetful = parameters_of(3)
        move(make(forgetful, **options), forgetful, 4)
        move(make(forgetful, **options), forgetful, 4, first=4)
        assert not all(
            torch.equal(ours.data, theirs.data) for ours, theirs in zip(forgetful, whole)
        )


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_the_state_of_another_kind_is_refused(case):
    make, _, options = OPTIMIZERS[case]
    other = Adam(parameters_of(1)) if make is SGD else SGD(parameters_of(1), 0.1, momentum=0.9)
    with pytest.raises(KeyError, match="the state has .*accepted is"):
        make(parameters_of(1), **{"lr": 0.1} | options).load_state_dict(other.state_dict())


@pytest.mark.parametrize("state_of, into", [
    (lambda p: SGD(p, 0.1), lambda p: SGD(p, 0.1, momentum=0.9)),
    (lambda p: SGD(p, 0.1, momentum=0.9), lambda p: SGD(p[:2], 0.1, momentum=0.9)),
    (lambda p: Adam(p), lambda p: Adam(p[:2])),
], ids=["no-momentum", "sgd-size", "adam-size"])  # fmt: skip
def test_a_state_that_does_not_fit_is_refused(state_of, into):
    """Else the momentum is silently lost, or the next step fails without a word of the cause."""
    state = state_of(parameters_of(2)).state_dict()
    with pytest.raises((KeyError, ValueError)):
        into(parameters_of(2)).load_state_dict(state)


MAKES = {
    "sgd": lambda p: SGD(p, 0.1),
    "momentum": lambda p: SGD(p, 0.1, momentum=0.9),
    "adam": Adam,
    "adamw": AdamW,
}


@pytest.mark.parametrize("later", MAKES)
@pytest.mark.parametrize("former", MAKES)
def test_a_later_optimizer_takes_the_parameters_over(former, later):
    parameters = parameters_of(2)
    first = MAKES[former](parameters)
    move(first, parameters, 2)
    values = [parameter.data.clone() for parameter in parameters]
    second = MAKES[later](parameters)
    with pytest.raises(RuntimeError, match="another optimiser"):
        move(first, parameters, 1)
    assert all(torch.equal(parameter.data, value) for parameter, value in zip(parameters, values))
    move(second, parameters, 1)
    assert not any(
        torch.equal(parameter.data, value) for parameter, value in zip(parameters, values)
    )


@pytest.mark.parametrize(
    "taken", [slice(0, 1), slice(1, None)], ids=["the-first", "all-but-the-first"]
)
def test_a_later_optimizer_of_some_parameters_is_noticed(taken):
    parameters = parameters_of(2)
    first = SGD(parameters, 0.1)
    SGD(parameters[taken], 0.1)
    with pytest.raises(RuntimeError, match="another optimiser"):
        first.step()


BAD = {
    "lr": lambda p: SGD(p, -0.1),
    "lr-nan": lambda p: SGD(p, math.nan),
    "lr-inf": lambda p: Adam(p, math.inf),
    "momentum": lambda p: SGD(p, 0.1, momentum=-0.5),
    "nesterov": lambda p: SGD(p, 0.1, nesterov=True),
    "weight_decay": lambda p: SGD(p, 0.1, weight_decay=-1),
    "weight_decay-adamw": lambda p: AdamW(p, weight_decay=-1),
    "betas": lambda p: Adam(p, betas=(0.9, 1.0)),
    "betas-negative": lambda p: AdamW(p, betas=(-0.1, 0.9)),
    "betas-three": lambda p: Adam(p, betas=(0.9, 0.99, 0.999)),
    "eps": lambda p: Adam(p, eps=-1e-8),
    "parameter": lambda p: SGD([], 0.1),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_setting_is_refused_by_name_and_takes_nothing_over(case):
    parameters = parameters_of(1)
    first = SGD(parameters, 0.1)
    with pytest.raises(ValueError, match=case.split("-")[0]):
        BAD[case](parameters)
    values = parameters[0].data.clone()
    move(first, parameters, 1)
    assert not torch.equal(parameters[0].data, values)


def test_a_parameter_given_twice_is_refused():
    parameter = Parameter(torch.ones(1, 2))
    with pytest.raises(ValueError, match="twice|more than once|duplicate"):
        SGD([parameter, parameter], 0.1)


def test_replicas_move_as_each_by_itself():
    """Bit for bit, from the same weights with the same gradients, as linear layers have them."""
    for make in MAKES.values():
        together = Linear(3, 2, generators(3)).parameters()
        move(make(together), together, 5)
        for replica in range(3):
            alone = Linear(3, 2, generator(replica)).parameters()
            move(make(alone), alone, 5)
            assert all(
                torch.equal(ours.data[replica], theirs.data[0])
                for ours, theirs in zip(together, alone)
            )


# --- parameters and the optimiser that has them


class Scale(Module):
    """A user's own layer, which sets its gradient instead of adding to it, and has its parameters in a list."""

    def __init__(self) -> None:
        self.factors = [Parameter(torch.full((2, 1, 3), 1.5))]

    def forward(self, x):
        self._keep(x)
        return x * self.factors[0].data

    def backward(self, dy, input_gradient=True):
        self.factors[0].grad = (dy * self._take()).sum(1, keepdim=True)
        return dy * self.factors[0].data


def small() -> Sequential:
    return Sequential(Linear(4, 3, generators(2)), Tanh(), Scale())


def train(network, optimizer, steps: int, first: int = 0) -> None:
    loss = MSE()
    for step in range(first, first + steps):
        optimizer.zero_grad()
        prediction = network.forward(normal(2, 5, 4, dtype=torch.float32, seed=step))
        loss.forward(prediction, normal(2, 5, 3, dtype=torch.float32, seed=step + 100))
        network.backward(loss.backward(), input_gradient=False)
        optimizer.step()


def train_by_torch(
    values: list[torch.Tensor], theirs, options: dict, events: dict, steps: int
) -> list[torch.Tensor]:
    """The same network and training by autograd; `events` are called with the parameters before the step of their number."""
    parameters = [torch.nn.Parameter(value) for value in values]
    optimizer = theirs(parameters, **options)
    for step in range(steps):
        events.get(step, lambda parameters: None)(parameters)
        weight, bias, factor = parameters
        x, target = (
            normal(2, 5, 4, dtype=torch.float32, seed=step),
            normal(2, 5, 3, dtype=torch.float32, seed=step + 100),
        )
        output = (x @ weight + bias).tanh() * factor
        optimizer.zero_grad()
        ((output - target) ** 2).mean((1, 2)).sum().backward()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def through_torch_save(pair):
    torch.save(pair, buffer := io.BytesIO())
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)


COPIES = {
    "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),
    "pickle-optimiser-first": lambda pair: pickle.loads(pickle.dumps(pair[::-1]))[::-1],
    "deepcopy": copy.deepcopy,
    "torch.save": through_torch_save,
}
TRAINED = {
    "sgd": (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}), "adamw": (AdamW, torch.optim.AdamW, {"lr": 0.02, "weight_decay": 0.3}),
}  # fmt: skip


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("case", TRAINED)
def test_a_copy_of_network_and_optimiser_trains_on_as_torch(case, copied):
    make, theirs, options = TRAINED[case]
    network = small()
    expected = train_by_torch(
        [parameter.data.clone() for parameter in network.parameters()], theirs, options, {}, 4
    )
    optimizer = make(network.parameters(), **options)
    train(network, optimizer, 2)
    twin, own = COPIES[copied]((network, optimizer))
    train(network, optimizer, 1, first=7)  # the original goes its own way
    train(twin, own, 2, first=2)
    for parameter, value in zip(twin.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.data, value)


@pytest.mark.parametrize("case", TRAINED)
def test_values_that_are_set_are_trained_as_torch(case):
    """`data` after the optimiser was made; the layer of this network sets `grad`."""
    make, theirs, options = TRAINED[case]
    network, weight = small(), normal(2, 4, 3, dtype=torch.float32, seed=50)
    expected = train_by_torch(
        [parameter.data.clone() for parameter in network.parameters()], theirs, options,
        {0: lambda parameters: parameters[0].data.copy_(weight), 1: lambda parameters: parameters[1].data.mul_(2)}, 3,
    )  # fmt: skip
    optimizer = make(network.parameters(), **options)
    layer = network.sequence[0]
    layer.weight.data = weight
    train(network, optimizer, 1)
    layer.bias.data = 2 * layer.bias.data
    train(network, optimizer, 2, first=1)
    for parameter, value in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.data, value)
    assert torch.equal(
        weight, normal(2, 4, 3, dtype=torch.float32, seed=50)
    )  # its values were copied


@pytest.mark.parametrize("name", ["data", "grad"])
@pytest.mark.parametrize("values, told", [
    (torch.ones(2, 3, 4), r"\(2, 3, 4\) float32"), (torch.ones(1, 4, 3), r"\(1, 4, 3\) float32"), (torch.ones(2, 4, 3).double(), r"\(2, 4, 3\) float64"),
    (None, "None"), (1.5, "1.5"),
])  # fmt: skip
def test_values_of_another_shape_or_type_are_refused(name, values, told):
    parameter = Parameter(torch.ones(2, 4, 3))
    SGD([parameter], 0.1)
    with pytest.raises(
        ValueError, match=rf"the {name} of a parameter is {told}, accepted is .*\(2, 4, 3\) float32"
    ):
        setattr(parameter, name, values)


def replace_list(network) -> None:
    network.sequence[2].factors = [Parameter(torch.ones(2, 1, 3))]


REPLACED = {
    "parameter": lambda network: setattr(
        network.sequence[0], "weight", Parameter(torch.ones(2, 4, 3))
    ),
    "another-layers": lambda network: setattr(
        network.sequence[0], "weight", Linear(4, 3, generators(2, 5)).weight
    ),
    "none": lambda network: setattr(network.sequence[0], "bias", None),
    "list": replace_list,
    "layer": lambda network: setattr(
        network, "sequence", (Linear(4, 3, generators(2)), *network.sequence[1:])
    ),
    "dtype": lambda network: network.to(torch.float64),
}


@pytest.mark.parametrize("case", REPLACED)
def test_an_optimiser_without_its_networks_parameters_says_so(case):
    network = small()
    optimizer = SGD(network.parameters(), 0.1)
    train(network, optimizer, 1)
    REPLACED[case](network)
    with pytest.raises(RuntimeError, match="make a new optimiser"):
        optimizer.step()
    network.to(torch.float32)
    before = [parameter.data.clone() for parameter in network.parameters()]
    train(network, SGD(network.parameters(), 0.1), 1)
    assert not any(
        torch.equal(parameter.data, value) for parameter, value in zip(network.parameters(), before)
    )


def test_the_same_layers_in_another_order_keep_their_optimiser():
    network = Sequential(Linear(3, 3, generators(2)), Linear(3, 3, generators(2, 9)))
    optimizer = SGD(network.parameters(), 0.1)
    network.sequence = network.sequence[::-1]
    optimizer.step()


# --- schedules

RATE, EPOCHS, BATCHES = 0.1, 12, 5


def ours(schedule, epochs: int = EPOCHS, steps: int = BATCHES, start: float = RATE) -> list[float]:
    epoch = steps if schedule.interval == "step" else 1
    return [schedule.rate(start, time, epochs * epoch, epoch) for time in range(epochs * epoch)]


def torchs(make, moves: int, start: float = RATE) -> list[float]:
    """The rates in force before each of so many moves; `make` is called with the optimiser."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], start)
    scheduler, seen = make(optimizer), []
    for move in range(moves):
        seen.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if move < moves - 1:
            scheduler.step()
    return seen


def same(rates: list[float], theirs: list[float], rel: float = 1e-9) -> None:
    assert rates == pytest.approx(theirs, rel=rel, abs=1e-15)


def one_cycle(
    moves: int, warmup: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4
):
    """Torch's, made as digitpairs makes it: a way up of exactly one move, a division by zero in torch's, is a hair longer."""
    hair = 1e-6 / moves * (abs(warmup * moves - 1) < 1e-6)
    settings = {
        "total_steps": moves,
        "pct_start": warmup + hair,
        "div_factor": div_factor,
        "final_div_factor": final_div_factor,
    }
    return lambda optimizer: lr_scheduler.OneCycleLR(
        optimizer, RATE, **settings, cycle_momentum=False
    )


def delayed_restarts(delay, period):
    def make(optimizer):
        waves = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, period, 1, 0.001)
        return lr_scheduler.SequentialLR(
            optimizer, [lr_scheduler.ConstantLR(optimizer, 1.0), waves], [delay]
        )

    return make


SCHEDULES = {
    "constant": (Constant(), lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    "step": (StepDecay(5, 0.3), lambda o: lr_scheduler.StepLR(o, 5, 0.3)),
    "step-default": (StepDecay(1), lambda o: lr_scheduler.StepLR(o, 1)),
    "step-long": (StepDecay(100, 0.5), lambda o: lr_scheduler.StepLR(o, 100, 0.5)),
    "exponential": (Exponential(0.9), lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
    "exponential-steps": (
        Exponential(0.9, "step"),
        lambda o: lr_scheduler.ExponentialLR(o, 0.9 ** (1 / BATCHES)),
    ),
    "cosine": (Cosine(), lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS)),
    "cosine-min": (Cosine(0.003), lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS, 0.003)),
    "cosine-steps": (
        Cosine(0.003, "step"),
        lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS * BATCHES, 0.003),
    ),
    "cosine-up": (Cosine(0.5), lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS, 0.5)),
    "restarts": (WarmRestarts(5), lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5)),
    "restarts-1": (
        WarmRestarts(1, 1, 0.01),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 1, 1, 0.01),
    ),
    "restarts-longer": (
        WarmRestarts(2, 2, 0.001),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 2, 0.001),
    ),
    "restarts-steps": (
        WarmRestarts(2, 3, 0.001, "step"),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2 * BATCHES, 3, 0.001),
    ),
    "restarts-delayed": (WarmRestarts(4, 1, 0.001, delay=3), delayed_restarts(3, 4)),
    "restarts-delayed-steps": (
        WarmRestarts(4, 1, 0.001, "step", 3),
        delayed_restarts(3 * BATCHES, 4 * BATCHES),
    ),
    "one-cycle": (OneCycle(), one_cycle(EPOCHS * BATCHES)),
    "one-cycle-epochs": (OneCycle(interval="epoch"), one_cycle(EPOCHS)),
    "one-cycle-factors": (OneCycle(0.45, 5.0, 30.0), one_cycle(EPOCHS * BATCHES, 0.45, 5.0, 30.0)),
    "one-cycle-no-warmup": (OneCycle(0), one_cycle(EPOCHS * BATCHES, 0)),
    "one-cycle-less-than-a-step-up": (
        OneCycle(0.5 / 12, interval="epoch"),
        one_cycle(EPOCHS, 0.5 / 12),
    ),
    "one-cycle-a-step-up": (OneCycle(1 / 12, interval="epoch"), one_cycle(EPOCHS, 1 / 12)),
    "one-cycle-two-steps-up": (OneCycle(2 / 12, interval="epoch"), one_cycle(EPOCHS, 2 / 12)),
    "one-cycle-a-step-down": (OneCycle(11 / 12, interval="epoch"), one_cycle(EPOCHS, 11 / 12)),
    "one-cycle-nearly-all-up": (OneCycle(0.99, interval="epoch"), one_cycle(EPOCHS, 0.99)),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_a_schedule_has_torchs_rates(case):
    schedule, make = SCHEDULES[case]
    rates = ours(schedule)
    assert len(rates) == EPOCHS * (BATCHES if schedule.interval == "step" else 1)
    same(
        rates, torchs(make, len(rates)), 1e-6 if case == "one-cycle-a-step-up" else 1e-9
    )  # there torch's is a hair off
    assert len(set(rates)) > 1 or case in ("constant", "step-long", "restarts-1")


intervals = st.sampled_from(["epoch", "step"])
any_schedule = settings(deadline=None, max_examples=30, derandomize=True)


@any_schedule
@given(
    moves=st.integers(1, 60),
    warmup=st.floats(0, 0.99),
    div=st.floats(1, 50),
    final=st.floats(1, 1e5),
    interval=intervals,
)
def test_any_one_cycle_has_torchs_rates(moves, warmup, div, final, interval):
    assume(abs(warmup * moves - 1) > 1e-6)  # where torch's is not defined
    rates = ours(OneCycle(warmup, div, final, interval), moves, 1)
    same(rates, torchs(one_cycle(moves, warmup, div, final), moves))


@any_schedule
@given(moves=st.integers(1, 60))
def test_of_one_step_up_the_rounding_of_the_share_decides_nothing(moves):
    near = (
        [ours(OneCycle(1 / moves * (1 + hair)), moves, 1) for hair in (0, 1e-15, -1e-15)]
        if moves > 1
        else [[1.0]]
    )
    for rates in near[1:]:
        same(rates, near[0])


@any_schedule
@given(
    epochs=st.integers(1, 20), steps=st.integers(1, 9), low=st.floats(0, 0.2), interval=intervals
)
def test_any_cosine_has_torchs_rates(epochs, steps, low, interval):
    rates = ours(Cosine(low, interval), epochs, steps)
    same(rates, torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, len(rates), low), len(rates)))


@any_schedule
@given(
    epochs=st.integers(1, 20),
    steps=st.integers(1, 9),
    T_0=st.integers(1, 9),
    T_mult=st.integers(1, 3),
    interval=intervals,
)
def test_any_warm_restarts_have_torchs_rates(epochs, steps, T_0, T_mult, interval):
    rates = ours(WarmRestarts(T_0, T_mult, 0.002, interval), epochs, steps)
    period = T_0 * (steps if interval == "step" else 1)
    same(
        rates,
        torchs(
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, period, T_mult, 0.002), len(rates)
        ),
    )


BAD_SCHEDULES = {
    "step_size": lambda: StepDecay(0, 0.5),
    "gamma": lambda: StepDecay(1, -0.5),
    "gamma-exponential": lambda: Exponential(-0.5, "step"),
    "T_0": lambda: WarmRestarts(0),
    "T_mult": lambda: WarmRestarts(2, 0),
    "delay": lambda: WarmRestarts(2, delay=-1),
    "delay-in-part": lambda: WarmRestarts(2, delay=0.5),
    "warmup": lambda: OneCycle(1.0),
    "warmup-negative": lambda: OneCycle(-0.1),
    "div_factor": lambda: OneCycle(div_factor=0.0),
    "final_div_factor": lambda: OneCycle(final_div_factor=0.0),
    "interval": lambda: Cosine(interval="week"),
}


@pytest.mark.parametrize("case", BAD_SCHEDULES)
def test_a_bad_schedule_is_refused_by_name(case):
    with pytest.raises(ValueError, match=case.split("-")[0]):
        BAD_SCHEDULES[case]()
