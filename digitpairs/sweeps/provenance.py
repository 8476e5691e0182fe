"""Where a result comes from: what decides its numbers beside the config."""

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

_ROOT = Path(digitpairs.__file__).resolve().parent.parent


@functools.cache
def provenance() -> dict[str, Any]:
    """Versions, the commit of the project (None outside of a checkout), the processor and its cores; as they were when first asked for."""
    return {
        "versions": versions(),
        "commit": commit(_ROOT),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Of everything that decides the numbers."""
    return {
        "digitpairs": digitpairs.__version__,
        "torch": torch.__version__,
        "pytorch_lightning": pl.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def commit(root: Path) -> str | None:
    """The short hash of the checkout at `root`, "+" after it where files in git's keeping are changed; None where there is none."""
    if not (root / ".git").exists():
        return None
    command = [
        "git",
        "--no-optional-locks",
        "-C",
        str(root),
        "describe",
        "--always",
        "--match=",
        "--dirty=+",
    ]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # there is no git
        return None
    return asked.stdout.strip() or None


def _processor() -> str:
    """Its name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
