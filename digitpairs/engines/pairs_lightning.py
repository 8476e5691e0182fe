"""Pairs of digits with Lightning: a `PairComparison`, or a `PairComparisonArray` of them."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Hashable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import nn

from digitpairs import files
from digitpairs.checks import InvalidValueError, needs
from digitpairs.data import PairDataModule, PairDataModuleArray
from digitpairs.engines.base import (
    Engine,
    Once,
    Run,
    Section,
    built,
    data_without_seeds,
    lightning_checkpoint,
    naming,
    stream_seeds,
)
from digitpairs.engines.lightning_trainer import check_trainer, clipping, make_trainer, running
from digitpairs.losses import Weighting
from digitpairs.training import DivergenceError, PairComparison, PairComparisonArray, build
from digitpairs.training.build import naming_target
from digitpairs.training.early_stopping import build_early_stopping
from digitpairs.training.pair_comparison_array import stacking_key
from digitpairs.training.schedulers import Schedule
from digitpairs.training.stages import first_epochs

# The config's parts, in the order of PairComparison's arguments, with the class of their objects;
# the optimiser is a recipe, and the class is that of what it makes.
KINDS: dict[str, type] = {
    "model": nn.Module,
    "aux": Weighting,
    "optimizer": torch.optim.Optimizer,
    "scheduler": Schedule,
}
PARTS = tuple(KINDS)
SETTINGS = ("two_stage", "label_smoothing")  # of the training, which stand at the config's top
ARGUMENTS = ("early_stopping", *SETTINGS)  # of PairComparison, by their names
# Keys that every section `data` has
DATA = ("source", "root", "pairs", "test_pairs", "seed", "order_seed", "augmentation_seed")


class PairsLightning(Engine):
    """See `Engine`. Which runs train together is measured."""

    own_sections = ("aux", *SETTINGS)
    most_members = None

    def check(self, config: Section, once: Once) -> Hashable | None:
        trainer = config["trainer"]
        once("trainer", trainer, check_trainer)
        datamodule = once("data", data_without_seeds(config["data"]), prepared_data)
        needs("data", config["data"], DATA)
        run = {key: config[key] for key in (*PARTS, *ARGUMENTS)} | {"trainer": clipping(trainer)}
        model, kind = once("run", run, lambda run: _model_and_signature(run, once))
        check_together(datamodule, model, trainer)
        rest = {key: value for key, value in trainer.items() if key not in run["trainer"]}
        return (
            None
            if kind is None
            else (kind, datamodule.source, datamodule.sizes, json.dumps(rest, sort_keys=True))
        )

    def train(self, configs: Sequence[Section], loggers: Sequence[Logger]) -> list[Run]:
        datamodules: list[PairDataModule] = [build(config["data"]) for config in configs]
        members = [make_module(config) for config in configs]
        section = configs[0]["trainer"]
        if stacking_key(members[0]) is None:
            (member,), (datamodule,), (logger,) = members, datamodules, loggers
            fit_and_test(section, member, datamodule, logger)
        else:  # a run by itself is an array of one: it gets the bits that it gets in a larger one
            array = PairComparisonArray(members, loggers)
            fit_and_test(section, array, PairDataModuleArray(datamodules), False)
            array.release()
        return [run_of(member, datamodule) for member, datamodule in zip(members, datamodules)]


def make_module(config: Section) -> PairComparison:
    """The run's module with its initial weights."""
    settings = {key: config[key] for key in ARGUMENTS} | clipping(config["trainer"])
    return PairComparison(
        *(config[section] for section in PARTS), **settings, **stream_seeds(config)
    )


def run_of(member: PairComparison, datamodule: PairDataModule) -> Run:
    """What is left of a trained member."""
    return Run(
        member.history,
        member.test_metrics,
        member.final_row(),
        None if member.failure is None else (member.failure.epoch, str(member.failure)),
        datamodule.source,
        (datamodule.sizes[0], datamodule.sizes[2]),
        sum(parameter.numel() for parameter in member.network.parameters()),
        lambda: lightning_checkpoint(member, len(member.history)),
        {}
        if member.confusion is None
        else {
            files.CONFUSION: json.dumps(dict(zip(("digit1", "digit2"), member.confusion))).encode()
        },
    )


def fit_and_test(
    section: Section,
    module: pl.LightningModule,
    datamodule: pl.LightningDataModule,
    logger: Logger | bool,
) -> None:
    """With the trainer of a config's section `trainer`; a run that diverges says so itself."""
    trainer = make_trainer(section, logger)
    with (
        contextlib.suppress(DivergenceError),
        running(),
    ):  # a run has it as its failure, as each run of an array has
        trainer.fit(module, datamodule)
        trainer.test(module, datamodule, verbose=False)


def prepared_data(section: Section) -> PairDataModule:
    """The data module with its digits read."""
    datamodule = built("data", section)
    with naming("data"):
        if not isinstance(datamodule, PairDataModule):
            raise InvalidValueError(
                "_target_", section["_target_"], "pairs of digits, or task=disk"
            )
        datamodule.prepare_data()
    return datamodule


def _model_and_signature(run: Section, once: Once) -> tuple[PairComparison, Hashable | None]:
    """The run's module, on the "meta" device: shapes without values."""
    with torch.device("meta"):
        parts = [once(name, run[name], functools.partial(_part, name)) for name in PARTS]
        with naming("early_stopping"):
            build_early_stopping(run["early_stopping"])
        with naming("trainer", (*PARTS, *SETTINGS)):
            settings = {key: run[key] for key in ARGUMENTS}
            model = PairComparison(*parts, **settings, **run["trainer"])
    return model, stacking_key(model)


def _part(section: str, part: Section) -> Any:
    """The object of one of PARTS. Raises InvalidValueError unless it is of the class in KINDS."""
    made = found = built(section, part, PARTS)
    name, kind = part["_target_"], KINDS[section]
    if section == "optimizer":  # a recipe
        with torch.device("cpu"), naming(section), naming_target(name):
            found = made([nn.Parameter(torch.zeros(1))])
    if not isinstance(found, kind):
        accepted = f"the name of a class that gives a {kind.__module__}.{kind.__name__}"
        raise InvalidValueError(f"{section}._target_", name, accepted)
    return made


def check_together(datamodule: PairDataModule, model: PairComparison, trainer: Section) -> None:
    """What the network and the early stopping ask of the data, and of the trainer."""
    if model.two_stage is not None:
        first_epochs(model.two_stage, trainer["max_epochs"])
    train, held_out, _, batch_size = datamodule.sizes
    lone = train % batch_size == 1 or batch_size == 1
    if lone and any(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules()
    ):
        raise InvalidValueError(
            "data.batch_size",
            batch_size,
            "one that leaves no mini-batch of a single pair, for batch norm",
        )
    stopping = model.early_stopping
    if stopping.patience is None or not stopping.monitor.startswith("validation"):
        return
    if not held_out:
        needs = "a monitor of the training pairs, such as train/loss, unless data.validation or data.folds holds pairs out"
        raise InvalidValueError("early_stopping.monitor", stopping.monitor, needs)
    for key, usual in (("check_val_every_n_epoch", 1), ("limit_val_batches", 1.0)):
        if trainer.get(key) not in (None, usual):
            raise InvalidValueError(
                f"trainer.{key}",
                trainer[key],
                f"{usual}, since early stopping looks at all validation pairs after each epoch",
            )
