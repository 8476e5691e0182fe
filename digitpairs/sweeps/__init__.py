"""From what was asked to results on disk."""

from digitpairs.sweeps.compose import Asked, compose_one, compose_sweep
from digitpairs.sweeps.sweep import run_sweep

__all__ = ["Asked", "compose_one", "compose_sweep", "run_sweep"]
