"""Sources of digits, compared with torchvision's and scikit-learn's readers, and their errors."""

import gzip
import shutil
import struct
import threading
import tracemalloc
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torchvision.datasets import MNIST

from digitpairs.checks import DataError, DigitPairsWarning
from digitpairs.data import idx, image_checks, sources
from digitpairs.data.image_checks import first_equal
from tests.conftest import write_idx
from tests.image_folders import ink


@pytest.fixture
def no_network(monkeypatch):
    """No host answers, and no download of another test is cached."""
    monkeypatch.setattr(sources, "_answers", lambda url: False)
    sources._download_fault.cache_clear()


def assert_equals_torchvision(root: Path) -> None:
    source = sources.load("mnist", root)
    assert source.name == "mnist"
    for digits, train in ((source.train, True), (source.test, False)):
        theirs = MNIST(root, train=train, download=False)
        assert torch.equal(digits.images, theirs.data)
        assert torch.equal(digits.classes, theirs.targets)


def test_idx_files_are_read_as_by_torchvision(mnist_like):
    assert_equals_torchvision(mnist_like)


def test_mnist_is_read_as_by_torchvision_and_without_a_warning():
    root = sources.default_root()
    if idx.find_folder(root) is None:
        pytest.skip("MNIST is not on this machine's disk")
    assert_equals_torchvision(root)  # a warning would be an error


def test_compressed_files_in_a_bare_folder_are_read(mnist_like, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(mnist_like / "MNIST" / "raw", bare)
    for path in list(bare.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    expected = sources.load("mnist", mnist_like).train.images
    assert torch.equal(sources.load("idx", bare).train.images, expected)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "is not an idx file"),
        (lambda path: path.write_bytes(b""), "is not an idx file"),
        (lambda path: write_idx(path, np.zeros((3, 28, 28))), "holds 3 images, but"),
    ],
)
def test_the_message_names_a_damaged_file(mnist_like, damage, message):
    path = mnist_like / "MNIST" / "raw" / "train-images-idx3-ubyte"
    damage(path)
    with pytest.raises(DataError, match=message) as caught:
        sources.load("mnist", mnist_like)
    assert str(path) in str(caught.value)


