"""Statistics of any sweeps: what is read, grouped and compared, and how it is printed."""

import csv
import io
import itertools
import json
import math
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from digitpairs.analysis import groups, load
from digitpairs.analysis.__main__ import main
from digitpairs.analysis.statistics import bca_interval, holm, seeds_needed, sign_flip
from digitpairs.checks import DigitPairsWarning, InvalidValueError
from digitpairs.sweeps.jobs import digest
from tests.conftest import result_of_a_run

METRIC = "test/comparison_error"
CONFIG = {
    "task": "pairs",
    "data": {"seed": None, "pairs": 1000},
    "model": {"_target_": "digitpairs.networks.SiameseNetwork", "activation": "relu"},
    "optimizer": {"lr": 0.005},
    "aux": {"lambda": 0.8},
}


def write_run(sweep, seed, error, lr=0.005, lam=0.8, source="mnist", **more):
    """A run's folder as a sweep leaves it; `error` None is a failed run."""
    config = CONFIG | {"optimizer": {"lr": lr}, "aux": {"lambda": lam}, "seed": seed}
    config["data"] = CONFIG["data"] | {"seed": seed}
    folder = sweep / f"siamese,optimizer.lr={lr},aux.lambda={lam}-{digest([lr, lam])}"
    folder = folder / f"seed={seed}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    fingerprint = digest([config, source])
    if error is None:
        content = {"seed": seed, "fingerprint": fingerprint, "reason": "the loss became nan"}
        (folder / "failure.json").write_text(json.dumps(content))
        return folder
    result = result_of_a_run(error, seed, source=source, **more)
    result |= {"fingerprint": fingerprint, "test_pairs": more.get("test_pairs", 1000)}
    (folder / "result.json").write_text(json.dumps(result))
    rows = [f"{epoch},{error + 3 - epoch}" for epoch in range(3)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,train/comparison_error", *rows]) + "\n")
    return folder


def grid(sweep, seeds=8, spread=1.0):
    """Two rates by two weights; the rate makes a difference of 2, the weight none."""
    random = np.random.default_rng(0)
    errors = {}
    for lr, lam in itertools.product([0.001, 0.005], [0.5, 0.8]):
        for seed in range(seeds):
            error = 10 + 2 * (lr == 0.001) + 0.1 * seed + random.normal(0, spread)
            errors[lr, lam, seed] = error
            write_run(sweep, seed, error, lr, lam)
    return errors


def test_a_row_for_each_run_and_each_epoch(tmp_path):
    errors = grid(tmp_path / "sweep", seeds=3)
    loaded = load(tmp_path)
    assert loaded.settings == ["aux.lambda", "optimizer.lr"]
    assert len(loaded.runs) == 12
    for row in loaded.runs.to_dict("records"):
        assert row[METRIC] == errors[row["optimizer.lr"], row["aux.lambda"], row["seed"]]
    assert loaded.runs["group"].nunique() == 4
    assert len(loaded.curves) == 36
    last = loaded.curves[loaded.curves["epoch"] == 3].set_index("run")
    expected = loaded.runs[METRIC] + 1
    assert last["train/comparison_error"].tolist() == pytest.approx(expected.tolist())


def test_groups_against_numpy_and_scipy(tmp_path):
    errors = grid(tmp_path, seeds=8)
    table = groups.summarise(load(tmp_path))
    assert table["mean"].is_monotonic_increasing
    for row in table.to_dict("records"):
        lr, lam = (float(value) for value in re.findall(r"=([\d.]+)", row["group"]))
        values = np.array([errors[lr, lam, seed] for seed in range(8)])
        assert (row["n"], row["mean"], row["std"]) == pytest.approx(
            (8, values.mean(), values.std(ddof=1))
        )
        assert row["best"] == values.min() and row["best_seed"] == values.argmin()
        interval = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=9999,
            method="BCa",
            confidence_level=1 - 2 * stats.norm.cdf(-np.sqrt(8 / 7) * stats.t.ppf(0.975, 7)),
            rng=np.random.default_rng(0),
        ).confidence_interval
        assert (row["low"], row["high"]) == pytest.approx(tuple(interval))


