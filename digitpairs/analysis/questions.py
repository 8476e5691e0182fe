"""One page for all reports: the questions that several of them ask, answered by all our runs.

A claim of a report with the key `question` is a comparison of that question. Each question has a
forest plot: the mean difference by seed of each network, with its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digitpairs import files
from digitpairs.analysis.claims import paired_values
from digitpairs.analysis.drawing import plt, save
from digitpairs.analysis.report_tables import p_text
from digitpairs.analysis.reports import QUESTIONS, Claim, Report
from digitpairs.analysis.results import Results
from digitpairs.analysis.statistics import ALPHA, ENOUGH, Comparison, compare, holm, sign_flip
from digitpairs.analysis.tables import markdown_table, signed

PAGE = "questions"
HEADS = ["report", "network", "n", "difference [95 % interval]", "p (Holm)", "verdict"]
INTRODUCTION = (
    "The reports ask some questions in common. Each is answered here by the runs of all reports: a"
    " row compares two configurations that differ in this alone, seed by seed, by the test error"
    " of the comparison unless the row says otherwise. Negative is better. Intervals are BCa"
    " bootstrap intervals, expanded for few seeds and so a little wider than on the reports' pages."
    " p is of a two-sided sign-flip test; it is adjusted over the question (Holm), intervals are"
    " not. Runs are missing where a report has no archive yet."
)


class _Row(NamedTuple):
    report: str
    network: str
    comparison: Comparison
    p: float


def write_questions(reports: Mapping[str, Report], results: Results, folder: Path) -> str:
    """Write `questions.md` and its plots into the folder; returns the page's text."""
    parts = ["# What the reports ask in common", INTRODUCTION]
    for key, question in QUESTIONS.items():
        rows = list(_rows(reports, results, key))
        name = f"{PAGE}-{key.replace('_', '-')}.png"
        parts += [f"## {question.title}", *filter(None, [question.note])]
        measured = [row for row in rows if row.comparison.n]
        if measured:
            save(_forest(measured, question.contrast), folder / name, dpi=90)
            parts += [_answer(measured, question.contrast), f"![{question.contrast}]({name})"]
        parts.append(markdown_table(HEADS, [_cells(row) for row in rows]))
    text = "\n\n".join(parts) + "\n"
    files.write_atomically(folder / f"{PAGE}.md", text)
    return text


def _rows(reports: Mapping[str, Report], results: Results, key: str) -> Iterator[_Row]:
    """The comparisons of a question; p is adjusted over them."""
    claims = [
        (name, claim)
        for name, report in reports.items()
        for claim in (*report.claims, *report.comparisons)
        if claim.question == key
    ]
    differences = [_difference(results, claim) for _, claim in claims]
    adjusted = holm([sign_flip(difference) for difference in differences])
    for (name, claim), difference, p in zip(claims, differences, adjusted):
        comparison = compare(list(difference), [0.0] * len(difference))
        yield _Row(name, claim.network, comparison, p)


def _difference(results: Results, claim: Claim) -> np.ndarray:
    first, second = paired_values(results, claim)
    difference = np.subtract(first, second)
    return -difference if claim.reversed else difference


def _verdict(row: _Row) -> str:
    if row.comparison.n < ENOUGH or row.p > ALPHA:
        return "not decided"
    return "better" if row.comparison.difference < 0 else "worse"


def _answer(rows: Sequence[_Row], contrast: str) -> str:
    """How many comparisons are decided, and how large the differences are."""
    verdicts = [_verdict(row) for row in rows]
    differences = [row.comparison.difference for row in rows]
    counts = (
        f"in {verdicts.count('better')} of {len(rows)} comparisons the former is better, in"
        f" {verdicts.count('worse')} worse, and {verdicts.count('not decided')} are not decided"
    )
    return (
        f"**{contrast[0].upper()}{contrast[1:]}:** {counts}; the mean differences are from"
        f" {signed(min(differences))} to {signed(max(differences))} points."
    )


def _cells(row: _Row) -> list[str]:
    comparison = row.comparison
    low, high = map(signed, comparison.interval)
    figures = [f"{signed(comparison.difference)} [{low}, {high}]", p_text(row.p), _verdict(row)]
    if not comparison.n:
        figures = ["missing", "-", "-"]
    return [f"[{row.report}]({row.report}.md)", row.network, str(comparison.n), *figures]


def _forest(rows: Sequence[_Row], contrast: str) -> plt.Figure:
    """The mean differences and their intervals; filled where they are significant."""
    figure, axes = plt.subplots(figsize=(7.4, 1.0 + 0.3 * len(rows)), layout="constrained")
    axes.axvline(0, color="gray", linewidth=1)
    for line, row in enumerate(rows):
        mean, (low, high) = row.comparison.difference, row.comparison.interval
        decided = _verdict(row) != "not decided"
        face = "tab:blue" if decided else "white"
        axes.plot([low, high], [line, line], color="tab:blue", linewidth=1.4)
        axes.plot(mean, line, "o", color="tab:blue", markerfacecolor=face, markersize=5)
    names = [f"{row.report}: {row.network} (n = {row.comparison.n})" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"{contrast}, points; filled: significant", fontsize=8)
    axes.grid(alpha=0.3, axis="x")
    return figure
