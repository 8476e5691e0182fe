"""Learning-rate schedules: the rate as a function of time.

Time is counted in the schedule's `interval`, "epoch" or "step"; lengths that a schedule is given are in epochs.
"""

from __future__ import annotations

import math

from framework.errors import at_least_one, integer, positive


class Schedule:
    """Base."""

    def __init__(self, interval: str = "epoch") -> None:
        if interval not in ("epoch", "step"):
            raise ValueError(
                f"the interval of {type(self).__name__} is {interval!r}, accepted is 'epoch' or 'step'"
            )
        self.interval = interval

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        """The learning rate.

        Args:
            start: the optimiser's own rate.
            time: counted from 0. total: the length of the training. epoch: the length of an epoch. All in intervals.
        """
        raise NotImplementedError


class Constant(Schedule):
    """The rate as it is."""

    def __init__(self) -> None:
        super().__init__()

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        return start


class StepDecay(Schedule):
    """The rate times gamma every `step_size` epochs."""

    def __init__(self, step_size: int, gamma: float = 0.1) -> None:
        super().__init__()
        self.step_size, self.gamma = at_least_one("step_size", step_size), positive("gamma", gamma)

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        return start * self.gamma ** (time // self.step_size)


class Exponential(Schedule):
    """The rate times gamma every epoch."""

    def __init__(self, gamma: float, interval: str = "epoch") -> None:
        super().__init__(interval)
        self.gamma = positive("gamma", gamma)

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        return start * self.gamma ** (time / epoch)


class Cosine(Schedule):
    """Half a cosine from the rate to `eta_min` over the whole training (Loshchilov and Hutter 2017, equation 5)."""

    def __init__(self, eta_min: float = 0.0, interval: str = "epoch") -> None:
        super().__init__(interval)
        self.eta_min = eta_min

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        return _half_cosine(start, self.eta_min, time / total)


class WarmRestarts(Schedule):
    """Half a cosine over T_0 epochs, then again from the rate over T_mult times as many, and so on (the same, section 3); all of it
    after `delay` epochs at the rate.
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
        self.T_0, self.T_mult, self.eta_min = (
            at_least_one("T_0", T_0),
            at_least_one("T_mult", T_mult),
            eta_min,
        )
        self.delay = integer("delay", delay, at_least=0)

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        time, length = max(time - self.delay * epoch, 0), self.T_0 * epoch
        while time >= length:
            time, length = time - length, length * self.T_mult
        return _half_cosine(start, self.eta_min, time / length)


class OneCycle(Schedule):
    """From the rate / div_factor up to the rate within the share `warmup` of the training, then down to the first / final_div_factor,
    each way half a cosine (Smith and Topin 2018, as torch lays it out: both ends of the training are met exactly).
    """

    def __init__(
        self,
        warmup: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        interval: str = "step",
    ) -> None:
        super().__init__(interval)
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup is {warmup}, accepted is a share from 0 to below 1")
        self.warmup = warmup
        self.div_factor, self.final_div_factor = (
            positive("div_factor", div_factor),
            positive("final_div_factor", final_div_factor),
        )

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        first, peak = start / self.div_factor, self.warmup * total - 1  # the peak's time
        if abs(peak) < 1e-6:  # a single step up
            peak = 0.0
        if time <= peak:
            return _half_cosine(first, start, time / peak if peak else 0.0)
        return _half_cosine(
            start,
            first / self.final_div_factor,
            (time - peak) / (total - 1 - peak) if total - 1 > peak else 1.0,
        )


def _half_cosine(start: float, end: float, share: float) -> float:
    """From start (share 0) to end (share 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
