"""Between `framework`'s trainer and the loggers of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytorch_lightning.loggers import Logger


class RowsTo:
    """A listener of `framework.Trainer` that gives each replica's rows to its logger."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = loggers

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        self._loggers[replica].log_metrics(row, step=int(row["epoch"]))

    def end(self) -> None:
        """Nothing is held open."""
