"""A run's files. Whatever counts as a result is written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

CONFIG, METRICS, CHECKPOINT, RESULT, FAILURE = "config.yaml", "metrics.csv", "checkpoint.ckpt", "result.json", "failure.json"

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # in C, where PyYAML was built with it


def write_whole(path: Path, content: str) -> None:
    """The content at the path, on disk, or (after a crash at any moment) what was there before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """The resolved config as yaml."""
    write_whole(folder / CONFIG, yaml.dump(config, Dumper=_DUMPER, sort_keys=False))


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


def finished_runs(sweep: Path) -> Iterator[Path]:
    """The folders below the sweep's that hold a result or a failure."""
    for folder in sorted(sweep.glob("*/seed=*")):
        if (folder / RESULT).exists() or (folder / FAILURE).exists():
            yield folder
