"""Hyperparameter search: spaces, brackets, studies, and whole searches by the command."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import statistics
from collections import Counter
from pathlib import Path

import pytest

from digitpairs.checks import InvalidValueError
from digitpairs.overrides import parsed
from digitpairs.search.brackets import bracket_of, rungs_of, survivors
from digitpairs.search.settings import check_installed, settings_of
from tests.conftest import SMALL_DATA_AND_MODEL, result_of_a_run

SECTION = {
    "n_trials": 6,
    "batch_size": 4,
    "seeds": 2,
    "first_seed": 200,
    "metric": None,
    "direction": "minimize",
    "sampler": None,
    "seed": 0,
    "pruner": None,
    "reduction_factor": 3,
    "min_epochs": None,
    "validation": 0.2,
}
ERROR = "validation/comparison_error"
RATE = "optimizer.lr=tag(log,interval(1e-3,1e-1))"

needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("optuna") is None, reason="needs the extra `optuna`"
)


def settings(**changes):
    return settings_of(SECTION | changes, "pairs")


def space_of(*arguments: str):
    from digitpairs.search.space import read_space

    overrides = [parsed(argument) for argument in arguments]
    return read_space({each.get_key_element(): each for each in overrides})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n_trials": 0}, "n_trials=0 is not accepted: a whole number of at least 1"),
        ({"batch_size": 1}, "batch_size=1 is not accepted: a whole number of at least 2"),
        ({"metric": "test/comparison_error"}, "metric=test/comparison_error is not accepted: a m"),
        ({"metric": ["parameters", "train/loss"]}, "metric=train/loss is not accepted: a metric"),
        ({"direction": "down"}, "direction=down is not accepted: one of minimize, maximize"),
        ({"direction": ["minimize"] * 2}, "direction=.* is not accepted: one direction, or one"),
        ({"sampler": "bayes"}, "sampler=bayes is not accepted: one of tpe, random"),
        ({"sampler": "cma_es", "metric": ["parameters", ERROR]}, "sampler=cma_es is not accepted"),
        ({"pruner": "median"}, "pruner=median is not accepted: one of halving, hyperband"),
        ({"pruner": "halving", "metric": "parameters"}, "pruner=halving is not accepted: null"),
        ({"reduction_factor": 1}, "reduction_factor=1 is not accepted: a whole number of at l"),
        ({"validation": 1.0}, "validation=1.0 is not accepted: a share above 0 and below 1"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(InvalidValueError, match=f"^hydra.sweeper.{message}"):
        settings(**changes)


@pytest.mark.parametrize("package, sampler", [("cmaes", "cma_es"), ("scipy", "qmc")])
def test_a_sampler_that_is_not_installed_is_named(package, sampler, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidValueError, match=f"{sampler} is not .*: pip install {package}"):
        settings(sampler=sampler)


@needs_optuna
def test_optuna_that_is_missing_or_too_old_is_named(monkeypatch):
    check_installed()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.10.1")
    with pytest.raises(InvalidValueError, match="Optuna 4 or newer, and 2.10.1 is installed"):
        check_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidValueError, match=r"pip install 'digitpairs\[optuna\]'$"):
        check_installed()


def test_rungs_are_powers_of_the_factor():
    halving = {"pruner": "halving"}
    assert rungs_of(settings(), 27) == []
    assert rungs_of(settings(**halving), 27) == [3, 9]
    assert rungs_of(settings(**halving, min_epochs=1), 27) == [1, 3, 9]
    assert rungs_of(settings(**halving, reduction_factor=2), 25) == [6, 12, 24]
    with pytest.raises(InvalidValueError, match="min_epochs=27 is not accepted: less than train"):
        rungs_of(settings(**halving, min_epochs=27), 27)


def test_brackets_of_hyperband_are_those_of_the_paper():
    """Li et al. (2018), algorithm 1 with R=81 and a factor of 3: n of s=4, 3, 2, 1, 0."""
    hyperband = settings(pruner="hyperband", batch_size=81, min_epochs=1)
    number, brackets = 0, []
    for _ in range(6):
        brackets.append(bracket_of(number, hyperband, 81))
        assert bracket_of(brackets[-1].end - 1, hyperband, 81) == brackets[-1]
        number = brackets[-1].end
    sizes = [math.ceil(5 * 3**s / (s + 1)) for s in (4, 3, 2, 1, 0)]
    assert [each.end - each.first for each in brackets] == [*sizes, 81]
    rungs = [1, 3, 9, 27]
    assert [each.rungs for each in brackets] == [*(rungs[i:] for i in range(5)), rungs]


def test_the_best_go_on_from_a_rung():
    values = {7: 3.0, 1: 1.0, 4: 2.0, 5: 1.0}
    assert survivors(values, settings()) == {1, 5}
    assert survivors(values, settings(reduction_factor=4)) == {1}
    assert survivors(values, settings(direction="maximize", reduction_factor=4)) == {7}
    assert survivors({}, settings()) == set()


@needs_optuna
@pytest.mark.parametrize(
    "text, kind, bounds",
    [
        ("interval(0,2)", "FloatDistribution", (0.0, 2.0, False, None)),
        ("tag(log,interval(1e-4,1e-1))", "FloatDistribution", (1e-4, 0.1, True, None)),
        ("int(interval(1,9))", "IntDistribution", (1, 9, False, 1)),
        ("tag(log,int(interval(1,9)))", "IntDistribution", (1, 9, True, 1)),
        ("range(1,10)", "IntDistribution", (1, 9, False, 1)),
        ("range(1,10,3)", "IntDistribution", (1, 7, False, 3)),
        ("range(0.5,0.9,0.1)", "FloatDistribution", (0.5, 0.8, False, 0.1)),
    ],
)
def test_intervals_and_ranges_are_distributions(text, kind, bounds):
    (distribution,) = space_of(f"x={text}").distributions.values()
    assert type(distribution).__name__ == kind
    found = (distribution.low, distribution.high, distribution.log, distribution.step)
    assert found == pytest.approx(bounds)


@needs_optuna
def test_lists_are_categories_and_are_pasted_as_they_were_typed():
    space = space_of("a=1,0.5,true,null", "b=choice([8,8],[32])", "+c=x,'y z'")
    assert space.distributions["a"].choices == (1, 0.5, True, None)
    assert space.distributions["b"].choices == ("[8,8]", "[32]")
    values = {name: each.choices[-1] for name, each in space.distributions.items()}
    assert space.overrides(values) == ["a=null", "b=[32]", "+c='y z'"]


@needs_optuna
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["x=3"], "hydra/sweeper=optuna is not accepted: a command that searches: KEY=interval"),
        (["x=interval(1,0)"], "x=interval(1,0) is not accepted: .* the end is above the start"),
        (["x=interval(1,inf)"], "x=interval(1,inf) is not accepted: .* two finite ends"),
        (["x=tag(log,interval(0,1))"], "x=.* the start is above 0"),
        (["x=tag(sqrt,interval(1,2))"], "x=.* the tag log, and not sqrt"),
        (["x=tag(log,choice(1,2))"], "x=.* only for an interval or a range"),
        (["x=tag(log,range(1,9,2))"], "x=.* only with the step 1"),
        (["x=range(0,4,0)"], "x=.* the step of a range is above 0"),
        (["x=range(4,0)"], "x=.* the end is above the start"),
        (["x=choice(1)"], "x=.* a list has 2 to 1000 different values"),
        (["x=1,2,1"], "x=.* a list has 2 to 1000 different values"),
        (["seed=0,1"], "seed=0,1 is not accepted: no seed: each trial has hydra.sweeper.seeds"),
        (["data.validation=interval(0,1)"], "data.validation=.* one value, since all trials"),
        (["sweep.plan=auto,array"], "sweep.plan=.* one value, since all trials"),
    ],
)
def test_spaces_that_cannot_be_searched_are_named(arguments, message):
    pattern = message.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(InvalidValueError, match=f"^{pattern}"):
        space_of(*arguments)


@needs_optuna
def test_quantiles_cover_a_distribution_evenly():
    from digitpairs.search.space import value_at

    space = space_of("a=interval(2,4)", "b=range(1,10,3)", "c=x,y", "d=tag(log,interval(1,100))")
    a, b, c, d = space.distributions.values()
    quantiles = [(i + 0.5) / 600 for i in range(600)]
    assert value_at(a, 0) == 2 and value_at(a, 1) == 4 and value_at(a, 0.25) == 2.5
    assert Counter(value_at(b, q) for q in quantiles) == dict.fromkeys((1, 4, 7), 200)
    assert Counter(value_at(c, q) for q in quantiles) == {"x": 300, "y": 300}
    assert value_at(d, 0.5) == pytest.approx(10)
    corners = list(space.corners())
    assert {each["a"] for each in corners} == {2, 4} and {each["c"] for each in corners} == {*"xy"}


class Killed(BaseException):
    """Ends a search in a test as a kill would."""


def write_runs(folder: Path, trials, seeds, until=None) -> dict[int, list[Path]]:
    """The files of runs whose error follows from the trial's settings."""
    folders = {}
    for trial in trials:
        folders[trial.number] = [folder / f"{trial.number}" / f"seed={seed}" for seed in seeds]
        for seed, run in zip(seeds, folders[trial.number]):
            error = 10 + (math.log10(trial.params["a"]) - 1) ** 2 + trial.params["b"] + seed - 200
            run.mkdir(parents=True, exist_ok=True)
            values = {ERROR: error, "parameters": round(1000 * (5 - trial.params["b"]))}
            lines = [f"epoch,{ERROR}", *(f"{epoch},{error + 1}" for epoch in range(until or 9))]
            (run / "metrics.csv").write_text("\n".join(lines) + "\n")
            if until is None:
                (run / "result.json").write_text(json.dumps(result_of_a_run(9.0, seed, **values)))
    return folders


