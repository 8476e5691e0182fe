"""Hyperparameter search against Optuna's own loop over a plain loop, grid and random search.

    python benchmarks/search.py --trials 64 --repetitions 10

The space is the rate, weight decay, lambda, width and dropout of `siamese_mlp`; a trial has three
seeds. The first part compares the time for equally many trials: Optuna's `study.optimize` trains
one run after another by a loop in plain PyTorch with torch's default number of threads. It makes
all trials, since its sampler comes to prefer some widths, which cost more than others. The second
part compares what is found in equal time: grid, random and TPE with equally many trials, and
halving with as many trials as cost the same epochs. The best settings are trained again with new
seeds, since the best value of a search is too good by chance. Ratios and differences are formed
within a repetition.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import optuna
from contenders import draw, error_of, plain_epoch
from scipy import stats

from digitpairs.cli import main as command
from digitpairs.data import sources
from digitpairs.records import read_result
from digitpairs.search.brackets import rungs_of
from digitpairs.search.settings import settings_of

METRIC = "validation/comparison_error"
WIDTHS = (50, 100, 200)
SPACE = {
    "optimizer.lr": "tag(log,interval(1e-4,1e-1))",
    "optimizer.weight_decay": "tag(log,interval(1e-6,1e-1))",
    "aux.lambda": "interval(0.1,4)",
    "model.body.hidden": ",".join(f"[{width}]" for width in WIDTHS),
    "model.body.dropout": "interval(0.01,0.6)",
}
BOUNDS = {
    "optimizer.lr": (1e-4, 1e-1),
    "optimizer.weight_decay": (1e-6, 1e-1),
    "aux.lambda": (0.1, 4.0),
    "model.body.dropout": (0.01, 0.6),
}
LOG = ("optimizer.lr", "optimizer.weight_decay")
# With which contenders each is compared, repetition by repetition.
BASELINES = {
    "grid": ["random"],
    "random": [],
    "TPE": ["random"],
    "TPE, halving": ["random", "TPE"],
}
COMMON = ["model=siamese_mlp", "trainer.accelerator=cpu"]
FINAL_SEED = 1000  # the first of those with which the best settings are trained again
CONFIDENCE = 0.95


class Found(NamedTuple):
    """What a search has found."""

    seconds: float
    trials: int
    value: float  # the best mean held-out error in per cent
    settings: list[str]  # of the best trial


def run_command(arguments: Sequence[str], output: Path) -> float:
    """The seconds of a command in this process, without its imports."""
    before, start = sys.argv, time.perf_counter()
    sys.argv = ["train.py", *COMMON, *arguments, f"output={output}", "-m"]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            command()
    finally:
        sys.argv = before
    return time.perf_counter() - start


def search(options: argparse.Namespace, repetition: int, *changes: str) -> Found:
    """A search with `hydra/sweeper=optuna`."""
    section = {
        "n_trials": options.trials,
        "seeds": options.seeds,
        "first_seed": first_seed(repetition),
        "seed": repetition * 1000,
    }
    arguments = [
        "hydra/sweeper=optuna",
        *common_settings(options),
        *(f"{key}={space}" for key, space in SPACE.items()),
        *(f"hydra.sweeper.{key}={value}" for key, value in section.items()),
    ]
    given = {change.partition("=")[0] for change in changes}
    arguments = [each for each in arguments if each.partition("=")[0] not in given]
    with tempfile.TemporaryDirectory() as folder:
        seconds = run_command([*arguments, *changes], Path(folder))
        (path,) = Path(folder).glob("search,*/study/journal.log")
        backend = optuna.storages.journal.JournalFileBackend(str(path))
        storage = optuna.storages.JournalStorage(backend)
        study = optuna.load_study(study_name=None, storage=storage)
        best, count = study.best_trial, len(study.trials)
    return Found(seconds, count, best.value, shlex.split(best.user_attrs["overrides"]))


def grid(options: argparse.Namespace, repetition: int) -> Found:
    """An ordinary sweep over a grid of at most as many points."""
    seeds = range(first_seed(repetition), first_seed(repetition) + options.seeds)
    lists = grid_values(options.trials)
    arguments = [
        *common_settings(options),
        "data.validation=0.2",
        *(f"{key}={','.join(values)}" for key, values in lists.items()),
        f"seed={','.join(map(str, seeds))}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        seconds = run_command(arguments, Path(folder))
        value, settings = best_configuration(Path(folder), lists)
    return Found(seconds, math.prod(map(len, lists.values())), value, settings)


def grid_values(points: int) -> dict[str, list[str]]:
    """Evenly spaced values: the rate gets most, the widths are all there, the others share."""
    counts = dict.fromkeys(BOUNDS, 1)
    for key in itertools.cycle(BOUNDS):
        grown = counts | {key: counts[key] + 1}
        if len(WIDTHS) * math.prod(grown.values()) > points:
            break
        counts = grown
    lists = {
        key: [repr(place(key, i, count)) for i in range(count)] for key, count in counts.items()
    }
    return lists | {"model.body.hidden": [f"[{width}]" for width in WIDTHS]}


def place(key: str, index: int, count: int) -> float:
    """The middle of one of `count` equal parts of a setting's interval."""
    low, high = map(math.log, BOUNDS[key]) if key in LOG else BOUNDS[key]
    value = low + (index + 0.5) / count * (high - low)
    return float(f"{math.exp(value) if key in LOG else value:.4g}")


