"""PairComparisonArray: many runs trained at once, as one stacked network."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import cast

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from digitpairs.checks import InvalidValueError
from digitpairs.networks import stacking
from digitpairs.targets import class_name
from digitpairs.training.array_checkpoint import split
from digitpairs.training.array_optimizers import ArrayOptimizer
from digitpairs.training.module import ComparisonModule
from digitpairs.training.optimizers import SGD, array_class_of
from digitpairs.training.pair_comparison import PairComparison
from digitpairs.training.schedulers import Schedule, Timing, TorchSchedule


class PairComparisonArray(ComparisonModule):
    """Trains many `PairComparison`s in one fit, with a `PairDataModuleArray` of as many members.

    Each member trains as it would alone, with its own random streams, learning rates, weights of
    the loss, clipping, early stopping and batch-norm statistics. No value of one member enters
    another's: a member that diverges gets a `failure`, and the others go on. After the fit, each
    member has its trained weights, its `history` and its `test_metrics`.

    Args:
        members: runs with equal `stacking_key`s; their numbers and their schedules may differ.
        loggers: for each member the logger that gets its metrics; none by default.
        until: epochs after which the members that have not ended pause; None: they do not pause.
            `pauses` has then the checkpoint of each paused member, None for the others, and
            `array_checkpoint.join` makes the checkpoint of another array of them.

    Raises InvalidValueError for members that cannot be stacked.
    """

    def __init__(
        self,
        members: Sequence[PairComparison],
        loggers: Sequence[Logger] = (),
        until: int | None = None,
    ) -> None:
        keys = {stacking_key(member) for member in members}
        if len(keys) != 1 or None in keys:
            accepted = "networks, schemes and optimisers of one kind that can be stacked"
            raise InvalidValueError("members", f"{len(members)} networks", accepted)
        networks = [member.network for member in members]
        weightings = [member.aux for member in members]
        network, aux = stacking.stack(networks), stacking.stack(weightings)
        calibrations = [each.calibration for each in members if each.calibration is not None]
        calibration = stacking.stack(calibrations) if calibrations else None
        super().__init__(network, aux, (len(members),), calibration, members[0].views)
        self._members = tuple(members)  # not registered as submodules
        self._member_loggers = tuple(loggers)
        self._until = until
        self.pauses: list[bytes | None] = [None] * len(members)

    @property
    def members(self) -> Sequence[PairComparison]:
        return self._members

    def configure_optimizers(self) -> ArrayOptimizer:
        first = self.members[0]
        array_class = array_class_of(first.optimizer_recipe)
        assert array_class is not None, "a recipe without one has no stacking key"
        bounds = (member.clip_value for member in self.members)
        return array_class(
            list(self.network.parameters()),
            list(self.aux.parameters()),
            [member.optimizer_recipe.settings for member in self.members],
            [math.inf if bound is None else bound for bound in bounds],
            first.clip_algorithm,
        )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        stacking.share_members(self, self.members)
        for member, data in zip(self.members, self._datamodule.members):
            member.set_mean_and_std(*data.mean_and_std)
        self._rates: Iterator[Tensor] | None = None  # from the fit's first epoch on
        self._freeze_ended()

    def on_train_epoch_end(self) -> None:
        ended_before = [member.ended for member in self.members]
        super().on_train_epoch_end()
        for logger, member, ended in zip(self._member_loggers, self.members, ended_before):
            if not ended:
                logger.log_metrics(member.history[-1], step=self.current_epoch)
        self._freeze_ended()
        if self.current_epoch + 1 == self._until:
            self._pause()

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        for logger, member in zip(self._member_loggers, self.members):
            if not member.paused:
                logger.log_metrics(member.test_metrics, step=self.current_epoch)

    def release(self) -> None:
        """Give the members their own copies of their values, on the CPU, after the last use."""
        stacking.release_members(self, self.members)

    def _pause(self) -> None:
        """Keep the checkpoints of the members that have not ended, and end the fit."""
        self.trainer.should_stop = True
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "array.ckpt")
            self.trainer.save_checkpoint(path)
            checkpoint = torch.load(path, map_location="cpu", weights_only=False)
        for row, part in enumerate(split(checkpoint, len(self.members))):
            if not self.members[row].ended:
                self.pauses[row], self.members[row].paused = part, True

    def _array_optimizer(self) -> ArrayOptimizer:
        return cast(ArrayOptimizer, self.optimizers(use_pl_optimizer=False))

    def _freeze_ended(self) -> None:
        self._array_optimizer().freeze([member.ended for member in self.members])

    def _start_rates(self) -> Sequence[float]:
        if self._rates is None:
            rates = rates_by_epoch(self.members, self.timing())
            self._rates = itertools.islice(rates, self.current_epoch, None)
        epoch_rates = next(self._rates)
        self._array_optimizer().start_epoch(epoch_rates)
        return epoch_rates[0].tolist()

    def _end_step(self, optimizer: torch.optim.Optimizer | LightningOptimizer) -> None:
        if isinstance(optimizer, LightningOptimizer):
            optimizer.step()  # counts the fit's steps
        else:
            cast(ArrayOptimizer, optimizer).step_without_hooks()


def stacking_key(member: PairComparison) -> Hashable | None:
    """Members with equal keys can train as one array; None for a run that must train alone."""
    array_class = array_class_of(member.optimizer_recipe)
    if array_class is None or why_alone(member) is not None:
        return None
    settings = member.optimizer_recipe.settings
    return (
        stacking.stacking_signature(member.network),
        type(member.aux),
        type(member.optimizer_recipe),
        tuple(settings[key] for key in array_class.shared_settings),
        member.clip_algorithm,
        member.two_stage,
        member.calibration is None,
        member.ema is None,
        0 if member.views is None else member.views.count,
    )


def why_alone(member: PairComparison) -> str | None:
    """The part of a run that cannot be stacked, and the reason; None if the run can be stacked."""
    parts: dict[str, nn.Module] = {"network": member.network, "aux": member.aux}
    for name, part in parts.items():
        reason = stacking.why_not_stackable(part)
        if reason is not None:
            return f"{name}: {reason}"
    if array_class_of(member.optimizer_recipe) is None:
        return f"optimizer: {class_name(member.optimizer_recipe)} sets no array_class"
    if isinstance(member.schedule, TorchSchedule):
        return f"scheduler: {class_name(member.schedule.make)} may change more than the rate"
    return None


def rates_by_epoch(members: Sequence[PairComparison], timing: Timing) -> Iterator[Tensor]:
    """For each epoch the learning rates of its steps, (steps, members), float64.

    They come from torch's schedulers; members with equal rate and schedule share one.
    """
    schedulers: dict[Hashable, Iterator[list[float]]] = {}
    keys = []
    for member in members:
        rate, schedule = member.optimizer_recipe.settings["lr"], member.schedule
        key = (rate, type(schedule), repr(sorted(vars(schedule).items())))
        schedulers.setdefault(key, _rates_of_one(rate, schedule, timing))
        keys.append(key)
    for _ in range(timing.epochs):
        epoch = {key: next(rates) for key, rates in schedulers.items()}
        yield torch.tensor([epoch[key] for key in keys], dtype=torch.float64).T


def _rates_of_one(rate: float, schedule: Schedule, timing: Timing) -> Iterator[list[float]]:
    optimizer = SGD(rate)([nn.Parameter(torch.zeros(()))])
    scheduler = schedule(optimizer, timing)
    optimizer.step()  # torch warns of a scheduler that steps before its optimiser
    for _ in range(timing.epochs):
        rates = []
        for _ in range(timing.steps_per_epoch):
            rates.append(optimizer.param_groups[0]["lr"])
            if schedule.interval == "step":
                scheduler.step()
        if schedule.interval == "epoch":
            scheduler.step()
        yield rates
