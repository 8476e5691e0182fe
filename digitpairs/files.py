"""A run's files: their names, and how they are written and read.

Whatever counts as a result is written whole or not at all. Reading is bounded: only a regular file of a sensible size is
read, so that a pipe, a device or a file of gigabytes in a file's place neither blocks nor fills the memory.
What the files hold is checked by `digitpairs.records`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from digitpairs.checks import DataError

CONFIG, METRICS, CHECKPOINT, RESULT, FAILURE = (
    "config.yaml",
    "metrics.csv",
    "checkpoint.ckpt",
    "result.json",
    "failure.json",
)
CONFUSION = "confusion.json"  # rows digits, columns answers, counts of test images
BOUNDARY = "boundary.npz"  # of the disk, see `digitpairs.engines.boundary`
FILES = "files"  # the result's entry with the sizes and digests of the run's other files, see `digitpairs.inventory`

MAX_LISTED = 10  # of damaged files
NAME_LENGTH = 120  # of a folder, without its digest; file systems take 255 bytes
SMALL = 2**20  # bytes: the limit for JSON and configs, which have some thousands
LARGE = 2**26  # bytes: the limit for all else, such as the metrics of 100,000 epochs


class _Dumper(
    getattr(yaml, "CSafeDumper", yaml.SafeDumper)
):  # in C, where PyYAML was built with it
    def ignore_aliases(self, data: Any) -> bool:
        """Equal values are written out each time: a config is read without aliases."""
        return True


class DamagedFileError(DataError):
    """A file that is not as the program writes it. The message names the file and the fault."""

    def __init__(self, path: Path, fault: object) -> None:
        super().__init__(f"{path} is damaged: {fault}")


class MissingFileError(DamagedFileError):
    """There is no such file."""

    def __init__(self, path: Path) -> None:
        DataError.__init__(self, f"{path} is missing")


def tell(damages: Sequence[DamagedFileError], outcome: str) -> list[str]:
    """A line for each of the first damaged files with what becomes of it, and one for the rest."""
    lines = [f"{damage}; {outcome}" for damage in damages[:MAX_LISTED]]
    rest = len(damages) - MAX_LISTED
    return lines + [f"damaged files that are not named here, and treated alike: {rest}"] * (
        rest > 0
    )


def write_atomically(path: Path, content: str | bytes) -> None:
    """The content at the path, on disk, or (after a crash at any moment) what was there before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with named(path):
        try:
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """The resolved config as yaml, for a reader: nothing depends on its being on disk before the result is."""
    with named(folder / CONFIG):
        (folder / CONFIG).write_text(
            yaml.dump(config, Dumper=_Dumper, sort_keys=False), encoding="utf-8"
        )


def write_json(path: Path, value: dict[str, Any]) -> None:
    """The value as readable JSON."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_metrics(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """A line an epoch, a column a metric."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in history for name in row))
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    write_atomically(folder / METRICS, text.getvalue())


def size_of(path: Path) -> int:
    """Bytes of a regular file. Raises Missing, or Damaged for a folder, a pipe or a device."""
    try:
        status = path.stat()  # before it is opened: opening a pipe waits for its other end
    except FileNotFoundError:
        raise MissingFileError(path) from None
    if not stat.S_ISREG(status.st_mode):
        raise DamagedFileError(path, "it is no regular file")
    return status.st_size


def read_bytes(path: Path, limit: int = LARGE) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises Missing, Damaged, or OSError if it may not be opened."""
    if size_of(path) > limit:
        raise DamagedFileError(path, f"it has more than {limit >> 20} MiB")
    with readable(path), path.open("rb") as file:
        return file.read(limit)


def read_text(path: Path, limit: int = LARGE) -> str:
    """The file's text, under the same terms."""
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as fault:
        raise DamagedFileError(path, fault) from None


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in the file, or None if there is no such file. Damaged if it holds anything else."""
    try:
        value = json.loads(read_text(path, SMALL))
    except MissingFileError:
        return None
    except (ValueError, RecursionError) as fault:
        raise DamagedFileError(path, fault) from None
    if not isinstance(value, dict):
        raise DamagedFileError(path, "it holds no JSON object")
    return value


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """What the disk cannot read within is damage of this file. A file that may not be opened stays an OSError."""
    try:
        yield
    except OSError as fault:
        if fault.filename is None:
            raise DamagedFileError(path, fault) from None
        raise


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """An OSError within names the path, also where the system does not say it, as of a full disk."""
    try:
        yield
    except OSError as fault:
        fault.filename = fault.filename or str(path)
        raise
