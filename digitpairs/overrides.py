"""Hydra's overrides: what an argument KEY=VALUE sets, or why it cannot be read."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString, RangeSweep

from digitpairs.checks import InvalidValueError

_KEY = re.compile(r"[+~]*[\w$][\w$./@:-]*", re.ASCII)


def parsed(
    argument: str, typed: str = "", following: str = "", loader: ConfigLoader | None = None
) -> Override:
    """Parse an argument with Hydra's grammar.

    Raises InvalidValueError for an argument that Hydra cannot read. The message contains the
    argument as `typed`; the `following` one shows whether a space splits a list or an assignment.
    """
    try:
        (override,) = OverridesParser.create(loader).parse_overrides([argument])
    except Exception as error:  # Hydra's grammar and functions, and Python's numbers, raise many
        raise _unreadable(typed or argument, following, error) from None
    if not override.key_or_group:
        raise _unreadable(typed or argument, following)
    return override


def single_overrides(override: Override) -> Iterator[str]:
    """An override for each of the values, as Hydra's own sweeper makes them."""
    key = override.get_key_element()
    if override.is_discrete_sweep():
        return (f"{key}={text}" for text in override.sweep_string_iterator())
    if override.is_sweep_override():
        accepted = "a list or a range, each value of which is run; hydra/sweeper=optuna searches it"
        raise InvalidValueError(key.lstrip("+"), value_text(override), accepted)
    return iter([f"{key}={override.get_value_element_as_str()}"])


def value_text(override: Override) -> str:
    """The value as it was typed."""
    return str(override.input_line).partition("=")[2]


def keys_given(overrides: Iterable[Override]) -> set[str]:
    """The dotted paths of the keys that the overrides set, also within mappings."""
    keys: set[str] = set()
    for override in overrides:
        keys.add(override.key_or_group)
        for value in values_of(override):
            keys.update(_paths(override.key_or_group, value))
    return keys


def sections_with_target(keys: Iterable[str]) -> list[str]:
    """The sections whose `_target_` is among the keys."""
    return sorted(key.removesuffix("._target_") for key in keys if key.endswith("._target_"))


def values_of(override: Override) -> list[Any]:
    """The values that the override gives its key; none for a glob, which Hydra expands."""
    if not override.is_sweep_override():
        return [override.value()]
    if isinstance(override.value(), Glob) or not override.is_discrete_sweep():
        return []
    values = override.sweep_iterator()
    return [value.text if isinstance(value, QuotedString) else value for value in values]


def length_of(override: Override) -> int:
    """The number of values that the override gives its key. Raises InvalidValueError for none."""
    sweep = override.value()
    try:
        if isinstance(sweep, RangeSweep):
            ends = (sweep.start, sweep.stop, sweep.step)
            start, stop, step = (Decimal(str(end)) for end in ends)
            length = math.ceil((stop - start) / step)
        else:
            length = sum(1 for _ in single_overrides(override))
    except ArithmeticError:  # a step of 0, or an infinite end
        length = 0
    if length < 1:
        accepted = "a list, or a range that ends, of at least one value"
        key = override.get_key_element().lstrip("+")
        raise InvalidValueError(key, value_text(override), accepted)
    return length


def _paths(key: str, value: Any) -> Iterator[str]:
    """The dotted paths of the key and, for a mapping, of all keys within it."""
    yield key
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _paths(f"{key}.{name}", inner)


def _unreadable(typed: str, following: str, error: Exception | None = None) -> InvalidValueError:
    """The error for an argument that Hydra cannot read, with what to write instead."""
    key, equals, value = typed.partition("=")
    next_value = "" if "=" in following.strip("=") else following.strip("=")
    if typed != typed.rstrip():
        accepted = (
            f"no space or carriage return (Windows' line end) after it: write {typed.rstrip()}"
        )
    elif not equals or not key:
        example = f"{key if key[:1].isalpha() else 'seed'}={next_value or 3}"
        accepted = f"KEY=VALUE without spaces, such as {example}"
    elif not _KEY.fullmatch(key):
        accepted = "a key of letters (without accents), digits, dots and _"
    elif value.endswith(","):
        accepted = f"a list without spaces: write {key}={value}{next_value or '...'}"
    elif value[:1] in ("[", "{") or "(" in value:
        reason = _hydra_message(error)
        accepted = f"a whole list [a,b] or mapping {{a:1,b:2}}, or text in quotes; {reason}"
    else:
        quoted = f"{key}={QuotedString(value, Quote.double).with_quotes()}"
        accepted = f"text with such characters only in quotes: write {shlex.quote(quoted)}"
    return InvalidValueError(key, value, accepted)


def _hydra_message(error: Exception | None) -> str:
    lines = str(error).splitlines()
    relevant = [line for line in lines if not line.startswith(("Error parsing", "See"))]
    return f"Hydra says: {' '.join(relevant)}"
