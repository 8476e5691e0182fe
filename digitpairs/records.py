"""What a run's files hold: one schema for all who read results, failures, metrics, confusions, configs and archives.

Each reader returns what the program wrote, or raises `files.DamagedFileError` with the file, the entry, its value and what it
should be.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import reprlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from digitpairs import files
from digitpairs.checks import InvalidValueError, integer, integers, number
from digitpairs.files import DamagedFileError
from digitpairs.inventory import check_inventory

TEST_ERRORS = (
    "test/comparison_error",
    "test/error",
)  # of pairs, and of the disk: each result has one
PACKAGES = ("torch", "pytorch_lightning", "python")  # whose versions are shown
DIGITS = 10
MAX_DEPTH = 50  # nesting of a config
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where PyYAML was built with it

Record = Mapping[str, Any]
Check = Callable[[str, Any], Any]


def read_result(folder: Path) -> dict[str, Any] | None:
    """The run's result, None if it has none."""
    path = folder / files.RESULT
    result = files.read_json(path)
    if result is not None:
        with raise_as_damaged(path):
            check_result(result)
    return result


def read_failure(folder: Path) -> dict[str, Any] | None:
    """Why the run failed, None if nothing says so."""
    path = folder / files.FAILURE
    failure = files.read_json(path)
    if failure is not None:
        with raise_as_damaged(path):
            check_failure(failure)
    return failure


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """A row an epoch, without the metrics that the epoch has not."""
    path = folder / files.METRICS
    rows = csv.DictReader(io.StringIO(files.read_text(path), newline=""))
    try:
        return [{name: float(value) for name, value in row.items() if value} for row in rows]
    except (
        ValueError,
        TypeError,
        csv.Error,
    ) as fault:  # no number, more values than columns, no CSV
        raise DamagedFileError(path, fault) from None


def read_confusion(folder: Path) -> dict[str, Any] | None:
    """How often each digit got each answer in the test, for each image; None if the network names no digits."""
    path = folder / files.CONFUSION
    confusion = files.read_json(path)
    with raise_as_damaged(path):
        check_confusion(confusion)
    return confusion


def read_boundary(folder: Path) -> dict[str, np.ndarray]:
    """What a network held for the inside of the disk: `epochs` (n,), `inside` (n, side, side), and the training `points` (m, 2)
    with their `labels` (m,).
    """
    path = folder / files.BOUNDARY
    content = io.BytesIO(files.read_bytes(path))
    try:
        if sum(each.file_size for each in zipfile.ZipFile(content).infolist()) > files.LARGE:
            raise DamagedFileError(path, f"it unpacks to more than {files.LARGE >> 20} MiB")
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("epochs", "inside", "points", "labels")}
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        KeyError,
        RuntimeError,
        MemoryError,
    ) as fault:
        raise DamagedFileError(path, fault) from None
    with raise_as_damaged(path):
        check_boundary(arrays)
    return arrays


