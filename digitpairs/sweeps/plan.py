"""How a sweep's runs are carried out: which train together as one array, in how many processes of how many threads."""

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
from digitpairs.sweeps.jobs import Job
from digitpairs.sweeps.workers import available_cores, can_fork, run_in_processes

PLANS = ("auto", "array", "processes", "serial")


class Settings(NamedTuple):
    """The config's section `sweep`."""

    plan: str = "auto"
    array_size: int | None = None
    processes: int | None = None
    threads: int | None = None
    max_runs: int | None = None


class Plan(NamedTuple):
    """Pieces of work, each the places of the runs that train together."""

    pieces: list[list[int]]
    processes: int  # 0: all in this process, one after another
    threads: int  # of each process

    def __str__(self) -> str:
        arrays, alone = (
            [piece for piece in self.pieces if len(piece) > 1],
            sum(len(piece) == 1 for piece in self.pieces),
        )
        sizes = sorted({len(piece) for piece in arrays})
        parts = (
            [
                f"{len(arrays)} array{'s' * (len(arrays) > 1)} of {' to '.join(map(str, (sizes[:1] + sizes[1:][-1:])))}"
            ]
            if arrays
            else []
        )
        parts += [f"{alone} alone"] if alone else []
        where = (
            f"in {self.processes} process{'es' * (self.processes > 1)}"
            if self.processes
            else "in this process"
        )
        return f"{' and '.join(parts)}, {where} of {self.threads} thread{'s' * (self.threads > 1)}"


def settings_of(section: Mapping[str, Any]) -> Settings:
    """The settings, checked."""
    mapping("sweep", section, Settings._fields)
    settings = Settings(**section)
    choice("sweep.plan", settings.plan, PLANS)
    for key in ("array_size", "processes", "threads", "max_runs"):
        if getattr(settings, key) is not None:
            integer(f"sweep.{key}", getattr(settings, key), at_least=1)
    return settings


def make_plan(jobs: Sequence[Job], keys: Sequence[Hashable | None], settings: Settings) -> Plan:
    """The plan for the jobs; `keys` say which can train together (see `Checker.check`).

    What is fastest is measured, unless the settings say it. Raises InvalidValueError for sweep.plan=array where it cannot be.
    """
    # One thread: with more, products are cut by their sizes, and a run's bits would follow from the size of its array.
    device, threads = _device(jobs), settings.threads or 1
    processes = settings.processes or (
        max(1, len(available_cores()) // threads) if device == "cpu" else 1
    )
    processes = min(len(jobs), processes)
    if settings.plan in ("array", "processes") and not can_fork():
        raise InvalidValueError(
            "sweep.plan", settings.plan, "auto or serial on this system, which cannot fork"
        )
    if settings.plan == "serial" or not can_fork() or (settings.plan == "auto" and len(jobs) == 1):
        return Plan([[place] for place in range(len(jobs))], 0, threads)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        if key is None and settings.plan == "array":
            raise InvalidValueError(
                "sweep.plan",
                "array",
                "auto or processes, since these runs train only by themselves (of the disk those with engine=lightning; of pairs networks of other layers)",
            )
        groups[key if key is not None else ("alone", place)].append(place)
    pieces = []
    for key, places in groups.items():
        most = -(-len(places) // processes)
        if settings.plan == "array":
            most = max(most, min(2, len(places)))
        size = 1 if settings.plan == "processes" or most == 1 else settings.array_size
        if size is None:
            size = _best_size(
                jobs[places[0]], key, threads, device, processes, settings.plan == "array"
            )
        pieces += cut(places, min(size, most) if settings.array_size is None else size, processes)
    return Plan(pieces, min(processes, len(pieces)), threads)


def cut(places: Sequence[int], size: int, processes: int) -> list[list[int]]:
    """Pieces of nearly equal length, at most `size` long, as many in each of the processes where that leaves arrays."""
    count = -(-len(places) // size)
    even = -(-count // processes) * processes
    if 2 * even <= len(places):
        count = even
    bounds = [len(places) * i // count for i in range(count + 1)]
    return [list(places[start:stop]) for start, stop in zip(bounds, bounds[1:])]


def _best_size(
    job: Job, key: Hashable, threads: int, device: str, processes: int, must: bool
) -> int:
    most = get_engine(job.config).most_members
    if most is not None:
        return most
    figures = measure.read_cache(key, device, threads)
    if figures is None:
        try:
            figures = _in_a_process(lambda: measure.measure(job, device), threads)
        except RuntimeError as fault:  # the runs themselves will show whose fault it is
            warnings.warn(f"{fault}; the runs train one by one", DigitPairsWarning, stacklevel=2)
            return 1
        measure.write_cache(key, device, threads, figures)
    if must:
        figures = {size: figure for size, figure in figures.items() if size > 1} | {
            1: measure.Figure(float("inf"), 0.0)
        }
    # A GPU is asked in a process of its own: once it has been started here, no forked process could use it.
    available = (
        measure.available_bytes(device)
        if device == "cpu"
        else _in_a_process(lambda: measure.available_bytes(device), threads)
    )
    return measure.best_size(figures, _data_bytes(job), available / processes)


def _in_a_process(work: Callable[[], Any], threads: int) -> Any:
    """What the work returns, done in a process of its own."""
    for said in run_in_processes([lambda say: work()], 1, threads):
        if said.kind == "returned":
            return said.value
        if said.kind == "note":
            warnings.warn(said.value.removeprefix("warning: "), DigitPairsWarning, stacklevel=2)
        if said.kind in ("raised", "died"):
            raise RuntimeError(
                f"the speed of training could not be measured ({said.value.splitlines()[-1]})"
            )
    raise RuntimeError("the speed of training could not be measured (no answer)")


def _device(jobs: Sequence[Job]) -> str:
    """Where the runs train, found out without starting a GPU in this process."""
    asked = {job.config["trainer"].get("accelerator", "cpu") for job in jobs}
    return "cuda" if asked & {"gpu", "cuda", "auto"} and torch.cuda.is_available() else "cpu"


def _data_bytes(job: Job) -> int:
    """A run's pairs as float32 images: its own, the array's, and these normalised."""
    data = job.config["data"]
    return 3 * (data["pairs"] + (data["test_pairs"] or 1000)) * 2 * SIDE * SIDE * 4
