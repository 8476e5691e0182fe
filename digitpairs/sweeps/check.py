"""Whether a config can be run, found out before anything trains or is written; and which runs could train as one array.

Each section is built, and each combination of them checked, once however many jobs share it: a thousand seeds are checked in
the time of one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from digitpairs.checks import InvalidValue, did_you_mean
from digitpairs.data import PairDataModule
from digitpairs.streams import check_seed
from digitpairs.sweeps.trainer import check_trainer, clipping
from digitpairs.training import PairComparison, build
from digitpairs.training.early_stopping import early_stopping as early_stopping_of
from digitpairs.training.pair_comparison_array import stacking_key

PARTS = ("model", "aux", "optimizer", "scheduler")  # in the order of PairComparison's arguments
SECTIONS = ("data", *PARTS, "early_stopping", "trainer", "seed", "seeds", "output")

Section = Mapping[str, Any]


class Checker:
    """Checks one config after another, and remembers what it has checked."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}

    def check(self, config: Section) -> Hashable | None:
        """InvalidValue or DataError for a config that cannot be run; the digits are read, nothing is written.

        Returns what the runs of one array have in common: those with equal keys can train together. None for a run that
        can train only by itself.
        """
        for key in config:
            if key not in SECTIONS:
                raise InvalidValue(key, config[key], f"one of the keys {', '.join(SECTIONS)}{did_you_mean(key, SECTIONS)}")
        _check_seeds("seeds", config["seeds"])
        trainer, data = config["trainer"], config["data"]
        seeds = {key: value for key, value in data.items() if key.endswith("seed")}
        _check_seeds("data", seeds)
        self._once("trainer", trainer, check_trainer)
        datamodule = self._once("data", {key: value for key, value in data.items() if key not in seeds}, _prepared_data)
        run = {key: config[key] for key in (*PARTS, "early_stopping")} | {"trainer": clipping(trainer)}
        model, kind = self._once("run", run, self._model_and_kind)
        _check_together(datamodule, model, trainer)
        rest = {key: value for key, value in trainer.items() if key not in run["trainer"]}
        return None if kind is None else (kind, datamodule.source, datamodule.sizes, json.dumps(rest, sort_keys=True))

    def _model_and_kind(self, run: Section) -> tuple[PairComparison, Hashable | None]:
        """The run's module, on the "meta" device: shapes without values."""
        with torch.device("meta"):
            parts = [self._once(section, run[section], lambda part, section=section: _built(section, part)) for section in PARTS]
            with _naming("early_stopping"):
                early_stopping_of(run["early_stopping"])
            with _naming("trainer"):
                model = PairComparison(*parts, early_stopping=run["early_stopping"], **run["trainer"])
        return model, stacking_key(model)

    def _once(self, name: str, section: Any, work: Callable[[Any], Any]) -> Any:
        key = (name, json.dumps(section, sort_keys=True))
        if key not in self._known:
            self._known[key] = work(section)
        return self._known[key]


def _check_seeds(section: str, seeds: Section) -> None:
    for key, seed in seeds.items():
        check_seed(f"{section}.{key}", seed)


def _built(section: str, part: Section) -> Any:
    with _naming(section):
        return build(part)


def _prepared_data(section: Section) -> PairDataModule:
    with _naming("data"):
        datamodule: PairDataModule = build(section)
        datamodule.prepare_data()
    return datamodule


def _check_together(datamodule: PairDataModule, model: PairComparison, trainer: Section) -> None:
    """What the network and the early stopping ask of the data, and of the trainer."""
    train, held_out, _, batch_size = datamodule.sizes
    lone = train % batch_size == 1 or batch_size == 1
    if lone and any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules()):
        raise InvalidValue("data.batch_size", batch_size, "one that leaves no mini-batch of a single pair, for batch norm")
    stopping = model.early_stopping
    if stopping.patience is None or not stopping.monitor.startswith("validation"):
        return
    if not held_out:
        needs = "a monitor of the training pairs, such as train/loss, unless data.validation or data.folds holds pairs out"
        raise InvalidValue("early_stopping.monitor", stopping.monitor, needs)
    for key, usual in (("check_val_every_n_epoch", 1), ("limit_val_batches", 1.0)):
        if trainer.get(key) not in (None, usual):
            raise InvalidValue(f"trainer.{key}", trainer[key], f"{usual}, since early stopping looks at all validation pairs after each epoch")


@contextlib.contextmanager
def _naming(section: str) -> Iterator[None]:
    """Errors of a part, with the key that the user wrote: `c` within aux is `aux.c`."""
    try:
        yield
    except InvalidValue as fault:
        raise (fault if fault.key in PARTS else fault.within(section)) from None
