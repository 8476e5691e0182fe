"""What the user can mend, said in one message: errors of ours, of Hydra and of OmegaConf."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from digitpairs import configs
from digitpairs.checks import DataError, InvalidValue, did_you_mean

FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's own switch: let exceptions out instead of printing them
_WANTS_TRACEBACKS = os.environ.get(FULL_ERROR) == "1"
_COMPOSING = ("hydra.main", "hydra._internal.config_loader_impl", "hydra.core.plugins")  # where a config comes into being
_OURS = ("digitpairs", "hydra_plugins")


@contextlib.contextmanager
def explained_errors() -> Iterator[None]:
    """Turns what the user can mend into one message on stderr and exit status 2; lets faults of ours out whole.

    With HYDRA_FULL_ERROR=1 in the environment everything is let out.
    """
    try:
        yield
    except KeyboardInterrupt:  # a sweep has said how far it came
        raise SystemExit(130) from None
    except Exception as error:
        if _WANTS_TRACEBACKS or not can_be_mended(error):
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        raise SystemExit(2) from None


def can_be_mended(error: Exception) -> bool:
    """Whether the error tells of what was asked for: ours that are for it, a path that cannot be used (a run's own are told as
    its failure), and what Hydra and OmegaConf raise of a config that they cannot compose, which are errors of all kinds."""
    if isinstance(error, OSError):
        return error.filename is not None or isinstance(error, HydraException)
    if isinstance(error, (InvalidValue, DataError, HydraException, OmegaConfBaseException)):
        return True
    modules = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
    last = max((place for place, name in enumerate(modules) if name in _COMPOSING), default=None)
    return last is not None and not any(name.partition(".")[0] in _OURS for name in modules[last:])


def explain(error: BaseException) -> str:
    """One message for an error that can be mended: ours say it themselves, others are said in our words."""
    if isinstance(error, (InvalidValue, DataError)):
        return str(error)
    if isinstance(error, MissingConfigException) and "/" in str(error.missing_cfg_file):
        return str(_no_such_choice(str(error.missing_cfg_file), error.options or []))
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        place = f"{error.filename} cannot be used ({error.strerror})"
        return f"{place}: results go to output=FOLDER, digits come from data.root"
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if isinstance(cause, OmegaConfBaseException) and "not in struct" in str(cause):
        return str(_no_such_key(str(cause.full_key or cause.key), cause.parent_node or {}))
    unmatched = re.match(r"Could not override '([\w/@:.]+)'\. No match in the defaults list", str(error))
    if unmatched:
        (group,) = unmatched.groups()
        return str(InvalidValue(group, _given(group), f"nothing, since this task has no {group} to choose (see --cfg job)"))
    texts = dict.fromkeys([str(error), str(cause)])
    return _with_culprits(re.sub(r"\s+((object|reference)_type=\S+)?", " ", ": ".join(filter(None, texts))).strip())


def _with_culprits(text: str) -> str:
    """The text of Hydra or OmegaConf, with the arguments that it may be about, unless it names them."""
    arguments = [argument for argument in sys.argv[1:] if "=" in argument or argument.startswith("~")]
    interpolated = [argument for argument in arguments if "${" in argument and "nterpolation" in text]
    if not interpolated and any(re.split("[=@]", argument.lstrip("+~"))[0] in text for argument in arguments):
        return text
    return f"{' '.join(interpolated or arguments)} cannot be composed: {text}"


def _no_such_choice(missing: str, options: Iterable[str]) -> InvalidValue:
    """For `missing`, such as "model/azzano/fcn"; groups of Hydra's have their name before the last slash."""
    group, _, name = missing.rpartition("/") if missing.startswith("hydra/") else missing.partition("/")
    return configs.no_such_choice(group, name, _folders(), options)


def _no_such_key(full_key: str, siblings: Iterable) -> InvalidValue:
    """Names the keys that there are and, since each choice of a group has keys of its own, the choices that have this one."""
    section, _, key = full_key.rpartition(".")
    accepted = [str(name) for name in siblings if name not in ("hydra", "_target_")]
    text = f"there is no such key; the keys here are {', '.join(accepted)}" if accepted else "there is no such key, nor any other here"
    names = [name for name in configs.choices(section, _folders()) if "/" not in name] if section else []
    having = [f"{section}={name}" for name in names if key in configs.content(section, name, _folders())]
    if having:
        return InvalidValue(full_key, _given(full_key), f"{text}, and {' or '.join(having)} has {key}")
    return InvalidValue(full_key, _given(full_key), text + did_you_mean(key, accepted))


def _folders() -> list[Path]:
    return configs.folders(sys.argv[1:])


def _given(key: str) -> str:
    """The value that the command line gives the key."""
    return next((argument.partition("=")[2] for argument in sys.argv if argument.lstrip("+").startswith(f"{key}=")), "?")
