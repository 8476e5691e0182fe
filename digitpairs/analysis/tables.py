"""Tables for the terminal, in Markdown, as CSV, LaTeX or JSON; the numbers in them as text.

Statistics of sweeps come as data frames. The reports' pages give heads and rows of text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

FORMATS = ("table", "csv", "markdown", "latex", "json")
DIFFERENCE = "first minus second"
TEXT = (
    DIFFERENCE,
    "group",
    "first",
    "second",
    "factor",
    "value",
    "source",
    "verdict",
    "reason",
    "folder",
)
FOLDED = (
    DIFFERENCE,
    "group",
    "first",
    "second",
    "reason",
    "folder",
)  # on several lines where it is narrow


# Columns that a narrow terminal does not get, the first to go first.
DISPENSABLE = ("p_better", "d_z", "p", "seconds", "seeds_needed", "best", "worst", "std")


class Section(NamedTuple):
    """A table with its name, and what a reader should know of it."""

    name: str
    title: str
    frame: pd.DataFrame
    note: str = ""


def write(sections: Sequence[Section], kind: str, console: Console) -> None:
    """Print the sections in one of FORMATS; numbers in CSV and JSON are not rounded."""
    if kind == "table":
        for section in sections:
            _print_table(section, console)
        return
    console.file.write(_TEXTS[kind](sections) + "\n")


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as rounded texts, with an interval in one column and a seed beside its value."""
    table = frame.copy()
    if {"low", "high"} <= set(table):
        table["low"] = [interval(*ends) for ends in zip(table["low"], table["high"], strict=True)]
        table = table.drop(columns="high").rename(columns={"low": "95 % CI"})
    for end in ("best", "worst"):
        seeds = table.pop(f"{end}_seed") if f"{end}_seed" in table else None
        if end in table and seeds is not None:
            pairs = zip(table[end], seeds, strict=True)
            table[end] = [_with_seed(value, seed) for value, seed in pairs]
    for column in table.columns:
        table[column] = table[column].map(_FORMATS.get(str(column), _cell))
    return table.rename(columns=_HEADS)


def interval(low: float, high: float) -> str:
    """The ends of an interval in words."""
    return "-" if math.isnan(low) else f"{low:.2f} to {high:.2f}"


def _with_seed(value: float, seed: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f} ({seed:.0f})"


def number(value: float) -> str:
    """With two decimals; with two significant digits below 0.1, where losses are; "-" for nan."""
    if math.isnan(value):
        return "-"
    is_small = 0.001 <= abs(value) < 0.0995
    return f"{value:.2g}" if is_small else f"{value + 0.0:.2f}"  # no sign of -0.0


def signed(value: float) -> str:
    """A number with its sign; "-" for nan."""
    text = number(value)
    return text if text.startswith("-") else f"+{text}"


def _cell(value: Any) -> str:
    """A float as a number, other values as they are, a dash for none."""
    if value is None:
        return "-"
    return number(value) if isinstance(value, float) else str(value)


def _whole(value: Any) -> str:
    if math.isnan(value):
        return "-"
    return "over 78,000" if math.isinf(value) else f"{value:.0f}"


def p_value(value: float) -> str:
    """A p value with four decimals."""
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def setting(value: Any) -> str:
    """A setting's value; whole numbers, which pandas keeps as floats, without a point."""
    if value is None or value != value:  # nan is unequal to itself
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


_FORMATS: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("n", "failed", "seconds", "test_examples", "epoch", "seeds_needed"), _whole),
    **dict.fromkeys(("p", "p_holm"), p_value),
    "value": setting,
}
_HEADS = {
    "group": "config",
    "test_examples": "test",
    "p_holm": "p (Holm)",
    "p_better": "P(better)",
    "seeds_needed": "seeds needed",
    "seconds": "s",
    "calibration_error": "calibration error",
    "by_seed": "by seed",
}


