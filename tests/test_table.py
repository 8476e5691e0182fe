"""The table out of files, against numpy and scipy."""

import io
import json

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from digitpairs.names import display_names
from digitpairs.analysis.runs import configs_of
from digitpairs.analysis.table import mean_std_half_width, print_table, read_rows
from digitpairs.checks import DigitPairsWarning
from tests.conftest import result_of_a_run


def write(sweep, configuration, seed, error, source="mnist", **more):
    folder = sweep / f"{configuration}-12345678" / f"seed={seed}"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(
        json.dumps(result_of_a_run(error, seed, source=source, **more))
    )


def shown(sweep, width=120, encoding="utf-8"):
    """The table of all runs in the folder, as it comes out of a terminal of this encoding."""
    console = Console(width=width, file=io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    folders = list(sweep.glob("*/seed=*"))
    print_table(sweep, folders, console, display_names(configs_of(folders)))
    console.file.flush()
    return console.file.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_mean_std_and_interval(n):
    values = np.random.default_rng(0).normal(5, 1, n)
    mean, std, half = mean_std_half_width(values.tolist())
    low, high = scipy.stats.t.interval(0.95, n - 1, values.mean(), scipy.stats.sem(values))
    assert (mean, std, mean - half, mean + half) == pytest.approx(
        (values.mean(), values.std(ddof=1), low, high)
    )


def test_sources_are_never_averaged_and_rows_are_ordered(tmp_path):
    for seed, error in enumerate([3.0, 5.0, 4.0]):
        write(tmp_path, "a", seed, error)
    write(tmp_path, "b", 0, 2.0)
    write(tmp_path, "a", 7, 9.0, source="digits")
    failed = tmp_path / "b-12345678" / "seed=4"
    failed.mkdir()
    (failed / "failure.json").write_text("{}")
    rows = {(row.configuration, row.source): row for row in read_rows(tmp_path.glob("*/seed=*"))}
    assert [key[0][0] for key in rows] == ["b", "a", "a"]
    assert rows["a-12345678", "mnist"][2:6] == ("test/comparison_error", 3, 4.0, 1.0)
    assert (rows["a-12345678", "mnist"].best, rows["a-12345678", "mnist"].worst) == (
        (3.0, 0),
        (5.0, 1),
    )
    assert rows["a-12345678", "digits"].n == 1 and rows["b-12345678", "mnist"].failures == 1


def test_rows_whose_names_are_cut_alike_show_their_digests(tmp_path):
    for digest in ("11111111", "22222222"):
        folder = tmp_path / f"name-{digest}" / "seed=0"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(result_of_a_run(1.0)))
    assert "name-11111111" in shown(tmp_path)


@pytest.mark.parametrize("width", [80, 200])
def test_every_number_is_shown_on_a_narrow_terminal(tmp_path, width):
    for seed in range(3):
        write(
            tmp_path, "siamese_cnn,optimizer.lr=0.00001,model.body.dropout=0.25", seed, 10.25 + seed
        )
    text = shown(tmp_path, width)
    for number in ("11.25", "1.00", "± 2.48", "10.25 (0)", "12.25 (2)", "data: mnist", "6 s"):
        assert number in text


def test_lists_in_names_are_not_taken_apart(tmp_path):
    for hidden in ("_128,64_", "_128,32_"):
        write(tmp_path, f"mlp,model.body.hidden={hidden}", 0, 5.0)
    title, *lines = [line.strip() for line in shown(tmp_path).splitlines()]
    assert title == "Test error of the comparison, %, data: mnist, mlp"
    assert sorted(line.split()[0] for line in lines if line.startswith("model")) == [
        "model.body.hidden=_128,32_",
        "model.body.hidden=_128,64_",
    ]


def test_digits_failures_and_what_rows_share(tmp_path):
    """A column stands where a row has something in it, and what all configurations begin with in the title."""
    for lr, digit_error in (("0.1", 6.0), ("0.01", 8.0)):
        for seed in range(2):
            write(
                tmp_path,
                f"siamese_mlp,optimizer.lr={lr}",
                seed,
                50.0,
                **{"test/digit_error": digit_error + seed},
            )
    text = shown(tmp_path)
    assert "data: mnist, siamese_mlp" in text and text.count("siamese_mlp") == 1
    assert [
        line.split()[0]
        for line in text.splitlines()
        if line.strip().startswith("optimizer.lr=") and ("6.50" in line or "8.50" in line)
    ] == [
        "optimizer.lr=0.01",
        "optimizer.lr=0.1",
    ]
    assert "digits: mean error" in text and "failed" not in text
    failed = tmp_path / "siamese_mlp,optimizer.lr=0.1-12345678" / "seed=2"
    failed.mkdir()
    (failed / "failure.json").write_text("{}")
    assert "failed" in shown(tmp_path)


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-2", "cp852"])
def test_a_terminal_without_the_signs_shows_others(tmp_path, encoding):
    for seed in range(3):
        write(tmp_path, "siamese_cnn", seed, 10.25 + seed)
    assert "+- 2.48" in shown(tmp_path, encoding=encoding) and "± 2.48" in shown(tmp_path)


def test_brackets_in_names_are_no_markup(tmp_path):
    """Of a folder, a setting and a source."""
    sweep = tmp_path / "[bold]" / ":smile:"
    for activation in ("[relu]", "[red]"):
        write(sweep, f"mlp,model.activation={activation}", 0, 5.0, source="[green]")
    text = shown(sweep, width=300)
    for name in (
        "model.activation=[relu]",
        "model.activation=[red]",
        "data: [green]",
        f"Results: {sweep}",
    ):
        assert name in text


def test_a_damaged_result_is_named_and_left_out_of_the_table(tmp_path):
    for seed in range(3):
        write(tmp_path, "siamese_cnn", seed, 10.0 + seed)
    damaged = tmp_path / "siamese_cnn-12345678" / "seed=1" / "result.json"
    damaged.write_text("[]")
    with pytest.warns(
        DigitPairsWarning, match=f"{damaged} is damaged: it holds no JSON object; it is left out"
    ):
        (row,) = read_rows(tmp_path.glob("*/seed=*"))
    assert (row.n, row.mean) == (2, 11.0)
