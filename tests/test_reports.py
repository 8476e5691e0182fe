"""The reports beside ours: their data files, results found by fingerprint, pages."""

import dataclasses
import functools
import itertools
import json
import re
import statistics
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml

from digitpairs.analysis import report_tables, reproduction, tables
from digitpairs.analysis.questions import write_questions
from digitpairs.analysis.report_page import write_page
from digitpairs.analysis.report_plots import pareto_front, plot_epochs
from digitpairs.analysis.report_tables import is_far
from digitpairs.analysis.reports import (
    Choice,
    Claim,
    Epochs,
    Final,
    Grid,
    Row,
    Scatter,
    Table,
    read_report,
    statistic_of,
)
from digitpairs.analysis.results import Cell, Member, Results, Study
from digitpairs.analysis.runs import Run, finished_runs, relabelled_digit_error
from digitpairs.checks import InvalidValueError
from digitpairs.cli import CONF
from digitpairs.sweeps.compose import compose_command, expand_command
from digitpairs.sweeps.jobs import fingerprint, plan_jobs
from tests.conftest import ROOT, result_of_a_run
from tests.report_helpers import (
    PLACE,
    REPORTS,
    SMALL_STUDY,
    page_of,
    report_of,
    reproduce,
    table_lines,
    write_curve,
    write_run,
)


@functools.cache
def study_without_runs(name: str) -> Study:
    """A study with two seeds and no runs, made without composing its configs."""
    members = []
    for overrides in expand_command(CONF, [f"experiment={name}", "seed=range(2)"]):
        settings = {each for each in overrides if not each.startswith("seed=")}
        (seed,) = set(overrides) - settings
        members.append(Member(frozenset(settings), int(seed.removeprefix("seed=")), None))
    return Study(name, members)