@pytest.mark.slow
def test_comparisons_against_scipy_and_statsmodels(tmp_path):
    errors = grid(tmp_path, seeds=8)
    table = groups.compare_groups(load(tmp_path))
    assert len(table) == 6
    for row in table.to_dict("records"):
        sides = []
        for name in (row["first"], row["second"]):
            lr, lam = (float(value) for value in re.findall(r"=([\d.]+)", name))
            sides.append(np.array([errors[lr, lam, seed] for seed in range(8)]))
        difference = sides[0] - sides[1]
        assert row["difference"] == pytest.approx(difference.mean())
        assert row["p"] == pytest.approx(sign_flip(difference))
        assert row["d_z"] == pytest.approx(difference.mean() / difference.std(ddof=1))
        assert row["p_better"] == pytest.approx((difference < 0).mean())
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p"].tolist()))
    significant = table[table["verdict"] == "significant"]
    assert all("0.001" in name for name in significant["second"])


@pytest.mark.slow
def test_the_smallest_p_of_six_seeds_and_no_significance_below(tmp_path):
    for seed in range(6):
        write_run(tmp_path / "six", seed, 5 + 0.1 * seed, lr=0.001)
        write_run(tmp_path / "six", seed, 9 + 0.3 * seed, lr=0.005)
    (row,) = groups.compare_groups(load(tmp_path / "six")).to_dict("records")
    assert row["p"] == pytest.approx(2 / 64)
    assert row["verdict"] == "significant"
    for folder in (tmp_path / "six").glob("*/seed=5"):
        (folder / "result.json").unlink()
    (row,) = groups.compare_groups(load(tmp_path / "six")).to_dict("records")
    assert (row["n"], row["verdict"]) == (5, "too few seeds")


@pytest.mark.slow
def test_pairing_finds_what_unpaired_values_hide(tmp_path):
    """The seeds differ by far more than the groups."""
    for seed in range(10):
        write_run(tmp_path, seed, 5 + 3 * seed, lr=0.001)
        write_run(tmp_path, seed, 5.5 + 3 * seed + 0.01 * seed, lr=0.005)
    (row,) = groups.compare_groups(load(tmp_path)).to_dict("records")
    frame = load(tmp_path).runs
    sides = [part[METRIC] for _, part in frame.groupby("group")]
    assert stats.ttest_ind(*sides).pvalue > 0.8
    assert row["p"] == pytest.approx(2 / 2**10)


def test_other_sources_and_test_sets_are_never_pooled_or_compared(tmp_path):
    for seed in range(3):
        write_run(tmp_path / "a", seed, 5.0 + seed, lr=0.001)
        write_run(tmp_path / "b", seed, 9.0 + seed, lr=0.005, source="digits")
        write_run(tmp_path / "c", seed, 7.0 + seed, lr=0.002, test_pairs=5000)
    runs = load(tmp_path)
    table = groups.summarise(runs)
    assert sorted(zip(table["source"], table["test_examples"], table["n"])) == [
        ("digits", 1000, 3),
        ("mnist", 1000, 3),
        ("mnist", 5000, 3),
    ]
    assert groups.compare_groups(runs).empty


def test_a_pinned_seed_does_not_split_its_group(tmp_path):
    """With data.seed=0 the config of seed 0 alone looks as if its data followed the seed."""
    for seed in range(3):
        folder = write_run(tmp_path, seed, 5.0 + seed)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["data"]["seed"] = 0
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert groups.summarise(load(tmp_path))["n"].tolist() == [3]


def test_effects_and_curves_are_those_of_one_test_set(tmp_path):
    for lr, seed in itertools.product([0.001, 0.005], range(3)):
        write_run(tmp_path / "a", seed, 5.0 + seed, lr=lr)
        write_run(tmp_path / "b", seed, 50.0 + seed, lr=lr, source="digits")
    runs = load(tmp_path)
    table = groups.effects(runs)
    assert (
        table[["source", "mean"]].to_numpy().tolist() == [["digits", 51]] * 2 + [["mnist", 6]] * 2
    )
    epochs = groups.by_epoch(runs, "train/comparison_error")
    assert epochs["n"].tolist() == [3] * 12 and epochs["group"].nunique() == 4
    with pytest.raises(InvalidValueError, match="digits.* is not accepted: runs on one test set"):
        groups.heat_map(runs, "optimizer.lr", "optimizer.lr")


