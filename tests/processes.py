"""Commands in processes of their own, forked from a process that has already imported the project.

Starting an interpreter and importing torch, Lightning and Hydra takes some seconds of CPU; a fork
takes some milliseconds. The fork server has imported modules and run nothing, so that it has one
thread and can be forked safely.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT

STREAMS = {1: "stdout", 2: "stderr"}  # by file descriptor
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "tests.processes",
        "digitpairs.analysis.table",
        "digitpairs.cli",
        "digitpairs.engines.disk",
        "digitpairs.engines.pairs_lightning",
        "digitpairs.sweeps",
        "hydra_plugins.digitpairs_launcher",
        "scipy.special",
        "sklearn.datasets",
    ]
)


class Command:
    """`train.py` with these arguments, much like `subprocess.Popen`.

    It is the leader of a session, so that `os.killpg` reaches its workers too.
    """

    def __init__(self, *arguments: str) -> None:
        # Tests in this process have set HYDRA_FULL_ERROR.
        environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
        self._folder = tempfile.TemporaryDirectory()
        self._process = SERVER.Process(
            target=_main, args=(arguments, environment, Path(self._folder.name))
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Standard output and standard error after the end; fails the test after the timeout."""
        self._process.join(timeout)
        assert self.returncode is not None, "the command did not end"
        out, err = (Path(self._folder.name, name).read_text() for name in STREAMS.values())
        return out, err

    def kill_session(self) -> None:
        """Kill the command and its workers, if they are running."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()

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


def _main(arguments: tuple[str, ...], environment: dict[str, str], folder: Path) -> None:
    """Run the command in a forked process as `train.py` does in a new one."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    for descriptor, name in STREAMS.items():
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = ["train.py", *arguments]
    from digitpairs.cli import main

    main()
