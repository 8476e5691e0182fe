"""Pairs of digits with `framework`: the runs of Lightning, without autograd.

Networks, data, order of the mini-batches and dropout masks are those of the runs with Lightning.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Mapping, Sequence

import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor

import framework as fw
from digitpairs.checks import InvalidValueError
from digitpairs.data import PairDataModule, PairSet
from digitpairs.data.pairs import Pairs
from digitpairs.engines.base import Cached, Run, Section, data_without_seeds, without_seed_keys
from digitpairs.engines.callbacks import refuse_callbacks
from digitpairs.engines.pairs_lightning import PairsLightning, make_module, make_run, prepared_data
from digitpairs.engines.to_framework import (
    convert_clipping,
    convert_networks,
    copy_back,
    make_framework_trainer,
)
from digitpairs.losses import Weighting, loss_parts
from digitpairs.losses.parts import PARTS
from digitpairs.names import text_of
from digitpairs.networks import Prediction
from digitpairs.streams import stream
from digitpairs.training import PairComparison, build
from digitpairs.training.build import build_network
from digitpairs.training.metrics import confusion, error_rates

# The supported keys of the section `trainer` with the accepted values; None is as in Lightning.
TRAINER: dict[str, tuple[str | None, ...] | None] = {
    "max_epochs": None,
    "accelerator": ("auto", "cpu"),
    "precision": ("32-true",),
    "deterministic": None,
    "gradient_clip_val": None,
    "gradient_clip_algorithm": None,
}
# Settings that `framework` does not have, with the values that turn them off.
OFF = {"two_stage": None, "label_smoothing": 0, "ensemble_size": 1, "ema": None, "tta": 0}


class PairsFramework(PairsLightning):
    """See `Engine`. Runs that differ only in their seeds train as replicas.

    A config must also be valid for Lightning.
    """

    most_members = 16
    can_pause = False

    def check(self, config: Section, cached: Cached) -> Hashable | None:
        refuse_callbacks(config)
        super().check(config, cached)
        cached("framework's trainer", config["trainer"], _check_trainer)
        cached("framework's model", config["model"], _check_model)
        cached("framework's aux", config["aux"], _check_aux)
        datamodule = cached("data", data_without_seeds(config["data"]), prepared_data)
        if datamodule.augmentation:
            accepted = "none with engine=framework"
            raise InvalidValueError("data.augmentation", config["data"]["augmentation"], accepted)
        for setting, off in OFF.items():
            if config[setting] != off:
                accepted = f"{text_of(off)} with engine=framework"
                raise InvalidValueError(setting, config[setting], accepted)
        for setting in ("watch_test", "redraw"):
            if getattr(datamodule, setting):
                raise InvalidValueError(f"data.{setting}", True, "false with engine=framework")
        return without_seed_keys(config)

    def why_alone(self, config: Section, cached: Cached) -> str | None:
        return None

    def train(self, configs: Sequence[Section], loggers: Sequence[Logger]) -> list[Run]:
        datamodules: list[PairDataModule] = [build(config["data"]) for config in configs]
        for datamodule in datamodules:
            datamodule.prepare_data()
            datamodule.setup()
        members = [make_module(config) for config in configs]
        Training(members, datamodules, loggers).run(configs[0]["trainer"]["max_epochs"])
        return [make_run(member, datamodule) for member, datamodule in zip(members, datamodules)]


class Training(fw.Listener):
    """The training of several members by one `framework.Trainer`.

    Each member has its own history, loss weights and end of training.
    """

    def __init__(
        self,
        members: Sequence[PairComparison],
        datamodules: Sequence[PairDataModule],
        loggers: Sequence[Logger] = (),
    ) -> None:
        self.members, self.datamodules, self.loggers = members, datamodules, loggers
        for member, datamodule in zip(members, datamodules):
            member.start()
            member.set_mean_and_std(*datamodule.mean_and_std)
        self.network = convert_networks(
            [member.network for member in members], [member.dropout_stream for member in members]
        )
        self.loss = fw.PairLoss(torch.ones(len(members), len(PARTS)))
        self.trainer = make_framework_trainer(
            members, datamodules, self.network, self.loss, _measure, convert_clipping(members[0])
        )
        self.trainer.listeners = [self]
        for replica in range(len(members)):
            self._start_epoch(replica, 0)

    def run(self, epochs: int) -> None:
        """Trains, copies the weights to the members, and tests."""
        held_out = self.data("validation_set")
        stopping, early_stopping = self.members[0].early_stopping, None
        if stopping.patience is not None:
            early_stopping = fw.EarlyStopping(
                stopping.patience, stopping.monitor, stopping.min_delta
            )
        with contextlib.suppress(fw.NotFiniteError):  # the members keep it as their failures
            self.trainer.fit(
                self.data("train_set"),
                epochs,
                validation=held_out if held_out.rows else None,
                early_stopping=early_stopping,
            )
        copy_back(self.network, [member.network for member in self.members])
        for member, datamodule in zip(self.members, self.datamodules):
            if member.calibration is not None:
                prediction, pairs = _predicted(member, datamodule.validation_set)
                member.calibration.fit(prediction, pairs.digits, pairs.target)
        test_metrics = self.trainer.evaluate(self.data("test_set"))
        for member, metrics, datamodule in zip(self.members, test_metrics, self.datamodules):
            prediction, pairs = _predicted(member, datamodule.test_set)
            tables = confusion(prediction, pairs.digits).tolist()
            member.record_test(metrics, tables, prediction)
        for logger, member in zip(self.loggers, self.members):
            logger.log_metrics(member.test_metrics, step=len(member.history))

    def data(self, name: str) -> fw.Data:
        """The named set of all members, normalised as in the runs with Lightning."""
        sets: list[PairSet] = [getattr(datamodule, name) for datamodule in self.datamodules]
        pairs = [pair_set.take(slice(None)) for pair_set in sets]
        images = [
            (batch.images - member.get_buffer("mean")) / member.get_buffer("std")
            for batch, member in zip(pairs, self.members)
        ]
        inputs = torch.stack(images)
        target = torch.stack([batch.target for batch in pairs])[..., None].to(inputs.dtype)
        return fw.Data(inputs, (target, torch.stack([batch.digits for batch in pairs])))

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        """Records an epoch as Lightning does, and sets the loss weights of the next one."""
        member, epoch = self.members[replica], int(row["epoch"])
        member.start_epoch(epoch, row["learning_rate"])  # again, since the rate is known now
        for split in ("train", "validation"):
            prefix = f"{split}/"
            metrics = {
                name.removeprefix(prefix): value
                for name, value in row.items()
                if name.startswith(prefix)
            }
            if metrics:
                member.record(split, metrics)
        member.end_epoch()
        if self.loggers:
            self.loggers[replica].log_metrics(member.history[-1], step=epoch)
        self._start_epoch(replica, epoch + 1)

    def _start_epoch(self, replica: int, epoch: int) -> None:
        """Sets the loss weights of the member for an epoch."""
        self.members[replica].start_epoch(epoch, 0.0)
        self.loss.weights[replica] = self.members[replica].aux.current()


@torch.no_grad()
def _predicted(member: PairComparison, pair_set: PairSet) -> tuple[Prediction, Pairs]:
    """The logits of all pairs of a set, and the pairs."""
    pairs = pair_set.take(slice(None))
    return member.eval()(pairs.images), pairs


def _measure(answer: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """The parts of the loss and the error rates, by the functions that Lightning's runs use."""
    comparison, digits = targets
    prediction, target = Prediction(*answer), comparison.squeeze(-1).long()
    parts = loss_parts(prediction, digits, target).double().unbind(-1)
    losses = {f"{name}_loss": part for name, part in zip(PARTS, parts)}
    return losses | error_rates(prediction, digits, target)


def _check_trainer(section: Section) -> None:
    for key, value in section.items():
        if key not in TRAINER:
            accepted = f"engine=lightning; with engine=framework one of {', '.join(TRAINER)}"
            raise InvalidValueError(f"trainer.{key}", value, accepted)
    for key, values in TRAINER.items():
        if values is not None and section.get(key) not in values:
            accepted = f"{' or '.join(map(str, values))} with engine=framework"
            raise InvalidValueError(f"trainer.{key}", section[key], accepted)


def _check_model(model: Section) -> None:
    network = build_network(model, 0)
    convert_networks([network], [stream(0, "dropout")])


def _check_aux(aux: Section) -> None:
    weighting = build(aux)
    if type(weighting).start_step is not Weighting.start_step or list(weighting.parameters()):
        accepted = (
            "weights that are fixed within an epoch with engine=framework: "
            "aux=lambda, gamma, convex, free, none or dwa"
        )
        raise InvalidValueError("aux", type(weighting).__name__, accepted)