def search(folder: Path, kill_at: int | None = None, **changes) -> list:
    """Search the minimum of the function above; `kill_at` counts calls of the study."""
    from digitpairs.search.search import run_bracket
    from digitpairs.search.study import SearchStudy

    folder.mkdir(exist_ok=True)
    chosen = settings(**{"n_trials": 10, **changes})
    space = space_of("a=tag(log,interval(1,100))", "b=interval(0,1)", "c=x,y")
    study = SearchStudy(folder / "journal.log", chosen, space, 9)
    calls = 0

    def counted(method):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls == kill_at:
                raise Killed
            return method(*arguments)

        return call

    for name in ("_ask", "complete", "prune", "report"):
        setattr(study, name, counted(getattr(study, name)))

    def run(trials, until):
        return write_runs(folder, trials, chosen.seeds, until)

    while (batch := study.next_batch()) is not None:
        run_bracket(study, run, *batch, chosen)
    return [(trial.state, trial.params, trial.values) for trial in study.trials()]


@needs_optuna
@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "tpe", "pruner": "hyperband", "min_epochs": 1},
        {"sampler": "random"},
        {"sampler": "qmc", "pruner": "halving"},
        {"sampler": "cma_es"},
        {"sampler": "nsga2", "metric": [ERROR, "parameters"]},
    ],
    ids=lambda changes: changes["sampler"],
)
def test_a_search_that_was_killed_goes_on_as_if_it_was_not(changes, tmp_path):
    """Killed while it asks, tells and reports, and after it had another number of trials."""
    if changes["sampler"] == "cma_es":
        pytest.importorskip("cmaes")
    expected = search(tmp_path / "whole", **changes)
    for kill_at in (3, 6, 11):
        with pytest.raises(Killed):
            search(tmp_path / "killed", kill_at, **changes)
    assert search(tmp_path / "killed", **changes) == expected
    distinct = {json.dumps(params) for _, params, _ in expected}
    assert len(expected) == 10 and len(distinct) > 8  # NSGA-II may repeat a parent


