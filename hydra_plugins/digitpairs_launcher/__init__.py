"""The sweeper and the launcher that Hydra finds here.

Hydra imports this module at every start, also for `--help`: nothing heavy is imported at its top.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from digitpairs.arguments import expand_sweep
from digitpairs.checks import folder, integer
from digitpairs.cli import check_sweeper, run_and_print_table
from digitpairs.errors import exit_on_error

if TYPE_CHECKING:
    from digitpairs.sweeps.jobs import Job


class Sweeper(BasicSweeper):
    """Hydra's basic sweeper with a limit on the number of runs.

    The next batch is run even if runs of a batch have failed; then the exit status is 1.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        launcher = self.launcher
        if not isinstance(launcher, SweepLauncher):
            launcher = SweepLauncher(launcher)
            launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self._sweep_launcher, self._hydra_config = launcher, config
        self._loader = hydra_context.config_loader

    def sweep(self, arguments: Sequence[str]) -> list[Sequence[JobReturn]]:
        with exit_on_error():
            jobs = self._jobs(arguments)
        returns: list[Sequence[JobReturn]] = []
        for batch in self.split_overrides_to_chunks(jobs, self.max_batch_size):
            returns.append(
                self._sweep_launcher.launch(batch, initial_job_idx=sum(map(len, returns)))
            )
        if any(job.return_value for batch in returns for job in batch):
            raise SystemExit(1)
        return returns

    def _jobs(self, arguments: Sequence[str]) -> list[list[str]]:
        """Each job's overrides. The sweep's settings are checked before a file is written."""
        config = self._hydra_config
        config.output = folder("output", OmegaConf.select(config, "output"))
        max_runs = OmegaConf.select(config, "sweep.max_runs")
        max_runs = integer("sweep.max_runs", max_runs, at_least=1)
        if self.max_batch_size is not None:
            integer("hydra.sweeper.max_batch_size", self.max_batch_size, at_least=1)
        jobs = expand_sweep(self.params, arguments, self._loader, max_runs)
        note = Path(config.hydra.sweep.dir, "multirun.yaml")
        note.parent.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, note)
        return jobs


class SweepLauncher(Launcher):
    """Composes the configs of all jobs, and runs them as one sweep with `digitpairs.sweeps`.

    Each job returns the number of failed runs of its sweep.

    Args:
        other: a launcher that runs each run as a job; None: `digitpairs.sweeps` runs them.
    """

    def __init__(self, other: Launcher | None = None) -> None:
        self.other = other

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        check_sweeper(config.hydra)
        self.loader, self.config = hydra_context.config_loader, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        with exit_on_error():
            from digitpairs.sweeps.compose import compose_sweep
            from digitpairs.sweeps.progress import counted

            requests = compose_sweep(self.loader, self.config, counted(job_overrides, "composed"))
            launch = None
            if self.other is not None:
                launch = functools.partial(_launch_jobs, self.other, job_overrides, initial_job_idx)
            failures = run_and_print_table(requests, launch)
        return [
            JobReturn(overrides, status=JobStatus.COMPLETED, _return_value=failures)
            for overrides in job_overrides
        ]


def _launch_jobs(
    launcher: Launcher,
    overrides: Sequence[Sequence[str]],
    first: int,
    indices: Sequence[int],
    jobs: Sequence[Job],
) -> int:
    """Launch jobs, given their indices in the sweep; returns how many failed.

    `overrides` has the overrides of all jobs of the sweep, `first` Hydra's number of its first job.
    """
    launched = [[*overrides[index], *_folder_of(job)] for index, job in zip(indices, jobs)]
    return sum(job.return_value for job in launcher.launch(launched, first))


def _folder_of(job: Job) -> list[str]:
    """The overrides that make the folder of the job's run Hydra's output folder."""
    paths = {"dir": job.folder.absolute().parent, "subdir": Path(job.folder.name)}
    quoted = {key: QuotedString(str(path), Quote.single) for key, path in paths.items()}
    return [f"hydra.sweep.{key}={text.with_quotes()}" for key, text in quoted.items()]


_NODES = {
    "hydra/launcher": {"_target_": "hydra_plugins.digitpairs_launcher.SweepLauncher"},
    "hydra/sweeper": {
        "_target_": "hydra_plugins.digitpairs_launcher.Sweeper",
        "max_batch_size": None,
        "params": None,
    },
}
for group, node in _NODES.items():
    ConfigStore.instance().store(group=group, name="digitpairs", node=node, provider="digitpairs")
