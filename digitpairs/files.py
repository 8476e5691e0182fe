"""A run's files. Whatever counts as a result is written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from digitpairs.checks import DataError

CONFIG, METRICS, CHECKPOINT, RESULT, FAILURE = "config.yaml", "metrics.csv", "checkpoint.ckpt", "result.json", "failure.json"
CONFUSION = "confusion.json"  # rows digits, columns answers, counts of test images

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # in C, where PyYAML was built with it


def write_whole(path: Path, content: str | bytes) -> None:
    """The content at the path, on disk, or (after a crash at any moment) what was there before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
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
    (folder / CONFIG).write_text(yaml.dump(config, Dumper=_DUMPER, sort_keys=False), encoding="utf-8")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """The value as readable JSON."""
    write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_metrics(folder: Path, history: Sequence[dict[str, float]]) -> None:
    """A line an epoch, a column a metric."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in history for name in row))
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    write_whole(folder / METRICS, text.getvalue())


def read_json(path: Path) -> dict[str, Any] | None:
    """The file's content, or None if there is no such file. DataError where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:  # no JSON, or no text
        raise DataError(f"{path} is damaged ({error}): delete the run's folder, and run the same command again") from None
