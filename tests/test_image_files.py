"""Image files: every way to store pixels against the plain array, and files that are refused."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from digitpairs.checks import DataError, DigitPairsWarning, InvalidValueError
from digitpairs.data import PairDataModule, image_files, sources
from digitpairs.sweeps.jobs import fingerprint
from tests.image_folders import (
    INVERTED,
    all_ink,
    ink,
    read,
    read_with_warning,
    save_plain,
    write,
    write_divided,
)

ORIENTATION = 0x0112
CLEAR = "with transparent pixels, read as background"
TURNED = "rotated as their EXIF orientation says"
CONSTANT = "has no contrast, all its pixels are equal: repair or remove it"
FRAMES = "of several frames, the first of which is read"


def layers(grey: np.ndarray, alpha: np.ndarray, mode: str) -> Image.Image:
    """Grey with opacity."""
    return Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).convert(mode)


def save_turned(array: np.ndarray, path: Path) -> None:
    """Stores the image rotated, with the EXIF tag for it, as cameras do."""
    tags = Image.Exif()
    tags[ORIENTATION] = 6
    Image.fromarray(np.rot90(array).copy()).save(path, exif=tags)


def save_palette(array: np.ndarray, path: Path) -> None:
    """Black ink by a palette of opacities."""
    image = Image.fromarray(array).convert("P")
    image.putpalette([0, 0, 0] * 256)
    image.putdata(array.flatten().tolist())
    image.save(path, transparency=bytes(range(256)))


def save_frames(array: np.ndarray, path: Path) -> None:
    second = Image.fromarray(255 - array)
    Image.fromarray(array).save(path, save_all=True, append_images=[second])


def bits(array: np.ndarray) -> np.ndarray:
    return (array > 127).astype(np.uint8)


def grey(array: np.ndarray, kind: str = "u1") -> Image.Image:
    return Image.fromarray(np.rint(array).astype(kind))


def wide(array: np.ndarray, factor: float = 257, kind: str = "u2") -> Image.Image:
    return grey(array * float(factor), kind)


class Storage(NamedTuple):
    """A way to store an array as an image file, and how it is read."""

    make: Callable  # array -> image
    ending: str = "png"
    note: str = ""  # part of the warning; "" if there is none
    expected: Callable = lambda array: array  # array -> array that is read
    options: dict = {}  # of `Image.save`

    def save(self, array: np.ndarray, path: Path) -> None:
        self.make(array).save(path, **self.options)


def two_levels(array: np.ndarray) -> np.ndarray:
    return 255 * bits(array)


def sixteen_levels(array: np.ndarray) -> np.ndarray:
    return np.rint(array // 16 * (255 / 16))


STORAGES = {
    "L": Storage(grey),
    "RGB": Storage(lambda a: grey(a).convert("RGB"), "bmp"),
    "P": Storage(lambda a: grey(a).convert("P"), "gif"),
    "opaque": Storage(lambda a: layers(a, 0 * a + 255, "RGBA")),
    "I;16": Storage(wide, "png", "of 16- or 32-bit pixels, read as 0 to 65535"),
    "I;16, 8 bits": Storage(lambda a: wide(a, 1), "png", "read as 0 to 255"),
    "I;16, 12 bits": Storage(lambda a: wide(a, 4095 / 255), "png", "read as 0 to 4095"),
    "I;16, dark": Storage(lambda a: wide(255 - a), "png", INVERTED),
    "I;16B": Storage(lambda a: wide(a, kind=">u2"), "tif", "read as 0 to 65535"),
    "I": Storage(lambda a: wide(a, 1000, "i4"), "tiff", "read as 0 to 255000"),
    "F to 1": Storage(
        lambda a: Image.fromarray(a / np.float32(255)), "tif", "of float pixels, read as 0 to 1"
    ),
    "F to 255": Storage(lambda a: grey(a, "f4"), "tif", "of float pixels, read as 0 to 255"),
    "dark": Storage(lambda a: grey(255 - a), "png", INVERTED),
    "dark, RGB": Storage(lambda a: grey(255 - a).convert("RGB"), "ppm", INVERTED),
    "dark, P": Storage(lambda a: grey(255 - a).convert("P"), "gif", INVERTED),
    "black ink, RGBA": Storage(lambda a: layers(0 * a, a, "RGBA"), "png", CLEAR),
    "white ink, RGBA": Storage(lambda a: layers(0 * a + 255, a, "RGBA"), "png", CLEAR),
    "black ink, LA": Storage(lambda a: layers(0 * a, a, "LA"), "png", CLEAR),
    "white ink, LA": Storage(lambda a: layers(0 * a + 255, a, "LA"), "png", CLEAR),
    "transparent black": Storage(grey, "png", CLEAR, options={"transparency": 0}),
    "transparent black, I;16": Storage(wide, "png", CLEAR, options={"transparency": 0}),
    "1": Storage(lambda a: Image.fromarray(a > 127), expected=two_levels),
    "0 or 1": Storage(
        lambda a: grey(bits(a)), "png", "of 8-bit pixels, read as 0 to 1", two_levels
    ),
    "0 or 1, RGB": Storage(
        lambda a: grey(bits(a)).convert("RGB"), "png", "read as 0 to 1", two_levels
    ),
    "0 or 1, I;16": Storage(lambda a: grey(bits(a), "u2"), "png", "read as 0 to 1", two_levels),
    "0 or 1, dark": Storage(lambda a: grey(1 - bits(a)), "png", INVERTED, two_levels),
    "0 to 3": Storage(lambda a: grey(a // 64), "png", "read as 0 to 3", lambda a: a // 64 * 85),
    "0 to 16": Storage(lambda a: grey(a // 16), "png", "read as 0 to 16", sixteen_levels),
}
SAVES = {  # name: how an array is saved, the ending of the file, part of the warning
    "black ink, P": (save_palette, "png", CLEAR),
    "turned": (save_turned, "png", TURNED),
    "turned, tiff": (save_turned, "tif", TURNED),
    "frames, gif": (save_frames, "gif", FRAMES),
    "frames, tiff": (save_frames, "tif", FRAMES),
}
LOSSY = {  # as SAVES
    "dark, CMYK": (Storage(lambda a: grey(255 - a).convert("CMYK")).save, "jpg", INVERTED),
    "dark, webp": (Storage(lambda a: grey(255 - a)).save, "webp", INVERTED),
    "turned, jpeg": (save_turned, "jpeg", TURNED),
}


@pytest.mark.parametrize("name", STORAGES)
def test_every_mode_and_range_is_read_as_light_ink_on_black(tmp_path, name):
    storage = STORAGES[name]
    images, text = read_with_warning(write(tmp_path, storage.save, storage.ending))
    assert np.array_equal(images, storage.expected(all_ink()))
    assert storage.note in text and bool(storage.note) == bool(text)


@pytest.mark.parametrize("name", [*SAVES, *LOSSY])
def test_palettes_orientation_and_frames_are_respected(tmp_path, name):
    save, ending, note = {**SAVES, **LOSSY}[name]
    images, text = read_with_warning(write(tmp_path, save, ending))
    difference = np.abs(images.numpy().astype(int) - all_ink())
    assert difference.mean() < 12 if name in LOSSY else not difference.any()
    assert note in text


def test_large_images_of_few_levels_are_scaled_before_they_are_resized(tmp_path):
    """Otherwise the levels between 0 and 1, which antialiasing makes, would be rounded."""

    def save_large(scale: np.uint8) -> Callable[[np.ndarray, Path], None]:
        def save(array: np.ndarray, path: Path) -> None:
            large = np.kron(array > 127, np.ones((3, 3))).astype(np.uint8)
            Image.fromarray(np.roll(large, (1, 2), (0, 1)) * scale).save(path)

        return save

    few, _ = read_with_warning(write(tmp_path / "few", save_large(np.uint8(1))))
    full, _ = read_with_warning(write(tmp_path / "full", save_large(np.uint8(255))))
    assert torch.equal(few, full) and len(few.unique()) > 2


def test_plain_grey_images_of_other_sizes_are_resized_by_pillow(tmp_path):
    root = write(tmp_path, Storage(lambda a: Image.fromarray(a).resize((50, 33))).save)
    paths = [path for path, _ in ImageFolder(root).samples]
    expected = [np.asarray(Image.open(path).convert("L").resize((28, 28))) for path in paths]
    assert np.array_equal(read(root).numpy(), np.stack(expected))


@pytest.mark.parametrize("faint_part, full_part", [("train", "test"), ("test", "train")])
def test_train_and_test_have_one_range_and_one_polarity(tmp_path, faint_part, full_part):
    """The faint part alone would be light ink of 12 bits. With the other, it is inverted."""
    write(tmp_path / faint_part, Storage(lambda a: wide(a, 16)).save)
    write(tmp_path / full_part, Storage(lambda a: wide(255 - a)).save, seeds=30)
    with pytest.warns(DigitPairsWarning, match="read as 0 to 65535.*is inverted"):
        source = sources.load("folder", tmp_path)
    faint, full = getattr(source, faint_part).images, getattr(source, full_part).images
    assert (faint.min(), faint.max()) == (255 - 16, 255) and (full.min(), full.max()) == (0, 255)


@pytest.mark.parametrize("dark", [False, True])
def test_the_polarity_can_be_set(tmp_path, dark):
    stored = 255 - all_ink() if dark else all_ink()
    root = write(tmp_path, Storage(lambda a: grey(255 - a if dark else a)).save)
    assert np.array_equal(read(root, polarity="light_on_dark"), stored)  # a warning would fail
    assert np.array_equal(read(root, polarity="dark_on_light"), 255 - stored)
    module = PairDataModule("folder", root, pairs=2, polarity="dark_on_light")
    module.setup()
    assert (module.train_set.images.mean() > 0.5) == (not dark)
    message = "polarity=dark is not accepted: one of auto, light_on_dark, dark_on_light"
    for load in (PairDataModule, sources.load):
        with pytest.raises(InvalidValueError, match=message):
            load("folder", root, polarity="dark")


def test_configs_without_a_polarity_have_the_fingerprint_of_auto():
    data = {"source": "folder", "root": "there"}
    none, auto, other = (
        fingerprint({"data": data | polarity})
        for polarity in ({}, {"polarity": "auto"}, {"polarity": "dark_on_light"})
    )
    assert none == auto != other


@pytest.mark.parametrize(
    "every, note",
    [(2, "5 of 10 images examined have the other polarity"), (3, "4 of 10 images examined")],
)
def test_mixed_polarities_are_reported(tmp_path, every, note):
    numbers = iter(range(100))

    def save(array: np.ndarray, path: Path) -> None:
        save_plain(255 - array if next(numbers) % every == 0 else array, path)

    images, text = read_with_warning(write(tmp_path, save))
    assert note in text and "read as light_on_dark" in text
    assert np.array_equal(images[1], all_ink()[1])


def test_noise_has_no_polarity(tmp_path):
    random = np.random.default_rng(0)
    noise = list(random.integers(0, 256, (10, 28, 28), np.uint8))
    remaining = iter(noise)
    root = write(tmp_path, lambda array, path: save_plain(next(remaining), path))
    images, text = read_with_warning(root)
    assert text == "" and np.array_equal(images, np.stack(noise))


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header states a size, without any pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(b""), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*item) for item in chunks.items())


def write_truncated(path: Path) -> None:
    save_plain(ink(0), path)
    path.write_bytes(path.read_bytes()[:-60])


UNREADABLE = "cannot be read as an image"
NOT_FINITE = "negative, infinite or NaN"
NO_FILE = "it is a broken link or not a file"
UNUSABLE = {  # name: how the file is made, part of the message
    "text": (lambda path: path.write_bytes(b"no image"), UNREADABLE),
    "empty": (lambda path: path.write_bytes(b""), UNREADABLE),
    "truncated": (write_truncated, UNREADABLE),
    "huge": (lambda path: path.write_bytes(png_of(1000, 70_000)), "1000 x 70000 pixels, more than"),
    "bomb": (lambda path: path.write_bytes(png_of(10**5, 10**5)), f"{UNREADABLE}.*exceeds limit"),
    "LAB": (lambda path: Image.new("LAB", (28, 28)).save(path, "TIFF"), f"{UNREADABLE} .*LAB"),
    "negative": (lambda path: wide(ink(0), -1, "f4").save(path, "TIFF"), NOT_FINITE),
    "NaN": (lambda path: wide(ink(0), np.nan, "f4").save(path, "TIFF"), NOT_FINITE),
    "grey": (lambda path: Image.new("L", (28, 28), 200).save(path), CONSTANT),
    "black": (lambda path: Image.new("RGB", (280, 28)).save(path), CONSTANT),
    "white": (lambda path: Image.new("1", (28, 28), 1).save(path), CONSTANT),
    "transparent": (lambda path: Image.new("LA", (28, 28), (0, 0)).save(path), CONSTANT),
    "broken link": (lambda path: path.symlink_to("nowhere.png"), NO_FILE),
    "pipe": (os.mkfifo, NO_FILE),
}


@pytest.mark.parametrize("fault", UNUSABLE)
@pytest.mark.parametrize("part", ["train", "test"])
def test_the_message_names_an_image_that_cannot_be_used(tmp_path, part, fault):
    make, message = UNUSABLE[fault]
    root = write_divided(tmp_path)
    path = root / part / "8" / "x.png"
    make(path)
    with pytest.raises(DataError, match=message) as caught:
        sources.load("folder", root)
    assert str(caught.value).startswith(str(path))


def test_the_message_names_the_first_of_several_constant_images(tmp_path):
    root = write(tmp_path, Storage(lambda a: Image.new("L", (28, 28), 7)).save)
    message = r"3/0.png has no contrast, all its pixels are equal \(nor have 9 more\)"
    with pytest.raises(DataError, match=message):
        sources.load("folder", root)


def test_images_above_the_limit_of_pixels_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_PIXELS", 28 * 28 - 1)
    with pytest.raises(DataError, match="it has 28 x 28 pixels, more than 783"):
        sources.load("folder", write(tmp_path))
