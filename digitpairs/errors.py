"""What the user can mend, as one message: errors of this project, of Hydra and of OmegaConf."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from digitpairs import configs
from digitpairs.checks import DataError, InvalidFlagError, InvalidValueError, suggestion

FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's own switch: exceptions are raised, not printed
_SHOWS_TRACEBACKS = os.environ.get(FULL_ERROR) == "1"
# The modules that make a config out of arguments and files
_COMPOSING_MODULES = ("hydra.main", "hydra._internal.config_loader_impl", "hydra.core.plugins")
_OURS = ("digitpairs", "hydra_plugins")
# What the system says of a disk without naming a file
_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """Turns an error that the user can mend into one message on stderr and exit status 2.

    All other exceptions pass, and with HYDRA_FULL_ERROR=1 in the environment every exception does.
    """
    try:
        yield
    except KeyboardInterrupt:  # the sweep has printed how many runs are finished
        raise SystemExit(130) from None
    except Exception as error:  # Hydra and OmegaConf raise errors of many types for a wrong config
        if _SHOWS_TRACEBACKS or not is_user_error(error):
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        raise SystemExit(2) from None


def is_user_error(error: Exception) -> bool:
    """Whether the error is about what was asked for, and not a fault of the program.

    It is for InvalidValueError and DataError, for a path that cannot be used, and for all that Hydra and
    OmegaConf raise while they compose a config: their errors for a wrong one are of many types.
    """
    if isinstance(error, OSError):
        named = error.filename is not None or error.errno in _DISK_ERRNOS
        return named or isinstance(error, HydraException)
    if isinstance(
        error,
        (InvalidValueError, InvalidFlagError, DataError, HydraException, OmegaConfBaseException),
    ):
        return True
    modules = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
    places = [place for place, name in enumerate(modules) if name in _COMPOSING_MODULES]
    inner = modules[places[-1] :] if places else []
    return bool(inner) and not any(name.partition(".")[0] in _OURS for name in inner)


def explain(error: BaseException) -> str:
    """One message for an error that can be mended."""
    if isinstance(error, (InvalidValueError, InvalidFlagError, DataError)):
        return str(error)
    if isinstance(error, MissingConfigException) and "/" in str(error.missing_cfg_file):
        return str(_unknown_choice(str(error.missing_cfg_file), error.options or []))
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        place = f"{error.filename or 'a file'} cannot be used ({error.strerror})"
        return f"{place}: results go to output=FOLDER, digits come from data.root"
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if isinstance(cause, OmegaConfBaseException) and "not in struct" in str(cause):
        return str(_unknown_key(str(cause.full_key or cause.key), cause.parent_node or {}))
    unmatched = re.match(r"Could not override '([\w/@:.]+)'\. No match in the defaults", str(error))
    if unmatched:
        (group,) = unmatched.groups()
        needs = f"nothing, since this task has no {group} to choose (see --cfg job)"
        return str(InvalidValueError(group, _given(group), needs))
    text = ": ".join(filter(None, dict.fromkeys([str(error), str(cause)])))
    return _with_arguments(
        re.sub(r"\s+((object|reference)_type=\S+|full_key:)?", " ", text).strip()
    )


def _with_arguments(text: str) -> str:
    """A message of Hydra or OmegaConf, with the arguments that it may be about if it names none."""
    arguments = [each for each in sys.argv[1:] if "=" in each or each.startswith("~")]
    interpolated = [each for each in arguments if "${" in each and "nterpolation" in text]
    keys = [re.split("[=@]", each.lstrip("+~"))[0] for each in arguments]
    if not interpolated and any(
        re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.])", text) for key in keys
    ):
        return text
    return f"{' '.join(interpolated or arguments)} cannot be composed: {text}"


def _unknown_choice(missing: str, options: Iterable[str]) -> InvalidValueError:
    """The error for a missing file, such as "model/azzano/fcn" or "hydra/launcher/foo"."""
    cut = missing.rpartition if missing.startswith("hydra/") else missing.partition
    group, _, name = cut("/")
    return configs.unknown_choice(group, name, _folders(), options)


def _unknown_key(full_key: str, siblings: Iterable) -> InvalidValueError:
    """The error that names the keys of the section and, since each choice of a group has keys of
    its own, the choices that have this one.
    """
    section, _, key = full_key.rpartition(".")
    accepted = [str(name) for name in siblings if name not in ("hydra", "_target_")]
    keys = f"; the keys here are {', '.join(accepted)}" if accepted else ", nor any other here"
    hint = _choices_with(section, key) if section else ""
    needs = f"there is no such key{keys}{hint or suggestion(key, accepted)}"
    return InvalidValueError(full_key, _given(full_key), needs)


def _choices_with(group: str, key: str) -> str:
    """The group's choices that have the key, but for those in subfolders, in words."""
    names = [name for name in configs.choices(group, _folders()) if "/" not in name]
    having = [name for name in names if key in configs.content(group, name, _folders())]
    return f", and {' or '.join(f'{group}={name}' for name in having)} has {key}" if having else ""


def _folders() -> list[Path]:
    return configs.config_folders(sys.argv[1:])


def _given(key: str) -> str:
    """The value that the command line gives the key."""
    given = (each.lstrip("+").partition("=") for each in sys.argv[1:])
    return next((value for name, _, value in given if name == key), "?")
