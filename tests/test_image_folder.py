"""Folders of images: which files are read, in which order, and how they are split."""

import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from digitpairs.checks import DataError, DigitPairsWarning
from digitpairs.data import sources
from tests.image_folders import (
    INVERTED,
    all_ink,
    ink,
    read_with_warning,
    save_plain,
    write,
    write_divided,
)


def test_a_divided_and_an_undivided_folder(tmp_path):
    divided = write_divided(tmp_path / "divided")
    source = sources.load("folder", divided)
    assert np.array_equal(source.train.images, all_ink()) and len(source.test) == 10
    assert source.name == f"folder:{divided}" and source.train.classes.tolist() == [3] * 5 + [8] * 5
    test = sources.load("folder", write(tmp_path / "undivided")).test
    assert np.array_equal(test.images, all_ink()[4::5]) and test.classes.tolist() == [3, 8]


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints",
        ".ipynb_checkpoints/copy.png",
        "3/.ipynb_checkpoints/0-checkpoint.png",
        "8/.hidden.png",
        "8/._0.png",
        "3/.a/.b/0.png",
    ],
)
def test_hidden_files_and_folders_are_ignored(tmp_path, name):
    root = write(tmp_path)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "3" / "4.png", path) if path.suffix == ".png" else path.mkdir()
    images, text = read_with_warning(root)
    assert text == "" and np.array_equal(images, all_ink())


@pytest.mark.parametrize("reverse", [False, True])
def test_the_order_is_that_of_torchvision_on_every_file_system(tmp_path, monkeypatch, reverse):
    root = write(tmp_path)
    plain = ["Z.PNG", "a.png", "B b.Png", "10.png", "9.png", "\u00e9.png", "e.png"]
    below = ["in/a.png", "in/.h/a.png", "in b/a.png", "in/c/a.PNG"]
    for seed, name in enumerate(plain + below):
        path = root / "3" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_plain(ink(100 + seed), path)
    theirs = [path for path, _ in ImageFolder(root).samples if "/." not in path]
    expected = np.stack([np.asarray(Image.open(path)) for path in theirs])
    held_out = np.array([4, 9, 14, len(theirs) - 1])
    iterdir = Path.iterdir

    def iterdir_in_order(folder: Path) -> Iterable[Path]:
        return iter(sorted(iterdir(folder), reverse=reverse))

    monkeypatch.setattr(Path, "iterdir", iterdir_in_order)
    source = sources.load("folder", root)
    assert np.array_equal(source.test.images, expected[held_out])
    assert np.array_equal(source.train.images, np.delete(expected, held_out, 0))


def test_the_order_does_not_depend_on_how_accents_are_stored(tmp_path):
    composed, decomposed = write(tmp_path / "composed"), write(tmp_path / "decomposed")
    for root, name in ((composed, "\u00e9.png"), (decomposed, "e\u0301.png")):
        save_plain(ink(100), root / "3" / name)
        save_plain(ink(101), root / "3" / "f.png")
    images = [sources.load("folder", root).train.images for root in (composed, decomposed)]
    assert torch.equal(*images)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).touch()


@pytest.mark.parametrize(
    "make, change, message",
    [
        (write, lambda root: touch(root, "3/a.heic"), r"1 file \(1 .heic\) skipped, .*/3/a.heic$"),
        (
            write,
            lambda root: touch(root, "8/a.HEIC", "8/b.heic", "8/c.txt", "8/d"),
            r"4 files \(2 .heic, 1 .txt, 1 without ending\) skipped, such as .*/8/a.HEIC$",
        ),
        (write, lambda root: touch(root, "a.csv"), r"1 file \(1 .csv\) skipped, .*/a.csv$"),
        (write, lambda root: (root / "8/4.png").unlink(), "no test image of the digit 8$"),
        (
            write,
            lambda root: shutil.copy(root / "3/1.png", root / "3/1a.png"),
            "an image is a copy of another: .*1a.png of .*/1.png$",
        ),
        (write_divided, lambda root: touch(root, "test/a"), r"1 file .* skipped, .*/test/a$"),
        (
            write_divided,
            lambda root: (root / "val").mkdir(),
            "only train and test are read, not val$",
        ),
        (
            write_divided,
            lambda root: shutil.rmtree(root / "test/8"),
            "no test image of the digit 8$",
        ),
        (
            write_divided,
            lambda root: shutil.rmtree(root / "train/3"),
            "there is no training image of the digit 3$",
        ),
    ],
)
def test_what_is_skipped_or_missing_is_reported(tmp_path, make, change, message):
    change(make(tmp_path))
    with pytest.warns(DigitPairsWarning, match=message):
        sources.load("folder", tmp_path)


def replace_files(folder: Path, *names: str) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    touch(folder, *names)


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


