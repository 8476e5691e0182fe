"""Objects from configs: `_target_` names a class, and the other keys are its arguments."""

from __future__ import annotations

import contextlib
import functools
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from digitpairs.checks import InvalidValueError, suggestion
from digitpairs.networks import create
from digitpairs.streams import stream


def build(part: Any) -> Any:
    """The object of a config, whose nested configs are built first; other values as they are.

    `hydra.utils.instantiate` does the same, but takes a millisecond for each config, and each run
    of a sweep has five. Raises InvalidValueError for a target that does not exist, takes other
    arguments, or fails with these.
    """
    if isinstance(part, list):
        return [build(item) for item in part]
    if not isinstance(part, Mapping):
        return part
    settings = {key: _within(key, value) for key, value in part.items() if key != "_target_"}
    if "_target_" not in part:
        return settings
    name = part["_target_"]
    if not isinstance(name, str):
        raise InvalidValueError("_target_", name, "the name of a class, as MODULE.CLASS")
    target = _import_target(name)
    _check_arguments(name, part)
    with naming_target(name):
        return target(**settings)


def build_network(network: nn.Module | Mapping[str, Any], weights_seed: int) -> nn.Module:
    """The network of a config, with initial weights from the seed; a network as it is."""
    if not isinstance(network, Mapping):
        return network
    return create(lambda: build(network), stream(weights_seed, "weights"))


@contextlib.contextmanager
def naming_target(name: str) -> Iterator[None]:
    """Raises InvalidValueError for any exception of the class of this name."""
    try:
        yield
    except InvalidValueError:
        raise
    except Exception as fault:  # a user's class may raise anything
        accepted = f"a class that takes these arguments (its error: {fault})"
        raise InvalidValueError("_target_", name, accepted) from fault


def _within(key: str, part: Any) -> Any:
    try:
        return build(part)
    except InvalidValueError as fault:
        raise fault.within(key) from None


@functools.cache
def _import_target(name: str) -> Callable[..., Any]:
    try:
        target = pkgutil.resolve_name(name)
    except Exception as fault:  # a user's module may raise anything
        accepted = f"a class that can be imported (Python's error: {fault})"
        raise InvalidValueError("_target_", name, accepted) from fault
    if not callable(target):
        raise InvalidValueError("_target_", name, "a class, or a function that makes an object")
    return target


def _check_arguments(name: str, part: Mapping[str, Any]) -> None:
    """Raises InvalidValueError for a key that is no argument of the target, or a missing one."""
    accepted, required, takes_others = _arguments(name)
    for key in part.keys() - {"_target_", *accepted}:
        if not takes_others:
            keys = f"one of {', '.join(accepted)}" if accepted else "no key"
            hint = suggestion(key, accepted)
            raise InvalidValueError(key, part[key], f"{keys}, as {name} takes{hint}")
    for key in required:
        if key not in part:
            raise InvalidValueError(key, "nothing", f"a value, which {name} needs")


@functools.cache
def _arguments(name: str) -> tuple[list[str], list[str], bool]:
    """The target's named arguments, those without a default, and whether it takes any other."""
    try:
        parameters = inspect.signature(_import_target(name)).parameters.values()
    except (TypeError, ValueError):  # a class in C has no signature
        return [], [], True
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [parameter for parameter in parameters if parameter.kind in kinds]
    required = [parameter.name for parameter in named if parameter.default is parameter.empty]
    takes_others = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)
    return [parameter.name for parameter in named], required, takes_others
