"""Where Hydra finds the project's sweeper and launcher.

Hydra imports this module at every start, `--help` included: nothing heavy is imported at its top.
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
from digitpairs.cli import check_sweeper
from digitpairs.errors import exit_on_error

if TYPE_CHECKING:
    from digitpairs.sweeps.jobs import Job


class Sweeper(BasicSweeper):
    """Hydra's basic sweeper, with a limit of the number of runs. Failed runs of a batch do not keep
    it from the next batch; the exit status tells of them in the end.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        parts = {"hydra_context": hydra_context, "task_function": task_function, "config": config}
        super().setup(**parts)
        if not isinstance(self.launcher, SweepLauncher):
            self.launcher = SweepLauncher(self.launcher)
            self.launcher.setup(**parts)

    def sweep(self, arguments: Sequence[str]) -> list[Sequence[JobReturn]]:
        with exit_on_error():
            jobs = self._jobs(arguments)
        returns: list[Sequence[JobReturn]] = []
        for batch in self.split_overrides_to_chunks(jobs, self.max_batch_size):
            returns.append(self.launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
        if any(each.return_value for batch in returns for each in batch):
            raise SystemExit(1)
        return returns

    def _jobs(self, arguments: Sequence[str]) -> list[list[str]]:
        """Each job's overrides. The sweep's settings are checked before a file is written."""
        self.config.output = folder("output", OmegaConf.select(self.config, "output"))
        most = integer(
            "sweep.max_runs", OmegaConf.select(self.config, "sweep.max_runs"), at_least=1
        )
        if self.max_batch_size is not None:
            integer("hydra.sweeper.max_batch_size", self.max_batch_size, at_least=1)
        jobs = expand_sweep(self.params, arguments, self.hydra_context.config_loader, most)
        note = Path(self.config.hydra.sweep.dir, "multirun.yaml")
        note.parent.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, note)
        return jobs


class SweepLauncher(Launcher):
    """Composes every job's config before any of them trains, then gives them to `digitpairs.sweeps`
    as one sweep. Each job returns the number of failed runs of its sweep.

    Args:
        other: the launcher that carries out the runs, each as a job; None is `digitpairs.sweeps`.
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
            from digitpairs.sweeps import compose_sweep, counted, run_sweep

            asked = compose_sweep(self.loader, self.config, counted(job_overrides, "composed"))
            elsewhere = functools.partial(self._carry_out, job_overrides, initial_job_idx)
            failed = run_sweep(asked, elsewhere if self.other else None)
        return [
            JobReturn(each, status=JobStatus.COMPLETED, _return_value=failed)
            for each in job_overrides
        ]

    def _carry_out(
        self,
        overrides: Sequence[Sequence[str]],
        first: int,
        places: Sequence[int],
        jobs: Sequence[Job],
    ) -> int:
        """Gives the jobs in these places to the other launcher; returns how many runs failed."""
        given = [[*overrides[place], *_folder_of(job)] for place, job in zip(places, jobs)]
        return sum(each.return_value for each in self.other.launch(given, first))


def _folder_of(job: Job) -> list[str]:
    """The overrides that make the folder of the job's run Hydra's output folder."""
    where = {"dir": job.folder.absolute().parent, "subdir": Path(job.folder.name)}
    quoted = {key: QuotedString(str(path), Quote.single) for key, path in where.items()}
    return [f"hydra.sweep.{key}={text.with_quotes()}" for key, text in quoted.items()]


for group, node in {
    "hydra/launcher": {"_target_": "hydra_plugins.digitpairs_launcher.SweepLauncher"},
    "hydra/sweeper": {
        "_target_": "hydra_plugins.digitpairs_launcher.Sweeper",
        "max_batch_size": None,
        "params": None,
    },
}.items():
    ConfigStore.instance().store(group=group, name="digitpairs", node=node, provider="digitpairs")