def _print_table(section: Section, console: Console) -> None:
    """Print the table; a narrow terminal gets the least important columns left out."""
    for frame in _narrower(section.frame):
        table = _rich_table(section._replace(frame=frame))
        needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        if needed <= console.width:
            break
    console.print(table)


def _narrower(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The frame, and then with fewer and fewer columns."""
    yield frame
    for column in DISPENSABLE:
        if column in frame:
            frame = frame.drop(columns=column)
            yield frame
    if "second" in frame:
        both = [f"{one}\nminus {other}" for one, other in zip(frame["first"], frame["second"])]
        yield frame.drop(columns="second").assign(first=both).rename(columns={"first": DIFFERENCE})


def _rich_table(section: Section) -> Table:
    table = Table(
        title=Text(section.title, style="table.title"),  # no markup: brackets are part of names
        caption=section.note or None,
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
    )
    texts = shown(section.frame)
    for column, original in zip(texts.columns, _columns(section.frame), strict=True):
        is_text = original in TEXT
        table.add_column(
            str(column),
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=original not in FOLDED,
        )
    for row in texts.itertuples(index=False):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _columns(frame: pd.DataFrame) -> list[str]:
    """The frame's columns that `shown` keeps."""
    dropped = {"high", "best_seed", "worst_seed"}
    return [str(column) for column in frame.columns if column not in dropped]


def _csv(sections: Sequence[Section]) -> str:
    return "\n".join(section.frame.to_csv(index=False) for section in sections).rstrip("\n")


def _markdown(sections: Sequence[Section]) -> str:
    return "\n\n".join(f"## {each.title}\n\n{_markdown_table(each)}" for each in sections)


def _markdown_table(section: Section) -> str:
    texts = shown(section.frame)
    right = [name not in TEXT for name in _columns(section.frame)]
    table = markdown_table(list(map(str, texts.columns)), texts.to_numpy().tolist(), right)
    return f"{table}\n\n{section.note}" if section.note else table


def markdown_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool] = ()
) -> str:
    """A Markdown table whose columns are padded to equal widths.

    `right` says of each column whether its text is aligned to the right; by default none is.
    """
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (heads, *rows)]
    columns = [
        _padded(column, is_right)
        for column, is_right in zip(zip(*lines), right or [False] * len(heads), strict=True)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns))


def _padded(column: Sequence[str], is_right: bool) -> list[str]:
    """The cells of a column in equal width, with the line that follows the head."""
    width = max(1 + is_right, *map(len, column))
    head, *cells = [cell.rjust(width) if is_right else cell.ljust(width) for cell in column]
    return [head, "-" * (width - is_right) + ":" * is_right, *cells]


def _latex(sections: Sequence[Section]) -> str:
    return "\n\n".join(_latex_table(section) for section in sections)


def _latex_table(section: Section) -> str:
    """A table for LaTeX's package booktabs."""
    aligned = "".join("l" if name in TEXT else "r" for name in _columns(section.frame))
    texts = shown(section.frame)
    lines = [_latex_row(map(str, texts.columns)), r"\midrule"]
    lines += [_latex_row(row) for row in texts.itertuples(index=False)]
    body = "\n".join([rf"\begin{{tabular}}{{{aligned}}}", r"\toprule", *lines, r"\bottomrule"])
    return f"% {section.title}\n{body}\n\\end{{tabular}}"


def _latex_row(cells: Any) -> str:
    return " & ".join(_escaped(cell) for cell in cells) + r" \\"


def _escaped(text: str) -> str:
    special = {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    return "".join(special.get(character, character) for character in text)


def _json(sections: Sequence[Section]) -> str:
    frames = {each.name: json.loads(each.frame.to_json(orient="records")) for each in sections}
    return json.dumps(frames, indent=2, ensure_ascii=False)


_TEXTS: dict[str, Callable[[Sequence[Section]], str]] = {
    "csv": _csv,
    "markdown": _markdown,
    "latex": _latex,
    "json": _json,
}
