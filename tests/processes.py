"""Commands in processes of their own, forked from the process of the test.

Starting an interpreter and importing torch, Lightning and Hydra takes some seconds of CPU; a fork
takes some milliseconds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.conftest import ROOT


class Command(multiprocessing.get_context("fork").Process):
    """`train.py` in a process, the leader of a session so that `os.killpg` reaches its workers.

    Args:
        arguments: of the command.
        folder: where its standard output and standard error go.
    """

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        super().__init__()
        self.arguments, self.folder = arguments, folder

    def run(self) -> None:
        """What the forked process does, as `train.py` in a new one."""
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            with (self.folder / name).open("w") as file:
                os.dup2(file.fileno(), descriptor)
            setattr(sys, name, open(descriptor, "w", closefd=False))  # noqa: SIM115  # till the end
        os.chdir(ROOT)
        sys.argv = ["train.py", *self.arguments]
        from digitpairs.cli import main

        main()

    def output(self, timeout: float) -> tuple[str, str]:
        """Standard output and standard error after the end; fails the test after the timeout."""
        self.join(timeout)
        assert self.exitcode is not None, "the command did not end"
        return (self.folder / "stdout").read_text(), (self.folder / "stderr").read_text()

    def kill_session(self) -> None:
        """Kill the command and its workers, if they are running."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.kill()  # if it does not lead a session yet
        self.join()

    def session_has_ended(self) -> bool:
        """Whether the command and all its workers have ended."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def children(self) -> list[int]:
        """The process ids of its workers."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return []
        return [int(child) for child in children.split()]


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Return when the condition is true; fail the test after this time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
