"""Reading of a digit on a page, against images that are made as MNIST's were."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits

import digitpairs
from digitpairs.checks import DataError
from digitpairs.data import sources
from digitpairs.use import as_images, read_digit
from digitpairs.use.reading import otsu_threshold

SIDE = 300  # of a digit's 28x28 pixels on a page


def mnist_made(index: int) -> np.ndarray:
    """A bilevel digit, reduced to a 20x20 box and shifted by whole pixels to its centre of mass."""
    small = Image.fromarray((load_digits().images[index] * (255 / 16)).astype(np.uint8))
    bilevel = np.asarray(small.resize((320, 320), Image.Resampling.BICUBIC)) > 128
    rows, columns = (np.flatnonzero(bilevel.any(axis)) for axis in (1, 0))
    crop = 255 * bilevel[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8)
    size = [round(20 * side / max(crop.shape)) for side in reversed(crop.shape)]
    placed = np.zeros((28, 28), np.uint8)
    placed[: size[1], : size[0]] = Image.fromarray(crop).resize(size, Image.Resampling.BOX)
    shift = [14 - round(centre) for centre in ndimage.center_of_mass(placed)]
    return np.roll(placed, shift, (0, 1))


def enlarged(digit: np.ndarray, side: int = SIDE) -> np.ndarray:
    """How much ink is at each pixel, in [0, 1]."""
    image = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image) / 255


def light(shape: tuple[int, int]) -> np.ndarray:
    """The light on a page, which falls off to one corner."""
    y, x = (np.linspace(0, 1, side) for side in shape)
    return 0.95 - 0.2 * x - 0.2 * y[:, None] ** 2


def noisy(page: np.ndarray) -> np.ndarray:
    return (page + np.random.default_rng(0).normal(0, 0.05, page.shape)).clip(0, 1)


def with_edges(page: np.ndarray) -> np.ndarray:
    """The page on a black scanner bed, rotated by three degrees."""
    sheet = Image.fromarray((255 * page).astype(np.uint8))
    return np.asarray(sheet.rotate(3, Image.Resampling.BICUBIC, expand=True)) / 255


def with_specks(page: np.ndarray) -> np.ndarray:
    page = page.copy()
    for y, x in np.random.default_rng(0).integers(0, min(page.shape) - 4, (20, 2)):
        page[y : y + 3, x : x + 3] = 0.1
    return page


def on_page(digit: np.ndarray, *, margin=((60, 200), (120, 40)), side: int = SIDE) -> np.ndarray:
    return 1 - 0.8 * np.pad(enlarged(digit, side), margin)


PAGES = {
    "as it is": lambda digit: digit / 255,
    "inverted": lambda digit: 1 - digit / 255,
    "large": enlarged,
    "margins": on_page,
    "light on dark": lambda digit: 0.1 + 0.8 * np.pad(enlarged(digit), ((0, 90), (200, 10))),
    "far away": lambda digit: on_page(digit, margin=((900, 300), (100, 1200))),
    "small": lambda digit: on_page(digit, margin=20, side=56),
    "faint": lambda digit: 0.8 - 0.25 * np.pad(enlarged(digit), 50),
    "uneven light": lambda digit: light((560, 460)) * on_page(digit),
    "noise": lambda digit: noisy(on_page(digit)),
    "page edges": lambda digit: with_edges(on_page(digit, margin=60)),
    "specks": lambda digit: with_specks(on_page(digit)),
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("index", [0, 1, 2, 5, 17])
def test_pages_are_read_as_mnist_stores_the_digit(index, page):
    digit = mnist_made(index)
    read = read_digit(PAGES[page](digit))
    assert read.shape == (28, 28) and read.dtype == np.uint8 and read.max() == 255
    # Blurred or rotated edges cost a few levels; a wrong polarity or scale costs 20 and more.
    assert difference(read, digit) < {"as it is": 1, "inverted": 1, "page edges": 9}.get(page, 8)


def difference(read: np.ndarray, digit: np.ndarray) -> float:
    """In levels; a centre of mass between two pixels may be rounded to either of them."""
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    shifted = np.stack([np.roll(digit, shift, (0, 1)) for shift in shifts]).astype(float)
    return float(np.abs(shifted - read).mean((1, 2)).min())


@pytest.mark.slow
def test_the_box_and_the_centre_are_those_of_mnist():
    for index in range(20):
        read = read_digit(on_page(mnist_made(index)))
        rows, columns = (np.flatnonzero((read > 40).any(axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
        np.testing.assert_allclose(ndimage.center_of_mass(read), 14, atol=0.6)


def test_thin_strokes_get_the_width_of_mnist():
    page = np.ones((400, 400))
    page[100:300, 200:203] = page[100:103, 150:203] = 0  # a seven of three pixels
    read = read_digit(page)
    strokes = read[18] / 255  # a row through the stem
    assert 1.5 < strokes.sum() < 2.5


@pytest.mark.parametrize(
    "page",
    [
        np.ones((200, 100)),
        np.zeros((28, 28)),
        np.ones((1, 1)),
        np.ones((1, 50)),
        noisy(np.full((300, 300), 0.5)),
        light((300, 200)),
    ],
    ids=["white", "black", "a pixel", "a line", "noise", "light"],
)
def test_a_page_without_a_digit_is_an_error_that_names_it(page):
    with pytest.raises(DataError, match=r"^scan\.png has no digit: there is no contrast"):
        read_digit(page, "scan.png")


def test_the_threshold_divides_two_groups():
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(0, 0.1, 9000), random.normal(1, 0.1, 1000)])
    assert 0.3 < otsu_threshold(values) < 0.7


def transparent(paper: np.ndarray, path: Path) -> None:
    """The ink as opacity, as drawing programs save it."""
    ink = Image.new("RGBA", paper.shape[::-1], "navy")
    ink.putalpha(Image.fromarray(255 - paper))
    ink.save(path)


def chalk(paper: np.ndarray, path: Path) -> None:
    """White ink on transparent."""
    ink = Image.new("RGBA", paper.shape[::-1], "white")
    ink.putalpha(Image.fromarray(255 - paper))
    ink.save(path)


def rounded(paper: np.ndarray, path: Path) -> None:
    """An opaque page with a transparent corner."""
    page = Image.fromarray(paper).convert("RGBA")
    opacity = Image.new("L", page.size, 255)
    opacity.paste(0, (0, 0, 40, 40))
    page.putalpha(opacity)
    page.save(path)


def turned(paper: np.ndarray, path: Path) -> None:
    """Stored on its side with the EXIF tag for it, as cameras do."""
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(np.rot90(paper).copy()).save(path, exif=tags)


FILES = {
    "png": lambda paper, path: Image.fromarray(paper).save(path),
    "16 bits": lambda paper, path: Image.fromarray(paper.astype(np.uint16) * 257).save(path),
    "12 of 16 bits": lambda paper, path: Image.fromarray(paper.astype(np.uint16) * 16).save(path),
    "colour": lambda paper, path: Image.fromarray(paper).convert("RGB").save(path),
    "palette": lambda paper, path: Image.fromarray(paper).convert("P").save(path),
    "1 bit": lambda paper, path: Image.fromarray(paper).convert("1").save(path),
    "transparent": transparent,
    "chalk": chalk,
    "rounded": rounded,
    "EXIF": turned,
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_every_mode_are_read_alike(kind, tmp_path):
    paper = (255 * on_page(mnist_made(2))).astype(np.uint8)
    path = tmp_path / "page.png"
    FILES[kind](paper, path)
    difference = as_images(path) - as_images(paper)
    assert difference.abs().mean() < (0.03 if kind == "1 bit" else 0.01)


def test_a_file_that_is_no_image_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "note.png"
    path.write_text("a note")
    with pytest.raises(DataError, match=r"note\.png cannot be read as an image"):
        as_images(path)


def scan(digit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Dark on white: rotated up to 5 degrees, margins, uneven light, noise; uint8."""
    image = Image.fromarray(digit).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    ink = np.asarray(image.rotate(random.uniform(-5, 5), Image.Resampling.BICUBIC)) / 255
    margins = random.integers(10, 200, (2, 2))
    page = 1 - 0.8 * np.pad(ink, margins)
    y, x = (np.linspace(-0.5, 0.5, side) for side in page.shape)
    angle = random.uniform(0, 2 * np.pi)
    falling = np.cos(angle) * x + np.sin(angle) * y[:, None]
    lit = page * (0.8 + 0.2 * falling - 0.1 * (x**2 + y[:, None] ** 2))
    return np.rint(255 * (lit + random.normal(0, 0.05, lit.shape)).clip(0, 1)).astype(np.uint8)


@pytest.mark.long
@pytest.mark.skipif("DIGITPAIRS_DATA" not in os.environ, reason="needs MNIST")
def test_scans_of_mnist_have_at_most_twice_the_error(command, tmp_path):
    """1000 pairs of the test images; `docs/use.md` has the figures of five seeds."""
    command("data=mnist", "model=siamese_cnn", "seed=0")
    comparer = digitpairs.load(tmp_path / "outputs")
    digits = sources.load("mnist").test.select(torch.arange(2000))
    target = (digits.classes[0::2] <= digits.classes[1::2]).numpy()
    random = np.random.default_rng(0)
    scans = [scan(image, random) for image in digits.images.numpy()]
    plain, read = (
        100 * (comparer.compare(each[0::2], each[1::2]).less_or_equal != target).mean()
        for each in (digits.images, scans)
    )
    print(f"comparison error on 1000 pairs: {plain:.1f} % plain, {read:.1f} % as scans")
    assert read <= 2 * plain
