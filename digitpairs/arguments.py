"""The command line's arguments: checked, and brought into the form that Hydra 1.3 reads.

This module does without torch, so that a slip of the keyboard is told at once.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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

PATH_KEYS = ("output", "data.root")  # settings that are paths
MAX_LIST_LENGTH = 10_000  # values of a range that is written out as a list
_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?")
# Paths that Hydra reads as a number or a truth value, or cannot read.
_TO_BE_QUOTED = re.compile(
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
    """The arguments as Hydra can read them.

    -m goes to the front and other flags go to the end, since argparse stops reading overrides at a
    flag between them. A study gets -m where it is missing. `a..b` and `a..b..step` become Hydra's
    range or a list, both ends included. A path that Hydra would read as a number is quoted.

    Raises InvalidValueError for a key that is given twice, since Hydra would silently take the last; for
    a range that does not meet its end. Raises InvalidFlagError for flags that exclude each other.
    """
    options, flags = _split(arguments)
    _refuse_two_actions(options)
    multirun = [flag for flag in flags if flag in ("-m", "--multirun")]
    rest = [flag for flag in flags if flag not in multirun]
    if (
        not multirun
        and _trains(options)
        and _chooses_study(options, configs.config_folders(arguments))
    ):
        multirun = ["-m"]
    refuse_duplicates(options.overrides)
    overrides = _allow_new_keys([_normalized_argument(each) for each in options.overrides])
    return [*multirun[:1], *overrides, *rest]


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether `--help` or `-h` is among the arguments."""
    options, _ = _split(arguments)
    return options.help


def check_arguments(arguments: Sequence[str]) -> None:
    """Raises InvalidValueError, with the argument as it was typed, for one that Hydra cannot read, for a
    choice that does not exist, and for several values where there can be but one.
    """
    options, _ = _split(arguments)
    typed, places = options.overrides, configs.config_folders(arguments)
    searched = any(each.startswith("hydra.searchpath=") for each in typed)
    sweeps = options.multirun or _chooses_study(options, places) or "hydra.mode=MULTIRUN" in typed
    for argument, following in itertools.zip_longest(typed, typed[1:], fillvalue=""):
        override = parsed(_normalized_argument(argument), argument, following)
        if override.is_sweep_override():
            _check_values(override, argument, sweeps, places)
        if not searched:  # Hydra alone knows the choices in other folders
            _check_choice(override, places)


def expand_sweep(
    grid: Mapping[str, Any],
    arguments: Sequence[str],
    loader: ConfigLoader,
    most: int | None = None,
) -> list[list[str]]:
    """The overrides of each job of a sweep.

    These are all combinations of the values in a study's grid and in the arguments. A key of the
    arguments replaces that of the grid. Raises InvalidValueError for more than `most` jobs.
    """
    study = [_normalized_argument(f"{key}={value}") for key, value in grid.items()]
    given = _allow_new_keys([*study, *arguments])
    overrides = [parsed(argument, loader=loader) for argument in given]
    by_key = {each.get_key_element(): each for each in overrides}
    count = math.prod(map(_length, by_key.values()))
    if most is not None and count > most:
        needs = f"at least {count}, the number of runs that this sweep has"
        raise InvalidValueError("sweep.max_runs", most, needs)
    return [list(each) for each in itertools.product(*map(_texts, by_key.values()))]


def parsed(
    argument: str, typed: str = "", following: str = "", loader: ConfigLoader | None = None
) -> Override:
    """The argument as Hydra reads it. Raises InvalidValueError, with what was typed, where Hydra cannot;
    the argument that follows tells a slip such as a space from others.
    """
    try:
        (override,) = OverridesParser.create(loader).parse_overrides([argument])
    except Exception as fault:  # from Hydra's grammar, from its functions, from Python's numbers
        raise _unreadable(typed or argument, following, fault) from None
    if not override.key_or_group:
        raise _unreadable(typed or argument, following)
    return override


def refuse_duplicates(arguments: Sequence[str]) -> None:
    """Raises InvalidValueError for a key that has two overrides."""
    pairs = [argument.lstrip("+").split("=", 1) for argument in arguments if "=" in argument]
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            values = ",".join(value for other, value in pairs if other == key)
            needs = f"one value a key, and it was given {count} times"
            if can_be_swept(key):
                needs += f"; for a sweep write {key}={values} -m"
            raise InvalidValueError(key, values, needs)


def keys_given(overrides: Iterable[Override]) -> set[str]:
    """The dotted paths of the keys that the overrides set, also of those within mappings."""
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
    return key not in ("output", "experiment") and not key.startswith(("sweep.", "hydra"))


