"""Pairs of digits with Lightning: a `PairComparison`, or a `PairComparisonArray` of several."""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import nn

from digitpairs import files
from digitpairs.checks import InvalidValueError, integer, needs
from digitpairs.data import PairDataModule, PairDataModuleArray
from digitpairs.engines.base import (
    SETTINGS,
    VALUE,
    Cached,
    Engine,
    Run,
    Section,
    Stretch,
    build_section,
    data_without_seeds,
    leaves_single_row,
    lightning_checkpoint,
    module_seeds,
    prefixed_errors,
)
from digitpairs.engines.callbacks import check_callbacks, make_callbacks, why_callbacks_alone
from digitpairs.engines.interruption import current_checkpoint, stopping_callbacks
from digitpairs.engines.lightning_trainer import check_trainer, clipping, make_trainer, running
from digitpairs.engines.named_parts import named_parts
from digitpairs.engines.predictions import predictions_file
from digitpairs.losses import Weighting
from digitpairs.losses.weighting import WEIGHTING, try_weighting
from digitpairs.networks import Ensemble, JointNetwork, SiameseNetwork
from digitpairs.networks.ensemble import MOST_NETWORKS
from digitpairs.networks.heads import check_posterior
from digitpairs.networks.initialise import global_generator_from
from digitpairs.streams import stream
from digitpairs.targets import exception_message, is_built_in
from digitpairs.training import (
    DivergenceError,
    PairComparison,
    PairComparisonArray,
    array_checkpoint,
    build,
)
from digitpairs.training.build import naming_target
from digitpairs.training.early_stopping import MONITORED, build_early_stopping
from digitpairs.training.module import HELD_OUT, ComparisonModule
from digitpairs.training.optimizers import SGD
from digitpairs.training.pair_comparison_array import stacking_key, why_alone
from digitpairs.training.schedulers import Schedule, Timing, TorchSchedule, as_schedule
from digitpairs.training.stages import first_epochs

# The sections that name a class by `_target_`, with the class of their objects. An optimiser's
# object is a recipe, and the class is that of the optimiser that it makes.
PART_CLASSES: dict[str, type] = {
    "model": nn.Module,
    "aux": Weighting,
    "optimizer": torch.optim.Optimizer,
    "scheduler": Schedule,
}
# The keys of the config that are keyword arguments of `PairComparison`.
ARGUMENTS = (
    "aux",
    "optimizer",
    "scheduler",
    "early_stopping",
    "two_stage",
    "label_smoothing",
    "ensemble_size",
    "ema",
    "calibrate",
    "tta",
)
# The keys that the section `data` needs.
DATA = ("source", "root", "pairs", "test_pairs", "seed", "order_seed", "augmentation_seed")


class PairsLightning(Engine):
    """See `Engine`. The fastest number of runs that train at once is measured."""

    own_keys = {
        "aux": SETTINGS,
        "two_stage": VALUE,
        "label_smoothing": VALUE,
        "ensemble_size": VALUE,
        "ema": VALUE,
        "calibrate": VALUE,
        "tta": VALUE,
    }
    most_members: int | None = None
    can_pause = True

    def check(self, config: Section, cached: Cached) -> Hashable | None:
        trainer = config["trainer"]
        cached("trainer", trainer, check_trainer)
        datamodule = cached("data", data_without_seeds(config["data"]), prepared_data)
        needs("data", config["data"], DATA)
        module, key = _checked_run(config, cached)
        check_together(datamodule, module, trainer)
        check_callbacks(config, datamodule.sizes[1], MONITORED)
        if key is None or named_parts(config, "callbacks"):
            return None
        rest = {name: value for name, value in trainer.items() if name not in clipping(trainer)}
        return key, datamodule.source, datamodule.sizes, json.dumps(rest, sort_keys=True)

    def why_alone(self, config: Section, cached: Cached) -> str | None:
        return why_alone(_checked_run(config, cached)[0]) or why_callbacks_alone(config)

    def train(self, configs: Sequence[Section], loggers: Sequence[Logger]) -> list[Run]:
        return self.train_stretch(configs, loggers, Stretch())

    def train_stretch(
        self, configs: Sequence[Section], loggers: Sequence[Logger], stretch: Stretch
    ) -> list[Run]:
        datamodules: list[PairDataModule] = [build(config["data"]) for config in configs]
        members = [make_module(config) for config in configs]
        section, callbacks = configs[0]["trainer"], make_callbacks(configs[0])
        if callbacks or stacking_key(members[0]) is None:
            (member,), (datamodule,), (logger,) = members, datamodules, loggers
            with global_generator_from(stream(member.dropout_seed, "dropout")):  # nn.Dropout's
                fit_and_test(section, member, datamodule, logger, callbacks)
            return [make_run(member, datamodule)]
        # A single run is an array of one, which has the same bits as in a larger array.
        array = PairComparisonArray(members, loggers, stretch.until)
        stopping = [] if named_parts(configs[0], "logger") else stopping_callbacks(configs)
        with _joined(stretch.pauses) as joined:
            data = PairDataModuleArray(datamodules)
            checkpoint = current_checkpoint(configs) or joined
            fit_and_test(section, array, data, False, stopping, checkpoint)
        array.release()
        runs = map(make_run, members, datamodules)
        return [run._replace(pause=pause) for run, pause in zip(runs, array.pauses)]


