"""Sweeps from a notebook or a script: the command in a process of its own, and its results.

A notebook has threads, and a process with threads cannot be forked safely. So a sweep does not run
in the notebook's own process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from digitpairs.analysis import Runs

RESULTS = "Results: "  # begins the line with the sweep's folder
ERROR = "error: "


class CommandError(ValueError):
    """The command refused its arguments; the message is that of the command."""


def run(*arguments: str, seeds: Iterable[int] | None = None) -> Runs:
    """Run a sweep, print what the command prints, and return its runs.

        result = digitpairs.run("model=siamese_cnn", "aux.lambda=0.8", seeds=range(10))
        result.runs     # a data frame with a row for each run
        result.curves   # a row for each run and epoch
        result.folder   # the sweep's folder

    Runs that are finished are not run again. Failed runs have a `failure` in `result.runs`. With
    `output=FOLDER` among the arguments the results go there, otherwise to `outputs` below the
    working folder.

    Args:
        arguments: those of `digitpairs` or `python train.py`, each a string.
        seeds: of the runs; without them the arguments or the study say which.

    Raises:
        CommandError: for arguments that the command refuses.
        KeyboardInterrupt: after the sweep has been interrupted. The same call goes on with it.
    """
    from digitpairs.analysis import load

    given = list(arguments)
    if seeds is not None:
        given.append(f"seed={','.join(map(str, seeds))}")
    multirun = [] if {"-m", "--multirun"} & set(given) else ["-m"]
    command = [sys.executable, "-m", "digitpairs", *given, *multirun]
    lines = _printed(command)
    folders = [line.removeprefix(RESULTS) for line in lines if line.startswith(RESULTS)]
    if not folders:
        messages = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
        raise CommandError("\n".join(messages or lines[-1:]))
    result = load(*folders)
    result.folder = Path(folders[-1])
    return result


def _printed(command: list[str]) -> list[str]:
    """Run the command and print its lines as they come; returns them."""
    package = str(Path(__file__).resolve().parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    ) as process:
        assert process.stdout is not None
        lines = []
        try:
            for line in process.stdout:
                print(line, end="")
                lines.append(line.rstrip("\n"))
        except KeyboardInterrupt:  # which a notebook sends to its own process alone
            process.send_signal(signal.SIGINT)
            raise
    return lines
