"""From what was asked to results on disk."""

from digitpairs.sweeps.sweep import run_sweep

__all__ = ["run_sweep"]