@needs_optuna
@pytest.mark.parametrize("sampler", ["tpe", "cma_es"])
def test_samplers_learn_from_the_trials(sampler, tmp_path):
    if sampler == "cma_es":
        pytest.importorskip("cmaes")
    trials = search(tmp_path, sampler=sampler, n_trials=40, batch_size=8)
    first, last = ([values[0] for *_, values in part] for part in (trials[:16], trials[-16:]))
    assert statistics.fmean(last) < statistics.fmean(first) - 0.1


@needs_optuna
def test_quasi_random_points_are_sobols(tmp_path):
    from scipy.stats.qmc import Sobol

    trials = search(tmp_path, sampler="qmc", n_trials=8)
    points = Sobol(3, rng=0).random(8)
    for (_, params, _), (a, b, c) in zip(trials, points):
        assert params["a"] == pytest.approx(100**a) and params["b"] == pytest.approx(b)
        assert params["c"] == "xy"[int(2 * c)]


SEARCH = [
    *["hydra/sweeper=optuna", *SMALL_DATA_AND_MODEL, "sweep.plan=serial", "-m"],
    *["hydra.sweeper.seeds=2", "hydra.sweeper.batch_size=4", RATE],
]


def results_of(output: Path, name: str = "result.json") -> dict[str, dict]:
    paths = sorted(output.glob(f"search,*/*/*/{name}"))
    return {f"{path.parts[-3]}/{path.parts[-2]}": json.loads(path.read_text()) for path in paths}


