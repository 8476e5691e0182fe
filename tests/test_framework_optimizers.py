"""Optimisers and schedules of the framework against torch.optim, step by step."""

import copy
import io
import math
import pickle

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

import framework as fw
from tests.framework_twins import (
    TOLERANCE,
    dtypes,
    few,
    generator,
    generators,
    normal,
    normal32,
    seeds,
)

SHAPES = [(4, 3), (1, 3), (2, 1, 5), (1, 1)]  # of the parameters, without replicas
STEPS = 10

# --- optimisers

OPTIMIZERS = {  # the class, which torch.optim has by the same name, and the settings of both
    "sgd": (fw.SGD, {"lr": 0.1}),
    "sgd-decay": (fw.SGD, {"lr": 0.1, "weight_decay": 0.05}),
    "sgd-momentum": (fw.SGD, {"lr": 0.1, "momentum": 0.9}),
    "sgd-momentum-decay": (fw.SGD, {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1}),
    "sgd-nesterov": (fw.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "sgd-nesterov-decay": (
        fw.SGD,
        {"lr": 0.1, "momentum": 0.3, "nesterov": True, "weight_decay": 0.2},
    ),
    "sgd-lr-0": (fw.SGD, {"lr": 0.0, "momentum": 0.9}),
    "sgd-dampening": (fw.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4}),
    "sgd-maximize": (fw.SGD, {"lr": 0.01, "maximize": True, "weight_decay": 0.1}),
    "adam-amsgrad": (fw.Adam, {"lr": 0.02, "amsgrad": True, "betas": (0.5, 0.8)}),
    "adamw-amsgrad": (fw.AdamW, {"lr": 0.02, "amsgrad": True, "maximize": True}),
    "rmsprop": (fw.RMSprop, {"lr": 0.01}),
    "rmsprop-settings": (
        fw.RMSprop,
        {
            "lr": 0.01,
            "alpha": 0.8,
            "centered": True,
            "momentum": 0.5,
            "weight_decay": 0.1,
            "eps": 1e-3,
        },
    ),
    "adagrad": (fw.Adagrad, {"lr": 0.1}),
    "adagrad-settings": (fw.Adagrad, {"lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.1}),
    "adam": (fw.Adam, {"lr": 0.001}),
    "adam-betas": (fw.Adam, {"lr": 0.02, "betas": (0.5, 0.8)}),
    "adam-beta-0": (fw.Adam, {"lr": 0.02, "betas": (0.0, 0.9)}),
    "adam-eps": (fw.Adam, {"lr": 0.02, "eps": 0.1}),
    "adam-decay": (fw.Adam, {"lr": 0.02, "weight_decay": 0.3}),
    "adamw": (fw.AdamW, {"lr": 0.001}),
    "adamw-decay": (fw.AdamW, {"lr": 0.02, "weight_decay": 0.3}),
    "adamw-no-decay": (
        fw.AdamW,
        {"lr": 0.02, "weight_decay": 0.0, "betas": (0.7, 0.9), "eps": 1e-3},
    ),
}


def torchs(kind: type) -> type[torch.optim.Optimizer]:
    return getattr(torch.optim, kind.__name__)


def parameters_of(
    replicas: int, dtype: torch.dtype = torch.float64, seed: int = 0
) -> list[fw.Parameter]:
    return [
        fw.Parameter(normal(replicas, *shape, dtype=dtype, seed=seed + index))
        for index, shape in enumerate(SHAPES)
    ]


def values_of(parameters: list[fw.Parameter]) -> list[torch.Tensor]:
    return [parameter.data.clone() for parameter in parameters]


def equal(parameters: list[fw.Parameter], values: list[torch.Tensor]) -> list[bool]:
    return [torch.equal(ours.data, value) for ours, value in zip(parameters, values, strict=True)]


def gradient(values: torch.Tensor, step: int) -> torch.Tensor:
    """Some gradient that depends on the values and on the step."""
    return (3 * values + step).sin() + 0.3 * values


def take_steps(optimizer, steps: int, rates: list[float] | None = None, first: int = 0) -> None:
    for step in range(first, first + steps):
        optimizer.lr = rates[step] if rates else optimizer.lr
        optimizer.zero_grad()
        for parameter in optimizer.parameters:
            for _ in range(2):  # two halves that add up
                parameter.grad.add_(gradient(parameter.data, step) / 2)
        optimizer.step()


def compare(
    kind: type,
    options: dict,
    replicas: int,
    dtype: torch.dtype,
    rates: list[float] | None = None,
    seed: int = 0,
) -> None:
    parameters = parameters_of(replicas, dtype, seed)
    before = values_of(parameters)
    take_steps(kind(parameters, **options), STEPS, rates)
    tolerance = TOLERANCE[dtype]
    for replica in range(replicas):
        twins = [torch.nn.Parameter(values[replica].clone()) for values in before]
        optimizer = torchs(kind)(twins, **options, foreach=False)
        for step in range(STEPS):
            if rates:
                optimizer.param_groups[0]["lr"] = rates[step]
            for twin in twins:
                twin.grad = gradient(twin.detach(), step)
            optimizer.step()
        for ours, twin in zip(parameters, twins):
            theirs = twin.detach()
            torch.testing.assert_close(ours.data[replica], theirs, rtol=tolerance, atol=tolerance)
    assert options["lr"] == 0 or not any(equal(parameters, before))


@pytest.mark.parametrize("changing", [False, True], ids=["constant", "changing"])
@dtypes
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("case", OPTIMIZERS)
def test_ten_steps(case, replicas, dtype, changing):
    kind, options = OPTIMIZERS[case]
    rates = [options["lr"] * (1 + step % 3) / (1 + 0.2 * step) for step in range(STEPS)]
    compare(kind, options, replicas, dtype, rates if changing else None)


share = st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99])


