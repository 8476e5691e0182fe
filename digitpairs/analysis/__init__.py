"""Statistics, tables and pages, computed from the files of runs alone.

`load(*folders)` reads the runs below the folders as pandas data frames.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digitpairs.analysis.frames import Runs, load

__all__ = ["Runs", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `Runs`, on first use: pandas takes a while to import."""
    if name in __all__:
        return getattr(importlib.import_module("digitpairs.analysis.frames"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
