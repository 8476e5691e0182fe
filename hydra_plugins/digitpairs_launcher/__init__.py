"""The doorway through which Hydra finds the project's sweeper and launcher: `-m` hands them all jobs of a sweep at once.

Hydra imports this module at every start, `--help` included: nothing heavy may be imported at its top.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Sweeper(BasicSweeper):
    """Hydra's own, but that it does not compose every job once more to see whether it can be: the launcher composes them all
    before any of them trains."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        pass


class SweepLauncher(Launcher):
    """Composes every job's config before any of them trains, then gives them to `digitpairs.sweeps` as one sweep."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from digitpairs.cli import explained_errors

        with explained_errors():
            from digitpairs.sweeps import compose_sweep, run_sweep

            status = run_sweep(compose_sweep(self.hydra_context.config_loader, self.config, job_overrides))
        if status:
            raise SystemExit(status)
        return [JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED) for overrides in job_overrides]


for group, node in {
    "hydra/launcher": {"_target_": "hydra_plugins.digitpairs_launcher.SweepLauncher"},
    "hydra/sweeper": {"_target_": "hydra_plugins.digitpairs_launcher.Sweeper", "max_batch_size": None, "params": None},
}.items():
    ConfigStore.instance().store(group=group, name="digitpairs", node=node, provider="digitpairs")
