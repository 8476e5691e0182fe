"""Folders of images: each way to store pixels against the plain array, and what is said of them."""

import functools
import os
import shutil
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from digitpairs.checks import DataError, DigitPairsWarning, InvalidValueError
from digitpairs.data import PairDataModule, image_files, sources
from digitpairs.sweeps.jobs import fingerprint

ORIENTATION = 0x0112
DIGITS = (3, 8)
INVERTED = "dark ink on a light background is inverted"
CLEAR = "with transparent pixels, read as background"
TURNED = "rotated as their EXIF orientation says"
CONSTANT = "has no contrast, all its pixels are equal: repair or remove it"
FRAMES = "of several frames, the first of which is read"
EACH = 5  # images a class; every fifth is for the test


def ink(seed: int) -> np.ndarray:
    """A blot of light ink on black, (28, 28) uint8 from 0 to 255, that no other seed has."""
    random = np.random.default_rng(seed)
    image = np.zeros((28, 28), np.uint8)
    image[6:22, 7:20] = random.integers(0, 256, (16, 13))
    image[10:14, 8:16] = 255
    return image


def all_ink() -> np.ndarray:
    return np.stack([ink(10 * digit + number) for digit in DIGITS for number in range(EACH)])


def write(root: Path, save, ending: str = "png", seeds: int = 0) -> Path:
    for digit in DIGITS:
        folder = root / str(digit)
        folder.mkdir(parents=True)
        for number in range(EACH):
            save(ink(seeds + 10 * digit + number), folder / f"{number}.{ending}")
    return root


def write_plain(root: Path, seeds: int = 0) -> Path:
    return write(root, lambda array, path: Image.fromarray(array).save(path), seeds=seeds)


def read(root: Path, **settings) -> torch.Tensor:
    """All images of an undivided folder in their order."""
    source = sources.load("folder", root, **settings)
    sides = [side.images.unflatten(0, (len(DIGITS), -1)) for side in (source.train, source.test)]
    return torch.cat(sides, 1).flatten(0, 1)


