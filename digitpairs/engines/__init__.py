"""Engines: each runs one task (pairs of digits, or points of the disk) with one library.

An engine checks a config, and trains the runs of configs, one run or several at once. Composing
configs, planning and writing results are the work of `digitpairs.sweeps`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import Any

from digitpairs.checks import choice
from digitpairs.engines.base import Engine, Run

__all__ = ["ENGINES", "TASKS", "Engine", "Run", "get_engine"]

# The subclass of `Engine` for each task and engine, imported on first use. Add new ones here.
_CLASSES = {
    ("pairs", "lightning"): "digitpairs.engines.pairs_lightning:PairsLightning",
    ("pairs", "framework"): "digitpairs.engines.pairs_framework:PairsFramework",
    ("disk", "lightning"): "digitpairs.engines.disk:DiskLightning",
    ("disk", "framework"): "digitpairs.engines.disk:DiskFramework",
}
TASKS = tuple(dict.fromkeys(task for task, _ in _CLASSES))
ENGINES = tuple(dict.fromkeys(engine for _, engine in _CLASSES))


def get_engine(config: Mapping[str, Any]) -> Engine:
    """The engine for the keys `task` and `engine` of a config.

    Raises InvalidValueError for an unknown task, or an engine that does not have this task.
    """
    task = choice("task", config.get("task", "nothing"), TASKS)
    engines = [engine for engine in ENGINES if (task, engine) in _CLASSES]
    engine = choice("engine", config.get("engine", "nothing"), engines)
    return pkgutil.resolve_name(_CLASSES[task, engine])()
