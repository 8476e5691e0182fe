"""Sweeps: from composed configs to the files of their runs."""

from digitpairs.sweeps.compose import JobRequest, compose_one, compose_sweep
from digitpairs.sweeps.progress import counted
from digitpairs.sweeps.sweep import run_alone, run_sweep

__all__ = ["JobRequest", "compose_one", "compose_sweep", "counted", "run_alone", "run_sweep"]
