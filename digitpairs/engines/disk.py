"""Points of the disk, with `framework` or with Lightning; the two give the same results."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor

import framework as fw
from digitpairs import files
from digitpairs.checks import InvalidValueError, choice, integer, mapping, needs, number, suggestion
from digitpairs.data import DiskDataModule
from digitpairs.engines.base import (
    SETTINGS,
    Cached,
    Engine,
    Run,
    Section,
    build_section,
    data_without_seeds,
    leaves_single_row,
    lightning_checkpoint,
    module_seeds,
    without_seed_keys,
)
from digitpairs.engines.boundary import Boundary, grid
from digitpairs.engines.callbacks import check_callbacks, make_callbacks, refuse_callbacks
from digitpairs.engines.lightning_trainer import make_trainer, running
from digitpairs.engines.to_framework import (
    convert_networks,
    convert_optimizer,
    convert_schedule,
    copy_back,
    make_framework_trainer,
)
from digitpairs.networks import PointMLP
from digitpairs.streams import stream
from digitpairs.training import PointClassification, build
from digitpairs.training.point_classification import LOSSES, final_row, not_finite

SOURCE = "disk"
PRECISIONS = {"32-true": torch.float32, "64-true": torch.float64}
# The keys of the sections `trainer` and `early_stopping`.
TRAINER = ("max_epochs", "precision")
STOPPING = ("patience", "monitor", "min_delta")
DATA = ("outside", "seed", "order_seed")  # the keys that the section `data` needs
MONITORED = ("validation/loss", "validation/error", "train/loss", "train/error")
# The sections that are arguments of `PointClassification`.
PARTS = ("model", "loss", "optimizer", "scheduler")


class _DiskEngine(Engine):
    own_keys = {"loss": SETTINGS}

    def check(self, config: Section, cached: Cached) -> Hashable | None:
        cached("trainer", config["trainer"], _check_trainer)
        datamodule = cached("data", data_without_seeds(config["data"]), _build_data)
        needs("data", config["data"], DATA)
        _check_early_stopping(config["early_stopping"], datamodule.held_out)
        loss = cached("run", {key: config[key] for key in PARTS}, _check_parts)
        if isinstance(loss, fw.BinaryCrossEntropy) and datamodule.outside:
            accepted = "0 with the binary cross-entropy, whose labels are 0 and 1"
            raise InvalidValueError("data.outside", int(datamodule.outside), accepted)
        model, batch_size = config["model"], datamodule.batch_size
        _check_output(model.get("output_activation"), loss, datamodule.outside)
        if model.get("batch_norm") and leaves_single_row(datamodule.train_points, batch_size):
            accepted = "one that leaves no mini-batch of a single point, for batch norm"
            raise InvalidValueError("data.batch_size", batch_size, accepted)
        return None


class DiskFramework(_DiskEngine):
    """See `Engine`. Runs that differ only in their seeds train as replicas."""

    def check(self, config: Section, cached: Cached) -> Hashable | None:
        refuse_callbacks(config)
        super().check(config, cached)
        return without_seed_keys(config)

    def train(self, configs: Sequence[Section], loggers: Sequence[Logger]) -> list[Run]:
        datamodules = [_make_data(config) for config in configs]
        modules = [_make_module(config) for config in configs]
        section, stopping = configs[0]["trainer"], modules[0].stopping
        dtype = PRECISIONS[section["precision"]]
        dropout_streams = [stream(module.dropout_seed, "dropout") for module in modules]
        network = convert_networks([module.network for module in modules], dropout_streams)
        network.to(dtype)
        measure = fw.threshold_error(*modules[0].threshold)
        trainer = make_framework_trainer(modules, datamodules, network, modules[0].loss, measure)
        threshold = modules[0].threshold[0]
        boundary = Boundary(lambda: _predict_inside(trainer.predict, datamodules, threshold, dtype))
        trainer.listeners = [_HistoryListener(loggers), boundary]
        validation = None
        if datamodules[0].held_out:
            validation = _stack_sets(datamodules, "validation_set", dtype)
        with contextlib.suppress(fw.NotFiniteError):  # the trainer's `failures` have the same
            trainer.fit(
                _stack_sets(datamodules, "train_set", dtype),
                section["max_epochs"],
                validation=validation,
                early_stopping=stopping,
            )
        copy_back(trainer.network, [module.network for module in modules])
        _record_results(trainer, modules, _stack_sets(datamodules, "test_set", dtype))
        for logger, module in zip(loggers, modules):
            logger.log_metrics(module.test_metrics, step=len(module.history))
        return [
            _make_run(module, datamodule, boundary, stopping, replica)
            for replica, (module, datamodule) in enumerate(zip(modules, datamodules))
        ]


class DiskLightning(_DiskEngine):
    """See `Engine`. Each run trains alone."""

    def check(self, config: Section, cached: Cached) -> Hashable | None:
        super().check(config, cached)
        datamodule = cached("data", data_without_seeds(config["data"]), _build_data)
        check_callbacks(config, datamodule.held_out, MONITORED)
        return None

    def train(self, configs: Sequence[Section], loggers: Sequence[Logger]) -> list[Run]:
        (config,), (logger,) = configs, loggers
        datamodule, module = _make_data(config), _make_module(config)
        section = {**config["trainer"], "accelerator": "cpu", "deterministic": True}
        predict = functools.partial(_predict, module)
        threshold, dtype = module.threshold[0], PRECISIONS[section["precision"]]
        boundary = Boundary(lambda: _predict_inside(predict, [datamodule], threshold, dtype))
        trainer = make_trainer(section, logger, [_EpochCallback(boundary), *make_callbacks(config)])
        with running():
            trainer.fit(module, datamodule)
            if module.failure is None:
                trainer.test(module, datamodule, verbose=False)
        return [_make_run(module, datamodule, boundary, module.stopping, 0)]


def _make_data(config: Section) -> DiskDataModule:
    datamodule: DiskDataModule = build(config["data"])
    datamodule.setup()
    return datamodule


def _make_module(config: Section) -> PointClassification:
    """The run's module with its initial weights, from which both engines start."""
    arguments = {"early_stopping": config["early_stopping"], **module_seeds(config)}
    parts = [config[section] for section in PARTS]
    return PointClassification(*parts, outside=config["data"]["outside"], **arguments)


