"""Lightning's trainer as the runs here use it."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import typing
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment

from digitpairs.checks import InvalidValueError, boolean, choice, integer, needs, suggestion

_NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
# Lightning counts epochs as batches here (see digitpairs/data/batches.py), or has no such thing under manual optimisation.
REFUSED = (
    "max_steps", "min_steps", "limit_train_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches", "fast_dev_run",
    "val_check_interval", "accumulate_grad_batches", "reload_dataloaders_every_n_epochs", "plugins",
)  # fmt: skip
CLIPPING = ("gradient_clip_val", "gradient_clip_algorithm")  # done by each run for itself
FIXED = {
    "devices": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
}
NEEDED = ("max_epochs", "accelerator", "precision", "deterministic")
PLAIN = (bool, int, float, str, dict, type(None))  # types that a config's values have
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
PRECISIONS = ("32-true", "64-true", "bf16-mixed")


def clipping(section: Mapping[str, Any]) -> dict[str, Any]:
    """What the config's section `trainer` says of gradient clipping, as arguments of `PairComparison`."""
    return {key: section[key] for key in CLIPPING if key in section}


def make_trainer(section: Mapping[str, Any], logger: Logger | bool = False) -> pl.Trainer:
    """Lightning's trainer for one device, without what a run of seconds does not need.

    A run is one process also on a cluster. Left to itself, Lightning would take the variables of Slurm, torchrun, MPI, LSF
    or Kubeflow for those of a distributed training, and refuse some of them.
    """
    arguments = {key: value for key, value in section.items() if key not in CLIPPING}
    with quiet_lightning():
        trainer = pl.Trainer(**arguments, **FIXED, logger=logger, plugins=[LightningEnvironment()])
    torch.utils.deterministic.fill_uninitialized_memory = (
        False  # a debugging aid of deterministic mode, a tenth slower
    )
    return trainer


def check_trainer(section: Mapping[str, Any]) -> None:
    """InvalidValueError for settings that Lightning's Trainer would not take, or that do not fit this training."""
    accepted = [
        key
        for key in inspect.signature(pl.Trainer).parameters
        if key not in (*REFUSED, *FIXED, "logger")
    ]
    for key, value in section.items():
        if key not in accepted:
            near = suggestion(key, accepted)
            raise InvalidValueError(
                f"trainer.{key}",
                value,
                f"an argument of Lightning's Trainer that makes sense here, such as max_epochs{near}",
            )
    needs("trainer", section, NEEDED)
    integer("trainer.max_epochs", section["max_epochs"], at_least=1)
    choice("trainer.accelerator", section["accelerator"], ACCELERATORS)
    choice("trainer.precision", section["precision"], PRECISIONS)
    boolean("trainer.deterministic", section["deterministic"])
    for key in section.keys() - {*NEEDED, *CLIPPING}:
        _check_type(key, section[key])
    if section.get("check_val_every_n_epoch") is not None:
        integer("trainer.check_val_every_n_epoch", section["check_val_every_n_epoch"], at_least=1)
    try:
        make_trainer(section)
    except Exception as fault:  # Lightning's Trainer raises errors of many kinds
        raise InvalidValueError(
            "trainer", "...", f"what Lightning's Trainer takes, which says: {fault}"
        ) from fault


def _check_type(key: str, value: Any) -> None:
    """Raises InvalidValueError for a value of another type than Lightning's Trainer declares."""
    declared = typing.get_type_hints(pl.Trainer.__init__)[key]
    members = [typing.get_origin(each) or each for each in typing.get_args(declared) or (declared,)]
    accepted = [each for each in PLAIN if each in members]
    if type(value) not in accepted and not (type(value) is int and float in accepted):
        names = ["null" if each is type(None) else each.__name__ for each in accepted]
        those = f"{' or '.join(names)} for this argument of Lightning's Trainer"
        raise InvalidValueError(f"trainer.{key}", value, those)


@contextlib.contextmanager
def quick_cuda_check() -> Iterator[None]:
    """Torch's Adam asks at each step whether there is a GPU. Lightning, when it is imported, makes torch ask NVML, which
    takes 40 microseconds where there is none: a twentieth of a small network's step.
    """
    before = os.environ.get(_NVML_CHECK)
    os.environ[_NVML_CHECK] = "0"
    try:
        yield
    finally:
        os.environ.pop(_NVML_CHECK) if before is None else os.environ.update({_NVML_CHECK: before})


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Around a fit: quiet, quick, and Ctrl-C as Python has it, which Lightning makes an exit of its own."""
    try:
        with quiet_lightning(), quick_cuda_check():
            yield
    except SystemExit as leave:
        if isinstance(leave.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
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
