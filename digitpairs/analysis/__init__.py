"""Statistics, tables and pages, computed from the files of runs alone.

`load(*folders)` reads the runs below the folders as pandas data frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digitpairs.analysis.load import Runs, load

__all__ = ["Runs", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `Runs`: pandas takes a while to import, and the table of a sweep needs none of it."""
    if name in __all__:
        from digitpairs.analysis import load as module

        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
