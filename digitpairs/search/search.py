"""A search: asks for trials in batches, trains a batch as one sweep, and tells the trials' values.

A trial is a configuration with several seeds. Its value is the mean of a metric of the held-out
pairs over the seeds.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial

from digitpairs import records
from digitpairs.checks import InvalidValueError, choice, integer
from digitpairs.engines import disk, get_engine
from digitpairs.engines.named_parts import named_parts
from digitpairs.overrides import single_overrides
from digitpairs.search.brackets import Bracket, rungs_of, survivors
from digitpairs.search.report import print_batch, print_report
from digitpairs.search.settings import PARAMETERS, SECTION, Settings
from digitpairs.search.space import Space
from digitpairs.search.study import SearchStudy
from digitpairs.sweeps.check import Checker
from digitpairs.sweeps.compose import JobRequest, compose_sweep
from digitpairs.sweeps.jobs import Job, plan_jobs, search_folder
from digitpairs.sweeps.lock import sweep_lock
from digitpairs.sweeps.pauses import prune
from digitpairs.sweeps.sweep import run_sweep
from digitpairs.training import early_stopping

STUDY, JOURNAL = "study", "journal.log"  # in the folder of the search
Folders = Mapping[int, Sequence[Path]]  # of the runs, by the number of the trial
Compose = Callable[[Iterable[Sequence[str]]], list[JobRequest]]
# Trains trials, until an epoch if it is given.
RunTrials = Callable[[Sequence[FrozenTrial], int | None], Folders]


class SearchPlan(NamedTuple):
    """What a search does, checked."""

    settings: Settings
    space: Space
    fixed: Sequence[str]  # overrides that all trials have in common
    typed: Sequence[str]  # those of them that were typed
    compose: Compose
    epochs: int  # of a trial that is not pruned
    folder: Path


def plan_search(
    loader: ConfigLoader,
    master: DictConfig,
    overrides: Mapping[str, Override],
    settings: Settings,
    space: Space,
) -> SearchPlan:
    """Check a search, given the overrides of the command by key. Nothing is written.

    Raises InvalidValueError or DataError if a trial at an end of the space could not be run.
    """
    searched = set(space.keys.values())
    common = [each for key, each in overrides.items() if key not in searched]
    typed = [text for override in common for text in single_overrides(override)]
    compose = functools.partial(compose_sweep, loader, master)
    config = compose([typed])[0].config
    _check_command(config, settings, overrides)
    fixed = [*typed, *_held_out(config["data"], settings)]
    folder = search_folder(compose([fixed])[0], _identity(settings, space))
    plan = SearchPlan(settings, space, fixed, typed, compose, 0, Path(folder))
    jobs = _check_corners(plan)
    epochs = {job.config["trainer"]["max_epochs"] for job in jobs}
    if settings.pruner is not None and len(epochs) > 1:
        raise InvalidValueError(f"{SECTION}.pruner", settings.pruner, "null if the epochs differ")
    rungs_of(settings, max(epochs))
    return plan._replace(epochs=max(epochs), folder=jobs[0].folder.parent.parent)


def run_search(plan: SearchPlan) -> int:
    """Search until all trials are told, and print what was found.

    Returns 0, or 1 if all trials failed. A search that was interrupted goes on with the trials that
    were asked for and not told.
    """
    folder = plan.folder / STUDY
    with sweep_lock(folder):
        study = SearchStudy(folder / JOURNAL, plan.settings, plan.space, plan.epochs)
        run = functools.partial(_run_trials, plan)
        while (batch := study.next_batch()) is not None:
            bracket, trials = batch
            print(f"trials {bracket.first} to {bracket.first + len(trials) - 1}", flush=True)
            run_bracket(study, run, bracket, trials, plan.settings)
            print_batch(study, plan.settings)
        return print_report(study, plan.settings, plan.space, plan.typed, plan.folder)


def run_bracket(
    study: SearchStudy,
    run: RunTrials,
    bracket: Bracket,
    trials: Sequence[FrozenTrial],
    settings: Settings,
) -> None:
    """Train the trials of a bracket that are not told, and tell them.

    At each rung the trials of the bracket are compared by their means over the seeds, those of an
    earlier launch among them. The others are pruned, and the survivors are packed into new arrays.
    """
    alive = [trial for trial in trials if not trial.state.is_finished()]
    for epoch in bracket.rungs:
        folders = run(alive, epoch)
        alive = _without_failed(study, alive, folders)
        for trial in alive:
            rows = [_row_at(each, epoch) for each in folders[trial.number]]
            study.report(trial.number, epoch, _mean(rows, settings.metrics[0]))
        kept = survivors(study.values_at(epoch, trials), settings)
        _prune(study, [trial for trial in alive if trial.number not in kept], folders, epoch)
        alive = [trial for trial in alive if trial.number in kept]
    folders = run(alive, None)
    for trial in _without_failed(study, alive, folders):
        results = [records.read_result(each) or {} for each in folders[trial.number]]
        means = [_mean(results, metric) for metric in settings.metrics]
        errors = [_standard_error(results, metric) for metric in settings.metrics]
        study.complete(trial.number, means, errors)


def _without_failed(
    study: SearchStudy, trials: Sequence[FrozenTrial], folders: Folders
) -> list[FrozenTrial]:
    """The trials none of whose runs has failed; tells the others as failed."""
    going_on = []
    for trial in trials:
        reason = failure_of(folders[trial.number])
        if reason is None:
            going_on.append(trial)
            continue
        for run in folders[trial.number]:
            prune(run, f"its trial failed: {reason}")
        study.fail(trial.number, reason)
    return going_on


def _prune(study: SearchStudy, trials: Sequence[FrozenTrial], folders: Folders, epoch: int) -> None:
    """Prune the trials, and those of their runs that no other trial of `folders` goes on with.

    The files come first: a search that is killed between them and the study prunes again.
    """
    pruned = {trial.number for trial in trials}
    needed = {run for number, runs in folders.items() if number not in pruned for run in runs}
    for trial in trials:
        for run in folders[trial.number]:
            if run not in needed:
                prune(run, f"its trial was pruned after epoch {epoch}")
        study.prune(trial.number)


def failure_of(runs: Sequence[Path]) -> str | None:
    """The reason of the first failed run; None if none has failed."""
    for run in runs:
        if (failure := records.read_failure(run)) is not None:
            return f"{run.name}: {failure['reason']}"
    return None


def _row_at(run: Path, epoch: int) -> Mapping[str, float]:
    """The metrics after an epoch; of a run that ended before it, those of its result."""
    history = records.read_metrics(run)
    return history[epoch - 1] if len(history) >= epoch else records.read_result(run) or {}


def _mean(rows: Sequence[Mapping[str, Any]], metric: str) -> float:
    """The mean of a metric. Raises InvalidValueError if a row lacks it."""
    for row in rows:
        if metric not in row:
            names = [name for name in row if name.startswith("validation/")]
            accepted = f"a metric that the runs have: {', '.join([*names, PARAMETERS])}"
            raise InvalidValueError(f"{SECTION}.metric", metric, accepted)
    return statistics.fmean(row[metric] for row in rows)


def _standard_error(rows: Sequence[Mapping[str, Any]], metric: str) -> float | None:
    """The standard error of the mean; None for a single row, and for the network's size."""
    if len(rows) < 2 or metric == PARAMETERS:
        return None
    return statistics.stdev(row[metric] for row in rows) / len(rows) ** 0.5


