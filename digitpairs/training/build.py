"""Objects out of configs: `_target_` names a class, the other keys are its arguments."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from digitpairs.checks import InvalidValueError, suggestion
from digitpairs.targets import exception_message, import_target, target_arguments


def build(part: Any) -> Any:
    """The object of a config, after those of the configs within it; anything else as it is.

    `hydra.utils.instantiate` does the same with plain configs in a millisecond each, which a sweep
    of a thousand runs needs five thousand times. Raises InvalidValueError for a target that does not
    exist, takes other arguments, or fails with these.
    """
    if isinstance(part, list):
        return [build(each) for each in part]
    if not isinstance(part, Mapping):
        return part
    settings = {key: _within(key, value) for key, value in part.items() if key != "_target_"}
    if "_target_" not in part:
        return settings
    name = part["_target_"]
    if not isinstance(name, str):
        raise InvalidValueError("_target_", name, "the name of a class, as MODULE.CLASS")
    target = import_target(name)
    _check_arguments(name, part)
    with naming_target(name):
        return target(**settings)


@contextlib.contextmanager
def naming_target(name: str) -> Iterator[None]:
    """Raises InvalidValueError for any exception of the class of that name, which may be the user's."""
    try:
        yield
    except InvalidValueError:
        raise
    except Exception as error:  # a class of the user's own may raise anything
        accepted = f"a class that accepts these arguments: {exception_message(error)}"
        raise InvalidValueError("_target_", name, accepted) from error


def _within(key: str, part: Any) -> Any:
    try:
        return build(part)
    except InvalidValueError as fault:
        raise fault.within(key) from None


def _check_arguments(name: str, part: Mapping[str, Any]) -> None:
    """Raises InvalidValueError for a key that is no argument of the target, and for an argument without
    a default that is not given.
    """
    arguments = target_arguments(name)
    accepted = arguments.names
    for key in part:
        if key != "_target_" and not arguments.accept(key):
            those = f"one of {', '.join(accepted)}" if accepted else "no key"
            hint = suggestion(key, accepted)
            raise InvalidValueError(key, part[key], f"{those}, as {name} takes{hint}")
    for key in arguments.required:
        if key not in part:
            raise InvalidValueError(key, "nothing", f"a value, which {name} needs")
