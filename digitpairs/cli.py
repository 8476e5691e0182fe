"""The command line around Hydra: arguments mended before Hydra sees them, errors in one message, exit statuses.

Exit status 0: all runs finished; 1: a run failed; 2: something that was asked for cannot be had; 130: interrupted. Free of
torch until training starts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from digitpairs.checks import DataError, DigitPairsWarning, InvalidValue, did_you_mean
from digitpairs.terminal import make_output_lasting

CONF = Path(__file__).resolve().parent.parent / "conf"
_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?")
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}  # which the system says without naming a file
_FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's own switch: let exceptions out instead of printing them
_WANTS_TRACEBACKS = os.environ.get(_FULL_ERROR) == "1"


def main() -> None:
    """Run the command of `sys.argv`; leaves by SystemExit unless all is well."""
    make_output_lasting()
    show_own_warnings_plainly()
    with explained_errors():
        sys.argv[1:] = mend_arguments(sys.argv[1:])
        os.environ[_FULL_ERROR] = "1"  # or Hydra would print exceptions itself, and leave with status 1
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_run_once)()


def _run_once(config: DictConfig) -> None:
    """What Hydra calls without -m; with -m it calls the launcher in hydra_plugins."""
    with explained_errors():
        from digitpairs.sweeps import compose_one, run_sweep

        hydra_config = HydraConfig.get()
        sys.exit(run_sweep([compose_one(config, list(hydra_config.overrides.task), hydra_config.runtime.choices.model)]))


def mend_arguments(arguments: list[str]) -> list[str]:
    """The arguments as Hydra 1.3 can read them.

    -m goes to the front, since argparse stops reading overrides at a flag between them; a study gets it where it is missing, since
    Hydra would tell of a sweep without -m, whatever the fault was. `a..b` and `a..b..step` become
    Hydra's range or a list, both ends included. A key given twice is an InvalidValue, since Hydra would silently take
    the last.
    """
    multirun = [argument for argument in arguments if argument in ("-m", "--multirun")]
    rest = [argument for argument in arguments if argument not in multirun]
    if not multirun and not any(argument.startswith("-") for argument in rest) and any(map(_is_study, rest)):
        multirun = ["-m"]
    if multirun and any(argument in ("--cfg", "-c") or argument.startswith("--cfg=") for argument in rest):
        raise InvalidValue("--cfg", "job", "only without -m, since it shows a single config")
    refuse_duplicates(rest)
    return multirun[:1] + [expand_range(argument) for argument in rest]


def _is_study(argument: str) -> bool:
    """Whether it chooses an experiment that has a grid of its own."""
    key, _, value = argument.partition("=")
    path = CONF / "experiment" / f"{value}.yaml"
    return key == "experiment" and path.is_file() and yaml.safe_load(path.read_text("utf-8")).get("hydra", {}).get("mode") == "MULTIRUN"


def refuse_duplicates(arguments: list[str]) -> None:
    """InvalidValue for a key that has two overrides."""
    pairs = [argument.lstrip("+").split("=", 1) for argument in arguments if "=" in argument and not argument.startswith("-")]
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            values = ",".join(value for other, value in pairs if other == key)
            raise InvalidValue(
                key, values, f"one value a key, and it was given {count} times; for a sweep write {key}=a,b,c or {key}=0..9, and -m"
            )


def expand_range(argument: str) -> str:
    """`key=0..9` -> `key=range(0,10)`; ranges with decimals, or in a list, -> `key=0.5,0.6,0.7`; else unchanged."""
    key, equals, value = argument.partition("=")
    items = value.split(",")
    if argument.startswith("-") or not any(_RANGE.fullmatch(item) for item in items):
        return argument
    if len(items) == 1 and not re.search(r"[eE]|\d\.\d", value):
        first, last, step = _ends(key, value)
        return f"{key}{equals}range({first},{last + 1}{f',{step}' if step != 1 else ''})"
    numbers = [number for item in items for number in _range_numbers(key, item)]
    return f"{key}{equals}{','.join(numbers)}"


def _range_numbers(key: str, item: str) -> list[str]:
    if not _RANGE.fullmatch(item):
        return [item]
    first, last, step = _ends(key, item)
    return [format(first + step * i, "f") for i in range(int((last - first) / step) + 1)]


def _ends(key: str, item: str) -> tuple[Decimal, Decimal, Decimal]:
    first, last, step = (Decimal(part or "1") for part in _RANGE.fullmatch(item).groups())
    if last < first or step <= 0:
        raise InvalidValue(key.lstrip("+"), item, "a range first..last or first..last..step that goes up")
    return first, last, step


@contextlib.contextmanager
def explained_errors() -> Iterator[None]:
    """Turns what the user can mend into one message on stderr and exit status 2; lets faults of ours out whole.

    With HYDRA_FULL_ERROR=1 in the environment everything is let out.
    """
    try:
        yield
    except (InvalidValue, DataError, HydraException, OmegaConfBaseException) as error:
        if _WANTS_TRACEBACKS:
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:  # a sweep has said how far it came
        raise SystemExit(130) from None
    except OSError as error:  # a run's own are told as its failure
        if _WANTS_TRACEBACKS or (error.filename is None and error.errno not in _OF_THE_DISK):
            raise
        place = f"{error.filename or 'a file'} cannot be used ({error.strerror})"
        print(f"error: {place}: results go to output=FOLDER, digits come from data.root", file=sys.stderr)
        raise SystemExit(2) from None


def explain(error: BaseException) -> str:
    """One message for an error of the config: ours say it themselves, Hydra's and OmegaConf's are said in our words."""
    if isinstance(error, MissingConfigException) and "/" in str(error.missing_cfg_file):
        return str(_no_such_choice(str(error.missing_cfg_file), error.options or []))
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if isinstance(cause, OmegaConfBaseException) and "not in struct" in str(cause):
        return str(_no_such_key(str(cause.full_key or cause.key), cause.parent_node or {}))
    unmatched = re.match(r"Could not override '(\w+)'\. No match in the defaults list", str(error))
    if unmatched:
        (group,) = unmatched.groups()
        return str(InvalidValue(group, _given(group), f"nothing, since this task has no {group} to choose (see --cfg job)"))
    return "\n  ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _no_such_choice(missing: str, options: Iterable[str]) -> InvalidValue:
    """Names the choices that the group of `missing`, as "model/azzano/fcn", has; of one in a folder, that folder's."""
    group, _, name = missing.rpartition("/") if missing.startswith("hydra/") else missing.partition("/")
    root = CONF / group
    names = [str(path.relative_to(root).with_suffix("")) for path in [*sorted(root.glob("*.yaml")), *sorted(root.glob("*/*.yaml"))]]
    choices = [choice for choice in names if not choice.startswith("shared/")] or list(options)
    beside = [choice for choice in choices if "/" in name and choice.startswith(f"{name.partition('/')[0]}/")]
    return InvalidValue(group, name, f"one of {', '.join(beside or choices)}{did_you_mean(name, choices)}")


