"""The command line around Hydra.

Exit status 0: all runs finished; 1: a run failed; 2: something that was asked for cannot be had;
130: interrupted. Nothing here imports torch until training starts.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from digitpairs.arguments import check_arguments, expand_range, normalize_arguments
from digitpairs.checks import DigitPairsWarning, InvalidValueError
from digitpairs.configs import CONF, install_config_source
from digitpairs.errors import FULL_ERROR, exit_on_error
from digitpairs.terminal import make_output_robust

if TYPE_CHECKING:
    from digitpairs.sweeps import JobRequest
    from digitpairs.sweeps.sweep import LaunchJobs

__all__ = [
    "CONF",
    "SWEEPER",
    "check_sweeper",
    "expand_range",
    "exit_on_error",
    "main",
    "normalize_arguments",
    "run_and_print_table",
]
SWEEPER = "hydra_plugins.digitpairs_launcher.Sweeper"


def main() -> None:
    """Run the command of `sys.argv`; leaves by SystemExit unless all is well."""
    make_output_robust()
    show_own_warnings_plainly()
    with exit_on_error():
        check_arguments(sys.argv[1:])
        sys.argv[1:] = normalize_arguments(sys.argv[1:])
        install_config_source()
        os.environ[FULL_ERROR] = "1"  # or Hydra prints exceptions itself, and leaves with status 1
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_run)()


def run_and_print_table(requests: Sequence[JobRequest], launch: LaunchJobs | None = None) -> int:
    """Run a sweep (see `digitpairs.sweeps.run_sweep`) and print its table.

    Returns the number of failed runs.
    """
    from rich.console import Console

    from digitpairs.analysis.table import print_table
    from digitpairs.sweeps import run_sweep

    outcome = run_sweep(requests, launch)
    print_table(outcome.folder, outcome.runs, Console(), outcome.names)
    return outcome.failures


def _run(config: DictConfig) -> int:
    """What Hydra calls without -m, and what another launcher than ours calls for each job.

    Returns the number of failed runs. Without -m a failed run ends the command.
    """
    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        return _run_job(config, settings)
    with exit_on_error():
        failed = run_and_print_table([_job_request(config, settings)])
    if failed:
        sys.exit(1)
    return failed


def _run_job(config: DictConfig, settings: DictConfig) -> int:
    """A job that our sweeper has checked. Hydra's output folder is the folder of its run."""
    from digitpairs.sweeps import run_alone

    with exit_on_error():
        check_sweeper(settings)
    return run_alone(_job_request(config, settings), Path(settings.runtime.output_dir))


def _job_request(config: DictConfig, settings: DictConfig) -> JobRequest:
    from digitpairs.sweeps import compose_one

    return compose_one(config, list(settings.overrides.task), settings.runtime.choices.get("model"))


def check_sweeper(settings: DictConfig) -> None:
    """Raises InvalidValueError for another sweeper than ours, which would not count the failed runs."""
    if settings.sweeper.get("_target_") != SWEEPER:
        chosen = settings.runtime.choices.get("hydra/sweeper")
        needs = "digitpairs; of Hydra's plugins only launchers can be chosen (hydra/launcher)"
        raise InvalidValueError("hydra/sweeper", chosen, needs)


def show_own_warnings_plainly() -> None:
    """Ours as one line each, once a command, however many runs give it."""
    show, shown = warnings.showwarning, set()

    def show_plainly(message, category, *place) -> None:
        if issubclass(category, DigitPairsWarning):
            if str(message) in shown:
                return
            shown.add(str(message))
            print(f"warning: {message}", file=sys.stderr)
        else:
            show(message, category, *place)

    warnings.showwarning = show_plainly
