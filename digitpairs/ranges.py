"""Ranges of the command line, `a..b` and `a..b..step`, in the form that Hydra reads."""

from __future__ import annotations

import re
from decimal import Decimal

from digitpairs.checks import InvalidValueError

MAX_LIST_LENGTH = 10_000  # values of a range that becomes a list
_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?")


def expand_range(argument: str) -> str:
    """Translate the ranges in an argument for Hydra.

    `key=0..9` becomes `key=range(0,10)`. A range of decimals, or within a list, becomes a list:
    `key=0.5..0.6..0.1` becomes `key=0.5,0.6`. Any other argument is returned unchanged.

    Raises InvalidValueError for a range that does not go up, for decimals without a step, and for
    steps that do not meet the end.
    """
    key, equals, value = argument.partition("=")
    items = value.split(",")
    if not any(_RANGE.fullmatch(item) for item in items):
        return argument
    if len(items) == 1 and not re.search(r"[eE]|\d\.\d", value):
        first, last, step = map(int, _ends(key, value))
        third = "" if step == 1 else f",{step}"
        return f"{key}{equals}range({first},{last + 1}{third})"
    numbers = [number for item in items for number in _range_numbers(key, item)]
    return f"{key}{equals}{','.join(numbers)}"


def _range_numbers(key: str, item: str) -> list[str]:
    if not _RANGE.fullmatch(item):
        return [item]
    first, last, step = _ends(key, item)
    steps = int((last - first) / step)
    if steps >= MAX_LIST_LENGTH:
        accepted = f"a range of at most {MAX_LIST_LENGTH} values"
        raise InvalidValueError(key.lstrip("+"), item, accepted)
    return [format(first + step * i, "f") for i in range(steps + 1)]


def _ends(key: str, item: str) -> tuple[Decimal, Decimal, Decimal]:
    """The first value, the last value and the step of a range."""
    key, parts = key.lstrip("+"), item.split("..")
    first, last, step = (Decimal(part) for part in (*parts, "1")[:3])
    if last < first or step <= 0:
        raise InvalidValueError(key, item, "a range first..last or first..last..step that goes up")
    has_decimals = any(end != end.to_integral_value() for end in (first, last))
    if has_decimals and len(parts) == 2:
        example = f"{item}..{(last - first) / 10:f}"
        raise InvalidValueError(key, item, f"a range of decimals with its step, such as {example}")
    if (last - first) / step > 10**15:
        raise InvalidValueError(key, item, "a range of fewer values")
    steps = int((last - first) / step)
    if first + steps * step != last:
        ends = (first + steps * step, first + (steps + 1) * step)
        ranges = " or ".join(f"{parts[0]}..{end:f}..{parts[2]}" for end in ends)
        raise InvalidValueError(key, item, f"a range whose steps meet its end: {ranges}")
    return first, last, step