def expand_range(argument: str) -> str:
    """`key=0..9` -> `key=range(0,10)`; a range with decimals, or within a list, -> `key=0.5,0.6`;
    any other argument unchanged.

    Raises InvalidValueError for a range that does not go up, that has decimals and no step, or whose
    steps do not meet its end.
    """
    key, equals, value = argument.partition("=")
    items = value.split(",")
    if not any(_RANGE.fullmatch(item) for item in items):
        return argument
    if len(items) == 1 and not re.search(r"[eE]|\d\.\d", value):
        first, last, step = map(int, _ends(key, value))
        return f"{key}{equals}range({first},{last + 1}{f',{step}' if step != 1 else ''})"
    numbers = [number for item in items for number in _range_numbers(key, item)]
    return f"{key}{equals}{','.join(numbers)}"


def _range_numbers(key: str, item: str) -> list[str]:
    if not _RANGE.fullmatch(item):
        return [item]
    first, last, step = _ends(key, item)
    steps = int((last - first) / step)
    if steps >= MAX_LIST_LENGTH:
        raise InvalidValueError(
            key.lstrip("+"), item, f"a range of at most {MAX_LIST_LENGTH} values"
        )
    return [format(first + step * i, "f") for i in range(steps + 1)]


def _ends(key: str, item: str) -> tuple[Decimal, Decimal, Decimal]:
    """The first value, the last and the step of a range."""
    key, (start, _, given) = key.lstrip("+"), _RANGE.fullmatch(item).groups()
    first, last, step = (Decimal(part or "1") for part in _RANGE.fullmatch(item).groups())
    if last < first or step <= 0:
        raise InvalidValueError(key, item, "a range first..last or first..last..step that goes up")
    if given is None and any(end != end.to_integral_value() for end in (first, last)):
        such = f"{item}..{(last - first) / 10:f}"
        raise InvalidValueError(key, item, f"a range of decimals with its step, such as {such}")
    if (last - first) / step > 10**15:
        raise InvalidValueError(key, item, "a range of fewer values")
    steps = int((last - first) / step)
    if first + steps * step != last:
        ends = (f"{start}..{first + end * step:f}..{given}" for end in (steps, steps + 1))
        raise InvalidValueError(key, item, f"a range whose steps meet its end: {' or '.join(ends)}")
    return first, last, step


