"""Checks of the command line's arguments, and their translation for Hydra 1.3.

This module imports no torch, so that a typing error is reported at once.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Glob,
    Override,
    OverrideType,
    Quote,
    QuotedString,
    RangeSweep,
)

from digitpairs import configs
from digitpairs.checks import InvalidFlagError, InvalidValueError
from digitpairs.names import text_of

MAX_LIST_LENGTH = 10_000  # values of a range that becomes a list
_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?")
# Paths that Hydra reads as a number or a truth value, or cannot read
_PATH_TO_QUOTE = re.compile(
    r"~[^,]*|[+-]?[\d_.]+(?:e[+-]?\d+)?|true|false|[+-]?(?:nan|inf)", re.IGNORECASE
)
_KEY = re.compile(r"[+~]*[\w$][\w$./@:-]*", re.ASCII)
_ACTIONS = ("cfg", "info", "run", "shell_completion")


def command_name() -> str:
    """The shell command that started this process, such as "python train.py" or "digitpairs".

    For a process that another program started, it is the command that works in its folder.
    """
    path = Path(sys.argv[0])
    if path.name == "train.py":
        return f"python {path}"
    if path.parts[-2:] == ("digitpairs", "__main__.py"):
        return "python -m digitpairs"
    in_checkout = path.stem != "digitpairs" and configs.CONF.parent == Path.cwd()
    return "python train.py" if in_checkout else "digitpairs"


def normalize_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments in the form that Hydra reads.

    `-m` goes to the front and all other flags to the end, since argparse reads no overrides after a
    flag between them. A study gets `-m` if it is missing. `a..b` and `a..b..step` become Hydra's
    range or a list, with both ends. A path that Hydra would read as a number is quoted. Keys of a
    section with a new `_target_` get `++`, since Hydra knows only the keys of its default class.

    Raises:
        InvalidValueError: for a key with two values, of which Hydra would use the last; for a range
            whose steps do not meet its end.
        InvalidFlagError: for flags that exclude each other.
    """
    options, flags = _split(arguments)
    _refuse_two_actions(options)
    multirun = [flag for flag in flags if flag in ("-m", "--multirun")]
    other_flags = [flag for flag in flags if flag not in multirun]
    folders = configs.config_folders(arguments)
    if not multirun and _trains(options) and _chooses_study(options, folders):
        multirun = ["-m"]
    refuse_duplicates(options.overrides)
    overrides = _allow_new_keys([_normalized_argument(argument) for argument in options.overrides])
    return [*multirun[:1], *overrides, *other_flags]


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether `--help` or `-h` is among the arguments."""
    options, _ = _split(arguments)
    return options.help


def check_arguments(arguments: Sequence[str]) -> None:
    """Check each argument by itself.

    Raises:
        InvalidValueError: for an argument that Hydra cannot read, as it was typed; for a choice
            that does not exist; for several values of a key that can have only one.
    """
    options, _ = _split(arguments)
    typed, folders = options.overrides, configs.config_folders(arguments)
    has_searchpath = any(argument.startswith("hydra.searchpath=") for argument in typed)
    is_study = _chooses_study(options, folders)
    sweeps = options.multirun or is_study or "hydra.mode=MULTIRUN" in typed
    for argument, following in itertools.zip_longest(typed, typed[1:], fillvalue=""):
        override = parsed(_normalized_argument(argument), argument, following)
        if override.is_sweep_override():
            _refuse_sweep(override, argument, sweeps, folders)
        if not has_searchpath:  # only Hydra knows the choices in the folders of a search path
            _check_choice(override, folders)


def expand_sweep(
    grid: Mapping[str, Any],
    arguments: Sequence[str],
    loader: ConfigLoader,
    max_jobs: int | None = None,
) -> list[list[str]]:
    """Return the overrides of each job of a sweep.

    The jobs are all combinations of the values in a study's grid and in the arguments (see
    `sweep_overrides`). Raises InvalidValueError for more than `max_jobs`.
    """
    by_key = sweep_overrides(grid, arguments, loader)
    count = math.prod(map(_length, by_key.values()))
    if max_jobs is not None and count > max_jobs:
        accepted = f"at least {count}, the number of runs that this sweep has"
        raise InvalidValueError("sweep.max_runs", max_jobs, accepted)
    return [list(job) for job in itertools.product(*map(single_overrides, by_key.values()))]


def sweep_overrides(
    grid: Mapping[str, Any], arguments: Sequence[str], loader: ConfigLoader
) -> dict[str, Override]:
    """The overrides of a study's grid and of the arguments, by key.

    The values of a key of the grid are text as on the command line, or a list. A key of the
    arguments replaces the same key of the grid.
    """
    study = [_normalized_argument(f"{key}={_grid_text(value)}") for key, value in grid.items()]
    overrides = [
        parsed(argument, loader=loader) for argument in _allow_new_keys([*study, *arguments])
    ]
    return {override.get_key_element(): override for override in overrides}


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


def refuse_duplicates(arguments: Sequence[str]) -> None:
    """Raise InvalidValueError for a key that has two values."""
    pairs = [argument.lstrip("+").split("=", 1) for argument in arguments if "=" in argument]
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            values = ",".join(value for other, value in pairs if other == key)
            accepted = f"one value a key, and it was given {count} times"
            if can_be_swept(key):
                accepted += f"; for a sweep write {key}={values} -m"
            raise InvalidValueError(key, values, accepted)


def keys_given(overrides: Iterable[Override]) -> set[str]:
    """The dotted paths of the keys that the overrides set, also within mappings."""
    keys: set[str] = set()
    for override in overrides:
        keys.add(override.key_or_group)
        for value in _values(override):
            keys.update(_paths(override.key_or_group, value))
    return keys


def sections_with_target(keys: Iterable[str]) -> list[str]:
    """The sections whose `_target_` is among the keys."""
    return sorted(key.removesuffix("._target_") for key in keys if key.endswith("._target_"))


def can_be_swept(key: str) -> bool:
    """Whether runs of one sweep may differ in the key."""
    if key in ("output", "experiment", "logger"):
        return False
    return not key.startswith(("sweep.", "hydra", "logger."))


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


def _split(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of Hydra's parser, in any order; and the flags with their values."""
    parser = get_args_parser()
    parser.prog = command_name()
    options = parser.parse_intermixed_args(list(arguments))
    flags = list(arguments)
    for override in options.overrides:
        flags.remove(override)
    return options, flags


