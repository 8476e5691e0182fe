"""The table of a sweep, computed from files; its statistics against numpy and scipy."""

import io
import json

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from digitpairs.analysis.runs import configs_of
from digitpairs.analysis.table import mean_std_half_width, print_table, read_rows
from digitpairs.checks import DigitPairsWarning
from digitpairs.names import display_names
from tests.conftest import result_of_a_run


def write(sweep, configuration, seed, error, source="mnist", **more):
    """Write the result of a run, or its failure if its error is None."""
    folder = sweep / f"{configuration}-12345678" / f"seed={seed}"
    folder.mkdir(parents=True)
    if error is None:
        (folder / "failure.json").write_text("{}")
    else:
        result = result_of_a_run(error, seed, source=source, **more)
        (folder / "result.json").write_text(json.dumps(result))


def printed(sweep, width=120, encoding="utf-8"):
    """The table of all runs in the folder, as a terminal of this encoding gets it."""
    console = Console(width=width, file=io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    folders = list(sweep.glob("*/seed=*"))
    print_table(folders, console, display_names(configs_of(folders)))
    console.file.flush()
    return console.file.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_mean_std_and_interval(n):
    values = np.random.default_rng(0).normal(5, 1, n)
    mean, std, half_width = mean_std_half_width(values.tolist())
    low, high = scipy.stats.t.interval(0.95, n - 1, values.mean(), scipy.stats.sem(values))
    assert (mean, std) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert (mean - half_width, mean + half_width) == pytest.approx((low, high))


def test_sources_are_never_averaged_and_rows_are_ordered(tmp_path):
    for seed, error in enumerate([3.0, 5.0, 4.0]):
        write(tmp_path, "a", seed, error)
    write(tmp_path, "b", 0, 2.0)
    write(tmp_path, "a", 7, 9.0, source="digits")
    write(tmp_path, "b", 4, None)
    rows = read_rows(tmp_path.glob("*/seed=*"))
    assert [row.configuration[0] for row in rows] == ["b", "a", "a"]
    b, a, a_on_digits = rows
    assert (a.source, a.metric, a.n) == ("mnist", "test/comparison_error", 3)
    assert (a.mean, a.std, a.best, a.worst) == (4.0, 1.0, (3.0, 0), (5.0, 1))
    assert (a_on_digits.source, a_on_digits.n, b.failures) == ("digits", 1, 1)


@pytest.mark.parametrize("width", [80, 200])
def test_every_number_is_shown_on_a_narrow_terminal(tmp_path, width):
    configuration = "siamese_cnn,optimizer.lr=0.00001,model.body.dropout=0.25"
    for seed in range(3):
        write(tmp_path, configuration, seed, 10.25 + seed)
    text = printed(tmp_path, width)
    for number in ("11.25", "1.00", "± 2.48", "10.25 (0)", "12.25 (2)", "data: mnist", "6 s"):
        assert number in text


def test_optional_columns_and_what_all_configurations_share(tmp_path):
    """A column without values is left out, and the shared model is part of the title."""
    for rate, digit_error in (("0.1", 6.0), ("0.01", 8.0)):
        for seed in range(2):
            errors = {"test/digit_error": digit_error + seed}
            write(tmp_path, f"siamese_mlp,optimizer.lr={rate}", seed, 50.0, **errors)
    text = printed(tmp_path)
    assert "data: mnist, siamese_mlp" in text and text.count("siamese_mlp") == 1
    rows = [line.split() for line in text.splitlines() if line.startswith(" optimizer.lr=")]
    names_and_digits = [(row[0], row[-1]) for row in rows]
    assert names_and_digits == [("optimizer.lr=0.01", "8.50"), ("optimizer.lr=0.1", "6.50")]
    assert "digits: mean error" in text and "failed" not in text
    write(tmp_path, "siamese_mlp,optimizer.lr=0.1", 2, None)
    assert "failed" in printed(tmp_path)


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-2", "cp852"])
def test_a_terminal_without_the_signs_shows_others(tmp_path, encoding):
    for seed in range(3):
        write(tmp_path, "siamese_cnn", seed, 10.25 + seed)
    assert "+- 2.48" in printed(tmp_path, encoding=encoding) and "± 2.48" in printed(tmp_path)


def test_brackets_in_names_are_no_markup(tmp_path):
    """Names of a folder, a setting and a source."""
    sweep = tmp_path / "[bold]" / ":smile:"
    activations = ("model.activation=[relu]", "model.activation=[red]")
    for activation in activations:
        write(sweep, f"mlp,{activation}", 0, 5.0, source="[green]")
    text = printed(sweep, width=300)
    for name in (*activations, "data: [green]"):
        assert name in text


def test_a_damaged_result_is_named_and_left_out_of_the_table(tmp_path):
    for seed in range(3):
        write(tmp_path, "siamese_cnn", seed, 10.0 + seed)
    damaged = tmp_path / "siamese_cnn-12345678" / "seed=1" / "result.json"
    damaged.write_text("[]")
    message = f"{damaged} is damaged: it holds no JSON object; it is left out"
    with pytest.warns(DigitPairsWarning, match=message):
        (row,) = read_rows(tmp_path.glob("*/seed=*"))
    assert (row.n, row.mean) == (2, 11.0)