def _run_trials(
    plan: SearchPlan, trials: Sequence[FrozenTrial], until: int | None
) -> dict[int, list[Path]]:
    """Train the seeds of the trials. Trials with equal settings share their runs."""
    own = {trial.number: tuple(plan.space.overrides(trial.params)) for trial in trials}
    distinct = list(dict.fromkeys(own.values()))
    if not distinct:
        return {}
    jobs = [
        [*plan.fixed, *overrides, f"seed={seed}"]
        for overrides in distinct
        for seed in plan.settings.seeds
    ]
    runs = run_sweep(plan.compose(jobs), None, plan.folder.name, until).runs
    count = len(plan.settings.seeds)
    by_settings = {each: runs[i * count : (i + 1) * count] for i, each in enumerate(distinct)}
    return {number: by_settings[overrides] for number, overrides in own.items()}


def _check_command(
    config: Mapping[str, Any], settings: Settings, overrides: Mapping[str, Any]
) -> None:
    """Raise InvalidValueError for what the trials cannot have in common."""
    if "seed" in overrides:
        accepted = f"none: each trial has {SECTION}.seeds seeds from {SECTION}.first_seed on"
        raise InvalidValueError("seed", config["seed"], accepted)
    if config["data"].get("watch_test"):
        raise InvalidValueError("data.watch_test", True, "false in a search")
    names = disk.MONITORED if config["task"] == "disk" else early_stopping.MONITORED
    accepted_metrics = [*(name for name in names if name.startswith("validation/")), PARAMETERS]
    for metric in settings.metrics:
        choice(f"{SECTION}.metric", metric, accepted_metrics)
    sweep = config.get("sweep", {})
    _check_executor(sweep, settings)
    count = settings.n_trials * len(settings.seeds)
    max_runs = integer("sweep.max_runs", sweep.get("max_runs"), at_least=1)
    if count > max_runs:
        accepted = f"at least {count}, the number of runs that this search has"
        raise InvalidValueError("sweep.max_runs", max_runs, accepted)