@contextlib.contextmanager
def _joined(pauses: Sequence[bytes]) -> Iterator[Path | None]:
    """The file of the checkpoint of an array that goes on from the pauses; None without any."""
    if not pauses:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "array.ckpt")
        torch.save(array_checkpoint.join(pauses), path)
        yield path


def make_module(config: Section) -> PairComparison:
    """The LightningModule of a run, with its initial weights."""
    arguments = {key: config[key] for key in ARGUMENTS}
    arguments |= clipping(config["trainer"]) | module_seeds(config)
    return PairComparison(config["model"], **arguments)


def make_run(member: PairComparison, datamodule: PairDataModule) -> Run:
    """The results of a trained and tested member."""
    train_pairs, _, test_pairs, _ = datamodule.sizes
    extra_files = {}
    if member.confusion is not None:
        confusion = dict(zip(("digit1", "digit2"), member.confusion))
        extra_files[files.CONFUSION] = json.dumps(confusion).encode()
    if member.test_predictions is not None:
        kept = member.test_predictions
        calibrated = None if member.calibration is None else member.calibrated(kept)
        content = predictions_file(kept, datamodule.test_set, calibrated)
        extra_files[files.PREDICTIONS] = content
    return Run(
        history=member.history,
        test_metrics=member.test_metrics,
        final_row=member.final_row(),
        failure=None if member.failure is None else (member.failure.epoch, str(member.failure)),
        source=datamodule.source,
        sizes=(train_pairs, test_pairs),
        parameters=sum(parameter.numel() for parameter in member.network.parameters()),
        checkpoint=functools.partial(lightning_checkpoint, member, len(member.history)),
        files=extra_files,
    )


def fit_and_test(
    section: Section,
    module: ComparisonModule,
    datamodule: pl.LightningDataModule,
    logger: Logger | bool,
    callbacks: Sequence[pl.Callback] = (),
    checkpoint: Path | None = None,
) -> None:
    """Trains, from the checkpoint if there is one, and tests the runs that have not paused.

    The settings are those of the section `trainer`. A run that diverges is not an error here: it
    keeps the error as its `failure`.
    """
    trainer = make_trainer(section, logger, callbacks)
    with contextlib.suppress(DivergenceError), running():
        trainer.fit(module, datamodule, ckpt_path=checkpoint)
        if not all(member.paused for member in module.members):
            trainer.test(module, datamodule, verbose=False)


def prepared_data(section: Section) -> PairDataModule:
    """The data module of the section `data`, whose digits have been read and checked."""
    datamodule = build_section("data", section)
    with prefixed_errors("data"):
        if not isinstance(datamodule, PairDataModule):
            accepted = "pairs of digits, or task=disk"
            raise InvalidValueError("_target_", section["_target_"], accepted)
        datamodule.prepare_data()
    return datamodule


def _checked_run(config: Section, cached: Cached) -> tuple[PairComparison, Hashable | None]:
    """`_module_and_stacking_key` of the sections that decide them, cached."""
    run = {key: config[key] for key in ("model", *ARGUMENTS)}
    run["trainer"] = clipping(config["trainer"])
    return cached("run", run, lambda run: _module_and_stacking_key(run, cached))


def _module_and_stacking_key(
    run: Section, cached: Cached
) -> tuple[PairComparison, Hashable | None]:
    """The module of a run on the "meta" device (shapes without values), and its `stacking_key`."""
    with torch.device("meta"):
        arguments = {key: run[key] for key in ARGUMENTS} | run["trainer"]
        for section in PART_CLASSES:
            build_part = functools.partial(_build_part, section)
            arguments[section] = cached(section, run[section], build_part)
        with prefixed_errors("early_stopping"):
            build_early_stopping(run["early_stopping"])
        own_keys = (*PART_CLASSES, *PairsLightning.own_keys, "model._target_")
        with prefixed_errors("trainer", own_keys):
            network = _as_ensemble(arguments.pop("model"), arguments.pop("ensemble_size"))
            module = PairComparison(network, **arguments)
    if not is_built_in(run["aux"]):
        _try_weighting(module, run["aux"])
    return module, stacking_key(module)


