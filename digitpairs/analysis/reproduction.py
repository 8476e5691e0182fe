"""The reports beside ours: reads the results of their studies, prints a page a report, writes it as Markdown with its plots.

    python -m digitpairs.analysis.reproduction wang                      # into outputs/reproduction
    python -m digitpairs.analysis.reproduction --to docs/reproduction    # all reports
    python -m digitpairs.analysis.reproduction wang smoke=on data=digits --to outputs/smoke # of what was run with these settings beside the study's own

The runs that a page was made of are kept beside it, in <report>.runs.xz, and are there for it the next time, together with newer ones: a page can
be completed on another machine. What has not been run is shown as missing. What a report says stands in conf/reports/<report>.yaml.
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
from digitpairs.analysis.report_page import table_text, write_page
from digitpairs.analysis.reports import Report, read_report
from digitpairs.analysis.results import Results
from digitpairs.checks import InvalidValueError, choice
from digitpairs.cli import CONF, exit_on_error, normalize_arguments, show_own_warnings_plainly
from digitpairs.terminal import make_output_robust

FOLDER = "reproduction"
GLANCE = "glance.md"
HEADS = [
    "report",
    "runs",
    "claims that hold",
    "that do not",
    "not decided",
    "final models as good as the report's",
]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Leaves with status 2 where what was asked for cannot be had."""
    known = sorted(path.stem for path in (CONF / "reports").glob("*.yaml"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="REPORT or key=value",
        help=f"reports ({', '.join(known)}; all by default), and settings of the runs",
    )
    parser.add_argument(
        "--to",
        type=Path,
        help=f"folder for the pages; {FOLDER} in the folder of the results by default",
    )
    asked = parser.parse_intermixed_args(arguments)
    make_output_robust()
    show_own_warnings_plainly()
    with exit_on_error():
        overrides = normalize_arguments([each for each in asked.arguments if "=" in each])
        for each in overrides:
            if each.startswith("="):
                raise InvalidValueError("setting", each, "key=value")
        names = [
            choice("report", each, known)
            for each in dict.fromkeys(asked.arguments)
            if "=" not in each
        ] or known
        output = next(
            (Path(each.partition("=")[2]) for each in overrides if each.startswith("output=")),
            Path("outputs"),
        )
        results = Results(output, [each for each in overrides if not each.startswith("output=")])
        folder = asked.to or output / FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidValueError(
                "--to",
                str(folder),
                f"a folder, which is made where it is missing ({error.strerror})",
            ) from None
        reports = {name: read_report(CONF / "reports" / f"{name}.yaml") for name in names}
        write_pages(reports, results, folder, known)
        print(f"Written to {folder}", file=sys.stderr)
    return 0


def write_pages(
    reports: Mapping[str, Report], results: Results, folder: Path, known: Sequence[str]
) -> None:
    """Prints and writes the pages and the runs that they were made of, and their lines at a glance, in the order of the reports `known`."""
    archives = {name: folder / f"{name}.runs.xz" for name in reports}
    kept = {name: read_archive(path) for name, path in archives.items()}
    results.add(functools.reduce(Archive.with_newer, kept.values()))
    outcomes = read_glance(folder / GLANCE)
    for name, report in reports.items():
        if name in outcomes:
            refuse_fewer_runs(
                folder / f"{name}.md", int(outcomes[name][1].split()[0]), results, report
            )
    for name, report in reports.items():
        page = write_page(report, name, results, folder)
        write_archive(
            archives[name],
            kept[name].with_newer(results.kept_of(report.studies)),
            report.metrics_by_epoch,
        )
        print(page.text)
        outcomes[name] = [f"[{name}]({name}.md)", *page.outcome]
        glance = f"# At a glance\n\n{table_text(HEADS, [outcomes[each] for each in known if each in outcomes])}\n"
        files.write_atomically(folder / GLANCE, glance)
    print(glance)


def read_glance(path: Path) -> dict[str, list[str]]:
    """The lines of the table of all pages in the folder, by report: of those that are not written now, they stay."""
    try:
        lines = files.read_text(path, files.SMALL).splitlines()
    except files.MissingFileError:
        lines = []
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {
        line[0][1:].partition("]")[0]: line
        for line in cells
        if len(line) == len(HEADS) and re.match("[0-9]{1,9} of [0-9]+", line[1])
    }


def refuse_fewer_runs(page: Path, before: int, results: Results, report: Report) -> None:
    """InvalidValueError where a page was made of more runs than there are here: where digits stand in for MNIST, or runs that were not kept are gone."""
    here = sum(len(results.study(name).runs) for name in report.studies)
    if here < before:
        accepted = f"another folder, since {page} was made of {before} runs, and {here} of these settings are here; or delete that page's line in {GLANCE}"
        raise InvalidValueError("--to", str(page.parent), accepted)


if __name__ == "__main__":
    sys.exit(main())
