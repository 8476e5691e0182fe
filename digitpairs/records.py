"""The schema of a run's files: results, failures, metrics, confusions, boundaries and configs.

Each reader returns what the program wrote, or raises `files.DamagedFileError` with the file, the
entry, its value and what it should be.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import reprlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from digitpairs import files
from digitpairs.checks import InvalidValueError, integer, integers, number
from digitpairs.files import DamagedFileError
from digitpairs.inventory import check_inventory
from digitpairs.names import Origin

# Each result has one of them: the first for pairs, the second for the disk.
TEST_ERRORS = ("test/comparison_error", "test/error")
PACKAGES = ("torch", "pytorch_lightning", "python")  # their versions are shown
DIGITS = 10
BOUNDARY_ARRAYS = ("epochs", "inside", "points", "labels")
# Absent where the network does not classify digits, and in runs without temperatures
OPTIONAL = ("digit_logits", "calibrated_comparison", "calibrated_digit_logits")
PREDICTION_ARRAYS = ("comparison", "digits", "wrong", "images", *OPTIONAL)
MAX_DEPTH = 50  # nesting of a config
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # C, if PyYAML was built with it
# Exceptions of zipfile and NumPy for a damaged archive
_ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,
    MemoryError,
)

Record = Mapping[str, Any]
Check = Callable[[str, Any], Any]


def read_result(folder: Path) -> dict[str, Any] | None:
    """The run's result; None if it has none."""
    return _read_record(folder / files.RESULT, check_result)


def read_failure(folder: Path) -> dict[str, Any] | None:
    """The reason of a failed run; None for other runs."""
    return _read_record(folder / files.FAILURE, check_failure)


def read_pause(folder: Path) -> dict[str, Any] | None:
    """The epochs behind a paused or pruned run; None for other runs."""
    pause = _read_record(folder / files.PAUSED, check_pause)
    return pause or _read_record(folder / files.PRUNED, check_pause)


def read_confusion(folder: Path) -> dict[str, Any] | None:
    """For each image the counts of the test by digit and answer; None without a digit head."""
    return _read_record(folder / files.CONFUSION, check_confusion)


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """A row for each epoch, without the metrics that the epoch lacks."""
    path = folder / files.METRICS
    rows = csv.DictReader(io.StringIO(files.read_text(path), newline=""))
    try:
        return [{name: float(value) for name, value in row.items() if value} for row in rows]
    except (ValueError, TypeError, csv.Error) as error:  # no number, too many values, no CSV
        raise DamagedFileError(path, error) from None


def read_boundary(folder: Path) -> dict[str, np.ndarray]:
    """The decision boundary over the training of a run on the disk.

    Returns:
        `epochs` (n,), `inside` (n, side, side): the network's answer for each point of a grid,
        and the training `points` (m, 2) with their `labels` (m,).
    """
    return _read_arrays(folder / files.BOUNDARY, BOUNDARY_ARRAYS, check_boundary)


def read_predictions(folder: Path) -> dict[str, np.ndarray] | None:
    """The predictions for the test pairs; None for runs that have none, such as older ones.

    Returns:
        The arrays that `digitpairs.engines.predictions.predictions_file` describes.
    """
    path = folder / files.PREDICTIONS
    if not path.exists():
        return None
    return _read_arrays(path, PREDICTION_ARRAYS, check_predictions)


def _read_arrays(
    path: Path, names: Sequence[str], check: Callable[[Mapping[str, np.ndarray]], None]
) -> dict[str, np.ndarray]:
    """The named arrays of an archive that has no others, checked."""
    content = io.BytesIO(files.read_bytes(path))
    try:
        if sum(entry.file_size for entry in zipfile.ZipFile(content).infolist()) > files.LARGE:
            raise DamagedFileError(path, f"it unpacks to more than {files.LARGE >> 20} MiB")
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names if name in file or name not in OPTIONAL}
    except _ARCHIVE_ERRORS as error:
        raise DamagedFileError(path, error) from None
    with raise_as_damaged(path):
        check(arrays)
    return arrays


