"""One self-contained HTML file about any sweeps: tables, plots, settings and provenance.

The plots are static SVG by matplotlib: they print, need no script and no network, and take their
colours from the page, so that they follow the reader's light or dark theme. An interactive library
would add megabytes of script to each page, and show no number that the tables do not have.
"""

from __future__ import annotations

import base64
import html
import io
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import MaxNLocator

from digitpairs import files
from digitpairs.analysis import groups
from digitpairs.analysis.calibration import Answers, answers_by_group, joined, reliability
from digitpairs.analysis.drawing import literal
from digitpairs.analysis.frames import TEST_SET, Runs
from digitpairs.analysis.tables import FOLDED, TEXT, Section, setting, shown
from digitpairs.dashboard.pictures import Picture, best_and_median, pictures_of

MAX_DRAWN = 40  # groups in a plot; more cannot be told apart
MAX_CURVES = 8
MARKERS = "osD^vP*X"
STYLE = """
:root { color-scheme: light dark; --fg: #1b1f24; --bg: #fff; --line: #c9d1d9; --soft: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --fg: #e3e8ee; --bg: #14181d; --line: #3b444d; --soft: #1e242b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 1.2rem; color: var(--fg);
       background: var(--bg); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
         white-space: nowrap; }
th { background: var(--soft); position: sticky; top: 0; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.text { text-align: left; white-space: normal; overflow-wrap: break-word; min-width: 11rem; }
.word { text-align: left; }
figure { margin: 1rem 0; overflow-x: auto; }
figure svg { max-width: 100%; min-width: 36rem; height: auto; color: var(--fg); }
.picture img { max-width: 100%; height: auto; border-radius: 4px; }
figcaption, .note { font-size: .88rem; opacity: .85; }
pre { background: var(--soft); padding: .7rem; overflow-x: auto; }
@media print {
  body { max-width: none; } th { position: static; }
  figure, tr { break-inside: avoid; } figure svg { min-width: 0; }
}
"""
SORT = """
document.querySelectorAll('th button').forEach(button => button.addEventListener('click', () => {
  const head = button.closest('th'), body = head.closest('table').tBodies[0];
  const place = [...head.parentNode.children].indexOf(head);
  const up = head.getAttribute('aria-sort') !== 'ascending';
  head.parentNode.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const key = row => row.children[place].dataset.value ?? row.children[place].textContent;
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)], numbers = x !== '' && y !== '' && !isNaN(x) && !isNaN(y);
    return (up ? 1 : -1) * (numbers ? x - y : x.localeCompare(y));
  });
  body.append(...rows);
}));
"""


def write_page(runs: Runs, sections: Sequence[Section], path: Path, name: str) -> None:
    """Write the page about the runs to the file, whole or not at all.

    Args:
        runs: the runs.
        sections: their tables (see `sections_of`).
        path: of the page.
        name: the metric.
    """
    tables = {section.name: section for section in sections}
    parts = [_table(tables["groups"]), _figure(*_group_plot(tables["groups"].frame, name))]
    if "comparisons" in tables:
        parts += [_table(tables["comparisons"]), _figure(*_difference_plot(tables["comparisons"]))]
    if "effects" in tables:
        parts += [_table(tables["effects"]), *_heat_maps(runs, name)]
    parts += _curves(runs, name)
    if "failures" in tables:
        parts.append(_table(tables["failures"]))
    if "calibration" in tables:
        best = tables["groups"].frame["group"].iloc[0]
        answers = answers_by_group(runs).get(best, {})
        parts += [_table(tables["calibration"]), *_reliability_diagrams(best, answers)]
    parts += [*_mistakes(runs, tables["groups"].frame), _settings(runs), _provenance(runs)]
    files.write_atomically(path, _document(f"{name}: {len(runs.runs)} runs", parts))


def _document(title: str, parts: Iterable[str]) -> str:
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><h1>{name}</h1>{''.join(parts)}"
        f"<script>{SORT}</script></body></html>"
    )


def _table(section: Section) -> str:
    """A table whose columns are sorted by a click on their heads."""
    texts = shown(section.frame)
    heads = "".join(
        f"<th{_class(column)}><button>{html.escape(str(column))}</button></th>"
        for column in texts.columns
    )
    rows = "".join(f"<tr>{_cells(row, texts.columns)}</tr>" for row in texts.to_numpy().tolist())
    note = f'<p class="note">{html.escape(section.note)}</p>' if section.note else ""
    return (
        f"<h2>{html.escape(section.title)}</h2>"
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        f"</div>{note}"
    )


