"""The settings of a search, the section `hydra.sweeper` with `hydra/sweeper=optuna`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from digitpairs.checks import MAX_SEED, InvalidValueError, choice, integer, number

SECTION = "hydra.sweeper"
SAMPLERS = ("tpe", "random", "qmc", "cma_es", "nsga2")
PRUNERS = ("halving", "hyperband")
DIRECTIONS = ("minimize", "maximize")
METRIC = {"pairs": "validation/comparison_error", "disk": "validation/error"}  # by task
PARAMETERS = "parameters"  # the size of the network, an objective beside the metrics
# The packages of Optuna and of its samplers, with what installs them.
_PACKAGES = {"optuna": "digitpairs[optuna]", "cma_es": "cmaes", "qmc": "scipy"}
_OLDEST = 4  # the first major version of Optuna that is supported


class Settings(NamedTuple):
    """The checked settings."""

    n_trials: int
    batch_size: int  # trials that are asked for, and trained, at once
    seeds: Sequence[int]  # of each trial
    metrics: Sequence[str]
    directions: Sequence[str]  # of each metric
    sampler: str
    sampler_seed: int
    pruner: str | None
    reduction_factor: int
    min_epochs: int | None
    validation: float  # the share of pairs to hold out, where the config holds out none


def check_installed() -> None:
    """Raise InvalidValueError if Optuna is missing or too old."""
    wanted = f"a sweeper whose package is installed: pip install '{_PACKAGES['optuna']}'"
    if importlib.util.find_spec("optuna") is None:
        raise InvalidValueError("hydra/sweeper", "optuna", wanted)
    version = importlib.metadata.version("optuna")
    if int(version.partition(".")[0]) < _OLDEST:
        accepted = f"{wanted} (Optuna {_OLDEST} or newer, and {version} is installed)"
        raise InvalidValueError("hydra/sweeper", "optuna", accepted)


def settings_of(section: Mapping[str, Any], task: str) -> Settings:
    """The checked settings of the section. Raises InvalidValueError."""
    try:
        return _checked(section, task)
    except InvalidValueError as fault:
        raise fault.within(SECTION) from None


def _checked(section: Mapping[str, Any], task: str) -> Settings:
    metrics = [_metric(name, task) for name in _listed(section["metric"] or METRIC[task])]
    count = integer("seeds", section["seeds"], at_least=1)
    first = integer("first_seed", section["first_seed"], at_most=MAX_SEED - count + 1)
    minimum = section["min_epochs"]
    return Settings(
        n_trials=integer("n_trials", section["n_trials"], at_least=1),
        batch_size=integer("batch_size", section["batch_size"], at_least=2),
        seeds=range(first, first + count),
        metrics=metrics,
        directions=_directions(section["direction"], len(metrics)),
        sampler=_sampler(section["sampler"], len(metrics)),
        sampler_seed=integer("seed", section["seed"], at_most=MAX_SEED),
        pruner=_pruner(section["pruner"], metrics),
        reduction_factor=integer("reduction_factor", section["reduction_factor"], at_least=2),
        min_epochs=None if minimum is None else integer("min_epochs", minimum, at_least=1),
        validation=_share(section["validation"]),
    )


def _metric(name: Any, task: str) -> str:
    """The name if it is one of held-out pairs: a search that sees the test makes it worthless."""
    if name == PARAMETERS or (isinstance(name, str) and name.startswith("validation/")):
        return name
    accepted = f"a metric of the held-out pairs, such as {METRIC[task]}"
    if str(name).startswith("test/"):
        accepted += "; the test is only for the settings that a search has chosen"
    raise InvalidValueError("metric", name, accepted)


def _directions(value: Any, count: int) -> list[str]:
    """A direction for each metric; a single one is for all."""
    directions = [choice("direction", each, DIRECTIONS) for each in _listed(value)]
    if len(directions) not in (1, count):
        raise InvalidValueError("direction", value, f"one direction, or one for each of {count}")
    return directions * (count // len(directions))


def _sampler(value: Any, metrics: int) -> str:
    """The sampler: by default TPE, and NSGA-II for several metrics."""
    name = choice("sampler", value or ("tpe" if metrics == 1 else "nsga2"), SAMPLERS)
    if name == "cma_es" and metrics > 1:
        raise InvalidValueError("sampler", name, "nsga2, tpe, qmc or random for several metrics")
    package = _PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        accepted = f"a sampler whose package is installed: pip install {package}"
        raise InvalidValueError("sampler", name, accepted)
    return name


def _pruner(value: Any, metrics: Sequence[str]) -> str | None:
    if value is None:
        return None
    if len(metrics) > 1 or PARAMETERS in metrics:
        raise InvalidValueError("pruner", value, "null unless there is one metric, of an epoch")
    return choice("pruner", value, PRUNERS)


def _share(value: Any) -> float:
    share = number("validation", value, at_most=1)
    if not 0 < share < 1:
        raise InvalidValueError("validation", value, "a share above 0 and below 1")
    return share


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