def read_config(folder: Path) -> dict[str, Any]:
    """The resolved config."""
    path = folder / files.CONFIG
    content = files.read_text(path, files.SMALL)
    try:
        # With aliases a few lines can describe billions of settings.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, _LOADER)):
            raise DamagedFileError(path, "it has aliases")
        config = yaml.load(content, _LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DamagedFileError(path, " ".join(str(error).split())) from None
    with raise_as_damaged(path):
        check_config(config)
    return config


@contextlib.contextmanager
def raise_as_damaged(path: Path, where: str = "") -> Iterator[None]:
    """Raise DamagedFileError for an InvalidValueError; `where` names the place within the file."""
    try:
        yield
    except InvalidValueError as error:
        # Both come from the file, and `reprlib` shortens them.
        key, value = reprlib.repr(error.key)[1:-1], reprlib.repr(error.value)
        raise DamagedFileError(path, f"{where}{key} is {value}, not {error.accepted}") from None


def origin_of(record: Record) -> Origin | None:
    """How the config of a result or failure was composed; older ones do not say it."""
    if "choices" not in record or "overrides" not in record:
        return None
    return Origin(record["choices"], record["overrides"])


def check_result(result: Any) -> None:
    """Raise InvalidValueError, with the entry, for a value that is not a result."""
    _check_entries("the result", result, _RESULT, _OPTIONAL)
    metrics = {name: value for name, value in result.items() if "/" in name}
    if not any(name in metrics for name in TEST_ERRORS):
        accepted = f"one with the entry {' or '.join(TEST_ERRORS)}"
        raise InvalidValueError("the result", result, accepted)
    for name, value in metrics.items():
        is_per_cent = name.endswith("error")
        number(name, value, 0 if is_per_cent else None, 100 if is_per_cent else None)


def check_failure(failure: Any) -> None:
    """Raise InvalidValueError for a value that is not a failure."""
    _check_entries("the failure", failure, {"fingerprint": one_line, "reason": text}, _ORIGIN)


def check_pause(pause: Any) -> None:
    """Raise InvalidValueError for a value that is not a pause."""
    required: dict[str, Check] = {"fingerprint": one_line, "epochs": integer, "seconds": number}
    _check_entries("the pause", pause, required, _ORIGIN)


def check_history(history: Any) -> None:
    """Raise InvalidValueError unless it maps each metric to equally many numbers.

    An epoch without the metric has None.
    """
    lists = list(_mapping("the history", history).values())
    for name, values in history.items():
        if not isinstance(values, list) or len(values) != len(lists[0]):
            raise InvalidValueError(name, values, "a list of one number an epoch")
        for value in values:
            if not isinstance(value, float):  # a diverged epoch has nan and inf
                _optional(_any_number)(name, value)


def check_confusion(confusion: Any) -> None:
    """Raise InvalidValueError unless it is None, or for each image counts by digit and answer."""
    if confusion is not None:
        _check_entries("the confusion", confusion, dict.fromkeys(("digit1", "digit2"), _counts))


def check_boundary(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise InvalidValueError unless the arrays are numbers with the shapes of `read_boundary`."""
    epochs, points = (_length(arrays[name]) for name in ("epochs", "points"))
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


def check_predictions(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise InvalidValueError unless the arrays are numbers with the shapes of a run's file."""
    pairs, wrong = (_length(arrays[name]) for name in ("comparison", "wrong"))
    shapes: dict[str, list[tuple[int, ...]]] = {
        "comparison": [(pairs, 1), (pairs, 2)],
        "digits": [(pairs, 2)],
        "digit_logits": [(pairs, 2, DIGITS)],
        "calibrated_comparison": [arrays["comparison"].shape],
        "calibrated_digit_logits": [(pairs, 2, DIGITS)],
        "wrong": [(wrong,)],
        "images": [(wrong, 2, *arrays["images"].shape[2:])],
    }
    for name, array in arrays.items():
        if array.shape not in shapes[name] or array.dtype.kind not in "iuf":
            accepted = " or ".join(map(str, shapes[name]))
            raise InvalidValueError(name, array, f"numbers of shape {accepted}")
    if wrong and not 0 <= arrays["wrong"].min() <= arrays["wrong"].max() < pairs:
        raise InvalidValueError("wrong", arrays["wrong"], f"rows below {pairs}")


def check_config(config: Any) -> None:
    """Raise InvalidValueError for a value that is not a run's config."""
    _check_entries("the config", config, dict.fromkeys(("data", "model"), _mapping))
    _check_nesting(config)


def text(key: str, value: Any) -> str:
    """Return `value` if it is text, or raise InvalidValueError."""
    if not isinstance(value, str):
        raise InvalidValueError(key, value, "text")
    return value


def one_line(key: str, value: Any) -> str:
    """Return `value` if it is one printable line of text, or raise InvalidValueError."""
    if not text(key, value).isprintable():
        raise InvalidValueError(key, value, "printable text of one line")
    return value


def _read_record(path: Path, check: Callable[[Any], None]) -> dict[str, Any] | None:
    """Read and check a JSON object; None for a missing file."""
    record = files.read_json(path)
    if record is not None:
        with raise_as_damaged(path):
            check(record)
    return record


def _check_entries(
    key: str,
    record: Any,
    required: Mapping[str, Check],
    optional: Mapping[str, Check] | None = None,
) -> None:
    """Check that it is a mapping with these entries; others are not checked."""
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


def _check_nesting(value: Any, depth: int = 0) -> None:
    """Check that mappings have text as keys, and that the nesting is limited."""
    if depth > MAX_DEPTH:
        raise InvalidValueError("the config", value, f"nested at most {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        value = list(_mapping("the config", value).values())
    if isinstance(value, list):
        for item in value:
            _check_nesting(item, depth + 1)


def _length(array: np.ndarray) -> int:
    return len(array) if array.ndim else 0


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


def _choices(key: str, value: Any) -> None:
    for group, choice in _mapping(key, value).items():
        one_line(f"{key}.{group}", choice)


def _lines(key: str, value: Any) -> None:
    for line in _list(key, value):
        one_line(key, line)


def _optional(check: Check) -> Check:
    return lambda key, value: None if value is None else check(key, value)


_any_number = functools.partial(number, at_least=None)

_ORIGIN: dict[str, Check] = {"choices": _choices, "overrides": _lines}
_RESULT: dict[str, Check] = {
    "seed": integer,
    "fingerprint": one_line,
    "source": one_line,
    "seconds": number,
    "versions": _versions,
}
_OPTIONAL: dict[str, Check] = {
    **_ORIGIN,
    **dict.fromkeys(("epochs", "best_epoch", "parameters", "array_size", "threads"), integer),
    **dict.fromkeys(("commit", "processor"), _optional(one_line)),
    "cores": _optional(integer),
    files.FILES: check_inventory,
}
