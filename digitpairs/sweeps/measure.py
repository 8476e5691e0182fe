"""Measures how fast this machine trains one run and arrays of several sizes, on random images.

The measurements are cached in $XDG_CACHE_HOME or ~/.cache, one entry for each kind of run, machine
and version of torch. After the file is deleted they are made again.
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
STEPS = 5  # per epoch
MAX_EPOCHS = 20
MAX_RELATIVE_TIME = 0.97  # of a step in an array, relative to a run alone, for arrays to be chosen
TIE_FACTOR = 1.08  # of arrays about as fast as the fastest the largest is chosen: fewer starts
SHARE_OF_MEMORY = 0.5
# Settings of the data for training pairs alone
_TRAINING_ONLY = {"validation": 0.0, "folds": None, "fold": 0, "test_pairs": 1, "watch_test": False}


class Measurement(NamedTuple):
    """What the training of one member takes in an array of some size."""

    seconds: float  # per step
    bytes: float  # of memory at the peak, with a few mini-batches of data


def best_size(measurements: dict[int, Measurement], data_bytes: int, available_bytes: float) -> int:
    """The array size to use, 1 for no arrays: the largest of the fastest that fit into memory."""
    limit = SHARE_OF_MEMORY * available_bytes
    seconds = {
        size: each.seconds
        for size, each in measurements.items()
        if size > 1 and size * (each.bytes + data_bytes) <= limit
    }
    if not seconds or min(seconds.values()) >= MAX_RELATIVE_TIME * measurements[1].seconds:
        return 1
    fastest = min(seconds.values())
    return max(size for size, each in seconds.items() if each <= TIE_FACTOR * fastest)


def measure(job: Job, device: str) -> dict[int, Measurement]:
    """Measurements by array size, up to the size that is no longer faster or does not fit.

    Uses as many threads as this process does. Warns of a size at which training fails, and stops.
    """
    before, limit = _peak_memory(device), SHARE_OF_MEMORY * available_bytes(device)
    measurements: dict[int, Measurement] = {}
    for size in SIZES[device]:
        if size * max((each.bytes for each in measurements.values()), default=0) > limit:
            break
        try:
            seconds = _seconds_per_step(job, size)
        except Exception as fault:  # out of memory, or any other reason: smaller arrays are used
            if size == 1:
                raise
            reason = f"{type(fault).__name__}: {fault}"
            _warn(f"arrays of {size} cannot be trained here ({reason})")
            break
        earlier = [each.seconds for each in measurements.values()]
        memory = max(0.0, _peak_memory(device) - before)
        measurements[size] = Measurement(seconds, memory / size)
        if earlier and seconds > TIE_FACTOR * min(earlier):
            break
    return measurements


def available_bytes(device: str) -> float:
    """The free memory; on systems that do not report it, all memory."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable"))
    return int(kilobytes) * 1024


def read_cache(key: Hashable, device: str, threads: int) -> dict[int, Measurement] | None:
    """The cached measurements; None if there are none or their entry is damaged."""
    try:
        return _checked(_read()[_entry_name(key, device, threads)])
    except (KeyError, InvalidValueError):
        return None


def write_cache(
    key: Hashable, device: str, threads: int, measurements: dict[int, Measurement]
) -> None:
    """Cache the measurements. Warns if the file cannot be written."""
    entry = {str(size): list(measurement) for size, measurement in measurements.items()}
    try:
        path = _cache_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, _read() | {_entry_name(key, device, threads): entry})
    except (OSError, RuntimeError) as fault:  # RuntimeError: there is no home folder
        _warn(f"the measured speed of this machine cannot be kept ({fault})")


def _checked(entry: Any) -> dict[int, Measurement]:
    """The measurements of a cache entry. Raises InvalidValueError if the entry is damaged."""
    if not isinstance(entry, dict) or "1" not in entry:
        raise InvalidValueError("the entry", entry, "a mapping from sizes, 1 among them")
    measurements = {}
    for size, values in entry.items():
        is_size = re.fullmatch("[1-9][0-9]{0,8}", size)
        fields = Measurement._fields
        if not is_size or not isinstance(values, list) or len(values) != len(fields):
            raise InvalidValueError(size, values, "the seconds and bytes of arrays of this size")
        measurements[int(size)] = Measurement(*map(number, fields, values))
    return measurements


def _read() -> dict[str, Any]:
    """The cache; empty if the file is missing or damaged, since it can be measured again."""
    try:
        return files.read_json(_cache_path()) or {}
    except (OSError, files.DamagedFileError, RuntimeError):
        return {}


def _cache_path() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "digitpairs" / "step_times.json"


def _entry_name(key: Hashable, device: str, threads: int) -> str:
    return digest([repr(key), device, threads, platform.node(), os.cpu_count(), versions()])


def _seconds_per_step(job: Job, size: int) -> float:
    """The seconds of a training step, divided by the number of members."""
    job = job._replace(config={**job.config, "early_stopping": None, "calibrate": "none"})
    stopwatch = _Stopwatch()
    changes = {"max_epochs": MAX_EPOCHS, "callbacks": [stopwatch]}
    trainer = make_trainer({**job.config["trainer"], **changes})
    modules = [make_module(job.config) for _ in range(size)]
    datamodules = [_random_data(job) for _ in range(size)]
    with quiet_lightning(), quick_cuda_check():
        trainer.fit(PairComparisonArray(modules), PairDataModuleArray(datamodules))
    return min(stopwatch.seconds[1:] or stopwatch.seconds) / STEPS / size


class _Stopwatch(pl.Callback):
    """Times each epoch, and stops the fit after `MIN_SECONDS`."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.started)
        trainer.should_stop = sum(self.seconds[1:]) > MIN_SECONDS


def _random_data(job: Job) -> PairDataModule:
    """A data module like the job's, with a few mini-batches of random images."""
    section = job.config["data"]
    pairs = STEPS * section["batch_size"]
    module: PairDataModule = build({**section, **_TRAINING_ONLY, "pairs": max(2, pairs)})
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2 * pairs, 14, 14, generator=generator)
    classes = torch.randint(10, (2 * pairs,), generator=generator)
    module.train_set = PairSet(images, classes, torch.arange(2 * pairs).view(-1, 2))
    module.validation_set = module.test_set = module.train_set.select(slice(0))
    return module


def _peak_memory(device: str) -> float:
    """The peak memory of this process so far, in bytes."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _warn(message: str) -> None:
    warnings.warn(message, DigitPairsWarning, stacklevel=3)
