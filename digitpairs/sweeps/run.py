"""One run: from its config to its files."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import nn

import digitpairs
from digitpairs.checks import InvalidValue, boolean, choice, did_you_mean, integer
from digitpairs.data import PairDataModule
from digitpairs.streams import check_seed
from digitpairs.sweeps import files
from digitpairs.sweeps.jobs import Job, fingerprint
from digitpairs.training import PairComparison, build

_NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
PARTS = ("model", "aux", "optimizer", "scheduler")  # in the order of PairComparison's arguments
SECTIONS = ("data", *PARTS, "trainer", "seed", "seeds", "output")
# Lightning counts chunks of mini-batches here (see digitpairs/data/batches.py), or does not support them at all.
REFUSED = (
    "max_steps", "min_steps", "limit_train_batches", "overfit_batches", "fast_dev_run", "val_check_interval",
    "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches",
)  # fmt: skip
FIXED = dict(
    devices=1,
    enable_progress_bar=False,
    enable_model_summary=False,
    enable_checkpointing=False,
    num_sanity_val_steps=0,
    log_every_n_steps=1,
)
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
PRECISIONS = ("32-true", "64-true", "bf16-mixed")


def check(config: dict[str, Any]) -> None:
    """InvalidValue or DataError for a config that cannot be run; the digits are read, nothing is written."""
    for key in config:
        if key not in SECTIONS:
            raise InvalidValue(key, config[key], f"one of the keys {', '.join(SECTIONS)}{did_you_mean(key, SECTIONS)}")
    check_trainer(config["trainer"])
    for purpose, seed in config["seeds"].items():
        check_seed(f"seeds.{purpose}", seed)
    with _naming("data"):
        datamodule: PairDataModule = build(config["data"])
        datamodule.prepare_data()
    parts = []
    with torch.device("meta"):  # shapes without values
        for section in PARTS:
            with _naming(section):
                parts.append(build(config[section]))
        model = PairComparison(*parts)
    lone = (datamodule.pairs - len(datamodule.held_out)) % datamodule.batch_size == 1 or datamodule.batch_size == 1
    if lone and any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules()):
        raise InvalidValue("data.batch_size", datamodule.batch_size, "one that leaves no mini-batch of a single pair, for batch norm")


def run(job: Job) -> dict[str, Any]:
    """Train and test the job's network; writes its config, TensorBoard events, metrics and checkpoint, and returns its result."""
    started = time.perf_counter()
    files.write_config(job.folder, job.config)
    datamodule: PairDataModule = build(job.config["data"])
    seeds = {f"{purpose}_seed": job.config["seeds"][purpose] for purpose in ("weights", "dropout", "aux")}
    model = PairComparison(*(job.config[section] for section in PARTS), seed=job.seed, **seeds)
    logger = EventsLogger(job.folder, name="", version="", default_hp_metric=False)
    trainer = make_trainer(job.config["trainer"], logger)
    try:
        with _quiet_lightning(), _quick_cuda_check():
            trainer.fit(model, datamodule)
            trainer.test(model, datamodule, verbose=False)
    finally:
        files.write_metrics(job.folder, model.history)
        logger.experiment.close()
    trainer.save_checkpoint(job.folder / files.CHECKPOINT, weights_only=False)
    return {
        "seed": job.seed,
        "fingerprint": fingerprint(job.config),
        "source": datamodule.source,
        "pairs": len(datamodule.train_set.index),
        "test_pairs": len(datamodule.test_set.index),
        "epochs": trainer.current_epoch,
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        **model.test_metrics,
        **{name: value for name, value in model.history[-1].items() if name.startswith(("train/", "validation/"))},
        "seconds": time.perf_counter() - started,
        "versions": versions(),
    }


class EventsLogger(TensorBoardLogger):
    """TensorBoard events alone, in one file for training and test: the config has a file of its own, and the writer is
    closed by who made it. An epoch's scalars are one event, where a `SummaryWriter` writes an event each, at ten times the
    cost."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self.experiment.file_writer.add_summary(Summary(value=values), step)

    def save(self) -> None:
        pass

    def finalize(self, status: str) -> None:
        self.experiment.flush()


def make_trainer(settings: dict[str, Any], logger: TensorBoardLogger | bool = False) -> pl.Trainer:
    """Lightning's trainer for one device, without what a run of seconds does not need."""
    with _quiet_lightning():
        trainer = pl.Trainer(**settings, **FIXED, logger=logger)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid of deterministic mode, a tenth slower
    return trainer


def check_trainer(settings: dict[str, Any]) -> None:
    """InvalidValue for settings that Lightning's Trainer would not take, or that do not fit this training."""
    accepted = [key for key in inspect.signature(pl.Trainer).parameters if key not in (*REFUSED, *FIXED)]
    for key, value in settings.items():
        if key not in accepted:
            near = did_you_mean(key, accepted)
            raise InvalidValue(f"trainer.{key}", value, f"an argument of Lightning's Trainer that makes sense here, such as max_epochs{near}")
    integer("trainer.max_epochs", settings["max_epochs"], at_least=1)
    choice("trainer.accelerator", settings["accelerator"], ACCELERATORS)
    choice("trainer.precision", settings["precision"], PRECISIONS)
    boolean("trainer.deterministic", settings["deterministic"])
    try:
        make_trainer(settings)
    except (ValueError, TypeError, RuntimeError, pl.utilities.exceptions.MisconfigurationException) as fault:
        raise InvalidValue("trainer", "...", f"what Lightning's Trainer takes, which says: {fault}") from fault


def versions() -> dict[str, str]:
    """Of everything that decides the numbers."""
    return {
        "digitpairs": digitpairs.__version__,
        "torch": torch.__version__,
        "pytorch_lightning": pl.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


@contextlib.contextmanager
def _naming(section: str) -> Iterator[None]:
    """Errors of a part, with the key that the user wrote: `c` within aux is `aux.c`."""
    try:
        yield
    except InvalidValue as fault:
        raise fault.within(section) from None
    except InstantiationException as fault:
        cause = fault.__cause__
        if isinstance(cause, InvalidValue):
            raise cause.within(section) from None
        raise InvalidValue(section, "...", f"what its _target_ takes, which says: {cause}") from fault


@contextlib.contextmanager
def _quick_cuda_check() -> Iterator[None]:
    """torch's Adam asks at each step whether there is a GPU. Lightning, when it is imported, makes torch ask NVML, which
    takes 40 microseconds where there is none: a twentieth of a small network's step."""
    before = os.environ.get(_NVML_CHECK)
    os.environ[_NVML_CHECK] = "0"
    try:
        yield
    finally:
        os.environ.pop(_NVML_CHECK) if before is None else os.environ.update({_NVML_CHECK: before})


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's greetings and its warnings of what is meant so (no validation data); others stay."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            yield
    finally:
        logger.setLevel(level)