def _check_executor(sweep: Mapping[str, Any], settings: Settings) -> None:
    """Raise InvalidValueError for an executor by which the search could not go on."""
    executor = sweep.get("executor", "local")
    if executor != "local" and settings.pruner is not None:
        accepted = f"null with sweep.executor={executor}: paused runs are files of this machine"
        raise InvalidValueError(f"{SECTION}.pruner", settings.pruner, accepted)
    if executor == "slurm" and not sweep["slurm"]["wait"]:
        accepted = "true in a search, which needs the results of a batch to ask for the next"
        raise InvalidValueError("sweep.slurm.wait", False, accepted)


def _held_out(data: Mapping[str, Any], settings: Settings) -> list[str]:
    """The override that holds pairs out, unless the config does."""
    if data.get("validation") or data.get("folds"):
        return []
    return [f"data.validation={settings.validation}"]


def _identity(settings: Settings, space: Space) -> dict[str, Any]:
    """What decides the trials; `n_trials` extends a search."""
    kept = {key: value for key, value in settings._asdict().items() if key != "n_trials"}
    texts = {name: distribution_to_json(each) for name, each in space.distributions.items()}
    return kept | {"seeds": list(settings.seeds), "space": texts}


def _check_corners(plan: SearchPlan) -> list[Job]:
    """Check trials at the ends of the space; returns their jobs."""
    seed = f"seed={plan.settings.seeds[0]}"
    corners = [[*plan.fixed, *plan.space.overrides(each), seed] for each in plan.space.corners()]
    jobs = plan_jobs(plan.compose(corners), plan.folder.name)
    checker = Checker()
    for job in jobs:
        key = checker.check(job.config)
        if plan.settings.pruner is not None:
            _check_pausable(plan.settings.pruner, job.config, key, checker)
    return jobs


def _check_pausable(
    pruner: str, config: Mapping[str, Any], key: Hashable | None, checker: Checker
) -> None:
    """Raise InvalidValueError for a run that cannot pause at a rung."""
    if not get_engine(config).can_pause:
        accepted = "null unless task=pairs engine=lightning, whose runs can pause"
        raise InvalidValueError(f"{SECTION}.pruner", pruner, accepted)
    if key is None:
        reason = checker.why_alone(config) or "these runs do not train as arrays"
        raise InvalidValueError(f"{SECTION}.pruner", pruner, f"null here: {reason}")
    if named_parts(config, "logger"):
        accepted = "tensorboard with a pruner, whose runs pause"
        raise InvalidValueError("logger", ",".join(named_parts(config, "logger")), accepted)
