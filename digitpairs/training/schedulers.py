"""Learning-rate schedules as recipes, which check their settings and later make torch's scheduler.

All lengths are in epochs. The rate changes at each `interval`: "epoch", or "step" for a smooth
curve with the same values at the ends of the epochs. (One-cycle's are nearly the same, since torch
counts its phases in steps less one.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from torch.optim import Optimizer, lr_scheduler

from digitpairs.checks import InvalidValueError, choice, integer, number, positive


class Timing(NamedTuple):
    """The length of a fit."""

    epochs: int
    steps_per_epoch: int


class Schedule:
    """Base of the recipes: an optimiser and the fit's `Timing` -> torch's scheduler."""

    depends_on_epochs = False  # whether the curve is laid out over all epochs of the fit

    def __init__(self, interval: str = "epoch") -> None:
        self.interval = choice("interval", interval, ["epoch", "step"])

    def __call__(self, optimizer: Optimizer, timing: Timing) -> lr_scheduler.LRScheduler:
        """Make the scheduler, to be stepped once each `interval`."""
        raise NotImplementedError

    def steps_an_epoch(self, timing: Timing) -> int:
        """How often the scheduler is stepped in an epoch."""
        return timing.steps_per_epoch if self.interval == "step" else 1


class TorchSchedule(Schedule):
    """A class of `torch.optim.lr_scheduler`, or any callable: optimiser -> scheduler.

    The scheduler is stepped once an epoch.
    """

    def __init__(self, make: Callable[[Optimizer], lr_scheduler.LRScheduler]) -> None:
        super().__init__("epoch")
        self.make = make

    def __call__(self, optimizer: Optimizer, timing: Timing) -> lr_scheduler.LRScheduler:
        return self.make(optimizer)


def as_schedule(made: Any) -> Any:
    """A `functools.partial` as a schedule; anything else as it is."""
    return TorchSchedule(made) if isinstance(made, functools.partial) else made


class Constant(Schedule):
    """A constant rate."""

    def __init__(self) -> None:
        super().__init__("epoch")

    def __call__(self, optimizer: Optimizer, timing: Timing) -> lr_scheduler.LRScheduler:
        return lr_scheduler.ConstantLR(optimizer, factor=1.0)


class StepDecay(Schedule):
    """The rate times `gamma` every `step_size` epochs; above 1, gamma raises the rate."""

    def __init__(self, step_size: int, gamma: float) -> None:
        super().__init__("epoch")
        self.step_size = integer("step_size", step_size, at_least=1)
        self.gamma = positive("gamma", gamma)

    def __call__(self, optimizer: Optimizer, timing: Timing) -> lr_scheduler.LRScheduler:
        return lr_scheduler.StepLR(optimizer, self.step_size, self.gamma)


class Exponential(Schedule):
    """The rate times `gamma` (0 to 1) each epoch."""

    def __init__(self, gamma: float, interval: str = "epoch") -> None:
        super().__init__(interval)
        if positive("gamma", gamma) > 1:
            raise InvalidValueError("gamma", gamma, "a number above 0 and at most 1")
        self.gamma = float(gamma)

    def __call__(self, optimizer: Optimizer, timing: Timing) -> lr_scheduler.LRScheduler:
        gamma = self.gamma ** (1 / self.steps_an_epoch(timing))
        return lr_scheduler.ExponentialLR(optimizer, gamma)


class Cosine(Schedule):
    """Half a cosine wave from the rate to `eta_min` in all epochs (Loshchilov and Hutter 2017)."""

    depends_on_epochs = True

    def __init__(self, eta_min: float = 0.0, interval: str = "epoch") -> None:
        super().__init__(interval)
        self.eta_min = number("eta_min", eta_min)

    def __call__(self, optimizer: Optimizer, timing: Timing) -> lr_scheduler.LRScheduler:
        steps = timing.epochs * self.steps_an_epoch(timing)
        return lr_scheduler.CosineAnnealingLR(optimizer, steps, self.eta_min)


class WarmRestarts(Schedule):
    """Cosine waves with restarts (Loshchilov and Hutter 2017).

    Args:
        T_0: length of the first wave.
        T_mult: factor of each wave's length over that of the wave before.
        eta_min: rate at the end of each wave.
        delay: epochs at the full rate before the first wave; 1 for a loop that calls torch's
            `scheduler.step(epoch)` after each epoch, counted from 0.
    """

    def __init__(
        self,
        T_0: int,  # noqa: N803  # torch's name, as in configs
        T_mult: int = 1,  # noqa: N803
        eta_min: float = 0.0,
        interval: str = "epoch",
        delay: int = 0,
    ) -> None:
        super().__init__(interval)
        self.T_0 = integer("T_0", T_0, at_least=1)
        self.T_mult = integer("T_mult", T_mult, at_least=1)
        self.eta_min = number("eta_min", eta_min)
        self.delay = integer("delay", delay, at_least=0)

    def __call__(self, optimizer: Optimizer, timing: Timing) -> lr_scheduler.LRScheduler:
        steps = self.steps_an_epoch(timing)
        waves = lr_scheduler.CosineAnnealingWarmRestarts(
            optimizer, self.T_0 * steps, self.T_mult, self.eta_min
        )
        if self.delay == 0:
            return waves
        constant = lr_scheduler.ConstantLR(optimizer, factor=1.0)
        return lr_scheduler.SequentialLR(optimizer, [constant, waves], [self.delay * steps])


class OneCycle(Schedule):
    """Up to the optimiser's rate and down again, along cosines (Smith and Topin 2018).

    The cycle takes all epochs. Momentum does not change.

    Args:
        warmup: share of the epochs on the way up, 0 to below 1.
        div_factor: the optimiser's rate over the first rate.
        final_div_factor: the first rate over the last.
    """

    depends_on_epochs = True

    def __init__(
        self,
        warmup: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        interval: str = "step",
    ) -> None:
        super().__init__(interval)
        self.warmup = number("warmup", warmup, at_most=1)
        if self.warmup == 1:
            raise InvalidValueError("warmup", warmup, "a number from 0 to below 1")
        self.div_factor = positive("div_factor", div_factor)
        self.final_div_factor = positive("final_div_factor", final_div_factor)

    def __call__(self, optimizer: Optimizer, timing: Timing) -> lr_scheduler.LRScheduler:
        steps = timing.epochs * self.steps_an_epoch(timing)
        # torch divides by zero if the way up, or down, has exactly one step: it is slightly longer.
        edges = [abs(self.warmup * steps - edge) < 1e-6 for edge in (1, steps)]
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=steps,
            pct_start=self.warmup + 1e-6 / steps * any(edges),
            div_factor=self.div_factor,
            final_div_factor=self.final_div_factor,
            cycle_momentum=False,
        )
