"""Optuna's samplers, made anew for each trial.

A trial's sampler is seeded by the trial's number, and its state is in the study. So a search that
was interrupted asks for the same trials as one that was not.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial

from digitpairs.search.settings import Settings
from digitpairs.search.space import value_at

_STARTUP = 10  # trials that TPE draws at random, Optuna's default


def make_sampler(
    settings: Settings, space: Mapping[str, BaseDistribution], number: int
) -> BaseSampler:
    """The sampler that asks for the trial with this number."""
    seed = settings.sampler_seed + number
    with warnings.catch_warnings():  # of arguments that Optuna may change
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if settings.sampler == "tpe":
            # The liar takes the trials of the batch that are not told yet for bad ones.
            startup = max(_STARTUP, settings.batch_size)
            return TPESampler(seed=seed, constant_liar=True, n_startup_trials=startup)
        if settings.sampler == "random":
            return RandomSampler(seed=seed)
        if settings.sampler == "qmc":
            return QuasiRandomSampler(settings.sampler_seed, space)
        if settings.sampler == "cma_es":  # a batch is a generation
            return CmaEsSampler(
                seed=seed, popsize=settings.batch_size, warn_independent_sampling=False
            )
        return NSGAIISampler(seed=seed, population_size=settings.batch_size)


class QuasiRandomSampler(BaseSampler):
    """The points of a scrambled Sobol sequence, one a trial (Owen 1998).

    Optuna's sampler of this kind draws at random until a trial is finished, which in a search in
    batches is the whole first batch. Here the space is known, and the first trial is the first
    point. Lists are sampled like intervals.
    """

    def __init__(self, seed: int, space: Mapping[str, BaseDistribution]) -> None:
        self._seed, self._space = seed, space

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        from scipy.stats.qmc import Sobol

        sequence = Sobol(len(search_space), rng=self._seed)
        if trial.number:  # scipy cannot go on by none
            sequence.fast_forward(trial.number)
        (point,) = sequence.random(1)
        quantiles = zip(search_space.items(), point.tolist())
        return {name: value_at(each, quantile) for (name, each), quantile in quantiles}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        raise NotImplementedError("all settings of the space are sampled together")
