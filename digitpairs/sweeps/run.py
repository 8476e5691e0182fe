"""From jobs to their files: one run alone, or several as one array."""

from __future__ import annotations

import functools
import io
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, Protocol

import pytorch_lightning as pl
import torch

import digitpairs
from digitpairs.data import PairDataModule, PairDataModuleArray
from digitpairs.sweeps import files
from digitpairs.sweeps.check import PARTS
from digitpairs.sweeps.events import EventsLogger
from digitpairs.sweeps.jobs import Job, fingerprint
from digitpairs.sweeps.trainer import clipping, make_trainer, quick_cuda_check, quiet_lightning
from digitpairs.training import Diverged, PairComparison, PairComparisonArray, build

STREAMS_OF_TRAINING = ("weights", "dropout", "aux")


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
        members = _trained(jobs, listener)
    except Exception as fault:  # a run's fault is its own: it is told here, kept in its folder, and counted
        reason = f"{type(fault).__name__}: {fault}"
        if len(jobs) == 1:
            listener.note(traceback.format_exc().rstrip())
            listener.ended(0, fail(jobs[0], reason))
            return
        listener.note(f"an array of {len(jobs)} runs failed and is done one by one ({reason})")
        for place, job in enumerate(jobs):
            run_jobs([job], Places([place], listener))
        return
    share = (time.perf_counter() - started) / len(jobs)
    for place, (job, (member, datamodule)) in enumerate(zip(jobs, members)):
        listener.ended(place, _write(job, member, datamodule, share, len(jobs)))


class Places:
    """Listens to some of the jobs, and tells another listener with their places among all of them."""

    def __init__(self, places: Sequence[int], listener: Listener) -> None:
        self._places, self._listener = places, listener

    def epoch(self, place: int, row: dict[str, float]) -> None:
        self._listener.epoch(self._places[place], row)

    def ended(self, place: int, failure: str | None) -> None:
        self._listener.ended(self._places[place], failure)

    def note(self, text: str) -> None:
        self._listener.note(text)


def _trained(jobs: Sequence[Job], listener: Listener) -> list[tuple[PairComparison, PairDataModule]]:
    """The jobs' modules and data modules after training and test, whether they diverged or not."""
    for job in jobs:
        if job.folder.exists():
            shutil.rmtree(job.folder)  # what was cut short left no result; its events would stay
        job.folder.mkdir(parents=True)
        files.write_config(job.folder, job.config)
    datamodules: list[PairDataModule] = [build(job.config["data"]) for job in jobs]
    members = [make_module(job) for job in jobs]
    loggers = [EventsLogger(job.folder, functools.partial(listener.epoch, place)) for place, job in enumerate(jobs)]
    if len(jobs) == 1:
        _fit_and_test(jobs[0], members[0], datamodules[0], loggers[0])
    else:
        array = PairComparisonArray(members, loggers)
        _fit_and_test(jobs[0], array, PairDataModuleArray(datamodules), False)
        array.release()
    return list(zip(members, datamodules))


def make_module(job: Job) -> PairComparison:
    """The job's module with its initial weights."""
    seeds = {f"{purpose}_seed": job.config["seeds"][purpose] for purpose in STREAMS_OF_TRAINING}
    settings = dict(early_stopping=job.config["early_stopping"], **clipping(job.config["trainer"]))
    return PairComparison(*(job.config[section] for section in PARTS), **settings, seed=job.seed, **seeds)


def _fit_and_test(job: Job, module: pl.LightningModule, datamodule: pl.LightningDataModule, logger: EventsLogger | bool) -> None:
    trainer = make_trainer(job.config["trainer"], logger)
    try:
        with quiet_lightning(), quick_cuda_check():
            trainer.fit(module, datamodule)
            trainer.test(module, datamodule, verbose=False)
    except Diverged:
        pass  # the run says so itself, as each run of an array does
    except SystemExit as leave:
        if isinstance(leave.__context__, KeyboardInterrupt):  # Lightning makes it an exit of its own
            raise KeyboardInterrupt from None
        raise


def _write(job: Job, member: PairComparison, datamodule: PairDataModule, seconds: float, array_size: int) -> str | None:
    """Write what a run leaves; returns why it failed, if it did."""
    try:
        files.write_metrics(job.folder, member.history)
        if member.failure is not None:
            return fail(job, str(member.failure), epoch=member.failure.epoch)
        files.write_whole(job.folder / files.CHECKPOINT, checkpoint(member))
        files.write_json(job.folder / files.RESULT, result_of(job, member, datamodule, seconds, array_size))
    except Exception as fault:  # as in `run_jobs`; a full disk, most likely
        return fail(job, f"{type(fault).__name__}: {fault}")
    return None


def result_of(job: Job, member: PairComparison, datamodule: PairDataModule, seconds: float, array_size: int) -> dict[str, Any]:
    """What the tables are computed from."""
    final = member.final_row()
    return {
        "seed": job.seed,
        "fingerprint": fingerprint(job.config),
        "source": datamodule.source,
        "pairs": datamodule.sizes[0],
        "test_pairs": datamodule.sizes[2],
        "epochs": len(member.history),
        "best_epoch": int(final["epoch"]),
        "parameters": sum(parameter.numel() for parameter in member.network.parameters()),
        **member.test_metrics,
        **{name: value for name, value in final.items() if name.startswith(("train/", "validation/"))},
        "seconds": seconds,
        "array_size": array_size,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def checkpoint(member: PairComparison) -> bytes:
    """What `PairComparison.load_from_checkpoint` reads: weights and settings, in Lightning's format."""
    content = {
        "epoch": len(member.history),
        "global_step": len(member.history),  # as Lightning counts here, see ComparisonModule.training_step
        "pytorch-lightning_version": pl.__version__,
        "state_dict": member.state_dict(),
        member.CHECKPOINT_HYPER_PARAMS_NAME: "kwargs",
        member.CHECKPOINT_HYPER_PARAMS_KEY: dict(member.hparams),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@functools.cache
def versions() -> dict[str, str]:
    """Of everything that decides the numbers."""
    return {
        "digitpairs": digitpairs.__version__,
        "torch": torch.__version__,
        "pytorch_lightning": pl.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def fail(job: Job, reason: str, **details: Any) -> str:
    """Write why the run failed, where that can be written; returns the reason."""
    content = {"seed": job.seed, "fingerprint": fingerprint(job.config), "reason": reason, **details}
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        files.write_json(job.folder / files.FAILURE, content)
    except OSError as fault:  # a full disk, perhaps: it is told, and the run stays to be done
        print(f"{job.folder / files.FAILURE} could not be written ({fault})", file=sys.stderr)
    return reason