def said(root: Path, **settings) -> tuple[torch.Tensor, str]:
    """The images, and the one warning; "" where there is none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DigitPairsWarning)
        images = read(root, **settings)
    texts = [str(each.message) for each in caught if each.category is DigitPairsWarning]
    assert len(texts) <= 1 and all("\n" not in text for text in texts)
    return images, "".join(texts)


def layers(grey: np.ndarray, alpha: np.ndarray, mode: str) -> Image.Image:
    """Grey with opacity."""
    return Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).convert(mode)


def save_turned(array: np.ndarray, path: Path) -> None:
    """Stored with its top to the left, as a camera does, and the tag that says so."""
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


def white(array: np.ndarray) -> np.ndarray:
    return np.full_like(array, 255)


def black(array: np.ndarray) -> np.ndarray:
    return np.zeros_like(array)


def grey(array: np.ndarray, kind: str = "u1") -> Image.Image:
    return Image.fromarray(np.rint(array).astype(kind))


def wide(array: np.ndarray, factor: float = 257, kind: str = "u2") -> Image.Image:
    return grey(array * float(factor), kind)


WAYS = {  # name: how an array becomes an image, the file's ending, what is said
    "L": (grey, "png", ""),
    "RGB": (lambda a: grey(a).convert("RGB"), "bmp", ""),
    "P": (lambda a: grey(a).convert("P"), "gif", ""),
    "opaque": (lambda a: layers(a, white(a), "RGBA"), "png", ""),
    "I;16": (wide, "png", "of 16- or 32-bit pixels, read as 0 to 65535"),
    "I;16, 8 bits": (lambda a: wide(a, 1), "png", "read as 0 to 255"),
    "I;16, 12 bits": (lambda a: wide(a, 4095 / 255), "png", "read as 0 to 4095"),
    "I;16, dark": (lambda a: wide(255 - a), "png", INVERTED),
    "I;16B": (lambda a: wide(a, kind=">u2"), "tif", "read as 0 to 65535"),
    "I": (lambda a: wide(a, 1000, "i4"), "tiff", "read as 0 to 255000"),
    "F to 1": (
        lambda a: Image.fromarray(a / np.float32(255)),
        "tif",
        "of float pixels, read as 0 to 1",
    ),
    "F to 255": (lambda a: grey(a, "f4"), "tif", "of float pixels, read as 0 to 255"),
    "dark": (lambda a: grey(255 - a), "png", INVERTED),
    "dark, RGB": (lambda a: grey(255 - a).convert("RGB"), "ppm", INVERTED),
    "dark, P": (lambda a: grey(255 - a).convert("P"), "gif", INVERTED),
    "black ink, RGBA": (lambda a: layers(black(a), a, "RGBA"), "png", CLEAR),
    "white ink, RGBA": (lambda a: layers(white(a), a, "RGBA"), "png", CLEAR),
    "black ink, LA": (lambda a: layers(black(a), a, "LA"), "png", CLEAR),
    "white ink, LA": (lambda a: layers(white(a), a, "LA"), "png", CLEAR),
}
FEW_LEVELS = {  # name: how an array becomes an image, what is read of it, what is said
    "1": (lambda a: Image.fromarray(a > 127), lambda a: 255 * bits(a), ""),
    "0 or 1": (lambda a: grey(bits(a)), lambda a: 255 * bits(a), "of 8-bit pixels, read as 0 to 1"),
    "0 or 1, RGB": (
        lambda a: grey(bits(a)).convert("RGB"),
        lambda a: 255 * bits(a),
        "read as 0 to 1",
    ),
    "0 or 1, I;16": (lambda a: grey(bits(a), "u2"), lambda a: 255 * bits(a), "read as 0 to 1"),
    "0 or 1, dark": (lambda a: grey(1 - bits(a)), lambda a: 255 * bits(a), INVERTED),
    "0 to 3": (lambda a: grey(a // 64), lambda a: a // 64 * 85, "read as 0 to 3"),
    "0 to 16": (
        lambda a: grey(a // 16),
        lambda a: np.rint(a // 16 * (255 / 16)),
        "read as 0 to 16",
    ),
}
SAVED = {  # name: how an array is saved, the file's ending, what is said
    "black ink, P": (save_palette, "png", CLEAR),
    "transparent black": (lambda a, path: grey(a).save(path, transparency=0), "png", CLEAR),
    "transparent black, I;16": (lambda a, path: wide(a).save(path, transparency=0), "png", CLEAR),
    "turned": (save_turned, "png", TURNED),
    "turned, tiff": (save_turned, "tif", TURNED),
    "frames, gif": (save_frames, "gif", FRAMES),
    "frames, tiff": (save_frames, "tif", FRAMES),
}
LOSSY = {  # as WAYS
    "dark, CMYK": (lambda a: grey(255 - a).convert("CMYK").save, "jpg", INVERTED),
    "dark, webp": (lambda a: grey(255 - a).save, "webp", INVERTED),
    "turned, jpeg": (lambda a: functools.partial(save_turned, a), "jpeg", TURNED),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_mode_is_read_as_the_same_light_ink_on_black(tmp_path, way):
    make, ending, words = WAYS[way]
    images, text = said(write(tmp_path, lambda array, path: make(array).save(path), ending))
    assert np.array_equal(images, all_ink())
    assert words in text and bool(words) == bool(text)


@pytest.mark.parametrize("way", SAVED)
def test_what_a_file_says_of_its_pixels_is_applied(tmp_path, way):
    save, ending, words = SAVED[way]
    images, text = said(write(tmp_path, save, ending))
    assert np.array_equal(images, all_ink()) and words in text


@pytest.mark.parametrize("way", FEW_LEVELS)
def test_images_of_few_levels_are_read_by_their_range(tmp_path, way):
    make, expected, words = FEW_LEVELS[way]
    images, text = said(write(tmp_path, lambda array, path: make(array).save(path)))
    assert np.array_equal(images, expected(all_ink()))
    assert words in text and bool(words) == bool(text)


@pytest.mark.parametrize("way", LOSSY)
def test_lossy_files_are_read_to_their_loss(tmp_path, way):
    saver, ending, words = LOSSY[way]
    images, text = said(write(tmp_path, lambda array, path: saver(array)(path), ending))
    assert np.abs(images.numpy().astype(int) - all_ink()).mean() < 12 and words in text


def test_large_images_of_few_levels_are_scaled_before_they_are_shrunk(tmp_path):
    """Or the levels between 0 and 1, which antialiasing makes, would be lost."""

    def save(array: np.ndarray, path: Path) -> None:
        large = np.kron(array > 127, np.ones((3, 3))).astype(np.uint8)
        Image.fromarray(np.roll(large, (1, 2), (0, 1)) * scale).save(path)

    read_at = {}
    for scale in (np.uint8(1), np.uint8(255)):
        read_at[int(scale)], _ = said(write(tmp_path / str(scale), save))
    assert torch.equal(read_at[1], read_at[255]) and len(read_at[1].unique()) > 2


def test_plain_grey_of_other_sizes_is_resized_by_pillow(tmp_path):
    """The reading that all results so far were made with."""

    def save(array: np.ndarray, path: Path) -> None:
        Image.fromarray(array).resize((50, 33)).save(path)

    root = write(tmp_path, save)
    expected = [
        np.asarray(Image.open(path).convert("L").resize((28, 28)))
        for path, _ in ImageFolder(root).samples
    ]
    assert np.array_equal(read(root).numpy(), np.stack(expected))


@pytest.mark.parametrize("side, other", [("train", "test"), ("test", "train")])
def test_train_and_test_are_read_with_one_range_and_one_polarity(tmp_path, side, other):
    """The one side alone would be light ink of 12 bits; beside the other it is dim and inverted."""
    write(
        tmp_path / side,
        lambda array, path: Image.fromarray(array.astype(np.uint16) * 16).save(path),
    )
    write(
        tmp_path / other,
        lambda array, path: Image.fromarray((255 - array).astype(np.uint16) * 257).save(path),
        seeds=30,
    )
    with pytest.warns(DigitPairsWarning, match="read as 0 to 65535.*is inverted"):
        source = sources.load("folder", tmp_path)
    faint, full = getattr(source, side).images, getattr(source, other).images
    assert (faint.min(), faint.max()) == (255 - 16, 255) and (full.min(), full.max()) == (0, 255)


@pytest.mark.parametrize("dark", [False, True])
def test_the_polarity_can_be_set(tmp_path, dark):
    root = write(
        tmp_path, lambda array, path: Image.fromarray(255 - array if dark else array).save(path)
    )
    as_stored = torch.from_numpy(255 - all_ink() if dark else all_ink())
    assert torch.equal(
        read(root, polarity="light_on_dark"), as_stored
    )  # without a word, as the warning would be an error
    assert torch.equal(read(root, polarity="dark_on_light"), 255 - as_stored)
    module = PairDataModule("folder", root, pairs=2, polarity="dark_on_light")
    module.setup()
    assert (module.train_set.images.mean() > 0.5) == (not dark)
    for call in (PairDataModule, sources.load):
        with pytest.raises(
            InvalidValueError,
            match="polarity=dark is not accepted: one of auto, light_on_dark, dark_on_light",
        ):
            call("folder", root, polarity="dark")


def test_runs_from_before_the_polarity_are_found_again():
    before = {"data": {"source": "folder", "root": "there"}}
    now, other = (
        {"data": {**before["data"], "polarity": polarity}} for polarity in ("auto", "dark_on_light")
    )
    assert fingerprint(before) == fingerprint(now) != fingerprint(other)


@pytest.mark.parametrize(
    "every, words",
    [(2, "5 of 10 images examined have the other polarity"), (3, "4 of 10 images examined")],
)
def test_images_of_both_polarities_are_said(tmp_path, every, words):
    count = iter(range(100))
    root = write(
        tmp_path,
        lambda array, path: Image.fromarray(
            255 - array if next(count) % every == 0 else array
        ).save(path),
    )
    images, text = said(root)
    assert (
        words in text
        and "read as light_on_dark" in text
        and np.array_equal(images[1], all_ink()[1])
    )


def test_noise_has_no_polarity(tmp_path):
    random = np.random.default_rng(0)
    root = write(
        tmp_path,
        lambda array, path: Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(path),
    )
    images, text = said(root)
    assert text == "" and np.array_equal(
        images[0], np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    )


def png_of(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and has none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def plain_bytes(tmp_path: Path) -> bytes:
    Image.fromarray(ink(0)).save(tmp_path / "plain.png")
    return (tmp_path / "plain.png").read_bytes()


UNREADABLE = "cannot be read as an image"
UNUSABLE = {  # name: how the file is made, what is said
    "text": (lambda path: path.write_bytes(b"no image"), UNREADABLE),
    "empty": (lambda path: path.write_bytes(b""), UNREADABLE),
    "truncated": (lambda path: path.write_bytes(plain_bytes(path.parents[2])[:-60]), UNREADABLE),
    "huge": (lambda path: path.write_bytes(png_of(1000, 70_000)), "1000 x 70000 pixels, more than"),
    "bomb": (
        lambda path: path.write_bytes(png_of(100_000, 100_000)),
        f"{UNREADABLE}.*exceeds limit",
    ),
    "LAB": (lambda path: Image.new("LAB", (28, 28)).save(path, "TIFF"), f"{UNREADABLE} .*LAB"),
    "negative": (
        lambda path: wide(ink(0), -1, "f4").save(path, "TIFF"),
        "negative, infinite or NaN",
    ),
    "NaN": (
        lambda path: wide(ink(0), np.nan, "f4").save(path, "TIFF"),
        "negative, infinite or NaN",
    ),
    "grey": (lambda path: Image.new("L", (28, 28), 200).save(path), CONSTANT),
    "black": (lambda path: Image.new("RGB", (280, 28)).save(path), CONSTANT),
    "white": (lambda path: Image.new("1", (28, 28), 1).save(path), CONSTANT),
    "transparent": (lambda path: Image.new("LA", (28, 28), (0, 0)).save(path), CONSTANT),
    "broken link": (lambda path: path.symlink_to("nowhere.png"), "it is a broken link or not a file"),
    "pipe": (lambda path: os.mkfifo(path), "it is a broken link or not a file"),
}


@pytest.mark.parametrize("fault", UNUSABLE)
@pytest.mark.parametrize("part", ["train", "test"])
def test_an_image_that_cannot_be_used_is_named(tmp_path, part, fault):
    spoil, words = UNUSABLE[fault]
    for seeds, each in ((0, "train"), (1000, "test")):
        write_plain(tmp_path / "data" / each, seeds)
    path = tmp_path / "data" / part / "8" / "x.png"
    spoil(path)
    with pytest.raises(DataError, match=words) as caught:
        sources.load("folder", tmp_path / "data")
    assert str(caught.value).startswith(str(path))


def test_a_data_set_without_contrast_is_named_by_its_first_file(tmp_path):
    root = write(tmp_path, lambda array, path: Image.new("L", (28, 28), 7).save(path))
    with pytest.raises(
        DataError, match=r"3/0.png has no contrast, all its pixels are equal \(nor have 9 more\)"
    ):
        sources.load("folder", root)


def test_a_divided_and_an_undivided_folder(tmp_path):
    divided, undivided = tmp_path / "divided", write_plain(tmp_path / "undivided")
    write_plain(divided / "train"), write_plain(divided / "test", seeds=1000)
    source = sources.load("folder", divided)
    assert np.array_equal(source.train.images, all_ink()) and len(source.test) == 10
    assert source.name == f"folder:{divided}" and source.train.classes.tolist() == [3] * 5 + [8] * 5
    source = sources.load("folder", undivided)
    assert np.array_equal(source.test.images, all_ink()[4::5]) and source.test.classes.tolist() == [
        3,
        8,
    ]


@pytest.mark.parametrize(
    "place",
    [
        ".ipynb_checkpoints",
        ".ipynb_checkpoints/copy.png",
        "3/.ipynb_checkpoints/0-checkpoint.png",
        "8/.hidden.png",
        "8/._0.png",
        "3/.a/.b/0.png",
    ],
)
def test_hidden_files_and_folders_are_left_out(tmp_path, place):
    root = write_plain(tmp_path)
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "3" / "4.png", path) if path.suffix == ".png" else path.mkdir()
    images, text = said(root)
    assert text == "" and np.array_equal(images, all_ink())


def test_the_order_is_torchvisions_and_no_file_systems(tmp_path, monkeypatch):
    root = write_plain(tmp_path)
    names = [
        "Z.PNG",
        "a.png",
        "B b.Png",
        "10.png",
        "9.png",
        "\u00e9.png",
        "e.png",
        "in/a.png",
        "in/.h/a.png",
        "in b/a.png",
        "in/c/a.PNG",
    ]
    for seed, name in enumerate(names):
        path = root / "3" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ink(100 + seed)).save(path)
    theirs = [path for path, _ in ImageFolder(root).samples if "/." not in path]
    expected = np.stack([np.asarray(Image.open(path)) for path in theirs])
    held_out = np.array([4, 9, 14, len(theirs) - 1])
    for turn in (sorted, lambda entries: sorted(entries, reverse=True)):
        listed = Path.iterdir
        with monkeypatch.context() as patch:
            patch.setattr(Path, "iterdir", lambda folder: iter(turn(listed(folder))))
            sources._load.cache_clear()
            source = sources.load("folder", root)
        assert np.array_equal(source.test.images, expected[held_out])
        assert np.array_equal(source.train.images, np.delete(expected, held_out, 0))


def test_names_with_accents_are_in_one_order_however_they_are_stored(tmp_path):
    composed, apart = write_plain(tmp_path / "composed"), write_plain(tmp_path / "apart")
    for root, name in ((composed, "\u00e9.png"), (apart, "e\u0301.png")):
        Image.fromarray(ink(100)).save(root / "3" / name)
        Image.fromarray(ink(101)).save(root / "3" / "f.png")
    assert torch.equal(
        sources.load("folder", composed).train.images, sources.load("folder", apart).train.images
    )


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda root: (root / "3" / "a.heic").touch(), r"1 file \(1 .heic\) skipped, .*/3/a.heic$"),
        (lambda root: [(root / "8" / name).touch() for name in ("a.HEIC", "b.heic", "c.txt", "d")],
         r"4 files \(2 .heic, 1 .txt, 1 without ending\) skipped, such as .*/8/a.HEIC$"),
        (lambda root: (root / "labels.csv").touch(), r"1 file \(1 .csv\) skipped, .*/labels.csv$"),
        (lambda root: (root / "8" / "4.png").unlink(), "there is no test image of the digit 8$"),
        (
            lambda root: shutil.copy(root / "3" / "1.png", root / "3" / "1a.png"),
            "an image is a copy of another: .*1a.png of .*/1.png$",
        ),
    ],
)  # fmt: skip
def test_what_is_not_read_or_is_lacking_is_said(tmp_path, change, words):
    change(write_plain(tmp_path))
    with pytest.warns(DigitPairsWarning, match=words):
        sources.load("folder", tmp_path)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda root: shutil.rmtree(root / "test" / "8"), "there is no test image of the digit 8$"),
        (
            lambda root: shutil.rmtree(root / "train" / "3"),
            "there is no training image of the digit 3$",
        ),
        (
            lambda root: (root / "test" / "labels.csv").touch(),
            r"1 file \(1 .csv\) skipped, such as .*/test/labels.csv$",
        ),
        (lambda root: (root / "val").mkdir(), "only train and test are read, not val$"),
    ],
)
def test_what_a_divided_folder_lacks_is_said(tmp_path, change, words):
    write_plain(tmp_path / "train"), write_plain(tmp_path / "test", seeds=1000)
    change(tmp_path)
    with pytest.warns(DigitPairsWarning, match=words):
        sources.load("folder", tmp_path)


def empty(folder: Path, *names: str) -> None:
    """Leave only files of these names."""
    shutil.rmtree(folder)
    folder.mkdir()
    for name in names:
        (folder / name).touch()


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda root: empty(root / "3"), r"3 has no images \(it holds nothing\)"),
        (lambda root: empty(root / "3", ".DS_Store"), r"3 has no images \(it holds nothing\)"),
        (
            lambda root: empty(root / "8", "a.heic", "b.txt"),
            r"8 has no images \(it holds 2 files \(1 .heic, 1 .txt\)\)",
        ),
        (
            lambda root: (root / "cats").mkdir(),
            "cats is not a class: the folders of images are 0 to 9",
        ),
        (lambda root: (root / "03").mkdir(), "03 is not a class"),
        (
            lambda root: (root / "train").mkdir(),
            "has only a folder train: it needs folders 0 to 9 of images, or train and test",
        ),
        (lambda root: replace_by_file(root / "3"), "3 is not a folder"),
        (lambda root: (root / "4").symlink_to("nowhere"), "4 is not a folder"),
        (lambda root: (root / "4").symlink_to("4"), "4 is not a folder"),
        (
            lambda root: (root / "3" / "up").symlink_to(root),
            "3/up is a link to one of its parent folders",
        ),
        (
            lambda root: (root / "3" / "self").symlink_to(root / "3"),
            "3/self is a link to one of its parent folders",
        ),
        (
            lambda root: [shutil.rmtree(root / each) for each in ("3", "8")],
            "has no images in folders 0 to 9",
        ),
    ],
)
def test_a_folder_that_cannot_be_read_is_named(tmp_path, change, words):
    change(write_plain(tmp_path))
    with pytest.raises(DataError, match=words) as caught:
        sources.load("folder", tmp_path)
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize("place", ["", "8"])
def test_a_folder_without_permission_is_named(tmp_path, monkeypatch, place):
    root, listed = write_plain(tmp_path), Path.iterdir

    def refuse(folder: Path):
        if folder == root / place:
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)") as caught:
        sources.load("folder", root)
    assert str(caught.value).startswith(str(root / place))


def copy(source: Path, target: Path) -> None:
    shutil.copy(source, target)


def stored_otherwise(source: Path, target: Path) -> None:
    Image.open(source).convert("RGB").save(target.with_suffix(".bmp"))


@pytest.mark.parametrize(
    "copied", [copy, stored_otherwise, lambda source, target: target.symlink_to(source)]
)
@pytest.mark.parametrize("digit", ["3", "8"])
def test_an_image_for_training_and_test_is_an_error_that_names_both_files(tmp_path, copied, digit):
    write_plain(tmp_path / "train"), write_plain(tmp_path / "test", seeds=1000)
    copied(tmp_path / "test" / "3" / "2.png", tmp_path / "train" / digit / "x.png")
    with pytest.raises(
        DataError,
        match=rf"train/{digit}/x.*, .* and .*test/3/2.png, .* are the same image: remove",
    ):
        sources.load("folder", tmp_path)


def test_a_test_folder_that_is_the_training_folder_is_refused(tmp_path):
    write_plain(tmp_path / "train")
    (tmp_path / "test").symlink_to("train")
    with pytest.raises(
        DataError, match=r"are the same image \(10 test images are training images too\)"
    ):
        sources.load("folder", tmp_path)


@pytest.mark.parametrize(
    "first, later", [("3/1", "3/9"), ("3/4", "3/9"), ("3/4", "8/1"), ("8/4", "8/9")]
)
def test_copies_are_on_the_side_of_the_first(tmp_path, first, later):
    """Where the folder is divided here; the other images stay where they were."""
    root = write_plain(tmp_path)
    for seed in range(5, 10):
        Image.fromarray(ink(200 + seed)).save(root / later[0] / f"{seed}.png")
    before = {image.numpy().tobytes() for image in sources.load("folder", root).test.images}
    replaced = np.asarray(Image.open(root / f"{later}.png")).tobytes()
    shutil.copy(root / f"{first}.png", root / f"{later}.png")
    sources._load.cache_clear()
    with pytest.warns(
        DigitPairsWarning, match=f"an image is a copy of another: .*{later}.png of .*{first}.png"
    ):
        source = sources.load("folder", root)
    train, test = (
        [image.numpy().tobytes() for image in side.images] for side in (source.train, source.test)
    )
    assert (
        not set(train) & set(test)
        and set(test) == before - {replaced}
        and len(train) + len(test) == 15
    )


def test_the_command_says_once_how_images_were_read_and_names_one_that_cannot_be(tmp_path, command):
    root = write(tmp_path / "data", lambda array, path: Image.fromarray(255 - array).save(path))
    small = [
        "data=folder",
        f"data.root={root}",
        "model=siamese_mlp",
        "model.body.hidden=[4]",
        "data.pairs=4",
        "trainer.max_epochs=1",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("default", DigitPairsWarning)
        status, _, err = command(*small, "-m", "seed=0,1", "sweep.plan=serial")
    assert (
        status == 0 and err.count("warning: ") == 1 and f"warning: folder:{root}: {INVERTED}" in err
    )
    Image.new("L", (28, 28), 7).save(root / "8" / "x.png")
    sources._load.cache_clear()
    status, _, err = command(*small)
    assert (
        status == 2
        and err.startswith(f"error: {root}/8/x.png has no contrast")
        and err.count("\n") == 1
    )


def test_a_limit_keeps_large_images_from_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_PIXELS", 28 * 28 - 1)
    with pytest.raises(DataError, match="it has 28 x 28 pixels, more than 783"):
        sources.load("folder", write_plain(tmp_path))
