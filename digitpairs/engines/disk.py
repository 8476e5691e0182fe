"""Points of the disk: with `framework`, or with Lightning, its twin."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

import framework as fw
from digitpairs import files
from digitpairs.checks import InvalidValueError, choice, integer, mapping, needs, number, suggestion
from digitpairs.data import DiskDataModule
from digitpairs.engines.base import (
    Engine,
    Once,
    Run,
    Section,
    built,
    data_without_seeds,
    lightning_checkpoint,
    stream_seeds,
    without_seed_keys,
)
from digitpairs.engines.boundary import Boundary, grid
from digitpairs.engines.lightning_trainer import make_trainer, running
from digitpairs.engines.to_framework import copy_back, network_of, optimizer_of, schedule_of
from digitpairs.networks import PointMLP
from digitpairs.streams import stream
from digitpairs.training import PointClassification, build
from digitpairs.training.point_classification import LOSSES, final_row, not_finite

SOURCE = "disk"
PRECISIONS = {"32-true": torch.float32, "64-true": torch.float64}
TRAINER = ("max_epochs", "precision")
STOPPING = ("patience", "monitor", "min_delta")
DATA = ("outside", "seed", "order_seed")  # which every section `data` has
MONITORED = ("validation/loss", "validation/error", "train/loss", "train/error")


class _Disk(Engine):
    own_sections = ("loss",)

    def check(self, config: Section, once: Once) -> None:
        once("trainer", config["trainer"], _check_trainer)
        datamodule = once("data", data_without_seeds(config["data"]), _points)
        needs("data", config["data"], DATA)
        _check_early_stopping(config["early_stopping"], datamodule.held_out)
        run = {key: config[key] for key in ("model", "loss", "optimizer", "scheduler")}
        loss = once("run", run, _check_run)
        if isinstance(loss, fw.BinaryCrossEntropy) and datamodule.outside:
            raise InvalidValueError(
                "data.outside",
                int(datamodule.outside),
                "0 with the binary cross-entropy, whose labels are 0 and 1",
            )
        _check_output(config["model"].get("output_activation"), loss, datamodule.outside)
        lone = (
            datamodule.batch_size == 1
            or (datamodule.points - datamodule.held_out) % datamodule.batch_size == 1
        )
        if config["model"].get("batch_norm") and lone:
            raise InvalidValueError(
                "data.batch_size",
                datamodule.batch_size,
                "one that leaves no mini-batch of a single point, for batch norm",
            )


class DiskFramework(_Disk):
    """See `Engine`. Runs that differ in their seeds alone train as replicas."""

    def check(self, config: Section, once: Once) -> Hashable:
        super().check(config, once)
        return without_seed_keys(config)

    def train(self, configs: Sequence[Section], loggers: Sequence[Logger]) -> list[Run]:
        datamodules, modules = (
            [_data(config) for config in configs],
            [_module(config) for config in configs],
        )
        first, section = modules[0], configs[0]["trainer"]
        dtype = PRECISIONS[section["precision"]]
        network = network_of(
            [module.network for module in modules],
            [stream(module.dropout_seed, "dropout") for module in modules],
        )
        network.to(dtype)
        trainer = fw.Trainer(
            network,
            first.loss,
            optimizer_of(first.optimizer_recipe, network.parameters()),
            [stream(datamodule.order_seed, "order") for datamodule in datamodules],
            batch_size=datamodules[0].batch_size,
            schedule=schedule_of(first.schedule),
            measure=fw.threshold_error(*first.threshold),
        )
        boundary = Boundary(
            lambda: _inside(trainer.predict, datamodules, first.threshold[0], dtype)
        )
        trainer.listeners = [_HistoryListener(loggers), boundary]
        train, validation, test = (
            _stacked(datamodules, name, dtype)
            for name in ("train_set", "validation_set", "test_set")
        )
        with contextlib.suppress(fw.NotFiniteError):  # which says what the trainer's failures say
            trainer.fit(
                train,
                section["max_epochs"],
                validation=validation if datamodules[0].held_out else None,
                early_stopping=first.stopping,
            )
        copy_back(network, [module.network for module in modules])
        for place, (module, tested) in enumerate(zip(modules, trainer.evaluate(test))):
            module.history, module.test_metrics = (
                trainer.history[place],
                {f"test/{name}": value for name, value in tested.items()},
            )
            if place in trainer.failures:
                module.failure = not_finite(*trainer.failures[place])
            elif not math.isfinite(tested["loss"]):
                module.failure = not_finite(trainer.epochs - 1, tested["loss"])
        finished = enumerate(zip(modules, datamodules))
        return [
            _run_of(module, datamodule, boundary, first.stopping, place)
            for place, (module, datamodule) in finished
        ]


class DiskLightning(_Disk):
    """See `Engine`. Each run trains by itself."""

    def train(self, configs: Sequence[Section], loggers: Sequence[Logger]) -> list[Run]:
        (config,), (logger,) = configs, loggers
        datamodule, module = _data(config), _module(config)
        trainer = make_trainer(
            {**config["trainer"], "accelerator": "cpu", "deterministic": True}, logger
        )
        boundary = Boundary(
            lambda: _inside(
                functools.partial(_predictions, module),
                [datamodule],
                module.threshold[0],
                module.dtype,
            )
        )
        trainer.callbacks.append(_EpochCallback(boundary))
        with running():
            trainer.fit(module, datamodule)
            if module.failure is None:
                trainer.test(module, datamodule, verbose=False)
        return [_run_of(module, datamodule, boundary, module.stopping, 0)]


def _data(config: Section) -> DiskDataModule:
    datamodule: DiskDataModule = build(config["data"])
    datamodule.setup()
    return datamodule


def _module(config: Section) -> PointClassification:
    """The run's module with its initial weights; both engines start from it, and leave its checkpoint."""
    parts = (config[section] for section in ("model", "loss", "optimizer", "scheduler"))
    return PointClassification(
        *parts,
        outside=config["data"]["outside"],
        early_stopping=config["early_stopping"],
        **stream_seeds(config),
    )


