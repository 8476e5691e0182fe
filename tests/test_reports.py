"""The reports beside ours: their data files, results found by fingerprint, verdicts, pages."""

import dataclasses
import functools
import itertools
import json
import statistics
import warnings
from pathlib import Path

import numpy as np
import pytest

from digitpairs.analysis import report_page, reproduction
from digitpairs.analysis.report_page import is_far, table_text, write_page
from digitpairs.analysis.report_plots import plot_epochs
from digitpairs.analysis.reports import (
    Choice,
    Epochs,
    Final,
    Grid,
    Report,
    Row,
    Table,
    read_report,
    statistic_of,
)
from digitpairs.analysis.results import Cell, Member, Results, Study
from digitpairs.analysis.runs import Run, finished_runs, relabelled_digit_error
from digitpairs.checks import InvalidValueError
from digitpairs.cli import CONF, main
from digitpairs.sweeps.compose import compose_command, expand_command
from digitpairs.sweeps.jobs import fingerprint, plan_jobs
from tests.conftest import result_of_a_run

REPORTS = sorted(path.stem for path in (CONF / "reports").glob("*.yaml"))
SMALL = ["data=digits", "data.pairs=40", "data.test_pairs=20", "smoke=on"]


@functools.cache
def nothing_run(name: str) -> Study:
    """A study of which nothing was run, its configs not composed."""
    jobs = [
        dict(each.split("=", 1) for each in job)
        for job in expand_command(CONF, [f"experiment={name}", "seed=range(2)"])
    ]
    seeds = [int(job.pop("seed")) for job in jobs]
    return Study(
        name,
        [
            Member(frozenset(f"{key}={value}" for key, value in job.items()), seed, None)
            for job, seed in zip(jobs, seeds)
        ],
    )


@pytest.mark.parametrize("report", REPORTS)
def test_every_row_and_claim_is_of_one_configuration_of_its_study(report):
    given = read_report(CONF / "reports" / f"{report}.yaml")
    for show in given.shows:
        if isinstance(show, (Table, Epochs)):
            for row in show.rows:
                assert nothing_run(show.study).of(row.settings)
        if isinstance(show, Table):
            names = set(show.columns)
            assert all(set(row.report) <= names for row in show.rows), show.table
            assert all(statistic_of(column) for column in show.columns.values())
        if isinstance(show, Grid):
            assert nothing_run(show.study).varied(show.x) and (
                show.lines is None or nothing_run(show.study).varied(show.lines)
            )
        if isinstance(show, Choice):
            assert any(
                {each for each in show.report if not each.startswith("epoch=")} <= each
                for each in nothing_run(show.study).configurations()
            )
            assert show.by_study is None or nothing_run(show.by_study).of(show.among)
    for claim in given.claims:
        assert nothing_run(claim.study).of(claim.first)
        assert claim.bound is not None or nothing_run(claim.second_study or claim.study).of(
            claim.second
        )
    for final in given.finals:
        assert nothing_run(final.study).of(final.settings)


def test_every_study_of_a_report_is_shown():
    """But for the rates of a choice, which are a grid of it."""
    for report in REPORTS:
        given = read_report(CONF / "reports" / f"{report}.yaml")
        shown = (
            {show.study for show in given.shows}
            | {each.study for each in given.claims}
            | {getattr(show, "by_study", None) for show in given.shows}
        )
        assert {
            f"{report}/{path.stem}" for path in (CONF / "experiment" / report).glob("*.yaml")
        } <= shown


@pytest.fixture(scope="module")
def small_study(tmp_path_factory):
    """The wang report's dropout study, in short: the folder of the outputs, and its results by (dropout, seed)."""
    output = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sys.argv",
            [
                "train.py",
                "experiment=wang/dropout",
                *SMALL,
                "sweep.plan=serial",
                f"output={output}",
            ],
        )
        main()
    results = {}
    for path in output.glob("*/*/*/result.json"):
        config = (path.parent / "config.yaml").read_text()
        dropout = float(
            next(line for line in config.splitlines() if "dropout:" in line and "0." in line).split(
                ":"
            )[1]
        )
        result = json.loads(path.read_text())
        results[dropout, result["seed"]] = (path.parent, result)
    return output, results


@pytest.fixture
def only(monkeypatch):
    """`only("wang/dropout")`: of each report nothing but what concerns these studies; composing all of them takes long."""

    def cut(*studies: str) -> None:
        def read(path: Path) -> Report:
            given = read_report(path)
            parts = {
                name: [each for each in getattr(given, name) if each.study in studies]
                for name in ("shows", "finals", "claims")
            }
            return dataclasses.replace(given, **parts)

        monkeypatch.setattr(reproduction, "read_report", read)

    return cut


