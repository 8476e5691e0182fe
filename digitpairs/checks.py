"""What a setting may be, said once: every constructor checks its own settings with these, so that a notebook
and the command line refuse the same values with the same words. Free of torch, for a quick command line.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

MAX_INTEGER = 2**63 - 1  # the largest whole number that torch counts with


class DigitPairsWarning(UserWarning):
    """Something that a reader of the results must know, such as a substitute for the data that was asked for."""


class DataError(Exception):
    """Data that are missing, unreadable or damaged; the message names the path and what to do."""


class InvalidFlagError(ValueError):
    """Flags of the command line that do not go together; the message names them."""


class InvalidValueError(ValueError):
    """A setting that cannot be used. The message names the key, the value that arrived and what is accepted."""

    def __init__(self, key: str, value: Any, accepted: str) -> None:
        super().__init__(key, value, accepted)
        self.key, self.value, self.accepted = key, value, accepted

    def __str__(self) -> str:
        is_plain = isinstance(self.value, str) and self.value.isprintable()
        shown = self.value if is_plain else repr(self.value)
        return f"{self.key}={shown} is not accepted: {self.accepted}"

    def within(self, section: str) -> InvalidValueError:
        """The same error with its key seen from the whole config: `c` within `aux` is `aux.c`."""
        return InvalidValueError(f"{section}.{self.key}", self.value, self.accepted)


def integer(key: str, value: Any, at_least: int = 0, at_most: int | None = None) -> int:
    """`value` as an int, or InvalidValueError when it is none (True is none) or out of bounds."""
    if (
        not isinstance(value, Integral)
        or isinstance(value, bool)
        or not _within(value, at_least, at_most)
    ):
        raise InvalidValueError(key, value, "a whole number " + _bounds(at_least, at_most))
    if value > MAX_INTEGER:
        raise InvalidValueError(key, value, f"a whole number of at most {MAX_INTEGER}")
    return int(value)


def number(key: str, value: Any, at_least: float | None = 0, at_most: float | None = None) -> float:
    """`value` as a float, or InvalidValueError when it is no finite number or out of bounds."""
    if not _is_finite(value) or not _within(value, at_least, at_most):
        raise InvalidValueError(key, value, ("a number " + _bounds(at_least, at_most)).strip())
    return float(value)


def positive(key: str, value: Any) -> float:
    """`value` as a float above zero, or InvalidValueError."""
    try:
        checked = number(key, value)
    except InvalidValueError:
        checked = 0.0
    if checked == 0:
        raise InvalidValueError(key, value, "a number above 0")
    return checked


def boolean(key: str, value: Any) -> bool:
    """`value` if it is True or False, or InvalidValueError."""
    if not isinstance(value, bool):
        raise InvalidValueError(key, value, "true or false")
    return value


def choice(key: str, value: Any, accepted: Iterable[str]) -> str:
    """`value` if it is one of the accepted words, or InvalidValueError that lists them."""
    accepted = list(accepted)
    if value not in accepted:
        raise InvalidValueError(
            key, value, f"one of {', '.join(accepted)}{suggestion(str(value), accepted)}"
        )
    return value


def folder(key: str, value: Any) -> str:
    """A folder's path with ~ and $VARIABLES replaced. A whole number, as of a date, is a name too.

    Raises InvalidValueError for anything else that is no text, and for empty text.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise InvalidValueError(key, value, "the path of a folder (as text in quotes, if need be)")
    return os.path.expanduser(os.path.expandvars(value))


def mapping(section: str, given: Any, accepted: Sequence[str], needed: Sequence[str] = ()) -> None:
    """Raises InvalidValueError unless the section is a mapping that has all needed keys, and no keys but
    the accepted.
    """
    if not isinstance(given, Mapping):
        raise InvalidValueError(section, given, f"settings, which are {', '.join(accepted)}")
    for key, value in given.items():
        if key not in accepted:
            those = f"one of {', '.join(accepted)}{suggestion(key, accepted)}"
            raise InvalidValueError(f"{section}.{key}", value, those)
    needs(section, given, needed)


def needs(section: str, given: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Raises InvalidValueError for one of the keys that the section lacks."""
    for key in keys:
        if key not in given:
            raise InvalidValueError(
                f"{section}.{key}", "nothing", "a value, since training needs one"
            )


def integers(key: str, value: Any, at_least: int = 1, length: int | None = None) -> tuple[int, ...]:
    """A list of whole numbers as a tuple. With `length`, a single number stands for that many equal ones."""
    accepted = f"a list of whole numbers of at least {at_least}"
    if length is not None:
        accepted = f"one whole number of at least {at_least}, or a list of {length} of them"
        if isinstance(value, Integral):
            value = [value] * length
    if (
        not isinstance(value, Sequence)
        or isinstance(value, str)
        or length not in (None, len(value))
    ):
        raise InvalidValueError(key, value, accepted)
    try:
        return tuple(integer(key, each, at_least) for each in value)
    except InvalidValueError as fault:
        large = f" and at most {MAX_INTEGER}" if fault.accepted.endswith(str(MAX_INTEGER)) else ""
        raise InvalidValueError(key, list(value), accepted + large) from None


def suggestion(word: str, accepted: Iterable[str]) -> str:
    """'; did you mean ...?' for a near miss, else nothing."""
    near = difflib.get_close_matches(word, list(accepted), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _is_finite(value: Any) -> bool:
    """Whether it is a number that a float can hold."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False


def _within(value: Any, at_least: Any, at_most: Any) -> bool:
    return (at_least is None or value >= at_least) and (at_most is None or value <= at_most)


def _bounds(at_least: Any, at_most: Any) -> str:
    if at_least is None and at_most is None:
        return ""
    if at_most is None:
        return f"of at least {at_least:g}"
    return f"from {at_least:.10g} to {at_most:.10g}"
