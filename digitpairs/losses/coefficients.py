"""Weights of the loss that may change during training: a number, or a schedule over epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from digitpairs.checks import InvalidValueError, choice, integer, number

# Share of the epochs that have elapsed -> share of the way from start to end
SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda elapsed: elapsed,
    "cosine": lambda elapsed: (1 - math.cos(math.pi * elapsed)) / 2,
    "switch": lambda elapsed: float(elapsed >= 1),
}


class Coefficient:
    """A number for each epoch.

    Args:
        key: its name in errors.
        setting: a number, or {schedule: linear | cosine | switch, start, end, epochs}. The value
            goes from `start` in epoch 0 to `end` in epoch `epochs`, and stays there: "linear" in
            equal steps, "cosine" along half a cosine wave, "switch" in one step in epoch `epochs`.
        at_least, at_most: bounds of the number, and of `start` and `end`.

    Raises InvalidValueError for other settings.
    """

    def __init__(
        self, key: str, setting: Any, at_least: float = 0.0, at_most: float | None = None
    ) -> None:
        if not isinstance(setting, Mapping):
            value = number(key, setting, at_least, at_most)
            setting = {"schedule": "switch", "start": value, "end": value, "epochs": 0}
        expected = ["schedule", "start", "end", "epochs"]
        if sorted(setting) != sorted(expected):
            accepted = f"a number, or a schedule with the keys {', '.join(expected)}"
            raise InvalidValueError(key, dict(setting), accepted)
        self.schedule = choice(f"{key}.schedule", setting["schedule"], SCHEDULES)
        self.start = number(f"{key}.start", setting["start"], at_least, at_most)
        self.end = number(f"{key}.end", setting["end"], at_least, at_most)
        self.epochs = integer(f"{key}.epochs", setting["epochs"])

    def at(self, epoch: int) -> float:
        """The value in this epoch, counted from 0."""
        elapsed = min(1.0, epoch / self.epochs) if self.epochs else 1.0
        return self.start + (self.end - self.start) * SCHEDULES[self.schedule](elapsed)