def trials_of(output: Path) -> list:
    import optuna

    (path,) = output.glob("search,*/study/journal.log")
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name=None, storage=storage).trials


@needs_optuna
def test_a_search_from_its_first_trial_to_the_line_to_paste(command, tmp_path):
    search = [*SEARCH, "trainer.max_epochs=1", "aux.lambda=interval(0,2)"]
    status, out, err = command(*search, "hydra.sweeper.n_trials=5")
    assert (status, err) == (0, "")
    output = tmp_path / "outputs"
    results, trials = results_of(output), trials_of(output)
    assert len(results) == 10 and len(trials) == 5
    assert {result["seed"] for result in results.values()} == {200, 201}
    for trial in trials:
        rate, weight = trial.params["optimizer.lr"], trial.params["aux.lambda"]
        own = [f"optimizer.lr={rate}", f"aux.lambda={weight}"]
        errors = [r[ERROR] for r in results.values() if set(own) <= set(r["overrides"])]
        assert trial.value == pytest.approx(statistics.fmean(errors)) and len(errors) == 2
        spread = statistics.stdev(errors) / 2**0.5
        assert trial.user_attrs["standard_error"] == pytest.approx(spread)
    best = min(trials, key=lambda trial: trial.value)
    line = f"optimizer.lr={best.params['optimizer.lr']} aux.lambda={best.params['aux.lambda']}"
    assert f"Best:    {line}\n" in out and "data.validation" not in out.partition("Train:")[2]
    assert f"Importance for {ERROR}: " in out
    (picture,) = output.glob("search,*/search.png")
    assert picture.read_bytes()[:4] == b"\x89PNG"

    status, out, _ = command(*search, "hydra.sweeper.n_trials=5")
    assert status == 0 and out.startswith("5 trials: 5 finished\n")
    assert command(*search, "hydra.sweeper.n_trials=6")[0] == 0
    assert len(trials_of(output)) == 6 and results_of(output).items() > results.items()


