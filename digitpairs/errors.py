"""Errors that the user can fix, as one message: errors of this project, Hydra and OmegaConf."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from digitpairs import configs
from digitpairs.checks import DataError, InvalidFlagError, InvalidValueError, suggestion
from digitpairs.names import flat, text_of

FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's own variable: exceptions are raised, not printed
_SHOWS_TRACEBACKS = os.environ.get(FULL_ERROR) == "1"
# The modules that compose a config from arguments and files
_COMPOSING_MODULES = ("hydra.main", "hydra._internal.config_loader_impl", "hydra.core.plugins")
_OWN_PACKAGES = ("digitpairs", "hydra_plugins")
_OWN_ERRORS = (InvalidValueError, InvalidFlagError, DataError)
# Errors of the disk, which the system reports without a file's name
_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """Print an error that the user can fix as one message on stderr; exit with status 2.

    All other exceptions pass. With HYDRA_FULL_ERROR=1 in the environment every exception passes.
    """
    try:
        yield
    except KeyboardInterrupt:  # the sweep has printed how many runs are finished
        raise SystemExit(130) from None
    except Exception as error:  # Hydra and OmegaConf raise errors of many types for a wrong config
        if _SHOWS_TRACEBACKS or not is_user_error(error):
            raise
        print(f"error: {error_message(error)}", file=sys.stderr)
        raise SystemExit(2) from None


def is_user_error(error: Exception) -> bool:
    """Whether the user can fix the error, so that it is not a bug of the program.

    These are the project's own errors, paths that cannot be used, and all errors that Hydra and
    OmegaConf raise while they compose a config, since a wrong one raises errors of many types.
    """
    if isinstance(error, OSError):
        has_path = error.filename is not None or error.errno in _DISK_ERRNOS
        return has_path or isinstance(error, HydraException)
    if isinstance(error, (*_OWN_ERRORS, HydraException, OmegaConfBaseException)):
        return True
    modules = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
    composing = [depth for depth, name in enumerate(modules) if name in _COMPOSING_MODULES]
    inner = modules[composing[-1] :] if composing else []
    return bool(inner) and not any(name.partition(".")[0] in _OWN_PACKAGES for name in inner)


def error_message(error: BaseException) -> str:
    """One line for an error that the user can fix."""
    if isinstance(error, _OWN_ERRORS):
        return str(error)
    if isinstance(error, MissingConfigException) and "/" in str(error.missing_cfg_file):
        return str(_unknown_choice(str(error.missing_cfg_file), error.options or []))
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        fault = f"{error.filename or 'a file'} cannot be used ({error.strerror})"
        return f"{fault}: results go to output=FOLDER, digits come from data.root"
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if isinstance(cause, OmegaConfBaseException) and "not in struct" in str(cause):
        return str(_unknown_key(str(cause.full_key or cause.key), cause.parent_node or {}))
    unmatched = re.match(r"Could not override '([\w/@:.]+)'\. No match in the defaults", str(error))
    if unmatched:
        (group,) = unmatched.groups()
        accepted = f"nothing, since this task has no {group} to choose (see --cfg job)"
        value, place = _value_given(group)
        return str(InvalidValueError(group, value, f"{accepted}{place}"))
    repeated = re.match(r"Multiple values for ([\w/]+)\. .* 'override \S+: (\S+)'", str(error))
    if repeated:
        return _second_choice(*repeated.groups())
    text = ": ".join(filter(None, dict.fromkeys([str(error), str(cause)])))
    text = re.sub(r"\s+((object|reference)_type=\S+|full_key:)?", " ", text)
    return _with_arguments(text.strip())


def _with_arguments(text: str) -> str:
    """A message of Hydra or OmegaConf, after the arguments that may cause it if it names none."""
    arguments = [each for each in sys.argv[1:] if "=" in each or each.startswith("~")]
    interpolated = [each for each in arguments if "${" in each and "nterpolation" in text]
    keys = [re.split("[=@]", each.lstrip("+~"))[0] for each in arguments]
    names_key = any(re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.])", text) for key in keys)
    if names_key and not interpolated:
        return text
    return f"{' '.join(interpolated or arguments)} cannot be composed: {text}"


def _second_choice(group: str, name: str) -> str:
    """The message for a file whose `defaults` choose from a group that has a choice already."""
    defaults = {path: settings.get("defaults") for path, settings in _chosen_files().items()}
    lines = {f"{group}: {name}", f"/{group}: {name}"}
    places = [str(path) for path, entries in defaults.items() if lines & _texts(entries)]
    place = places[0] if places else " ".join(sys.argv[1:])
    return f"{place}: {group} has a choice already: write - override /{group}: {name} in defaults"


def _texts(entries: Any) -> set[str]:
    """The mappings in a list of `defaults` as "key: value"."""
    mappings = [each for each in entries or [] if isinstance(each, dict)]
    return {f"{key}: {value}" for each in mappings for key, value in each.items()}


def _unknown_choice(missing: str, options: Iterable[str]) -> InvalidValueError:
    """The error for a missing file, such as "model/azzano/fcn" or "hydra/launcher/foo"."""
    cut = missing.rpartition if missing.startswith("hydra/") else missing.partition
    group, _, name = cut("/")
    return configs.unknown_choice(group, name, _folders(), options)


def _unknown_key(full_key: str, siblings: Iterable) -> InvalidValueError:
    """The error that names the section's keys, and the group's choices that have the key."""
    section, _, key = full_key.rpartition(".")
    known = [str(name) for name in siblings if name not in ("hydra", "_target_")]
    keys = f"; the keys here are {', '.join(known)}" if known else ", nor any other here"
    hint = _choices_with(section, key) if section else ""
    value, place = _value_given(full_key)
    accepted = f"there is no such key{keys}{hint or suggestion(key, known)}{place}"
    return InvalidValueError(full_key, value, accepted)


def _choices_with(group: str, key: str) -> str:
    """The group's choices that have the key, without those in subfolders, as part of a message."""
    names = [name for name in configs.choices(group, _folders()) if "/" not in name]
    matches = [
        f"{group}={name}" for name in names if key in configs.read_choice(group, name, _folders())
    ]
    return f", and {' or '.join(matches)} has {key}" if matches else ""


def _folders() -> list[Path]:
    return configs.config_folders(sys.argv[1:])


def _value_given(key: str) -> tuple[Any, str]:
    """The value that the key is given, and the file if it is not given on the command line."""
    for argument in sys.argv[1:]:
        name, _, value = argument.lstrip("+").partition("=")
        if name == key:
            return value, ""
    for path, settings in _chosen_files().items():
        values = flat(settings) | configs.grid_of(settings)
        if key in values:
            return text_of(values[key]), f" (in {path})"
    return "?", ""


def _chosen_files() -> dict[Path, dict[str, Any]]:
    """The files that the command line chooses, as GROUP=CHOICE, with their contents."""
    pairs = [argument.lstrip("+").partition("=")[::2] for argument in sys.argv[1:]]
    paths = [configs.path_of(group, name, _folders()) for group, name in pairs]
    return {path: configs.read(path) for path in paths if path is not None}
