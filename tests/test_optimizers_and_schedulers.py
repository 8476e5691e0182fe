"""Recipes against torch's optimisers (not fused) and against the schedules' formulas."""

import math

import pytest
import torch

from digitpairs.checks import InvalidValueError
from digitpairs.training import SGD, Adam, AdamW, Cosine, Exponential, OneCycle, StepDecay
from digitpairs.training.schedulers import Constant, Timing, WarmRestarts

RATE, TIMING = 0.1, Timing(epochs=12, steps_per_epoch=5)


@pytest.mark.parametrize(
    "recipe, torch_class, settings",
    [
        (SGD, torch.optim.SGD, {}),
        (SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        (Adam, torch.optim.Adam, {"betas": (0.8, 0.99), "weight_decay": 0.1}),
        (AdamW, torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_ten_steps_are_torchs(recipe, torch_class, settings):
    start = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parameters = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    optimizers = [
        recipe(0.05, **settings)(parameters[:1]),
        torch_class(parameters[1:], 0.05, **settings),
    ]
    for optimizer, parameter in zip(optimizers, parameters):
        for _ in range(10):
            optimizer.zero_grad()
            parameter.sin().square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(*parameters, rtol=1e-12, atol=1e-12)
    assert not torch.equal(parameters[0], start)


def rates(schedule, rate: float = RATE) -> list[float]:
    """The learning rate of each step of the fit."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], rate)
    scheduler = schedule(optimizer, TIMING)
    seen = []
    for _ in range(TIMING.epochs):
        for _ in range(TIMING.steps_per_epoch):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if schedule.interval == "step":
                scheduler.step()
        if schedule.interval == "epoch":
            scheduler.step()
    return seen


def half_cosine(passed: float, low: float = 0.0, high: float = RATE) -> float:
    return low + (high - low) * (1 + math.cos(math.pi * passed)) / 2


def doubling_wave(epoch: int) -> float:
    """The elapsed share of the present wave; the waves take 2, 4 and 8 epochs."""
    start, length = max(wave for wave in ((0, 2), (2, 4), (6, 8)) if wave[0] <= epoch)
    return (epoch - start) / length


@pytest.mark.parametrize(
    "schedule, rate",  # `rate` of the time in epochs
    [
        (Constant(), lambda t: RATE),
        (StepDecay(5, 0.3), lambda t: RATE * 0.3 ** (int(t) // 5)),
        (StepDecay(5, 30.0), lambda t: RATE * 30.0 ** (int(t) // 5)),
        (Exponential(0.9), lambda t: RATE * 0.9 ** int(t)),
        (Exponential(0.9, "step"), lambda t: RATE * 0.9**t),
        (Cosine(0.001), lambda t: half_cosine(int(t) / 12, 0.001)),
        (Cosine(0.001, "step"), lambda t: half_cosine(t / 12, 0.001)),
        (WarmRestarts(5, 1, 0.001), lambda t: half_cosine(int(t) % 5 / 5, 0.001)),
        (WarmRestarts(5, 1, 0.001, "step"), lambda t: half_cosine(t % 5 / 5, 0.001)),
        (WarmRestarts(5, delay=1), lambda t: half_cosine((max(int(t), 1) - 1) % 5 / 5)),
        (WarmRestarts(4, 1, 0.0, "step", 3), lambda t: half_cosine((max(t, 3) - 3) % 4 / 4)),
        (WarmRestarts(2, 2), lambda t: half_cosine(doubling_wave(int(t)))),
    ],
)
def test_schedules_follow_their_formulas(schedule, rate):
    steps = TIMING.epochs * TIMING.steps_per_epoch
    expected = [rate(step / TIMING.steps_per_epoch) for step in range(steps)]
    assert rates(schedule) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_a_delay_of_one_epoch_is_torchs_scheduler_called_with_epochs_counted_from_0():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], RATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 5, 1, 0.001)
    expected = []
    for epoch in range(TIMING.epochs):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(epoch)
    epoch_rates = rates(WarmRestarts(5, 1, 0.001, delay=1))[:: TIMING.steps_per_epoch]
    assert epoch_rates == pytest.approx(expected)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_one_cycle_goes_up_and_down(interval):
    stride = TIMING.steps_per_epoch if interval == "epoch" else 1
    seen = rates(OneCycle(0.3, 25.0, 1e4, interval))[::stride]
    top, last = 0.3 * len(seen) - 1, len(seen) - 1  # torch counts the first step as 0
    for i, rate in enumerate(seen):
        if i <= top:
            expected = half_cosine(1 - i / top, RATE / 25)
        else:
            expected = half_cosine((i - top) / (last - top), RATE / 25e4)
        assert rate == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 1 / 12, 11 / 12, 0.5])
def test_one_cycle_has_no_length_at_which_it_breaks(warmup):
    seen = rates(OneCycle(warmup, interval="epoch"))
    assert max(seen) == pytest.approx(RATE, rel=0.05) and all(math.isfinite(rate) for rate in seen)


@pytest.mark.parametrize(
    "make, key",
    [
        (lambda: SGD(0), "lr"),
        (lambda: SGD("fast"), "lr"),
        (lambda: SGD(0.1, momentum=2), "momentum"),
        (lambda: SGD(0.1, nesterov=True), "nesterov"),
        (lambda: SGD(0.1, weight_decay=-1), "weight_decay"),
        (lambda: Adam(0.1, betas=[0.9]), "betas"),
        (lambda: Adam(0.1, betas=[0.9, 1.0]), "betas"),
        (lambda: AdamW(0.1, eps=0), "eps"),
        (lambda: StepDecay(0, 0.5), "step_size"),
        (lambda: StepDecay(5, 0), "gamma"),
        (lambda: Exponential(1.5), "gamma"),
        (lambda: Cosine(-1), "eta_min"),
        (lambda: Cosine(interval="batch"), "interval"),
        (lambda: WarmRestarts(0), "T_0"),
        (lambda: WarmRestarts(5, 0), "T_mult"),
        (lambda: WarmRestarts(5, delay=-1), "delay"),
        (lambda: OneCycle(1.0), "warmup"),
        (lambda: OneCycle(div_factor=0), "div_factor"),
    ],
)
def test_bad_settings_are_named(make, key):
    with pytest.raises(InvalidValueError, match=f"^{key}="):
        make()