def _record_results(
    trainer: fw.Trainer, modules: Sequence[PointClassification], test: tuple[Tensor, Tensor]
) -> None:
    """Gives each module its history, its test metrics and its failure."""
    for replica, (module, metrics) in enumerate(zip(modules, trainer.evaluate(test))):
        module.history = trainer.history[replica]
        module.test_metrics = {f"test/{name}": value for name, value in metrics.items()}
        if replica in trainer.failures:
            module.failure = not_finite(*trainer.failures[replica])
        elif not math.isfinite(metrics["loss"]):
            module.failure = not_finite(trainer.epochs - 1, metrics["loss"])


def _make_run(
    module: PointClassification,
    datamodule: DiskDataModule,
    boundary: Boundary,
    stopping: fw.EarlyStopping | None,
    replica: int,
) -> Run:
    """The results of a trained module, `replica` in the boundary and in the early stopping."""
    last = final_row(module.history, stopping, replica)
    extra_files = {}
    if module.failure is None:
        points = datamodule.train_set.inputs * datamodule.std + datamodule.mean
        labels = datamodule.train_set.target[:, 0]
        extra_files[files.BOUNDARY] = boundary.content(
            replica, points, labels, int(last["epoch"]) + 1
        )
    return Run(
        history=module.history,
        test_metrics=module.test_metrics,
        final_row=last,
        failure=module.failure,
        source=SOURCE,
        sizes=(datamodule.train_points, datamodule.test_points),
        parameters=sum(parameter.numel() for parameter in module.network.parameters()),
        checkpoint=functools.partial(lightning_checkpoint, module, len(module.history)),
        files=extra_files,
    )


