"""A sweep: all jobs checked, what is finished left alone, the rest carried out by a plan, then the table out of the files.

One run is a sweep of one. A failed run is a row in the table, and the others go on.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from digitpairs import files
from digitpairs.analysis.names import display_names
from digitpairs.analysis.table import print_table
from digitpairs.checks import InvalidValueError
from digitpairs.sweeps.check import Checker
from digitpairs.sweeps.compose import JobRequest
from digitpairs.sweeps.finished import is_finished, unfinished_jobs
from digitpairs.sweeps.jobs import Job, plan_jobs
from digitpairs.sweeps.lock import sweep_lock
from digitpairs.sweeps.plan import Plan, Settings, make_plan, settings_of
from digitpairs.sweeps.progress import SweepProgress, counted
from digitpairs.sweeps.provenance import provenance
from digitpairs.sweeps.run import SubsetListener, fail, run_jobs
from digitpairs.sweeps.workers import run_in_processes

MESSAGE_INTERVAL = 0.1  # between a worker's words on its epochs
# Carries out the jobs in these places of a sweep; returns how many failed.
Elsewhere = Callable[[Sequence[int], Sequence[Job]], int]


def run_sweep(requests: Sequence[JobRequest], elsewhere: Elsewhere | None = None) -> int:
    """Run what is asked for and not finished, by a plan or `elsewhere`; returns how many failed.

    Raises InvalidValueError or DataError, with nothing trained, when any of the jobs cannot be run; and KeyboardInterrupt, after
    saying what is finished.
    """
    settings = _settings(requests)
    provenance()  # of the code that runs: it may change before the first result is written
    with torch_threads(1):  # until the processes are forked, see workers.py
        jobs = plan_jobs(requests)
        checker = Checker()
        keys = [checker.check(job.config) for job in counted(jobs, "checked")]
        sweep, console = jobs[0].folder.parent.parent, Console()
        names = display_names({job.configuration: job.config for job in jobs})
        with sweep_lock(sweep):
            todo = unfinished_jobs(jobs)
            _report_damaged(todo)
            left = [jobs[place] for place in todo]
            if todo and elsewhere is not None:
                _report_finished(len(jobs), len(todo), "by Hydra's launcher, a run a job", console)
                failures = elsewhere(list(todo), left)
            elif todo:
                plan = make_plan(left, [keys[place] for place in todo], settings)
                _report_finished(len(jobs), len(todo), plan, console)
                failures = execute_plan(left, plan, console, names.of)
            else:
                console.print(
                    f"{len(jobs)} run{'s' * (len(jobs) > 1)}, all finished before", highlight=False
                )
                failures = 0
    print_table(sweep, [job.folder for job in jobs], console, names)
    return failures


def run_alone(asked: JobRequest, folder: Path) -> int:
    """Run the job of another launcher, with its files in the folder; returns how many failed."""
    (job,) = plan_jobs([asked])
    job = job._replace(folder=folder, configuration=folder.parent.name)
    plan = Plan([[0]], 0, _settings([asked]).threads or 1)
    return execute_plan([job], plan, Console(), display_names({job.configuration: job.config}).of)


def execute_plan(
    jobs: Sequence[Job], plan: Plan, console: Console, names: Mapping[str, str]
) -> int:
    """Do the jobs as planned; returns how many failed. `names` are those of the configurations."""
    labels = [f"{names[job.configuration]} seed={job.seed}" for job in jobs]
    epochs = [job.config["trainer"]["max_epochs"] for job in jobs]
    with SweepProgress(labels, epochs, console, Console(stderr=True)) as progress:
        try:
            (_run_in_processes if plan.processes else _here)(jobs, plan, progress)
        except KeyboardInterrupt:
            finished = sum(map(is_finished, jobs))
            progress.note(
                f"interrupted: {finished} of {len(jobs)} runs finished; the same command goes on with the rest"
            )
            raise
        return progress.failures


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads for torch's operations in this process, meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _here(jobs: Sequence[Job], plan: Plan, progress: SweepProgress) -> None:
    with torch_threads(plan.threads):
        for piece in plan.pieces:
            run_jobs([jobs[place] for place in piece], SubsetListener(piece, progress))


def _run_in_processes(jobs: Sequence[Job], plan: Plan, progress: SweepProgress) -> None:
    """Each piece in a worker. Where one dies, its runs are done one by one, and one that dies alone has failed."""
    pieces = plan.pieces
    while pieces:
        again: list[list[int]] = []
        works = [functools.partial(_work, [jobs[place] for place in piece]) for piece in pieces]
        for said in run_in_processes(
            works, min(plan.processes, len(pieces)), plan.threads, tick=1.0
        ):
            if said is None:
                progress.show()
                continue
            piece = pieces[said.work]
            if said.kind == "note":
                progress.note(said.value)
            elif said.kind == "said":
                for name, *arguments in said.value:
                    getattr(SubsetListener(piece, progress), name)(*arguments)
            elif said.kind in ("died", "raised"):
                for place in [
                    place
                    for place in piece
                    if place not in progress.done and is_finished(jobs[place])
                ]:
                    progress.ended(
                        place, None
                    )  # it was written, and then there was no time to say so
                left = [place for place in piece if place not in progress.done]
                if len(piece) > 1:
                    progress.note(
                        f"an array of {len(piece)} runs failed and is done one by one ({said.value})"
                    )
                    again += [[place] for place in left]
                else:
                    for place in left:
                        progress.ended(place, fail(jobs[place], said.value))
        pieces = again


def _work(jobs: Sequence[Job], say: Callable[[Any], None]) -> None:
    teller = _MessageListener(say)
    run_jobs(jobs, teller)
    teller.flush()


class _MessageListener:
    """Listens in a worker, and tells the parent now and then: of each run the last epoch, and every end and note."""

    def __init__(self, say: Callable[[Any], None]) -> None:
        self._say, self._told = say, time.monotonic()
        self._epochs: dict[int, dict[str, float]] = {}
        self._rest: list[tuple[Any, ...]] = []

    def epoch(self, place: int, row: dict[str, float]) -> None:
        self._epochs[place] = row
        if time.monotonic() - self._told > MESSAGE_INTERVAL:
            self.flush()

    def ended(self, place: int, failure: str | None) -> None:
        self._rest.append(("ended", place, failure))
        if time.monotonic() - self._told > MESSAGE_INTERVAL:
            self.flush()

    def note(self, text: str) -> None:
        self._rest.append(("note", text))

    def flush(self) -> None:
        """Tell what has come together."""
        self._say([*(("epoch", place, row) for place, row in self._epochs.items()), *self._rest])
        self._epochs, self._rest, self._told = {}, [], time.monotonic()


def _settings(requests: Sequence[JobRequest]) -> Settings:
    sections = [asked.config.get("sweep", {}) for asked in requests]
    if any(section != sections[0] for section in sections):
        raise InvalidValueError("sweep", "...", "one way to run the whole sweep")
    return settings_of(sections[0])


def _report_damaged(todo: Mapping[int, files.DamagedFileError | None]) -> None:
    for line in files.damage_messages(
        [damage for damage in todo.values() if damage is not None], "its run is done again"
    ):
        print(f"warning: {line}", file=sys.stderr)


def _report_finished(runs: int, todo: int, plan: Plan | str, console: Console) -> None:
    before = f", {runs - todo} finished before, {todo} to do" if todo < runs else ""
    console.print(f"{runs} run{'s' * (runs > 1)}{before}: {plan}", soft_wrap=True, highlight=False)
