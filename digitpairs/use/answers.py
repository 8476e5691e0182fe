"""Comparisons of image files, as a table, CSV, JSON or a picture of what the network sees."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from digitpairs.checks import InvalidValueError
from digitpairs.use.comparer import Comparer, Comparison
from digitpairs.use.images import as_images

ENLARGEMENT = 8  # of a pixel in the picture
_GAP = 8  # between the images of the picture, in pixels of the picture
_GAP_LEVEL = 96


def compare_files(
    comparer: Comparer, pairs: Sequence[tuple[Path, Path]], reading: str = "auto"
) -> Comparison:
    """The answers for pairs of image files; each file is read once. Raises as `compare` does."""
    paths = list(dict.fromkeys(path for pair in pairs for path in pair))
    images = as_images(paths, reading, "images")
    rows = {path: row for row, path in enumerate(paths)}
    indices = torch.tensor([[rows[first], rows[second]] for first, second in pairs])
    return comparer.compare_images(images[indices])


def write(
    pairs: Sequence[tuple[Path, Path]], comparison: Comparison, kind: str | None, console: Console
) -> None:
    """Print the answers as "json" or "csv"; None is a table."""
    if kind is None:
        console.print(_table(pairs, comparison))
        return
    records = [_record(pair, comparison, row) for row, pair in enumerate(pairs)]
    if kind == "json":
        console.file.write(json.dumps(records, indent=2, ensure_ascii=False) + "\n")
        return
    flat = [_flat(record) for record in records]
    table = csv.DictWriter(console.file, flat[0], lineterminator="\n")
    table.writeheader()
    table.writerows(flat)


def write_seen(comparison: Comparison, path: Path) -> None:
    """Write what the network sees as a picture: a row for each pair, pixels enlarged."""
    levels = np.rint(255 * comparison.images).astype(np.uint8)  # (n, 2, 14, 14)
    large = levels.repeat(ENLARGEMENT, 2).repeat(ENLARGEMENT, 3)
    gaps = ((0, 0), (0, 0), (0, _GAP), (0, _GAP))
    framed = np.pad(large, gaps, constant_values=_GAP_LEVEL)
    picture = np.concatenate(np.concatenate(framed.transpose(1, 0, 2, 3), axis=2))
    picture = np.pad(picture, ((_GAP, 0), (_GAP, 0)), constant_values=_GAP_LEVEL)
    try:
        Image.fromarray(picture).save(path, "png")
    except OSError as fault:
        accepted = f"a file that can be written ({fault.strerror})"
        raise InvalidValueError("--show", str(path), accepted) from fault


def _record(pair: tuple[Path, Path], comparison: Comparison, row: int) -> dict[str, Any]:
    """The answer for a pair as plain values."""
    record: dict[str, Any] = {"first": str(pair[0]), "second": str(pair[1])}
    record["less_or_equal"] = bool(comparison.less_or_equal[row])
    record["probability"] = float(comparison.probability[row])
    digits, probabilities = comparison.digits, comparison.digit_probabilities
    if digits is not None and probabilities is not None:
        record["digits"] = digits[row].tolist()
        record["digit_probabilities"] = probabilities[row].tolist()
    if len(comparison.names) > 1:
        by_seed = comparison.probability_by_seed[:, row].tolist()
        record["probability_by_seed"] = dict(zip(comparison.names, by_seed))
    return record


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """The record as a row of a CSV file."""
    row = {key: value for key, value in record.items() if not isinstance(value, (list, dict))}
    for place, digit in enumerate(record.get("digits", ())):
        name = ("first", "second")[place]
        row[f"{name}_digit"] = digit
        row[f"{name}_digit_probability"] = record["digit_probabilities"][place][digit]
    return row | {
        f"probability_{name}": value
        for name, value in record.get("probability_by_seed", {}).items()
    }


def _table(pairs: Sequence[tuple[Path, Path]], comparison: Comparison) -> Table:
    count = len(comparison.names)
    mean = f", mean of {count} seeds" if count > 1 else ""
    table = Table(box=box.SIMPLE_HEAD, caption=f"P: probability of first <= second{mean}")
    names = _short_names([path for pair in pairs for path in pair])
    rows = [
        _cells((names[first], names[second]), comparison, row)
        for row, (first, second) in enumerate(pairs)
    ]
    for name in rows[0]:
        is_path = name in ("first", "second")
        table.add_column(name, overflow="fold" if is_path else "ellipsis", no_wrap=not is_path)
    for cells in rows:
        table.add_row(*map(Text, cells.values()))  # no markup: brackets are part of names
    return table


def probability_text(probability: float) -> str:
    """Four decimals; a probability that rounds to 0 or 1 is said to be below or above the next."""
    if probability < 0.00005:
        return "< 0.0001"
    return "> 0.9999" if probability >= 0.99995 else f"{probability:.4f}"


def _short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """The paths from their common folder."""
    common = os.path.commonpath([os.path.abspath(path.parent) for path in paths])
    return {path: os.path.relpath(path, common) for path in paths}


def _cells(names: tuple[str, str], comparison: Comparison, row: int) -> dict[str, str]:
    """The answer for a pair as a row of the table."""
    answer = bool(comparison.less_or_equal[row])
    cells = {"first": names[0], "": "<=" if answer else ">", "second": names[1]}
    digits, probabilities = comparison.digits, comparison.digit_probabilities
    if digits is not None and probabilities is not None:
        for place, digit in enumerate(digits[row]):
            share = 100 * probabilities[row, place, digit]
            cells[f"digit {place + 1}"] = f"{digit} ({share:.1f} %)"
    cells["P"] = probability_text(float(comparison.probability[row]))
    seeds = comparison.probability_by_seed[:, row] > 0.5
    if len(seeds) > 1:
        cells["seeds"] = f"{np.count_nonzero(seeds == answer)} of {len(seeds)}"
    return cells
