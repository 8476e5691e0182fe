"""Lightning's callbacks in a run: the section `callbacks`."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from digitpairs.checks import InvalidValueError, choice
from digitpairs.engines.base import Section
from digitpairs.engines.lightning_trainer import make_trainer
from digitpairs.engines.named_parts import build_parts, named_parts, try_parts


def make_callbacks(config: Section) -> list[pl.Callback]:
    """The callbacks of a run."""
    return build_parts(config, "callbacks", pl.Callback)


def check_callbacks(config: Section, held_out: int, metrics: tuple[str, ...]) -> None:
    """Checks the callbacks of a run whose rows have these metrics.

    Raises InvalidValueError for a class that is no callback, for a monitored metric that the run
    does not have, and for callbacks that Lightning's Trainer refuses.
    """
    callbacks = try_parts(config, "callbacks", pl.Callback)
    if not callbacks:
        return
    for (name, part), callback in zip(named_parts(config, "callbacks").items(), callbacks):
        monitor = part.get("monitor", getattr(callback, "monitor", None))
        _check_monitor(f"callbacks.{name}.monitor", monitor, held_out, metrics)
    try:
        make_trainer(config["trainer"], callbacks=callbacks)
    except Exception as fault:  # Lightning's Trainer raises errors of many kinds
        names = ", ".join(named_parts(config, "callbacks"))
        accepted = f"callbacks that Lightning's Trainer takes, but it raises: {fault}"
        raise InvalidValueError("callbacks", names, accepted) from fault


def refuse_callbacks(config: Section) -> None:
    """Raises InvalidValueError for any callback: for engines that do not train with Lightning."""
    names = named_parts(config, "callbacks")
    if names:
        accepted = "none with engine=framework, which trains without Lightning's Trainer"
        raise InvalidValueError("callbacks", ", ".join(names), accepted)


def why_callbacks_alone(config: Section) -> str | None:
    """The reason for which the callbacks keep a run from being stacked; None without any."""
    names = ", ".join(named_parts(config, "callbacks"))
    return f"callbacks: Lightning calls {names} for one run" if names else None


def _check_monitor(key: str, monitor: Any, held_out: int, metrics: tuple[str, ...]) -> None:
    """Checks a metric of the run; a callback can also monitor what another one logs."""
    if not isinstance(monitor, str) or not monitor.startswith(("train/", "validation/")):
        return
    choice(key, monitor, metrics)
    if monitor.startswith("validation/") and not held_out:
        accepted = (
            "a metric of the training, such as train/loss, unless data.validation=0.2 or "
            "data.folds holds rows out"
        )
        raise InvalidValueError(key, monitor, accepted)