def test_the_effect_of_a_factor_is_the_mean_over_the_others(tmp_path):
    errors = grid(tmp_path, seeds=8)
    table = groups.effects(load(tmp_path)).set_index(["factor", "value"])
    for lr in (0.001, 0.005):
        values = [np.mean([errors[lr, lam, seed] for lam in (0.5, 0.8)]) for seed in range(8)]
        assert table.loc[("optimizer.lr", lr), "mean"] == pytest.approx(np.mean(values))
        assert table.loc[("optimizer.lr", lr), "n"] == 8
    heat = groups.heat_map(load(tmp_path), "optimizer.lr", "aux.lambda")
    by_hand = np.mean([errors[0.001, 0.5, seed] for seed in range(8)])
    assert heat.loc[0.001, 0.5] == pytest.approx(by_hand)


def test_epochs(tmp_path):
    errors = grid(tmp_path, seeds=4)
    table = groups.by_epoch(load(tmp_path), "train/comparison_error")
    part = table[table["group"].str.contains("0.001") & table["group"].str.contains("0.5")]
    values = np.array([errors[0.001, 0.5, seed] for seed in range(4)])
    assert part["mean"].tolist() == pytest.approx(
        [(values + 3 - epoch).mean() for epoch in range(3)]
    )
    low, high = stats.t.interval(0.95, 3, values.mean() + 3, stats.sem(values))
    assert (part["low"].iloc[0], part["high"].iloc[0]) == pytest.approx((low, high))
    with pytest.raises(InvalidValueError, match="validation/x"):
        groups.by_epoch(load(tmp_path), "validation/x")


def test_failed_runs_count_in_their_group(tmp_path):
    write_run(tmp_path, 0, 5.0)
    write_run(tmp_path, 1, None)
    write_run(tmp_path, 0, None, lr=0.1)
    table = groups.summarise(load(tmp_path))
    assert table[["n", "failed"]].to_numpy().tolist() == [[1, 1], [0, 1]]


def test_a_run_found_twice_counts_once(tmp_path):
    write_run(tmp_path / "a", 0, 5.0)
    write_run(tmp_path / "b", 0, 5.0)
    with pytest.warns(DigitPairsWarning, match="1 run found twice and counted once"):
        assert len(load(tmp_path / "a", tmp_path / "b").runs) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seed": 0}', "null"])
def test_damaged_results_are_named_and_the_rest_is_shown(tmp_path, content):
    write_run(tmp_path, 0, 5.0)
    folder = write_run(tmp_path, 1, 6.0)
    (folder / "result.json").write_text(content)
    with pytest.warns(DigitPairsWarning, match="result.json"):
        assert load(tmp_path).runs["seed"].tolist() == [0]


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_folders_without_runs_are_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidValueError, match=name):
        load(tmp_path / name)


def test_equal_values_have_an_interval_without_a_warning(tmp_path, recwarn):
    for seed in range(3):
        write_run(tmp_path, seed, 5.0)
    (row,) = groups.summarise(load(tmp_path)).to_dict("records")
    assert (row["low"], row["high"]) == (5.0, 5.0) and not recwarn


