"""Where digits come from, against torchvision's and scikit-learn's own readers; and what is said when they cannot be had."""

import gzip
import shutil
import threading
from urllib.error import HTTPError

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import MNIST

from digitpairs.checks import DataError, DigitPairsWarning
from digitpairs.data import idx, sources
from tests.conftest import write_idx


@pytest.fixture
def no_network(monkeypatch):
    """No host answers, and no try of another test is remembered."""
    monkeypatch.setattr(sources, "_answers", lambda url: False)
    sources._download_fault.cache_clear()


def test_idx_files_are_read_as_torchvision_reads_them(mnist_like):
    ours = sources.load("mnist", mnist_like)
    for digits, train in ((ours.train, True), (ours.test, False)):
        theirs = MNIST(mnist_like, train=train, download=False)
        assert torch.equal(digits.images, theirs.data)
        assert torch.equal(digits.classes, theirs.targets)
    assert ours.name == "mnist"


def test_compressed_files_and_a_bare_folder_do_as_well(mnist_like, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(mnist_like / "MNIST" / "raw", bare)
    for path in list(bare.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert torch.equal(sources.load("idx", bare).train.images, sources.load("mnist", mnist_like).train.images)


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "is no idx file"),
        (lambda path: path.write_bytes(b""), "is no idx file"),
        (lambda path: write_idx(path, np.zeros((3, 28, 28))), "holds 3 images, but"),
    ],
)
def test_a_damaged_file_is_named(mnist_like, damage, words):
    path = mnist_like / "MNIST" / "raw" / "train-images-idx3-ubyte"
    damage(path)
    with pytest.raises(DataError, match=words) as caught:
        sources.load("mnist", mnist_like)
    assert str(path) in str(caught.value)


def test_a_damaged_gzip_and_a_wrong_class_are_named(mnist_like):
    raw = mnist_like / "MNIST" / "raw"
    write_idx(raw / "train-labels-idx1-ubyte", np.full(60, 11))
    with pytest.raises(DataError, match="holds the class 11"):
        sources.load("mnist", mnist_like)
    (raw / "train-labels-idx1-ubyte").unlink()
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"0" * 100)[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        sources.load("mnist", mnist_like)


def test_missing_data_say_what_was_expected(tmp_path):
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        sources.load("idx", tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        sources.load("folder", tmp_path / "nowhere")


def test_auto_takes_mnist_on_disk(mnist_like):
    assert sources.resolve("auto", mnist_like) == "mnist"


def test_auto_falls_back_to_the_digits_with_a_warning(tmp_path, no_network):
    with pytest.warns(DigitPairsWarning, match="USING THE SMALL 'digits' DATA"):
        assert sources.resolve("auto", tmp_path) == "digits"


def test_mnist_without_network_is_an_error_and_leaves_nothing(tmp_path, no_network):
    with pytest.raises(DataError, match="no host of it could be reached"):
        sources.load("mnist", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_download_that_breaks_off_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    def break_off(folder, download):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(sources, "_answers", lambda url: True)
    monkeypatch.setattr(MNIST, "__init__", lambda self, folder, download: break_off(folder, download))
    with pytest.raises(DataError, match="could not be downloaded"):
        sources.download_mnist(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_never_answers_is_given_up(monkeypatch):
    released = threading.Event()

    def hang(*_, **__):
        released.wait()
        raise OSError("too late")

    monkeypatch.setattr(sources, "CONNECT_SECONDS", 0.05)
    monkeypatch.setattr(sources.urllib.request, "urlopen", hang)
    assert not sources._answers("http://nowhere.invalid/")
    released.set()


@pytest.mark.parametrize("fault, answers", [(OSError("no route"), False), (HTTPError("", 403, "no listing", None, None), True)])
def test_a_refusal_is_an_answer_and_no_route_is_none(monkeypatch, fault, answers):
    def refuse(*_, **__):
        raise fault

    monkeypatch.setattr(sources, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(sources.urllib.request, "urlopen", refuse)
    assert sources._answers("http://nowhere.invalid/") == answers


def test_digits_are_scikit_learns():
    source, theirs = sources.load("digits"), load_digits()
    images = torch.cat([source.train.images, source.test.images])
    assert torch.equal(torch.cat([source.train.classes, source.test.classes]), torch.tensor(theirs.target))
    assert (images.double() * 16 / 255 - torch.tensor(theirs.images)).abs().max() < 0.04
    assert (len(source.train), len(source.test)) == (1197, 600)


@pytest.mark.parametrize("parts", [("train", "test"), ()])
def test_a_folder_of_images(tmp_path, parts):
    for part in parts or [""]:
        for digit in range(10):
            folder = tmp_path / part / str(digit)
            folder.mkdir(parents=True)
            for number in range(5):
                Image.new("L", (28, 28), digit * 20 + number).save(folder / f"{number}.png")
    source = sources.load("folder", tmp_path)
    assert torch.equal(source.train.images[:, 0, 0] // 20, source.train.classes.byte())
    assert len(source.test) == (50 if parts else 10)
    if not parts:
        seen = {int(value) for value in source.train.images[:, 0, 0]}
        assert seen.isdisjoint(int(value) for value in source.test.images[:, 0, 0])


def test_an_unreadable_image_and_a_foreign_folder_are_named(tmp_path):
    folder = tmp_path / "3"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="a.png cannot be read as an image"):
        sources.load("folder", tmp_path)
    (folder / "a.png").unlink()
    (tmp_path / "cats").mkdir()
    Image.new("L", (5, 5)).save(tmp_path / "cats" / "a.png")
    Image.new("L", (5, 5)).save(folder / "a.png")
    with pytest.raises(DataError, match="cats is no class"):
        sources.load("folder", tmp_path)


def test_images_are_average_pooled():
    image = torch.randint(256, (3, 28, 28), dtype=torch.uint8)
    by_hand = image.double().view(3, 14, 2, 14, 2).mean((2, 4)) / 255
    torch.testing.assert_close(sources.to_unit_images(image).double(), by_hand, rtol=0, atol=1e-6)
    assert sources.to_unit_images(torch.zeros(2, 8, 8, dtype=torch.uint8)).shape == (2, 14, 14)


def test_idx_find_folder_needs_all_four_files(mnist_like):
    assert idx.find_folder(mnist_like) == mnist_like / "MNIST" / "raw"
    (mnist_like / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    assert idx.find_folder(mnist_like) is None