@functools.cache
def report_named(name: str):
    return read_report(CONF / "reports" / f"{name}.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORTS)
def test_every_row_and_claim_is_of_one_configuration_of_its_study(name):
    report = report_named(name)
    for show in report.shows:
        study = study_without_runs(show.study)
        if isinstance(show, (Table, Epochs, Scatter)):
            for row in show.rows:
                assert (study_without_runs(row.study) if row.study else study).of(row.settings)
        if isinstance(show, Table):
            assert all(set(row.report) <= set(show.columns) for row in show.rows), show.table
            assert all(statistic_of(column) for column in show.columns.values())
        if isinstance(show, Grid):
            assert study.varied(show.x) and (show.lines is None or study.varied(show.lines))
        if isinstance(show, Choice):
            settings = {each for each in show.report if not each.startswith("epoch=")}
            assert any(settings <= configuration for configuration in study.configurations())
            assert show.by_study is None or study_without_runs(show.by_study).of(show.among)
    for claim in report.claims:
        assert study_without_runs(claim.study).of(claim.first)
        second_study = study_without_runs(claim.second_study or claim.study)
        assert claim.bound is not None or second_study.of(claim.second)
    for final in report.finals:
        assert study_without_runs(final.study).of(final.settings)


@pytest.mark.parametrize("name", REPORTS)
def test_every_study_of_a_report_is_shown(name):
    report = report_named(name)
    shown = {study for show in report.shows for study in show.studies}
    shown |= {claim.study for claim in report.claims}
    folder = CONF / "experiment"
    studies = {path.relative_to(folder).with_suffix("") for path in (folder / name).rglob("*.yaml")}
    assert set(map(str, studies)) <= shown


@pytest.mark.slow
def test_a_page_has_the_content_of_the_files(small_study, capsys, tmp_path, only_studies):
    only_studies("wang/dropout", "wang/batch_norm")
    reproduce("wang", *SMALL_STUDY, output=small_study, to=tmp_path)
    page = (tmp_path / "wang.md").read_text()
    assert page in capsys.readouterr().out
    errors: dict[float, list[float]] = {0.0: [], 0.2: [], 0.5: [], 0.8: []}
    for path in small_study.glob("*/*/*/result.json"):
        config = yaml.safe_load((path.parent / "config.yaml").read_text())
        result = json.loads(path.read_text())
        errors[config["model"]["body"]["dropout"]].append(result["test/comparison_error"])
    for dropout, values in errors.items():
        mean, std = statistics.fmean(values), statistics.stdev(values)
        assert f"| {dropout} " in page and f"{mean:.2f} ± {std:.2f} (n = 2)" in page
    assert "| `wang/dropout`    | 8 of 8" in page and "| `wang/batch_norm` | 0 of 4" in page
    assert "not decided at n = 2" in page and "missing" in page
    assert "`python train.py experiment=wang/batch_norm data=digits" in page
    plots = {path.name for path in tmp_path.glob("*.png")}
    assert plots and all(f"({name})" in page for name in plots)


@pytest.mark.slow
def test_results_of_other_settings_are_never_used(small_study):
    study = Results(small_study, SMALL_STUDY).study("wang/dropout")
    assert len(study.runs) == len(study.members)
    assert {run.result["epochs"] for run in study.runs} == {2}
    for other in ("data.pairs=60", "optimizer.lr=0.002", "data.seed=7"):
        settings = dict(each.split("=") for each in [*SMALL_STUDY, other])
        overrides = [f"{key}={value}" for key, value in settings.items()]
        assert not Results(small_study, overrides).study("wang/dropout").runs


def test_values_of_a_run(small_study):
    path = next(small_study.glob("*/*/*/result.json"))
    run = Run(path.parent, json.loads(path.read_text()))
    lines = (run.folder / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("train/loss")
    losses = [float(line.split(",")[column]) for line in lines[1:]]
    assert run.value("train/loss@1") == losses[0] and run.value("train/loss@best") == min(losses)
    assert run.value("seconds") == run.result["seconds"]
    for absent in (
        "test/nothing",
        "test/relabelled_digit_error",
        "test/nothing@1",
        "test/nothing@best",
        "train/loss@3",
    ):
        assert run.value(absent) is None


def test_relabelling_is_the_best_of_all():
    random = np.random.default_rng(0)
    small = random.integers(0, 20, (2, 5, 5))
    correct = 0
    for confusion in small:
        orders = itertools.permutations(range(5))
        correct += max(confusion[range(5), order].sum() for order in orders)
    assert relabelled_digit_error(small) == pytest.approx(100 * (1 - correct / small.sum()))
    shuffled = np.stack([np.diag([7] * 10)[random.permutation(10)]] * 2)
    assert relabelled_digit_error(shuffled) == 0


@pytest.mark.parametrize(
    "errors, figure, far",
    [
        ([4.0, 6.0], [6.0, 0.1], False),  # 5 ± 1.41
        ([4.0, 6.0], [6.5, 0.1], True),
        ([4.0, 6.0], [6.5, 2.0], False),
        ([4.0, 6.0], [6.5], True),
        ([5.0], [9.0], False),
        ([], [6.5, 0.1], False),
    ],
)
def test_far_is_more_than_both_spreads(errors, figure, far):
    assert is_far(Cell(dict(enumerate(errors)), 2), figure) == far


def test_small_numbers_have_two_significant_digits():
    values = (-0.0, -0.0312, 12.345, 0.1, 0.09999999, 0.0995, 0.0994, 0.0312, 0.00123, 0.0004, 0.0)
    texts = [
        "0.00",
        "-0.031",
        "12.35",
        "0.10",
        "0.10",
        "0.10",
        "0.099",
        "0.031",
        "0.0012",
        "0.00",
        "0.00",
    ]
    assert [tables.number(value) for value in values] == texts


def test_tables_are_markdown():
    expected = "| a    | bcd |\n| ---- | --- |\n| x\\|y | 1   |"
    assert tables.markdown_table(["a", "bcd"], [["x|y", "1"]]) == expected
    expected = "| a    |  n |\n| ---- | -: |\n| x\\|y |  1 |"
    assert tables.markdown_table(["a", "n"], [["x|y", "1"]], [False, True]) == expected


@pytest.mark.parametrize("settings, runs", [([], 8), (["model.body.dropout=0.3"], 0)])
def test_settings_that_name_no_row(settings, runs):
    message = f"the settings of one row of wang/dropout, and {runs} runs have them"
    with pytest.raises(InvalidValueError, match=message):
        study_without_runs("wang/dropout").of(settings)


PAGES = ROOT / "docs" / "reproduction"
SUMMARY = "title: t, asked: a, found: f, choices: c"
CLAIM = f"{{{SUMMARY}, finals: [], shows: [], claims: [{{claim: c, place: p, study: s, %s}}]}}"


@pytest.mark.parametrize(
    "text, message",
    [
        ("title: t", "the keys asked, found, choices, shows, finals, claims as well"),
        (
            f"{{{SUMMARY}, finals: [], claims: [], shows: [{{tabel: x}}]}}",
            r"shows\[0\].*one of table, grid, epochs, scatter, choice",
        ),
        (CLAIM % "frist: []", r"claims\[0\].frist.*did you mean first"),
        (CLAIM % "first: [], relation: best", "relation=best"),
        (CLAIM % "first: [], relation: above", r"claims\[0\].bound=None"),
        (CLAIM % "first: [], question: shared", r"claims\[0\].question=shared.*one of sharing"),
    ],
)
def test_faults_in_a_data_file_are_named(tmp_path, text, message):
    path = tmp_path / "report.yaml"
    path.write_text(text)
    with pytest.raises(InvalidValueError, match=message):
        read_report(path)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["wagn"], "report=wagn is not accepted: one of azzano"),
        (["wang", "data=nothing"], "data=nothing is not accepted"),
        (
            ["wang", "output=nowhere/at/all"],
            "output=nowhere/at/all is not accepted: a folder that holds sweeps",
        ),
        (
            ["wang", "model.body.dropout=0.3"],
            "model.body.dropout=0.3 is not accepted: a setting that the studies do not choose",
        ),
        (["wang", "experiment=wang/aux"], "experiment=wang/aux is not accepted"),
        (["wang", "--to", __file__], "a folder, which is made where it is missing"),
        (
            ["wang", "--to", f"{__file__}/pages"],
            "a folder, which is made where it is missing (Not a directory)",
        ),
        (["wang", "=3"], "setting==3 is not accepted: key=value"),
        (
            ["wang", "data=digits", "data.pairs=many"],
            "data.pairs=many is not accepted: a whole number",
        ),
        (
            ["wang", "optimizer.lr=0.001,0.002"],
            "optimizer.lr=0.001,0.002 is not accepted: one value here; several are for seed alone",
        ),
    ],
)
def test_an_argument_that_is_not_accepted_is_named(
    arguments, message, capsys, tmp_path, only_studies
):
    only_studies("wang/dropout")
    has_output = any(each.startswith("output=") for each in arguments)
    with pytest.raises(SystemExit) as exit_:
        reproduction.main([*arguments, *([] if has_output else [f"output={tmp_path}"])])
    assert exit_.value.code == 2 and message in capsys.readouterr().err
    assert not Path("nowhere").exists()


