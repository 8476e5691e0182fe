"""The reports beside ours: reads the results of their studies, prints a page a report, writes it as Markdown with its plots.

    python -m digitpairs.analysis.reproduction wang                      # into outputs/reproduction
    python -m digitpairs.analysis.reproduction --to docs/reproduction    # all reports
    python -m digitpairs.analysis.reproduction wang smoke=on data=digits # of what was run with these settings beside the study's own

What has not been run is shown as missing. What a report says stands in conf/reports/<report>.yaml.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from digitpairs.analysis.report_page import write_page
from digitpairs.analysis.reports import read_report
from digitpairs.analysis.results import Results
from digitpairs.checks import InvalidValue, choice
from digitpairs.cli import CONF, explained_errors, mend_arguments

FOLDER = "reproduction"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Leaves with status 2 where what was asked for cannot be had."""
    known = sorted(path.stem for path in (CONF / "reports").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="REPORT or key=value", help=f"reports ({', '.join(known)}; all by default), and settings of the runs")
    parser.add_argument("--to", type=Path, help=f"folder for the pages; {FOLDER} in the folder of the results by default")
    asked = parser.parse_intermixed_args(arguments)
    with explained_errors():
        overrides = mend_arguments([each for each in asked.arguments if "=" in each])
        names = [choice("report", each, known) for each in dict.fromkeys(asked.arguments) if "=" not in each] or known
        output = next((Path(each.partition("=")[2]) for each in overrides if each.startswith("output=")), Path("outputs"))
        results = Results(output, [each for each in overrides if not each.startswith("output=")])
        folder = asked.to or output / FOLDER
        if folder.exists() and not folder.is_dir():
            raise InvalidValue("--to", str(folder), "a folder, which is made where it is missing")
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            print(write_page(read_report(CONF / "reports" / f"{name}.yaml"), name, results, folder))
        print(f"Written to {folder}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