def _cells(row: Sequence[str], columns: Iterable[Any]) -> str:
    return "".join(
        f'<td{_class(column)} data-value="{html.escape(_sort_key(cell))}">{html.escape(cell)}</td>'
        for cell, column in zip(row, columns, strict=True)
    )


def _class(column: Any) -> str:
    if column in (*FOLDED, "config"):
        return ' class="text"'
    return ' class="word"' if column in TEXT else ""


def _sort_key(cell: str) -> str:
    """The number at the start of a cell, or its text."""
    number = re.match(r"-?\d+(\.\d+)?", cell)
    return number[0] if number else cell


def _figure(figure: plt.Figure, description: str) -> str:
    """An SVG whose black is the page's text colour."""
    content = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(
            content, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None}
        )
    plt.close(figure)
    text = html.escape(description)
    svg = content.getvalue()[content.getvalue().index("<svg") :]
    svg = re.sub(r"#000000\b", "currentColor", svg).replace(
        "<svg ", f'<svg role="img" aria-label="{text}" ', 1
    )
    svg = svg.replace("<text ", '<text fill="currentColor" ')
    return f"<figure>{svg}<figcaption>{text}</figcaption></figure>"


def _plot(rows: int = 1) -> tuple[plt.Figure, plt.Axes]:
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.32 * max(rows, 4)))
    axes.grid(alpha=0.3)
    return figure, axes


def _group_plot(frame: pd.DataFrame, metric: str) -> tuple[plt.Figure, str]:
    some = frame[frame["n"] > 0].head(MAX_DRAWN).iloc[::-1]
    figure, axes = _plot(len(some))
    places = range(len(some))
    low, high = (some["mean"] - some["low"]).abs(), (some["high"] - some["mean"]).abs()
    axes.errorbar(some["mean"], places, xerr=[low, high], fmt="o", color="tab:blue", capsize=3)
    axes.plot(some["best"], places, "|", color="black", alpha=0.6)
    axes.plot(some["worst"], places, "|", color="black", alpha=0.6)
    axes.set_yticks(places, [literal(name) for name in some["group"]])
    axes.set_xlabel(groups.with_unit(metric))
    more = f" (the best {MAX_DRAWN} configs)" if len(frame) > MAX_DRAWN else ""
    return figure, f"Mean with 95 % interval of each config; bars: best and worst seed{more}"


def _difference_plot(section: Section) -> tuple[plt.Figure, str]:
    some = section.frame.head(MAX_DRAWN).iloc[::-1]
    figure, axes = _plot(len(some))
    places = range(len(some))
    low, high = some["difference"] - some["low"], some["high"] - some["difference"]
    axes.errorbar(
        some["difference"], places, xerr=[low.abs(), high.abs()], fmt="o", color="tab:blue"
    )
    axes.axvline(0, color="black", linewidth=1)
    labels = [f"{first}  −  {second}" for first, second in zip(some["first"], some["second"])]
    axes.set_yticks(places, [literal(label) for label in labels])
    axes.set_xlabel("difference")
    return figure, "Paired differences with 95 % intervals; left of 0 the first config is better"


def _heat_maps(runs: Runs, metric: str) -> list[str]:
    """A heat map of the first two factors, if there is one test set."""
    if len(runs.runs[TEST_SET].dropna().drop_duplicates()) > 1:
        return []
    first, second = groups.factors(runs)[:2]
    table = groups.heat_map(runs, first, second, metric)
    figure, axes = plt.subplots(figsize=(1.5 + len(table.columns), 1.2 + 0.45 * len(table)))
    image = axes.imshow(table, cmap="viridis_r", aspect="auto")
    columns = [literal(setting(value)) for value in table.columns]
    axes.set_xticks(range(len(columns)), columns, rotation=30 if max(map(len, columns)) > 8 else 0)
    axes.set_yticks(range(len(table)), [literal(setting(value)) for value in table.index])
    axes.set_xlabel(second)
    axes.set_ylabel(first)
    middle = (table.max().max() + table.min().min()) / 2
    for (row, column), value in zip(_places(table), table.to_numpy().ravel(), strict=True):
        color = "white" if value > middle else "#111111"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
    figure.colorbar(image, ax=axes, label=groups.with_unit(metric))
    return [_figure(figure, f"Mean of {metric} by {first} and {second}")]


def _places(table: pd.DataFrame) -> list[tuple[int, int]]:
    return [(row, column) for row in range(len(table)) for column in range(len(table.columns))]


