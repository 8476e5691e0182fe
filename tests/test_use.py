"""Trained networks put to use: which files are loaded, and what `compare` answers."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import digitpairs
from digitpairs import PairComparison, PairDataModule
from digitpairs.checks import DataError, InvalidValueError
from digitpairs.losses import NoAuxWeighting
from digitpairs.networks import JointNetwork, MLPBody
from digitpairs.use import Comparer, as_images


class RunsCode:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def runs(small_seeds) -> list[Path]:
    return sorted(small_seeds.glob("*/*/seed=*"))


@pytest.fixture
def pairs() -> torch.Tensor:
    """Pixels (50, 2, 14, 14) in [0, 1]."""
    return torch.rand(50, 2, 14, 14, generator=torch.Generator().manual_seed(0))


def changed(run: Path, path: Path, change) -> Path:
    """A copy of the run's checkpoint whose content `change` has changed."""
    content = torch.load(run / "checkpoint.ckpt", weights_only=True)
    change(content)
    torch.save(content, path)
    return path


def reference(run: Path, pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """P(first <= second) and the digits' probabilities by Lightning's own loading."""
    model = PairComparison.load_from_checkpoint(run / "checkpoint.ckpt", weights_only=True).eval()
    with torch.no_grad():
        prediction = model(pairs)
    return prediction.comparison[:, 0].sigmoid(), prediction.digits.softmax(-1)


def test_a_run_answers_as_its_module(runs, pairs):
    answer = digitpairs.load(runs[0]).compare(pairs[:, 0], pairs[:, 1])
    comparison, digits = reference(runs[0], pairs)
    np.testing.assert_allclose(answer.probability, comparison, atol=1e-6)
    np.testing.assert_allclose(answer.digit_probabilities, digits, atol=1e-6)
    assert (answer.less_or_equal == (comparison > 0.5).numpy()).all()
    assert (answer.digits == digits.argmax(-1).numpy()).all()
    assert answer.digits.shape == (50, 2) and len(answer) == 50
    np.testing.assert_array_equal(answer.images, pairs)


def test_the_test_error_is_that_of_the_run(runs):
    result = json.loads((runs[0] / "result.json").read_text())
    data = PairDataModule(source="digits", pairs=60, test_pairs=40, seed=0)
    data.setup()
    batch = data.test_set.take(slice(None))
    answer = digitpairs.load(runs[0]).compare(*batch.images.unbind(1))
    wrong = answer.less_or_equal != batch.target.bool().numpy()
    assert 100 * wrong.mean() == pytest.approx(result["test/comparison_error"])
    assert 100 * (answer.digits != batch.digits.numpy()).mean() == pytest.approx(
        result["test/digit_error"]
    )


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_seeds_of_a_folder_are_an_ensemble(runs, pairs, levels):
    folder = runs[0].parents[levels - 1]
    answer = digitpairs.load(str(folder)).compare(pairs[:, 0], pairs[:, 1])
    assert answer.names == ("seed=0", "seed=1")
    alone = [reference(run, pairs) for run in runs]
    for seed, (comparison, digits) in enumerate(alone):
        np.testing.assert_allclose(answer.probability_by_seed[seed], comparison, atol=1e-6)
        np.testing.assert_allclose(answer.digit_probabilities_by_seed[seed], digits, atol=1e-6)
    mean = sum(comparison for comparison, _ in alone) / 2
    np.testing.assert_allclose(answer.probability, mean, atol=1e-6)


def test_a_run_and_its_checkpoint_are_the_same(runs, pairs):
    by_file, by_folder = (
        digitpairs.load(path).compare(*pairs.unbind(1)).probability
        for path in (runs[1] / "checkpoint.ckpt", runs[1])
    )
    np.testing.assert_array_equal(by_file, by_folder)


def test_several_configurations_are_refused_by_name(runs, tmp_path):
    for name in ("model=mlp", "model=cnn"):
        (tmp_path / name / "seed=0").mkdir(parents=True)
        shutil.copy(runs[0] / "checkpoint.ckpt", tmp_path / name / "seed=0")
    with pytest.raises(DataError, match=r"2 configurations: name .*\(model=cnn, model=mlp\)"):
        digitpairs.load(tmp_path)


def write_unusable(kind: str, path: Path, run: Path) -> Path:
    """A file that is no checkpoint of pairs."""
    written = (run / "checkpoint.ckpt").read_bytes()
    if kind == "text":
        path.write_text("a note")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        path.write_bytes(written[: len(written) // 2])
    elif kind == "a changed byte":
        middle = len(written) // 2
        path.write_bytes(written[:middle] + bytes([written[middle] ^ 255]) + written[middle + 1 :])
    elif kind == "a tensor":
        torch.save(torch.ones(3), path)
    elif kind == "another module":
        torch.save({"state_dict": {"weight": torch.ones(3)}}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "is no file of torch.save, or it is damaged or cut off"),
        ("empty", "is no file of torch.save, or it is damaged or cut off"),
        ("truncated", "is no file of torch.save, or it is damaged or cut off"),
        ("a changed byte", "is no file of torch.save, or it is damaged or cut off"),
        ("a tensor", "is no checkpoint of Lightning's"),
        ("another module", "is of another LightningModule"),
    ],
)
def test_other_files_are_refused(runs, tmp_path, kind, message):
    path = write_unusable(kind, tmp_path / "file.ckpt", runs[0])
    with pytest.raises(DataError) as error:
        digitpairs.load(path)
    assert str(error.value).startswith(f"{path} {message}: accepted is a checkpoint.ckpt")


@pytest.mark.parametrize(
    "save", [torch.save, lambda each, path: path.write_bytes(pickle.dumps(each))]
)
def test_a_pickle_that_runs_code_is_refused(tmp_path, save):
    path, proof = tmp_path / "file.ckpt", tmp_path / "proof"
    save({"state_dict": RunsCode(proof)}, path)
    with pytest.raises(DataError, match="refused, since loading it would run code|no file of"):
        digitpairs.load(path)
    assert not proof.exists()


def test_a_checkpoint_of_the_disk_is_refused(runs, tmp_path):
    def make_disk(content):
        content["hyper_parameters"]["loss"] = {}

    path = changed(runs[0], tmp_path / "disk.ckpt", make_disk)
    with pytest.raises(DataError, match="is of task=disk: accepted is"):
        digitpairs.load(path)


def test_missing_files_and_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.ckpt is missing"):
        digitpairs.load(tmp_path / "nothing.ckpt")
    with pytest.raises(DataError, match=r"has no checkpoint\.ckpt: accepted is"):
        digitpairs.load(tmp_path)


@pytest.mark.parametrize(
    "target",
    ["os.system", "digitpairs.checks.os.system", "digitpairs.terminal._RobustIO", "own.Body"],
)
def test_classes_from_elsewhere_are_called_only_if_trusted(runs, tmp_path, target):
    def name_target(content):
        content["hyper_parameters"]["network"]["body"] = {"_target_": target}

    path = changed(runs[0], tmp_path / "own.ckpt", name_target)
    with pytest.raises(DataError, match=r"names the class .* \(network\.body\._target_\)"):
        digitpairs.load(path)


def test_a_trusted_class_is_imported(runs, tmp_path, monkeypatch, pairs):
    (tmp_path / "trusted_body.py").write_text(
        "from digitpairs.networks import MLPBody\nclass Body(MLPBody):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def name_target(content):
        content["hyper_parameters"]["network"]["body"]["_target_"] = "trusted_body.Body"

    path = changed(runs[0], tmp_path / "own.ckpt", name_target)
    answer = digitpairs.load(path, trust_classes=True).compare(*pairs.unbind(1))
    np.testing.assert_allclose(answer.probability, reference(runs[0], pairs)[0], atol=1e-6)


def test_weights_that_do_not_fit_are_refused(runs, tmp_path):
    def widen(content):
        content["hyper_parameters"]["network"]["body"]["hidden"] = [17]

    path = changed(runs[0], tmp_path / "wide.ckpt", widen)
    with pytest.raises(
        DataError, match="does not fit this version or its classes: .*size mismatch"
    ):
        digitpairs.load(path)


def test_a_network_without_a_loss_of_the_digits_names_none(pairs):
    for head in ("none", "joint"):
        network = JointNetwork(MLPBody([8]), digit_head=head, comparison_outputs=2)
        model = PairComparison(network, NoAuxWeighting()).eval()
        answer = Comparer([model]).compare(*pairs.unbind(1))
        assert answer.digits is None and answer.digit_probabilities is None
        with torch.no_grad():
            expected = model(pairs).comparison.softmax(-1)[:, 1]
        np.testing.assert_allclose(answer.probability, expected, atol=1e-6)


def page(digit: np.ndarray) -> np.ndarray:
    """The digit as dark ink on a white page of 60x60 pixels."""
    enlarged = Image.fromarray(digit).resize((40, 40))
    return 255 - np.pad(np.asarray(enlarged), 10)


@pytest.fixture
def digit() -> np.ndarray:
    """A cross on black, (28, 28) uint8."""
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = image[12:16, 4:24] = 255
    return image


def test_images_of_every_kind_are_the_same_pixels(digit, tmp_path):
    paper = page(digit)
    path = tmp_path / "page.png"
    Image.fromarray(paper).save(path)
    given = {
        "path": path,
        "text": str(path),
        "paths": [path],
        "PIL": Image.open(path),
        "array": paper,
        "tensor": torch.from_numpy(paper),
        "arrays": paper[None],
        "channels": paper[None, None],
        "floats": paper / 255,
        "colours": np.stack([paper] * 3, -1),
        "list": [paper],
    }
    expected = as_images(given.pop("path"))
    assert expected.shape == (1, 14, 14) and expected.dtype == torch.float32
    for name, image in given.items():
        torch.testing.assert_close(as_images(image), expected, atol=0.005, rtol=0, msg=name)


@pytest.mark.parametrize("scale", [np.uint8, np.int64, np.float32, np.uint16])
def test_plain_arrays_are_taken_as_they_are(digit, scale):
    """By default the sizes of the task are not read; the 2x2 means are those of avg_pool2d."""
    unit = torch.from_numpy(digit).float()[None] / 255
    expected = torch.nn.functional.avg_pool2d(unit, 2)
    array = {np.float32: digit / 255, np.uint16: digit.astype(np.uint16) * 257}.get(scale, digit)
    shifted = np.roll(array.astype(scale), 3, axis=1)
    torch.testing.assert_close(as_images(np.roll(shifted, -3, axis=1)), expected)
    torch.testing.assert_close(as_images([array.astype(scale)] * 2), expected.expand(2, -1, -1))
    assert not torch.allclose(as_images(shifted), expected)
    torch.testing.assert_close(as_images(shifted, "always"), expected, atol=0.1, rtol=0)


def test_files_are_taken_as_they_are_if_asked(digit, tmp_path):
    path = tmp_path / "digit.png"
    Image.fromarray(np.roll(digit, 3, axis=1)).save(path)
    expected = as_images(np.roll(digit, 3, axis=1))
    torch.testing.assert_close(as_images(path, "none"), expected)
    Image.fromarray(page(digit)).save(path)
    with pytest.raises(DataError, match=r"digit.png has 60x60 pixels: with reading=none it needs"):
        as_images(path, "none")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (3, "first=3 is not accepted: an image, or"),
        ([3], "first=3 is not accepted: the path"),
        ([np.zeros((14, 14)), 3], r"first\[1\]=3 is not accepted: the path"),
        (np.zeros(3), "an array of shape"),
        (np.zeros((2, 0, 5)), "an array of shape"),
        (np.full((14, 14), 2.0), "first=pixels from 2 to 2 is not accepted: integers from 0"),
        (np.full((14, 14), np.nan), "pixels from nan to nan"),
        (np.full((50, 50), 300), "first=pixels from 300 to 300"),
        (np.full((14, 14), "a"), "first=an array of <U1"),
    ],
)
def test_other_values_are_refused(runs, image, message):
    with pytest.raises(InvalidValueError, match=message):
        digitpairs.load(runs[0]).compare(image, np.zeros((14, 14)))


def test_unequal_numbers_of_images_are_refused(runs):
    with pytest.raises(InvalidValueError, match=r"second=2 images is not accepted: as many"):
        digitpairs.load(runs[0]).compare(torch.zeros(3, 14, 14), torch.zeros(2, 14, 14))


def test_there_may_be_no_pairs(runs):
    answer = digitpairs.load(runs[0]).compare([], [])
    assert answer.probability.shape == (0,) and answer.digits.shape == (0, 2)


@pytest.mark.slow
def test_ten_thousand_pairs_take_under_two_seconds_of_one_core(runs):
    """CPU time, since other processes may run; with the network of a small run."""
    import time

    images = torch.rand(10_000, 28, 28)
    comparer = digitpairs.load(runs[0])
    started = time.process_time()
    answer = comparer.compare(list(images), images.flip(0))
    assert time.process_time() - started < 2
    assert answer.probability.shape == (10_000,)


@pytest.mark.slow
def test_the_name_is_imported_at_its_first_use():
    import subprocess
    import sys

    code = (
        "import digitpairs, sys; assert 'torch' not in sys.modules; print(digitpairs.load.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "load\n"
