"""Reader of folders of images, named 0 to 9 by the class: their files, order and split."""

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
    notes: list[str]  # on how the files were read, and what is missing


class _File(NamedTuple):
    path: Path
    digit: int
    is_test: bool


def read_folder(root: Path, polarity: str) -> FolderImages:
    """The images below `root` in folders 0 to 9, or in these below `train` and `test`.

    Without `train` and `test`, every fifth image of a class is for the test, and copies of an image
    are in the same part as the first of them. Hidden files and folders are ignored. The order does
    not depend on the file system. `polarity` is that of `light_ink`. Raises DataError, which names
    the path, for other folders, and for a folder or an image that cannot be read.
    """
    divided, files, file_notes = _find_files(root)
    paths, classes = [file.path for file in files], torch.tensor([file.digit for file in files])
    composites, reading_notes = read_images(paths)
    (images,), polarity_notes = light_ink([composites], polarity)
    first = first_equal(images)
    if divided:
        is_test = torch.tensor([file.is_test for file in files])
    else:
        is_test = _every_fifth(classes)[first]
    content_notes = [*_note_copies(first, paths, classes), *_note_missing(classes, is_test)]
    notes = [*file_notes, *reading_notes, *polarity_notes, *content_notes]
    return FolderImages(paths, images, classes, is_test, notes)


def _find_files(root: Path) -> tuple[bool, list[_File], list[str]]:
    """Whether there are `train` and `test`, the image files, and notes on ignored files."""
    try:
        if not root.is_dir():
            raise DataError(f"{root} is not a folder: name one with {_LAYOUT} by data.root")
        parts = [part for part in PARTS if (root / part).is_dir()]
        if len(parts) == 1:
            raise DataError(f"{root} has only a folder {parts[0]}: it needs {_LAYOUT}")
        if not parts:
            return False, *_find_files_of_part(root, False)
        train, train_notes = _find_files_of_part(root / "train", False)
        test, test_notes = _find_files_of_part(root / "test", True)
        others = [entry.name for entry in _entries(root) if entry.name not in PARTS]
    except OSError as fault:
        message = f"{fault.filename} cannot be read ({fault.strerror}): repair or remove it"
        raise DataError(message) from fault
    note = [f"only train and test are read, not {', '.join(others)}"] if others else []
    return True, train + test, [*train_notes, *test_notes, *note]


def _find_files_of_part(root: Path, is_test: bool) -> tuple[list[_File], list[str]]:
    """The image files in the folders 0 to 9, and notes on the other files."""
    files: list[_File] = []
    others: list[Path] = []
    for entry in _entries(root):
        if entry.name in CLASSES:
            images, ignored = _find_files_of_class(entry)
            files += [_File(path, int(entry.name), is_test) for path in images]
            others += ignored
        elif entry.is_dir():
            raise DataError(f"{entry} is not a class: the folders of images are 0 to 9")
        else:
            others.append(entry)
    if not files:
        raise DataError(f"{root} has no images in folders 0 to 9")
    return files, [f"{_counted(others)} skipped, such as {others[0]}"] if others else []


def _find_files_of_class(folder: Path) -> tuple[list[Path], list[Path]]:
    """The image files in the folder of a class and in its subfolders, and the other files."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: it should hold the images of a class")
    files = sorted(_files_below(folder), key=_order_in_class)
    images = [path for path in files if path.suffix.lower() in ENDINGS]
    others = [path for path in files if path.suffix.lower() not in ENDINGS]
    if not images:
        content = _counted(others) if others else "nothing"
        fault = f"{folder} has no images (it holds {content})"
        raise DataError(f"{fault}: add some ({', '.join(ENDINGS)}) or remove it")
    return images, others


def _files_below(folder: Path, parents: tuple[Path, ...] = ()) -> Iterator[Path]:
    resolved = folder.resolve()
    if any(parent.is_relative_to(resolved) for parent in parents):
        raise DataError(f"{folder} is a link to one of its parent folders: remove it")
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _files_below(entry, (*parents, resolved))
        else:
            yield entry


def _entries(folder: Path) -> list[Path]:
    """The entries of the folder that are not hidden, by name."""
    visible = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return sorted(visible, key=lambda entry: _order(entry.name))


def _order_in_class(path: Path) -> tuple[tuple[str, str], tuple[str, str]]:
    return _order(path.parent.as_posix()), _order(path.name)


def _order(name: str) -> tuple[str, str]:
    """A sort key that does not depend on how the file system stores accents."""
    return unicodedata.normalize("NFC", name), name


def _counted(files: Sequence[Path]) -> str:
    """The number of files and of their endings: "3 files (2 .heic, 1 .txt)"."""
    counts = Counter(path.suffix.lower() or "without ending" for path in files)
    endings = ", ".join(f"{count} {ending}" for ending, count in sorted(counts.items()))
    return f"{len(files)} file{'s' * (len(files) > 1)} ({endings})"


def _every_fifth(classes: Tensor) -> Tensor:
    """True for every fifth image of each class; the images (n,) are sorted by class."""
    number_in_class = torch.cat([torch.arange(int(count)) for count in torch.bincount(classes)])
    return number_in_class % 5 == 4


def _note_copies(first: Tensor, paths: Sequence[Path], classes: Tensor) -> list[str]:
    """A note on images that equal an earlier one (see `first_equal`)."""
    copies = (first != torch.arange(len(first))).nonzero().flatten().tolist()
    if not copies:
        return []
    mislabelled = [copy for copy in copies if classes[copy] != classes[first[copy]]]
    shown = (mislabelled or copies)[0]
    example = f"{paths[shown]} of {paths[int(first[shown])]}"
    if mislabelled:
        example += f"; {len(mislabelled)} of them in another class"
    if len(copies) == 1:
        return [f"an image is a copy of another: {example}"]
    return [f"{len(copies)} images are copies of others, such as {example}"]


def _note_missing(classes: Tensor, is_test: Tensor) -> list[str]:
    """Notes on classes of which only the training or only the test has images."""
    notes = []
    for part, present in (("training", classes[~is_test]), ("test", classes[is_test])):
        missing = sorted(set(classes.tolist()) - set(present.tolist()))
        if missing:
            notes.append(f"there is no {part} image of the digit {', '.join(map(str, missing))}")
    return notes
