"""From what was asked to results on disk."""

from digitpairs.sweeps.jobs import Asked
from digitpairs.sweeps.sweep import run_sweep

__all__ = ["Asked", "run_sweep"]
