"""Objects out of configs: `_target_` names a class, the other keys are its arguments."""

from __future__ import annotations

import contextlib
import functools
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from digitpairs.checks import InvalidValue, did_you_mean


def build(part: Any) -> Any:
    """The object of a config, those of the configs within it first; anything that is no config as it is.

    What `hydra.utils.instantiate` does with plain configs, but that takes a millisecond for each, which a sweep of a
    thousand runs pays five thousand times. Raises InvalidValue for a target that is not there, takes other arguments, or
    fails with these.
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
        raise InvalidValue("_target_", name, "the name of a class, as MODULE.CLASS")
    target = _located(name)
    _check_arguments(target, part)
    with naming_target(name):
        return target(**settings)


@contextlib.contextmanager
def naming_target(name: str) -> Iterator[None]:
    """InvalidValue of `_target_` for whatever the class of that name, which may be the user's own, raises."""
    try:
        yield
    except InvalidValue:
        raise
    except Exception as fault:
        raise InvalidValue("_target_", name, f"what takes these arguments, for it says: {fault}") from fault


def _within(key: str, part: Any) -> Any:
    try:
        return build(part)
    except InvalidValue as fault:
        raise fault.within(key) from None


@functools.cache
def _located(name: str) -> Callable[..., Any]:
    try:
        target = pkgutil.resolve_name(name)
    except Exception as fault:  # a module that is imported may raise anything
        raise InvalidValue("_target_", name, f"a class that can be imported, for Python says: {fault}") from fault
    if not callable(target):
        raise InvalidValue("_target_", name, "a class, or a function that makes an object")
    return target


def _check_arguments(target: Callable[..., Any], part: Mapping[str, Any]) -> None:
    """InvalidValue for a key that is no argument of the target, or for an argument that it needs and is not given."""
    accepted, needed, others = _arguments(target)
    for key in part:
        if key not in accepted and key != "_target_" and not others:
            those = f"one of {', '.join(accepted)}" if accepted else "no key"
            raise InvalidValue(key, part[key], f"{those}, as {part['_target_']} takes{did_you_mean(key, accepted)}")
    for key in needed:
        if key not in part:
            raise InvalidValue(key, "nothing", f"a value, which {part['_target_']} needs")


@functools.lru_cache(maxsize=None)
def _arguments(target: Callable[..., Any]) -> tuple[list[str], list[str], bool]:
    """The names of the arguments, those without a default, and whether it takes any others."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # of a class in C
        return [], [], True
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    needed = [each.name for each in named if each.default is each.empty]
    return [each.name for each in named], needed, any(each.kind == each.VAR_KEYWORD for each in parameters)
