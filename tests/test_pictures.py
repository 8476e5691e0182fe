"""The predictions that a run keeps, and the pictures that are drawn of them."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from digitpairs import files, records
from digitpairs.dashboard import closing, pictures
from digitpairs.dashboard.closing import ranked_results, write_closing
from digitpairs.data import PairDataModule
from digitpairs.training import PairComparison
from tests.conftest import SMALL


@pytest.fixture(scope="module", params=["lightning", "framework"])
def runs(request, tmp_path_factory) -> list[Path]:
    """The folders of three seeds."""
    from digitpairs.cli import main

    output = tmp_path_factory.mktemp("outputs")
    engine = ["engine=framework"] if request.param == "framework" else []
    with pytest.MonkeyPatch.context() as patch:
        arguments = [*SMALL, *engine, "-m", "seed=0..2", f"output={output}"]
        patch.setattr("sys.argv", ["train.py", *arguments])
        main()
    return sorted(output.glob("*/*/seed=*"))


@pytest.mark.slow
def test_predictions_are_those_of_the_checkpoint(runs):
    for run in runs:
        model = PairComparison.load_from_checkpoint(run / files.CHECKPOINT).eval()
        section = dict(records.read_config(run)["data"])
        section.pop("_target_")
        data = PairDataModule(**section)
        data.prepare_data()
        data.setup()
        pairs = data.test_set.take(slice(None))
        with torch.no_grad():
            expected = model(pairs.images)
        kept = records.read_predictions(run)
        assert np.allclose(kept["comparison"], expected.comparison.numpy(), atol=1e-5)
        assert np.allclose(kept["digit_logits"], expected.digits.numpy(), rtol=1e-2, atol=1e-2)
        assert (kept["digits"] == pairs.digits.numpy()).all()
        wrong = (pictures.margins(kept) > 0) != pairs.target.numpy()
        assert 100 * wrong.mean() == pytest.approx(
            records.read_result(run)["test/comparison_error"]
        )
        assert set(kept["wrong"]) <= set(np.flatnonzero(wrong))
        assert len(kept["wrong"]) == min(wrong.sum(), 32)
        confidence = np.abs(pictures.margins(kept)[kept["wrong"]])
        assert (np.diff(confidence) <= 0).all()
        images = pairs.images.numpy()[kept["wrong"]]
        assert np.abs(kept["images"] / 255 - images).max() <= 0.5 / 255 + 1e-6


def test_wrong_pairs_say_what_is_wrong_with_them(runs):
    kept = records.read_predictions(runs[0])
    for row, pair in zip(kept["wrong"], pictures.wrong_pairs(kept)):
        first, second = kept["digits"][row]
        assert pair.answer != (first <= second) and 0.5 <= pair.probability <= 1
        assert pair.read_as == tuple(kept["digit_logits"][row].argmax(-1))
        sign = "<=" if pair.answer else ">"
        assert pair.lines()[:2] == [
            f"{first} and {second}",
            f"said {sign} ({pair.probability:.2f})",
        ]


@pytest.mark.parametrize("logits", [1, 2])
def test_one_and_two_logits_give_the_same_pairs(logits):
    margin = np.array([[2.0], [-3.0]], dtype=np.float32)
    comparison = margin if logits == 1 else np.hstack([1 - margin / 2, 1 + margin / 2])
    predictions = {
        "comparison": comparison,
        "digits": np.array([[5, 3], [1, 1]], dtype=np.uint8),
        "wrong": np.array([1, 0]),
        "images": np.zeros((2, 2, 14, 14), dtype=np.uint8),
    }
    one, other = pictures.wrong_pairs(predictions)
    assert one.lines() == ["1 and 1", "said > (0.95)"]
    assert other.lines() == ["5 and 3", "said <= (0.88)"]


def test_without_wrong_pairs_there_is_no_picture():
    predictions = {
        "comparison": np.ones((1, 1), dtype=np.float32),
        "digits": np.array([[1, 2]], dtype=np.uint8),
        "wrong": np.zeros(0, dtype=np.int64),
        "images": np.zeros((0, 2, 14, 14), dtype=np.uint8),
    }
    assert pictures.draw_wrong_pairs(predictions) is None


def test_the_picture_of_wrong_pairs_shows_their_images():
    image = np.zeros((2, 14, 14), dtype=np.uint8)
    image[1, 3, 4] = 255
    predictions = {
        "comparison": np.ones((1, 1), dtype=np.float32),
        "digits": np.array([[3, 2]], dtype=np.uint8),
        "wrong": np.array([0]),
        "images": image[None],
    }
    picture = pictures.draw_wrong_pairs(predictions)
    pixels = np.asarray(Image.open(io.BytesIO(picture.png())))
    left = pictures.GAP + 14 * pictures.SCALE + pictures.GAP // 2 + 4 * pictures.SCALE
    top = pictures.GAP + 3 * pictures.SCALE
    square = pixels[top : top + pictures.SCALE, left : left + pictures.SCALE]
    assert (square == 0).all() and (pixels[top - 1, left] == 255).all()
    assert picture.text.endswith("3 and 2, said <= (0.73)")


def test_the_picture_of_a_confusion_names_what_is_wrong():
    table = np.diag(range(10))
    table[4, 9] = 7
    picture = pictures.draw_confusion({"digit1": table.tolist(), "digit2": table.tolist()})
    assert picture.text == "Digits read wrongly: 4 as 9: 14"


def test_the_picture_of_a_boundary_has_the_bottom_below():
    inside = np.zeros((1, 8, 8), dtype=bool)
    inside[0, 0] = True  # the lowest row
    boundary = {"epochs": np.array([5]), "inside": inside} | {
        "points": np.zeros((0, 2)),
        "labels": np.zeros(0),
    }
    pixels = np.asarray(pictures.draw_boundary(boundary, 0).image).astype(int)
    blue_below, orange_above = pixels[-1, 0], pixels[0, 0]
    assert blue_below[2] > blue_below[0] and orange_above[0] > orange_above[2]


def test_tensorboard_has_the_pictures_of_the_best_and_the_median_seed(runs):
    results = {run: records.read_result(run) for run in runs}
    ranked = sorted(runs, key=lambda run: (pictures.error_of(results[run]), results[run]["seed"]))
    assert pictures.best_and_median(results) == {"best": ranked[0], "median": ranked[1]}
    events = EventAccumulator(str(runs[0].parent / "mean")).Reload()
    best, median = (results[run]["seed"] for run in ranked[:2])
    assert set(events.Tags()["images"]) == {
        f"pictures/{name}, {rank} seed ({seed})"
        for name in ("wrong pairs", "confusion of digits")
        for rank, seed in (("best", best), ("median", median))
    }
    for tag in events.Tags()["images"]:
        (image,) = events.Images(tag)
        assert Image.open(io.BytesIO(image.encoded_image_string)).size == (
            image.width,
            image.height,
        )
    texts = {
        tag: events.Tensors(tag)[0].tensor_proto.string_val[0] for tag in ("config", "provenance")
    }
    assert b"max_epochs: 2" in texts["config"] and b"| source | digits |" in texts["provenance"]


@pytest.mark.slow
def test_the_disk_has_its_boundary_over_the_epochs(command, tmp_path):
    assert command("task=disk", "data.points=50", "trainer.max_epochs=5")[0] == 0
    (mean,) = (tmp_path / "outputs").glob("*/*/mean")
    events = EventAccumulator(str(mean)).Reload()
    (tag,) = events.Tags()["images"]
    assert [image.step for image in events.Images(tag)] == [1, 2, 5]


def test_damaged_files_are_named_and_the_rest_is_drawn(runs):
    run = pictures.best_and_median({run: records.read_result(run) for run in runs})["best"]
    path = run / files.PREDICTIONS
    content = path.read_bytes()
    try:
        path.write_bytes(content[:1000])
        (fault,) = write_closing(ranked_results(runs))
        assert files.PREDICTIONS in fault and "damaged" in fault
    finally:
        path.write_bytes(content)
    assert write_closing(ranked_results([*runs, run.parent / "seed=9"])) == []
    assert len(list((run.parent / "mean").glob(f"*{closing.SUFFIX}"))) == 1


@pytest.mark.parametrize(
    "change, named",
    [
        ({"comparison": np.zeros((3, 3))}, "comparison"),
        ({"digits": np.zeros((3, 1))}, "digits"),
        ({"wrong": np.array([7])}, "wrong"),
        ({"images": np.zeros((2, 2, 14, 14))}, "images"),
        ({"digit_logits": np.zeros((3, 2, 4))}, "digit_logits"),
    ],
)
def test_predictions_of_other_shapes_are_damaged(tmp_path, change, named):
    arrays = {
        "comparison": np.zeros((3, 1)),
        "digits": np.zeros((3, 2)),
        "wrong": np.array([0]),
        "images": np.zeros((1, 2, 14, 14)),
    }
    np.savez(tmp_path / files.PREDICTIONS, **arrays | change)
    with pytest.raises(files.DamagedFileError, match=named):
        records.read_predictions(tmp_path)


def test_older_runs_have_no_predictions(tmp_path):
    assert records.read_predictions(tmp_path) is None