@pytest.mark.slow
def test_failures_and_metrics_that_some_rows_lack_are_on_the_page(tmp_path, only_studies):
    """The study has a network without digits, a failure per configuration, and missing runs."""
    only_studies("skura/aux")
    output = tmp_path / "outputs"
    for name, entries in (("legacy", {}), ("shared_aux", {"test/digit_error": 4.0})):
        study = ["experiment=skura/aux", f"variant=skura/{name}", "data=digits", "seed=0,1,2"]
        for job in plan_jobs(compose_command(CONF, study)):
            folder = output / "sweep" / name / f"seed={job.seed}"
            key = {"fingerprint": fingerprint(job.config)}
            if job.seed < 2:
                write_run(folder, 10.0 + job.seed, job.seed, source="digits", **key, **entries)
                continue
            folder.mkdir()
            failure = key | {"reason": "the loss became nan in epoch 3"}
            (folder / "failure.json").write_text(json.dumps(failure))
    reproduce("skura", "data=digits", output=output, to=tmp_path)
    page = (tmp_path / "skura.md").read_text()
    rows = [row[1:] for row in table_lines(page) if row[0] == "LegacyCNN"]
    assert ["10.50 ± 0.71 (n = 2 of 10)"] in rows and ["-"] in rows
    assert "2 of the 50 runs of `skura/aux` failed (the loss became nan in epoch 3)." in page
    assert "44 of the 50 runs of `skura/aux` have not been run" in page
    assert "unknown" in page


DAMAGE = [
    ("result.json", '{"seed": 3', "Expecting ',' delimiter"),
    ("result.json", "[]", "it holds no JSON object"),
    ("result.json", json.dumps(result_of_a_run(5.0, seed=9)), "it is of seed=9"),
    (
        "failure.json",
        '{"reason": "x"}',
        "the failure is {'reason': 'x'}, not one with the entry fingerprint",
    ),
    ("metrics.csv", "epoch,error\n0,x\n", "could not convert string to float"),
    (
        "confusion.json",
        '{"digit1": [[1]], "digit2": 3}',
        "digit1 is [[1]], not 10 rows of 10 counts",
    ),
]


