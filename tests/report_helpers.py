"""Helpers of the tests of the reports' pages and of their archives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from digitpairs.analysis import reproduction
from digitpairs.analysis.report_page import write_page
from digitpairs.analysis.reports import Report
from digitpairs.analysis.results import Member, Results, Study
from digitpairs.cli import CONF
from tests.conftest import result_of_a_run

REPORTS = sorted(path.stem for path in (CONF / "reports").glob("*.yaml"))
SMALL_STUDY = ["data=digits", "data.pairs=40", "data.test_pairs=20", "smoke=on"]
PLACE = {"place": "p", "study": "s"}


def reproduce(*arguments: str, output: Path, to: Path) -> None:
    """Write the reports' pages to the folder `to`, from the runs in `output`."""
    assert reproduction.main([*arguments, f"output={output}", "--to", str(to)]) == 0


def report_of(shows: Sequence = (), finals: Sequence = (), claims: Sequence = ()) -> Report:
    """A report of these parts."""
    return Report(
        title="t",
        asked="a",
        found="f",
        choices="c",
        shows=[*shows],
        finals=[*finals],
        claims=[*claims],
    )


def page_of(report: Report, members: Sequence[Member], folder: Path) -> str:
    """The page of a report on the study "s", which has these members."""
    results = Results(folder)
    results._studies["s"] = Study("s", members)
    return write_page(report, "r", results, folder).text


def table_lines(text: str) -> list[list[str]]:
    """The cells of all Markdown tables, by line."""
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines]


def write_run(folder: Path, error: float, seed: int, **entries) -> Path:
    """A folder with the files of a finished run."""
    folder.mkdir(parents=True)
    result = result_of_a_run(error, seed, **entries)
    (folder / "result.json").write_text(json.dumps(result))
    write_curve(folder, "test/comparison_error", [50.0, 40.0])
    for name in ("config.yaml", "checkpoint.ckpt"):
        (folder / name).write_text("content that is not read")
    return folder


def write_curve(folder: Path, metric: str, values: Sequence[float]) -> None:
    """A metrics.csv with one metric."""
    lines = [f"epoch,{metric}", *(f"{epoch},{value}" for epoch, value in enumerate(values))]
    (folder / "metrics.csv").write_text("\n".join(lines))