def _trains(options: argparse.Namespace) -> bool:
    """Whether the command trains, and does not only print something."""
    return not (options.help or options.hydra_help or _actions(options))


def _actions(options: argparse.Namespace) -> list[str]:
    """The flags other than -m that choose what the command does."""
    names = [name for name in _ACTIONS if getattr(options, name) not in (None, False)]
    return [f"--{name.replace('_', '-')}" for name in names]


def _refuse_two_actions(options: argparse.Namespace) -> None:
    flags = [*_actions(options), *["-m"] * options.multirun]
    if len(flags) > 1:
        raise InvalidFlagError(f"{flags[0]} goes only without {' and '.join(flags[1:])}")
    if options.resolve and not (options.cfg or options.help):
        raise InvalidFlagError("--resolve goes only with --cfg")


def _chooses_study(options: argparse.Namespace, folders: Sequence[Path]) -> bool:
    """Whether the command trains a study.

    A study without -m makes Hydra complain of the study's grid, whatever the fault is.
    """
    key = "experiment="
    arguments = [argument for argument in options.overrides if argument.startswith(key)]
    return any(_is_study(argument.removeprefix(key), folders) for argument in arguments)


def _is_study(experiment: str, folders: Sequence[Path]) -> bool:
    """Whether the experiment has a grid of its own."""
    settings = configs.read_choice("experiment", experiment, folders)
    return bool(configs.grid_of(settings)) or settings.get("hydra", {}).get("mode") == "MULTIRUN"


