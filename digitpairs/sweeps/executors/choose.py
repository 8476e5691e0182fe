"""The choice of the executor by the settings of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from digitpairs.sweeps.executors import ray, slurm
from digitpairs.sweeps.executors.base import Executor
from digitpairs.sweeps.executors.local import LocalExecutor
from digitpairs.sweeps.executors.settings import check_executor
from digitpairs.sweeps.jobs import Job
from digitpairs.sweeps.plan import Plan, Settings


class Site(NamedTuple):
    """Where a sweep's pieces can be trained."""

    capacity: int | None  # pieces at once; None: as many as the cores of this machine allow
    start: Callable[[Plan], Executor]


def reach(settings: Settings) -> None:
    """Raise InvalidValueError, within seconds, if the executor is not installed or not reached."""
    check_executor(settings.executor)
    if settings.executor == "ray":
        ray.reach(settings.ray)
    elif settings.executor == "slurm":
        slurm.reach(settings.slurm)


def settle(settings: Settings, sweep: Path) -> bool:
    """Close what earlier commands have left to an executor; returns whether there was anything.

    Raises InvalidValueError if another executor may still train runs of the sweep.
    """
    had_submissions = slurm.settle_submissions(sweep)
    slurm.refuse_submissions(sweep, settings.executor)
    return had_submissions


def find_site(settings: Settings, jobs: Sequence[Job]) -> Site:
    """The site of the settings. Raises InvalidValueError if it cannot run these jobs."""
    threads = settings.threads or 1
    if settings.executor == "ray":
        cluster = ray.find_cluster(settings.ray, jobs, threads)
        return Site(
            cluster.tasks, lambda plan: ray.RayExecutor(cluster, plan.processes, plan.threads)
        )
    if settings.executor == "slurm":
        sweep, arguments = jobs[0].folder.parent.parent, settings.slurm
        return Site(
            slurm.jobs_at_once(arguments, threads),
            lambda plan: slurm.SlurmExecutor(arguments, plan.processes, plan.threads, sweep),
        )
    return Site(None, start_local)


def start_local(plan: Plan) -> Executor:
    """The executor of this machine."""
    return LocalExecutor(plan.processes, plan.threads)
