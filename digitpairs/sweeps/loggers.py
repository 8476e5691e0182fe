"""The loggers of a run: its event file, and those of the section `logger`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from filelock import FileLock
from pytorch_lightning.loggers import Logger, WandbLogger

from digitpairs.dashboard.events import EventsLogger
from digitpairs.engines.base import build_section
from digitpairs.engines.lightning_trainer import LoggerList, quiet_lightning
from digitpairs.engines.named_parts import (
    build_parts,
    check_package,
    fill_in,
    named_parts,
    try_parts,
)
from digitpairs.sweeps.jobs import Job

LOCK = ".loggers.lock"  # in the sweep's folder


class RunLoggers(LoggerList):
    """The loggers of one run; each gets every row.

    Args:
        job: the run, whose folder exists.
        on_row: is called with each row.
    """

    def __init__(self, job: Job, on_row: Callable[[Mapping[str, float]], None]) -> None:
        self._events = EventsLogger(job.folder, job.settings, on_row)
        self._others: list[Logger] = []
        if named_parts(job.config, "logger"):
            # Loggers of several processes may make the same database.
            with FileLock(job.folder.parent.parent / LOCK), quiet_lightning():
                self._others = build_parts(placed(job), "logger", Logger)
                for logger in self._others:
                    logger.log_hyperparams(dict(job.settings))
        super().__init__([self._events, *self._others])

    def end(self, failed: bool) -> None:
        """Tell each logger that the run has ended."""
        self._events.end(failed)
        for logger in self._others:
            logger.finalize("failed" if failed else "success")
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=int(failed))


def placed(job: Job) -> dict[str, Any]:
    """The config of a job, with its folders and names in the sections `logger` and `callbacks`."""
    folder = job.folder.absolute()
    places = {
        "run_folder": str(folder),
        "sweep_folder": str(folder.parent.parent),
        "run_name": f"{folder.parent.name}/{folder.name}",
        "sweep_name": folder.parent.parent.name,
    }
    return fill_in(job.config, places)


def check_loggers(section: Mapping[str, Any] | None) -> None:
    """Checks the section `logger`.

    Lightning's own loggers are not made, since some connect to a server or write a database. Raises
    InvalidValueError for a class that is no logger, and for wrong arguments of it.
    """
    others = {}
    for name, part in named_parts({"logger": section}, "logger").items():
        if part["_target_"].startswith("pytorch_lightning.loggers."):
            check_package(f"logger.{name}", part["_target_"])
            build_section(f"logger.{name}", part | {"_partial_": True})
        else:
            others[name] = part
    try_parts({"logger": others}, "logger", Logger)
