"""A weight that may change during training: a number, or a schedule over the epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from digitpairs.checks import InvalidValueError, choice, integer, number

SCHEDULES = ("linear", "cosine", "switch")


class Coefficient:
    """A number for each epoch.

    Args:
        key: its name, for errors.
        setting: a number, or {schedule: linear | cosine | switch, start, end, epochs}. "linear" goes from `start` in
            epoch 0 to `end` in epoch `epochs` in equal steps and stays there, "cosine" along half a cosine wave;
            "switch" is `start` before epoch `epochs` and `end` from then on.
        at_least, at_most: bounds of the number, and of `start` and `end`.

    Raises InvalidValueError for anything else.
    """

    def __init__(
        self, key: str, setting: Any, at_least: float = 0.0, at_most: float | None = None
    ) -> None:
        if not isinstance(setting, Mapping):
            value = number(key, setting, at_least, at_most)
            setting = {"schedule": "switch", "start": value, "end": value, "epochs": 0}
        expected = ["schedule", "start", "end", "epochs"]
        if sorted(setting) != sorted(expected):
            raise InvalidValueError(
                key, dict(setting), f"a number, or a schedule with the keys {', '.join(expected)}"
            )
        self.schedule = choice(f"{key}.schedule", setting["schedule"], SCHEDULES)
        self.start = number(f"{key}.start", setting["start"], at_least, at_most)
        self.end = number(f"{key}.end", setting["end"], at_least, at_most)
        self.epochs = integer(f"{key}.epochs", setting["epochs"])

    def at(self, epoch: int) -> float:
        """The value in this epoch, counted from 0."""
        passed = min(1.0, epoch / self.epochs) if self.epochs else 1.0
        return self.start + (self.end - self.start) * _SHARE[self.schedule](passed)


# share of the way from start to end, for the share of the epochs that has passed
_SHARE: dict[str, Callable[[float], float]] = {
    "linear": lambda passed: passed,
    "cosine": lambda passed: (1 - math.cos(math.pi * passed)) / 2,
    "switch": lambda passed: float(passed >= 1),
}
