"""The files of a run: their names, and how they are written and read.

Results are written atomically: a file is complete, or it does not change. Only regular files of
limited size are read, so that a pipe, a device or a file of gigabytes with the name of a run's file
neither blocks nor fills the memory. `digitpairs.records` checks the content.
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
from typing import TYPE_CHECKING, Any

import yaml

from digitpairs.checks import DataError

CONFIG = "config.yaml"
METRICS = "metrics.csv"
CHECKPOINT = "checkpoint.ckpt"
RESULT = "result.json"
FAILURE = "failure.json"
PAUSED = "paused.json"  # see `digitpairs.sweeps.pauses`, also for the next two
PRUNED = "pruned.json"
STATE = "state.ckpt"
CONFUSION = "confusion.json"  # rows digits, columns answers, counts of test images
PREDICTIONS = "predictions.npz"  # of the test pairs, see `digitpairs.engines.predictions`
BOUNDARY = "boundary.npz"  # of the disk, see `digitpairs.engines.boundary`
FILES = "files"  # the result's entry with its inventory, see `digitpairs.inventory`

MAX_LISTED = 10  # damaged files that are named
NAME_LENGTH = 120  # of a folder, without its digest; file systems accept 255 bytes
SMALL = 2**20  # bytes: the limit for JSON and configs, which have a few thousand
LARGE = 2**26  # bytes: the limit for other files, such as the metrics of 100,000 epochs

if TYPE_CHECKING:
    _SafeDumper = yaml.SafeDumper
else:
    _SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # C, if PyYAML was built with it


class _Dumper(_SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write equal values each time, since a config is read without aliases."""
        return True


class DamagedFileError(DataError):
    """A file that the program has not written like this; the message names the file and why."""

    def __init__(self, path: Path, fault: object) -> None:
        super().__init__(f"{path} is damaged: {fault}")


class MissingFileError(DamagedFileError):
    """There is no such file."""

    def __init__(self, path: Path) -> None:
        DataError.__init__(self, f"{path} is missing")


def damage_messages(damages: Sequence[DamagedFileError], consequence: str) -> list[str]:
    """A line for each of the first damaged files with its consequence, and one for the others."""
    lines = [f"{damage}; {consequence}" for damage in damages[:MAX_LISTED]]
    others = len(damages) - MAX_LISTED
    if others > 0:
        lines.append(f"damaged files that are not named here, and treated alike: {others}")
    return lines


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write the content to disk. After a crash at any time the path has the old or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with path_in_errors(path):
        try:
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the resolved config as yaml. This is not atomic: the result is written later."""
    text = yaml.dump(config, Dumper=_Dumper, sort_keys=False)
    with path_in_errors(folder / CONFIG):
        (folder / CONFIG).write_text(text, encoding="utf-8")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write the value as indented JSON."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_metrics(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write a CSV file with a row for each epoch and a column for each metric."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in history for name in row))
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    write_atomically(folder / METRICS, text.getvalue())


def size_of(path: Path) -> int:
    """Return the bytes of a regular file.

    Raises MissingFileError, or DamagedFileError for a folder, a pipe or a device.
    """
    try:
        status = path.stat()  # before it is opened: opening a pipe waits for its other end
    except FileNotFoundError:
        raise MissingFileError(path) from None
    if not stat.S_ISREG(status.st_mode):
        raise DamagedFileError(path, "it is no regular file")
    return status.st_size


def read_bytes(path: Path, limit: int = LARGE) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises MissingFileError, DamagedFileError, or OSError for a file that may not be opened.
    """
    if size_of(path) > limit:
        raise DamagedFileError(path, f"it has more than {limit >> 20} MiB")
    with read_errors_as_damage(path), path.open("rb") as file:
        return file.read(limit)


def read_text(path: Path, limit: int = LARGE) -> str:
    """Read a file of UTF-8 text; raises as `read_bytes` does."""
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise DamagedFileError(path, error) from None


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None for a missing file. Raises DamagedFileError for other content."""
    try:
        value = json.loads(read_text(path, SMALL))
    except MissingFileError:
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, error) from None
    if not isinstance(value, dict):
        raise DamagedFileError(path, "it holds no JSON object")
    return value


@contextlib.contextmanager
def read_errors_as_damage(path: Path) -> Iterator[None]:
    """Raise DamagedFileError for an error of the disk; a file that may not be opened is OSError."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise DamagedFileError(path, error) from None
        raise


@contextlib.contextmanager
def path_in_errors(path: Path) -> Iterator[None]:
    """Give an OSError the path if the system does not, as for a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
