"""Checks of the command line's arguments, and their translation for Hydra 1.3.

This module imports no torch, so that a typing error is reported at once.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import (
    Override,
    OverrideType,
    Quote,
    QuotedString,
)

from digitpairs import configs
from digitpairs.checks import InvalidFlagError, InvalidValueError
from digitpairs.names import text_of
from digitpairs.overrides import (
    keys_given,
    length_of,
    parsed,
    sections_with_target,
    single_overrides,
    values_of,
)
from digitpairs.ranges import expand_range

# Paths that Hydra reads as a number or a truth value, or cannot read
_PATH_TO_QUOTE = re.compile(
    r"~[^,]*|[+-]?[\d_.]+(?:e[+-]?\d+)?|true|false|[+-]?(?:nan|inf)", re.IGNORECASE
)
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
    count = math.prod(map(length_of, by_key.values()))
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


def can_be_swept(key: str) -> bool:
    """Whether runs of one sweep may differ in the key."""
    if key in ("output", "experiment", "logger"):
        return False
    return not key.startswith(("sweep.", "hydra", "logger."))


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
    is_mapping = any(isinstance(value, Mapping) for value in values_of(override))
    return any(
        key.startswith(f"{section}.") or (is_mapping and f"{section}.".startswith(f"{key}."))
        for section in sections
    )


def _adds_part(override: Override) -> bool:
    """Whether it names the class of a logger or callback, which need not be there before."""
    group, *_ = path = override.key_or_group.split(".")
    is_change = override.type is OverrideType.CHANGE
    return is_change and group in configs.NAMED_GROUPS and path[2:] == ["_target_"]


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
    if key == "experiment" and any(_is_study(str(name), folders) for name in values_of(override)):
        raise InvalidValueError(key, value, "one study a command, since each has a grid of its own")


def _check_choice(override: Override, folders: Sequence[Path]) -> None:
    """Raise InvalidValueError for a value of a group that is no choice and no mapping."""
    group = override.key_or_group
    is_group = any((folder / group).is_dir() for folder in folders)
    if not is_group or "/" in group or group == "hydra" or override.package:
        return
    known = configs.choices(group, folders)
    values = values_of(override)
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