def test_a_damaged_gzip_and_a_wrong_class_are_refused(mnist_like):
    raw = mnist_like / "MNIST" / "raw"
    write_idx(raw / "train-labels-idx1-ubyte", np.full(60, 11))
    with pytest.raises(DataError, match="holds the class 11"):
        sources.load("mnist", mnist_like)
    (raw / "train-labels-idx1-ubyte").unlink()
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"0" * 100)[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        sources.load("mnist", mnist_like)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_no_more_is_read_than_the_header_states(tmp_path, ending):
    """64 MiB follow a header of 1000 images; nothing follows a header of billions."""
    path = tmp_path / f"images{ending}"
    pack = gzip.compress if ending else bytes
    path.write_bytes(pack(struct.pack(">BBBBIII", 0, 0, 8, 3, 1000, 28, 28) + bytes(2**26)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="its header states 784000 bytes, but more follow"):
            idx.read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    path.write_bytes(pack(struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 28, 28)))
    message = "its header states 3367254359280 bytes, more than 1073741824"
    with pytest.raises(DataError, match=message):
        idx.read_idx(path, 3)


def test_the_message_says_which_files_are_missing(tmp_path):
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        sources.load("idx", tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
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


def test_an_interrupted_download_leaves_nothing(tmp_path, monkeypatch):
    def fail(self, folder, download):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(sources, "_answers", lambda url: True)
    monkeypatch.setattr(MNIST, "__init__", fail)
    with pytest.raises(DataError, match="could not be downloaded"):
        sources.download_mnist(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_never_answers_times_out(monkeypatch):
    released = threading.Event()

    def hang(*_, **__):
        released.wait()
        raise OSError("too late")

    monkeypatch.setattr(sources, "CONNECT_SECONDS", 0.05)
    monkeypatch.setattr(sources.urllib.request, "urlopen", hang)
    assert not sources._answers("http://nowhere.invalid/")
    released.set()


@pytest.mark.parametrize(
    "fault, answers",
    [(OSError("no route"), False), (HTTPError("", 403, "no listing", None, None), True)],
)
def test_an_http_error_is_an_answer(monkeypatch, fault, answers):
    def refuse(*_, **__):
        raise fault

    monkeypatch.setattr(sources, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(sources.urllib.request, "urlopen", refuse)
    assert sources._answers("http://nowhere.invalid/") == answers


def test_digits_are_those_of_scikit_learn():
    source, theirs = sources.load("digits"), load_digits()
    images = torch.cat([source.train.images, source.test.images])
    classes = torch.cat([source.train.classes, source.test.classes])
    assert np.array_equal(classes, theirs.target)
    assert np.array_equal(images, np.rint(theirs.images * (255 / 16)))
    assert (len(source.train), len(source.test)) == (1197, 600)


def inked(count: int, seed: int = 0) -> np.ndarray:
    """Light ink on black, (count, 28, 28) uint8."""
    return np.stack([ink(100 * seed + number) for number in range(count)])


def write_images(folder: Path, train: np.ndarray, test: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    for split, images in (("train", train), ("test", test)):
        image_name, class_name = idx.FILES[split]
        write_idx(folder / image_name, images)
        write_idx(folder / class_name, np.arange(len(images)) % 10)
    return folder


@pytest.mark.parametrize(
    "store, expected, message",
    [
        (lambda a: 255 - a, lambda a: a, "dark ink on a light background is inverted"),
        (lambda a: a > 127, lambda a: (a > 127) * 255, "read as 0 to 1$"),
        (lambda a: a <= 127, lambda a: (a > 127) * 255, "read as 0 to 1; dark ink .* is inverted"),
        (lambda a: a // 16, lambda a: np.rint(a // 16 * (255 / 16)), "read as 0 to 16$"),
        (lambda a: a // 64, lambda a: a // 64 * 85, "read as 0 to 3$"),
    ],
)
def test_idx_files_of_any_range_and_polarity(tmp_path, store, expected, message):
    train, test = inked(30), inked(20, seed=1)
    with pytest.warns(DigitPairsWarning, match=message):
        source = sources.load("idx", write_images(tmp_path, store(train), store(test)))
    assert np.array_equal(source.train.images, expected(train))
    assert np.array_equal(source.test.images, expected(test))


def test_both_idx_files_have_one_range_and_one_polarity(tmp_path):
    train, test = inked(30), inked(20, seed=1) // 128
    with pytest.warns(DigitPairsWarning, match="is inverted"):
        source = sources.load("idx", write_images(tmp_path, 255 - train, test))
    assert np.array_equal(source.train.images, train)
    assert np.array_equal(source.test.images, 255 - test)


@pytest.mark.parametrize("polarity, invert", [("light_on_dark", False), ("dark_on_light", True)])
def test_the_polarity_of_any_source_can_be_set(mnist_like, polarity, invert):
    for source in ("mnist", "idx", "digits"):
        automatic = sources.load(source, mnist_like).test.images
        images = sources.load(source, mnist_like, polarity).test.images
        assert torch.equal(images, 255 - automatic if invert else automatic)


@pytest.mark.parametrize("split, row", [("train", 7), ("test", 0)])
@pytest.mark.parametrize("value", [0, 255, 9])
def test_the_message_names_a_constant_image_in_an_idx_file(tmp_path, split, row, value):
    images = {"train": inked(30), "test": inked(20, seed=1)}
    images[split][row] = value
    write_images(tmp_path, **images)
    name = rf"image {row} \(from 0\) of {tmp_path}/{idx.FILES[split][0]}"
    with pytest.raises(DataError, match=f"{name} has no contrast"):
        sources.load("idx", tmp_path)


@pytest.mark.parametrize("count, more", [(1, ""), (3, r" \(3 test images are .* too\)")])
def test_the_message_names_an_image_in_both_idx_files(tmp_path, count, more):
    train, test = inked(30), inked(20, seed=1)
    test[5 : 5 + count] = train[9 : 9 + count]
    names = r"image 9 \(from 0\) of .*train-images.*, and image 5 \(from 0\) of .*t10k-images.*"
    with pytest.raises(DataError, match=f"{names} are the same image{more}: remove"):
        sources.load("idx", write_images(tmp_path, train, test))


def test_idx_images_without_pixels_are_refused(tmp_path):
    with pytest.raises(DataError, match="train-images-idx3-ubyte holds images of 0 x 28 pixels"):
        sources.load("idx", write_images(tmp_path, np.zeros((3, 0, 28)), inked(3)))


@settings(deadline=None, max_examples=60)
@given(
    side=st.sampled_from([1, 3, 8, 28]),
    levels=st.integers(1, 3),
    counts=st.tuples(st.integers(0, 20), st.integers(1, 20)),
    seed=st.integers(0, 99),
)
def test_equal_images_are_found(side, levels, counts, seed):
    """Images that differ only in two pixels, compared with a search over all pairs of images."""
    images = torch.zeros(sum(counts), side * side, dtype=torch.uint8)
    random = np.random.default_rng(seed).integers(0, levels + 1, (len(images), 2)) * 255 // levels
    images[:, -1], images[:, side * side // 2] = torch.from_numpy(random.astype(np.uint8)).T
    images = images.view(-1, side, side)
    equal = (images[:, None] == images[None]).flatten(2).all(2)  # (n, n)
    expected = equal.int().argmax(1)  # the first of the equal ones
    assert torch.equal(first_equal(*images.split(list(counts))), expected)


def test_images_of_equal_hashes_are_compared(monkeypatch):
    monkeypatch.setattr(image_checks, "_hashes", lambda images: np.zeros(len(images), np.int64))
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1)
    assert first_equal(images[:2], images[2:]).tolist() == [0, 1, 2, 3]


def test_images_are_average_pooled():
    image = torch.randint(256, (3, 28, 28), dtype=torch.uint8)
    by_hand = image.double().view(3, 14, 2, 14, 2).mean((2, 4)) / 255
    torch.testing.assert_close(sources.to_unit_images(image).double(), by_hand, rtol=0, atol=1e-6)
    assert sources.to_unit_images(torch.zeros(2, 8, 8, dtype=torch.uint8)).shape == (2, 14, 14)


def test_idx_find_folder_needs_all_four_files(mnist_like):
    assert idx.find_folder(mnist_like) == mnist_like / "MNIST" / "raw"
    (mnist_like / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    assert idx.find_folder(mnist_like) is None
