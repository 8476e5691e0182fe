"""How far sweeps are, from another terminal.

    python -m digitpairs.status outputs
    python -m digitpairs.status SWEEP

Shows each running sweep below the folders: finished runs, epochs, the current errors of each
configuration, the time left, and the process that runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from digitpairs import files
from digitpairs.checks import InvalidValueError
from digitpairs.cli import exit_on_error
from digitpairs.commands import command_parser
from digitpairs.sweeps.lock import LOCK, describe_holder, is_locked
from digitpairs.sweeps.progress import configuration_lines, duration, summary
from digitpairs.sweeps.status import read_status
from digitpairs.terminal import make_output_robust, plus_minus


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 for a folder without sweeps."""
    parser = command_parser("digitpairs.status", __doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="outputs or sweeps")
    folders = parser.parse_args(arguments).folders
    make_output_robust()
    console = Console()
    with exit_on_error():
        sweeps = [sweep for folder in folders for sweep in _sweeps(folder)]
        running = [sweep for sweep in sweeps if is_locked(sweep)]
        for sweep in running:
            for line in _lines(sweep, plus_minus(console)):
                console.print(Text(line), soft_wrap=True)
        if not running:
            count = f"{len(sweeps)} sweep{'s' * (len(sweeps) > 1)}"
            console.print(f"no sweep is running ({count} found)", highlight=False)
    return 0


def _sweeps(folder: Path) -> list[Path]:
    """The sweeps in a folder. Raises InvalidValueError if there are none."""
    found = sorted(path.parent for path in (*folder.glob(LOCK), *folder.glob(f"*/{LOCK}")))
    if not found:
        accepted = "a folder of sweeps, such as outputs, or a sweep's folder"
        raise InvalidValueError("folder", str(folder), accepted)
    return found


def _lines(sweep: Path, sign: str) -> list[str]:
    """The state of a running sweep in words."""
    lines = [f"{sweep}", f"  {describe_holder(sweep)}"]
    try:
        status = read_status(sweep)
    except files.DamagedFileError as damage:
        return [*lines, f"  {damage}"]
    if status is None:
        return [*lines, "  nothing has been trained yet"]
    snapshot, age = status
    configurations = configuration_lines(snapshot, sign, most=100)
    runs, rest = summary(snapshot, sign, with_error=not configurations)
    lines.append(f"  {runs}, {rest} ({duration(age)} ago)")
    return lines + [f"  {line}" for line in configurations]


if __name__ == "__main__":
    sys.exit(main())
