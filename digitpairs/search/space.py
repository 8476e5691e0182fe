"""The space of a search: Hydra's sweeps as Optuna's distributions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from digitpairs.arguments import can_be_swept
from digitpairs.checks import InvalidValueError
from digitpairs.names import text_of
from digitpairs.overrides import single_overrides, value_text

SPACE = "interval(0.1,1), tag(log,interval(1e-4,1)), int(interval(1,9)), range(1,9) or a,b,c"
_FIXED_KEYS = ("seed", "data.validation", "data.folds", "data.fold")
_MOST_VALUES = 1000  # of a list


class Space(NamedTuple):
    """The searched settings."""

    keys: Mapping[str, str]  # of the overrides, such as "+optimizer.foo", by the setting
    distributions: Mapping[str, BaseDistribution]  # by the setting

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """The overrides of a trial with these values."""
        return [f"{key}={text_of(values[name])}" for name, key in self.keys.items()]

    def corners(self) -> Iterator[dict[str, Any]]:
        """Points that have both ends of each interval and every value of each list."""
        distributions = self.distributions.values()
        lists = [each for each in distributions if isinstance(each, CategoricalDistribution)]
        count = max([2, *(len(each.choices) for each in lists)])
        for index in range(count):
            yield {
                name: value_at(each, (index % len(each.choices) + 0.5) / len(each.choices))
                if isinstance(each, CategoricalDistribution)
                else value_at(each, index % 2)
                for name, each in self.distributions.items()
            }


def read_space(overrides: Mapping[str, Override]) -> Space:
    """The space of the overrides that are sweeps.

    Raises InvalidValueError if there is none, and for one that cannot be searched.
    """
    sweeps = {key: each for key, each in overrides.items() if each.is_sweep_override()}
    if not sweeps:
        raise InvalidValueError("hydra/sweeper", "optuna", f"a command that searches: KEY={SPACE}")
    for key, override in sweeps.items():
        name = key.lstrip("+")
        if name in _FIXED_KEYS or not can_be_swept(name):
            raise InvalidValueError(name, value_text(override), _accepted(name))
    keys = {key.lstrip("+"): key for key in sweeps}
    distributions = {name: distribution_of(sweeps[key]) for name, key in keys.items()}
    return Space(keys, distributions)


def distribution_of(override: Override) -> BaseDistribution:
    """The distribution of an override that is a sweep. Raises InvalidValueError."""
    sweep = override.value()
    assert isinstance(sweep, Sweep)
    try:
        if sweep.tags - {"log"}:
            raise ValueError(f"the tag log, and not {', '.join(sorted(sweep.tags))}")
        is_log = "log" in sweep.tags
        if isinstance(sweep, IntervalSweep):
            return _interval(sweep.start, sweep.end, is_log)
        if isinstance(sweep, RangeSweep):
            return _range(sweep, is_log)
        if is_log:
            raise ValueError("the tag log only for an interval or a range")
        return _list(override)
    except (ValueError, ArithmeticError) as error:
        key = override.get_key_element().lstrip("+")
        raise InvalidValueError(key, value_text(override), f"{SPACE}: {error}") from None


def value_at(distribution: BaseDistribution, quantile: float) -> Any:
    """The value at a quantile from 0 to 1 of the distribution."""
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        return choices[min(int(quantile * len(choices)), len(choices) - 1)]
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    low, high, step = distribution.low, distribution.high, distribution.step
    is_whole = isinstance(distribution, IntDistribution)
    if distribution.log:
        margin = 0.5 if is_whole else 0.0  # a whole number stands for the half around it
        start, end = math.log(low - margin), math.log(high + margin)
        value = math.exp(start + quantile * (end - start))
    elif step is not None:
        count = round((high - low) / step) + 1
        value = float(
            Decimal(str(low)) + min(int(quantile * count), count - 1) * Decimal(str(step))
        )
    else:
        value = low + quantile * (high - low)
    value = min(max(value, low), high)
    return round(value) if is_whole else value


def _interval(start: float | None, end: float | None, is_log: bool) -> BaseDistribution:
    """An interval of decimals, or of whole numbers if both ends are (Hydra's `int(interval)`)."""
    if start is None or end is None or not (math.isfinite(start) and math.isfinite(end)):
        raise ValueError("an interval has two finite ends")
    _check_ends(start, end, is_log)
    if isinstance(start, int) and isinstance(end, int):
        return IntDistribution(start, end, log=is_log)
    return FloatDistribution(start, end, log=is_log)


def _range(sweep: RangeSweep, is_log: bool) -> BaseDistribution:
    """The values of a range, without its end, as Hydra runs them."""
    start, stop, step = (Decimal(str(each)) for each in (sweep.start, sweep.stop, sweep.step))
    if step <= 0:
        raise ValueError("the step of a range is above 0")
    last = start + (math.ceil((stop - start) / step) - 1) * step
    _check_ends(float(start), float(last), is_log)
    if is_log and step != 1:
        raise ValueError("the tag log goes only with the step 1")
    if all(isinstance(each, int) for each in (sweep.start, sweep.stop, sweep.step)):
        return IntDistribution(int(start), int(last), log=is_log, step=int(step))
    return FloatDistribution(float(start), float(last), step=None if is_log else float(step))


def _list(override: Override) -> CategoricalDistribution:
    """The values of a list: numbers, and the text of all others."""
    texts = [each.partition("=")[2] for each in single_overrides(override)]
    values = [
        value if isinstance(value, (bool, int, float)) or value is None else text
        for value, text in zip(override.sweep_iterator(), texts)
    ]
    if not 2 <= len(values) <= _MOST_VALUES or len(set(texts)) < len(texts):
        raise ValueError(f"a list has 2 to {_MOST_VALUES} different values")
    return CategoricalDistribution(values)


def _check_ends(start: float, end: float, is_log: bool) -> None:
    if not start < end:
        raise ValueError("the end is above the start")
    if is_log and start <= 0:
        raise ValueError("with the tag log the start is above 0")


def _accepted(name: str) -> str:
    if name == "seed":
        return "no seed: each trial has hydra.sweeper.seeds seeds from hydra.sweeper.first_seed on"
    return "one value, since all trials of a search have it in common"
