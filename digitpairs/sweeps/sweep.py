"""A sweep: all jobs checked, then run one after another, then the table out of their files.

One run is a sweep of one. A failed run is a row in the table, and the others go on.
"""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from digitpairs.analysis.table import print_table
from digitpairs.checks import InvalidValue
from digitpairs.sweeps import files
from digitpairs.sweeps.jobs import Asked, Job, plan_jobs
from digitpairs.sweeps.run import check, run
from digitpairs.training import Diverged


def run_sweep(asked_for: Sequence[Asked]) -> int:
    """Run Hydra's configs. Returns the exit status: 0, or 1 if a run failed.

    Raises InvalidValue or DataError, with nothing written, when any of the jobs cannot be run.
    """
    jobs = plan_jobs(asked_for)
    for job in jobs:
        check(job.config)
    sweep = jobs[0].folder.parent.parent
    held = sum(1 for _ in files.finished_runs(sweep))
    if held:
        raise InvalidValue(
            "output",
            str(sweep.parent),
            f"a folder without results of this very sweep (of whatever seeds), and {sweep} holds {held}: remove or rename "
            "that one, or name another with output=FOLDER",
        )
    failures = sum(not _run_to_files(job, f"{number}/{len(jobs)}") for number, job in enumerate(jobs, 1))
    print_table(sweep, Console())
    return 1 if failures else 0


def _run_to_files(job: Job, place: str) -> bool:
    """Run the job and write its result or its failure; returns whether it finished."""
    shutil.rmtree(job.folder, ignore_errors=True)  # a run that was cut short left no result; its events would stay
    job.folder.mkdir(parents=True)
    label = f"[{place}] {job.configuration} seed={job.seed}"
    try:
        result = run(job)
    except Diverged as fault:
        return _fail(job, label, str(fault), epoch=fault.epoch)
    except Exception as fault:  # one run's fault is its own: it is told here, kept in its folder, and counted
        traceback.print_exc()
        return _fail(job, label, f"{type(fault).__name__}: {fault}")
    files.write_json(job.folder / files.RESULT, result)
    error, seconds = result["test/comparison_error"], result["seconds"]
    print(f"{label}: test comparison error {error:.2f} %, {seconds:.1f} s", flush=True)
    return True


def _fail(job: Job, label: str, reason: str, **details: Any) -> bool:
    files.write_json(job.folder / files.FAILURE, {"seed": job.seed, "reason": reason, **details})
    print(f"{label}: FAILED, {reason}", file=sys.stderr)
    return False
