"""Images in folders 0 to 9: which files are read, in which order, and which are for the test."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from digitpairs.checks import DataError
from digitpairs.data.image_checks import first_equal, light_ink
from digitpairs.data.image_files import ENDINGS, read_images

PARTS = ("train", "test")
CLASSES = tuple("0123456789")
_LAYOUT = "folders 0 to 9 of images, or train and test with these"


class FolderImages(NamedTuple):
    """All images of a folder, by part, class and name."""

    paths: list[Path]
    images: Tensor  # (n, 28, 28), uint8, light ink on black
    classes: Tensor  # (n,), int64
    is_test: Tensor  # (n,), bool
    notes: list[str]  # what a user must know of how they were read


class _File(NamedTuple):
    path: Path
    digit: int
    is_test: bool


def read_folder(root: Path, polarity: str) -> FolderImages:
    """The images below `root` in folders 0 to 9, or in these below `train` and `test`.

    Without `train` and `test`, every fifth image of a class is for the test, and the copies of an
    image are on the same side as the first of them. Hidden files and folders are left out. The
    order does not depend on the file system. `polarity` is as in `light_ink`. Raises DataError,
    which names the place, where there are other folders, or where a folder or an image cannot be
    read.
    """
    divided, files, skipped = _list(root)
    paths, classes = [file.path for file in files], torch.tensor([file.digit for file in files])
    composites, read = read_images(paths)
    (images,), inverted = light_ink([composites], polarity)
    first = first_equal(images)
    if divided:
        is_test = torch.tensor([file.is_test for file in files])
    else:
        is_test = _every_fifth(classes)[first]
    notes = [
        *skipped,
        *read,
        *inverted,
        *_copies(first, paths, classes),
        *_one_sided(classes, is_test),
    ]
    return FolderImages(paths, images, classes, is_test, notes)


def _list(root: Path) -> tuple[bool, list[_File], list[str]]:
    """Whether there are `train` and `test`, the files of images, and notes on what is left out."""
    try:
        if not root.is_dir():
            raise DataError(f"{root} is no folder: name one with {_LAYOUT} in data.root")
        parts = [part for part in PARTS if (root / part).is_dir()]
        if len(parts) == 1:
            raise DataError(f"{root} has a folder {parts[0]} alone: it needs {_LAYOUT}")
        if not parts:
            return False, *_files_of_part(root, False)
        (train, notes), (test, more) = (
            _files_of_part(root / part, part == "test") for part in PARTS
        )
        beside = [entry.name for entry in _entries(root) if entry.name not in PARTS]
    except OSError as fault:
        message = f"{fault.filename} cannot be read ({fault.strerror}): mend or remove it"
        raise DataError(message) from fault
    if beside:
        more = [*more, f"beside train and test nothing is read: {', '.join(beside)}"]
    return True, train + test, notes + more


def _files_of_part(root: Path, is_test: bool) -> tuple[list[_File], list[str]]:
    """The files of images in the folders 0 to 9, and notes on the other files."""
    images, others = [], []
    for entry in _entries(root):
        if entry.name in CLASSES:
            read, foreign = _files_of_class(entry)
            images += [_File(path, int(entry.name), is_test) for path in read]
            others += foreign
        elif entry.is_dir():
            raise DataError(f"{entry} is no class: the folders of images are 0 to 9")
        else:
            others.append(entry)
    if not images:
        raise DataError(f"{root} has no images in folders 0 to 9")
    return images, [f"{_counted(others)} skipped, such as {others[0]}"] if others else []


def _files_of_class(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of images in the folder of a class and in folders in it, and the other files."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: the images of a class are in a folder of its name")
    files = sorted(_files_below(folder), key=_order_in_class)
    others = [path for path in files if path.suffix.lower() not in ENDINGS]
    images = [path for path in files if path.suffix.lower() in ENDINGS]
    if not images:
        held = _counted(others) if others else "nothing"
        fault = f"{folder} has no images (it holds {held})"
        raise DataError(f"{fault}: add some ({', '.join(ENDINGS)}) or remove it")
    return images, others


def _files_below(folder: Path, around: tuple[Path, ...] = ()) -> Iterator[Path]:
    place = folder.resolve()
    if any(each.is_relative_to(place) for each in around):
        raise DataError(f"{folder} is a link to a folder that it lies in: remove it")
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _files_below(entry, (*around, place))
        else:
            yield entry


def _entries(folder: Path) -> list[Path]:
    """What is in the folder and not hidden, by name."""
    visible = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return sorted(visible, key=lambda entry: _order(entry.name))


def _order_in_class(path: Path) -> tuple[tuple[str, str], tuple[str, str]]:
    return _order(path.parent.as_posix()), _order(path.name)


def _order(name: str) -> tuple[str, str]:
    """A sort key; some file systems store accents apart from their letters."""
    return unicodedata.normalize("NFC", name), name


def _counted(files: Sequence[Path]) -> str:
    """How many files, and of which endings: "3 files (2 .heic, 1 .txt)"."""
    counts = Counter(path.suffix.lower() or "without ending" for path in files)
    endings = ", ".join(f"{count} {ending}" for ending, count in sorted(counts.items()))
    return f"{len(files)} file{'s' * (len(files) > 1)} ({endings})"


def _every_fifth(classes: Tensor) -> Tensor:
    """True for every fifth image of each class; the images (n,) are sorted by class."""
    place = torch.cat([torch.arange(int(count)) for count in torch.bincount(classes)])
    return place % 5 == 4


def _copies(first: Tensor, paths: Sequence[Path], classes: Tensor) -> list[str]:
    """A note on images that equal an earlier one, see `first_equal`."""
    copies = (first != torch.arange(len(first))).nonzero().flatten().tolist()
    if not copies:
        return []
    other = [copy for copy in copies if classes[copy] != classes[first[copy]]]
    shown = (other or copies)[0]
    example = f"{paths[shown]} of {paths[int(first[shown])]}"
    if other:
        example += f"; {len(other)} of them in another class"
    if len(copies) == 1:
        return [f"an image is a copy of another: {example}"]
    return [f"{len(copies)} images are copies of others, such as {example}"]


def _one_sided(classes: Tensor, is_test: Tensor) -> list[str]:
    """Notes on classes that only the training or only the test has."""
    notes = []
    for side, there in (("training", classes[~is_test]), ("test", classes[is_test])):
        lacking = sorted(set(classes.tolist()) - set(there.tolist()))
        if lacking:
            notes.append(f"there is no {side} image of the digit {', '.join(map(str, lacking))}")
    return notes