def test_a_page_holds_what_the_files_say(small_study, capsys, tmp_path, only):
    output, results = small_study
    only("wang/dropout", "wang/batch_norm")
    assert (
        reproduction.main(["wang", *SMALL, f"output={output}", "--to", str(tmp_path / "pages")])
        == 0
    )
    said = capsys.readouterr().out
    page = (tmp_path / "pages" / "wang.md").read_text()
    assert page in said
    for dropout in (0.0, 0.2, 0.5, 0.8):
        errors = [results[dropout, seed][1]["test/comparison_error"] for seed in (0, 1)]
        assert (
            f"| {dropout} " in page
            and f"{statistics.fmean(errors):.2f} ± {statistics.stdev(errors):.2f} (n = 2)" in page
        )
    assert "| `wang/dropout`    | 8 of 8" in page and "| `wang/batch_norm` | 0 of 4" in page
    assert "not decided at n = 2" in page and "missing" in page
    assert "`python train.py experiment=wang/batch_norm data=digits" in page
    plots = {path.name for path in (tmp_path / "pages").glob("*.png")}
    assert plots and all(f"({name})" in page for name in plots)


def test_results_of_other_settings_are_never_taken(small_study):
    output, _ = small_study
    assert all(
        member.run is not None for member in Results(output, SMALL).study("wang/dropout").members
    )
    for other in ("data.pairs=60", "optimizer.lr=0.002", "data.seed=7"):
        given = [each for each in SMALL if each.partition("=")[0] != other.partition("=")[0]]
        assert all(
            member.run is None
            for member in Results(output, [*given, other]).study("wang/dropout").members
        )