@pytest.mark.slow
def test_damaged_runs_are_named_and_left_out(tmp_path, capsys, only_studies):
    """Folders that are not named after their seed are left out as well."""
    only_studies("wang/dropout")
    sweep = tmp_path / "sweep" / "configuration"
    intact = [write_run(sweep / "seed=6", 5.0, 6)]
    for other in ("seed=copy", "seed=6x", "seed=06"):
        write_run(sweep / other, 5.0, 6)
    for seed, (name, content, _) in enumerate(DAMAGE):
        damaged = write_run(sweep / f"seed={seed}", 5.0, seed)
        (damaged / name).write_text(content)
        if name == "failure.json":
            intact.append(damaged)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        reproduce("wang", *SMALL_STUDY, output=tmp_path, to=tmp_path / "pages")
    lines = capsys.readouterr().err.splitlines()
    for seed, (name, _, fault) in enumerate(DAMAGE):
        start = f"warning: {sweep / f'seed={seed}' / name} is damaged: {fault}"
        (line,) = [line for line in lines if line.startswith(start)]
        assert "it is left out" in line
    assert not [line for line in lines if str(intact[0]) in line]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = finished_runs(tmp_path, "*/*/seed=[0-9]*")
    assert sorted(run.folder for run in runs) == sorted(intact)


def test_all_of_a_curve_is_within_its_plot(tmp_path):
    members = []
    for setting, errors in (("a=low", [5, 4]), ("a=high", [40, 30])):
        folder = tmp_path / setting
        folder.mkdir()
        write_curve(folder, "error", errors)
        members.append(Member(frozenset([setting]), 0, Run(folder, {})))
    rows = [Row(name=name, settings=[f"a={name}"]) for name in ("low", "high")]
    epochs = Epochs(epochs="e", **PLACE, metrics={"error": "error"}, rows=rows)
    (axes,) = plot_epochs(epochs, [[each.run] for each in members]).axes
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] >= 40


@pytest.fixture
def rates():
    """Members with two parameters; some of the rates have fewer rounds than others."""
    errors = {
        ("0", "0.1"): [8.0, 9.0],
        ("0", "1"): [5.0, 7.0],
        ("0", "2"): [5.5],
        ("0.5", "0.1"): [6.0, 7.0],
        ("0.5", "1"): [9.0, 9.5],
        ("0.5", "2"): [9.0],
    }
    members = []
    for (c, lr), values in errors.items():
        for seed, error in enumerate(values):
            result = result_of_a_run(error) | {"validation/comparison_error": error + seed}
            settings = frozenset([f"c={c}", f"lr={lr}"])
            members.append(Member(settings, seed, Run(Path("nowhere"), result)))
    return members


def test_a_grid_shows_the_best_setting_on_common_rounds(rates, tmp_path):
    metrics = {"error": "test/comparison_error"}
    grid = Grid(grid="Best rate", **PLACE, x="c", best_over="lr", metrics=metrics)
    lines = table_lines(page_of(report_of([grid]), rates, tmp_path))
    assert ["0", "6.00 ± 1.41 (n = 2)", "1"] in lines
    assert ["0.5", "6.50 ± 0.71 (n = 2)", "0.1"] in lines


def test_a_choice_is_made_on_common_rounds(rates, tmp_path):
    among = {"among": ["lr=0.1", "lr=1"], "chose_by": "its folds"}
    complete = Choice(choice="Rate", **PLACE, report=["c=0", "lr=0.1"], **among)
    text = page_of(report_of([complete]), rates, tmp_path)
    lines = table_lines(text)
    winner = ["by the test", "`c=0` `lr=1`", "6.50 ± 2.12 (n = 2)", "6.00 ± 1.41 (n = 2)", "1"]
    figures = ["9.00 ± 1.41 (n = 2)", "8.50 ± 0.71 (n = 2)"]
    assert winner in lines and ["the report's choice", "`c=0` `lr=0.1`", *figures, "3"] in lines
    assert "The report chose by its folds. How far the test flatters" in text
    assert "is +0.00 points above the others' (standard error 0.00)" in text
    remark = "Compared on the rounds that all configurations have."
    assert remark not in text

    uneven = Choice(choice="Any rate", **PLACE, report=["c=0", "lr=2"])
    text = page_of(report_of([uneven]), rates, tmp_path)
    lines = table_lines(text)
    assert ["by the test", "`c=0` `lr=1`", *["5.00 (n = 1 of 2)"] * 2, "1"] in lines
    assert ["the report's choice", "`c=0` `lr=2`", *["5.50 (n = 1)"] * 2, "2"] in lines
    assert remark in text


