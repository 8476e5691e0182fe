"""The sweeper that Hydra finds here: `hydra/sweeper=optuna`.

Hydra imports this module at every start, also for `--help`: nothing heavy is imported at its top.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from digitpairs.arguments import sweep_overrides
from digitpairs.checks import InvalidValueError, choice
from digitpairs.cli import LAUNCHER
from digitpairs.errors import exit_on_error
from digitpairs.search.settings import METRIC, check_installed, settings_of

if TYPE_CHECKING:
    from digitpairs.search.search import SearchPlan


class Sweeper(HydraSweeper):
    """Searches hyperparameters with Optuna. The settings are checked when the search starts."""

    def __init__(self, **section: Any) -> None:
        """Hydra passes the section `hydra.sweeper`, which `setup` gets as well."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: Sequence[str]) -> None:
        """Run the search. Raises SystemExit unless at least one trial has finished."""
        with exit_on_error():
            plan = self._plan(arguments)
            from digitpairs.search.search import run_search

            status = run_search(plan)
        if status:
            raise SystemExit(status)

    def _plan(self, arguments: Sequence[str]) -> SearchPlan:
        """The checked search. What needs no torch, whose import takes seconds, comes first."""
        config, context = self.config, self.hydra_context
        assert config is not None and context is not None
        check_installed()
        _check_launcher(config)
        section: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
        settings = settings_of(section, choice("task", config.get("task"), METRIC))
        overrides = sweep_overrides(section["params"] or {}, arguments, context.config_loader)
        from digitpairs.search.space import read_space

        space = read_space(overrides)
        from digitpairs.search.search import plan_search

        plan = plan_search(context.config_loader, config, overrides, settings, space)
        note = Path(config.hydra.sweep.dir, "multirun.yaml").expanduser()
        note.parent.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, note)
        return plan


def _check_launcher(config: DictConfig) -> None:
    if config.hydra.launcher.get("_target_") != LAUNCHER:
        chosen = config.hydra.runtime.choices.get("hydra/launcher")
        accepted = "digitpairs with hydra/sweeper=optuna, whose batches train as arrays"
        raise InvalidValueError("hydra/launcher", chosen, accepted)


_NODE = {
    "_target_": "hydra_plugins.digitpairs_search.Sweeper",
    "n_trials": 64,
    "batch_size": 16,  # trials that are asked for, and trained, at once
    "seeds": 3,  # of each trial
    "first_seed": 200,  # so that the final seeds 0, 1, ... are others
    "metric": None,  # None: the error of the held-out pairs; or several
    "direction": "minimize",
    "sampler": None,  # None: tpe, and nsga2 for several metrics
    "seed": 0,  # of the sampler
    "pruner": None,  # or halving, hyperband
    "reduction_factor": 3,  # at each rung one of so many trials goes on
    "min_epochs": None,  # of the first rung; None: a ninth with the factor of 3
    "validation": 0.2,  # held out, unless data.validation or data.folds is set
    "params": None,  # the space, beside the arguments: KEY: "interval(0,1)"
}
ConfigStore.instance().store(
    group="hydra/sweeper", name="optuna", node=_NODE, provider="digitpairs"
)
