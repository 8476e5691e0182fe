"""The end of a search: its best trials, the settings to paste, their importance, and a plot."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from digitpairs.arguments import command_name
from digitpairs.names import text_of
from digitpairs.search.settings import Settings
from digitpairs.search.space import Space
from digitpairs.search.study import (
    FAILURE,
    STANDARD_ERROR,
    SearchStudy,
    direction_of,
    override_line,
)
from digitpairs.sweeps.plan import plural
from digitpairs.terminal import plus_minus

MOST_SHOWN = 10  # trials in the table
FEWEST = 4  # trials for an importance
DIGITS = 4  # of a setting in the table
PICTURE = "search.png"

Importance = Mapping[str, float]  # of each setting, their sum is 1


def print_batch(study: SearchStudy, settings: Settings) -> None:
    """Print the best trial so far."""
    best = best_trials(study)
    if best:
        sign = plus_minus(Console())
        pairs = zip(settings.metrics, _values(best[0], sign))
        values = ", ".join(f"{metric} = {value}" for metric, value in pairs)
        others = f" and {len(best) - 1} others on the front" if len(best) > 1 else ""
        print(f"best so far: trial {best[0].number}, {values}{others}", flush=True)


def print_report(
    study: SearchStudy, settings: Settings, space: Space, fixed: Sequence[str], folder: Path
) -> int:
    """Print the report and write the plot; returns the exit status, 1 if all trials failed.

    Args:
        study: with all trials told.
        settings: of the search.
        space: of the search.
        fixed: the overrides of the final training beside the best settings.
        folder: of the search.
    """
    console = Console()
    best = best_trials(study)
    _print_counts(study, console)
    if not best:
        reasons = {str(trial.user_attrs.get(FAILURE)) for trial in study.trials()}
        print(f"error: all trials failed: {'; '.join(sorted(reasons)[:3])}", file=sys.stderr)
        return 1
    console.print(_table(study, settings, space, plus_minus(console)))
    importances = importance(study, settings, space)
    lines = [
        *(_importance_line(metric, each) for metric, each in importances.items()),
        f"Best:    {override_line(space, best[0].params)}",
        f"Train:   {final_command(space, best[0], fixed)}",
    ]
    from digitpairs.search.plot import draw  # matplotlib takes a while to import

    path = folder / PICTURE
    draw(study, settings, space, importances, path)
    lines += [
        f"Plot:    {path}",
        f"Study:   optuna-dashboard {shlex.quote(str(study.path))}",
        f"Results: {folder}",
    ]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0


def best_trials(study: SearchStudy) -> list[FrozenTrial]:
    """The best trial; for several metrics the Pareto front, by the first metric."""
    if not study.finished():
        return []
    if len(study.optuna.directions) == 1:
        return [study.optuna.best_trial]
    return ranked(study, study.optuna.best_trials)


def ranked(study: SearchStudy, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials by their first metric, the best one first."""
    maximizes = study.optuna.directions[0] == StudyDirection.MAXIMIZE
    sign = -1 if maximizes else 1
    return sorted(trials, key=lambda trial: (sign * trial.values[0], trial.number))


def importance(study: SearchStudy, settings: Settings, space: Space) -> dict[str, Importance]:
    """The importance of each setting by what it is for; empty with too few trials.

    It is for each metric. Where trials were pruned, it is for the metric after the first rung,
    which all trials of the longest brackets have reached.
    """
    rungs = {epoch for trial in study.trials() for epoch in trial.intermediate_values}
    if rungs:
        first = min(rungs)
        values = study.values_at(first, study.trials())
        name = f"{settings.metrics[0]} after {plural(first, 'epoch')}"
        return {name: _importance(study, settings.directions[0], space, values)}
    found = {}
    for index, (metric, direction) in enumerate(zip(settings.metrics, settings.directions)):
        values = {trial.number: trial.values[index] for trial in study.finished()}
        found[metric] = _importance(study, direction, space, values)
    return found


def _importance(
    study: SearchStudy, direction: str, space: Space, values: Mapping[int, float]
) -> Importance:
    """Optuna's importance of the settings for these values of trials, by number."""
    if len(values) < FEWEST or len(set(values.values())) < 2:
        return {}
    copy = optuna.create_study(direction=direction_of(direction))
    for number, value in values.items():
        params, distributions = study.trials()[number].params, dict(space.distributions)
        copy.add_trial(optuna.create_trial(params=params, distributions=distributions, value=value))
    with warnings.catch_warnings():  # of evaluators that Optuna may change
        warnings.simplefilter("ignore")
        return optuna.importance.get_param_importances(copy)


def final_command(space: Space, trial: FrozenTrial, fixed: Sequence[str]) -> str:
    """The command that trains the trial's settings with seeds that the search has not seen."""
    settings = " ".join(map(shlex.quote, fixed))
    line = override_line(space, trial.params)
    return " ".join(filter(None, [command_name(), settings, line, "-m seed=0..9"]))


def _print_counts(study: SearchStudy, console: Console) -> None:
    names = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    states = [trial.state for trial in study.trials()]
    parts = [f"{states.count(state)} {name}" for state, name in names.items() if state in states]
    console.print(f"{len(states)} trials: {', '.join(parts)}", highlight=False)


def _table(study: SearchStudy, settings: Settings, space: Space, sign: str) -> Table:
    """The best trials; for several metrics those of the front."""
    is_single = len(settings.metrics) == 1
    shown_trials = ranked(study, study.finished()) if is_single else best_trials(study)
    count = len(settings.seeds)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    table.caption = Text(f"means of {count} seeds {sign} standard error, held-out pairs")
    for name in ("trial", *settings.metrics, *_short(list(space.keys))):
        table.add_column(Text(name), justify="right")
    for trial in shown_trials[:MOST_SHOWN]:
        shown = (_shown(trial.params[name]) for name in space.keys)
        table.add_row(str(trial.number), *_values(trial, sign), *map(Text, shown))
    return table


def _values(trial: FrozenTrial, sign: str) -> list[str]:
    """The value of each metric with its standard error."""
    errors = trial.user_attrs[STANDARD_ERROR]
    errors = errors if isinstance(errors, list) else [errors]
    return [
        f"{value:.{DIGITS}g}" + (f" {sign} {error:.2g}" if error is not None else "")
        for value, error in zip(trial.values, errors)
    ]


def _importance_line(metric: str, values: Importance) -> str:
    if not values:
        return f"Importance for {metric}: {FEWEST} trials with different values show it"
    parts = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
    return f"Importance for {metric}: {parts}"


def _short(names: Sequence[str]) -> list[str]:
    """The last parts of the names, where they are clear."""
    ends = [name.rpartition(".")[2] for name in names]
    return [end if ends.count(end) == 1 else name for name, end in zip(names, ends)]


def _shown(value: object) -> str:
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else text_of(value)