def best_configuration(folder: Path, keys) -> tuple[float, list[str]]:
    results = defaultdict(list)
    for path in folder.glob("*/*/seed=*/result.json"):
        results[path.parent.parent].append(read_result(path.parent))
    best = min(results.values(), key=mean_error)
    settings = [each for each in best[0]["overrides"] if each.partition("=")[0] in keys]
    return mean_error(best), settings


def mean_error(results) -> float:
    return statistics.fmean(result[METRIC] for result in results)


def retrain(options: argparse.Namespace, settings: Sequence[str]) -> float:
    """The mean held-out error of the settings over new seeds."""
    seeds = range(FINAL_SEED, FINAL_SEED + options.final_seeds)
    common = [*common_settings(options), "data.validation=0.2"]
    with tempfile.TemporaryDirectory() as folder:
        run_command([*common, *settings, f"seed={','.join(map(str, seeds))}"], Path(folder))
        paths = Path(folder).glob("*/*/seed=*/result.json")
        return mean_error([json.loads(path.read_text()) for path in paths])


def common_settings(options: argparse.Namespace) -> list[str]:
    return [f"trainer.max_epochs={options.epochs}", f"data.batch_size={options.batch_size}"]


def first_seed(repetition: int) -> int:
    return 200 + 10 * repetition


