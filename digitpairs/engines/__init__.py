"""What carries out a run: a task (pairs of digits, or points of the disk) with Lightning or with `framework`.

Each engine checks a config and trains runs out of configs, one by itself or several at once; what is asked for, planned and written is
no concern of it (see `digitpairs.sweeps`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from digitpairs.checks import choice
from digitpairs.engines.base import Engine, Run

__all__ = ["ENGINES", "TASKS", "Engine", "Run", "get_engine"]

TASKS, ENGINES = ("pairs", "disk"), ("lightning", "framework")


def get_engine(config: Mapping[str, Any]) -> Engine:
    """The engine for a config's keys `task` and `engine`, or InvalidValueError."""
    task = choice("task", config.get("task", "nothing"), TASKS)
    engine = choice("engine", config.get("engine", "nothing"), ENGINES)
    if (task, engine) == ("pairs", "lightning"):
        from digitpairs.engines.pairs_lightning import PairsLightning as Chosen
    elif task == "pairs":
        from digitpairs.engines.pairs_framework import PairsFramework as Chosen
    elif engine == "lightning":
        from digitpairs.engines.disk import DiskLightning as Chosen
    else:
        from digitpairs.engines.disk import DiskFramework as Chosen
    return Chosen()
