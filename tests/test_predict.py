"""`python -m digitpairs.predict`: pairs of image files, formats, and errors of one message."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import digitpairs
from digitpairs.predict import main
from digitpairs.use import as_images
from digitpairs.use.answers import probability_text
from tests.test_reading import mnist_made, on_page

NAMES = ("a.png", "b.jpg", "c.png")


@pytest.fixture
def scans(tmp_path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for index, name in enumerate(NAMES):
        page = np.rint(255 * on_page(mnist_made(index))).astype(np.uint8)
        Image.fromarray(page).save(folder / name)
    (folder / "note.txt").write_text("no image")
    return folder


@pytest.fixture
def predict(capsys, monkeypatch, tmp_path):
    """`predict(...)` runs the command; returns (status, out, err)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments) -> tuple[int, str, str]:
        try:
            status = main(list(map(str, arguments)))
        except SystemExit as leave:
            status = leave.code
        return (status, *capsys.readouterr())

    return run


def records(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.slow
def test_json_holds_what_compare_answers(predict, scans, small_seeds):
    images = [scans / name for name in ("a.png", "b.jpg", "c.png", "a.png")]
    status, out, _ = predict(small_seeds, *images, "--json")
    answer = digitpairs.load(small_seeds).compare(images[0::2], images[1::2])
    assert status == 0
    for row, record in enumerate(json.loads(out)):
        assert record["first"] == str(images[2 * row])
        assert record["less_or_equal"] == answer.less_or_equal[row]
        assert record["probability"] == pytest.approx(answer.probability[row], abs=1e-6)
        assert record["digits"] == answer.digits[row].tolist()
        np.testing.assert_allclose(
            record["digit_probabilities"], answer.digit_probabilities[row], atol=1e-6
        )
        by_seed = answer.probability_by_seed[:, row]
        assert list(record["probability_by_seed"]) == ["seed=0", "seed=1"]
        np.testing.assert_allclose(list(record["probability_by_seed"].values()), by_seed, atol=1e-6)


def test_a_folder_is_compared_with_itself(predict, scans, small_seeds):
    status, out, _ = predict(small_seeds, scans, "--csv")
    pairs = [(Path(row["first"]).name, Path(row["second"]).name) for row in records(out)]
    assert status == 0
    assert pairs == [(first, second) for first in NAMES for second in NAMES if first != second]


def test_pairs_come_from_a_table(predict, scans, small_seeds):
    (scans / "pairs.csv").write_text("second,first,note\na.png,c.png,x\nb.jpg,b.jpg,y\n")
    _, out, _ = predict(small_seeds, "--pairs", scans / "pairs.csv", "--csv")
    pairs = [(Path(row["first"]).name, Path(row["second"]).name) for row in records(out)]
    assert pairs == [("c.png", "a.png"), ("b.jpg", "b.jpg")]
    assert set(records(out)[0]) >= {"probability", "first_digit", "probability_seed=1"}


def test_the_table_has_digits_answers_and_seeds(predict, scans, small_seeds):
    run = next(small_seeds.glob("*/*/seed=0"))
    answer = digitpairs.load(run).compare(scans / "a.png", scans / "b.jpg")
    _, out, _ = predict(run, scans / "a.png", scans / "b.jpg")
    (row,) = [line for line in out.splitlines() if "a.png" in line]
    sign = "<=" if answer.less_or_equal[0] else ">"
    assert row.split()[:3] == ["a.png", sign, "b.jpg"] and f"{answer.probability[0]:.4f}" in row
    for place in (0, 1):
        digit = answer.digits[0, place]
        share = 100 * answer.digit_probabilities[0, place, digit]
        assert f"{digit} ({share:.1f} %)" in row
    _, out, _ = predict(small_seeds, scans / "a.png", scans / "b.jpg")
    assert "of 2" in out and "mean of 2 seeds" in out


@pytest.mark.parametrize(
    "probability, text",
    [
        (0.0, "< 0.0001"),
        (4e-5, "< 0.0001"),
        (6e-5, "0.0001"),
        (0.5, "0.5000"),
        (0.99994, "0.9999"),
        (1.0, "> 0.9999"),
        (math.nan, "nan"),
    ],
)
def test_no_probability_of_the_comparison_is_shown_as_certain(probability, text):
    assert probability_text(probability) == text


def test_the_picture_shows_what_the_network_sees(predict, scans, small_seeds, tmp_path):
    images = [scans / name for name in ("a.png", "b.jpg", "c.png", "a.png")]
    picture = tmp_path / "seen.png"
    assert predict(small_seeds, *images, "--show", picture)[0] == 0
    seen = np.asarray(Image.open(picture))
    cells = [seen[y : y + 112, x : x + 112] for y in (8, 128) for x in (8, 128)]
    small = np.stack([cell.reshape(14, 8, 14, 8)[:, 4, :, 4] for cell in cells])
    np.testing.assert_allclose(small / 255, as_images(images), atol=0.002)


def test_the_pixels_of_the_task_are_taken_as_they_are_if_asked(predict, tmp_path, small_seeds):
    paths = [tmp_path / f"{index}.png" for index in (0, 1)]
    for index, path in enumerate(paths):
        Image.fromarray(np.roll(mnist_made(index), 3, axis=1)).save(path)
    probabilities = []
    for reading in ("none", "always"):
        _, out, _ = predict(small_seeds, *paths, "--csv", "--reading", reading)
        answer = digitpairs.load(small_seeds).compare(*paths, reading=reading)
        probabilities.append(float(records(out)[0]["probability"]))
        assert probabilities[-1] == pytest.approx(answer.probability[0], abs=1e-6)
    assert probabilities[0] != probabilities[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN"], "name either images, or a folder of images, or --pairs FILE.csv"),
        (["RUN", "a.png"], "images=1 (a.png is last) is not accepted: an even number of images"),
        (["RUN", "a.png", "nothing.png"], "nothing.png is missing"),
        (["RUN", "a.png", "note.txt"], "note.txt cannot be read as an image"),
        (["RUN", "a.png", "blank.png"], "blank.png has no digit"),
        (["RUN", "empty"], "empty has 0 images"),
        (["RUN", "--pairs", "nothing.csv"], "nothing.csv is missing"),
        (["RUN", "--pairs", "note.txt"], "note.txt has no rows with the columns first and second"),
        (["RUN", "--pairs", "short.csv"], "short.csv has no pair of images in row 2"),
        (["RUN", "a.png", "a.png", "--pairs", "short.csv"], "name either images, or"),
        (["RUN", "a.png", "b.jpg", "--reading", "non"], "reading=non is not accepted: one of auto"),
        (
            ["RUN", "a.png", "b.jpg", "--show", "no/x.png"],
            "--show=no/x.png is not accepted: a file",
        ),
        (["note.txt", "a.png", "b.jpg"], "note.txt is no file of torch.save"),
        (["nothing.ckpt", "a.png", "b.jpg"], "nothing.ckpt is missing"),
    ],
)
def test_a_wrong_argument_is_one_message(
    predict, scans, small_seeds, monkeypatch, arguments, message
):
    monkeypatch.chdir(scans)
    (scans / "empty").mkdir()
    (scans / "short.csv").write_text("first,second\na.png\n")
    Image.new("L", (50, 50), 255).save(scans / "blank.png")
    run = str(next(small_seeds.glob("*/*/seed=0")))
    status, out, err = predict(*(run if each == "RUN" else each for each in arguments))
    assert status == 2 and (not out or "--show" in arguments)
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
