"""The doorway through which Hydra finds the project's launcher: `-m` hands it all jobs of a sweep at once.

Hydra imports this module at every start, `--help` included: nothing heavy may be imported at its top.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SweepLauncher(Launcher):
    """Composes every job's config before any of them trains, then gives them to `digitpairs.sweeps` as one sweep."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from digitpairs.cli import explained_errors

        with explained_errors():
            from digitpairs.sweeps import Asked, run_sweep

            compose = self.hydra_context.config_loader.load_sweep_config
            configs = [compose(self.config, list(overrides)) for overrides in job_overrides]
            asked_for = [Asked(*each, each[0].hydra.runtime.choices.model) for each in zip(configs, job_overrides)]
            status = run_sweep(asked_for)
        if status:
            raise SystemExit(status)
        return [JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED) for overrides in job_overrides]


ConfigStore.instance().store(
    group="hydra/launcher",
    name="digitpairs",
    node={"_target_": "hydra_plugins.digitpairs_launcher.SweepLauncher"},
    provider="digitpairs",
)
