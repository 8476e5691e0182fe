"""The table out of files, against numpy and scipy."""

import io
import json

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from digitpairs.analysis.table import mean_std_half_width, print_table, read_rows


def write(sweep, configuration, seed, error, source="mnist", **more):
    folder = sweep / f"{configuration}-12345678" / f"seed={seed}"
    folder.mkdir(parents=True)
    result = {"seed": seed, "source": source, "test/comparison_error": error, "seconds": 2.0} | more
    (folder / "result.json").write_text(json.dumps(result))


@pytest.mark.parametrize("n", [2, 5, 40])
def test_mean_std_and_interval(n):
    values = np.random.default_rng(0).normal(5, 1, n)
    mean, std, half = mean_std_half_width(values.tolist())
    low, high = scipy.stats.t.interval(0.95, n - 1, values.mean(), scipy.stats.sem(values))
    assert (mean, std, mean - half, mean + half) == pytest.approx((values.mean(), values.std(ddof=1), low, high))


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
    assert (rows["a-12345678", "mnist"].best, rows["a-12345678", "mnist"].worst) == ((3.0, 0), (5.0, 1))
    assert rows["a-12345678", "digits"].n == 1 and rows["b-12345678", "mnist"].failures == 1


def test_rows_whose_names_are_cut_alike_show_their_digests(tmp_path):
    for digest in ("11111111", "22222222"):
        folder = tmp_path / f"name-{digest}" / "seed=0"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text('{"seed": 0, "source": "mnist", "test/comparison_error": 1.0, "seconds": 1.0}')
    console = Console(width=120, record=True, file=io.StringIO())
    print_table(tmp_path, tmp_path.glob("*/seed=*"), console)
    assert "name-11111111" in console.export_text()


@pytest.mark.parametrize("width", [80, 200])
def test_every_number_is_shown_on_a_narrow_terminal(tmp_path, width):
    for seed in range(3):
        write(tmp_path, "siamese_cnn,optimizer.lr=0.00001,model.body.dropout=0.25", seed, 10.25 + seed)
    console = Console(width=width, record=True, file=io.StringIO())
    print_table(tmp_path, tmp_path.glob("*/seed=*"), console)
    text = console.export_text()
    for number in ("11.25", "1.00", "± 2.48", "10.25 (0)", "12.25 (2)", "data: mnist", "6 s"):
        assert number in text


def test_lists_in_names_are_not_taken_apart(tmp_path):
    for hidden in ("_128,64_", "_128,32_"):
        write(tmp_path, f"mlp,model.body.hidden={hidden}", 0, 5.0)
    console = Console(width=120, record=True, file=io.StringIO())
    print_table(tmp_path, tmp_path.glob("*/seed=*"), console)
    title, *lines = [line.strip() for line in console.export_text().splitlines()]
    assert title == "Test error of the comparison, %, data: mnist, mlp"
    assert sorted(line.split()[0] for line in lines if line.startswith("model")) == ["model.body.hidden=_128,32_", "model.body.hidden=_128,64_"]


def test_digits_failures_and_what_rows_share(tmp_path):
    """A column stands where a row has something in it, and what all configurations begin with in the title."""
    for lr, digit_error in (("0.1", 6.0), ("0.01", 8.0)):
        for seed in range(2):
            write(tmp_path, f"siamese_mlp,optimizer.lr={lr}", seed, 50.0, **{"test/digit_error": digit_error + seed})

    def shown():
        console = Console(width=120, record=True, file=io.StringIO())
        print_table(tmp_path, tmp_path.glob("*/seed=*"), console)
        return console.export_text()

    text = shown()
    assert "data: mnist, siamese_mlp" in text and text.count("siamese_mlp") == 1
    assert [line.split()[0] for line in text.splitlines() if line.strip().startswith("optimizer.lr=") and ("6.50" in line or "8.50" in line)] == [
        "optimizer.lr=0.01",
        "optimizer.lr=0.1",
    ]
    assert "digits: mean error" in text and "failed" not in text
    failed = tmp_path / "siamese_mlp,optimizer.lr=0.1-12345678" / "seed=2"
    failed.mkdir()
    (failed / "failure.json").write_text("{}")
    assert "failed" in shown()
