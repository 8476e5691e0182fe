"""Learning-rate schedules as recipes over torch's schedulers: checked settings now, the scheduler once its optimiser is there.

All lengths are in epochs. `interval` says how often the rate moves: "epoch", or "step" for a smooth curve through the
same values at the epochs' ends (one-cycle: nearly the same, since torch counts its phases in moves less one).
"""

from __future__ import annotations

from typing import NamedTuple

from torch.optim import Optimizer, lr_scheduler

from digitpairs.checks import InvalidValueError, choice, integer, number, positive


class Timing(NamedTuple):
    """The length of a fit."""

    epochs: int
    steps_per_epoch: int


class Schedule:
    """Base of the recipes: called with the optimiser and the `Timing`, it gives torch's scheduler."""

    depends_on_epochs = False  # whether the curve is laid out over all epochs of the fit

    def __init__(self, interval: str = "epoch") -> None:
        self.interval = choice("interval", interval, ["epoch", "step"])

    def moves_an_epoch(self, timing: Timing) -> int:
        """How often the scheduler is stepped in an epoch."""
        return timing.steps_per_epoch if self.interval == "step" else 1


class Constant(Schedule):
    """The rate as it is."""

    def __init__(self) -> None:
        super().__init__("epoch")

    def __call__(self, optimizer: Optimizer, timing: Timing) -> lr_scheduler.LRScheduler:
        return lr_scheduler.ConstantLR(optimizer, factor=1.0)


class StepDecay(Schedule):
    """The rate times `gamma` every `step_size` epochs; above 1 it grows, as where the second of two stages needs a larger one."""

    def __init__(self, step_size: int, gamma: float) -> None:
        super().__init__("epoch")
        self.step_size, self.gamma = (
            integer("step_size", step_size, at_least=1),
            positive("gamma", gamma),
        )

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
        return lr_scheduler.ExponentialLR(
            optimizer, self.gamma ** (1 / self.moves_an_epoch(timing))
        )


class Cosine(Schedule):
    """Half a cosine wave from the rate down to `eta_min` over all epochs (Loshchilov and Hutter 2017, no restarts)."""

    depends_on_epochs = True

    def __init__(self, eta_min: float = 0.0, interval: str = "epoch") -> None:
        super().__init__(interval)
        self.eta_min = number("eta_min", eta_min)

    def __call__(self, optimizer: Optimizer, timing: Timing) -> lr_scheduler.LRScheduler:
        return lr_scheduler.CosineAnnealingLR(
            optimizer, timing.epochs * self.moves_an_epoch(timing), self.eta_min
        )


class WarmRestarts(Schedule):
    """Cosine waves that start again after `T_0` epochs, each `T_mult` times as long as the last (Loshchilov and Hutter 2017); the first
    begins after `delay` epochs at the whole rate. 1 is what a loop gets that calls torch's `scheduler.step(epoch)` after epochs
    counted from 0: the first such call leaves the rate where it was.
    """

    def __init__(
        self,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        interval: str = "epoch",
        delay: int = 0,
    ) -> None:
        super().__init__(interval)
        self.T_0, self.T_mult = (
            integer("T_0", T_0, at_least=1),
            integer("T_mult", T_mult, at_least=1),
        )
        self.eta_min, self.delay = number("eta_min", eta_min), integer("delay", delay, at_least=0)

    def __call__(self, optimizer: Optimizer, timing: Timing) -> lr_scheduler.LRScheduler:
        moves = self.moves_an_epoch(timing)
        waves = lr_scheduler.CosineAnnealingWarmRestarts(
            optimizer, self.T_0 * moves, self.T_mult, self.eta_min
        )
        if self.delay == 0:
            return waves
        return lr_scheduler.SequentialLR(
            optimizer,
            [lr_scheduler.ConstantLR(optimizer, factor=1.0), waves],
            milestones=[self.delay * moves],
        )


class OneCycle(Schedule):
    """Up to the optimiser's rate and down again along cosines, over all epochs (Smith and Topin 2018); momentum stays.

    Args: warmup: share of the epochs on the way up, 0 to below 1. div_factor: the rate over the first rate.
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
        moves = timing.epochs * self.moves_an_epoch(timing)
        # A way up, or down, of exactly one move is a division by zero in torch's class: it is made a hair longer.
        edges = [abs(self.warmup * moves - edge) < 1e-6 for edge in (1, moves)]
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=moves,
            pct_start=self.warmup + 1e-6 / moves * any(edges),
            div_factor=self.div_factor,
            final_div_factor=self.final_div_factor,
            cycle_momentum=False,
        )