def _stack_sets(
    datamodules: Sequence[DiskDataModule], name: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Inputs and targets of the named sets, (replicas, n, ...)."""
    sets = [getattr(datamodule, name) for datamodule in datamodules]
    inputs, targets = (torch.stack(tensors).to(dtype) for tensors in zip(*sets))
    return inputs, targets


class _HistoryListener(fw.Listener):
    """Logs each replica's rows with its logger."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = loggers

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        self._loggers[replica].log_metrics(dict(row), step=int(row["epoch"]))


class _EpochCallback(pl.Callback):
    """Reports the epochs of Lightning's Trainer to the boundary."""

    def __init__(self, boundary: Boundary) -> None:
        self._boundary = boundary

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._boundary.epoch(0, {"epoch": trainer.current_epoch})


def _predict(module: PointClassification, points: Tensor) -> Tensor:
    """The outputs in evaluation mode, (1, n, 2) -> (1, n, 1) as in `framework.Trainer.predict`."""
    training = module.training
    outputs = module.eval()(points[0])[None]
    module.train(training)
    return outputs


def _predict_inside(
    predict: Callable[[Tensor], Tensor],
    datamodules: Sequence[DiskDataModule],
    threshold: float,
    dtype: torch.dtype,
) -> Tensor:
    """Which points of the grid each replica classifies as inside, (replicas, points) bool."""
    grids = [(grid() - datamodule.mean) / datamodule.std for datamodule in datamodules]
    with torch.no_grad():
        return predict(torch.stack(grids).to(dtype))[..., 0] > threshold


def _build_data(section: Section) -> DiskDataModule:
    datamodule = build_section("data", section)
    if not isinstance(datamodule, DiskDataModule):
        accepted = "digitpairs.data.DiskDataModule for the disk (data=disk)"
        raise InvalidValueError("data._target_", section["_target_"], accepted)
    return datamodule


def _check_output(activation: str | None, loss: Any, outside: float) -> None:
    """Checks that the output can reach both labels, on either side of the threshold."""
    if isinstance(loss, fw.BinaryCrossEntropy):
        accepted, labels = ["null"], "logits"
    else:
        accepted = ["null", "tanh"] if outside else ["null", "tanh", "sigmoid"]
        labels = f"the labels {outside:g} and 1"
    if (activation or "null") not in accepted:
        names = " or ".join(accepted)
        raise InvalidValueError("model.output_activation", activation, f"{names} for {labels}")


def _check_trainer(section: Section) -> None:
    for key, value in section.items():
        if key not in TRAINER:
            accepted = f"for the disk one of {', '.join(TRAINER)} (trainer=disk)"
            near = suggestion(key, TRAINER)
            raise InvalidValueError(f"trainer.{key}", value, f"{accepted}{near}")
    needs("trainer", section, TRAINER)
    integer("trainer.max_epochs", section["max_epochs"], at_least=1)
    choice("trainer.precision", section["precision"], PRECISIONS)


def _check_early_stopping(section: Section, held_out: int) -> None:
    mapping("early_stopping", section, STOPPING, STOPPING)
    number("early_stopping.min_delta", section["min_delta"])
    choice("early_stopping.monitor", section["monitor"], MONITORED)
    if section["patience"] is None:
        return
    integer("early_stopping.patience", section["patience"], at_least=1)
    if section["monitor"].startswith("validation") and not held_out:
        accepted = (
            "train/loss or train/error, unless points are held out, as by data.validation=0.2"
        )
        raise InvalidValueError("early_stopping.monitor", section["monitor"], accepted)


def _check_parts(parts: Section) -> Any:
    """Checks the sections PARTS, the model on the "meta" device, and returns the loss."""
    with torch.device("meta"):
        network = build_section("model", parts["model"])
    if not isinstance(network, PointMLP):
        accepted = "digitpairs.networks.PointMLP for the disk"
        raise InvalidValueError("model._target_", type(network).__name__, accepted)
    choice("loss.reduction", parts["loss"].get("reduction", "mean"), ("mean", "sum"))
    loss = build_section("loss", parts["loss"])
    if type(loss) not in LOSSES:
        accepted = "framework.MSE or framework.BinaryCrossEntropy"
        raise InvalidValueError("loss._target_", type(loss).__name__, accepted)
    optimizer = build_section("optimizer", parts["optimizer"])
    convert_optimizer(optimizer, [fw.Parameter(torch.zeros(1))])
    convert_schedule(build_section("scheduler", parts["scheduler"]))
    return loss
