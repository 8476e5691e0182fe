"""Learning-rate schedules: the rate as a function of time.

A schedule computes the rate of each epoch, or of each step, as its `interval` says. Lengths among
its settings are in epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from framework.errors import at_least_one, finite, fraction, integer, positive
from framework.settings import Described


class Schedule(Described):
    """Base; the interval is "epoch" or "step"."""

    def __init__(self, interval: str = "epoch") -> None:
        if interval not in ("epoch", "step"):
            raise ValueError(
                f"the interval of {type(self).__name__} is {interval!r}, "
                "accepted is 'epoch' or 'step'"
            )
        self.interval = interval

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        """Compute the learning rate of an interval.

        Args:
            start: the optimiser's rate.
            time: the number of the interval, from 0.
            total: the length of the training in intervals.
            epoch: the length of an epoch in intervals.
        """
        raise NotImplementedError

    def rates(self, start: float, epoch: int, epochs: int, steps: int) -> Callable[[int], float]:
        """The learning rate of each step of an epoch, as a function of the number of the step.

        Args:
            start: the optimiser's rate.
            epoch: the number of the epoch, from 0.
            epochs: the length of the training.
            steps: the number of steps in an epoch.
        """
        if self.interval == "epoch":
            return lambda step: self.rate(start, epoch, epochs)
        return lambda step: self.rate(start, epoch * steps + step, epochs * steps, steps)


class Constant(Schedule):
    """The optimiser's rate throughout."""

    def __init__(self) -> None:
        super().__init__()

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        return start


class StepDecay(Schedule):
    """Multiplies the rate by gamma every `step_size` epochs."""

    def __init__(self, step_size: int, gamma: float = 0.1) -> None:
        super().__init__()
        self.step_size, self.gamma = at_least_one("step_size", step_size), positive("gamma", gamma)

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        return start * self.gamma ** (time // self.step_size)


class Exponential(Schedule):
    """Multiplies the rate by gamma every epoch; by a root of gamma every step."""

    def __init__(self, gamma: float, interval: str = "epoch") -> None:
        super().__init__(interval)
        self.gamma = positive("gamma", gamma)

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        decay: float = self.gamma ** (time / epoch)
        return start * decay


class Cosine(Schedule):
    """Half a cosine from the optimiser's rate to `eta_min` over the whole training.

    Loshchilov and Hutter 2017, equation 5.
    """

    def __init__(self, eta_min: float = 0.0, interval: str = "epoch") -> None:
        super().__init__(interval)
        self.eta_min = finite("eta_min", eta_min)

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        return _half_cosine(start, self.eta_min, time / total)


class WarmRestarts(Schedule):
    """Half cosines from the optimiser's rate to `eta_min`, one after another.

    The first one takes `T_0` epochs, each further one `T_mult` times as many as the previous one.
    They begin after `delay` epochs at the optimiser's rate. Loshchilov and Hutter 2017, section 3.
    """

    def __init__(
        self,
        T_0: int,  # noqa: N803  # torch's name
        T_mult: int = 1,  # noqa: N803  # torch's name
        eta_min: float = 0.0,
        interval: str = "epoch",
        delay: int = 0,
    ) -> None:
        super().__init__(interval)
        self.T_0, self.T_mult = at_least_one("T_0", T_0), at_least_one("T_mult", T_mult)
        self.eta_min = finite("eta_min", eta_min)
        self.delay = integer("delay", delay, at_least=0)

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        time = max(time - self.delay * epoch, 0)
        length = self.T_0 * epoch
        while time >= length:
            time -= length
            length *= self.T_mult
        return _half_cosine(start, self.eta_min, time / length)


class OneCycle(Schedule):
    """Half a cosine up to the optimiser's rate, then half a cosine down to a much lower one.

    `warmup`, from 0 to below 1, is the share of the training until the peak. The first rate is the
    optimiser's rate / div_factor, the last rate is the first rate / final_div_factor. Smith and
    Topin 2018, in the form of torch: the first and last interval have exactly these rates.
    """

    def __init__(
        self,
        warmup: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        interval: str = "step",
    ) -> None:
        super().__init__(interval)
        if fraction("warmup", warmup) == 1:
            raise ValueError(f"warmup is {warmup}, accepted is a share from 0 to below 1")
        self.warmup = warmup
        self.div_factor = positive("div_factor", div_factor)
        self.final_div_factor = positive("final_div_factor", final_div_factor)

    def rate(self, start: float, time: int, total: int, epoch: int = 1) -> float:
        first = start / self.div_factor
        peak_time = self.warmup * total - 1
        if abs(peak_time) < 1e-6:  # the peak is the first interval, but for rounding
            peak_time = 0.0
        if time <= peak_time:
            return _half_cosine(first, start, time / peak_time if peak_time else 0.0)
        down = total - 1 - peak_time
        share = (time - peak_time) / down if total - 1 > peak_time else 1.0
        return _half_cosine(start, first / self.final_div_factor, share)


def _half_cosine(start: float, end: float, share: float) -> float:
    """From `start`, for the share 0, to `end`, for the share 1."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