def _run_of(
    module: PointClassification,
    datamodule: DiskDataModule,
    boundary: Boundary,
    stopping: fw.EarlyStopping | None,
    place: int,
) -> Run:
    """What is left of a trained module; `place` is the replica's in the boundary and the early stopping."""
    last = final_row(module.history, stopping, place)
    return Run(
        module.history,
        module.test_metrics,
        last,
        module.failure,
        SOURCE,
        (datamodule.points - datamodule.held_out, datamodule.test_points),
        sum(parameter.numel() for parameter in module.network.parameters()),
        functools.partial(lightning_checkpoint, module, len(module.history)),
        {}
        if module.failure
        else {files.BOUNDARY: _boundary_file(boundary, place, datamodule, last)},
    )


def _stacked(
    datamodules: Sequence[DiskDataModule], name: str, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    sets = [getattr(datamodule, name) for datamodule in datamodules]
    return tuple(torch.stack(each).to(dtype) for each in zip(*sets))


class _HistoryListener(fw.Listener):
    """Gives each replica's rows to its logger."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = loggers

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        self._loggers[replica].log_metrics(row, step=int(row["epoch"]))


class _EpochCallback(pl.Callback):
    """Tells a listener of `framework.Trainer` of Lightning's epochs."""

    def __init__(self, listener: Boundary) -> None:
        self._listener = listener

    def on_train_epoch_end(self, trainer: pl.Trainer, module: PointClassification) -> None:
        self._listener.epoch(0, {"epoch": trainer.current_epoch})


def _predictions(module: PointClassification, points: torch.Tensor) -> torch.Tensor:
    """As those of `framework`'s trainer, (1, n, 2) -> (1, n, 1); the module's mode stays."""
    training = module.training
    outputs = module.eval()(points[0])[None]
    module.train(training)
    return outputs


def _inside(
    predict: Callable, datamodules: Sequence[DiskDataModule], threshold: float, dtype: torch.dtype
) -> torch.Tensor:
    """Which points of the grid each replica holds for the inside, (replicas, points)."""
    points = torch.stack(
        [(grid() - datamodule.mean) / datamodule.std for datamodule in datamodules]
    )
    with torch.no_grad():
        return predict(points.to(dtype))[..., 0] > threshold


def _boundary_file(
    boundary: Boundary, place: int, datamodule: DiskDataModule, last: Section
) -> bytes:
    train = datamodule.train_set
    return boundary.content(
        place,
        train.inputs * datamodule.std + datamodule.mean,
        train.target[:, 0],
        int(last["epoch"]) + 1,
    )


def _points(section: Section) -> DiskDataModule:
    datamodule = built("data", section)
    if not isinstance(datamodule, DiskDataModule):
        raise InvalidValueError(
            "data._target_",
            section["_target_"],
            "digitpairs.data.DiskDataModule for the disk (data=disk)",
        )
    return datamodule


def _check_output(activation: str | None, loss: Any, outside: float) -> None:
    """That the output can reach both labels, on either side of the threshold."""
    accepted = (
        [None]
        if isinstance(loss, fw.BinaryCrossEntropy)
        else [None, "tanh"]
        if outside
        else [None, "tanh", "sigmoid"]
    )
    if activation not in accepted:
        labels = "logits" if len(accepted) == 1 else f"the labels {outside:g} and 1"
        raise InvalidValueError(
            "model.output_activation",
            activation,
            f"{' or '.join('null' if each is None else each for each in accepted)} for {labels}",
        )


def _check_trainer(section: Section) -> None:
    for key, value in section.items():
        if key not in TRAINER:
            raise InvalidValueError(
                f"trainer.{key}",
                value,
                f"for the disk one of {', '.join(TRAINER)} (trainer=disk){suggestion(key, TRAINER)}",
            )
    mapping("trainer", section, TRAINER, TRAINER)
    integer("trainer.max_epochs", section["max_epochs"], at_least=1)
    choice("trainer.precision", section["precision"], PRECISIONS)


def _check_early_stopping(section: dict[str, Any], held_out: int) -> None:
    mapping("early_stopping", section, STOPPING, STOPPING)
    number("early_stopping.min_delta", section["min_delta"])
    choice("early_stopping.monitor", section["monitor"], MONITORED)
    if section["patience"] is None:
        return
    integer("early_stopping.patience", section["patience"], at_least=1)
    if section["monitor"].startswith("validation") and not held_out:
        raise InvalidValueError(
            "early_stopping.monitor",
            section["monitor"],
            "train/loss or train/error, unless points are held out, as by data.validation=0.2",
        )


def _check_run(run: Section) -> Any:
    """The run's parts, on the "meta" device; returns the loss."""
    with torch.device("meta"):
        network = built("model", run["model"])
        if not isinstance(network, PointMLP):
            raise InvalidValueError(
                "model._target_",
                type(network).__name__,
                "digitpairs.networks.PointMLP for the disk",
            )
    choice("loss.reduction", run["loss"].get("reduction", "mean"), ("mean", "sum"))
    loss = built("loss", run["loss"])
    if type(loss) not in LOSSES:
        raise InvalidValueError(
            "loss._target_", type(loss).__name__, "framework.MSE or framework.BinaryCrossEntropy"
        )
    optimizer, schedule = built("optimizer", run["optimizer"]), built("scheduler", run["scheduler"])
    optimizer_of(optimizer, [fw.Parameter(torch.zeros(1))])
    schedule_of(schedule)
    return loss