def _as_ensemble(network: nn.Module, size: int) -> nn.Module:
    """The network, or an ensemble of as many. On the "meta" device they share it."""
    if integer("ensemble_size", size, at_least=1, at_most=MOST_NETWORKS) == 1:
        return network
    return Ensemble([network] * size)


def _build_part(section: str, part: Section) -> Any:
    """The object of a section. Raises InvalidValueError unless it is of its PART_CLASSES."""
    with _without_values(part):
        made = build_section(section, part, tuple(PART_CLASSES))
    name, expected = part["_target_"], PART_CLASSES[section]
    if isinstance(made, (JointNetwork, SiameseNetwork)):
        with prefixed_errors(section):
            check_posterior(part)
    product = made
    with torch.device("cpu"), prefixed_errors(section), naming_target(name):
        if section == "optimizer":  # a recipe
            product = _try_step(made)
        elif section == "scheduler":
            product = made = as_schedule(made)
            if isinstance(made, TorchSchedule):
                _try_step(SGD(lr=0.1), made)
    if not isinstance(product, expected):
        accepted = f"the name of a class that gives a {expected.__module__}.{expected.__name__}"
        raise InvalidValueError(f"{section}._target_", name, accepted)
    if section == "scheduler" and not hasattr(made, "interval"):
        accepted = "a Schedule whose __init__ calls super().__init__(interval)"
        raise InvalidValueError("scheduler._target_", name, accepted)
    return made


@contextlib.contextmanager
def _without_values(part: Section) -> Iterator[None]:
    """Make tensors on the "meta" device, or on the CPU for classes that may not work there."""
    if is_built_in(part):
        with torch.device("meta"):
            yield
    else:
        with torch.device("cpu"), global_generator_from(stream(0, "weights")):
            yield


def _try_step(recipe: Callable[..., Any], schedule: TorchSchedule | None = None) -> Any:
    """The optimiser of a parameter, after a step of it and of the schedule.

    Some need arguments that training does not have, such as LBFGS and ReduceLROnPlateau.
    """
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    optimizer = recipe([parameter])
    scheduler = None if schedule is None else schedule(optimizer, Timing(2, 2))
    if isinstance(optimizer, torch.optim.Optimizer):
        optimizer.step()
    if scheduler is not None:
        scheduler.step()
    return optimizer


def _try_weighting(module: PairComparison, section: Section) -> None:
    """Raises InvalidValueError for a weighting of others that fails in the first epochs."""
    try:
        with torch.device("cpu"):
            try_weighting(module.aux, module.has_digits)
    except Exception as fault:  # a user's class may raise anything
        schedules = [key for key, value in section.items() if isinstance(value, Mapping)]
        hint = f"; a schedule, as {schedules[0]}, is for a Coefficient" if schedules else ""
        accepted = f"{exception_message(fault)}{hint}; {WEIGHTING}"
        raise InvalidValueError("aux._target_", section["_target_"], accepted) from fault


def check_together(datamodule: PairDataModule, module: PairComparison, trainer: Section) -> None:
    """Checks that the network and the early stopping suit the data and the trainer."""
    if module.two_stage is not None:
        first_epochs(module.two_stage, trainer["max_epochs"])
    train, held_out, _, batch_size = datamodule.sizes
    has_batch_norm = any(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules()
    )
    if has_batch_norm and leaves_single_row(train, batch_size):
        accepted = "one that leaves no mini-batch of a single pair, for batch norm"
        raise InvalidValueError("data.batch_size", batch_size, accepted)
    if module.calibration is not None:
        _check_calibration(held_out, trainer)
    stopping = module.early_stopping
    if stopping.patience is None or not stopping.monitor.startswith("validation"):
        return
    if not held_out:
        accepted = (
            "a monitor of the training pairs, such as train/loss, unless data.validation or "
            "data.folds holds pairs out"
        )
        raise InvalidValueError("early_stopping.monitor", stopping.monitor, accepted)
    for key, usual in (("check_val_every_n_epoch", 1), ("limit_val_batches", 1.0)):
        if trainer.get(key) not in (None, usual):
            reason = "since early stopping monitors all validation pairs after each epoch"
            raise InvalidValueError(f"trainer.{key}", trainer[key], f"{usual}, {reason}")


def _check_calibration(held_out: int, trainer: Section) -> None:
    if not held_out:
        raise InvalidValueError("calibrate", "temperature", HELD_OUT)
    if trainer.get("limit_val_batches") not in (None, 1.0):
        accepted = "1.0, since temperatures are fitted on all held-out pairs"
        raise InvalidValueError("trainer.limit_val_batches", trainer["limit_val_batches"], accepted)