def test_a_final_model_and_another_reading_of_it(rates, tmp_path):
    final = Final(final="the model", **PLACE, settings=["c=0", "lr=1"], report=[5.9, 0.2, 10])
    finals = [final, dataclasses.replace(final, other_reading=True)]
    lines = table_lines(page_of(report_of(finals=finals), rates, tmp_path))
    results = ["p", "n = 2", "5.90 ± 0.20", "6.00 ± 1.41", "-", "**not decided at n = 2**"]
    assert ["the model", *results] in lines
    assert ["another reading: the model", *results] in lines


SCATTER = "scatter: x, place: p, study: s, rows: []"


@pytest.mark.parametrize(
    "changes, message",
    [
        (f"shows: [{{{SCATTER}, metrics: {{a: b}}}}]", "shows.0..metrics=a is.*two metrics"),
        (f"shows: [{{{SCATTER}, metrics: {{a: b, c: b, d: b}}}}]", "metrics=a, c, d is.*two"),
        ("own: true, differs: d", "differs=d is.*nothing with own"),
        ("own: true, finals: [{}]", "finals=.*nothing with own"),
    ],
)
def test_content_that_does_not_go_together(changes, message, tmp_path):
    path = tmp_path / "report.yaml"
    parts = {"title: t", "asked: a", "found: f", "choices: c", "claims: []"}
    parts |= {each for each in ("shows: []", "finals: []") if each.partition(":")[0] not in changes}
    path.write_text(f"{{{', '.join(sorted(parts))}, {changes}}}")
    with pytest.raises(InvalidValueError, match=message):
        read_report(path)


def test_two_metrics_against_each_other(rates, tmp_path):
    metrics = {"time": "seconds", "error": "test/comparison_error"}
    rows = [Row(name=f"rate {lr}", settings=["c=0", f"lr={lr}"]) for lr in ("0.1", "1")]
    scatter = Scatter(scatter="Time", **PLACE, metrics=metrics, rows=rows)
    text = page_of(report_of([scatter]), rates, tmp_path)
    lines = table_lines(text)
    for lr in ("0.1", "1"):
        values = [each.run.result for each in rates if {"c=0", f"lr={lr}"} <= each.settings]
        means = [statistics.fmean(each[metric] for each in values) for metric in metrics.values()]
        (line,) = (line for line in lines if line[0] == f"rate {lr}")
        assert [float(cell.split()[0]) for cell in line[1:]] == pytest.approx(means, abs=0.006)
    late = dataclasses.replace(scatter, rows=[dataclasses.replace(rows[0], epoch=3)])
    assert report_of([late]).metrics_by_epoch == set(metrics.values())
    assert "![Time](r-time.png)" in text and (tmp_path / "r-time.png").exists()


def test_the_pareto_front_is_of_the_points_that_no_other_beats():
    generator = np.random.default_rng(0)
    points = [tuple(map(float, generator.integers(0, 9, 2))) for _ in range(30)]
    beaten = {
        b for a, b in itertools.permutations(points, 2) if a != b and a[0] <= b[0] and a[1] <= b[1]
    }
    assert pareto_front(points) == sorted(set(points) - beaten)


