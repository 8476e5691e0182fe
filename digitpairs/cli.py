"""The command line around Hydra.

Exit status 0: all runs finished; 1: a run failed; 2: something that was asked for cannot be had;
130: interrupted. Nothing here imports torch until training starts.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from digitpairs.arguments import check_arguments, expand_range, mend_arguments
from digitpairs.checks import DigitPairsWarning, InvalidValue
from digitpairs.configs import CONF, name_faults_of_files
from digitpairs.errors import FULL_ERROR, explained_errors
from digitpairs.terminal import make_output_lasting

if TYPE_CHECKING:
    from digitpairs.sweeps import Asked

__all__ = [
    "CONF",
    "SWEEPER",
    "check_sweeper",
    "expand_range",
    "explained_errors",
    "main",
    "mend_arguments",
]
SWEEPER = "hydra_plugins.digitpairs_launcher.Sweeper"


def main() -> None:
    """Run the command of `sys.argv`; leaves by SystemExit unless all is well."""
    make_output_lasting()
    show_own_warnings_plainly()
    with explained_errors():
        check_arguments(sys.argv[1:])
        sys.argv[1:] = mend_arguments(sys.argv[1:])
        name_faults_of_files()
        os.environ[FULL_ERROR] = "1"  # or Hydra prints exceptions itself, and leaves with status 1
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_run)()


def _run(config: DictConfig) -> int:
    """What Hydra calls without -m, and what another launcher than ours calls for each job.

    Returns the number of failed runs. Without -m a failed run ends the command.
    """
    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        return _run_job(config, settings)
    with explained_errors():
        from digitpairs.sweeps import run_sweep

        failed = run_sweep([_asked(config, settings)])
    if failed:
        sys.exit(1)
    return failed


def _run_job(config: DictConfig, settings: DictConfig) -> int:
    """A job that our sweeper has checked. Hydra's output folder is the folder of its run."""
    from digitpairs.sweeps import run_alone

    with explained_errors():
        check_sweeper(settings)
    return run_alone(_asked(config, settings), Path(settings.runtime.output_dir))


def _asked(config: DictConfig, settings: DictConfig) -> Asked:
    from digitpairs.sweeps import compose_one

    return compose_one(config, list(settings.overrides.task), settings.runtime.choices.get("model"))


def check_sweeper(settings: DictConfig) -> None:
    """Raises InvalidValue for another sweeper than ours, which would not count the failed runs."""
    if settings.sweeper.get("_target_") != SWEEPER:
        chosen = settings.runtime.choices.get("hydra/sweeper")
        needs = "digitpairs; of Hydra's plugins only launchers can be chosen (hydra/launcher)"
        raise InvalidValue("hydra/sweeper", chosen, needs)


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
