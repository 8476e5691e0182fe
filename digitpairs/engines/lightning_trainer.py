"""Lightning's Trainer for the runs of this package."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import typing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, ModelSummary, ProgressBar
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment

from digitpairs.checks import InvalidValueError, boolean, choice, integer, needs, suggestion

_NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
# Arguments that count batches, which here are epochs (see digitpairs/data/batches.py), or that have
# no effect under manual optimisation.
REFUSED = (
    "max_steps",
    "min_steps",
    "limit_train_batches",
    "limit_test_batches",
    "limit_predict_batches",
    "overfit_batches",
    "fast_dev_run",
    "val_check_interval",
    "accumulate_grad_batches",
    "reload_dataloaders_every_n_epochs",
    "plugins",
)
# Arguments that are groups of the config, with a choice.
GROUPS = {"logger": "logger=csv", "callbacks": "callbacks=model_checkpoint"}
CLIPPING = ("gradient_clip_val", "gradient_clip_algorithm")  # arguments of PairComparison
FIXED = {
    "devices": 1,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
}
# Lightning adds callbacks of these kinds by itself unless these arguments are False.
CALLBACK_SWITCHES: dict[str, type[pl.Callback]] = {
    "enable_progress_bar": ProgressBar,
    "enable_model_summary": ModelSummary,
    "enable_checkpointing": Checkpoint,
}
NEEDED = ("max_epochs", "accelerator", "precision", "deterministic")
CONFIG_TYPES = (bool, int, float, str, dict, type(None))  # of the values in a config
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
PRECISIONS = ("32-true", "64-true", "bf16-mixed")


class LoggerList(Logger):
    """Passes what it gets to several loggers. A Trainer gets the loggers themselves."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        super().__init__()
        self.loggers = list(loggers)

    @property
    def name(self) -> str:
        return "loggers"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Pass the hyperparameters on."""
        for logger in self.loggers:
            logger.log_hyperparams(params, *args, **kwargs)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Pass a copy of the row on."""
        for logger in self.loggers:
            logger.log_metrics(dict(metrics), step=step)


def clipping(section: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of gradient clipping in the section `trainer`, for `PairComparison`."""
    return {key: section[key] for key in CLIPPING if key in section}


def make_trainer(
    section: Mapping[str, Any], logger: Logger | bool = False, callbacks: Sequence[pl.Callback] = ()
) -> pl.Trainer:
    """Lightning's Trainer with the settings of the section `trainer`, for one device.

    A run is a single process, on a cluster as well. Without `LightningEnvironment`, Lightning would
    use the variables of Slurm, torchrun, MPI, LSF or Kubeflow for distributed training, and refuse
    some of them.
    """
    arguments = {key: value for key, value in section.items() if key not in CLIPPING}
    arguments |= FIXED | {"plugins": [LightningEnvironment()]}
    arguments["logger"] = logger.loggers if isinstance(logger, LoggerList) else logger
    for switch, kind in CALLBACK_SWITCHES.items():
        arguments[switch] = any(isinstance(callback, kind) for callback in callbacks)
    if callbacks:
        arguments["callbacks"] = list(callbacks)
    with quiet_lightning():
        trainer = pl.Trainer(**arguments)
    # Filling memory is a debugging aid of the deterministic mode, and costs a tenth of the time.
    # The ignore: a property of the module.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return trainer


def check_trainer(section: Mapping[str, Any]) -> None:
    """Checks the section `trainer`.

    Raises InvalidValueError for settings that Lightning's Trainer refuses, or that do not suit the
    training of this package.
    """
    parameters = inspect.signature(pl.Trainer).parameters
    elsewhere = (*REFUSED, *FIXED, *CALLBACK_SWITCHES, *GROUPS)
    accepted = [key for key in parameters if key not in elsewhere]
    for key, value in section.items():
        if key in GROUPS:
            usable = f"a choice of the group {key}, as {GROUPS[key]}"
            raise InvalidValueError(f"trainer.{key}", value, usable)
        if key not in accepted:
            usable = "an argument of Lightning's Trainer that can be used here, such as max_epochs"
            near = suggestion(key, accepted)
            raise InvalidValueError(f"trainer.{key}", value, f"{usable}{near}")
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
        reason = f"settings that Lightning's Trainer takes, but it raises: {fault}"
        raise InvalidValueError("trainer", "...", reason) from fault


def _check_type(key: str, value: Any) -> None:
    """Raises InvalidValueError if Lightning's Trainer declares other types for the argument."""
    declared = typing.get_type_hints(pl.Trainer.__init__)[key]
    alternatives = typing.get_args(declared) or (declared,)
    types = [typing.get_origin(alternative) or alternative for alternative in alternatives]
    accepted = [config_type for config_type in CONFIG_TYPES if config_type in types]
    if type(value) not in accepted and not (type(value) is int and float in accepted):
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in accepted)
        reason = f"{names} for this argument of Lightning's Trainer"
        raise InvalidValueError(f"trainer.{key}", value, reason)


@contextlib.contextmanager
def quick_cuda_check() -> Iterator[None]:
    """Makes torch's check for a GPU quick.

    torch's Adam checks for a GPU in each step. Lightning's import makes torch ask NVML, which takes
    40 microseconds on a machine without one, a twentieth of a small network's step.
    """
    before = os.environ.get(_NVML_CHECK)
    os.environ[_NVML_CHECK] = "0"
    try:
        yield
    finally:
        os.environ.pop(_NVML_CHECK) if before is None else os.environ.update({_NVML_CHECK: before})


@contextlib.contextmanager
def running() -> Iterator[None]:
    """The context of a fit: quiet, with a quick check for a GPU.

    Ctrl-C raises KeyboardInterrupt, which Lightning replaces by SystemExit.
    """
    try:
        with quiet_lightning(), quick_cuda_check():
            yield
    except SystemExit as leave:
        if isinstance(leave.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppresses Lightning's messages, and its warnings that need no action here."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            # A run is a single process, which needs no srun; see `make_trainer`.
            warnings.filterwarnings("ignore", "The `srun` command is available")
            yield
    finally:
        logger.setLevel(level)
