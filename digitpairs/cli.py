"""The command line around Hydra.

Exit status 0: all runs finished; 1: a run failed; 2: a wrong argument, config or file; 130:
interrupted. This module imports torch only when training starts.
"""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from digitpairs.arguments import (
    asks_for_help,
    check_arguments,
    command_name,
    normalize_arguments,
)
from digitpairs.checks import DigitPairsWarning, InvalidValueError
from digitpairs.configs import CONF, help_text, install_config_source, own_config_folders
from digitpairs.errors import FULL_ERROR, exit_on_error
from digitpairs.names import text_of
from digitpairs.ranges import expand_range
from digitpairs.targets import add_import_folders
from digitpairs.terminal import make_output_robust

if TYPE_CHECKING:
    from hydra.conf import HydraConf

    from digitpairs.dashboard.closing import Results
    from digitpairs.sweeps.compose import JobRequest
    from digitpairs.sweeps.sweep import LaunchJobs, SweepOutcome

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
SEARCHER = "hydra_plugins.digitpairs_search.Sweeper"  # hydra/sweeper=optuna
LAUNCHER = "hydra_plugins.digitpairs_launcher.SweepLauncher"


def main() -> None:
    """Run the command of `sys.argv`. Raises SystemExit unless the exit status is 0."""
    make_output_robust()
    show_own_warnings_plainly()
    with exit_on_error():
        if asks_for_help(sys.argv[1:]):
            print(help_text(sys.argv[1:]).replace("python train.py", command_name()))
            return
        check_arguments(sys.argv[1:])
        sys.argv[1:] = normalize_arguments(sys.argv[1:])
        install_config_source()
        add_import_folders([os.getcwd(), *own_config_folders(sys.argv[1:])])
        os.environ[FULL_ERROR] = "1"  # or Hydra prints exceptions itself and exits with status 1
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_run)()


def run_and_print_table(requests: Sequence[JobRequest], launch: LaunchJobs | None = None) -> int:
    """Run a sweep (see `digitpairs.sweeps.sweep.run_sweep`) and print its table and comparisons.

    Returns the number of failed runs.
    """
    from rich.console import Console

    from digitpairs.analysis.table import print_table
    from digitpairs.dashboard.closing import ranked_results, write_closing
    from digitpairs.sweeps.sweep import run_sweep

    outcome = run_sweep(requests, launch)
    console = Console()
    print_table(outcome.runs, console, outcome.names)
    results = ranked_results(outcome.runs)
    for fault in write_closing(results):
        print(f"warning: {fault}", file=sys.stderr)
    for line in _closing_lines(outcome, results):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return outcome.failures


def _closing_lines(outcome: SweepOutcome, results: Results) -> list[str]:
    """Comparisons with the best configuration, if there are several, and what shows more."""
    folder = shlex.quote(str(outcome.folder))
    links = [f"Results: {outcome.folder}", f"Curves:  tensorboard --logdir {folder}"]
    if len(outcome.names.of) < 2:
        return links
    from digitpairs.analysis.against_best import lines_against_best

    more = f"More:    python -m digitpairs.analysis {folder} --html page.html"
    return [*lines_against_best(results), *links, more]


def _run(config: DictConfig) -> int:
    """Train one config: Hydra calls this without -m, and its other launchers for each job.

    Returns the number of failed runs. Without -m a failed run ends the command.
    """
    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        return _run_job(config, settings)
    with exit_on_error():
        _refuse_grid(settings)
        failed = run_and_print_table([_job_request(config, settings)])
    if failed:
        sys.exit(1)
    return failed


def _refuse_grid(settings: HydraConf) -> None:
    """Raise InvalidValueError for a grid, from whatever file, in a command that trains one run."""
    if settings.sweeper.get("_target_") == SEARCHER:
        raise InvalidValueError(
            "hydra/sweeper", "optuna", "digitpairs without -m: add -m to search"
        )
    grid = settings.sweeper.get("params")
    if grid:
        accepted = "null without -m: add -m to train the grid"
        raise InvalidValueError("hydra.sweeper.params", text_of(dict(grid)), accepted)


def _run_job(config: DictConfig, settings: HydraConf) -> int:
    """Train a job of another launcher, which our sweeper has checked, in Hydra's output folder."""
    from digitpairs.sweeps.sweep import run_alone

    sources = settings.runtime.config_sources
    own = [source.path for source in sources if source.provider == "command-line"]
    add_import_folders([settings.runtime.cwd, *own])
    with exit_on_error():
        check_sweeper(settings)
    return run_alone(_job_request(config, settings), Path(settings.runtime.output_dir))


def _job_request(config: DictConfig, settings: HydraConf) -> JobRequest:
    from digitpairs.sweeps.compose import compose_one

    return compose_one(config, list(settings.overrides.task), settings.runtime.choices)


def check_sweeper(settings: HydraConf) -> None:
    """Raise InvalidValueError for another sweeper, which would not count the failed runs."""
    if settings.sweeper.get("_target_") != SWEEPER:
        chosen = settings.runtime.choices.get("hydra/sweeper")
        accepted = "digitpairs or optuna; of Hydra's other plugins only launchers can be chosen"
        raise InvalidValueError("hydra/sweeper", chosen, accepted)


def show_own_warnings_plainly() -> None:
    """Print each DigitPairsWarning as one line, and only once however many runs give it."""
    show_warning = warnings.showwarning
    shown: set[str] = set()

    def show_plainly(
        message: Warning | str, category: type[Warning], *details: Any, **options: Any
    ) -> None:
        if not issubclass(category, DigitPairsWarning):
            show_warning(message, category, *details, **options)
        elif str(message) not in shown:
            shown.add(str(message))
            print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = show_plainly
