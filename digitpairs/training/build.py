"""Objects from configs: `_target_` names a class, and the other keys are its arguments."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from digitpairs.checks import InvalidValueError, suggestion
from digitpairs.networks import create
from digitpairs.streams import stream
from digitpairs.targets import exception_message, import_target, target_arguments


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
    target = import_target(name)
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
    except Exception as error:  # a user's class may raise anything
        accepted = f"a class that accepts these arguments: {exception_message(error)}"
        raise InvalidValueError("_target_", name, accepted) from error


def _within(key: str, part: Any) -> Any:
    try:
        return build(part)
    except InvalidValueError as fault:
        raise fault.within(key) from None


def _check_arguments(name: str, part: Mapping[str, Any]) -> None:
    """Raises InvalidValueError for a key that is no argument of the target, or a missing one."""
    arguments = target_arguments(name)
    for key in part:
        if key != "_target_" and not arguments.accept(key):
            keys = f"one of {', '.join(arguments.names)}" if arguments.names else "no key"
            hint = suggestion(key, arguments.names)
            raise InvalidValueError(key, part[key], f"{keys}, as {name} takes{hint}")
    for key in arguments.required:
        if key not in part:
            raise InvalidValueError(key, "nothing", f"a value, which {name} needs")
