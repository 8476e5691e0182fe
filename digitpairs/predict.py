"""Comparisons of image files by a trained network.

    python -m digitpairs.predict CHECKPOINT first.png second.png
    python -m digitpairs.predict SWEEP --pairs pairs.csv --csv
    python -m digitpairs.predict RUN scans --show seen.png

Each image shows one digit, in any size, mode and polarity. Pairs are the first and the second
image, the third and the fourth, and so on; or all ordered pairs of the images of a folder; or the
rows of a CSV file with the columns first and second. A sweep's seeds answer as an ensemble.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from digitpairs import files
from digitpairs.checks import DataError, InvalidFlagError, InvalidValueError
from digitpairs.cli import exit_on_error, show_own_warnings_plainly
from digitpairs.commands import add_checkpoint_arguments, command_parser
from digitpairs.targets import add_import_folders
from digitpairs.terminal import make_output_robust

Pair = tuple[Path, Path]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 for a checkpoint or an image that cannot be used."""
    options = _parser().parse_intermixed_args(arguments)
    make_output_robust()
    show_own_warnings_plainly()
    with exit_on_error():
        pairs = pairs_of(options.images, options.pairs)
        add_import_folders([Path.cwd()])  # own classes, as in training
        from digitpairs.use import load
        from digitpairs.use.answers import compare_files, write, write_seen

        comparer = load(options.checkpoint, options.trust_classes)
        comparison = compare_files(comparer, pairs, options.reading)
        write(pairs, comparison, options.format, Console())
        if options.show:
            write_seen(comparison, options.show)
    return 0


def pairs_of(images: Sequence[Path], table: Path | None) -> list[Pair]:
    """The pairs of images, of all images of a folder, or of a CSV file.

    Raises InvalidValueError or DataError if there are none.
    """
    if (table is None) == (not images):
        raise InvalidFlagError("name either images, or a folder of images, or --pairs FILE.csv")
    if table is not None:
        return _pairs_of_table(table)
    if len(images) == 1 and images[0].is_dir():
        return _pairs_of_folder(images[0])
    if len(images) % 2:
        accepted = "an even number of images, or one folder of images"
        raise InvalidValueError("images", f"{len(images)} ({images[-1]} is last)", accepted)
    return list(zip(images[0::2], images[1::2]))


def _pairs_of_folder(folder: Path) -> list[Pair]:
    """All ordered pairs of different images of the folder."""
    from digitpairs.data.image_files import ENDINGS

    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    images = [path for path in images if not path.name.startswith(".")]
    if len(images) < 2:
        raise DataError(f"{folder} has {len(images)} images ({', '.join(ENDINGS)}): it needs two")
    return [(first, second) for first in images for second in images if first != second]


def _pairs_of_table(table: Path) -> list[Pair]:
    """The rows of a CSV file; relative paths start at its folder."""
    rows = list(csv.DictReader(io.StringIO(files.read_text(table), newline="")))
    if not rows or not {"first", "second"} <= rows[0].keys():
        raise DataError(f"{table} has no rows with the columns first and second")
    for number, row in enumerate(rows, start=2):
        if not (row["first"] and row["second"]):
            raise DataError(f"{table} has no pair of images in row {number}")
    return [(table.parent / row["first"], table.parent / row["second"]) for row in rows]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("digitpairs.predict", __doc__)
    add_checkpoint_arguments(parser)
    parser.add_argument(
        "images", nargs="*", type=Path, metavar="IMAGE", help="images in pairs, or one folder"
    )
    parser.add_argument("--pairs", type=Path, metavar="FILE.csv", help="columns first and second")
    parser.add_argument(
        "--reading",
        default="auto",
        help="none: images of 14x14 or 28x28 pixels are taken as they are",
    )
    parser.add_argument(
        "--show", type=Path, metavar="FILE.png", help="write the 14x14 pixels that the network sees"
    )
    formats = parser.add_mutually_exclusive_group()
    for kind in ("json", "csv"):
        formats.add_argument(f"--{kind}", dest="format", action="store_const", const=kind)
    return parser


if __name__ == "__main__":
    sys.exit(main())
