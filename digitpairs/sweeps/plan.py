"""The plan of a sweep: which runs train together as an array, and in how many processes."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from digitpairs.checks import DigitPairsWarning, InvalidValueError, choice, integer, mapping
from digitpairs.data.sources import SIDE
from digitpairs.engines import get_engine
from digitpairs.sweeps import measure
from digitpairs.sweeps.executors.settings import (
    EXECUTORS,
    RaySettings,
    SlurmSettings,
    ray_settings,
    slurm_settings,
)
from digitpairs.sweeps.jobs import Job
from digitpairs.sweeps.pauses import epochs_kept
from digitpairs.sweeps.workers import available_cores, can_fork, run_in_processes

UNITS = {"local": ("process", "es"), "ray": ("Ray task", "s"), "slurm": ("Slurm job", "s")}
PLANS = ("auto", "array", "processes", "serial")


class Settings(NamedTuple):
    """The config's section `sweep`."""

    plan: str = "auto"
    array_size: int | None = None
    processes: int | None = None
    threads: int | None = None
    max_runs: int | None = None
    executor: str = "local"
    ray: RaySettings = RaySettings()
    slurm: SlurmSettings = SlurmSettings()


class Plan(NamedTuple):
    """How the jobs of a sweep are run."""

    pieces: list[list[int]]  # the indices of the jobs that train together
    processes: int  # 0: all pieces in this process, one after another
    threads: int  # of each process
    executor: str = "local"

    def __str__(self) -> str:
        sizes = [len(piece) for piece in self.pieces if len(piece) > 1]
        alone = len(self.pieces) - len(sizes)
        parts = []
        if sizes:
            bounds = sorted({min(sizes), max(sizes)})
            parts.append(f"{plural(len(sizes), 'array')} of {' to '.join(map(str, bounds))}")
        if alone:
            parts.append(f"{alone} alone")
        unit = UNITS[self.executor]
        processes = plural(self.processes, *unit) if self.processes else "this process"
        return f"{' and '.join(parts)}, in {processes} of {plural(self.threads, 'thread')}"


class _Resources(NamedTuple):
    """Where the runs train."""

    device: str  # "cpu" or "cuda"
    processes: int
    threads: int
    sharing: int  # processes that share the memory of a machine


def plural(count: int, noun: str, ending: str = "s") -> str:
    """The count with its noun: "1 run", "2 runs"."""
    return f"{count} {noun}{ending if count > 1 else ''}"


def settings_of(section: Mapping[str, Any]) -> Settings:
    """The checked settings of the section `sweep`. Raises InvalidValueError."""
    mapping("sweep", section, Settings._fields)
    nested = {
        "ray": ray_settings(section.get("ray", {})),
        "slurm": slurm_settings(section.get("slurm", {})),
    }
    settings = Settings(**{**section, **nested})
    choice("sweep.plan", settings.plan, PLANS)
    choice("sweep.executor", settings.executor, EXECUTORS)
    if settings.executor != "local" and settings.plan == "serial":
        accepted = f"auto, array or processes with sweep.executor={settings.executor}"
        raise InvalidValueError("sweep.plan", "serial", accepted)
    for key in ("array_size", "processes", "threads", "max_runs"):
        if getattr(settings, key) is not None:
            integer(f"sweep.{key}", getattr(settings, key), at_least=1)
    return settings


def make_plan(jobs: Sequence[Job], keys: Sequence[Hashable | None], settings: Settings) -> Plan:
    """The plan for the jobs; jobs with equal keys can train together (see `Checker.check`).

    The fastest array size is measured unless the settings decide it. Raises InvalidValueError if
    these jobs or this system do not allow `sweep.plan`.
    """
    resources = _resources(jobs, settings)
    elsewhere = settings.executor != "local"
    if settings.plan in ("array", "processes") and not can_fork():
        accepted = "auto or serial on this system, which cannot fork"
        raise InvalidValueError("sweep.plan", settings.plan, accepted)
    if elsewhere and not can_fork():
        accepted = "local on this system, which cannot fork"
        raise InvalidValueError("sweep.executor", settings.executor, accepted)
    alone = settings.plan == "auto" and len(jobs) == 1 and not elsewhere
    if settings.plan == "serial" or not can_fork() or alone:
        return Plan([[index] for index in range(len(jobs))], 0, resources.threads)
    pieces = []
    for (key, _), indices in _groups(jobs, keys, settings).items():
        size = _array_size(jobs[indices[0]], key, len(indices), settings, resources)
        pieces += cut(indices, size, resources.processes)
    processes = min(resources.processes, len(pieces))
    return Plan(pieces, processes, resources.threads, settings.executor)