def test_values_of_a_run(small_study):
    folder, result = next(iter(small_study[1].values()))
    run = Run(folder, result)
    lines = (folder / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("train/loss")
    losses = [float(line.split(",")[column]) for line in lines[1:]]
    assert run.value("train/loss@1") == losses[0] and run.value("train/loss@best") == min(losses)
    assert run.value("seconds") == result["seconds"]
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
    best = [
        max(
            sum(table[row, column] for row, column in enumerate(order))
            for order in itertools.permutations(range(5))
        )
        for table in small
    ]
    assert relabelled_digit_error(small) == pytest.approx(100 * (1 - sum(best) / small.sum()))
    shuffled = np.stack([np.diag([7] * 10)[random.permutation(10)]] * 2)
    assert relabelled_digit_error(shuffled) == 0


def test_far_is_more_than_both_spreads():
    cell = Cell({0: 4.0, 1: 6.0}, 2)  # 5 +- 1.41
    assert (
        not is_far(cell, [6.0, 0.1])
        and is_far(cell, [6.5, 0.1])
        and not is_far(cell, [6.5, 2.0])
        and not is_far(Cell({}, 2), [6.5, 0.1])
    )
    assert is_far(cell, [6.5]) and not is_far(Cell({0: 5.0}, 2), [9.0])


def test_small_numbers_have_two_significant_digits():
    shown = [
        report_page._number(value)
        for value in (12.345, 0.1, 0.09999999, 0.0995, 0.0994, 0.0312, 0.00123, 0.0004, 0.0)
    ]
    assert shown == ["12.35", "0.10", "0.10", "0.10", "0.099", "0.031", "0.0012", "0.00", "0.00"]


def test_tables_are_markdown():
    assert (
        table_text(["a", "bcd"], [["x|y", "1"]])
        == "| a    | bcd |\n| ---- | --- |\n| x\\|y | 1   |"
    )


def test_settings_that_name_no_row():
    study = nothing_run("wang/dropout")
    with pytest.raises(
        InvalidValueError, match="those of one row of wang/dropout, and 8 of its runs"
    ):
        study.of([])
    with pytest.raises(InvalidValueError, match="and 0 of its runs"):
        study.of(["model.body.dropout=0.3"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("title: t", "the keys about, shows, finals, claims as well"),
        (
            "{title: t, about: a, finals: [], claims: [], shows: [{tabel: x}]}",
            r"shows\[0\].*one of table, grid, epochs, choice",
        ),
        (
            "{title: t, about: a, finals: [], shows: [], claims: [{claim: c, place: p, study: s, frist: []}]}",
            r"claims\[0\].frist.*did you mean first",
        ),
        (
            "{title: t, about: a, finals: [], shows: [], claims: [{claim: c, place: p, study: s, first: [], relation: best}]}",
            "relation=best",
        ),
        (
            "{title: t, about: a, finals: [], shows: [], claims: [{claim: c, place: p, study: s, first: [], relation: above}]}",
            r"claims\[0\].bound=None",
        ),
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
            ["wang", "variant=wang/mlp_aux"],
            "variant=wang/mlp_aux is not accepted: a setting that the studies do not choose themselves",
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
def test_what_cannot_be_had_is_one_message(arguments, message, capsys, tmp_path, only):
    only("wang/dropout", "wang/sharing")
    place = [] if any(each.startswith("output=") for each in arguments) else [f"output={tmp_path}"]
    with pytest.raises(SystemExit) as left:
        reproduction.main([*arguments, *place])
    assert (
        left.value.code == 2 and message in capsys.readouterr().err and not Path("nowhere").exists()
    )


def test_failures_and_metrics_that_some_rows_lack_are_told(tmp_path, capsys, only):
    """A study of which a network names no digits, one run has failed, and the rest has not been run."""
    only("skura/aux")
    output = tmp_path / "outputs"
    jobs = {
        name: plan_jobs(
            compose_command(CONF, ["experiment=skura/aux", f"variant=skura/{name}", "data=digits"])
        )
        for name in ("legacy", "shared_aux")
    }
    for name, more in (("legacy", {}), ("shared_aux", {"test/digit_error": 4.0})):
        for job in jobs[name][:3]:
            folder = _folder(output / "sweep" / name / f"seed={job.seed}")
            key = {"fingerprint": fingerprint(job.config)}
            if job.seed == 2:
                (folder / "failure.json").write_text(
                    json.dumps(key | {"reason": "the loss became nan in epoch 3"})
                )
                continue
            result = result_of_a_run(10.0 + job.seed, job.seed, source="digits", **key, **more)
            (folder / "result.json").write_text(json.dumps(result))
            for file in ("config.yaml", "checkpoint.ckpt"):
                (folder / file).write_text("as in each run's folder")
            (folder / "metrics.csv").write_text("epoch,test/comparison_error\n0,50.0\n1,40.0\n")
    assert (
        reproduction.main(
            ["skura", "data=digits", "--to", str(tmp_path / "pages"), f"output={output}"]
        )
        == 0
    )
    page = capsys.readouterr().out
    row = next(
        line
        for line in page.splitlines()
        if line.startswith("| LegacyCNN  ") and "10.50 ± 0.71" in line
    )
    assert row.split("|")[2].strip() == "n = 2 of 10" and row.split("|")[-2].strip() == "-"
    assert (
        "2 of the 50 runs of `skura/aux` failed (the loss became nan in epoch 3)." in page
        and "44 of the 50 runs of `skura/aux` have not been run" in page
    )
    assert "unknown" in page


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("result.json", '{"seed": 3', "result.json is damaged: Expecting ',' delimiter"),
        ("result.json", "[]", "result.json is damaged: it holds no JSON object"),
        (
            "result.json",
            json.dumps(result_of_a_run(5.0, seed=4)),
            "result.json is damaged: it is of seed=4",
        ),
        (
            "failure.json",
            '{"reason": "x"}',
            "failure.json is damaged: the failure is {'reason': 'x'}, not one with the entry fingerprint",
        ),
        (
            "metrics.csv",
            "epoch,error\n0,x\n",
            "metrics.csv is damaged: could not convert string to float",
        ),
        (
            "confusion.json",
            '{"digit1": [[1]], "digit2": 3}',
            "confusion.json is damaged: digit1 is [[1]], not 10 rows of 10 counts",
        ),
    ],
)
def test_a_damaged_run_is_named_and_left_out(tmp_path, capsys, only, name, content, said):
    only("wang/dropout")
    runs = [
        _folder(tmp_path / "sweep" / "configuration" / f"seed={seed}")
        for seed in ("2", "3", "copy", "3x", "03")
    ]
    for run in runs:
        seed = 2 if run.name == "seed=2" else 3
        for each, text in {
            "result.json": json.dumps(result_of_a_run(5.0, seed)),
            "metrics.csv": "epoch\n",
            "config.yaml": "-",
            "checkpoint.ckpt": "-",
        }.items():
            (run / each).write_text(text)
    (runs[1] / name).write_text(content)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert reproduction.main(["wang", "data=digits", f"output={tmp_path}"]) == 0
    said_of = [line for line in capsys.readouterr().err.splitlines() if str(runs[1]) in line]
    assert (
        len(said_of) == 1
        and said_of[0].startswith(f"warning: {runs[1] / name.split('.')[0]}")
        and said in said_of[0]
        and "it is left out" in said_of[0]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = finished_runs(tmp_path, "*/*/seed=[0-9]*")
    assert [run.folder for run in found] == (runs[:2] if name == "failure.json" else runs[:1])


def test_all_of_a_curve_is_within_its_plot(tmp_path):
    rows = [Row(name=name, settings=[f"a={name}"]) for name in ("low", "high")]
    members = []
    for row, errors in zip(rows, ([5, 4], [40, 30])):
        folder = _folder(tmp_path / row.name)
        (folder / "metrics.csv").write_text(
            "epoch,error\n" + "\n".join(f"{epoch},{error}" for epoch, error in enumerate(errors))
        )
        members.append(Member(frozenset(row.settings), 0, Run(folder, {})))
    figure = plot_epochs(
        Epochs(epochs="e", place="p", study="s", metrics={"error": "error"}, rows=rows),
        Study("s", members),
    )
    assert figure.axes[0].get_ylim()[0] == 0 and figure.axes[0].get_ylim()[1] >= 40


def test_the_text_of_a_grid_with_a_best_setting_of_a_choice_and_of_a_final_model(tmp_path):
    """A rate with fewer rounds than another is compared with it on these."""
    errors = {
        ("0", "0.1"): [8.0, 9.0],
        ("0", "1"): [5.0, 7.0],
        ("0", "2"): [5.5],
        ("0.5", "0.1"): [6.0, 7.0],
        ("0.5", "1"): [9.0, 9.5],
        ("0.5", "2"): [9.0],
    }
    made = {
        "seconds": 1.0,
        "source": "digits",
        "versions": {"torch": "1", "pytorch_lightning": "1", "python": "3"},
    }
    members = [
        Member(
            frozenset([f"c={c}", f"lr={lr}"]),
            seed,
            Run(
                Path("nowhere"),
                made
                | {"test/comparison_error": value, "validation/comparison_error": value + seed},
            ),
        )
        for (c, lr), values in errors.items()
        for seed, value in enumerate(values)
    ]
    results = Results(tmp_path)
    results._studies["s"] = Study("s", members)
    place = {"place": "p", "study": "s"}
    grid = Grid(
        grid="Best rate", **place, x="c", best_over="lr", metrics={"error": "test/comparison_error"}
    )
    choice = Choice(
        choice="Rate",
        **place,
        report=["c=0", "lr=0.1"],
        among=["lr=0.1", "lr=1"],
        chose_by="its folds",
    )
    every = Choice(choice="Any rate", **place, report=["c=0", "lr=2"])
    final = Final(final="the model", **place, settings=["c=0", "lr=1"], report=[5.9, 0.2, 10])
    text = write_page(
        Report(
            title="t",
            about="a",
            shows=[grid, choice, every],
            finals=[final, dataclasses.replace(final, other_reading=True)],
            claims=[],
        ),
        "r",
        results,
        tmp_path,
    ).text
    lines = [
        [each.strip() for each in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    assert ["0", "6.00 ± 1.41 (n = 2)", "1"] in lines and [
        "0.5",
        "6.50 ± 0.71 (n = 2)",
        "0.1",
    ] in lines
    assert ["by the test", "`c=0 lr=1`", "6.50 ± 2.12 (n = 2)", "6.00 ± 1.41 (n = 2)", "1"] in lines
    assert [
        "the report's choice",
        "`c=0 lr=0.1`",
        "9.00 ± 1.41 (n = 2)",
        "8.50 ± 0.71 (n = 2)",
        "3",
    ] in lines
    assert (
        "The report chose by its folds. How far the test flatters" in text
        and "is +0.00 points above the others' (standard error 0.00)" in text
    )
    assert [
        "by the test",
        "`c=0 lr=1`",
        "5.00 (n = 1 of 2)",
        "5.00 (n = 1 of 2)",
        "1",
    ] in lines and [
        "the report's choice",
        "`c=0 lr=2`",
        "5.50 (n = 1)",
        "5.50 (n = 1)",
        "2",
    ] in lines
    assert text.count("Compared on the rounds that all configurations have.") == 1
    for name in ("the model", "another reading: the model"):
        assert [
            name,
            "p",
            "n = 2",
            "5.90 ± 0.20",
            "6.00 ± 1.41",
            "-",
            "**not decided at n = 2**",
        ] in lines


def test_a_table_of_many_metrics_is_several(tmp_path):
    """Each of at most three metrics, with the row's name and n."""
    made = {
        "seconds": 2.0,
        "source": "digits",
        "versions": {"torch": "1", "pytorch_lightning": "1", "python": "3"},
    } | {f"m{k}": k + 1 for k in range(4)}
    results = Results(tmp_path)
    results._studies["s"] = Study(
        "s", [Member(frozenset(["a=1"]), seed, Run(Path("nowhere"), made)) for seed in range(2)]
    )
    columns = {f"metric {k}": f"m{k}" for k in range(4)} | {"s a round": "seconds"}
    row = Row(name="r", settings=["a=1"], report={"metric 3": [3.0], "s a round": [9.0]})
    table = Table(table="T", place="p", study="s", columns=columns, rows=[row])
    text = write_page(
        Report(title="t", about="a", shows=[table], finals=[], claims=[]), "r", results, tmp_path
    ).text
    lines = [
        [each.strip() for each in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith(("| row", "| r "))
    ]
    spread = " ± 0.00"
    assert lines == [
        ["row", "n", "metric 0, ours", "metric 1, ours", "metric 2, ours"],
        ["r", "n = 2", f"1.00{spread}", f"2.00{spread}", f"3.00{spread}"],
        [
            "row",
            "n",
            "metric 3, report",
            "metric 3, ours",
            "difference",
            "s a round, report",
            "s a round, ours",
        ],
        ["r", "n = 2", "3.00", f"4.00{spread}", "+1.00*", "9.00", f"2.00{spread}"],
    ]


def test_a_row_of_a_table_may_be_of_one_epoch(tmp_path):
    made = {
        "seconds": 2.0,
        "source": "digits",
        "versions": {"torch": "1", "pytorch_lightning": "1", "python": "3"},
    }
    for seed, errors in enumerate([[9.0, 4.0, 5.0], [7.0, 6.0, 3.0]]):
        (folder := tmp_path / str(seed)).mkdir()
        (folder / "metrics.csv").write_text(
            "epoch,m\n" + "\n".join(f"{epoch},{error}" for epoch, error in enumerate(errors))
        )
    results = Results(tmp_path)
    runs = [Run(tmp_path / str(seed), made | {"m": last}) for seed, last in enumerate([5.0, 3.0])]
    results._studies["s"] = Study(
        "s", [Member(frozenset(["a=1"]), seed, run) for seed, run in enumerate(runs)]
    )
    rows = [
        Row(name=f"row {epoch}", settings=["a=1"], epoch=epoch, report={"error": [5.5]})
        for epoch in (1, 2, None)
    ]
    table = Table(
        table="T", place="p", study="s", columns={"error": "m", "minimum": ["m", "min"]}, rows=rows
    )
    text = write_page(
        Report(title="t", about="a", shows=[table], finals=[], claims=[]), "r", results, tmp_path
    ).text
    lines = [
        [each.strip() for each in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| row ")
    ]
    assert [(line[0], line[3], line[4], line[5]) for line in lines[1:]] == [
        ("row 1", "8.00 ± 1.41", "+2.50*", "7.00"),
        ("row 2", "5.00 ± 1.41", "-0.50", "4.00"),
        ("row None", "4.00 ± 1.41", "-1.50*", "3.00"),
    ]


@pytest.mark.parametrize(
    "text, shown",
    [
        ("AMD EPYC, 2.14.1+cu130", "AMD EPYC, 2.14.1+cu130"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("<img src=x onerror=y>&lt;", "&lt;img src=x onerror=y&gt;&amp;lt;"),
        ("[x](javascript:y) ![z](w)", r"\[x\](javascript:y) !\[z\](w)"),
        ("`a` *b* _c_ ~d~ # \\", r"\`a\` \*b\* \_c\_ \~d\~ \# \\"),
        ("one\nline\x1b[2J|\u202e", r"one line \[2J|"),
    ],
)
def test_text_of_results_is_shown_as_it_is(text, shown):
    assert report_page.plain(text) == shown


def test_at_a_glance(small_study, tmp_path, capsys, only):
    """Of all reports: how many runs, and what was decided."""
    only("wang/dropout")
    assert reproduction.main([*SMALL, f"output={small_study[0]}", "--to", str(tmp_path)]) == 0
    glance = (tmp_path / "glance.md").read_text()
    (wang,) = [line for line in glance.splitlines() if line.startswith("| [wang](wang.md)")]
    assert [each.strip() for each in wang.split("|")[2:-1]] == ["8 of 8", "0", "0", "3", "0 of 0"]
    assert capsys.readouterr().out.endswith(glance + "\n") and "# At a glance" in glance


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
