"""Objects from configs: `_target_` names a class, and the other keys are its arguments."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from digitpairs.checks import InvalidValueError, suggestion
from digitpairs.networks import Ensemble, create
from digitpairs.streams import stream
from digitpairs.targets import (
    SPECIAL_KEYS,
    exception_message,
    import_target,
    is_built_in,
    target_arguments,
)


def build(part: Any) -> Any:
    """The object of a config, whose nested configs are built first; other values as they are.

    `_args_` lists arguments by place. With `_partial_: true` the object is a `functools.partial`,
    which is called with the rest of the arguments; this is the default for torch's optimisers and
    schedulers, whose parameters or optimiser are known later. `hydra.utils.instantiate` does the
    same, but takes a millisecond for each config, and each run of a sweep has five.

    Raises InvalidValueError for a target that does not exist, takes other arguments, or fails with
    these.
    """
    if isinstance(part, list):
        return [build(item) for item in part]
    if not isinstance(part, Mapping):
        return part
    settings = {key: _within(key, value) for key, value in part.items() if key != "_target_"}
    if "_target_" not in part:
        return settings
    places, is_partial = settings.pop("_args_", []), settings.pop("_partial_", None)
    name = part["_target_"]
    if not isinstance(name, str):
        raise InvalidValueError("_target_", name, "the name of a class, as MODULE.CLASS")
    target = import_target(name)
    if is_partial is None:
        is_partial = _is_completed_later(target)
    _check_arguments(name, part, is_partial or bool(places))
    with naming_target(name):
        if is_partial:
            return functools.partial(target, *places, **settings)
        return target(*places, **settings)


def build_network(
    network: nn.Module | Mapping[str, Any], weights_seed: int, ensemble_size: int = 1
) -> nn.Module:
    """The network of a config, with initial weights from the seed; a network as it is.

    With an `ensemble_size` above 1, an `Ensemble` of as many networks. Their weights are drawn one
    after another from the same stream, so that the first has those of the network alone. Raises
    InvalidValueError for a network that is no config.
    """
    if not isinstance(network, Mapping):
        if ensemble_size > 1:
            accepted = "1 with a network object, or digitpairs.networks.Ensemble of several as it"
            raise InvalidValueError("ensemble_size", ensemble_size, accepted)
        return network
    weights, by_constructor = stream(weights_seed, "weights"), not is_built_in(network)
    networks: list[nn.Module] = []
    for number in range(ensemble_size):
        if number and by_constructor:  # constructors get a seed that is not drawn, but copied
            torch.randint(2**62, (), generator=weights, device="cpu")
        networks.append(create(lambda: build(network), weights, by_constructor=by_constructor))
    return networks[0] if ensemble_size == 1 else Ensemble(networks)


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


def _is_completed_later(target: Callable[..., Any]) -> bool:
    return isinstance(target, type) and issubclass(target, (Optimizer, LRScheduler))


def _check_arguments(name: str, part: Mapping[str, Any], may_lack: bool) -> None:
    """Raises InvalidValueError for a key that is no argument of the target, or a missing one."""
    arguments = target_arguments(name)
    for key in part:
        if key not in SPECIAL_KEYS and not arguments.accept(key):
            keys = f"one of {', '.join(arguments.names)}" if arguments.names else "no key"
            hint = suggestion(key, arguments.names)
            raise InvalidValueError(key, part[key], f"{keys}, as {name} takes{hint}")
    for key in arguments.required:
        if key not in part and not may_lack:
            raise InvalidValueError(key, "nothing", f"a value, which {name} needs")