def metrics_of(output: Path) -> dict[str, list]:
    paths = output.glob("search,*/*/seed=*/metrics.csv")
    return {str(path.parent).partition("search")[2][-60:]: rows(path) for path in paths}


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.slow
@needs_optuna
@pytest.mark.parametrize("setting", ["ema=null", "ema=0.9"])
def test_pruned_trials_leave_the_arrays_and_the_others_do_not_notice(setting, command, tmp_path):
    import torch

    search = [*SEARCH, setting, "trainer.max_epochs=4", "hydra.sweeper.n_trials=4"]
    search += ["hydra.sweeper.sampler=random", "model.body.dropout=interval(0.1,0.5)"]
    pruning = ["hydra.sweeper.pruner=halving", "hydra.sweeper.reduction_factor=2"]
    whole, pruned = tmp_path / "whole", tmp_path / "pruned"
    assert command(*search, output=whole)[0] == 0
    status, out, err = command(*search, *pruning, output=pruned)
    assert (status, err) == (0, "") and "4 trials: 1 finished, 3 pruned" in out
    kept, all_results = results_of(pruned), results_of(whole)
    assert len(kept) == 2 and len(all_results) == 8
    for run, result in kept.items():
        expected = all_results[run]
        assert all(result[name] == expected[name] for name in result if "/" in name), run
    ours, expected_rows = metrics_of(pruned), metrics_of(whole)
    assert sorted(map(len, ours.values())) == [2] * 4 + [3] * 2 + [5] * 2  # with the header
    values: dict[int, dict[str, float]] = {1: {}, 2: {}}
    for run, table in ours.items():
        assert table == expected_rows[run][: len(table)]
        column = table[0].index(ERROR)
        for epoch in (1, 2):
            trial = values[epoch].setdefault(run.rpartition("/")[0], 0.0)
            values[epoch][run.rpartition("/")[0]] = trial + float(expected_rows[run][epoch][column])
    records = results_of(pruned, "pruned.json")
    assert sorted(record["epochs"] for record in records.values()) == [1] * 4 + [2] * 2
    assert all(record["reason"].startswith("its trial was pruned") for record in records.values())
    assert not [*pruned.glob("search,*/*/*/state.ckpt"), *pruned.glob("search,*/*/*/paused.json")]
    states = {trial.number: trial.state.name for trial in trials_of(pruned)}
    at_rung = {trial.number: trial.intermediate_values for trial in trials_of(pruned)}
    assert sorted(states.values()) == ["COMPLETE"] + ["PRUNED"] * 3
    ranked = sorted(at_rung, key=lambda number: (at_rung[number][1], number))
    assert {number for number in at_rung if 2 in at_rung[number]} == set(ranked[:2])
    (survivor,) = kept.keys() and {run.rpartition("/")[0] for run in kept}
    weights = [
        torch.load(next(each.glob(f"search,*/{survivor}/seed=200/checkpoint.ckpt")))["state_dict"]
        for each in (whole, pruned)
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.slow
@needs_optuna
def test_an_interrupted_bracket_trains_only_what_is_left(command, tmp_path, monkeypatch):
    from digitpairs.search import search as module

    arguments = [*SEARCH, "trainer.max_epochs=4", "hydra.sweeper.n_trials=4"]
    arguments += ["hydra.sweeper.pruner=halving", "hydra.sweeper.min_epochs=2"]
    run_sweep = module.run_sweep

    def interrupted(requests, launch, folder, until):
        if until is None:
            raise KeyboardInterrupt
        return run_sweep(requests, launch, folder, until)

    monkeypatch.setattr(module, "run_sweep", interrupted)
    assert command(*arguments)[0] == 130
    paused = list((tmp_path / "outputs").glob("search,*/*/*/paused.json"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("pruned.json")}
    assert len(paused) == 4 and len(before) == 4
    monkeypatch.setattr(module, "run_sweep", run_sweep)
    status, out, _ = command(*arguments)
    assert status == 0 and "4 runs, all finished before\n4 runs: 4 alone" in out
    assert before == {path: path.stat().st_mtime_ns for path in before}
    for result in results_of(tmp_path / "outputs").values():
        assert result["epochs"] == 4


@pytest.mark.long
@needs_optuna
def test_a_diverging_trial_fails_and_the_search_goes_on(command, tmp_path):
    search = [each for each in SEARCH if each != RATE]
    search += ["optimizer=sgd", "optimizer.lr=0.01,1e30", "aux.lambda=interval(0,2)"]
    search += ["trainer.max_epochs=1", "hydra.sweeper.n_trials=4", "hydra.sweeper.seed=1"]
    status, out, err = command(*search, "scheduler=none", "hydra.sweeper.sampler=qmc")
    assert status == 0 and "4 trials: 2 finished, 2 failed" in out
    trials = trials_of(tmp_path / "outputs")
    for trial in trials:
        failed = trial.params["optimizer.lr"] == 1e30
        assert trial.state.name == ("FAIL" if failed else "COMPLETE")
        assert ("the loss became" in trial.user_attrs.get("failure", "")) == failed


@pytest.mark.long
@needs_optuna
def test_several_objectives_have_a_front(command, tmp_path):
    search = [*SEARCH, "trainer.max_epochs=1", "hydra.sweeper.n_trials=6"]
    search[search.index("model.body.hidden=[16]")] = "model.body.hidden=[4],[16],[64]"
    status, out, err = command(*search, f"hydra.sweeper.metric=[{ERROR},parameters]")
    assert (status, err) == (0, "") and "Importance for parameters: " in out
    values = [tuple(trial.values) for trial in trials_of(tmp_path / "outputs")]
    front = {
        each
        for each in values
        if not any(all(a <= b for a, b in zip(o, each)) and o != each for o in values)
    }
    table = out.rpartition("  trial ")[2].partition("means of")[0]
    shown = [line.split()[0] for line in table.splitlines() if line.strip()[:1].isdigit()]
    assert sorted(map(int, shown)) == [n for n, each in enumerate(values) if each in front]


@pytest.mark.slow
@needs_optuna
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["optimizer.foo=interval(0,1)"], "optimizer.foo=interval(0,1) is not accepted: there is"),
        (["optimizer.lr=interval(-1,1)"], "optimizer.lr=-1.0 is not accepted"),
        ([RATE, "hydra.sweeper.metric=test/comparison_error"], "hydra.sweeper.metric=test/comp"),
        ([RATE, "hydra.sweeper.metric=validation/foo"], "hydra.sweeper.metric=validation/foo is"),
        ([RATE, "seed=3"], "seed=3 is not accepted: none: each trial has hydra.sweeper.seeds"),
        ([RATE, "data.watch_test=true"], "data.watch_test=True is not accepted: false in a"),
        ([RATE, "hydra/launcher=basic"], "hydra/launcher=basic is not accepted: digitpairs with"),
        (
            [RATE, "hydra.sweeper.pruner=halving", "sweep.executor=ray"],
            "hydra.sweeper.pruner=halving is not accepted: null with sweep.executor=ray",
        ),
        (
            [RATE, "sweep.executor=slurm", "sweep.slurm.wait=false"],
            "sweep.slurm.wait=False is not accepted: true in a search",
        ),
        ([RATE, "sweep.max_runs=9"], "sweep.max_runs=9 is not accepted: at least 192"),
        ([RATE, "hydra.sweeper.trials=3"], "hydra.sweeper.trials=3 is not accepted"),
        ([RATE, "hydra.sweeper.pruner=halving", "engine=framework"], "hydra.sweeper.pruner=hal"),
        ([RATE, "hydra.sweeper.pruner=halving", "logger=csv"], "logger=csv is not accepted: t"),
        (
            [RATE, "hydra.sweeper.pruner=halving", "trainer.max_epochs=1"],
            "hydra.sweeper.min_epochs=1 is not accepted: less than trainer.max_epochs=1",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_written(
    command, tmp_path, arguments, message
):
    common = ["data=digits", "model=siamese_mlp", "data.pairs=60", "data.test_pairs=40"]
    status, out, err = command("hydra/sweeper=optuna", *common, *arguments, "-m")
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.long
@needs_optuna
def test_a_space_in_a_file_is_searched(command, tmp_path):
    path = tmp_path / "mine" / "experiment" / "rates.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"hydra: {{sweeper: {{params: {{optimizer.lr: '{RATE.partition('=')[2]}'}}}}}}")
    search = [each for each in SEARCH if each not in (RATE, "-m")]
    search += ["experiment=rates", "trainer.max_epochs=1", "hydra.sweeper.n_trials=2"]
    status, out, err = command(f"--config-dir={tmp_path / 'mine'}", *search, "-m")
    assert (status, err) == (0, "") and "Best:    optimizer.lr=" in out
    assert "experiment=rates" in out.partition("Train:")[2]


def test_a_search_without_m_is_refused(command):
    status, _, err = command("hydra/sweeper=optuna")
    assert status == 2 and err.startswith("error: hydra/sweeper=optuna is not accepted: digitpairs")


def test_an_interval_without_a_search_names_the_sweeper(command):
    status, _, err = command(RATE, "-m")
    assert status == 2 and "hydra/sweeper=optuna searches it" in err