class Network(nn.Module):
    """`siamese_mlp` with one hidden layer, in plain PyTorch."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        hidden = [nn.Linear(196, width), nn.ReLU(), nn.Dropout(dropout)]
        self.body = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))
        self.compare = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, images):
        digits = self.body(images.flatten(0, 1)[:, None]).view(-1, 2, 10)
        return self.compare(digits.softmax(-1).flatten(1))[:, 0], digits


def plain_run(source, params, options: argparse.Namespace, seed: int) -> float:
    """The held-out error of a run by a loop over mini-batches."""
    epochs, batch_size = options.epochs, options.batch_size
    torch.manual_seed(seed)
    images, digits, target = draw(source.train.images, source.train.classes, 1000)
    images = (images - images.mean()) / images.std()
    network = Network(params["width"], params["dropout"])
    optimizer = torch.optim.Adam(
        network.parameters(), lr=params["lr"], weight_decay=params["weight_decay"]
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, params["lr"], math.ceil(800 / batch_size) * epochs, cycle_momentum=False
    )
    pairs = images[:800], digits[:800], target[:800]
    for _ in range(epochs):
        plain_epoch(network, optimizer, scheduler, pairs, batch_size, params["lambda"])
    return error_of(network, images[800:], target[800:])


def optunas_loop(source, options: argparse.Namespace, repetition: int) -> float:
    """The seconds of `study.optimize` over the plain loop."""
    seeds = range(first_seed(repetition), first_seed(repetition) + options.seeds)

    def objective(trial: optuna.Trial) -> float:
        params = {
            "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
            "lambda": trial.suggest_float("lambda", 0.1, 4.0),
            "width": trial.suggest_categorical("width", WIDTHS),
            "dropout": trial.suggest_float("dropout", 0.01, 0.6),
        }
        return statistics.fmean(plain_run(source, params, options, seed) for seed in seeds)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=repetition))
    start = time.perf_counter()
    study.optimize(objective, n_trials=options.trials)
    return time.perf_counter() - start


def halving_trials(options: argparse.Namespace, factor: int = 3) -> int:
    """The number of trials that cost as many epochs with halving as `trials` do without."""
    section = dict.fromkeys(("metric", "sampler", "min_epochs"))
    section |= {"n_trials": 1, "batch_size": 18, "seeds": 1, "first_seed": 0, "seed": 0}
    section |= {"pruner": "halving", "reduction_factor": factor, "validation": 0.2}
    rungs = rungs_of(settings_of(section | {"direction": "minimize"}, "pairs"), options.epochs)
    trials, cost = 18, 0
    for start, end in zip([0, *rungs], [*rungs, options.epochs]):
        cost += trials * (end - start)
        trials = math.ceil(trials / factor)
    return round(options.trials * 18 * options.epochs / cost)


def mean_and_interval(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.2f}"
    spread = statistics.stdev(values) / len(values) ** 0.5
    half = spread * stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"


def compare_time(source, options: argparse.Namespace) -> None:
    ratios = []
    for repetition in range(options.repetitions):
        loop = optunas_loop(source, options, repetition)
        found = search(options, repetition)
        ratios.append(loop / found.seconds)
        line = f"  Optuna's loop {loop:.1f} s, this project {found.seconds:.1f} s"
        print(f"{line}: {ratios[-1]:.2f} times as fast", flush=True)
    low, high = min(ratios), max(ratios)
    print(f"  median {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})", flush=True)


def compare_quality(options: argparse.Namespace) -> None:
    sampler, pruner = "hydra.sweeper.sampler", "hydra.sweeper.pruner"
    halving = [f"hydra.sweeper.n_trials={halving_trials(options)}", "hydra.sweeper.batch_size=18"]
    contenders = {
        "grid": lambda repetition: grid(options, repetition),
        "random": lambda repetition: search(options, repetition, f"{sampler}=random"),
        "TPE": lambda repetition: search(options, repetition),
        "TPE, halving": lambda repetition: search(
            options, repetition, f"{pruner}=halving", *halving
        ),
    }
    found = defaultdict(list)
    retrained = defaultdict(list)
    for repetition in range(options.repetitions):
        for name, contender in contenders.items():
            found[name].append(contender(repetition))
            retrained[name].append(retrain(options, found[name][-1].settings))
    for name, all_found in found.items():
        seconds = statistics.median(each.seconds for each in all_found)
        best = mean_and_interval([each.value for each in all_found])
        again = mean_and_interval(retrained[name])
        line = f"  {name:13} {all_found[0].trials:4} trials, {seconds:6.1f} s; best {best} %"
        line += f"; trained again {again} %"
        for reference in BASELINES[name]:
            pairs = zip(retrained[name], retrained[reference])
            line += f"; minus {reference} {mean_and_interval([a - b for a, b in pairs])}"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of a trial")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--final-seeds", type=int, default=20, help="of the best settings")
    parser.add_argument("--only", choices=("time", "quality"), help="one of the two parts")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the contenders' warnings
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    source = sources.load(sources.resolve("auto"))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, torch {torch.__version__}, Optuna {optuna.__version__}, {source.name}")
    what = f"{options.trials} trials of {options.seeds} seeds, {options.epochs} epochs"
    what += f", batches of {options.batch_size}"
    if options.only != "quality":
        print(f"\nTime: {what}, {options.repetitions} repetitions")
        compare_time(source, options)
    if options.only != "time":
        print(f"\nHeld-out error in per cent, mean and 95 % interval: {what}")
        compare_quality(options)


if __name__ == "__main__":
    main()