def test_a_row_may_be_of_another_study(rates, tmp_path):
    rows = [
        Row(name="here", settings=["c=0", "lr=1"]),
        Row(name="there", settings=["c=0", "lr=1"], study="s2"),
    ]
    table = Table(table="T", **PLACE, columns={"error": "test/comparison_error"}, rows=rows)
    scatter = Scatter(
        scatter="S", **PLACE, metrics={"e": "test/comparison_error", "s": "seconds"}, rows=rows
    )
    epochs = Epochs(epochs="E", **PLACE, metrics={"error": "error"}, rows=rows)
    results = Results(tmp_path)
    worse = [
        each._replace(run=Run(Path("nowhere"), each.run.result | {"test/comparison_error": 40.0}))
        for each in rates
    ]
    results._studies |= {"s": Study("s", rates), "s2": Study("s2", worse)}
    report = report_of([table, scatter])
    assert report.studies == ["s", "s2"] == epochs.studies
    lines = table_lines(write_page(report, "r", results, tmp_path).text)
    assert ["here", "6.00 ± 1.41"] in lines and ["there", "40.00 ± 0.00"] in lines
    assert ["there", "40.00 ± 0.00", "2.00 ± 0.00"] in lines


def test_a_page_of_our_own_question_speaks_of_no_report(rates, tmp_path):
    claim = Claim(claim="c", **PLACE, first=["c=0", "lr=1"], second=["c=0", "lr=0.1"])
    grid = Grid(grid="G", **PLACE, x="c", lines="lr", metrics={"e": "test/comparison_error"})
    report = dataclasses.replace(report_of([grid], claims=[claim]), own=True)
    text = page_of(report, rates, tmp_path)
    assert "**We ask:** a\n\n**We find:** f" in text and "## How it was chosen" in text
    assert "report" not in text.replace("conf/reports", "")


@pytest.mark.slow
def test_only_the_first_column_of_a_table_with_figures_of_the_report_is_not_folded(tmp_path):
    result = result_of_a_run(5.0) | {f"m{k}": k + 1 for k in range(4)}
    run = Run(Path("nowhere"), result)
    members = [Member(frozenset(["a=1"]), seed, run) for seed in range(2)]
    columns = {f"metric {k}": f"m{k}" for k in range(4)} | {"s a round": "seconds"}
    row = Row(name="r", settings=["a=1"], report={"metric 3": [3.0], "s a round": [9.0]})
    table = Table(table="T", **PLACE, columns=columns, rows=[row])
    text = page_of(report_of([table]), members, tmp_path)
    seen = re.sub("<details.*?</details>", "", text, flags=re.DOTALL)
    first = [
        ["row", "metric 3: report", "ours", "difference", "verdict"],
        ["r", "3.00", "4.00 ± 0.00", "+1.00", "differs"],
    ]
    assert [line for line in table_lines(seen) if line[0] in ("row", "r")] == first
    lines = [line for line in table_lines(text) if line[0] in ("row", "r")]
    assert lines[:2] == first
    assert lines[2:] == [
        *(["row", "metric 0"], ["r", "1.00 ± 0.00"]),
        *(["row", "metric 1"], ["r", "2.00 ± 0.00"]),
        *(["row", "metric 2"], ["r", "3.00 ± 0.00"]),
        *(["row", "s a round: report", "ours"], ["r", "9.00", "2.00 ± 0.00"]),
    ]


def test_a_study_of_an_open_choice_is_folded(rates, tmp_path, monkeypatch):
    metrics = {"error": "test/comparison_error"}
    grids = [
        Grid(grid=study, place="p", study=study, x="c", lines="lr", metrics=metrics)
        for study in ("r/own", "r/open/rate")
    ]
    monkeypatch.setattr(Results, "study", lambda self, name: Study(name, rates))
    text = write_page(report_of(grids), "r", Results(tmp_path), tmp_path).text
    seen = re.sub("<details.*?</details>", "", text, flags=re.DOTALL)
    assert "## r/own\n" in seen and "r/open/rate" not in seen
    assert "<summary>r/open/rate</summary>" in text and text.count("5.50 (n = 1)") == 2


@pytest.mark.parametrize("archive", sorted(PAGES.glob("*.runs.xz")), ids=lambda path: path.name)
def test_a_page_is_short_where_it_is_not_folded(archive):
    """At most 1,200 words; the pages are made by the command from its runs."""
    text = archive.with_name(archive.name.replace(".runs.xz", ".md")).read_text()
    seen = re.sub("<details.*?</details>", "", text, flags=re.DOTALL)
    words = [word for word in re.sub(r"\]\([^)]*\)", "]", seen).split() if re.search(r"\w", word)]
    assert len(words) <= 1200


