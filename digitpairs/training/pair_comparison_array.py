"""PairComparisonArray: many runs trained at once, as one stacked network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Sequence

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from digitpairs.checks import InvalidValueError
from digitpairs.networks import (
    release_members,
    share_members,
    stack,
    stacking_signature,
    why_not_stackable,
)
from digitpairs.training.array_optimizers import ArrayOptimizer
from digitpairs.training.module import ComparisonModule
from digitpairs.training.optimizers import SGD, array_class_of
from digitpairs.training.pair_comparison import PairComparison
from digitpairs.training.schedulers import Timing


class PairComparisonArray(ComparisonModule):
    """Trains many `PairComparison`s in one fit, with a `PairDataModuleArray` of as many members.

    Each member trains as it would by itself: its own initial weights, pairs, order, augmentation, dropout masks, rates,
    weights of the loss, clipping, early stopping and batch-norm statistics; only the products are formed for all members
    at once. No value of one ever meets one of another, so that a member which diverges harms none: it gets a `failure`.
    Afterwards each member has its trained weights, its `history` and `test_metrics`.

    Args:
        members: networks, weighting schemes and optimisers of one kind; their numbers may differ, schedules altogether.
        loggers: for each member the logger that gets its metrics; none by default.

    Raises InvalidValueError for members that cannot be stacked (see `stacking_key`).
    """

    def __init__(self, members: Sequence[PairComparison], loggers: Sequence[Logger] = ()) -> None:
        keys = {stacking_key(member) for member in members}
        if len(keys) != 1 or None in keys:
            raise InvalidValueError(
                "members",
                f"{len(members)} networks",
                "networks, schemes and optimisers of one kind that can be stacked",
            )
        networks = [member.network for member in members]
        super().__init__(
            stack(networks), stack([member.aux for member in members]), (len(members),)
        )
        self.members = tuple(
            members
        )  # in a tuple, so that Lightning does not take them for parts of this module
        self.member_loggers = tuple(loggers)

    def configure_optimizers(self) -> ArrayOptimizer:
        first = self.members[0]
        array_class = array_class_of(first.optimizer_recipe)
        assert array_class is not None  # every member has a stacking key
        return array_class(
            list(self.network.parameters()),
            list(self.aux.parameters()),
            [member.optimizer_recipe.settings for member in self.members],
            [
                math.inf if member.clip_value is None else member.clip_value
                for member in self.members
            ],
            first.clip_algorithm,
        )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        share_members(self, self.members)
        for member, data in zip(self.members, self.trainer.datamodule.members):
            member.set_mean_and_std(*data.mean_and_std)
        self._rates: Iterator[Tensor] | None = None  # from the epoch on with which the fit begins
        self._stop_ended()

    def on_train_epoch_end(self) -> None:
        ran = [not member.ended for member in self.members]
        super().on_train_epoch_end()
        for logger, member, has_run in zip(self.member_loggers, self.members, ran):
            if has_run:
                logger.log_metrics(member.history[-1], step=self.current_epoch)
        self._stop_ended()

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        for logger, member in zip(self.member_loggers, self.members):
            logger.log_metrics(member.test_metrics, step=self.current_epoch)

    def release(self) -> None:
        """Gives the members values of their own, on the CPU: the array is not needed any more."""
        release_members(self, self.members)

    def _stop_ended(self) -> None:
        self.optimizers(use_pl_optimizer=False).stop([member.ended for member in self.members])

    def _start_rates(self) -> Sequence[float]:
        if self._rates is None:
            plan = rates_by_epoch(self.members, self.timing())
            self._rates = itertools.islice(plan, self.current_epoch, None)
        rates = next(self._rates)
        self.optimizers(use_pl_optimizer=False).start_epoch(rates)
        return rates[0].tolist()

    def _end_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Lightning's wrapper is an ArrayOptimizer too; its `step` counts the fit's steps.
        optimizer.step() if isinstance(optimizer, LightningOptimizer) else optimizer.advance()


def stacking_key(member: PairComparison) -> Hashable | None:
    """Members with equal keys can train as one array; None for a run that must train alone."""
    array_class = array_class_of(member.optimizer_recipe)
    if array_class is None or why_alone(member) is not None:
        return None
    settings = member.optimizer_recipe.settings
    return (
        stacking_signature(member.network),
        type(member.aux),
        type(member.optimizer_recipe),
        tuple(settings[key] for key in array_class.shared_settings),
        member.clip_algorithm,
        member.two_stage,
    )


def why_alone(member: PairComparison) -> str | None:
    """The part of a run that cannot be stacked, and the reason; None if the run can be stacked."""
    parts: dict[str, nn.Module] = {"network": member.network, "aux": member.aux}
    reasons = {name: why_not_stackable(part) for name, part in parts.items()}
    if array_class_of(member.optimizer_recipe) is None:
        recipe = type(member.optimizer_recipe)
        reasons["optimizer"] = f"{recipe.__module__}.{recipe.__qualname__} sets no array_class"
    return next((f"{name}: {reason}" for name, reason in reasons.items() if reason), None)


def rates_by_epoch(members: Sequence[PairComparison], timing: Timing) -> Iterator[Tensor]:
    """For each epoch the learning rates of its steps, (steps, members), float64: from torch's schedulers.

    Members with equal rate and equal schedule follow one scheduler.
    """
    plans: dict[tuple, Iterator[list[float]]] = {}
    keys = []
    for member in members:
        rate, schedule = member.optimizer_recipe.settings["lr"], member.schedule
        keys.append((rate, type(schedule), repr(sorted(vars(schedule).items()))))
        plans.setdefault(keys[-1], _rates_of_one(rate, schedule, timing))
    for _ in range(timing.epochs):
        epoch = {key: next(plan) for key, plan in plans.items()}
        yield torch.tensor([epoch[key] for key in keys], dtype=torch.float64).T


def _rates_of_one(rate: float, schedule, timing: Timing) -> Iterator[list[float]]:
    optimizer = SGD(rate)([nn.Parameter(torch.zeros(()))])
    scheduler = schedule(optimizer, timing)
    optimizer.step()  # torch warns of a scheduler that moves before its optimiser
    for _ in range(timing.epochs):
        rates = []
        for _ in range(timing.steps_per_epoch):
            rates.append(optimizer.param_groups[0]["lr"])
            if schedule.interval == "step":
                scheduler.step()
        if schedule.interval == "epoch":
            scheduler.step()
        yield rates