def _no_such_key(full_key: str, siblings: Iterable) -> InvalidValue:
    """Names the keys that there are and, since each choice of a group has keys of its own, the choices that have this one."""
    section, _, key = full_key.rpartition(".")
    accepted = [str(name) for name in siblings if name not in ("hydra", "_target_")]
    text = f"there is no such key; the keys here are {', '.join(accepted)}" if accepted else "there is no such key, nor any other here"
    choices = [path.stem for path in sorted((CONF / section).glob("*.yaml")) if key in yaml.safe_load(path.read_text("utf-8"))]
    if section and choices:
        return InvalidValue(full_key, _given(full_key), f"{text}, and {' or '.join(f'{section}={name}' for name in choices)} has {key}")
    return InvalidValue(full_key, _given(full_key), text + did_you_mean(key, accepted))


def _given(key: str) -> str:
    """The value that the command line gives the key."""
    return next((argument.partition("=")[2] for argument in sys.argv if argument.lstrip("+").startswith(f"{key}=")), "?")


def show_own_warnings_plainly() -> None:
    """Ours as one line each, once a command, however many runs give it."""
    show, shown = warnings.showwarning, set()

    def show_plainly(message, category, *place) -> None:
        if issubclass(category, DigitPairsWarning):
            if str(message) in shown:
                return
            shown.add(str(message))
            print(f"warning: {message}", file=sys.stderr)
        else:
            show(message, category, *place)

    warnings.showwarning = show_plainly