NOTHING = r"3 has no images \(it holds nothing\)"
PARENT_LINK = "is a link to one of its parent folders"
INVALID_FOLDERS = {  # name: how a folder is changed, part of the message
    "empty": (lambda root: replace_files(root / "3"), NOTHING),
    "hidden file": (lambda root: replace_files(root / "3", ".DS_Store"), NOTHING),
    "other files": (
        lambda root: replace_files(root / "8", "a.heic", "b.txt"),
        r"8 has no images \(it holds 2 files \(1 .heic, 1 .txt\)\)",
    ),
    "other folder": (
        lambda root: (root / "cats").mkdir(),
        "cats is not a class: the folders of images are 0 to 9",
    ),
    "leading zero": (lambda root: (root / "03").mkdir(), "03 is not a class"),
    "only train": (
        lambda root: (root / "train").mkdir(),
        "has only a folder train: it needs folders 0 to 9 of images, or train and test",
    ),
    "file": (lambda root: replace_by_file(root / "3"), "3 is not a folder"),
    "broken link": (lambda root: (root / "4").symlink_to("nowhere"), "4 is not a folder"),
    "link to itself": (lambda root: (root / "4").symlink_to("4"), "4 is not a folder"),
    "link to the root": (lambda root: (root / "3/up").symlink_to(root), f"3/up {PARENT_LINK}"),
    "link to the class": (
        lambda root: (root / "3/up").symlink_to(root / "3"),
        f"3/up {PARENT_LINK}",
    ),
    "no folders": (
        lambda root: [shutil.rmtree(root / name) for name in ("3", "8")],
        "has no images in folders 0 to 9",
    ),
}


@pytest.mark.parametrize("fault", INVALID_FOLDERS)
def test_the_message_names_an_invalid_folder(tmp_path, fault):
    change, message = INVALID_FOLDERS[fault]
    change(write(tmp_path))
    with pytest.raises(DataError, match=message) as caught:
        sources.load("folder", tmp_path)
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize("name", ["", "8"])
def test_the_message_names_a_folder_without_permission(tmp_path, monkeypatch, name):
    root, iterdir = write(tmp_path), Path.iterdir

    def refuse(folder: Path) -> Iterable[Path]:
        if folder == root / name:
            raise PermissionError(13, "Permission denied", str(folder))
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)") as caught:
        sources.load("folder", root)
    assert str(caught.value).startswith(str(root / name))


def convert(original: Path, copy: Path) -> None:
    Image.open(original).convert("RGB").save(copy.with_suffix(".bmp"))


@pytest.mark.parametrize(
    "copy", [shutil.copy, convert, lambda original, copy: copy.symlink_to(original)]
)
@pytest.mark.parametrize("digit", ["3", "8"])
def test_the_message_names_an_image_in_train_and_test(tmp_path, copy, digit):
    write_divided(tmp_path)
    copy(tmp_path / "test" / "3" / "2.png", tmp_path / "train" / digit / "x.png")
    message = rf"train/{digit}/x.*, .* and .*test/3/2.png, .* are the same image: remove"
    with pytest.raises(DataError, match=message):
        sources.load("folder", tmp_path)


def test_a_test_folder_that_is_the_training_folder_is_refused(tmp_path):
    write(tmp_path / "train")
    (tmp_path / "test").symlink_to("train")
    message = r"are the same image \(10 test images are training images too\)"
    with pytest.raises(DataError, match=message):
        sources.load("folder", tmp_path)


def contents(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


@pytest.mark.parametrize(
    "first, copy", [("3/1", "3/9"), ("3/4", "3/9"), ("3/4", "8/1"), ("8/4", "8/9")]
)
def test_a_copy_is_in_the_part_of_the_first(tmp_path, first, copy):
    """In an undivided folder, whose other images stay in their parts."""
    root = write(tmp_path)
    for seed in range(5, 10):
        save_plain(ink(200 + seed), root / copy[0] / f"{seed}.png")
    before = set(contents(sources.load("folder", root).test.images))
    replaced = np.asarray(Image.open(root / f"{copy}.png")).tobytes()
    shutil.copy(root / f"{first}.png", root / f"{copy}.png")
    sources._load.cache_clear()
    message = f"an image is a copy of another: .*{copy}.png of .*{first}.png"
    with pytest.warns(DigitPairsWarning, match=message):
        source = sources.load("folder", root)
    train, test = contents(source.train.images), contents(source.test.images)
    assert not set(train) & set(test) and set(test) == before - {replaced}
    assert len(train) + len(test) == 15


@pytest.mark.slow
def test_the_command_warns_once_and_names_an_image_that_cannot_be_used(tmp_path, command):
    root = write(tmp_path / "data", lambda array, path: save_plain(255 - array, path))
    arguments = [
        *("data=folder", f"data.root={root}", "data.pairs=4", "trainer.max_epochs=1"),
        *("model=siamese_mlp", "model.body.hidden=[4]"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("default", DigitPairsWarning)
        status, _, err = command(*arguments, "-m", "seed=0,1", "sweep.plan=serial")
    assert status == 0 and err.count("warning: ") == 1
    assert f"warning: folder:{root}: {INVERTED}" in err
    Image.new("L", (28, 28), 7).save(root / "8" / "x.png")
    sources._load.cache_clear()
    status, _, err = command(*arguments)
    assert status == 2 and err.count("\n") == 1
    assert err.startswith(f"error: {root}/8/x.png has no contrast")
