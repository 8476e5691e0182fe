"""Write the pages that show the reports beside our results, with their plots.

    python -m digitpairs.analysis.reproduction wang                      # into outputs/reproduction
    python -m digitpairs.analysis.reproduction --to docs/reproduction    # all reports, questions
    python -m digitpairs.analysis.reproduction questions --to docs/reproduction
    python -m digitpairs.analysis.reproduction wang smoke=on data=digits --to outputs/smoke

The settings key=value are the ones that the studies were run with in addition to their own. Runs
that have not finished are shown as missing. The runs behind a page are kept beside it, in
<report>.runs.xz, and are read again with newer ones the next time, so that a page can be completed
on another machine. conf/reports/<report>.yaml has the content of each report.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from digitpairs import files
from digitpairs.analysis.archive import Archive, read_archive, write_archive
from digitpairs.analysis.questions import PAGE, write_questions
from digitpairs.analysis.report_page import write_page
from digitpairs.analysis.reports import Report, read_report
from digitpairs.analysis.results import Results
from digitpairs.analysis.tables import markdown_table
from digitpairs.checks import InvalidValueError, choice
from digitpairs.cli import CONF, exit_on_error, normalize_arguments, show_own_warnings_plainly
from digitpairs.terminal import make_output_robust

FOLDER = "reproduction"
GLANCE = "glance.md"
HEADS = [
    "page",
    "runs",
    "claims that hold",
    "that do not",
    "not decided",
    "final models as good as the report's",
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; it exits with status 2 for arguments that are not accepted."""
    known = sorted(path.stem for path in (CONF / "reports").glob("*.yaml"))
    options = _parser(known).parse_intermixed_args(arguments)
    make_output_robust()
    show_own_warnings_plainly()
    with exit_on_error():
        settings = normalize_arguments([each for each in options.arguments if "=" in each])
        for setting in settings:
            if setting.startswith("="):
                raise InvalidValueError("setting", setting, "key=value")
        chosen = dict.fromkeys(each for each in options.arguments if "=" not in each)
        names = [choice("report", name, [*known, PAGE]) for name in chosen] or [*known, PAGE]
        outputs = [setting for setting in settings if setting.startswith("output=")]
        output = Path(outputs[0].partition("=")[2] if outputs else "outputs")
        results = Results(output, [setting for setting in settings if setting not in outputs])
        folder = options.to or output / FOLDER
        _make_folder(folder)
        reports = {name: read_report(CONF / "reports" / f"{name}.yaml") for name in known}
        known.sort(key=lambda name: reports[name].own)  # the reports come first
        asked = {name: reports[name] for name in names if name != PAGE}
        archives = {name: read_archive(_archive_path(folder, name)) for name in reports}
        results.add(functools.reduce(Archive.with_newer, archives.values()))
        if asked:
            write_pages(asked, results, archives, folder, known)
        if PAGE in names:
            print(write_questions(reports, results, folder))
        print(f"Written to {folder}", file=sys.stderr)
    return 0


def _parser(known: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="REPORT or key=value",
        help=f"reports ({', '.join(known)}) or {PAGE}; by default all; settings of the runs",
    )
    default = f"{FOLDER} in the folder of the results"
    parser.add_argument("--to", type=Path, help=f"folder for the pages; by default {default}")
    return parser


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        accepted = f"a folder, which is made where it is missing ({error.strerror})"
        raise InvalidValueError("--to", str(folder), accepted) from None


def write_pages(
    reports: Mapping[str, Report],
    results: Results,
    archives: Mapping[str, Archive],
    folder: Path,
    known: Sequence[str],
) -> None:
    """Print and write the pages, their archives, and the table of all pages.

    The table lists the reports in the order of `known`. Raises InvalidValueError before anything
    is written if a page would have fewer runs than it has now.
    """
    outcomes = read_glance(folder / GLANCE)
    for name, report in reports.items():
        if name in outcomes:
            before = int(outcomes[name][1].split()[0])
            refuse_fewer_runs(folder / f"{name}.md", before, results, report)
    for name, report in reports.items():
        page = write_page(report, name, results, folder)
        archive = archives[name].with_newer(results.archive_of(report.studies))
        write_archive(_archive_path(folder, name), archive, report.metrics_by_epoch)
        print(page.text)
        outcomes[name] = [f"[{name}]({name}.md)", *page.outcome]
        rows = [outcomes[each] for each in known if each in outcomes]
        glance = f"# At a glance\n\n{markdown_table(HEADS, rows)}\n"
        files.write_atomically(folder / GLANCE, glance)
    print(glance)


def _archive_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.runs.xz"


def read_glance(path: Path) -> dict[str, list[str]]:
    """The rows of the table of all pages, by report; empty where there is no table."""
    try:
        lines = files.read_text(path, files.SMALL).splitlines()
    except files.MissingFileError:
        return {}
    rows = {}
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == len(HEADS) and re.match("[0-9]{1,9} of [0-9]+", cells[1]):
            rows[cells[0][1:].partition("]")[0]] = cells
    return rows


def refuse_fewer_runs(page: Path, before: int, results: Results, report: Report) -> None:
    """Raise InvalidValueError where the page was made from more runs than there are now.

    Runs are missing, for example, where the digits of scikit-learn replace MNIST.
    """
    now = sum(len(results.study(name).runs) for name in report.studies)
    if now < before:
        accepted = (
            f"another folder, since {page} was made of {before} runs, and {now} of these settings"
            f" are here; or delete that page's line in {GLANCE}"
        )
        raise InvalidValueError("--to", str(page.parent), accepted)


if __name__ == "__main__":
    sys.exit(main())
