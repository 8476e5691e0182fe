"""The settings of each run that TensorBoard shows as columns of HPARAMS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from digitpairs.dashboard.events import Setting
from digitpairs.names import flat, plain_value, varied_settings, without_seeds
from digitpairs.sweeps.compose import JobRequest


def shown_settings(
    requests: Sequence[JobRequest],
    configs: Sequence[Mapping[str, Any]],
    configurations: Sequence[str],
) -> list[dict[str, Setting]]:
    """For each job its model, its seed, the settings that were typed, and those that vary.

    Numbers are numbers; a choice of a config group is its name; lists are text. Settings that some
    of the jobs lack are left out: TensorBoard's parallel coordinates show no run without a value.

    Args:
        requests: of the jobs.
        configs: of the jobs.
        configurations: equal for jobs that differ in nothing but the seed.
    """
    first = {name: job for job, name in reversed(list(enumerate(configurations)))}
    settings = {name: flat(without_seeds(configs[job])) for name, job in first.items()}
    varied = [
        key for key in varied_settings(list(settings.values())) if not key.endswith("_target_")
    ]
    rows = {
        name: {"model": requests[job].origin.choices["model"]}
        | _typed(requests[job], settings[name])
        | _present({key: settings[name].get(key) for key in varied})
        for name, job in first.items()
    }
    shared = set.intersection(*map(set, rows.values()))
    shown = {
        name: {key: value for key, value in row.items() if key in shared}
        for name, row in rows.items()
    }
    return [shown[name] | {"seed": config["seed"]} for name, config in zip(configurations, configs)]


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
