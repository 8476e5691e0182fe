"""The plot of a search: its progress, the importance of the settings, and a slice for each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from digitpairs.analysis.drawing import literal, panel_grid, save
from digitpairs.names import text_of
from digitpairs.search.settings import Settings
from digitpairs.search.space import Space
from digitpairs.search.study import SearchStudy

BEST, OTHER = "tab:red", "tab:blue"
SIZE = 14  # of a point
PRUNED: dict[str, Any] = {"facecolors": "none", "edgecolors": "0.6", "s": SIZE}
ACROSS, WIDTH, HEIGHT, DPI = 3, 4.2, 3.2, 120  # panels in a row, and inches of a panel


def draw(
    study: SearchStudy,
    settings: Settings,
    space: Space,
    importances: Mapping[str, Mapping[str, float]],
    path: Path,
) -> None:
    """Write the plot. With several metrics, the slices show the first.

    Pruned trials are drawn hollow, with their values at their last rungs.
    """
    trials = study.finished()
    pruned = [trial for trial in study.trials() if trial.state == TrialState.PRUNED]
    figure, axes = panel_grid(2 + len(space.keys), ACROSS, WIDTH, HEIGHT, layout="constrained")
    first, second, *slices = axes.flat
    if len(settings.metrics) == 1:
        _draw_progress(first, trials, pruned, settings)
    else:
        _draw_front(first, trials, study.optuna.best_trials, settings)
    _draw_importances(second, importances)
    for panel, (name, distribution) in zip(slices, space.distributions.items()):
        _draw_slice(panel, trials, name, distribution, color=OTHER, s=SIZE)
        _draw_slice(panel, pruned, name, distribution, **PRUNED)
        panel.set_ylabel(literal(settings.metrics[0]))
    save(figure, path, DPI)


def _draw_progress(
    axes: plt.Axes,
    trials: Sequence[FrozenTrial],
    pruned: Sequence[FrozenTrial],
    settings: Settings,
) -> None:
    best: Any = max if settings.directions[0] == "maximize" else min
    numbers, values = [each.number for each in trials], [each.values[0] for each in trials]
    axes.scatter(numbers, values, color=OTHER, s=SIZE, label="trial")
    if pruned:
        places = [each.number for each in pruned], [each.values[0] for each in pruned]
        axes.scatter(*places, label="pruned, at its last rung", **PRUNED)
    axes.step(
        numbers, list(itertools.accumulate(values, best)), color=BEST, where="post", label="best"
    )
    axes.set(xlabel="trial", ylabel=literal(settings.metrics[0]))
    axes.legend()


def _draw_front(
    axes: plt.Axes,
    trials: Sequence[FrozenTrial],
    front: Sequence[FrozenTrial],
    settings: Settings,
) -> None:
    """The first two metrics of all trials, and of those on the front."""
    for group, color, label in ((trials, OTHER, "trial"), (front, BEST, "front")):
        places = [[trial.values[metric] for trial in group] for metric in (0, 1)]
        axes.scatter(places[0], places[1], color=color, s=SIZE, label=label)
    axes.set(xlabel=literal(settings.metrics[0]), ylabel=literal(settings.metrics[1]))
    axes.legend()


def _draw_importances(axes: plt.Axes, importances: Mapping[str, Mapping[str, float]]) -> None:
    """A bar for each setting and metric, the most important setting of the first metric on top."""
    names = list(next(iter(importances.values())))[::-1]
    height = 0.8 / len(importances)
    for index, (metric, values) in enumerate(importances.items()):
        places = [place + index * height for place in range(len(names))]
        axes.barh(places, [values.get(name, 0) for name in names], height, label=literal(metric))
    middle = (len(importances) - 1) * height / 2
    axes.set_yticks([place + middle for place in range(len(names))], list(map(literal, names)))
    axes.set_xlabel("importance" if names else "importance: too few trials")
    if len(importances) > 1:
        axes.legend()


def _draw_slice(
    axes: plt.Axes,
    trials: Sequence[FrozenTrial],
    name: str,
    distribution: BaseDistribution,
    **style: Any,
) -> None:
    """The first metric of each trial by its value of a setting."""
    places: list[Any] = [trial.params[name] for trial in trials]
    if isinstance(distribution, CategoricalDistribution):
        choices = list(distribution.choices)
        places = [choices.index(place) for place in places]
        axes.set_xticks(range(len(choices)), [literal(text_of(each)) for each in choices])
    elif getattr(distribution, "log", False):
        axes.set_xscale("log")
    values = [trial.values[0] for trial in trials]
    axes.scatter(places, values, **style)
    axes.set_xlabel(literal(name))