def _normalized_argument(argument: str) -> str:
    """The argument with ranges in Hydra's form, and with a path as text."""
    key, equals, value = argument.partition("=")
    if key not in configs.PATH_KEYS:
        return expand_range(argument)
    if not _PATH_TO_QUOTE.fullmatch(value):
        return argument
    return f"{key}{equals}{QuotedString(value, Quote.single).with_quotes()}"


def _allow_new_keys(arguments: Sequence[str]) -> list[str]:
    """Put `++` before the keys of sections whose `_target_` is among the arguments."""
    if not any("_target_" in argument for argument in arguments):
        return list(arguments)
    overrides = [parsed(argument) for argument in arguments]
    sections = sections_with_target(keys_given(overrides))
    return [
        f"++{argument}" if _sets_keys_of(override, sections) or _adds_part(override) else argument
        for argument, override in zip(arguments, overrides)
    ]


def _sets_keys_of(override: Override, sections: Sequence[str]) -> bool:
    """Whether the override sets a key of a section other than `_target_`, or merges a mapping."""
    key = override.key_or_group
    if override.type is not OverrideType.CHANGE or key.endswith("._target_"):
        return False
    is_mapping = any(isinstance(value, Mapping) for value in _values(override))
    return any(
        key.startswith(f"{section}.") or (is_mapping and f"{section}.".startswith(f"{key}."))
        for section in sections
    )


def _adds_part(override: Override) -> bool:
    """Whether it names the class of a logger or callback, which need not be there before."""
    group, *_ = path = override.key_or_group.split(".")
    is_change = override.type is OverrideType.CHANGE
    return is_change and group in configs.NAMED_GROUPS and path[2:] == ["_target_"]


def _paths(key: str, value: Any) -> Iterator[str]:
    """The dotted paths of the key and, for a mapping, of all keys within it."""
    yield key
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _paths(f"{key}.{name}", inner)


def _refuse_sweep(override: Override, typed: str, sweeps: bool, folders: Sequence[Path]) -> None:
    """Raise InvalidValueError for several values of a key that can have only one."""
    key, _, value = typed.partition("=")
    if not sweeps and not can_be_swept(key):
        raise InvalidValueError(key, value, "one value")
    if not sweeps:
        accepted = f"one value, unless -m asks for a run of each: write {typed} -m"
        raise InvalidValueError(key, value, f"{accepted}, or {key}=[a,b] for a list")
    if key == "logger":
        accepted = f"the same loggers for all runs of a sweep: {key}=[{value}] for several at once"
        raise InvalidValueError(key, value, accepted)
    if key == "output":
        raise InvalidValueError(key, value, "one folder a sweep")
    if key == "experiment" and any(_is_study(str(name), folders) for name in _values(override)):
        raise InvalidValueError(key, value, "one study a command, since each has a grid of its own")


def _check_choice(override: Override, folders: Sequence[Path]) -> None:
    """Raise InvalidValueError for a value of a group that is no choice and no mapping."""
    group = override.key_or_group
    is_group = any((folder / group).is_dir() for folder in folders)
    if not is_group or "/" in group or group == "hydra" or override.package:
        return
    known = configs.choices(group, folders)
    values = _values(override)
    if group in configs.NAMED_GROUPS:  # several choices at once
        values = [each for value in values for each in _listed(value)]
    for value in values:
        is_choice = isinstance(value, str) and (
            "${" in value or value.removesuffix(".yaml") in known
        )
        if not is_choice and not isinstance(value, dict):
            shown = "nothing" if override.is_delete() else value
            raise configs.unknown_choice(group, shown, folders)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _grid_text(values: Any) -> str:
    """The values of a key of a study's grid, as they are typed on the command line."""
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    return ",".join(map(text_of, values)) if is_list else text_of(values)


def _values(override: Override) -> list[Any]:
    """The values that the override gives its key; none for a glob, which Hydra expands."""
    if not override.is_sweep_override():
        return [override.value()]
    if isinstance(override.value(), Glob) or not override.is_discrete_sweep():
        return []
    values = override.sweep_iterator()
    return [value.text if isinstance(value, QuotedString) else value for value in values]


def _length(override: Override) -> int:
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
