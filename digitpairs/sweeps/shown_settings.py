"""The settings of each run that TensorBoard shows as columns of HPARAMS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from digitpairs.dashboard.events import Setting
from digitpairs.names import flat, plain_value, varied_settings, without_seeds
from digitpairs.sweeps.compose import JobRequest


def shown_settings(
    requests: Sequence[JobRequest], configs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Setting]]:
    """For each job its model, its seed, the settings that were typed, and those that vary.

    Numbers are numbers; a choice of a config group is its name; lists are text. Settings that some
    of the jobs lack are left out: TensorBoard's parallel coordinates show no run without a value.
    """
    settings = [flat(without_seeds(config)) for config in configs]
    varied = [key for key in varied_settings(settings) if not key.endswith("_target_")]
    rows = [
        {"model": request.origin.choices["model"]}
        | _typed(request, own)
        | _present({key: own.get(key) for key in varied})
        | {"seed": config["seed"]}
        for request, own, config in zip(requests, settings, configs)
    ]
    shared = set.intersection(*(set(row) for row in rows))
    return [{key: value for key, value in row.items() if key in shared} for row in rows]


def _typed(request: JobRequest, settings: Mapping[str, Any]) -> dict[str, Setting]:
    """The settings of the command line, with their values from the config."""
    typed = {}
    for override in request.origin.overrides:
        key, _, text = override.lstrip("+").partition("=")
        typed[key] = settings.get(key, text)
    return _present(typed)


def _present(settings: Mapping[str, Any]) -> dict[str, Setting]:
    """The values as `plain_value`, without null."""
    values = {key: plain_value(value) for key, value in settings.items()}
    return {key: value for key, value in values.items() if value is not None}
