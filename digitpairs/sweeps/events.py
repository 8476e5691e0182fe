"""TensorBoard events of one run."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from digitpairs.files import path_in_errors


class EventsLogger(Logger):
    """Writes each row of metrics as one event, to a file that is open only while it is written.

    `SummaryWriter` keeps an open file and a thread for each run, and writes one event per value at
    ten times the cost, which is too much for an array of a thousand runs. `on_row` is called with
    each row as well.
    """

    def __init__(
        self, folder: Path, on_row: Callable[[Mapping[str, float]], None] | None = None
    ) -> None:
        super().__init__()
        self._path = folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        self._on_row = on_row
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))

    @property
    def name(self) -> str:
        return "events"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the config has its own file."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in metrics.items()
            if name != "epoch"
        ]
        self._append(Event(wall_time=time.time(), step=step or 0, summary=Summary(value=values)))
        if self._on_row is not None:
            self._on_row(metrics)

    def _append(self, event: Event) -> None:
        with path_in_errors(self._path), self._path.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())
