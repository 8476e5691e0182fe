"""Pairs of digits with `framework`: the networks, data, order and masks of the runs with Lightning, without autograd."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Mapping, Sequence

import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor

import framework as fw
from digitpairs.checks import InvalidValueError
from digitpairs.data import PairDataModule, PairSet
from digitpairs.engines.base import Once, Run, Section, data_without_seeds, without_seed_keys
from digitpairs.engines.pairs_lightning import PairsLightning, make_module, prepared_data, run_of
from digitpairs.engines.to_framework import copy_back, network_of, optimizer_of, schedule_of
from digitpairs.losses import Weighting, loss_parts
from digitpairs.losses.parts import PARTS
from digitpairs.networks import Prediction, create
from digitpairs.streams import stream
from digitpairs.training import PairComparison, build
from digitpairs.training.metrics import confusion, error_rates

TRAINER = (
    "max_epochs",
    "accelerator",
    "precision",
    "deterministic",
    "gradient_clip_val",
    "gradient_clip_algorithm",
)


class PairsFramework(PairsLightning):
    """See `Engine`. Whatever Lightning would refuse is refused; runs that differ in their seeds alone train as replicas."""

    most_members = 16

    def check(self, config: Section, once: Once) -> Hashable:
        super().check(config, once)
        for section, check in (("trainer", _check), ("model", _check_model), ("aux", _check_aux)):
            once(f"framework's {section}", config[section], check)
        datamodule = once("data", data_without_seeds(config["data"]), prepared_data)
        if datamodule.augmentation:
            raise InvalidValueError(
                "data.augmentation", config["data"]["augmentation"], "none with engine=framework"
            )
        for setting, none in (("two_stage", "null"), ("label_smoothing", "0")):
            if config[setting]:
                raise InvalidValueError(setting, config[setting], f"{none} with engine=framework")
        if datamodule.watch_test:
            raise InvalidValueError("data.watch_test", True, "false with engine=framework")
        return without_seed_keys(config)

    def train(self, configs: Sequence[Section], loggers: Sequence[Logger]) -> list[Run]:
        datamodules: list[PairDataModule] = [build(config["data"]) for config in configs]
        for datamodule in datamodules:
            datamodule.prepare_data()
            datamodule.setup()
        members = [make_module(config) for config in configs]
        Training(members, datamodules, loggers).run(configs[0]["trainer"]["max_epochs"])
        return [run_of(member, datamodule) for member, datamodule in zip(members, datamodules)]


class Training(fw.Listener):
    """Several members' training by one `framework.Trainer`; each member keeps its own history, weights of the loss and end."""

    def __init__(
        self,
        members: Sequence[PairComparison],
        datamodules: Sequence[PairDataModule],
        loggers: Sequence[Logger] = (),
    ) -> None:
        self.members, self.datamodules, self.loggers = members, datamodules, loggers
        first = members[0]
        for member, datamodule in zip(members, datamodules):
            member.start()
            member.set_mean_and_std(*datamodule.mean_and_std)
        self.network = network_of(
            [member.network for member in members], [member.dropout_stream for member in members]
        )
        self.loss = fw.PairLoss(torch.ones(len(members), len(PARTS)))
        self.trainer = fw.Trainer(
            self.network,
            self.loss,
            optimizer_of(first.optimizer_recipe, self.network.parameters()),
            [stream(datamodule.order_seed, "order") for datamodule in datamodules],
            batch_size=datamodules[0].batch_size,
            schedule=schedule_of(first.schedule),
            measure=_measured,
            listeners=[self],
        )
        for place in range(len(members)):
            self._start_epoch(place, 0)

    def run(self, epochs: int) -> None:
        """Train, give the members their weights, and test."""
        train, held_out, test = (
            self.data(name) for name in ("train_set", "validation_set", "test_set")
        )
        stopping = self.members[0].early_stopping
        early = (
            None
            if stopping.patience is None
            else fw.EarlyStopping(stopping.patience, stopping.monitor, stopping.min_delta)
        )
        with contextlib.suppress(fw.NotFiniteError):  # the members have it as their failures
            self.trainer.fit(
                train, epochs, validation=held_out if held_out.rows else None, early_stopping=early
            )
        copy_back(self.network, [member.network for member in self.members])
        for member, metrics, datamodule in zip(
            self.members, self.trainer.evaluate(test), self.datamodules
        ):
            pairs = datamodule.test_set.take(slice(None))
            with torch.no_grad():
                prediction = member.eval()(pairs.images)
            member.record_test(metrics, confusion(prediction, pairs.digits).tolist())

    def data(self, name: str) -> fw.Data:
        """All members' pairs of the set, normalised as Lightning's runs normalise them."""
        sets: list[PairSet] = [getattr(datamodule, name) for datamodule in self.datamodules]
        pairs = [each.take(slice(None)) for each in sets]
        images = torch.stack(
            [(each.images - member.mean) / member.std for each, member in zip(pairs, self.members)]
        )
        digits, target = (
            torch.stack([each.digits for each in pairs]),
            torch.stack([each.target for each in pairs]),
        )
        return fw.Data(images, (target[..., None].to(images.dtype), digits))

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        """Hears of an epoch from the trainer: it is recorded as in Lightning, and the next one's weights are set."""
        member, epoch = self.members[replica], int(row["epoch"])
        member.start_epoch(epoch, row["learning_rate"])  # once more, now that the rate is known
        for split in ("train", "validation"):
            metrics = {
                name.removeprefix(f"{split}/"): value
                for name, value in row.items()
                if name.startswith(f"{split}/")
            }
            if metrics:
                member.record(split, metrics)
        member.end_epoch()
        for logger in self.loggers[replica : replica + 1]:
            logger.log_metrics(member.history[-1], step=epoch)
        self._start_epoch(replica, epoch + 1)

    def _start_epoch(self, place: int, epoch: int) -> None:
        """Sets the weights of the member's loss for an epoch."""
        self.members[place].start_epoch(epoch, 0.0)
        self.loss.weights[place] = self.members[place].aux.current()


def _measured(answer: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """The parts of the loss and the error rates of Lightning's runs, by the same functions."""
    comparison, digits = targets
    prediction, target = Prediction(*answer), comparison.squeeze(-1).long()
    parts = loss_parts(prediction, digits, target).double().unbind(-1)
    return {f"{name}_loss": part for name, part in zip(PARTS, parts)} | error_rates(
        prediction, digits, target
    )


def _check(trainer: Section) -> None:
    """Of the section `trainer`, what this engine has not."""
    for key, value in trainer.items():
        if key not in TRAINER:
            raise InvalidValueError(
                f"trainer.{key}",
                value,
                f"engine=lightning; with engine=framework one of {', '.join(TRAINER)}",
            )
    for key, accepted in {
        "accelerator": ("auto", "cpu"),
        "precision": ("32-true",),
        "gradient_clip_val": (None,),
    }.items():
        if trainer[key] not in accepted:
            raise InvalidValueError(
                f"trainer.{key}",
                trainer[key],
                f"{' or '.join(map(str, accepted))} with engine=framework",
            )


def _check_model(model: Section) -> None:
    network_of([create(lambda: build(model), stream(0, "weights"))], [stream(0, "dropout")])


def _check_aux(aux: Section) -> None:
    weighting = build(aux)
    if type(weighting).start_step is not Weighting.start_step or list(weighting.parameters()):
        accepted = "weights that are fixed within an epoch with engine=framework: aux=lambda, gamma, convex, free, none or dwa"
        raise InvalidValueError("aux", type(weighting).__name__, accepted)
