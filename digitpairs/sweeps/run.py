"""Training of jobs, one alone or several as one array, and the files that they leave."""

from __future__ import annotations

import functools
import shutil
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from digitpairs import files
from digitpairs.engines import Run, get_engine
from digitpairs.engines.base import Stretch
from digitpairs.engines.interruption import current_checkpoint
from digitpairs.inventory import inventory
from digitpairs.sweeps.jobs import Job, fingerprint
from digitpairs.sweeps.loggers import RunLoggers, placed
from digitpairs.sweeps.pauses import (
    epochs_kept,
    read_state,
    remove_pause,
    seconds_kept,
    write_pause,
)
from digitpairs.sweeps.provenance import provenance


class Listener(Protocol):
    """Receives the events of runs, each with the run's index in the sweep."""

    def epoch(self, index: int, row: Mapping[str, float]) -> None:
        """A row of metrics was recorded."""

    def ended(self, index: int, failure: str | None) -> None:
        """The run's files are written; `failure` is the reason if it failed."""

    def note(self, text: str) -> None:
        """There is something for the user to read."""


def run_jobs(jobs: Mapping[int, Job], listener: Listener) -> None:
    """Train and test the jobs' networks, as one array if there are several, and write their files.

    A run that diverges or fails leaves `failure.json` with the reason. If a whole array fails, its
    runs are repeated one by one, so that only the run at fault fails. Paused runs go on.

    Args:
        jobs: the jobs by their index in the sweep. They pause after the same epoch, if they pause,
            and go on from the same one.
        listener: receives their events.
    """
    loggers: list[RunLoggers] = []
    try:
        configs = [placed(job) for job in jobs.values()]
        goes_on = current_checkpoint(configs) is not None
        for index, job in jobs.items():
            _prepare(job, goes_on)
            loggers.append(RunLoggers(job, functools.partial(listener.epoch, index)))
        started = time.perf_counter()
        runs = _train(list(jobs.values()), configs, loggers)
    except Exception as fault:  # whatever fails in a run is reported, and the other runs go on
        _end_failed(loggers, listener)
        if len(jobs) == 1:
            ((index, job),) = jobs.items()
            # The message of an OSError names the file: the disk is full, or the folder was removed.
            if not isinstance(fault, OSError):
                listener.note(traceback.format_exc().rstrip())
            listener.ended(index, fail(job, _reason(fault)))
            return
        listener.note(array_failure(len(jobs), _reason(fault)))
        for index, job in jobs.items():
            run_jobs({index: job}, listener)
        return
    seconds = (time.perf_counter() - started) / len(jobs)
    for (index, job), run, logger in zip(jobs.items(), runs, loggers):
        listener.ended(index, _write(job, run, logger, seconds, len(jobs)))


def _train(
    jobs: Sequence[Job], configs: Sequence[dict[str, Any]], loggers: Sequence[RunLoggers]
) -> list[Run]:
    """Train all epochs of the jobs, or those up to their next pause."""
    engine = get_engine(configs[0])
    pauses = [read_state(job) for job in jobs if epochs_kept(job)]
    stretch = Stretch(pauses, jobs[0].until)
    if not pauses and stretch.until is None:
        return engine.train(configs, loggers)
    return engine.train_stretch(configs, loggers, stretch)


def fail(job: Job, reason: str, **details: Any) -> str:
    """Write `failure.json`; returns the reason, and why the file could not be written."""
    content = _identity(job) | {"reason": reason}
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        files.write_json(job.folder / files.FAILURE, content | details)
    except OSError as fault:  # such as a full disk; the run stays unfinished
        return f"{reason}; {files.FAILURE} could not be written ({fault.strerror})"
    return reason


def array_failure(size: int, reason: str) -> str:
    """The note about an array that failed as a whole."""
    return f"an array of {size} runs failed and is done one by one ({reason})"


def _prepare(job: Job, goes_on: bool) -> None:
    """Make the job's folder, with its config; a fit that goes on keeps its events.

    The folder of a paused run is kept.
    """
    if epochs_kept(job):
        (job.folder / files.FAILURE).unlink(missing_ok=True)
        return
    if job.folder.exists() and not goes_on:
        shutil.rmtree(job.folder)  # an interrupted run has left events without a result
    job.folder.mkdir(parents=True, exist_ok=goes_on)
    files.write_config(job.folder, job.config)


def _end_failed(loggers: Sequence[RunLoggers], listener: Listener) -> None:
    """Tell the loggers that their runs have failed; a logger may be what failed."""
    for logger in loggers:
        try:
            logger.end(failed=True)
        except OSError:  # such as a full disk, which is the reason why the run failed
            continue
        except Exception as fault:  # a user's logger may raise anything
            listener.note(f"a logger could not be ended: {_reason(fault)}")


def _write(job: Job, run: Run, logger: RunLoggers, seconds: float, array_size: int) -> str | None:
    """Write the files of a run; returns the reason if it failed."""
    try:
        seconds += seconds_kept(job)
        files.write_metrics(job.folder, run.history)
        if run.pause is not None:
            write_pause(job, run.pause, _identity(job), run.history[-1], seconds)
            return None
        logger.end(failed=run.failure is not None)
        if run.failure is not None:
            epoch, reason = run.failure
            return fail(job, reason, epoch=epoch)
        contents = {files.CHECKPOINT: run.checkpoint(), **run.files}
        for name, content in contents.items():
            files.write_atomically(job.folder / name, content)
        result = _result(job, run, seconds, array_size)
        result[files.FILES] = inventory(job.folder, [files.CONFIG, files.METRICS, *contents])
        files.write_json(job.folder / files.RESULT, result)
        remove_pause(job.folder)
    except Exception as fault:  # as in `run_jobs`; most likely a full disk
        return fail(job, _reason(fault))
    return None


def _result(job: Job, run: Run, seconds: float, array_size: int) -> dict[str, Any]:
    """The content of `result.json`, from which tables are computed, without its inventory."""
    rows = "pairs" if job.config["task"] == "pairs" else "points"
    final_metrics = {
        name: value
        for name, value in run.final_row.items()
        if name.startswith(("train/", "validation/"))
    }
    return {
        **_identity(job),
        "engine": job.config["engine"],
        "source": run.source,
        rows: run.sizes[0],
        f"test_{rows}": run.sizes[1],
        "epochs": len(run.history),
        "best_epoch": int(run.final_row["epoch"]),
        "parameters": run.parameters,
        **run.test_metrics,
        **final_metrics,
        "seconds": seconds,
        "array_size": array_size,
        "threads": torch.get_num_threads(),
        **provenance(),
    }


def _identity(job: Job) -> dict[str, Any]:
    """What says which run it is."""
    return {
        "seed": job.seed,
        "fingerprint": fingerprint(job.config),
        "choices": dict(job.origin.choices),
        "overrides": list(job.origin.overrides),
    }


def _reason(fault: Exception) -> str:
    return f"{type(fault).__name__}: {fault}"