def cut(indices: Sequence[int], size: int, processes: int) -> list[list[int]]:
    """Cut into pieces of nearly equal length, at most `size`.

    Each process gets equally many pieces if these still have two or more elements.
    """
    count = -(-len(indices) // size)
    even = -(-count // processes) * processes
    if 2 * even <= len(indices):
        count = even
    bounds = [len(indices) * i // count for i in range(count + 1)]
    return [list(indices[start:stop]) for start, stop in zip(bounds, bounds[1:])]


def _resources(jobs: Sequence[Job], settings: Settings) -> _Resources:
    # One thread by default: with more, torch splits products by their sizes, and the bits of a run
    # would depend on the size of its array.
    threads = settings.threads or 1
    device = _device(jobs)
    cores = len(available_cores()) if device == "cpu" else 1
    own = max(1, cores // threads)
    processes = min(len(jobs), settings.processes or own)
    sharing = processes if settings.executor == "local" else min(processes, own)
    return _Resources(device, processes, threads, sharing)


def _groups(
    jobs: Sequence[Job], keys: Sequence[Hashable | None], settings: Settings
) -> dict[tuple[Hashable, int], list[int]]:
    """The indices of the jobs by key and by the epoch from which they go on.

    A job without a key is a group of its own.
    """
    groups: dict[tuple[Hashable, int], list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        if key is None and settings.plan == "array":
            reason = (
                "runs of the disk with engine=lightning, of pairs with custom layers, and with "
                "callbacks train only by themselves"
            )
            raise InvalidValueError("sweep.plan", "array", f"auto or processes: {reason}")
        group = ("alone", index) if key is None else key
        groups[group, epochs_kept(jobs[index])].append(index)
    return groups


def _array_size(
    job: Job, key: Hashable, count: int, settings: Settings, resources: _Resources
) -> int:
    """The size of the arrays for `count` runs like the job; 1 for no arrays."""
    share = -(-count // resources.processes)
    if settings.plan == "array":
        share = max(share, min(2, count))
    if settings.plan == "processes" or share == 1:
        return 1
    if settings.array_size is not None:
        return settings.array_size
    return min(share, _best_size(job, key, settings.plan == "array", resources))


def _best_size(job: Job, key: Hashable, force_array: bool, resources: _Resources) -> int:
    """The fastest array size; with `force_array`, the fastest above 1 if any fits."""
    engine_limit = get_engine(job.config).most_members
    if engine_limit is not None:
        return engine_limit
    device, _, threads, sharing = resources
    measurements = measure.read_cache(key, device, threads)
    if measurements is None:
        try:
            measurements = _in_a_process(lambda: measure.measure(job, device), threads)
        except RuntimeError as fault:  # if a run is at fault, it will fail by itself
            warnings.warn(f"{fault}; the runs train one by one", DigitPairsWarning, stacklevel=2)
            return 1
        measure.write_cache(key, device, threads, measurements)
    if force_array:
        measurements = measurements | {1: measure.Measurement(float("inf"), 0.0)}
    if device == "cpu":
        available = measure.available_bytes(device)
    else:  # once this process has used a GPU, the processes that it forks cannot use it
        available = _in_a_process(lambda: measure.available_bytes(device), threads)
    return measure.best_size(measurements, _data_bytes(job), available / sharing)


def _in_a_process(function: Callable[[], Any], threads: int) -> Any:
    """The function's return value, computed in a forked process.

    Raises RuntimeError if the function raises or the process dies.
    """
    for message in run_in_processes([lambda send: function()], 1, threads):
        if message.kind == "returned":
            return message.value
        if message.kind == "note":
            text = message.value.removeprefix("warning: ")
            warnings.warn(text, DigitPairsWarning, stacklevel=2)
        if message.kind in ("raised", "died"):
            reason = message.value.splitlines()[-1]
            raise RuntimeError(f"the speed of training could not be measured ({reason})")
    raise RuntimeError("the speed of training could not be measured (no answer)")


def _device(jobs: Sequence[Job]) -> str:
    """Where the runs train, determined without using a GPU in this process."""
    accelerators = {job.config["trainer"].get("accelerator", "cpu") for job in jobs}
    uses_gpu = bool(accelerators & {"gpu", "cuda", "auto"}) and torch.cuda.is_available()
    return "cuda" if uses_gpu else "cpu"


def _data_bytes(job: Job) -> int:
    """The bytes of a run's float32 images: its own, the array's and the normalised ones."""
    data = job.config["data"]
    pairs = data["pairs"] + (data["test_pairs"] or 1000)
    return 3 * pairs * 2 * SIDE * SIDE * 4
