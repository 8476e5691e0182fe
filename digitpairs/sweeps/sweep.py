"""A sweep: checks all jobs, leaves finished runs alone, and runs the others by a plan.

A single run is a sweep of one. If a run fails, the others go on.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from digitpairs import files
from digitpairs.checks import InvalidValueError
from digitpairs.names import Names, display_names
from digitpairs.sweeps.check import Checker
from digitpairs.sweeps.compose import JobRequest
from digitpairs.sweeps.executors.base import Executor
from digitpairs.sweeps.executors.choose import find_site, reach, settle, start_local
from digitpairs.sweeps.finished import is_finished, unfinished_jobs
from digitpairs.sweeps.jobs import Job, plan_jobs
from digitpairs.sweeps.listener import SweepListener, write_means
from digitpairs.sweeps.lock import sweep_lock
from digitpairs.sweeps.plan import Plan, Settings, make_plan, plural, settings_of
from digitpairs.sweeps.progress import counted
from digitpairs.sweeps.provenance import provenance
from digitpairs.sweeps.run import array_failure, fail, run_jobs
from digitpairs.terminal import make_console

# Runs jobs, given their indices in the sweep, by another launcher; returns how many failed.
LaunchJobs = Callable[[Sequence[int], Sequence[Job]], int]


class SweepOutcome(NamedTuple):
    """What a sweep has left."""

    folder: Path
    runs: list[Path]  # the folders of all runs, finished or not
    names: Names  # of the configurations
    failures: int  # the number of runs that failed in this launch


def run_sweep(
    requests: Sequence[JobRequest],
    launch: LaunchJobs | None = None,
    folder: str | None = None,
    until: int | None = None,
) -> SweepOutcome:
    """Run the jobs that are not finished, by a plan or, if given, by `launch`.

    With `folder` and `until`, see `plan_jobs`.

    Raises InvalidValueError or DataError, before anything is trained, if any of the jobs cannot be
    run; KeyboardInterrupt after printing how many runs are finished.
    """
    settings = _settings(requests)
    if launch is not None and settings.executor != "local":
        accepted = "local with another launcher of Hydra's (hydra/launcher)"
        raise InvalidValueError("sweep.executor", settings.executor, accepted)
    reach(settings)
    provenance()  # the code may change before the first result is written
    with torch_threads(1):  # until the processes are forked, see workers.py
        jobs = plan_jobs(requests, folder, until)
        checker = Checker()
        keys = [checker.check(job.config) for job in counted(jobs, "checked")]
        names = names_of(jobs)
        sweep = jobs[0].folder.parent.parent
        with sweep_lock(sweep):
            ran_unattended = settle(settings, sweep)
            unfinished = unfinished_jobs(jobs)
            if ran_unattended:
                write_means([job for index, job in enumerate(jobs) if index not in unfinished])
            _report_damage(unfinished)
            alone = [checker.why_alone(jobs[i].config) for i in unfinished if keys[i] is None]
            failures = _run_unfinished(jobs, list(unfinished), keys, alone, settings, names, launch)
    return SweepOutcome(sweep, [job.folder for job in jobs], names, failures)


def run_alone(request: JobRequest, folder: Path) -> int:
    """Run a job of another launcher, with its files in the folder; returns how many runs failed."""
    (job,) = plan_jobs([request])
    job = job._replace(folder=folder, configuration=folder.parent.name)
    plan = Plan([[0]], 0, _settings([request]).threads or 1)
    return execute_plan([job], plan, make_console(), names_of([job]).of)


def execute_plan(
    jobs: Sequence[Job],
    plan: Plan,
    console: Console,
    names: Mapping[str, str],
    sweep: Path | None = None,
    finished: Sequence[Job] = (),
    start: Callable[[Plan], Executor] = start_local,
) -> int:
    """Run the jobs as planned; returns how many failed.

    Args:
        jobs: the jobs to run.
        plan: which of them train together, and where.
        console: where progress is shown.
        names: the configurations' display names.
        sweep: the sweep's folder; None for a job of another launcher.
        finished: the jobs of the sweep that were finished before.
        start: starts the executor of the pieces.
    """
    with SweepListener(jobs, finished, names, console, sweep) as listener:
        try:
            if plan.processes:
                with contextlib.closing(start(plan)) as executor:
                    _run_by(executor, jobs, plan.pieces, listener)
            else:
                _run_here(jobs, plan, listener)
        except KeyboardInterrupt:
            counts = f"{sum(map(is_finished, jobs))} of {len(jobs)} runs finished"
            listener.note(f"interrupted: {counts}; the same command goes on with the rest")
            raise
        return len(listener.state.failed)


def names_of(jobs: Sequence[Job]) -> Names:
    """The display names of the jobs' configurations, by their folders' names."""
    configurations = {job.configuration: job for job in jobs}
    return display_names(
        {folder: job.config for folder, job in configurations.items()},
        {folder: job.origin for folder, job in configurations.items()},
    )


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of threads of torch's operations in this process, and restore it after."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run_unfinished(
    jobs: Sequence[Job],
    unfinished: Sequence[int],
    keys: Sequence[Any],
    alone: Sequence[str | None],
    settings: Settings,
    names: Names,
    launch: LaunchJobs | None,
) -> int:
    """Run the jobs with these indices; returns how many failed.

    `alone` has the reasons for which some of them can only train alone.
    """
    console = make_console()
    count = plural(len(jobs), "run")
    if not unfinished:
        console.print(f"{count}, all finished before", highlight=False)
        return 0
    if len(unfinished) < len(jobs):
        count += f", {len(jobs) - len(unfinished)} finished before, {len(unfinished)} to do"
    rest = [jobs[index] for index in unfinished]
    if launch is not None:
        console.print(f"{count}: by Hydra's launcher, a run a job", soft_wrap=True, highlight=False)
        return launch(unfinished, rest)
    site = find_site(settings, rest)
    settings = settings._replace(processes=settings.processes or site.capacity)
    plan = make_plan(rest, [keys[index] for index in unfinished], settings)
    reasons = "; ".join(dict.fromkeys(filter(None, alone))) if len(rest) > 1 else ""
    line = f"{count}: {plan}" + (f"; not stacked: {reasons}" if reasons else "")
    console.print(line, soft_wrap=True, highlight=False, markup=False)
    chosen = set(unfinished)
    finished = [job for index, job in enumerate(jobs) if index not in chosen]
    sweep = jobs[0].folder.parent.parent
    return execute_plan(rest, plan, console, names.of, sweep, finished, site.start)


def _run_here(jobs: Sequence[Job], plan: Plan, listener: SweepListener) -> None:
    with torch_threads(plan.threads):
        for piece in plan.pieces:
            run_jobs({index: jobs[index] for index in piece}, listener)


def _run_by(
    executor: Executor,
    jobs: Sequence[Job],
    pieces: Sequence[Sequence[int]],
    listener: SweepListener,
) -> None:
    """Run the pieces by the executor; the runs of an array that fails are done one by one."""
    while pieces:
        again: list[list[int]] = []
        for message in executor.run([{index: jobs[index] for index in piece} for piece in pieces]):
            if message.kind == "tick":
                listener.show()
            elif message.kind == "note":
                listener.note(message.value)
            elif message.kind == "events":
                for event, *arguments in message.value:
                    getattr(listener, event)(*arguments)
            else:
                again += _handle_failure(jobs, message.runs, message.value, listener)
        pieces = again


def _handle_failure(
    jobs: Sequence[Job], piece: Sequence[int], reason: str, listener: SweepListener
) -> list[list[int]]:
    """Handle a worker that failed; returns the runs of its array, to be run one by one.

    A run whose worker fails while it trains alone has failed.
    """
    for index in piece:
        if index not in listener.state.done and is_finished(jobs[index]):
            listener.ended(index, None)  # the worker wrote its files and could not report it
    rest = [index for index in piece if index not in listener.state.done]
    if len(piece) > 1:
        if rest:
            listener.note(array_failure(len(piece), reason))
        return [[index] for index in rest]
    for index in rest:
        listener.ended(index, fail(jobs[index], reason))
    return []


def _settings(requests: Sequence[JobRequest]) -> Settings:
    """The section `sweep`. Raises InvalidValueError if the requests differ in it."""
    sections = [request.config.get("sweep", {}) for request in requests]
    if any(section != sections[0] for section in sections):
        raise InvalidValueError("sweep", "...", "one way to run the whole sweep")
    return settings_of(sections[0])


def _report_damage(unfinished: Mapping[int, files.DamagedFileError | None]) -> None:
    damages = [damage for damage in unfinished.values() if damage is not None]
    for line in files.damage_messages(damages, "its run is done again"):
        print(f"warning: {line}", file=sys.stderr)