@pytest.mark.slow
@few
@given(
    lr=st.just(0.0) | st.floats(1e-3, 0.3),
    momentum=share,
    nesterov=st.booleans(),
    weight_decay=share,
    seed=seeds,
)
def test_any_sgd(momentum, nesterov, seed, **options):
    options |= {"momentum": momentum, "nesterov": nesterov and momentum > 0}
    compare(fw.SGD, options, 1, torch.float64, seed=seed)


@pytest.mark.slow
@few
@given(
    kind=st.sampled_from([fw.Adam, fw.AdamW]),
    lr=st.floats(1e-3, 0.3),
    betas=st.tuples(share, share),
    eps=st.sampled_from([1e-8, 1e-3, 1.0]),
    weight_decay=share,
    seed=seeds,
)
def test_any_adam(kind, seed, **options):
    compare(kind, options, 1, torch.float64, seed=seed)


@pytest.mark.parametrize("kind", [fw.Adam, fw.AdamW])
def test_defaults_are_those_of_torch(kind):
    own = kind(parameters_of(1))
    twin = torchs(kind)([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    for name in ("lr", "betas", "eps", "weight_decay"):
        assert getattr(own, name) == twin[name]


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_training_continues_from_a_saved_state_bit_for_bit(case):
    kind, options = OPTIMIZERS[case]
    expected = parameters_of(3)
    take_steps(kind(expected, **options), 8)
    first = kind(parameters_of(3), **options)
    take_steps(first, 4)
    state, values = first.state_dict(), values_of(first.parameters)
    take_steps(first, 1, first=4)  # the state is a copy, which this step does not change

    def continued(state: dict | None) -> list[bool]:
        optimizer = kind([fw.Parameter(value.clone()) for value in values], **options)
        if state is not None:
            optimizer.load_state_dict(state)
        take_steps(optimizer, 4, first=4)
        return equal(expected, values_of(optimizer.parameters))

    assert all(continued(state))
    if options["lr"] and case not in ("sgd", "sgd-decay", "sgd-maximize"):  # which have no state
        assert not all(continued(None))


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_state_of_another_optimiser_is_refused(case):
    kind, options = OPTIMIZERS[case]
    other = fw.SGD(parameters_of(1), 0.1) if kind is not fw.SGD else fw.Adam(parameters_of(1))
    with pytest.raises(KeyError, match="the state has .*accepted is"):
        kind(parameters_of(1), **options).load_state_dict(other.state_dict())


KINDS = {
    "sgd": lambda p: fw.SGD(p, 0.1),
    "momentum": lambda p: fw.SGD(p, 0.1, momentum=0.9),
    "adam": fw.Adam,
    "adamw": fw.AdamW,
}


@pytest.mark.parametrize(
    "kind, other, count, message",
    [
        ("sgd", "momentum", 4, r"velocity is NoneType, accepted is \(52,\) float64"),
        ("momentum", "momentum", 2, r"velocity is \(52,\) float64, accepted is \(30,\) float64"),
        ("adam", "adam", 2, r"first is \(52,\) float64, accepted is \(30,\) float64"),
    ],
)
def test_state_that_does_not_fit_is_refused(kind, other, count, message):
    state = KINDS[kind](parameters_of(2)).state_dict()
    with pytest.raises(ValueError, match=message):
        KINDS[other](parameters_of(2)[:count]).load_state_dict(state)


@pytest.mark.parametrize("part", [slice(None), slice(0, 1), slice(1, None)])
@pytest.mark.parametrize("later", KINDS)
@pytest.mark.parametrize("former", KINDS)
def test_later_optimizer_gets_the_parameters(former, later, part):
    parameters = parameters_of(2)
    first = KINDS[former](parameters)
    take_steps(first, 2)
    values = values_of(parameters)
    second = KINDS[later](parameters[part])
    with pytest.raises(RuntimeError, match="another optimiser"):
        take_steps(first, 1)
    assert all(equal(parameters, values))
    take_steps(second, 1)
    assert not any(equal(parameters[part], values[part]))


BAD = {
    "lr": lambda p: fw.SGD(p, -0.1),
    "lr-nan": lambda p: fw.SGD(p, math.nan),
    "lr-inf": lambda p: fw.Adam(p, math.inf),
    "momentum": lambda p: fw.SGD(p, 0.1, momentum=-0.5),
    "nesterov": lambda p: fw.SGD(p, 0.1, nesterov=True),
    "weight_decay": lambda p: fw.SGD(p, 0.1, weight_decay=-1),
    "weight_decay-adamw": lambda p: fw.AdamW(p, weight_decay=-1),
    "betas": lambda p: fw.Adam(p, betas=(0.9, 1.0)),
    "betas-negative": lambda p: fw.AdamW(p, betas=(-0.1, 0.9)),
    "betas-three": lambda p: fw.Adam(p, betas=(0.9, 0.99, 0.999)),
    "eps": lambda p: fw.Adam(p, eps=-1e-8),
    "parameter": lambda p: fw.SGD([], 0.1),
    "was given twice, accepted is each parameter once": lambda p: fw.SGD([p[0], p[0]], 0.1),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_setting_is_named_and_changes_no_parameter(case):
    parameters = parameters_of(1)
    first = fw.SGD(parameters, 0.1)
    with pytest.raises(ValueError, match=case.split("-")[0]):
        BAD[case](parameters)
    values = values_of(parameters)
    take_steps(first, 1)
    assert not any(equal(parameters, values))


@pytest.mark.parametrize("kind", KINDS)
def test_replica_has_the_same_bits_in_any_array(kind):
    together = fw.Linear(3, 2, generators(3)).parameters()
    take_steps(KINDS[kind](together), 5)
    for replica in range(3):
        alone = fw.Linear(3, 2, generator(replica)).parameters()
        take_steps(KINDS[kind](alone), 5)
        assert all(equal(alone, [ours.data[replica : replica + 1] for ours in together]))


# --- parameters and the optimiser that has them


class Scale(fw.Module):
    """A user's layer: it assigns its gradient instead of adding to it, and has a list."""

    def __init__(self) -> None:
        self.factors = [fw.Parameter(torch.full((2, 1, 3), 1.5))]

    def forward(self, x):
        self.keep(x)
        return x * self.factors[0].data

    def backward(self, dy, input_gradient=True):
        self.factors[0].grad = (dy * self.take()).sum(1, keepdim=True)
        return dy * self.factors[0].data


def small_network() -> fw.Sequential:
    return fw.Sequential(fw.Linear(4, 3, generators(2)), fw.Tanh(), Scale())


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    return normal32(2, 5, 4, seed=step), normal32(2, 5, 3, seed=step + 100)


def train(network, optimizer, steps: int, first: int = 0) -> None:
    loss = fw.MSE()
    for step in range(first, first + steps):
        x, target = batch(step)
        optimizer.zero_grad()
        loss.forward(network.forward(x), target)
        network.backward(loss.backward(), input_gradient=False)
        optimizer.step()


def train_by_torch(values: list[torch.Tensor], kind: type, options: dict, changes: list) -> list:
    """Train the same network by autograd, one step for each change.

    Each change is called with the parameters before its step, and may be None.
    """
    weight, bias, factor = parameters = [torch.nn.Parameter(value) for value in values]
    optimizer = torchs(kind)(parameters, **options)
    for step, change in enumerate(changes):
        if change is not None:
            change(weight.data, bias.data)
        x, target = batch(step)
        output = (x @ weight + bias).tanh() * factor
        optimizer.zero_grad()
        ((output - target) ** 2).mean((1, 2)).sum().backward()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def saved_by_torch(pair):
    torch.save(pair, buffer := io.BytesIO())
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)


COPIES = {
    "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),
    "pickle-optimiser-first": lambda pair: pickle.loads(pickle.dumps(pair[::-1]))[::-1],
    "deepcopy": copy.deepcopy,
    "torch.save": saved_by_torch,
}
trained = pytest.mark.parametrize(
    "kind, options",
    [(fw.SGD, {"lr": 0.1, "momentum": 0.9}), (fw.AdamW, {"lr": 0.02, "weight_decay": 0.3})],
    ids=["sgd", "adamw"],
)


@pytest.mark.parametrize("copied", COPIES)
@trained
def test_copy_of_network_and_optimiser_continues_as_in_torch(kind, options, copied):
    network = small_network()
    expected = train_by_torch(values_of(network.parameters()), kind, options, 4 * [None])
    optimizer = kind(network.parameters(), **options)
    train(network, optimizer, 2)
    twin, own = COPIES[copied]((network, optimizer))
    train(network, optimizer, 1, first=7)  # does not affect the copy
    train(twin, own, 2, first=2)
    for parameter, value in zip(twin.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.data, value)


@trained
def test_assigned_values_are_trained_as_in_torch(kind, options):
    """`data` is assigned after the optimiser was made; a layer of the network assigns `grad`."""
    network, weight = small_network(), normal32(2, 4, 3, seed=50)
    changes = [lambda w, b: w.copy_(weight), lambda w, b: b.mul_(2), None]
    expected = train_by_torch(values_of(network.parameters()), kind, options, changes)
    optimizer = kind(network.parameters(), **options)
    layer = network.sequence[0]
    layer.weight.data = weight
    train(network, optimizer, 1)
    layer.bias.data = 2 * layer.bias.data
    train(network, optimizer, 2, first=1)
    for parameter, value in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.data, value)
    assert torch.equal(weight, normal32(2, 4, 3, seed=50))  # the values were copied


@pytest.mark.parametrize("name", ["data", "grad"])
@pytest.mark.parametrize(
    "values, described",
    [
        (torch.ones(2, 3, 4), r"\(2, 3, 4\) float32"),
        (torch.ones(1, 4, 3), r"\(1, 4, 3\) float32"),
        (torch.ones(2, 4, 3).double(), r"\(2, 4, 3\) float64"),
        (None, "None"),
        (1.5, "1.5"),
    ],
)
def test_values_of_another_shape_or_type_are_refused(name, values, described):
    parameter = fw.Parameter(torch.ones(2, 4, 3))
    fw.SGD([parameter], 0.1)
    message = rf"the {name} of a parameter is {described}, accepted is .*\(2, 4, 3\) float32"
    with pytest.raises(ValueError, match=message):
        setattr(parameter, name, values)


def replace(layer: int, name: str, value) -> object:
    """Make a function that sets an attribute of a layer of a network."""
    return lambda network: setattr(network.sequence[layer], name, value)


REPLACED = {
    "parameter": replace(0, "weight", fw.Parameter(torch.ones(2, 4, 3))),
    "another-layers": replace(0, "weight", fw.Linear(4, 3, generators(2, 5)).weight),
    "none": replace(0, "bias", None),
    "list": replace(2, "factors", [fw.Parameter(torch.ones(2, 1, 3))]),
    "layer": lambda network: setattr(
        network, "sequence", (fw.Linear(4, 3, generators(2)), *network.sequence[1:])
    ),
    "dtype": lambda network: network.to(torch.float64),
}


@pytest.mark.parametrize("case", REPLACED)
def test_optimiser_notices_that_a_parameter_was_replaced(case):
    network = small_network()
    optimizer = fw.SGD(network.parameters(), 0.1)
    train(network, optimizer, 1)
    REPLACED[case](network)
    with pytest.raises(RuntimeError, match="make a new optimiser"):
        optimizer.step()
    network.to(torch.float32)
    before = values_of(network.parameters())
    train(network, fw.SGD(network.parameters(), 0.1), 1)
    assert not any(equal(network.parameters(), before))


def test_layers_in_another_order_keep_their_optimiser():
    network = fw.Sequential(fw.Linear(3, 3, generators(2)), fw.Linear(3, 3, generators(2, 9)))
    optimizer = fw.SGD(network.parameters(), 0.1)
    network.sequence = network.sequence[::-1]
    optimizer.step()


REBOUND = {  # what a user may do to the tensors themselves, past the setters
    "data.data": lambda network, _: setattr(
        network.sequence[0].weight.data, "data", torch.ones(2, 4, 3)
    ),
    "grad.data": lambda network, _: setattr(
        network.sequence[0].weight.grad, "data", torch.ones(2, 4, 3)
    ),
    "set_": lambda network, _: network.sequence[0].weight.data.set_(torch.ones(2, 4, 3)),
}


@pytest.mark.parametrize("case", REBOUND)
def test_fit_notices_that_a_tensor_left_its_optimiser(case):
    network = small_network()
    optimizer = fw.SGD(network.parameters(), 0.1)
    trainer = fw.Trainer(network, fw.MSE(), optimizer, generators(2))
    trainer.fit(batch(0), 1)
    REBOUND[case](network, optimizer)
    with pytest.raises(ValueError, match="the optimiser does not have 0.weight, accepted is an"):
        trainer.fit(batch(0), 2)


@trained
def test_parameter_of_two_layers_is_trained_as_in_torch(kind, options):
    """The second layer has the weight of the first; the gradients of both uses add up."""
    first, second = (fw.Linear(3, 3, generators(2), bias=False) for _ in range(2))
    second.weight = first.weight
    network = fw.Sequential(first, fw.Tanh(), second)
    assert list(network.state()) == ["0.weight"]
    x, target = normal32(2, 5, 3), normal32(2, 5, 3, seed=1)
    fw.gradcheck(network, x)
    weight = torch.nn.Parameter(first.weight.data.clone())
    own, theirs = kind(network.parameters(), **options), torchs(kind)([weight], **options)
    loss = fw.MSE()
    for _ in range(3):
        own.zero_grad()
        loss.forward(network.forward(x), target)
        network.backward(loss.backward(), input_gradient=False)
        own.step()
        theirs.zero_grad()
        (((x @ weight).tanh() @ weight - target) ** 2).mean((1, 2)).sum().backward()
        theirs.step()
    torch.testing.assert_close(second.weight.data, weight.detach())


# --- schedules

RATE, EPOCHS, BATCHES = 0.1, 12, 5


def rates_of(schedule, epochs: int = EPOCHS, steps: int = BATCHES) -> list[float]:
    epoch = steps if schedule.interval == "step" else 1
    return [schedule.rate(RATE, time, epochs * epoch, epoch) for time in range(epochs * epoch)]


def assert_rates(rates: list[float], make, *settings, rel: float = 1e-9) -> None:
    """The rates are equal to the rates of torch's schedule `make(optimizer, *settings)`."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], RATE)
    scheduler, theirs = make(optimizer, *settings), []
    for index in range(len(rates)):
        theirs.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if index < len(rates) - 1:
            scheduler.step()
    assert rates == pytest.approx(theirs, rel=rel, abs=1e-15)


def one_cycle(optimizer, steps: int, warmup=0.3, div_factor=25.0, final_div_factor=1e4):
    """Torch's schedule; a warmup of exactly one step, where torch divides by 0, is a bit longer."""
    if abs(warmup * steps - 1) < 1e-6:
        warmup += 1e-6 / steps
    return lr_scheduler.OneCycleLR(
        optimizer,
        RATE,
        total_steps=steps,
        pct_start=float(warmup),
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        cycle_momentum=False,
    )


def delayed(optimizer, delay: int, *settings):
    constant = lr_scheduler.ConstantLR(optimizer, 1.0)
    return lr_scheduler.SequentialLR(optimizer, [constant, restarts(optimizer, *settings)], [delay])


constant, exponential = lr_scheduler.ConstantLR, lr_scheduler.ExponentialLR
cosine, restarts = lr_scheduler.CosineAnnealingLR, lr_scheduler.CosineAnnealingWarmRestarts
SCHEDULES = {  # ours; torch's and its settings, in epochs (12) or steps (60)
    "constant": (fw.Constant(), constant, 1.0),
    "step": (fw.StepDecay(5, 0.3), lr_scheduler.StepLR, 5, 0.3),
    "step-default": (fw.StepDecay(1), lr_scheduler.StepLR, 1),
    "step-long": (fw.StepDecay(100, 0.5), lr_scheduler.StepLR, 100, 0.5),
    "exponential": (fw.Exponential(0.9), exponential, 0.9),
    "exponential-steps": (fw.Exponential(0.9, "step"), exponential, 0.9 ** (1 / 5)),
    "cosine": (fw.Cosine(), cosine, 12),
    "cosine-min": (fw.Cosine(0.003), cosine, 12, 0.003),
    "cosine-steps": (fw.Cosine(0.003, "step"), cosine, 60, 0.003),
    "cosine-up": (fw.Cosine(0.5), cosine, 12, 0.5),
    "restarts": (fw.WarmRestarts(5), restarts, 5),
    "restarts-1": (fw.WarmRestarts(1, 1, 0.01), restarts, 1, 1, 0.01),
    "restarts-longer": (fw.WarmRestarts(2, 2, 0.001), restarts, 2, 2, 0.001),
    "restarts-steps": (fw.WarmRestarts(2, 3, 0.001, "step"), restarts, 10, 3, 0.001),
    "restarts-delayed": (fw.WarmRestarts(4, 1, 0.001, delay=3), delayed, 3, 4, 1, 0.001),
    "restarts-delayed-steps": (fw.WarmRestarts(4, 1, 0.001, "step", 3), delayed, 15, 20, 1, 0.001),
    "one-cycle": (fw.OneCycle(), one_cycle, 60),
    "one-cycle-epochs": (fw.OneCycle(interval="epoch"), one_cycle, 12),
    "one-cycle-factors": (fw.OneCycle(0.45, 5.0, 30.0), one_cycle, 60, 0.45, 5.0, 30.0),
    "one-cycle-no-warmup": (fw.OneCycle(0), one_cycle, 60, 0),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_rates_of_a_schedule(case):
    schedule, *theirs = SCHEDULES[case]
    rates = rates_of(schedule)
    assert len(rates) == EPOCHS * (BATCHES if schedule.interval == "step" else 1)
    assert_rates(rates, *theirs)
    assert len(set(rates)) > 1 or case in ("constant", "step-long", "restarts-1")


@pytest.mark.parametrize("warmup", [0.5 / 12, 1 / 12, 2 / 12, 11 / 12, 0.99])
def test_rates_of_a_warmup(warmup):
    rates = rates_of(fw.OneCycle(warmup, interval="epoch"))
    assert_rates(rates, one_cycle, EPOCHS, warmup, rel=1e-6 if warmup == 1 / 12 else 1e-9)
    assert len(set(rates)) > 1


intervals = st.sampled_from(["epoch", "step"])


@few
@given(
    steps=st.integers(1, 60),
    warmup=st.floats(0, 0.99),
    div=st.floats(1, 50),
    final=st.floats(1, 1e5),
    interval=intervals,
)
def test_rates_of_any_one_cycle(steps, warmup, div, final, interval):
    assume(abs(warmup * steps - 1) > 1e-6)  # where torch divides by 0
    rates = rates_of(fw.OneCycle(warmup, div, final, interval), steps, 1)
    assert_rates(rates, one_cycle, steps, warmup, div, final)


@few
@given(steps=st.integers(2, 60))
def test_rounding_of_a_warmup_of_one_step_does_not_matter(steps):
    expected = rates_of(fw.OneCycle(1 / steps), steps, 1)
    for rounding in (1e-15, -1e-15):
        rates = rates_of(fw.OneCycle(1 / steps * (1 + rounding)), steps, 1)
        assert rates == pytest.approx(expected, rel=1e-9, abs=1e-15)


@few
@given(
    epochs=st.integers(1, 20), steps=st.integers(1, 9), low=st.floats(0, 0.2), interval=intervals
)
def test_rates_of_any_cosine(epochs, steps, low, interval):
    rates = rates_of(fw.Cosine(low, interval), epochs, steps)
    assert_rates(rates, cosine, len(rates), low)


@few
@given(
    epochs=st.integers(1, 20),
    steps=st.integers(1, 9),
    first=st.integers(1, 9),
    factor=st.integers(1, 3),
    interval=intervals,
)
def test_rates_of_any_warm_restarts(epochs, steps, first, factor, interval):
    rates = rates_of(fw.WarmRestarts(first, factor, 0.002, interval), epochs, steps)
    length = first * (steps if interval == "step" else 1)
    assert_rates(rates, restarts, length, factor, 0.002)


BAD_SCHEDULES = {
    "step_size": lambda: fw.StepDecay(0, 0.5),
    "gamma": lambda: fw.StepDecay(1, -0.5),
    "gamma-exponential": lambda: fw.Exponential(-0.5, "step"),
    "T_0": lambda: fw.WarmRestarts(0),
    "T_mult": lambda: fw.WarmRestarts(2, 0),
    "delay": lambda: fw.WarmRestarts(2, delay=-1),
    "delay-in-part": lambda: fw.WarmRestarts(2, delay=0.5),
    "warmup": lambda: fw.OneCycle(1.0),
    "warmup-negative": lambda: fw.OneCycle(-0.1),
    "div_factor": lambda: fw.OneCycle(div_factor=0.0),
    "final_div_factor": lambda: fw.OneCycle(final_div_factor=0.0),
    "interval": lambda: fw.Cosine(interval="week"),
}


@pytest.mark.parametrize("case", BAD_SCHEDULES)
def test_bad_schedule_is_refused_by_name(case):
    with pytest.raises(ValueError, match=case.split("-")[0]):
        BAD_SCHEDULES[case]()
