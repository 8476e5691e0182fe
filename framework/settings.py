"""Settings of layers, losses, optimisers and schedules: their attributes with plain values."""

from __future__ import annotations

from typing import Any

_CHANGING = ("retired", "training", "keeps")  # plain values that are no settings


class Described:
    """Base whose `repr` names the class and its settings, such as "LeakyReLU(slope=0.01)"."""

    def __repr__(self) -> str:
        described = (f"{name}={value}" for name, value in self._described().items())
        return f"{type(self).__name__}({', '.join(described)})"

    def _described(self) -> dict[str, str]:
        """What stands in the parentheses."""
        return {name: repr(value) for name, value in settings_of(self).items()}


def settings_of(part: object) -> dict[str, Any]:
    """The settings of an object by name; tensors, state and private attributes are left out."""
    changing = (*_CHANGING, *getattr(part, "state_names", ()))
    return {
        name: value
        for name, value in vars(part).items()
        if is_plain(value) and name not in changing and not name.startswith("_")
    }


def is_plain(value: object) -> bool:
    """Whether a value is None, a number, a string, or a tuple of numbers."""
    if isinstance(value, tuple):
        return len(value) > 0 and all(isinstance(item, (int, float)) for item in value)
    return value is None or isinstance(value, (int, float, str))