def _curves(runs: Runs, metric: str) -> list[str]:
    """Learning curves of the error by epoch, with bands of one standard deviation."""
    ending = metric.partition("/")[2]
    measured = [name for name in (f"validation/{ending}", f"train/{ending}") if name in runs.curves]
    if not measured:
        return []
    table = groups.by_epoch(runs, measured[0])
    order = list(groups.summarise(runs, metric)["group"])[:MAX_CURVES]
    figure, axes = _plot(12)
    for place, name in enumerate(order):
        part = table[table["group"] == name]
        spread = part["std"].fillna(0)
        (line,) = axes.plot(
            part["epoch"],
            part["mean"],
            label=literal(name),
            marker=MARKERS[place % len(MARKERS)],
            markevery=max(1, len(part) // 8),
        )
        low, high = part["mean"] - spread, part["mean"] + spread
        axes.fill_between(part["epoch"], low, high, alpha=0.15, color=line.get_color())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(groups.with_unit(measured[0]))
    axes.legend(frameon=False)
    text = f"{measured[0]} by epoch: mean and standard deviation over the seeds of each config"
    return ["<h2>Learning curves</h2>", _figure(figure, text)]


def _reliability_diagrams(group: str, kinds: Mapping[str, list[Answers]]) -> list[str]:
    """Accuracy against confidence of each kind of answers of a group."""
    if not kinds:
        return []
    figure, panels = plt.subplots(1, len(kinds), figsize=(4.2 * len(kinds), 3.8), squeeze=False)
    for axes, (kind, seeds) in zip(panels[0], kinds.items(), strict=True):
        table = reliability(joined(seeds))
        axes.plot([0, 100], [0, 100], color="black", linewidth=1, linestyle="--")
        axes.plot(table["confidence"], table["accuracy"], "o-", color="tab:blue")
        axes.set_title(kind)
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("right, %")
        axes.grid(alpha=0.3)
    figure.tight_layout()
    text = f"Reliability of {group}: share of right answers by confidence; dashed: as it should be"
    return [_figure(figure, text)]


def _mistakes(runs: Runs, ranked: pd.DataFrame) -> list[str]:
    """The wrong pairs and the confusion of the best config's best and median seed."""
    finished = runs.runs[runs.runs["failure"].isna()]
    group = ranked["group"].iloc[0]
    results = {
        Path(finished["folder"][number]): run.result
        for number in finished.index[finished["group"] == group]
        if (run := runs.run(number)) is not None
    }
    parts = []
    for rank, folder in best_and_median(results).items():
        try:
            pictures = {name: picture for name, _, picture in pictures_of(folder)}
        except files.DamagedFileError as damage:
            parts.append(f'<p class="note">{html.escape(str(damage))}</p>')
            continue
        seed = results[folder]["seed"]
        parts += [
            _image(picture, f"{name.capitalize()} of the {rank} seed ({seed}) of {group}")
            for name, picture in pictures.items()
        ]
    return ["<h2>What is wrong</h2>", *parts] if parts else []


def _image(picture: Picture, caption: str) -> str:
    data = base64.b64encode(picture.png()).decode()
    text = html.escape(f"{caption}. {picture.text}", quote=True)
    return (
        f'<figure class="picture"><img src="data:image/png;base64,{data}" alt="{text}" '
        f'width="{picture.image.width}"><figcaption>{html.escape(caption)}</figcaption></figure>'
    )


def _settings(runs: Runs) -> str:
    """What differs between the configs."""
    if not runs.settings:
        return ""
    table = runs.runs[["group", *runs.settings]].drop_duplicates("group")
    table[runs.settings] = table[runs.settings].map(setting)
    return _table(Section("settings", "Settings that differ", table))


def _provenance(runs: Runs) -> str:
    columns = ("commit", "processor", "cores", "threads", "engine")
    frame = runs.runs
    lines = [
        f"{name}: {', '.join(sorted(map(str, frame[name].dropna().unique())))}"
        for name in columns
        if name in frame
    ]
    finished = [run for run in map(runs.run, range(len(frame))) if run is not None]
    versions = [run.result["versions"] for run in finished]
    different = {key: sorted({each[key] for each in versions}) for key in versions[0]}
    lines += [f"{key}: {', '.join(values)}" for key, values in different.items()]
    folders = sorted({str(Path(folder).parent) for folder in frame["folder"]})
    command = shlex.join(["python", "-m", "digitpairs.analysis", *sys.argv[1:]])
    text = "\n".join([*lines, "", "made by: " + command, "", *folders])
    return f"<h2>Provenance</h2><pre>{html.escape(text)}</pre>"
