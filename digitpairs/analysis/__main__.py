"""Statistics of finished runs.

    python -m digitpairs.analysis outputs
    python -m digitpairs.analysis SWEEP OTHER_SWEEP --baseline "optimizer.lr=0.005"
    python -m digitpairs.analysis SWEEP --by epoch --metric validation/comparison_error
    python -m digitpairs.analysis SWEEP --html report.html

Runs are grouped by all settings but the seed. Groups on the same test set are compared by the seeds
that they share.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from digitpairs.analysis import groups
from digitpairs.analysis.frames import Runs, load
from digitpairs.analysis.sections import calibration_sections, sections_of
from digitpairs.analysis.tables import FORMATS, Section, write
from digitpairs.cli import exit_on_error, show_own_warnings_plainly
from digitpairs.commands import command_parser
from digitpairs.terminal import make_output_robust

WIDE = 400


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 for input that cannot be analysed."""
    options = _parser().parse_args(arguments)
    make_output_robust()
    show_own_warnings_plainly()
    with exit_on_error():
        runs = load(*options.folders)
        sections = _sections(runs, options)
        write(sections, options.format, _console())
        if options.html:
            from digitpairs.analysis.page import write_page

            name = groups.metric_of(runs, options.metric)
            if options.by:
                sections = sections_of(runs, name, options.baseline)
            write_page(runs, sections, options.html, name)
            print(f"Page: {options.html}", file=sys.stderr)
    return 0


def _console() -> Console:
    """Standard output; where it is no terminal, lines are as long as the tables are wide."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("digitpairs.analysis", __doc__)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="outputs, sweeps or runs")
    parser.add_argument(
        "--metric", help="the first test error by default, with --by epoch the same of the training"
    )
    parser.add_argument(
        "--baseline",
        metavar="CONFIG",
        help="a config of the table; all others are compared with it",
    )
    parser.add_argument(
        "--calibration", action="store_true", help="whether probabilities are what they say"
    )
    parser.add_argument("--by", choices=["epoch"], help="a row for each config and epoch")
    parser.add_argument("--format", choices=FORMATS, default="table", help="table by default")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a self-contained page")
    return parser


def _sections(runs: Runs, options: argparse.Namespace) -> list[Section]:
    if options.by is None:
        name = groups.metric_of(runs, options.metric)
        sections = sections_of(runs, name, options.baseline)
        return [*sections, *calibration_sections(runs)] if options.calibration else sections
    name = options.metric or f"train/{groups.metric_of(runs, None).partition('/')[2]}"
    return [Section("epochs", f"{name} by epoch", groups.by_epoch(runs, name))]


if __name__ == "__main__":
    sys.exit(main())
