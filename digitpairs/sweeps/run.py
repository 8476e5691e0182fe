"""From jobs to their files: one run alone, or several as one array."""

from __future__ import annotations

import functools
import shutil
import time
import traceback
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from digitpairs import files
from digitpairs.engines import Run, get_engine
from digitpairs.inventory import inventory
from digitpairs.sweeps.events import EventsLogger
from digitpairs.sweeps.jobs import Job, fingerprint
from digitpairs.sweeps.provenance import provenance


class Listener(Protocol):
    """Who wants to hear how the jobs get on; a job is named by its place among those that were given."""

    def epoch(self, place: int, row: dict[str, float]) -> None: ...

    def ended(self, place: int, failure: str | None) -> None: ...

    def note(self, text: str) -> None: ...


def run_jobs(jobs: Sequence[Job], listener: Listener) -> None:
    """Train and test the jobs' networks, as one array when they are several, and write each job's files.

    A run that diverges or fails leaves `failure.json` with the reason. Where an array as a whole fails, its runs are done
    one by one, which shows whose fault it was.
    """
    started = time.perf_counter()
    try:
        runs = _trained(jobs, listener)
    except (
        Exception
    ) as fault:  # a run's fault is its own: it is told here, kept in its folder, and counted
        reason = f"{type(fault).__name__}: {fault}"
        if len(jobs) == 1:
            if not isinstance(
                fault, OSError
            ):  # of the disk, or of whoever removed the folder: it names the file
                listener.note(traceback.format_exc().rstrip())
            listener.ended(0, fail(jobs[0], reason))
            return
        listener.note(f"an array of {len(jobs)} runs failed and is done one by one ({reason})")
        for place, job in enumerate(jobs):
            run_jobs([job], SubsetListener([place], listener))
        return
    share = (time.perf_counter() - started) / len(jobs)
    for place, (job, run) in enumerate(zip(jobs, runs)):
        listener.ended(place, _write(job, run, share, len(jobs)))


class SubsetListener:
    """Listens to some of the jobs, and tells another listener with their places among all of them."""

    def __init__(self, places: Sequence[int], listener: Listener) -> None:
        self._places, self._listener = places, listener

    def epoch(self, place: int, row: dict[str, float]) -> None:
        self._listener.epoch(self._places[place], row)

    def ended(self, place: int, failure: str | None) -> None:
        self._listener.ended(self._places[place], failure)

    def note(self, text: str) -> None:
        self._listener.note(text)


def _trained(jobs: Sequence[Job], listener: Listener) -> list[Run]:
    """The jobs' runs after training and test, whether they diverged or not."""
    for job in jobs:
        if job.folder.exists():
            shutil.rmtree(job.folder)  # what was cut short left no result; its events would stay
        job.folder.mkdir(parents=True)
        files.write_config(job.folder, job.config)
    loggers = [
        EventsLogger(job.folder, functools.partial(listener.epoch, place))
        for place, job in enumerate(jobs)
    ]
    return get_engine(jobs[0].config).train([job.config for job in jobs], loggers)


def _write(job: Job, run: Run, seconds: float, array_size: int) -> str | None:
    """Write what a run leaves; returns why it failed, if it did."""
    try:
        files.write_metrics(job.folder, run.history)
        if run.failure is not None:
            epoch, reason = run.failure
            return fail(job, reason, epoch=epoch)
        contents = {files.CHECKPOINT: run.checkpoint(), **run.files}
        for name, content in contents.items():
            files.write_atomically(job.folder / name, content)
        whole = inventory(job.folder, [files.CONFIG, files.METRICS, *contents])
        files.write_json(
            job.folder / files.RESULT,
            result_of(job, run, seconds, array_size) | {files.FILES: whole},
        )
    except Exception as fault:  # as in `run_jobs`; a full disk, most likely
        return fail(job, f"{type(fault).__name__}: {fault}")
    return None


def result_of(job: Job, run: Run, seconds: float, array_size: int) -> dict[str, Any]:
    """What the tables are computed from."""
    rows = "pairs" if job.config["task"] == "pairs" else "points"
    return {
        "seed": job.seed,
        "fingerprint": fingerprint(job.config),
        "engine": job.config["engine"],
        "source": run.source,
        rows: run.sizes[0],
        f"test_{rows}": run.sizes[1],
        "epochs": len(run.history),
        "best_epoch": int(run.final_row["epoch"]),
        "parameters": run.parameters,
        **run.test_metrics,
        **{
            name: value
            for name, value in run.final_row.items()
            if name.startswith(("train/", "validation/"))
        },
        "seconds": seconds,
        "array_size": array_size,
        "threads": torch.get_num_threads(),
        **provenance(),
    }


def fail(job: Job, reason: str, **details: Any) -> str:
    """Write why the run failed, where that can be written; returns the reason, and why it could not be written."""
    content = {
        "seed": job.seed,
        "fingerprint": fingerprint(job.config),
        "reason": reason,
        **details,
    }
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        files.write_json(job.folder / files.FAILURE, content)
    except OSError as fault:  # a full disk, perhaps: it is told, and the run stays to be done
        return f"{reason}; {files.FAILURE} could not be written ({fault.strerror})"
    return reason
