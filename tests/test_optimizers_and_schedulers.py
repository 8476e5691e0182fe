"""Recipes against torch's own optimisers (not fused) and against the schedules' formulas."""

import math

import pytest
import torch

from digitpairs.checks import InvalidValueError
from digitpairs.training import (
    SGD,
    Adam,
    AdamW,
    Cosine,
    Exponential,
    OneCycle,
    StepDecay,
    WarmRestarts,
)
from digitpairs.training.schedulers import Constant, Timing

RATE, TIMING = 0.1, Timing(epochs=12, steps_per_epoch=5)


@pytest.mark.parametrize(
    "recipe, theirs",
    [
        (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
        (
            SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
            lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True, weight_decay=0.01),
        ),
        (
            Adam(0.01, betas=[0.8, 0.99], weight_decay=0.1),
            lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.99), weight_decay=0.1),
        ),
        (AdamW(0.01, weight_decay=0.1), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)),
    ],
)
def test_ten_steps_are_torchs(recipe, theirs):
    start = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ends = []
    for make in (recipe, theirs):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = make([parameter])
        for _ in range(10):
            optimizer.zero_grad()
            parameter.sin().square().sum().backward()
            optimizer.step()
        ends.append(parameter.detach())
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-12)
    assert not torch.equal(ends[0], start)


def rates(schedule) -> list[float]:
    """The rate in force at each step of the fit."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], RATE)
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
        (
            WarmRestarts(5, 1, 0.001, delay=1),
            lambda t: half_cosine((max(int(t), 1) - 1) % 5 / 5, 0.001),
        ),
        (
            WarmRestarts(4, 1, 0.001, "step", delay=3),
            lambda t: half_cosine((max(t, 3) - 3) % 4 / 4, 0.001),
        ),
        (
            WarmRestarts(2, 2),
            lambda t: half_cosine(
                (int(t) - (0 if t < 2 else 2 if t < 6 else 6)) / (2 if t < 2 else 4 if t < 6 else 8)
            ),
        ),
    ],
)
def test_schedules_follow_their_formulas(schedule, rate):
    expected = [
        rate(step / TIMING.steps_per_epoch)
        for step in range(TIMING.epochs * TIMING.steps_per_epoch)
    ]
    assert rates(schedule) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_a_delay_of_one_epoch_is_torchs_scheduler_called_with_epochs_counted_from_0():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], RATE)
    scheduler, expected = (
        torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 5, 1, 0.001),
        [],
    )
    for epoch in range(TIMING.epochs):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(epoch)
    assert rates(WarmRestarts(5, 1, 0.001, delay=1))[:: TIMING.steps_per_epoch] == pytest.approx(
        expected
    )


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_one_cycle_goes_up_and_down(interval):
    seen = rates(OneCycle(0.3, 25.0, 1e4, interval))[
        :: TIMING.steps_per_epoch if interval == "epoch" else 1
    ]
    top = 0.3 * len(seen) - 1  # torch counts the first step as 0
    expected = [
        half_cosine(1 - i / top, RATE / 25)
        if i <= top
        else half_cosine((i - top) / (len(seen) - 1 - top), RATE / 25e4)
        for i in range(len(seen))
    ]
    assert seen == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 1 / 12, 11 / 12, 0.5])
def test_one_cycle_has_no_length_at_which_it_breaks(warmup):
    seen = rates(OneCycle(warmup, interval="epoch"))
    assert max(seen) == pytest.approx(RATE, rel=0.05) and all(math.isfinite(rate) for rate in seen)


@pytest.mark.parametrize(
    "make, key",
    [
        (lambda: SGD(0), "lr"), (lambda: SGD("fast"), "lr"), (lambda: SGD(0.1, momentum=2), "momentum"),
        (lambda: SGD(0.1, nesterov=True), "nesterov"), (lambda: SGD(0.1, weight_decay=-1), "weight_decay"),
        (lambda: Adam(0.1, betas=[0.9]), "betas"), (lambda: Adam(0.1, betas=[0.9, 1.0]), "betas"), (lambda: AdamW(0.1, eps=0), "eps"),
        (lambda: StepDecay(0, 0.5), "step_size"), (lambda: StepDecay(5, 0), "gamma"), (lambda: Exponential(1.5), "gamma"),
        (lambda: Cosine(-1), "eta_min"), (lambda: Cosine(interval="batch"), "interval"), (lambda: WarmRestarts(0), "T_0"),
        (lambda: WarmRestarts(5, 0), "T_mult"), (lambda: WarmRestarts(5, delay=-1), "delay"), (lambda: OneCycle(1.0), "warmup"), (lambda: OneCycle(div_factor=0), "div_factor"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(make, key):
    with pytest.raises(InvalidValueError, match=f"^{key}="):
        make()
