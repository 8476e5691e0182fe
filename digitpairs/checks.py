"""Checks of settings, shared by all constructors.

A notebook and the command line refuse the same values with the same message. This module imports no
torch, so that the command line starts quickly.
"""

from __future__ import annotations

import difflib
import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

MAX_INTEGER = 2**63 - 1  # the largest integer of torch
MAX_SEED = 2**32 - 1  # torch's Mersenne Twister starts from 32 bits


class DigitPairsWarning(UserWarning):
    """Something that a reader of the results must know, such as a substitute for missing data."""


class DataError(Exception):
    """Data that are missing, unreadable or damaged; the message names the path and what to do."""


class InvalidFlagError(ValueError):
    """Flags of the command line that exclude each other; the message names them."""


class InvalidValueError(ValueError):
    """A setting that cannot be used; the message names the key, its value and what is accepted."""

    def __init__(self, key: str, value: Any, accepted: str) -> None:
        super().__init__(key, value, accepted)
        self.key, self.value, self.accepted = key, value, accepted

    def __str__(self) -> str:
        is_plain = isinstance(self.value, str) and self.value.isprintable()
        shown = self.value if is_plain else repr(self.value)
        return f"{self.key}={shown} is not accepted: {self.accepted}"

    def within(self, section: str) -> InvalidValueError:
        """The same error with the key's whole path: `c` within `aux` is `aux.c`."""
        return InvalidValueError(f"{section}.{self.key}", self.value, self.accepted)


def integer(key: str, value: Any, at_least: int = 0, at_most: int | None = None) -> int:
    """Return `value` as an int, or raise InvalidValueError for no integer or one out of bounds."""
    if not _is_integer(value) or not _within(value, at_least, at_most):
        raise InvalidValueError(key, value, "a whole number " + _bounds(at_least, at_most))
    if value > MAX_INTEGER:
        raise InvalidValueError(key, value, f"a whole number of at most {MAX_INTEGER}")
    return int(value)


def number(key: str, value: Any, at_least: float | None = 0, at_most: float | None = None) -> float:
    """Return `value` as a float; raise InvalidValueError if it is not finite or out of bounds."""
    if not _is_finite(value) or not _within(value, at_least, at_most):
        raise InvalidValueError(key, value, ("a number " + _bounds(at_least, at_most)).strip())
    return float(value)


def positive(key: str, value: Any) -> float:
    """Return `value` as a float above zero, or raise InvalidValueError."""
    if not _is_finite(value) or float(value) <= 0:
        raise InvalidValueError(key, value, "a number above 0")
    return float(value)


def boolean(key: str, value: Any) -> bool:
    """Return `value` if it is True or False, or raise InvalidValueError."""
    if not isinstance(value, bool):
        raise InvalidValueError(key, value, "true or false")
    return value


def choice(key: str, value: Any, accepted: Iterable[str]) -> str:
    """Return `value` if it is one of the accepted words, or raise InvalidValueError."""
    accepted = list(accepted)
    if value not in accepted:
        raise InvalidValueError(key, value, one_of(accepted, str(value)))
    return value


def folder(key: str, value: Any) -> str:
    """Return a folder's path with ~ and $VARIABLES replaced. A whole number is a name too.

    Raises InvalidValueError for anything else that is not text, and for empty text.
    """
    if _is_integer(value):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise InvalidValueError(key, value, "the path of a folder (as text in quotes, if need be)")
    return os.path.expanduser(os.path.expandvars(value))


def mapping(
    section: str, settings: Any, accepted: Sequence[str], required: Sequence[str] = ()
) -> None:
    """Check that the settings are a mapping of accepted keys, and that it has the required ones."""
    if not isinstance(settings, Mapping):
        raise InvalidValueError(section, settings, f"settings, which are {', '.join(accepted)}")
    for key, value in settings.items():
        if key not in accepted:
            raise InvalidValueError(f"{section}.{key}", value, one_of(accepted, key))
    needs(section, settings, required)


def needs(section: str, settings: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Raise InvalidValueError for one of the keys that the section lacks."""
    for key in keys:
        if key not in settings:
            accepted = "a value, since training needs one"
            raise InvalidValueError(f"{section}.{key}", "nothing", accepted)


def integers(key: str, value: Any, at_least: int = 1, length: int | None = None) -> tuple[int, ...]:
    """Return a list of whole numbers as a tuple, or raise InvalidValueError.

    With `length`, a single number means that many equal ones.
    """
    accepted = f"a list of whole numbers of at least {at_least}"
    if length is not None:
        accepted = f"one whole number of at least {at_least}, or a list of {length} of them"
        if isinstance(value, numbers.Integral):
            value = [value] * length
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_list or length not in (None, len(value)):
        raise InvalidValueError(key, value, accepted)
    try:
        return tuple(integer(key, item, at_least) for item in value)
    except InvalidValueError as error:
        large = f" and at most {MAX_INTEGER}" if error.accepted.endswith(str(MAX_INTEGER)) else ""
        raise InvalidValueError(key, list(value), accepted + large) from None


def one_of(accepted: Iterable[str], word: str) -> str:
    """'one of ...', with a suggestion if `word` is a near miss."""
    accepted = list(accepted)
    return f"one of {', '.join(accepted)}{suggestion(word, accepted)}"


def suggestion(word: str, accepted: Iterable[str]) -> str:
    """'; did you mean ...?' for a near miss, else an empty string."""
    near = difflib.get_close_matches(word, list(accepted), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _is_integer(value: Any) -> TypeGuard[int]:
    return not isinstance(value, bool) and isinstance(value, numbers.Integral)


def _is_finite(value: Any) -> bool:
    """Whether it is a finite number within the range of floats."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of more than 308 digits
        return False


def _within(value: Any, at_least: Any, at_most: Any) -> bool:
    return (at_least is None or value >= at_least) and (at_most is None or value <= at_most)


def _bounds(at_least: Any, at_most: Any) -> str:
    if at_least is None and at_most is None:
        return ""
    if at_most is None:
        return f"of at least {at_least:g}"
    return f"from {at_least:.10g} to {at_most:.10g}"