@pytest.mark.parametrize("values", [[1.0, 2.0], [40.0, 40.1], [1.0, 1.0, 2.0]])
def test_an_interval_of_few_values_gives_no_warning(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = bca_interval(np.array(values))
    assert math.isnan(low) or low <= np.mean(values) <= high


def test_seeds_needed_is_that_of_the_literature():
    """34 pairs for d = 0.5 at 5 % and 80 % (Cohen 1988, as G*Power gives it)."""
    assert seeds_needed(0.5) == 34 and seeds_needed(-0.5) == 34
    assert math.isinf(seeds_needed(0.0)) and math.isnan(seeds_needed(math.nan))
    assert seeds_needed(50.0) == 3


@pytest.mark.slow
def test_holm_of_a_worked_example():
    """Aickin and Gensler (1996): 0.01, 0.02, 0.03, 0.04 become 0.04, 0.06, 0.06, 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])


@pytest.mark.slow
def test_the_rate_of_false_alarms():
    """Without a difference, ten seeds give p <= 5 % in 3 to 7 % of the cases."""
    random = np.random.default_rng(1)
    rejected = [sign_flip(random.normal(size=10)) <= 0.05 for _ in range(300)]
    assert 0.03 <= np.mean(rejected) <= 0.07


@pytest.mark.long
@pytest.mark.parametrize("n, least", [(6, 0.9), (10, 0.92)])
def test_intervals_cover_the_mean_difference(n, least):
    """In 92 to 98 % of the cases, for differences that are normal or have long tails."""
    random = np.random.default_rng(2)
    for draw in (
        random.normal,
        lambda size: random.gamma(2, size=size) - random.gamma(2, size=size),
    ):
        intervals = [bca_interval(draw(size=n)) for _ in range(1000)]
        assert least <= np.mean([low <= 0 <= high for low, high in intervals]) <= 0.98


def output(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_formats_hold_the_same_numbers(tmp_path, capsys):
    grid(tmp_path, seeds=6)
    table = groups.summarise(load(tmp_path))
    parsed = json.loads(output(capsys, tmp_path, "--format", "json"))
    assert set(parsed) == {"groups", "comparisons", "effects"}
    assert [row["mean"] for row in parsed["groups"]] == pytest.approx(table["mean"].tolist())
    text = output(capsys, tmp_path, "--format", "csv")
    first = list(csv.DictReader(io.StringIO(text.split("\n\n")[0])))
    assert [float(row["mean"]) for row in first] == pytest.approx(table["mean"].tolist())
    for kind in ("markdown", "latex", "table"):
        text = output(capsys, tmp_path, "--format", kind)
        assert all(f"{mean:.2f}" in text for mean in table["mean"]), kind
    assert r"\toprule" in output(capsys, tmp_path, "--format", "latex")


def test_latex_and_markdown_escape_what_has_a_meaning(tmp_path, capsys):
    write_run(tmp_path, 0, 5.0)
    write_run(tmp_path, 1, None)
    failure = next(tmp_path.rglob("failure.json"))
    content = json.loads(failure.read_text()) | {"reason": "100 % | a_b & $x"}
    failure.write_text(json.dumps(content))
    assert r"100 \% | a\_b \& \$x" in output(capsys, tmp_path, "--format", "latex")
    assert r"100 % \| a_b & $x" in output(capsys, tmp_path, "--format", "markdown")


@pytest.mark.parametrize(
    "options, named",
    [
        (["--metric", "test/comparison_eror"], "test/comparison_error"),
        (["--baseline", "optimizer.lr=7"], "optimizer.lr=0.001"),
        (["--by", "epoch", "--metric", "nothing"], "train/comparison_error"),
    ],
)
def test_bad_options_are_refused_by_name(tmp_path, capsys, options, named):
    grid(tmp_path, seeds=2)
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path), *options])
    assert left.value.code == 2
    assert options[-1] in (said := capsys.readouterr().err) and named in said


@pytest.mark.slow
def test_the_page_is_one_file_with_all_tables(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    grid(tmp_path / "sweep", seeds=6)
    write_run(tmp_path / "sweep", 99, None)
    failure = next((tmp_path / "sweep").rglob("failure.json"))
    content = json.loads(failure.read_text()) | {"reason": "<script>alert(1)</script>"}
    failure.write_text(json.dumps(content))
    output(capsys, tmp_path / "sweep", "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert len(page) < 1e6
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert page.count("<svg") == 4 and page.count('role="img" aria-label=') == 4
    for mean in groups.summarise(load(tmp_path / "sweep"))["mean"]:
        assert f"{mean:.2f}" in page


@pytest.mark.slow
def test_many_runs_are_read_quickly_enough_to_be_used(tmp_path):
    """Two hundred runs of twenty configs: comparisons are with the best one alone."""
    for lr, seed in itertools.product(range(20), range(10)):
        write_run(tmp_path, seed, 5.0 + lr + 0.1 * seed, lr=lr)
    compared = groups.compare_groups(load(tmp_path))
    assert len(compared) == 19 and compared["first"].nunique() == 1
    assert isinstance(compared, pd.DataFrame)