def read_config(folder: Path) -> dict[str, Any]:
    """The resolved config."""
    path = folder / files.CONFIG
    content = files.read_text(path, files.SMALL)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, _LOADER)):
            raise DamagedFileError(
                path, "it has aliases"
            )  # with them a few lines can stand for billions of settings
        config = yaml.load(content, _LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        raise DamagedFileError(path, " ".join(str(fault).split())) from None
    with raise_as_damaged(path):
        check_config(config)
    return config


@contextlib.contextmanager
def raise_as_damaged(path: Path, where: str = "") -> Iterator[None]:
    """What a check refuses within is damage of this file, `where` in it."""
    try:
        yield
    except InvalidValueError as fault:
        key, value = (
            reprlib.repr(fault.key)[1:-1],
            reprlib.repr(fault.value),
        )  # both are cut: they are of the file
        raise DamagedFileError(path, f"{where}{key} is {value}, not {fault.accepted}") from None


def check_result(result: Any) -> None:
    """InvalidValueError for what is no result, naming the entry."""
    _check_entries("the result", result, _RESULT, _OPTIONAL)
    metrics = {name: value for name, value in result.items() if "/" in name}
    if not any(name in metrics for name in TEST_ERRORS):
        raise InvalidValueError(
            "the result", result, f"one with the entry {' or '.join(TEST_ERRORS)}"
        )
    for name, value in metrics.items():
        per_cent = name.endswith("error")
        number(name, value, 0 if per_cent else None, 100 if per_cent else None)


def check_failure(failure: Any) -> None:
    """InvalidValueError for what is no failure."""
    _check_entries("the failure", failure, {"fingerprint": one_line, "reason": text})


def check_history(history: Any) -> None:
    """InvalidValueError for what is not, for each metric, a list of as many numbers as the others have; None where an epoch has none."""
    lists = list(_mapping("the history", history).values())
    for name, values in history.items():
        if not isinstance(values, list) or len(values) != len(lists[0]):
            raise InvalidValueError(name, values, "a list of one number an epoch")
        for value in values:
            if not isinstance(value, float):  # nan and inf are those of an epoch that went wrong
                _optional(_any_number)(name, value)


def check_confusion(confusion: Any) -> None:
    """InvalidValueError for what is neither None nor counts by digit and answer for each image."""
    if confusion is not None:
        _check_entries("the confusion", confusion, dict.fromkeys(("digit1", "digit2"), _counts))


def check_boundary(arrays: Mapping[str, np.ndarray]) -> None:
    """InvalidValueError for arrays of numbers whose shapes are not those of a boundary."""
    epochs, points = (
        len(arrays[name]) if arrays[name].ndim else 0 for name in ("epochs", "points")
    )
    side = arrays["inside"].shape[-1:]
    shapes = {
        "epochs": (max(1, epochs),),
        "inside": (epochs, *side, *side),
        "points": (points, 2),
        "labels": (points,),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind not in "biuf":
            raise InvalidValueError(name, arrays[name], f"numbers of shape {shape}")


def check_config(config: Any) -> None:
    """InvalidValueError for what is no config of a run."""
    _check_entries("the config", config, dict.fromkeys(("data", "model"), _mapping))
    _check_tree(config)


def text(key: str, value: Any) -> str:
    """`value` if it is text, or InvalidValueError."""
    if not isinstance(value, str):
        raise InvalidValueError(key, value, "text")
    return value


def one_line(key: str, value: Any) -> str:
    """`value` if it is text of one line without control characters, or InvalidValueError."""
    if not text(key, value).isprintable():
        raise InvalidValueError(key, value, "printable text of one line")
    return value


def _check_entries(
    key: str,
    record: Any,
    required: Mapping[str, Check],
    optional: Mapping[str, Check] | None = None,
) -> None:
    """That it is a mapping with these entries; others are not looked at."""
    _mapping(key, record)
    for name in required:
        if name not in record:
            raise InvalidValueError(key, record, f"one with the entry {name}")
    for name, check in {**required, **(optional or {})}.items():
        if name in record:
            check(name, record[name])


def _mapping(key: str, value: Any) -> Record:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidValueError(key, value, "a mapping from names")
    return value


def _check_tree(value: Any, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise InvalidValueError("the config", value, f"nested at most {MAX_DEPTH} deep")
    inside = (
        _mapping("the config", value).values()
        if isinstance(value, Mapping)
        else value
        if isinstance(value, list)
        else ()
    )
    for each in inside:
        _check_tree(each, depth + 1)


def _list(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidValueError(key, value, "a list")
    return value


def _counts(key: str, value: Any) -> None:
    counts = [integers(key, row, at_least=0) for row in _list(key, value)]
    if [len(row) for row in counts] != [DIGITS] * DIGITS:
        raise InvalidValueError(key, value, f"{DIGITS} rows of {DIGITS} counts")


def _versions(key: str, value: Any) -> None:
    _check_entries(key, value, dict.fromkeys(PACKAGES, one_line))


def _optional(check: Check) -> Check:
    return lambda key, value: None if value is None else check(key, value)


_any_number = functools.partial(number, at_least=None)

_RESULT: dict[str, Check] = {
    "seed": integer,
    "fingerprint": one_line,
    "source": one_line,
    "seconds": number,
    "versions": _versions,
}
_OPTIONAL: dict[str, Check] = {
    **dict.fromkeys(("epochs", "best_epoch", "parameters", "array_size", "threads"), integer),
    **dict.fromkeys(("commit", "processor"), _optional(one_line)),
    "cores": _optional(integer),
    files.FILES: check_inventory,
}