@pytest.mark.slow
def test_a_question_is_answered_by_the_claims_of_all_reports(tmp_path, monkeypatch):
    """Ten seeds with a difference of 2 points and its reverse; n = 3 decides nothing."""
    members = [
        Member(frozenset([f"a={a}"]), seed, Run(Path("nowhere"), result_of_a_run(5 + 2 * a + seed)))
        for a in (0, 1)
        for seed in range(10)
    ]
    few = [member for member in members if member.seed < 3]
    monkeypatch.setattr(
        Results, "study", lambda self, name: Study(name, few if name == "few" else members)
    )
    sharing = {"claim": "c", "place": "p", "question": "sharing", "first": ["a=0"]}
    claims = [
        Claim(**sharing, study="s", second=["a=1"], network="MLP"),
        Claim(**sharing, study="s", second=["a=1"], network="CNN", reversed=True),
        Claim(**sharing, study="few", second=["a=1"], network="small"),
    ]
    page = write_questions({"wang": report_of(claims=claims)}, Results(tmp_path), tmp_path)
    assert page == (tmp_path / "questions.md").read_text()
    assert (tmp_path / "questions-sharing.png").stat().st_size > 1000
    assert "in 1 of 3 comparisons the former is better, in 1 worse, and 1 are not decided" in page
    p = f"p = {3 * 2 / 2**10:.3f}"  # Holm: the smallest of three
    lines = table_lines(page)
    assert ["[wang](wang.md)", "MLP", "10", "-2.00 [-2.00, -2.00]", p, "better"] in lines
    assert ["[wang](wang.md)", "CNN", "10", "+2.00 [+2.00, +2.00]", p, "worse"] in lines
    assert [line[-1] for line in lines if line[1] == "small"] == ["not decided"]


def test_a_row_of_a_table_may_be_of_one_epoch(tmp_path):
    members = []
    for seed, errors in enumerate([[9.0, 4.0, 5.0], [7.0, 6.0, 3.0]]):
        folder = tmp_path / str(seed)
        folder.mkdir()
        write_curve(folder, "m", errors)
        run = Run(folder, result_of_a_run(5.0) | {"m": errors[-1]})
        members.append(Member(frozenset(["a=1"]), seed, run))
    rows = [
        Row(name=f"row {epoch}", settings=["a=1"], epoch=epoch, report={"error": [5.5]})
        for epoch in (1, 2, None)
    ]
    columns = {"error": "m", "minimum": ["m", "min"]}
    table = Table(table="T", **PLACE, columns=columns, rows=rows)
    lines = table_lines(page_of(report_of([table]), members, tmp_path))
    assert [tuple(line[2:]) for line in lines if line[0].startswith("row ") and line[2:]] == [
        ("8.00 ± 1.41", "+2.50", "differs"),
        ("5.00 ± 1.41", "-0.50", "agrees"),
        ("4.00 ± 1.41", "-1.50", "differs"),
    ]
    minima = [tuple(line) for line in lines if line[0].startswith("row ") and not line[2:]]
    assert minima == [("row 1", "7.00"), ("row 2", "4.00"), ("row None", "3.00")]


@pytest.mark.parametrize(
    "text, markdown",
    [
        ("AMD EPYC, 2.14.1+cu130", "AMD EPYC, 2.14.1+cu130"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("<img src=x onerror=y>&lt;", "&lt;img src=x onerror=y&gt;&amp;lt;"),
        ("[x](javascript:y) ![z](w)", r"\[x\](javascript:y) !\[z\](w)"),
        ("`a` *b* _c_ ~d~ # \\", r"\`a\` \*b\* \_c\_ \~d\~ \# \\"),
        ("one\nline\x1b[2J|\u202e", r"one line \[2J|"),
    ],
)
def test_text_of_results_is_shown_literally(text, markdown):
    assert report_tables.plain(text) == markdown


@pytest.mark.slow
def test_a_summary_of_all_reports(small_study, tmp_path, capsys, only_studies):
    """It has the number of runs and of verdicts of each report."""
    only_studies("wang/dropout")
    reproduce(*SMALL_STUDY, output=small_study, to=tmp_path)
    glance = (tmp_path / "glance.md").read_text()
    (wang,) = [line for line in table_lines(glance) if line[0] == "[wang](wang.md)"]
    assert wang[1:] == ["8 of 8", "0", "0", "3", "0 of 0"]
    assert glance + "\n" in capsys.readouterr().out and "# At a glance" in glance
