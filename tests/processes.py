"""Commands in processes of their own, for tests that end them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT


def launch(*arguments: str) -> subprocess.Popen[str]:
    """train.py as the leader of a session, so that `os.killpg` reaches its workers too."""
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    environment = {
        key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"
    }  # set by tests in this process
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a background job ignores it, and so would its children
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Returns when the condition holds; fails the test if it does not in this time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def session_has_ended(process: subprocess.Popen[str]) -> bool:
    """Whether the command and all its workers are gone."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def children_of(process: subprocess.Popen[str]) -> list[int]:
    """The ids of its workers."""
    try:
        return [
            int(each)
            for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ]
    except OSError:
        return []
