"""How fast this machine trains a run alone, and arrays of several sizes: a few steps of each, on blank images.

The figures are kept in the user's cache folder ($XDG_CACHE_HOME, else ~/.cache), one entry a kind of run, machine and version
of torch; deleting the file has them measured again.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import time
import warnings
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch

from digitpairs import files
from digitpairs.checks import DigitPairsWarning, InvalidValueError, number
from digitpairs.data import PairDataModule, PairDataModuleArray, PairSet
from digitpairs.engines.lightning_trainer import make_trainer, quick_cuda_check, quiet_lightning
from digitpairs.engines.pairs_lightning import make_module
from digitpairs.sweeps.jobs import Job, digest
from digitpairs.sweeps.provenance import versions
from digitpairs.training import PairComparisonArray, build

SIZES = {"cpu": (1, 4, 8, 16, 32), "cuda": (1, 16, 64, 256, 1024)}
MIN_SECONDS = 0.05  # of steps, for each size
STEPS = 5  # an epoch
MAX_EPOCHS = 20
MIN_SPEEDUP = 0.97  # an array has to be faster than runs alone by this factor to be chosen
TIE_FACTOR = (
    1.08  # of arrays that are about as fast the largest is chosen: fewer have to be started
)
SHARE_OF_MEMORY = 0.5


class Measurement(NamedTuple):
    """What training takes for each member."""

    seconds: float  # a step
    bytes: float  # of memory at the peak, with a few mini-batches of data


def best_size(figures: dict[int, Measurement], data_bytes: int, available_bytes: float) -> int:
    """The size of array, 1 for none, that is fastest, or nearly so and larger, and fits into the memory."""
    limit = SHARE_OF_MEMORY * available_bytes
    seconds = {
        size: each.seconds
        for size, each in figures.items()
        if size > 1 and size * (each.bytes + data_bytes) <= limit
    }
    if not seconds or min(seconds.values()) >= MIN_SPEEDUP * figures[1].seconds:
        return 1
    return max(size for size, each in seconds.items() if each <= TIE_FACTOR * min(seconds.values()))


def measure(job: Job, device: str) -> dict[int, Measurement]:
    """Figures by size, larger ones as long as they are worth it and fit. Uses this process's threads.

    An array that cannot be trained is none to choose: it is told, and the runs train in smaller ones or alone.
    """
    before, limit = _peak_memory(device), SHARE_OF_MEMORY * available_bytes(device)
    figures: dict[int, Measurement] = {}
    for size in SIZES[device]:
        if figures and size * max(figure.bytes for figure in figures.values()) > limit:
            break
        try:
            seconds = _seconds(job, size)
        except Exception as fault:  # memory, or whatever else an array of this size fails of: told, and done without
            if size == 1:
                raise
            warnings.warn(
                f"arrays of {size} cannot be trained here ({type(fault).__name__}: {fault})",
                DigitPairsWarning,
                stacklevel=2,
            )
            break
        earlier = [figure.seconds for figure in figures.values()]
        figures[size] = Measurement(seconds, max(0.0, _peak_memory(device) - before) / size)
        if earlier and seconds > TIE_FACTOR * min(earlier):
            break
    return figures


def available_bytes(device: str) -> float:
    """Memory that is free for use; on systems that do not say, as much as there is."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")
        )
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def read_cache(key: Hashable, device: str, threads: int) -> dict[int, Measurement] | None:
    """The figures that were measured before, if they were, and what is kept of them is not damaged."""
    try:
        return _figures(_read()[_entry(key, device, threads)])
    except (KeyError, InvalidValueError):
        return None


def _figures(entry: Any) -> dict[int, Measurement]:
    """An entry of the cache, or InvalidValueError for what is none."""
    if not isinstance(entry, dict) or "1" not in entry:
        raise InvalidValueError("the entry", entry, "a mapping from sizes, 1 among them")
    figures = {}
    for size, figure in entry.items():
        if (
            not re.fullmatch("[1-9][0-9]{0,8}", size)
            or not isinstance(figure, list)
            or len(figure) != len(Measurement._fields)
        ):
            raise InvalidValueError(size, figure, "the seconds and bytes of arrays of this size")
        figures[int(size)] = Measurement(
            *(number(name, value) for name, value in zip(Measurement._fields, figure))
        )
    return figures


def write_cache(key: Hashable, device: str, threads: int, figures: dict[int, Measurement]) -> None:
    """Keep the figures for the next time; where they cannot be kept, that is said."""
    entry = {str(size): list(figure) for size, figure in figures.items()}
    try:
        path = _cache()
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, _read() | {_entry(key, device, threads): entry})
    except (OSError, RuntimeError) as fault:  # the latter where there is no home folder
        warnings.warn(
            f"what was measured of this machine's speed cannot be kept ({fault})",
            DigitPairsWarning,
            stacklevel=2,
        )


def _read() -> dict[str, Any]:
    """What is kept; nothing where that is damaged, for it can be measured again."""
    try:
        return files.read_json(_cache()) or {}
    except (OSError, files.DamagedFileError, RuntimeError):
        return {}


def _cache() -> Path:
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "digitpairs"
        / "step_times.json"
    )


def _entry(key: Hashable, device: str, threads: int) -> str:
    return digest([repr(key), device, threads, platform.node(), os.cpu_count(), versions()])


def _seconds(job: Job, size: int) -> float:
    """Of a step, for each member."""
    watch, job = _Stopwatch(), job._replace(config={**job.config, "early_stopping": None})
    trainer = make_trainer({**job.config["trainer"], "max_epochs": MAX_EPOCHS})
    trainer.callbacks.append(watch)
    modules, datamodules = (
        [make_module(job.config) for _ in range(size)],
        [_dummy_data(job) for _ in range(size)],
    )
    with quiet_lightning(), quick_cuda_check():
        trainer.fit(PairComparisonArray(modules), PairDataModuleArray(datamodules))
    return min(watch.seconds[1:] or watch.seconds) / STEPS / size


class _Stopwatch(pl.Callback):
    """Times each epoch, and ends the fit when that is enough."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.started)
        trainer.should_stop = sum(self.seconds[1:]) > MIN_SECONDS


def _dummy_data(job: Job) -> PairDataModule:
    """A data module like the job's, of a few mini-batches of noise."""
    batch_size = job.config["data"]["batch_size"]
    pairs = STEPS * batch_size
    alone = {
        "pairs": max(2, pairs),
        "validation": 0.0,
        "folds": None,
        "fold": 0,
        "test_pairs": 1,
        "watch_test": False,
    }  # trained on, nothing else
    module: PairDataModule = build(job.config["data"] | alone)
    generator = torch.Generator().manual_seed(0)
    images, classes = (
        torch.rand(2 * pairs, 14, 14, generator=generator),
        torch.randint(10, (2 * pairs,), generator=generator),
    )
    module.train_set = PairSet(images, classes, torch.arange(2 * pairs).view(-1, 2))
    module.validation_set = module.test_set = module.train_set.select(slice(0))
    return module


def _peak_memory(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
