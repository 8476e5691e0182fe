"""The provenance of a result: what its numbers depend on beside the config."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

import digitpairs

# The environment variable with the commit of code that was copied from a checkout
COMMIT = "DIGITPAIRS_COMMIT"
_ROOT = Path(digitpairs.__file__).resolve().parent.parent


@functools.cache
def provenance() -> dict[str, Any]:
    """Versions, the project's commit, the processor and the number of its cores.

    They are determined at the first call.
    """
    return {
        "versions": versions(),
        "commit": os.environ.get(COMMIT) or commit(_ROOT),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


@functools.cache
def versions() -> dict[str, str]:
    """The versions of the software that decides the numbers, and the machine's architecture."""
    return {
        "digitpairs": digitpairs.__version__,
        "torch": torch.__version__,
        "pytorch_lightning": pl.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def commit(root: Path) -> str | None:
    """The short hash of the checkout at `root`, with a "+" if tracked files are changed.

    None outside of a checkout or without git.
    """
    if not (root / ".git").exists():
        return None
    git = ["git", "--no-optional-locks", "-C", str(root)]
    describe = ["describe", "--always", "--match=", "--dirty=+"]
    try:
        answer = subprocess.run([*git, *describe], capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return answer.stdout.strip() or None


def _processor() -> str:
    """The processor's name, as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