def _split(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The arguments as Hydra's parser reads them, in any order; and the flags with their values."""
    parser = get_args_parser()
    parser.prog = command_name()
    options = parser.parse_intermixed_args(list(arguments))
    flags = list(arguments)
    for override in options.overrides:
        flags.remove(override)
    return options, flags


def _trains(options: argparse.Namespace) -> bool:
    """Whether the command trains, rather than shows something."""
    return not (options.help or options.hydra_help or _actions(options))


def _actions(options: argparse.Namespace) -> dict[str, Any]:
    """The flags other than -m that say what to do, with their values."""
    given = {f"--{name.replace('_', '-')}": getattr(options, name) for name in _ACTIONS}
    return {flag: value for flag, value in given.items() if value not in (None, False)}


def _refuse_two_actions(options: argparse.Namespace) -> None:
    actions = _actions(options)
    names = [*actions, *["-m"] * options.multirun]
    if len(names) > 1:
        raise InvalidFlagError(f"{names[0]} goes only without {' and '.join(names[1:])}")
    if options.resolve and not (options.cfg or options.help):
        raise InvalidFlagError("--resolve goes only with --cfg")


def _chooses_study(options: argparse.Namespace, places: Sequence[Path]) -> bool:
    """Whether the command trains a study. Without -m Hydra's message would be about the study's
    grid, whatever the fault was.
    """
    key = "experiment="
    names = [each.removeprefix(key) for each in options.overrides if each.startswith(key)]
    return any(_is_study(name, places) for name in names)


def _is_study(name: str, places: Sequence[Path]) -> bool:
    """Whether the experiment of that name has a grid of its own."""
    section = configs.content("experiment", name, places).get("hydra", {})
    return section.get("mode") == "MULTIRUN"


def _normalized_argument(argument: str) -> str:
    """The argument with ranges as Hydra has them, and with a path as text."""
    key, equals, value = argument.partition("=")
    if key.lstrip("+") not in PATH_KEYS:
        return expand_range(argument)
    if not _TO_BE_QUOTED.fullmatch(value):
        return argument
    return f"{key}{equals}{QuotedString(value, Quote.single).with_quotes()}"


def _allow_new_keys(arguments: Sequence[str]) -> list[str]:
    """The arguments with `++` before the keys of sections whose class they change.

    Hydra accepts only the keys that a section already has, which are those of its default class.
    """
    if not any("_target_" in argument for argument in arguments):
        return list(arguments)
    overrides = [parsed(argument) for argument in arguments]
    sections = sections_with_target(keys_given(overrides))
    return [
        f"++{argument}" if _sets_keys_of(override, sections) else argument
        for argument, override in zip(arguments, overrides)
    ]


def _sets_keys_of(override: Override, sections: Sequence[str]) -> bool:
    """Whether the override changes a section, or a key other than `_target_` in one of them."""
    key = override.key_or_group
    if override.type is not OverrideType.CHANGE or key.endswith("._target_"):
        return False
    is_mapping = any(isinstance(value, Mapping) for value in _values(override))
    return any(
        key.startswith(f"{section}.") or (is_mapping and f"{section}.".startswith(f"{key}."))
        for section in sections
    )


def _paths(key: str, value: Any) -> Iterator[str]:
    yield key
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _paths(f"{key}.{name}", inner)


def _check_values(override: Override, typed: str, sweeps: bool, places: Sequence[Path]) -> None:
    """Raises InvalidValueError for several values of a key that can have but one."""
    key, _, value = typed.partition("=")
    if not sweeps and not can_be_swept(key):
        raise InvalidValueError(key, value, "one value")
    if not sweeps:
        needs = f"one value, unless -m asks for a run of each: write {typed} -m"
        raise InvalidValueError(key, value, f"{needs}, or {key}=[a,b] for a list")
    if key == "output":
        raise InvalidValueError(key, value, "one folder a sweep")
    if key == "experiment" and any(_is_study(str(name), places) for name in _values(override)):
        raise InvalidValueError(key, value, "one study a command, since each has a grid of its own")


def _check_choice(override: Override, places: Sequence[Path]) -> None:
    """Raises InvalidValueError for a group that is given no choice of it, nor settings to merge."""
    group = override.key_or_group
    is_group = any((place / group).is_dir() for place in places)
    if not is_group or "/" in group or group == "hydra" or override.package:
        return
    known = configs.choices(group, places)
    for value in _values(override):
        named = isinstance(value, str) and ("${" in value or value.removesuffix(".yaml") in known)
        if not named and not isinstance(value, dict):
            shown = "nothing" if override.is_delete() else value
            raise configs.unknown_choice(group, shown, places)


def _values(override: Override) -> list[Any]:
    """The values that the override gives its key; none of a pattern, which Hydra itself matches."""
    if not override.is_sweep_override():
        return [override.value()]
    if isinstance(override.value(), Glob) or not override.is_discrete_sweep():
        return []
    return [
        each.text if isinstance(each, QuotedString) else each for each in override.sweep_iterator()
    ]


def _length(override: Override) -> int:
    """The number of values that the override gives its key. Raises InvalidValueError for none."""
    sweep, (key, _, text) = override.value(), override.input_line.partition("=")
    try:
        if isinstance(sweep, RangeSweep):
            ends = (sweep.start, sweep.stop, sweep.step)
            start, stop, step = (Decimal(str(each)) for each in ends)
            length = math.ceil((stop - start) / step)
        else:
            length = sum(1 for _ in _texts(override))
    except ArithmeticError:  # a step of 0, or an end that is infinite
        length = 0
    if length < 1:
        raise InvalidValueError(key, text, "a list, or a range that ends, of at least one value")
    return length


def _texts(override: Override) -> Iterator[str]:
    """An override for each of the values, as Hydra's own sweeper makes them."""
    key = override.get_key_element()
    if override.is_discrete_sweep():
        return (f"{key}={text}" for text in override.sweep_string_iterator())
    if override.is_sweep_override():
        text = override.input_line.partition("=")[2]
        raise InvalidValueError(key, text, "a list or a range, each value of which is run")
    return iter([f"{key}={override.get_value_element_as_str()}"])


def _unreadable(typed: str, following: str, fault: Exception | None = None) -> InvalidValueError:
    """The error for an argument that Hydra cannot read, with what to write instead."""
    key, equals, value = typed.partition("=")
    follows = "" if "=" in following.strip("=") else following.strip("=")
    if typed != typed.rstrip():
        needs = f"no space or carriage return (Windows' line end) after it: write {typed.rstrip()}"
    elif not equals or not key:
        such = f"{key if key[:1].isalpha() else 'seed'}={follows or 3}"
        needs = f"KEY=VALUE without spaces, such as {such}"
    elif not _KEY.fullmatch(key):
        needs = "a key of letters (without accents), digits, dots and _"
    elif value.endswith(","):
        needs = f"a list without spaces: write {key}={value}{follows or '...'}"
    elif value[:1] in ("[", "{") or "(" in value:
        needs = f"a whole list [a,b] or mapping {{a:1,b:2}}, or text in quotes; {_saying(fault)}"
    else:
        quoted = f"{key}={QuotedString(value, Quote.double).with_quotes()}"
        needs = f"text with such characters only in quotes: write {shlex.quote(quoted)}"
    return InvalidValueError(key, value, needs)


def _saying(fault: Exception | None) -> str:
    lines = [
        each for each in str(fault).splitlines() if not each.startswith(("Error parsing", "See"))
    ]
    return f"Hydra says: {' '.join(lines)}"
